// The interface of attributes that say which part of a state a rank holds.
#ifndef SWITCHYARD_DIALECTS_INTERFACES_SHARDINGATTRINTERFACE
#define SWITCHYARD_DIALECTS_INTERFACES_SHARDINGATTRINTERFACE

include "mlir/IR/OpBase.td"

def ShardingAttrInterface : AttrInterface<"ShardingAttrInterface"> {
  let cppNamespace = "::switchyard";
  let description = [{
    An attribute of a `moe.state` that says how the state is divided among ranks. The moe dialect
    knows nothing of ranks; through this interface it learns of what type the tensor is that a
    program on one rank reads and writes. The dist dialect's `#dist.sharding` implements it.
  }];
  let methods = [InterfaceMethod<[{
      The type of each rank's part of a state of type `logical`; it is the same on all ranks.
      `state` is the op that declares the state, at which diagnostics are given, and `symbols`, if
      not null, caches the look-up of symbols. Fails, with a diagnostic, where such a state cannot
      be divided in this way.
    }],
    "::mlir::FailureOr<::mlir::RankedTensorType>", "localType",
    (ins "::mlir::RankedTensorType":$logical, "::mlir::Operation *":$state,
         "::mlir::SymbolTableCollection *":$symbols)>];
}

#endif
