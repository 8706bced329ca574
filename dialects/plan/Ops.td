// The plan dialect's operations.
#ifndef SWITCHYARD_DIALECTS_PLAN_OPS
#define SWITCHYARD_DIALECTS_PLAN_OPS

include "dialects/plan/Dialect.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/SymbolInterfaces.td"

class Plan_Op<string mnemonic, list<Trait> traits = []> : Op<Plan_Dialect, mnemonic, traits>;

class Plan_Instruction<string mnemonic, list<Trait> traits = []>
    : Plan_Op<mnemonic, traits # [ParentOneOf<["ProgramOp"]>]>;

def Plan_ProgramOp : Plan_Op<"program",
    [Symbol, IsolatedFromAbove, SingleBlock, NoTerminator, NoRegionArguments]> {
  let summary = "A list of instructions that a rank runs in order.";
  let description = [{
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

def Plan_BufferOp : Plan_Instruction<"buffer"> {
  let summary = "Declares memory.";
  let description = [{
    A buffer lies in an arena. One in the `state` arena names its `moe.state` and has that state's address; one in the
    `io` arena is a named input or output of the program; the others are scratch of the program. `at` is the
    offset in bytes that `assign-addresses` gave it (a state's buffer has none of its own).

    Constraints:
    - (C1) a buffer names a state if, and only if, it is in the state arena.
    - (C2) a buffer has a port and a name if, and only if, it is in the io arena.
    - (C3) the state exists and its type is the buffer's.
    - (C4) a state's buffer has no offset; any other offset is a multiple of 256 and not negative.

    ```mlir
    %w = plan.buffer state @norm : tensor<64xf32>
    %ids = plan.buffer io input "input_ids" at 0 : tensor<?xi32, #moe.rows<"T">>
    %x = plan.buffer transient at 4096 : tensor<?x64xf32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins Plan_ArenaAttr:$arena, OptionalAttr<FlatSymbolRefAttr>:$state,
      OptionalAttr<Plan_PortAttr>:$port, OptionalAttr<StrAttr>:$port_name, OptionalAttr<I64Attr>:$offset);
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
      Variadic<Plan_BufferType>:$outs, Optional<Plan_BufferType>:$workspace, DictionaryAttr:$kernel_attributes);
  let assemblyFormat = [{
    $kernel (`ins` `(` $ins^ `:` type($ins) `)`)? (`updates` `(` $updates^ `:` type($updates) `)`)?
    (`outs` `(` $outs^ `:` type($outs) `)`)? (`workspace` `(` $workspace^ `:` type($workspace) `)`)?
    $kernel_attributes attr-dict
  }];
  let hasVerifier = 1;
}

def Plan_CopyOp : Plan_Instruction<"copy", [AllTypesMatch<["from", "to"]>]> {
  let summary = "Copies one buffer into another of the same type.";
  let arguments = (ins Plan_BufferType:$from, Plan_BufferType:$to);
  let assemblyFormat = "$from `to` $to attr-dict `:` type($from)";
}

#endif
