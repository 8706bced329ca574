// The dist dialect's operations, by idea: the mesh and its collectives, the exchange of tokens.
#ifndef SWITCHYARD_DIALECTS_DIST_OPS
#define SWITCHYARD_DIALECTS_DIST_OPS

include "dialects/dist/CollectiveOps.td"
include "dialects/dist/ExchangeOps.td"

#endif
