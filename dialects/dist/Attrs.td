// The dist dialect's attributes: axes, the mesh, how a state is divided.
#ifndef SWITCHYARD_DIALECTS_DIST_ATTRS
#define SWITCHYARD_DIALECTS_DIST_ATTRS

include "dialects/dist/Dialect.td"
include "dialects/interfaces/ShardingAttrInterface.td"

class Dist_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<Dist_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def Dist_Dp : I32EnumAttrCase<"Dp", 0, "dp">;
def Dist_Fsdp : I32EnumAttrCase<"Fsdp", 1, "fsdp">;
def Dist_Ep : I32EnumAttrCase<"Ep", 2, "ep">;
def Dist_Axis : I32EnumAttr<"Axis", "axis of a mesh", [Dist_Dp, Dist_Fsdp, Dist_Ep]> {
  let cppNamespace = "::switchyard::dist";
  let genSpecializedAttr = 0;
}

def Dist_Sum : I32EnumAttrCase<"Sum", 0, "sum">;
def Dist_Max : I32EnumAttrCase<"Max", 1, "max">;
def Dist_Reduction : I32EnumAttr<"Reduction", "how values of ranks are combined",
    [Dist_Sum, Dist_Max]> {
  let cppNamespace = "::switchyard::dist";
  let genSpecializedAttr = 0;
}
def Dist_ReductionAttr : EnumAttr<Dist_Dialect, Dist_Reduction, "reduction">;

def Dist_Host : I32EnumAttrCase<"Host", 0, "host">;
def Dist_Device : I32EnumAttrCase<"Device", 1, "device">;
def Dist_Knower : I32EnumAttr<"Knower", "who knows a number when it is needed",
    [Dist_Host, Dist_Device]> {
  let cppNamespace = "::switchyard::dist";
  let genSpecializedAttr = 0;
}
def Dist_KnowerAttr : EnumAttr<Dist_Dialect, Dist_Knower, "knower">;

def Dist_AxesAttr : Dist_Attr<"Axes", "axes"> {
  let summary = "Some axes of the mesh.";
  let description = [{
    Divides the ranks into groups: the ranks of a group have the same coordinates along all other
    axes. In ops and in `#dist.sharding` only the list is written.

    - "dp": replicas; states are whole, or divided alike, in each.
    - "fsdp": states are divided, and gathered for each use.
    - "ep": experts are divided, and tokens sent to them.

    ```mlir
    #dist.axes<["fsdp", "ep"]>
    ```

    Constraints:
    - (C1) there is at least one axis.
    - (C2) each is there once, in the order "dp", "fsdp", "ep".
  }];
  let parameters = (ins ArrayRefParameter<"Axis">:$axes);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    bool contains(Axis axis) const { return ::llvm::is_contained(getAxes(), axis); }
    /// Whether each of these axes is one of `other`'s: groups over them lie inside its groups.
    bool isSubsetOf(AxesAttr other) const;
  }];
}

def Dist_MeshAttr : Dist_Attr<"Mesh", "mesh"> {
  let summary = "A grid of ranks with named axes, in Shardy's style.";
  let description = [{
    With sizes D of "dp", F of "fsdp" and E of "ep", the rank with coordinates (dp, fsdp, ep) is

        rank = ((dp * F) + fsdp) * E + ep

    so the last axis varies fastest: ranks that exchange tokens are neighbours. Groups order their
    ranks in the same way. An axis that is not listed has no groups, and size 1 in the formula. No
    axes at all is one rank.

    ```mlir
    #dist.mesh<["dp"=2, "fsdp"=4, "ep"=8]>
    ```

    Constraints:
    - (C1) each axis is listed once, in the order "dp", "fsdp", "ep".
    - (C2) sizes are at least 1, and their product at most 65536.
  }];
  let parameters = (ins OptionalArrayRefParameter<"Axis">:$axes,
                        OptionalArrayRefParameter<"int64_t">:$sizes);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The number of ranks.
    int64_t numRanks() const;
    /// How many coordinates there are along `axis`; nothing if it is not listed.
    std::optional<int64_t> sizeOf(Axis axis) const;
    /// How many ranks a group over `axes` has; nothing if one of them is not listed.
    std::optional<int64_t> groupSize(AxesAttr axes) const;
    /// Coordinate of `rank` along `axis`; 0 if it is not listed.
    int64_t coordinate(int64_t rank, Axis axis) const;
    /// The place of `rank` in its group over `axes`, from 0; all of them are listed.
    int64_t indexInGroup(int64_t rank, AxesAttr axes) const;
    /// The ranks of the group of `rank` over `axes`, by their place in it; all of them are listed.
    ::llvm::SmallVector<int64_t> groupOf(int64_t rank, AxesAttr axes) const;
  }];
}

def Dist_ShardingAttr : Dist_Attr<"Sharding", "sharding",
    [DeclareAttrInterfaceMethods<ShardingAttrInterface>]> {
  let summary = "Which part of a state a rank holds.";
  let description = [{
    First, `dim 0 over` axes: dimension 0 is cut in as many equal parts as a group over these axes
    has ranks, and the i-th rank holds the i-th. So experts are divided: with 8 experts over "ep" of
    size 4, rank 1 holds experts 2 and 3.

    Then, `flat over` axes: what is left, row-major and padded with zeros to a multiple of n * 128
    elements, is cut in n equal parts for the n ranks of a group. A rank's part is one-dimensional,
    a multiple of 256 bytes long whatever its elements are, and equally long for a parameter, its
    gradient, its moments and its master, so that these can be updated element by element.

    A rank's part is one range of the state's elements. Along axes that are not mentioned, ranks
    hold the same.

    ```mlir
    #dist.sharding<flat over ["fsdp", "ep"]>                   // a dense parameter
    #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>      // the experts of a layer
    #dist.sharding<dim 0 over ["ep"]>                          // the same without fsdp
    ```

    Constraints:
    - (C1) there is a division, of dimension 0 or flat or both.
    - (C2) no axis divides twice.
    - (C3) the module has a mesh, with these axes.
    - (C4) the extent of dimension 0 is a multiple of the number of ranks that divide it.
    - (C5) the state has at most 2^40 elements.
  }];
  let parameters = (ins OptionalParameter<"::switchyard::dist::AxesAttr">:$dim0,
                        OptionalParameter<"::switchyard::dist::AxesAttr">:$flat);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The elements [begin, end) of a row-major state of type `logical` that `rank` holds, padding
    /// left out; empty where it holds only padding. `logical` can be divided over `mesh` (C3 to C5).
    ElementRange localRange(MeshAttr mesh, ::mlir::RankedTensorType logical, int64_t rank) const;
  }];
}

#endif
