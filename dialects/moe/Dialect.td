// The moe dialect: its definition, and the types, attributes and classes that its ops share.
#ifndef SWITCHYARD_DIALECTS_MOE_DIALECT
#define SWITCHYARD_DIALECTS_MOE_DIALECT

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "dialects/interfaces/DifferentiableOpInterface.td"
include "dialects/interfaces/LinearOpInterface.td"
include "dialects/interfaces/RecomputableOpInterface.td"

def MoE_Dialect : Dialect {
  let name = "moe";
  let summary = "Mixture-of-experts language models, and how they are trained, on one device.";
  let description = [{
    A module in the moe dialect declares symbols (`moe.symbol`), storage (`moe.state`) and programs:
    `func.func`s of one block over tensors of f32, bf16 and i32. Tokens are flattened and unpadded;
    the one extent that varies is the first, and its tensor says which symbol gives it:

    ```mlir
    moe.symbol @T {bound = 4096 : i64}
    moe.state @norm : tensor<64xf32> {kind = parameter} from "model.norm.weight"

    func.func @normalize(%x: tensor<?x64xf32, #moe.rows<"T">> {moe.name = "x"})
        -> (tensor<?x64xf32, #moe.rows<"T">> {moe.name = "y"}) {
      %w = moe.read @norm : tensor<64xf32>
      %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<?x64xf32, #moe.rows<"T">>, tensor<64xf32>
      return %y : tensor<?x64xf32, #moe.rows<"T">>
    }
    ```

    Every op that computes has one kernel of its name, the same operands and the same attributes
    (kernels/signatures). Constraints of an op are labelled (C1), (C2), ...: its verifier and its
    tests refer to the second constraint of `moe.linear` as `linear_c2`. Where a type
    follows from others it is inferred and not written. The README beside this file says why the
    dialect is as it is.

    Attributes of other ops:

    - `moe.name` of an argument or a result of a function: its name in the plan, a string.
    - `moe.model` of a module: what the runtime wants to know of the model and how it was compiled,
      a dictionary.
  }];
  let cppNamespace = "::switchyard::moe";
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 1;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
  let extraClassDeclaration = "void registerAttributes();";
}

// Types. Of a tensor's extents only the first may be dynamic, and is then given by #moe.rows.

class MoE_Tensor<string elements, string elementNames, int rank>
    : Type<CPred<"::switchyard::moe::isTensor($_self, " # elements # ", " # rank # ")">,
           !if(!lt(rank, 0), "", rank # "-d ") # "tensor of " # elementNames #
           " with static extents, but for a first one given by #moe.rows",
           "::mlir::RankedTensorType">;

class MoE_StaticTensor<string elements, string elementNames, int rank>
    : Type<CPred<"::switchyard::moe::isStaticTensor($_self, " # elements # ", " # rank # ")">,
           !if(!lt(rank, 0), "", rank # "-d ") # "tensor of " # elementNames #
           " with static extents", "::mlir::RankedTensorType">;

class MoE_FloatTensor<int rank>
    : MoE_Tensor<"kF32 | ::switchyard::moe::kBF16", "f32 or bf16", rank>;
class MoE_F32Tensor<int rank> : MoE_Tensor<"kF32", "f32", rank>;
class MoE_I32Tensor<int rank> : MoE_Tensor<"kI32", "i32", rank>;
class MoE_Weight<int rank>
    : MoE_StaticTensor<"kF32 | ::switchyard::moe::kBF16", "f32 or bf16", rank>;

def MoE_AnyFloat : MoE_FloatTensor<-1>;
def MoE_AnyF32 : MoE_F32Tensor<-1>;
def MoE_StateTensor : MoE_Weight<-1>;

class MoE_Scalar<string elements, string elementName, string builder>
    : Type<CPred<"::switchyard::moe::isStaticTensor($_self, " # elements # ", 0)">,
           elementName # " scalar (tensor<" # elementName # ">)", "::mlir::RankedTensorType">,
      BuildableType<"::mlir::RankedTensorType::get({}, $_builder." # builder # ")">;
def MoE_F32Scalar : MoE_Scalar<"kF32", "f32", "getF32Type()">;
def MoE_I32Scalar : MoE_Scalar<"kI32", "i32", "getI32Type()">;

// Attributes of ops: integers and reals in a range, flags, choices.

def MoE_I64 : TypedSignlessIntegerAttrBase<I64, "int64_t", "64-bit signless integer attribute">;

class MoE_Integer<int low, int high>
    : ConfinedAttr<MoE_I64, [AttrConstraint<
          CPred<"::llvm::cast<::mlir::IntegerAttr>($_self).getInt() >= " # low # " && "
                "::llvm::cast<::mlir::IntegerAttr>($_self).getInt() <= " # high>,
          "in [" # low # ", " # high # "]">]>;

def MoE_Size : MoE_Integer<1, 65536>;
def MoE_Extent : MoE_Integer<1, 1099511627776>;

def MoE_F64 : FloatAttrBase<F64, "64-bit float attribute"> {
  let returnType = "double";
  let convertFromStorage = "$_self.getValueAsDouble()";
  let constBuilderCall = "$_builder.getF64FloatAttr($0)";
}

class MoE_Real<string low, string high>
    : ConfinedAttr<MoE_F64, [AttrConstraint<
          CPred<"::llvm::cast<::mlir::FloatAttr>($_self).getValueAsDouble() >= " # low # " && "
                "::llvm::cast<::mlir::FloatAttr>($_self).getValueAsDouble() <= " # high>,
          "in [" # low # ", " # high # "]">]>;

def MoE_Window : DefaultValuedAttr<MoE_Integer<0, 1099511627776>, "0">;

def MoE_Epsilon : MoE_Real<"0.0", "1.0">;
def MoE_Factor : MoE_Real<"-1e30", "1e30">;
def MoE_Flag : DefaultValuedAttr<BoolAttr, "false">;

class MoE_Choice<string choice>
    : ConfinedAttr<StrAttr, [AttrConstraint<
          CPred<"::llvm::cast<::mlir::StringAttr>($_self).getValue() == \"" # choice # "\"">,
          "which is \"" # choice # "\"">]>;

def MoE_Score : MoE_Choice<"softmax">;
def MoE_Activation : MoE_Choice<"silu">;

// Ops.

class MoE_Op<string mnemonic, list<Trait> traits = []> : Op<MoE_Dialect, mnemonic, traits>;

// An op with a kernel.
class MoE_KernelOp<string mnemonic, list<Trait> traits = []> : MoE_Op<mnemonic, [Pure] # traits>;

// An op with a kernel and a derivative.
class MoE_DifferentiableOp<string mnemonic, list<Trait> traits = []>
    : MoE_KernelOp<mnemonic, [DeclareOpInterfaceMethods<DifferentiableOpInterface>] # traits>;

// The type of `to` is the shape of `from` in float32.
class MoE_Float32Of<string from, string to>
    : TypesMatchWith<to # " has the shape of " # from # " in float32", from, to,
                     "::switchyard::moe::withElement($_self, "
                     "::mlir::Float32Type::get($_self.getContext()))">;

// The values of `names` have one shape, the symbols of their rows included.
class MoE_AllShapesMatch<list<string> names>
    : AllMatchSameOperatorTrait<names, "::switchyard::moe::withElement($_self.getType(), "
          "::mlir::Float32Type::get($_self.getContext()))", "shape">;

#endif
