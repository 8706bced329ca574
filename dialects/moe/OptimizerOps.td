// What happens to gradients: accumulation over passes, the clipped norm, AdamW.
//
// A result that the formulas call by an operand's name with a prime is tied to that operand: a
// kernel overwrites it in place.
#ifndef SWITCHYARD_DIALECTS_MOE_OPTIMIZEROPS
#define SWITCHYARD_DIALECTS_MOE_OPTIMIZEROPS

include "dialects/moe/Attrs.td"

def MoE_AccumulateOp : MoE_KernelOp<"accumulate", [AllTypesMatch<["accumulator", "result"]>,
    MoE_AllShapesMatch<["accumulator", "value"]>, DeclareOpInterfaceMethods<LinearOpInterface>]> {
  let summary = "Adds to a buffer of another width.";
  let description = [{
    accumulator' = cast(accumulator + value), elementwise: the sum in float32, one rounding to the
    accumulator's element type.

    Folds: to the accumulator if the value is a zero constant.

    Constraints:
    - (C1) `accumulator` and `value` have the same shape.
    - (C2) the result has the type of `accumulator`.

    ```mlir
    %sum = moe.accumulate %accumulator, %value : tensor<64xbf16>, tensor<64xf32>
    ```
  }];
  let arguments = (ins MoE_AnyFloat:$accumulator, MoE_AnyFloat:$value);
  let results = (outs MoE_AnyFloat:$result);
  let assemblyFormat = "$accumulator `,` $value attr-dict `:` type($accumulator) `,` type($value)";
  let hasFolder = 1;
}

def MoE_SumOfSquaresOp : MoE_KernelOp<"sum_of_squares"> {
  let summary = "The sum of the squares of a tensor's elements.";
  let description = [{
    y = sum of x^2, in float32, in an order that does not depend on the number of threads.

    ```mlir
    %y = moe.sum_of_squares %x : tensor<128x64xbf16>
    ```
  }];
  let arguments = (ins MoE_AnyFloat:$x);
  let results = (outs MoE_F32Scalar:$y);
  let assemblyFormat = "$x attr-dict `:` type($x)";
}

def MoE_ClipOp : MoE_KernelOp<"clip"> {
  let summary = "What the global norm of the gradients means for the update.";
  let description = [{
    As torch.nn.utils.clip_grad_norm_:

        grad_norm = sqrt(sum_of_squares)
        coefficient = min(1, max_grad_norm / (grad_norm + 1e-6)), 1 where max_grad_norm <= 0
        apply = 1 if grad_norm is finite, else 0

    ```mlir
    %grad_norm, %coefficient, %apply = moe.clip %sum_of_squares to %max_grad_norm
    ```
  }];
  let arguments = (ins MoE_F32Scalar:$sum_of_squares, MoE_F32Scalar:$max_grad_norm);
  let results = (outs MoE_F32Scalar:$grad_norm, MoE_F32Scalar:$coefficient, MoE_I32Scalar:$apply);
  let assemblyFormat = "$sum_of_squares `to` $max_grad_norm attr-dict";
}

class MoE_Hyperparameters {
  dag arguments = (ins MoE_F32Scalar:$coefficient, MoE_I32Scalar:$apply,
      MoE_F32Scalar:$learning_rate, MoE_F32Scalar:$beta1, MoE_F32Scalar:$beta2,
      MoE_F32Scalar:$epsilon, MoE_F32Scalar:$weight_decay, MoE_F32Scalar:$step, MoE_Flag:$decay);
  string assembly = "`times` $coefficient `if` $apply `rate` $learning_rate "
      "`betas` $beta1 `,` $beta2 `epsilon` $epsilon `weight_decay` $weight_decay `step` $step "
      "(`decay` $decay^)?";
}
defvar hyperparameters = MoE_Hyperparameters<>;

