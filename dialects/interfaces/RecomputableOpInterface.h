// The interface of ops that cost less to compute again than their results cost to keep; its
// contract is in the .td beside this file.
#pragma once

#include "mlir/IR/OpDefinition.h"

#include "dialects/interfaces/RecomputableOpInterface.h.inc"
