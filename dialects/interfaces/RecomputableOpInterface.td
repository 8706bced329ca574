// The interface of ops that cost less to compute again than their results cost to keep.
#ifndef SWITCHYARD_DIALECTS_INTERFACES_RECOMPUTABLEOPINTERFACE
#define SWITCHYARD_DIALECTS_INTERFACES_RECOMPUTABLEOPINTERFACE

include "mlir/IR/OpBase.td"

def RecomputableOpInterface : OpInterface<"RecomputableOpInterface"> {
  let cppNamespace = "::switchyard";
  let description = [{
    A pure op with one result that takes little more than to read its operands and to write the
    result: no product of matrices, no attention. The pass `recompute` asks for it.
  }];
}

#endif
