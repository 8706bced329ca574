// The moe dialect's attributes.
#ifndef SWITCHYARD_DIALECTS_MOE_ATTRS
#define SWITCHYARD_DIALECTS_MOE_ATTRS

include "dialects/moe/Dialect.td"
include "mlir/IR/TensorEncoding.td"

class MoE_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<MoE_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def MoE_RowsAttr : MoE_Attr<"Rows", "rows",
    [DeclareAttrInterfaceMethods<VerifiableTensorEncoding>]> {
  let summary = "The first extent of a tensor, as a multiple of a symbol plus a constant.";
  let description = [{
    The encoding of a tensor whose first extent varies: scale * symbol + offset, `symbol` declared
    by `moe.symbol`. It is part of the type, so an op that wants two tensors of equally many rows
    refuses a tensor over T where one over 2 * T belongs.

    ```mlir
    tensor<?x4096xbf16, #moe.rows<"T">>      // a row for each token
    tensor<?x4096xbf16, #moe.rows<2 * "T">>  // a row for each of a token's two experts
    tensor<?xi32, #moe.rows<"S" + 1>>        // where each segment starts, and where the last ends
    ```

    Constraints:
    - (C1) the symbol is an identifier: letters, digits and `_`, not starting with a digit.
    - (C2) scale is in [1, 2^40] and offset in [0, 2^40].
    - (C3) the tensor's first extent is dynamic, and no other is.
  }];
  let parameters = (ins "int64_t":$scale, StringRefParameter<"name of the symbol">:$symbol,
                        "int64_t":$offset);
  let builders = [
    AttrBuilder<(ins "::llvm::StringRef":$symbol), [{ return $_get($_ctxt, 1, symbol, 0); }]>
  ];
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// `factor` times as many rows, or null where that is more than an extent may be.
    RowsAttr scaled(int64_t factor) const;
  }];
}

def MoE_ConcatAttr : MoE_Attr<"Concat", "concat"> {
  let summary = "A state that is tensors of a checkpoint, joined along dimension 0.";
  let description = [{
    Part of a `moe.state`'s `from`: the parts, one after the other along dimension 0. A part is the
    name of a tensor, a `#moe.concat` or a `#moe.stack`. `rows` are the extents of the parts'
    dimension 0; without them the parts have equal ones.

    ```mlir
    #moe.concat<"self_attn.q_proj.weight", "self_attn.k_proj.weight" rows 64, 32>
    ```

    Constraints:
    - (C1) there is at least one part, and each is a string, a concat or a stack.
    - (C2) `rows`, if given, has a number in [1, 2^40] for each part.
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::Attribute">:$parts,
                        OptionalArrayRefParameter<"int64_t">:$rows);
  let assemblyFormat = "`<` $parts (`rows` $rows^)? `>`";
  let genVerifyDecl = 1;
}

def MoE_StackAttr : MoE_Attr<"Stack", "stack"> {
  let summary = "A state that is tensors of a checkpoint, stacked along a new dimension 0.";
  let description = [{
    Part of a `moe.state`'s `from`: slice i - begin is `part` with i in the place of `{variable}` in
    the names of its tensors, for i from `begin` up to, but not including, `end`.

    ```mlir
    #moe.stack<e = 0 to 8, "block_sparse_moe.experts.{e}.w2.weight">
    ```

    Constraints:
    - (C1) the variable is an identifier: letters, digits and `_`, not starting with a digit.
    - (C2) 0 <= begin < end <= 65536.
    - (C3) the part is a string, a concat or a stack.
  }];
  let parameters = (ins StringRefParameter<"what runs from begin to end">:$variable,
                        "int64_t":$begin, "int64_t":$end, "::mlir::Attribute":$part);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def MoE_Parameter : I32EnumAttrCase<"Parameter", 0, "parameter">;
def MoE_Master : I32EnumAttrCase<"Master", 1, "master">;
def MoE_Gradient : I32EnumAttrCase<"Gradient", 2, "gradient">;
def MoE_Moment : I32EnumAttrCase<"Moment", 3, "moment">;
def MoE_StateKind : I32EnumAttr<"StateKind", "kind of state",
    [MoE_Parameter, MoE_Master, MoE_Gradient, MoE_Moment]> {
  let cppNamespace = "::switchyard::moe";
  let genSpecializedAttr = 0;
}
def MoE_StateKindAttr : EnumAttr<MoE_Dialect, MoE_StateKind, "kind">;

#endif
