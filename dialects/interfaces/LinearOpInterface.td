// The interface of ops that are linear in some of their operands.
#ifndef SWITCHYARD_DIALECTS_INTERFACES_LINEAROPINTERFACE
#define SWITCHYARD_DIALECTS_INTERFACES_LINEAROPINTERFACE

include "mlir/IR/OpBase.td"

def LinearOpInterface : OpInterface<"LinearOpInterface"> {
  let cppNamespace = "::switchyard";
  let description = [{
    An op whose first result is linear in some operands taken together, the others held fixed: for
    operands x and others w, f(a x + b x', w) = a f(x, w) + b f(x', w), roundings aside. So a sum
    over ranks may be made behind the op as well as before it, if `w` is the same on those ranks.
    With more than one such operand the result is a sum of terms, one from each: what is true of a
    sum (all its terms are the ranks' own, or all are totals) has to be true of each term. Other
    results do not depend on these operands.

    `verify-gradient-reduction` asks for it. An op without it is not known to be linear.
  }];
  let methods = [InterfaceMethod<"The operands in which, taken together, the first result is linear.",
    "::mlir::OperandRange", "getLinearOperands">];
}

#endif
