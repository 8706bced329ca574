// The interface through which a state's sharding gives the type of one rank's part; its contract is
// in the .td beside this file.
#pragma once

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/SymbolTable.h"

#include "dialects/interfaces/ShardingAttrInterface.h.inc"
