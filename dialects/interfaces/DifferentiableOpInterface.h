// The interface through which ops give their derivative; its contract is in the .td beside this
// file. Reverse mode as in Griewank & Walther 2008, chapter 3.
#pragma once

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpDefinition.h"

#include "dialects/interfaces/DifferentiableOpInterface.h.inc"
