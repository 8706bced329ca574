// The moe dialect's operations, by idea: what a module declares, the model, gradients, training.
#ifndef SWITCHYARD_DIALECTS_MOE_OPS
#define SWITCHYARD_DIALECTS_MOE_OPS

include "dialects/moe/StateOps.td"
include "dialects/moe/ElementwiseOps.td"
include "dialects/moe/ModelOps.td"
include "dialects/moe/RoutingOps.td"
include "dialects/moe/GradientOps.td"
include "dialects/moe/RoutingGradientOps.td"
include "dialects/moe/GatherGradientOps.td"
include "dialects/moe/OptimizerOps.td"

#endif
