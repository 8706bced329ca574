// The plan dialect's operations.
#ifndef SWITCHYARD_DIALECTS_PLAN_OPS
#define SWITCHYARD_DIALECTS_PLAN_OPS

include "dialects/plan/Dialect.td"
include "dialects/dist/Attrs.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/SymbolInterfaces.td"

class Plan_Op<string mnemonic, list<Trait> traits = []> : Op<Plan_Dialect, mnemonic, traits>;

class Plan_Instruction<string mnemonic, list<Trait> traits = []>
    : Plan_Op<mnemonic, traits # [ParentOneOf<["ProgramOp", "RepeatOp"]>]>;

// The queue that an instruction is on: 0 computes. `assign-streams` gives the others.
def Plan_Stream : DefaultValuedAttr<ConfinedAttr<I32Attr, [IntMinValue<0>, IntMaxValue<7>]>, "0">;

def Plan_ProgramOp : Plan_Op<"program",
    [Symbol, IsolatedFromAbove, SingleBlock, NoTerminator, NoRegionArguments]> {
  let summary = "A list of instructions that a rank runs.";
  let description = [{
    The order of the list is one in which the instructions may run, one after the other. Those on different
    streams may also run at the same time, but for what `plan.wait` says.

    Programs share the states' memory and lay their transient buffers over one another: they never run at the same
    time. Its inputs and outputs are the io buffers it declares.

    ```mlir
    plan.program @double {
      %x = plan.buffer io input "x" at 0 : tensor<4xf32>
      %y = plan.buffer io output "y" at 256 : tensor<4xf32>
      plan.launch "scale" ins(%x : !plan.buffer<tensor<4xf32>>) outs(%y : !plan.buffer<tensor<4xf32>>) {factor = 2.0}
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name)>];
}

def Plan_BufferOp : Plan_Op<"buffer",
    [HasParent<"ProgramOp">, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Declares memory.";
  let description = [{
    A buffer lies in an arena. One in the `state` arena names its `moe.state` and has that state's address; one in the
    `io` arena is a named input or output of the program; the others are scratch of the program. `at` is the
    offset in bytes that `assign-addresses` gave it (a state's buffer has none of its own). `reserve` is the number
    of elements that it has room for, where that is more than its type's: the padding behind a tensor that is
    gathered from flat shards, or summed into them.

    Constraints:
    - (C1) a buffer names a state if, and only if, it is in the state arena.
    - (C2) a buffer has a port and a name if, and only if, it is in the io arena.
    - (C3) the state exists and its local type is the buffer's.
    - (C4) a state's buffer has no offset; any other offset is a multiple of 256 and not negative.
    - (C5) reserve, if given, is more than the elements of the static type, and the buffer is no port.

    ```mlir
    %w = plan.buffer state @norm : tensor<64xf32>
    %ids = plan.buffer io input "input_ids" at 0 : tensor<?xi32, #moe.rows<"T">>
    %x = plan.buffer transient at 4096 : tensor<?x64xf32, #moe.rows<"T">>
    %g = plan.buffer transient at 8192 reserve 512 : tensor<8x50xf32>
    ```
  }];
  let arguments = (ins Plan_ArenaAttr:$arena, OptionalAttr<FlatSymbolRefAttr>:$state,
      OptionalAttr<Plan_PortAttr>:$port, OptionalAttr<StrAttr>:$port_name, OptionalAttr<I64Attr>:$offset,
      OptionalAttr<I64Attr>:$reserve);
  let results = (outs Plan_BufferType:$buffer);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let builders = [
    OpBuilder<(ins "::mlir::RankedTensorType":$tensor)>,
    OpBuilder<(ins "::mlir::RankedTensorType":$tensor, "::mlir::FlatSymbolRefAttr":$state)>,
    OpBuilder<(ins "::mlir::RankedTensorType":$tensor, "Port":$port, "::llvm::StringRef":$portName)>,
  ];
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() { return getBuffer().getType().getTensor(); }
    std::optional<int64_t> getOffsetValue() {
      if (::mlir::IntegerAttr attribute = getOffsetAttr())
        return attribute.getInt();
      return std::nullopt;
    }
    /// How many elements it has room for; of a static type only.
    int64_t roomInElements();
  }];
}

def Plan_LaunchOp : Plan_Instruction<"launch", [AttrSizedOperandSegments]> {
  let summary = "Runs a kernel.";
  let description = [{
    `kernel` names a signature of kernels/signatures. `ins` are read, `updates` read and overwritten, `outs` written;
    each list stands in the signature's order. The dictionary holds the signature's attributes. `workspace`, given
    by `assign-addresses`, is scratch of the size that the signature asks for.

    Constraints:
    - (C1) no output or update is also another operand of the launch.

    ```mlir
    plan.launch "rms_norm" ins(%x, %w : !plan.buffer<tensor<8x64xf32>>, !plan.buffer<tensor<64xf32>>)
        outs(%y : !plan.buffer<tensor<8x64xf32>>) {eps = 1.0e-05}
    ```
  }];
  let arguments = (ins StrAttr:$kernel, Variadic<Plan_BufferType>:$ins, Variadic<Plan_BufferType>:$updates,
      Variadic<Plan_BufferType>:$outs, Optional<Plan_BufferType>:$workspace, DictionaryAttr:$kernel_attributes,
      Plan_Stream:$stream);
  let assemblyFormat = [{
    $kernel (`ins` `(` $ins^ `:` type($ins) `)`)? (`updates` `(` $updates^ `:` type($updates) `)`)?
    (`outs` `(` $outs^ `:` type($outs) `)`)? (`workspace` `(` $workspace^ `:` type($workspace) `)`)?
    $kernel_attributes (`stream` $stream^)? attr-dict
  }];
  let hasVerifier = 1;
}

def Plan_CopyOp : Plan_Instruction<"copy", [AllTypesMatch<["from", "to"]>]> {
  let summary = "Copies one buffer into another of the same type.";
  let arguments = (ins Plan_BufferType:$from, Plan_BufferType:$to, Plan_Stream:$stream);
  let assemblyFormat = "$from `to` $to (`stream` $stream^)? attr-dict `:` type($from)";
}

def Plan_CollectiveOp : Plan_Instruction<"collective",
    [AttrSizedOperandSegments, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Ranks of a group exchange what is in their buffers.";
  let description = [{
    What the kinds do is described at the ops of the dist dialect of the same names.

    - `all_gather`, `reduce_scatter`, `all_reduce`: a list of inputs and as many outputs, one grouped call. The
      output of an `all_reduce` may be at its input's address.
    - `token_exchange`: ins(rows, all_counts, round) outs(received, group_sizes); `round` may be left out, for 0.
    - `token_return`: ins(rows, all_counts, round) outs(returned), or updates(into), to which it adds.

    Constraints:
    - (C1) the module has a mesh, with these axes.
    - (C2) it has the inputs, updates and outputs of its kind.
    - (C3) their types match as those of the op of that name in the dist dialect.
    - (C4) only `all_reduce` has the reduction max.
    - (C5) no output or update is also another operand.
    - (C6) the buffer of a tensor that is gathered from flat shards, or summed into them, has room for their padding.

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%a, %b : !plan.buffer<...>, ...) outs(%c, %d : ...) stream 1
    ```
  }];
  let arguments = (ins Plan_CollectiveKindAttr:$kind, Dist_AxesAttr:$axes,
      DefaultValuedAttr<Dist_ReductionAttr, "::switchyard::dist::Reduction::Sum">:$reduction,
      Variadic<Plan_BufferType>:$ins, Variadic<Plan_BufferType>:$updates, Variadic<Plan_BufferType>:$outs,
      Plan_Stream:$stream);
  let assemblyFormat = [{
    custom<Kind>($kind) `over` custom<Axes>($axes) (`reduction` $reduction^)? (`ins` `(` $ins^ `:` type($ins) `)`)?
    (`updates` `(` $updates^ `:` type($updates) `)`)? (`outs` `(` $outs^ `:` type($outs) `)`)?
    (`stream` $stream^)? attr-dict
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Whether rows go to other ranks, or come back, in amounts that are data.
    bool isExchange() {
      return getKind() == CollectiveKind::TokenExchange || getKind() == CollectiveKind::TokenReturn;
    }
  }];
}

