// What ops in which ranks meet have in common.
#ifndef SWITCHYARD_DIALECTS_DIST_INTERFACES
#define SWITCHYARD_DIALECTS_DIST_INTERFACES

include "mlir/IR/OpBase.td"

def CollectiveOpInterface : OpInterface<"CollectiveOpInterface"> {
  let cppNamespace = "::switchyard::dist";
  let description = [{
    An op that ends on a rank only after all ranks of its group came to it. All ranks run one
    program, so they meet at the same op, if they all come to it: what surrounds it (`dist.rounds`)
    must run equally often on each rank of the group.
  }];
  let methods = [InterfaceMethod<"The axes of the groups that meet.",
    "::switchyard::dist::AxesAttr", "getAxes">];
}

#endif
