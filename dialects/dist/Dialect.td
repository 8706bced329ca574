// The dist dialect: its definition, and the classes that its ops share.
#ifndef SWITCHYARD_DIALECTS_DIST_DIALECT
#define SWITCHYARD_DIALECTS_DIST_DIALECT

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "dialects/interfaces/DifferentiableOpInterface.td"
include "dialects/moe/Dialect.td"

def Dist_Dialect : Dialect {
  let name = "dist";
  let summary = "Where the parts of a model live, and how ranks exchange them.";
  let description = [{
    One program runs on all ranks, each with its own tokens and its own part of every state. A
    module declares the mesh of ranks (`dist.mesh`), each `moe.state` says with `#dist.sharding`
    which part of it a rank holds, and collectives move values between the ranks of a group: those
    ranks that differ only in their coordinates along the axes that the collective names.

    ```mlir
    dist.mesh @mesh <["dp"=2, "fsdp"=4, "ep"=8]>
    moe.state @norm : tensor<4096xf32>
        {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "norm.weight"

    func.func @program() -> (tensor<4096xf32> {moe.name = "norm"}) {
      %shard = moe.read @norm : tensor<128xf32>
      %one = dist.replicate %shard over ["dp"] : tensor<128xf32>
      %norm = dist.all_gather %one over ["fsdp", "ep"] : tensor<128xf32> -> tensor<4096xf32>
      return %norm : tensor<4096xf32>
    }
    ```

    Constraints of ops and attributes are labelled as in the moe dialect: the second constraint of
    `dist.all_gather` is `all_gather_c2` in its verifier and its tests. The README beside this file
    says why the dialect is as it is.

    Attributes of other ops:

    - `dist.replicated` of an argument of a function, `#dist.axes`: the host gives the ranks of a
      group over these axes the same value. Other arguments are each rank's own.
  }];
  let cppNamespace = "::switchyard::dist";
  let dependentDialects = ["::switchyard::moe::MoEDialect"];
  let useDefaultAttributePrinterParser = 1;
  let hasRegionArgAttrVerify = 1;
  let extraClassDeclaration = "void registerAttributes();";
}

class Dist_Op<string mnemonic, list<Trait> traits = []> : Op<Dist_Dialect, mnemonic, traits>;

// Tensors of one shape on all ranks, of floats or of anything.
def Dist_StaticFloat : MoE_StaticTensor<
    "::switchyard::moe::kF32 | ::switchyard::moe::kBF16", "f32 or bf16", -1>;
def Dist_StaticAny : MoE_StaticTensor<
    "::switchyard::moe::kF32 | ::switchyard::moe::kBF16 | ::switchyard::moe::kI32",
    "f32, bf16 or i32", -1>;
def Dist_Float : MoE_Tensor<
    "::switchyard::moe::kF32 | ::switchyard::moe::kBF16", "f32 or bf16", -1>;
def Dist_Any : MoE_Tensor<
    "::switchyard::moe::kF32 | ::switchyard::moe::kBF16 | ::switchyard::moe::kI32",
    "f32, bf16 or i32", -1>;

// Rows that are exchanged, how many each rank has for each expert, and which round it is.
def Dist_Rows : MoE_Tensor<
    "::switchyard::moe::kF32 | ::switchyard::moe::kBF16", "f32 or bf16", 2>;
def Dist_Counts : MoE_StaticTensor<"::switchyard::moe::kI32", "i32", 2>;
def Dist_GroupSizes : MoE_StaticTensor<"::switchyard::moe::kI32", "i32", 1>;
def Dist_I32Scalar : MoE_Scalar<"::switchyard::moe::kI32", "i32", "getI32Type()">;

#endif
