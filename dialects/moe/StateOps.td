// What a module declares (symbols, states) and how programs get at it.
#ifndef SWITCHYARD_DIALECTS_MOE_STATEOPS
#define SWITCHYARD_DIALECTS_MOE_STATEOPS

include "dialects/moe/Attrs.td"
include "dialects/interfaces/ShardingAttrInterface.td"
include "mlir/IR/SymbolInterfaces.td"

def MoE_SymbolOp : MoE_Op<"symbol", [Symbol]> {
  let summary = "Declares a symbol: an extent that varies from launch to launch, and its bound.";
  let description = [{
    `#moe.rows` encodings refer to it by name: T, the tokens of a pass; S, its segments; M, its
    micro-batches. A plan certifies its memory at `bound`. Where there is a `minimum`, the bound may
    be lowered down to it so that the program fits the memory; where there is none it stays. A
    symbol with `rows_per_token` follows T: it, and its bound, is that many times T, rounded up.

    Constraints:
    - (C1) bound is in [1, 2^40].
    - (C2) minimum, if given, is in [1, bound].
    - (C3) the name is an identifier, as `#moe.rows` asks.
    - (C4) rows_per_token, if given, is positive and finite, and there is no minimum.

    ```mlir
    moe.symbol @T {bound = 32768 : i64, minimum = 2048 : i64}
    moe.symbol @R {bound = 131072 : i64, rows_per_token = 4.0 : f64}
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, MoE_I64:$bound, OptionalAttr<MoE_I64>:$minimum,
                       OptionalAttr<F64Attr>:$rows_per_token);
  let assemblyFormat = "$sym_name attr-dict";
  let hasVerifier = 1;
}

def MoE_StateOp : MoE_Op<"state",
    [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Declares a tensor that outlives programs: a parameter, or what belongs to one.";
  let description = [{
    The type is the logical one. A `parameter` is loaded and exported: `from` says which tensors of
    a checkpoint it is made of (`#moe.concat`, `#moe.stack`; a single name is a string). The others
    belong to the parameter that `of` names: a `master` is its float32 value where the parameter
    itself is narrower, a `gradient` accumulates over the passes of a step, a `moment` is the
    optimizer's.

    - `layer`: the transformer layer, from 0, that it belongs to.
    - `decay`: whether weight decay applies to the parameter.
    - `module_name`: the name of the parameter in transformers' modules, where the whole state is
      one of those and the tensors of the checkpoint are called otherwise.
    - `offset`: bytes from the start of the state arena; given by `assign-addresses`.
    - `sharding`: which part of it each rank holds (`#dist.sharding`). Programs then read and write
      that part: its type is the state's local one. Without it, each rank holds all.

    Constraints:
    - (C1) `of` names a `moe.state` of kind parameter; a parameter has none, every other state has
      one.
    - (C2) a derived state has the shape of its parameter, and a master is f32.
    - (C3) only a parameter has `from`, `module_name` or `decay`.
    - (C4) `from` is a string, a concat or a stack; inside the stacks that stand around it, the name
      of a tensor has each of their variables in braces, and no other braces.
    - (C5) `from` fits the type: a stack has as many slices as the first extent says, the rest being
      their shape; the rows of a concat's parts add up to the first extent.
    - (C6) layer and offset are not negative.
    - (C7) the sharding can divide a tensor of this type.

    ```mlir
    moe.state @norm : tensor<64xf32> {kind = parameter} from "model.norm.weight"
    moe.state @norm.exp_avg : tensor<64xf32> {kind = moment, of = @norm}
    moe.state @down : tensor<8x64x96xf32> {kind = parameter, layer = 0, decay = true}
        from #moe.stack<e = 0 to 8, "model.layers.0.block_sparse_moe.experts.{e}.w2.weight">
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<MoE_StateTensor>:$type,
      MoE_StateKindAttr:$kind, OptionalAttr<FlatSymbolRefAttr>:$of, OptionalAttr<MoE_I64>:$layer,
      MoE_Flag:$decay, OptionalAttr<StrAttr>:$module_name, OptionalAttr<AnyAttr>:$from,
      OptionalAttr<MoE_I64>:$offset, OptionalAttr<ShardingAttrInterface>:$sharding);
  let builders = [
    // A parameter.
    OpBuilder<(ins "::llvm::StringRef":$name, "::mlir::RankedTensorType":$type,
        "::mlir::Attribute":$from, "std::optional<int64_t>":$layer, "bool":$decay,
        CArg<"::llvm::StringRef", "\"\"">:$moduleName)>,
    // A state derived from `parameter`: of its layer, shaped and divided like it, with its own
    // elements.
    OpBuilder<(ins "::llvm::StringRef":$name, "StateKind":$kind, "StateOp":$parameter,
        "::mlir::Type":$elementType)>,
  ];
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The type of what a program on one rank reads and writes. Fails, with a diagnostic, where the
    /// sharding cannot divide the state; `symbols`, if given, caches the look-up of the mesh.
    ::mlir::FailureOr<::mlir::RankedTensorType>
    localType(::mlir::SymbolTableCollection *symbols = nullptr);
  }];
}

def MoE_ReadOp : MoE_Op<"read", [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "The value that a state had when the program started.";
  let description = [{
    It is the value at program entry wherever the read stands, also after a `moe.write` of the same
    state, so reads are pure: they can be moved and merged.

    Constraints:
    - (C1) `state` names a `moe.state`.
    - (C2) the result has the state's local type.

    ```mlir
    %w = moe.read @norm : tensor<64xf32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$state);
  let results = (outs MoE_StateTensor:$result);
  let builders = [OpBuilder<(ins "StateOp":$state)>];
  let assemblyFormat = "$state attr-dict `:` type($result)";
}

def MoE_WriteOp : MoE_Op<"write", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Gives a state its value from the end of the program on.";
  let description = [{
    Takes effect when the program exits.

    Constraints:
    - (C1) `state` names a `moe.state`.
    - (C2) the value has the state's local type.
    - (C3) a program writes a state once.

    ```mlir
    moe.write @norm.grad, %sum : tensor<64xf32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$state, MoE_StateTensor:$value);
  let assemblyFormat = "$state `,` $value attr-dict `:` type($value)";
}

def MoE_GradientOp : MoE_Op<"gradient", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "The gradient of the program's loss by a parameter.";
  let description = [{
    What `differentiate` leaves where a gradient ends: the sum over the tokens of one pass, in
    float32. `accumulate` replaces it by an addition to the parameter's gradient state. What it
    leaves in `@optimizer_step` is a step's gradient, with the elements of that state. In
    `@train_step` it stays as a mark, by which verify-gradient-reduction finds the gradient.

    Constraints:
    - (C1) `parameter` names a `moe.state` of kind parameter.
    - (C2) the value has the shape of the parameter's local type.
    - (C3) a program has one gradient for a parameter.

    ```mlir
    moe.gradient @norm, %dw : tensor<64xf32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$parameter, MoE_StateTensor:$value);
  let assemblyFormat = "$parameter `,` $value attr-dict `:` type($value)";
}

#endif
