// The interface of ops that have a derivative.
#ifndef SWITCHYARD_DIALECTS_INTERFACES_DIFFERENTIABLEOPINTERFACE
#define SWITCHYARD_DIALECTS_INTERFACES_DIFFERENTIABLEOPINTERFACE

include "mlir/IR/OpBase.td"

def DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::switchyard";
  let description = [{
    An op that gives its vector-Jacobian product (VJP), which is all that reverse mode
    differentiation asks of it. The pass `differentiate` is generic over this interface: it walks a
    program backwards, hands each op the cotangents of its results and adds up what comes back. An
    op without it that a cotangent reaches is refused by name.

    For y = f(x) and a scalar loss l, the cotangent of y is dl/dy, a tensor like y, and the VJP is
    dl/dx = (dy/dx)^T dl/dy.
  }];
  let methods = [InterfaceMethod<[{
      Builds the ops that compute the cotangents of this op's operands, and returns those, one for
      each operand in order.

      `cotangents` holds one value for each result. A null value means zero: the loss does not
      depend on that result; at least one is not null. A null value is returned for an operand that
      has no cotangent, being an integer or data of the batch. An op that has no derivative by a
      result whose cotangent is not null emits an error and returns an empty vector.

      A cotangent has the type of its primal value, but for that of a parameter (a weight, an
      embedding table, the weight of a norm), which has its shape in float32: gradients are summed
      over layers, passes and ranks, and bfloat16 would lose them (see dialects/moe/README.md).

      The ops stand at `builder`'s insertion point, which operands and results of this op and the
      cotangents dominate, and are pure: those whose result nobody wants are dropped as dead code.
    }],
    "::llvm::SmallVector<::mlir::Value>", "buildVjp",
    (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$cotangents)>];
}

#endif