def MoE_AdamwOp : MoE_KernelOp<"adamw", [
    AllTypesMatch<["param", "new_param"]>, AllTypesMatch<["exp_avg", "exp_avg_sq", "new_exp_avg",
    "new_exp_avg_sq"]>, MoE_AllShapesMatch<["param", "exp_avg", "grad"]>]> {
  let summary = "An AdamW update of a parameter.";
  let description = [{
    Loshchilov & Hutter 2019, as torch.optim.AdamW, elementwise in float32 with one rounding where a
    result is stored; `step` counts from 1, `decay` says whether weight_decay applies:

        g = coefficient * grad
        m' = beta1 m + (1 - beta1) g                 (m = exp_avg)
        v' = beta2 v + (1 - beta2) g^2               (v = exp_avg_sq)
        param' = param (1 - learning_rate weight_decay)
                 - learning_rate / (1 - beta1^step) m' / (sqrt(v' / (1 - beta2^step)) + epsilon)

    Where `apply` is 0 the results are the operands.

    Constraints:
    - (C1) `param`, the moments and `grad` have the same shape.
    - (C2) the moments have the same type.
    - (C3) the results have the types of `param`, `exp_avg` and `exp_avg_sq`.

    ```mlir
    %p, %m, %v = moe.adamw %param, %exp_avg, %exp_avg_sq, %grad times %coefficient if %apply
        rate %learning_rate betas %beta1, %beta2 epsilon %epsilon weight_decay %weight_decay
        step %step decay true : tensor<64xf32>, tensor<64xf32>, tensor<64xf32>
    ```
  }];
  let arguments = !con((ins MoE_StateTensor:$param, MoE_StateTensor:$exp_avg,
                            MoE_StateTensor:$exp_avg_sq, MoE_StateTensor:$grad),
                       hyperparameters.arguments);
  let results = (outs MoE_StateTensor:$new_param, MoE_StateTensor:$new_exp_avg,
                      MoE_StateTensor:$new_exp_avg_sq);
  let assemblyFormat = !strconcat("$param `,` $exp_avg `,` $exp_avg_sq `,` $grad ",
      hyperparameters.assembly,
      " attr-dict `:` type($param) `,` type($exp_avg) `,` type($grad)");
}

def MoE_AdamwMasterOp : MoE_KernelOp<"adamw_master", [
    AllTypesMatch<["param", "new_param"]>, AllTypesMatch<["exp_avg", "exp_avg_sq", "new_exp_avg",
    "new_exp_avg_sq"]>, AllTypesMatch<["master", "new_master"]>,
    MoE_AllShapesMatch<["param", "exp_avg", "master", "grad"]>]> {
  let summary = "An AdamW update of a parameter that has a master in float32.";
  let description = [{
    `moe.adamw` with `master` in the place of `param`; then param' = cast(master').

    Constraints:
    - (C1) `param`, the moments, `master` and `grad` have the same shape.
    - (C2) the moments have the same type.
    - (C3) the results have the types of `param`, `exp_avg`, `exp_avg_sq` and `master`.

    ```mlir
    %p, %m, %v, %w = moe.adamw_master %param, %exp_avg, %exp_avg_sq, %master, %grad
        times %coefficient if %apply rate %learning_rate betas %beta1, %beta2 epsilon %epsilon
        weight_decay %weight_decay step %step decay true
        : tensor<64xbf16>, tensor<64xf32>, tensor<64xf32>, tensor<64xf32>
    ```
  }];
  let arguments = !con((ins MoE_StateTensor:$param, MoE_StateTensor:$exp_avg,
                            MoE_StateTensor:$exp_avg_sq,
                            MoE_StaticTensor<"kF32", "f32", -1>:$master, MoE_StateTensor:$grad),
                       hyperparameters.arguments);
  let results = (outs MoE_StateTensor:$new_param, MoE_StateTensor:$new_exp_avg,
                      MoE_StateTensor:$new_exp_avg_sq,
                      MoE_StaticTensor<"kF32", "f32", -1>:$new_master);
  let assemblyFormat = !strconcat("$param `,` $exp_avg `,` $exp_avg_sq `,` $master `,` $grad ",
      hyperparameters.assembly,
      " attr-dict `:` type($param) `,` type($exp_avg) `,` type($master) `,` type($grad)");
}

#endif
