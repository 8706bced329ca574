// Gradients of routing and of the experts: what buildVjp of the op of that name makes.
#ifndef SWITCHYARD_DIALECTS_MOE_ROUTINGGRADIENTOPS
#define SWITCHYARD_DIALECTS_MOE_ROUTINGGRADIENTOPS

include "dialects/moe/Attrs.td"

def MoE_RouterGradOp : MoE_KernelOp<"router_grad", [AllTypesMatch<["logits", "dlogits"]>]> {
  let summary = "Gradient of `moe.router`.";
  let description = [{
    The softmax p is computed again. Its cotangent is dp[t, e] = dstatistics[m, 1, e], m the token's
    micro-batch, plus for each slot (t, j) of e what its weight passes: dweights[t, j], or, if
    `renormalize`, with s the sum of the token's chosen p and w = p / s:

        (dweights[t, j] - sum_i dweights[t, i] w[t, i]) / s.

    Then dlogits = p * (dp - sum_e dp p), row by row. The choice of experts is piecewise constant
    and passes nothing; inert tokens get zero.

    Constraints:
    - (C1) all operands with tokens have the same T.
    - (C2) `dweights` and `experts` have top_k columns.
    - (C3) `dstatistics` is [M, 2, E], of the E of `logits`.
    - (C4) `dlogits` has the type of `logits`.
    - (C5) top_k is in [1, E] and at most 65536; score is "softmax".

    ```mlir
    %dlogits = moe.router_grad %dweights, %dstatistics, %logits, %experts, %micro_batch_ids
        top_k 2 score "softmax"
        : tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2x8xf32, #moe.rows<"M">>,
          tensor<?x8xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>,
          tensor<?xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dweights, MoE_F32Tensor<3>:$dstatistics,
                       MoE_FloatTensor<2>:$logits, MoE_I32Tensor<2>:$experts,
                       MoE_I32Tensor<1>:$micro_batch_ids, MoE_Size:$top_k, MoE_Score:$score,
                       MoE_Flag:$renormalize);
  let results = (outs MoE_FloatTensor<2>:$dlogits);
  let assemblyFormat = [{
    $dweights `,` $dstatistics `,` $logits `,` $experts `,` $micro_batch_ids
    `top_k` $top_k `score` $score (`renormalize` $renormalize^)? attr-dict
    `:` type($dweights) `,` type($dstatistics) `,` type($logits) `,` type($experts)
    `,` type($micro_batch_ids)
  }];
  let hasVerifier = 1;
}

def MoE_RouterGradRenormalizedOp : MoE_KernelOp<"router_grad_renormalized",
    [AllTypesMatch<["weights", "dweights"]>]> {
  let summary = "Gradient of `moe.router` by renormalized weights alone.";
  let description = [{
    What `moe.router_grad` is with `renormalize` and without `dstatistics`: the weights are the
    softmax of the chosen logits, and the logits need not be kept. With w = `weights` [T, k] and
    g = `dweights`, for e = experts[t, j]:

        dlogits[t, e] = w[t, j] * sum_i w[t, i] (g[t, j] - g[t, i]),

    and 0 for all other experts. Slots whose expert is not in [0, E), E = num_experts, are skipped;
    inert tokens get zero.

    Constraints:
    - (C1) `dweights` has the type of `weights`.
    - (C2) `experts` has the T and k of `weights`.
    - (C3) `dlogits` is [T, E].
    - (C4) num_experts is in [1, 65536].

    ```mlir
    %dlogits = moe.router_grad_renormalized %dweights, %weights, %experts num_experts 8
        : tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
        -> tensor<?x8xbf16, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dweights, MoE_FloatTensor<2>:$weights,
                       MoE_I32Tensor<2>:$experts, MoE_Size:$num_experts);
  let results = (outs MoE_FloatTensor<2>:$dlogits);
  let assemblyFormat = [{
    $dweights `,` $weights `,` $experts `num_experts` $num_experts attr-dict
    `:` type($weights) `,` type($experts) `->` type($dlogits)
  }];
  let hasVerifier = 1;
}

def MoE_LoadBalanceLossGradOp : MoE_KernelOp<"load_balance_loss_grad",
    [InferTypeOpAdaptor, DeclareOpInterfaceMethods<LinearOpInterface>]> {
  let summary = "Gradient of `moe.load_balance_loss` by the statistics.";
  let description = [{
    dstatistics[m, 1, e] = dloss * aux_weights[m] * E * f[m, e] / (L n_m) in the terms of
    `moe.load_balance_loss`, and 0 for the counts in [m, 0, e]. It is the same for every layer.

    Constraints:
    - (C1) there is at least one layer.
    - (C2) `aux_weights` and all statistics have the same M.
    - (C3) all statistics are [M, 2, E].
    - (C4) `dstatistics` is [M, 2, E].
    - (C5) top_k is in [1, 65536].

    ```mlir
    %dstatistics = moe.load_balance_loss_grad %dloss, %aux_weights, %s0, %s1 top_k 2
        : tensor<f32>, tensor<?xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>,
          tensor<?x2x8xf32, #moe.rows<"M">>
    ```
  }];
  let arguments = (ins MoE_F32Scalar:$dloss, MoE_F32Tensor<1>:$aux_weights,
                       Variadic<MoE_F32Tensor<3>>:$statistics, MoE_Size:$top_k);
  let results = (outs MoE_F32Tensor<3>:$dstatistics);
  let assemblyFormat = [{
    $dloss `,` $aux_weights `,` $statistics `top_k` $top_k attr-dict `:` type(operands)
  }];
  let hasVerifier = 1;
}

def MoE_PermuteGradOp : MoE_KernelOp<"permute_grad", [InferTypeOpAdaptor]> {
  let summary = "Gradient of `moe.permute`.";
  let description = [{
    dx[t, :] = sum_j drows[row_of_slot[t, j], :] for `drows` [T * k, D], `row_of_slot` [T, k] and
    `dx` [T, D], in float32 and in top-k order; slots at -1 count nothing.

    Constraints:
    - (C1) `drows` has T * k rows.
    - (C2) `dx` is [T, D], of the elements of `drows`.

    ```mlir
    %dx = moe.permute_grad %drows, %row_of_slot
        : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$drows, MoE_I32Tensor<2>:$row_of_slot);
  let results = (outs MoE_FloatTensor<2>:$dx);
  let assemblyFormat = "$drows `,` $row_of_slot attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_PermuteGradAddOp : MoE_KernelOp<"permute_grad_add",
    [AllElementTypesMatch<["drows", "x"]>, AllTypesMatch<["x", "dx"]>]> {
  let summary = "`moe.permute_grad`, added to another tensor, in one kernel.";
  let description = [{
    `dx` [T, D] is `moe.add` of `x` [T, D] and of `moe.permute_grad` of `drows` [T * k, D] and
    `row_of_slot` [T, k]: the same bits, as the sum is rounded before it is added. `fuse-add` makes
    it, of the two gradients of what both the experts and the router take.

    Constraints:
    - (C1) `row_of_slot` and `x` have the same T.
    - (C2) `drows` has T * k rows.
    - (C3) `drows` and `x` have the same D.
    - (C4) `drows` and `x` have the same element type.
    - (C5) `dx` has the type of `x`.

    ```mlir
    %dx = moe.permute_grad_add %drows, %row_of_slot, %x
        : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<"T">>,
          tensor<?x64xf32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$drows, MoE_I32Tensor<2>:$row_of_slot,
                       MoE_FloatTensor<2>:$x);
  let results = (outs MoE_FloatTensor<2>:$dx);
  let assemblyFormat = "$drows `,` $row_of_slot `,` $x attr-dict `:` "
      "type($drows) `,` type($row_of_slot) `,` type($x)";
  let hasVerifier = 1;
}

def MoE_UnpermuteGradOp : MoE_KernelOp<"unpermute_grad", [AllTypesMatch<["rows", "drows"]>,
    AllTypesMatch<["weights", "dweights"]>, AllElementTypesMatch<["dy", "rows"]>]> {
  let summary = "Gradient of `moe.unpermute`.";
  let description = [{
    For each slot (t, j) at row r = row_of_slot[t, j]:

        drows[r, :] = weights[t, j] * dy[t, :],    dweights[t, j] = sum_d dy[t, d] rows[r, d].

    Rows of no slot are zero in `drows`, slots at -1 zero in `dweights`.

    Constraints:
    - (C1) `dy`, `weights` and `row_of_slot` have the same T.
    - (C2) `weights` and `row_of_slot` have the same k.
    - (C3) `rows` has T * k rows.
    - (C4) `dy` and `rows` have the same D.
    - (C5) `dy` and `rows` have the same element type.
    - (C6) `drows` has the type of `rows`, `dweights` that of `weights`.

    ```mlir
    %drows, %dweights = moe.unpermute_grad %dy, %rows, %weights, %row_of_slot
        : tensor<?x64xf32, #moe.rows<"T">>, tensor<?x64xf32, #moe.rows<2 * "T">>,
          tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$rows,
                       MoE_FloatTensor<2>:$weights, MoE_I32Tensor<2>:$row_of_slot);
  let results = (outs MoE_FloatTensor<2>:$drows, MoE_FloatTensor<2>:$dweights);
  let assemblyFormat = "$dy `,` $rows `,` $weights `,` $row_of_slot attr-dict `:` "
      "type($dy) `,` type($rows) `,` type($weights) `,` type($row_of_slot)";
  let hasVerifier = 1;
}

def MoE_GroupedGemmDgradOp : MoE_KernelOp<"grouped_gemm_dgrad",
    [InferTypeOpAdaptor, AllElementTypesMatch<["dy", "w"]>]> {
  let summary = "Gradient of `moe.grouped_gemm` by its data.";
  let description = [{
    dx[r, k] = sum_n dy[r, n] w[e, n, k], e the expert of row r, for `dy` [R, N], `w` [E, N, K] and
    `dx` [R, K]. Rows after the last group are zero.

    Constraints:
    - (C1) `dy` and `w` have the same N.
    - (C2) `w` and `group_sizes` have the same E.
    - (C3) `dy` and `w` have the same element type.
    - (C4) `dx` is [R, K], of the same elements.

    ```mlir
    %dx = moe.grouped_gemm_dgrad %dy, %w, %group_sizes
        : tensor<?x192xf32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_Weight<3>:$w, MoE_I32Tensor<1>:$group_sizes);
  let results = (outs MoE_FloatTensor<2>:$dx);
  let assemblyFormat = "$dy `,` $w `,` $group_sizes attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_GroupedGemmWgradOp : MoE_KernelOp<"grouped_gemm_wgrad",
    [AllElementTypesMatch<["dy", "x"]>]> {
  let summary = "Gradient of `moe.grouped_gemm` by its weight.";
  let description = [{
    dw[e, n, k] = sum of dy[r, n] x[r, k] over the rows r of expert e, for `dy` [R, N], `x` [R, K],
    `group_sizes` [E] and `dw` [E, N, K]; zero for an expert without rows. The sum is in float32;
    `dw` is it, or its rounding to the element type of `dy` and `x`.

    Canonicalizes: where all that is done with the sum is to round it to the operands' element type
    (`moe.cast`), it is rounded at once.

    Constraints:
    - (C1) `dy` and `x` have the same R.
    - (C2) `dy` and `x` have the same element type.
    - (C3) `dw` is [E, N, K].
    - (C4) `dw` is in f32 or has the element type of `dy` and `x`.

    ```mlir
    %dw = moe.grouped_gemm_wgrad %dy, %x, %group_sizes
        : tensor<?x192xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<2 * "T">>,
          tensor<8xi32> -> tensor<8x192x64xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$x,
                       MoE_StaticTensor<"kI32", "i32", 1>:$group_sizes);
  let results = (outs MoE_FloatTensor<3>:$dw);
  let builders = [ // `dw` in f32
    OpBuilder<(ins "::mlir::Value":$dy, "::mlir::Value":$x, "::mlir::Value":$group_sizes)>,
  ];
  let assemblyFormat =
      "$dy `,` $x `,` $group_sizes attr-dict `:` type(operands) `->` type($dw)";
  let hasCanonicalizer = 1;
  let hasVerifier = 1;
}

def MoE_GroupedGemmWgradSquaredOp : MoE_KernelOp<"grouped_gemm_wgrad_squared",
    [AllElementTypesMatch<["dy", "x"]>]> {
  let summary = "`moe.grouped_gemm_wgrad`, and the sum of its squares.";
  let description = [{
    `dw` [E, N, K] is `moe.grouped_gemm_wgrad` of `dy` [R, N], `x` [R, K] and `group_sizes` [E], the
    same bits; `squares` is `moe.sum_of_squares` of `dw` as it is stored, whose terms may be added in
    another order. `fuse-norm` makes it.

    Constraints:
    - (C1) `dy` and `x` have the same R.
    - (C2) `dy` and `x` have the same element type.
    - (C3) `dw` is [E, N, K].
    - (C4) `dw` is in f32 or has the element type of `dy` and `x`.

    ```mlir
    %dw, %squares = moe.grouped_gemm_wgrad_squared %dy, %x, %group_sizes
        : tensor<?x192xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<2 * "T">>,
          tensor<8xi32> -> tensor<8x192x64xbf16>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$x,
                       MoE_StaticTensor<"kI32", "i32", 1>:$group_sizes);
  let results = (outs MoE_FloatTensor<3>:$dw, MoE_F32Scalar:$squares);
  let assemblyFormat =
      "$dy `,` $x `,` $group_sizes attr-dict `:` type(operands) `->` type($dw)";
  let hasVerifier = 1;
}

def MoE_GroupedGemmWgradAccumulateOp : MoE_KernelOp<"grouped_gemm_wgrad_accumulate",
    [AllElementTypesMatch<["dy", "x"]>, AllTypesMatch<["accumulator", "result"]>]> {
  let summary = "`moe.grouped_gemm_wgrad`, added to what there is.";
  let description = [{
    The result is `moe.accumulate` of `accumulator` [E, N, K] and the float32 `moe.grouped_gemm_wgrad`
    of `dy` [R, N], `x` [R, K] and `group_sizes` [E], the same bits, without the latter. Where an
    expert has no rows the accumulator stays as it is. `fuse-accumulate` makes it.

    Constraints:
    - (C1) `dy` and `x` have the same R.
    - (C2) `dy` and `x` have the same element type.
    - (C3) `accumulator` is [E, N, K].
    - (C4) `accumulator` is in f32 or has the element type of `dy` and `x`.
    - (C5) the result has the type of `accumulator`.

    ```mlir
    %sum = moe.grouped_gemm_wgrad_accumulate %dy, %x, %group_sizes, %accumulator
        : tensor<?x192xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<2 * "T">>,
          tensor<8xi32>, tensor<8x192x64xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$x,
                       MoE_StaticTensor<"kI32", "i32", 1>:$group_sizes,
                       MoE_FloatTensor<3>:$accumulator);
  let results = (outs MoE_FloatTensor<3>:$result);
  let assemblyFormat = "$dy `,` $x `,` $group_sizes `,` $accumulator attr-dict `:` "
      "type($dy) `,` type($x) `,` type($group_sizes) `,` type($accumulator)";
  let hasVerifier = 1;
}

def MoE_GatedActivationGradOp : MoE_KernelOp<"gated_activation_grad",
    [AllTypesMatch<["gate_up", "dgate_up"]>, AllElementTypesMatch<["dy", "gate_up"]>]> {
  let summary = "Gradient of `moe.gated_activation`.";
  let description = [{
    With [g | u] = gate_up, row by row:

        dgate_up = [dy * u * activation'(g) | dy * activation(g)].

    Constraints:
    - (C1) `dy` and `gate_up` have the same R.
    - (C2) `gate_up` has twice as many columns as `dy`.
    - (C3) `dy` and `gate_up` have the same element type.
    - (C4) `dgate_up` has the type of `gate_up`.
    - (C5) activation is "silu".

    ```mlir
    %dgate_up = moe.gated_activation_grad %dy, %gate_up activation "silu"
        : tensor<?x96xf32, #moe.rows<2 * "T">>, tensor<?x192xf32, #moe.rows<2 * "T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$gate_up,
                       MoE_Activation:$activation);
  let results = (outs MoE_FloatTensor<2>:$dgate_up);
  let assemblyFormat = [{
    $dy `,` $gate_up `activation` $activation attr-dict `:` type($dy) `,` type($gate_up)
  }];
  let hasVerifier = 1;
}

def MoE_GroupedGemmDgradGatedOp : MoE_KernelOp<"grouped_gemm_dgrad_gated",
    [InferTypeOpAdaptor, AllElementTypesMatch<["dy", "w", "gate_up"]>]> {
  let summary = "The gradient by data of a grouped GEMM of gated rows, and of their activation.";
  let description = [{
    `dgate_up` [R, 2 F] is `moe.gated_activation_grad` of `gate_up` [R, 2 F] and of what
    `moe.grouped_gemm_dgrad` makes of `dy` [R, N], `w` [E, N, F] and `group_sizes` [E]; `y` [R, F]
    is `moe.gated_activation` of `gate_up`, computed again on the way, so that it need not be kept
    for the gradient by weight. All are the same bits as those of the single ops. `fuse` makes it.

    Constraints:
    - (C1) `dy` and `w` have the same N.
    - (C2) `w` and `group_sizes` have the same E.
    - (C3) `gate_up` has the R of `dy`, and twice as many columns as `w`.
    - (C4) `dy`, `w` and `gate_up` have the same element type.
    - (C5) `dgate_up` has the type of `gate_up`, `y` is [R, F] of its elements.
    - (C6) activation is "silu".

    ```mlir
    %dgate_up, %y = moe.grouped_gemm_dgrad_gated %dy, %w, %group_sizes, %gate_up activation "silu"
        : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x64x96xf32>, tensor<8xi32>,
          tensor<?x192xf32, #moe.rows<2 * "T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_Weight<3>:$w, MoE_I32Tensor<1>:$group_sizes,
                       MoE_FloatTensor<2>:$gate_up, MoE_Activation:$activation);
  let results = (outs MoE_FloatTensor<2>:$dgate_up, MoE_FloatTensor<2>:$y);
  let assemblyFormat = [{
    $dy `,` $w `,` $group_sizes `,` $gate_up `activation` $activation attr-dict `:` type(operands)
  }];
  let hasVerifier = 1;
}

#endif
