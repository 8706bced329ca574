// The interface of ops that are linear in some of their operands; its contract is in the .td beside
// this file.
#pragma once

#include "mlir/IR/OpDefinition.h"

#include "dialects/interfaces/LinearOpInterface.h.inc"