def Plan_RepeatOp : Plan_Instruction<"repeat",
    [SingleBlock, NoTerminator, NoRegionArguments, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Runs instructions once for each overflow round.";
  let description = [{
    For round = 1 to the number of overflow rounds of `all_counts` (`dist.overflow_rounds`; usually 0), writes the
    round to `round` and runs the body. A buffer that is only named inside holds nothing from round to round; one
    that is updated inside carries its sum on.

    Constraints:
    - (C1) the module has a mesh, with these axes, and the symbol R.
    - (C2) `all_counts` is an i32 [n, E], n the ranks of a group and E a multiple of it, and `round` an i32 scalar.
    - (C3) collectives of the body are over some of the axes.
    - (C4) the body has no other repeat, and no events.
    - (C5) nothing in the body writes `round` or `all_counts`.

    ```mlir
    plan.repeat %round of %all_counts over ["ep"] : !plan.buffer<tensor<2x8xi32>> {
      plan.collective token_exchange over ["ep"] ins(%x, %all_counts, %round : ...) outs(%received, %sizes : ...)
      ...
    }
    ```
  }];
  let arguments = (ins Plan_BufferType:$round, Plan_BufferType:$all_counts, Dist_AxesAttr:$axes,
      Plan_Stream:$stream);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $round `of` $all_counts `over` custom<Axes>($axes) (`stream` $stream^)? `:` type($round) `,` type($all_counts)
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
}

def Plan_RecordOp : Plan_Instruction<"record"> {
  let summary = "Marks the point in a stream behind all that was put there before.";
  let arguments = (ins Plan_Stream:$stream);
  let results = (outs Plan_EventType:$event);
  let assemblyFormat = "(`stream` $stream^)? attr-dict";
}

def Plan_WaitOp : Plan_Instruction<"wait"> {
  let summary = "Lets what is put on a stream afterwards start only behind an event.";
  let arguments = (ins Plan_EventType:$event, Plan_Stream:$stream);
  let assemblyFormat = "$event (`stream` $stream^)? attr-dict";
}

#endif
