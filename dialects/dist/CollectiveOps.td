// The mesh, and collectives over states and sums.
#ifndef SWITCHYARD_DIALECTS_DIST_COLLECTIVEOPS
#define SWITCHYARD_DIALECTS_DIST_COLLECTIVEOPS

include "dialects/dist/Attrs.td"
include "dialects/dist/Interfaces.td"

// An op over groups of ranks. Pure: see the README.
class Dist_GroupOp<string mnemonic, list<Trait> traits = []>
    : Dist_Op<mnemonic, [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>] # traits>;

class Dist_CollectiveOp<string mnemonic, list<Trait> traits = []>
    : Dist_GroupOp<mnemonic, [CollectiveOpInterface] # traits>;

class Dist_DifferentiableCollectiveOp<string mnemonic, list<Trait> traits = []>
    : Dist_CollectiveOp<mnemonic,
                        [DeclareOpInterfaceMethods<DifferentiableOpInterface>] # traits>;

def Dist_MeshOp : Dist_Op<"mesh", [Symbol, HasParent<"::mlir::ModuleOp">]> {
  let summary = "Declares the ranks that the module's programs run on.";
  let description = [{
    A module has one mesh, which all ops and attributes of the dialect mean.

    Constraints:
    - (C1) its name is @mesh, so that there is one.

    ```mlir
    dist.mesh @mesh <["dp"=2, "fsdp"=4, "ep"=8]>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Dist_MeshAttr:$mesh);
  let assemblyFormat = "$sym_name $mesh attr-dict";
  let hasVerifier = 1;
  let builders = [OpBuilder<(ins "MeshAttr":$mesh)>];
}

def Dist_AllGatherOp : Dist_DifferentiableCollectiveOp<"all_gather",
    [AllElementTypesMatch<["x", "y"]>]> {
  let summary = "What the ranks of a group hold, one after the other.";
  let description = [{
    `y`, row-major, is the `x` of the group's n ranks in their order, on each of them. If `x` is a
    flat shard of `y` (see `#dist.sharding`), the padding behind the last element is left out: the
    gathered bytes are those of `y`, nothing has to be copied.

    The vector-Jacobian product is `dist.reduce_scatter`, in the cotangent's element type.

    Constraints:
    - (C1) the module has a mesh, with these axes.
    - (C2) `x` and `y` have the same element type.
    - (C3) `x` [L] is a flat shard of `y`, L = the elements of `y` divided by n and rounded up to a
      multiple of 128; or `y` is [n, ...] and `x` [...]; or `y` is [n * a, ...] and `x` [a, ...].

    ```mlir
    %w = dist.all_gather %shard over ["fsdp", "ep"] : tensor<128xbf16> -> tensor<8x50xbf16>
    %all_counts = dist.all_gather %counts over ["ep"] : tensor<8xi32> -> tensor<4x8xi32>
    %experts = dist.all_gather %mine over ["ep"] : tensor<2x64x96xf32> -> tensor<8x64x96xf32>
    ```
  }];
  let arguments = (ins Dist_StaticAny:$x, Dist_AxesAttr:$axes);
  let results = (outs Dist_StaticAny:$y);
  let assemblyFormat = "$x `over` custom<Axes>($axes) attr-dict `:` type($x) `->` type($y)";
}

def Dist_ReduceScatterOp : Dist_DifferentiableCollectiveOp<"reduce_scatter",
    [AllElementTypesMatch<["x", "y"]>]> {
  let summary = "Each rank's part of the sum over a group.";
  let description = [{
    The `x` of the group's n ranks are summed elementwise, and rank i of the group gets the i-th of
    n parts. If `y` is a flat shard of `x` (see `#dist.sharding`), what it holds behind the last
    element is zero. The order of the sum is the communicator's: fixed for a plan, and the order of
    the ranks, in float32, on the CPU.

    The vector-Jacobian product is `dist.all_gather`.

    Constraints:
    - (C1) the module has a mesh, with these axes.
    - (C2) `x` and `y` have the same element type.
    - (C3) `y` [L] is a flat shard of `x`, L = the elements of `x` divided by n and rounded up to a
      multiple of 128; or `x` is [n, ...] and `y` [...]; or `x` is [n * a, ...] and `y` [a, ...].

    ```mlir
    %dshard = dist.reduce_scatter %dw over ["fsdp", "ep"] : tensor<8x50xf32> -> tensor<128xf32>
    ```
  }];
  let arguments = (ins Dist_StaticFloat:$x, Dist_AxesAttr:$axes);
  let results = (outs Dist_StaticFloat:$y);
  let assemblyFormat = "$x `over` custom<Axes>($axes) attr-dict `:` type($x) `->` type($y)";
}

def Dist_AllReduceOp : Dist_DifferentiableCollectiveOp<"all_reduce",
    [SameOperandsAndResultType]> {
  let summary = "The sum, or the maximum, over a group.";
  let description = [{
    `y` is the elementwise sum of the `x` of the group's ranks, or their maximum (a NaN wins), the
    same bits on each of them. The order of a sum is as in `dist.reduce_scatter`.

    The vector-Jacobian product of a sum is the `dist.all_reduce` of the cotangents: the loss is the
    sum of what the ranks' programs yield, and each rank's `y` depends on every rank's `x`. A
    maximum has none.

    Constraints:
    - (C1) the module has a mesh, with these axes.
    - (C2) `x` and `y` have the same type.
    - (C3) `x` has no rows over "R", the rows received, whose number differs between ranks.

    ```mlir
    %norm = dist.all_reduce %part over ["fsdp", "ep"] : tensor<f32>
    %flag = dist.all_reduce %mine over ["dp", "fsdp", "ep"] reduction max : tensor<i32>
    ```
  }];
  let arguments = (ins Dist_Any:$x, Dist_AxesAttr:$axes,
      DefaultValuedAttr<Dist_ReductionAttr, "::switchyard::dist::Reduction::Sum">:$reduction);
  let results = (outs Dist_Any:$y);
  let assemblyFormat = [{
    $x `over` custom<Axes>($axes) (`reduction` $reduction^)? attr-dict `:` type($x)
  }];
}

def Dist_ReplicateOp : Dist_GroupOp<"replicate",
    [DeclareOpInterfaceMethods<DifferentiableOpInterface>, SameOperandsAndResultType]> {
  let summary = "Marks where a value that is the same on the ranks of a group meets their tokens.";
  let description = [{
    y = x. Nothing is communicated: `x` is the same on all ranks of the group already. But the loss
    depends on it through all of them, so the vector-Jacobian product is the `dist.all_reduce` of
    the cotangents. A state that is read on ranks with different tokens passes through a replicate
    over those axes along which it is not divided.

    Constraints:
    - (C1) the module has a mesh, with these axes.
    - (C2) `x` and `y` have the same type.
    - (C3) `x` has no rows over "R", the rows received, which differ between ranks.

    ```mlir
    %y = dist.replicate %x over ["dp"] : tensor<64xf32>
    ```
  }];
  let arguments = (ins Dist_Float:$x, Dist_AxesAttr:$axes);
  let results = (outs Dist_Float:$y);
  let assemblyFormat = "$x `over` custom<Axes>($axes) attr-dict `:` type($x)";
}

#endif
