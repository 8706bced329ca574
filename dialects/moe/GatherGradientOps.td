// Gradients of experts whose tokens stand where they stand, or were permuted without their weights.
#ifndef SWITCHYARD_DIALECTS_MOE_GATHERGRADIENTOPS
#define SWITCHYARD_DIALECTS_MOE_GATHERGRADIENTOPS

include "dialects/moe/Attrs.td"

def MoE_GroupedGemmDgradGatedGatherOp : MoE_KernelOp<"grouped_gemm_dgrad_gated_gather",
    [InferTypeOpAdaptor, AllElementTypesMatch<["dy", "w", "gate_up"]>]> {
  let summary = "The experts' gradient from that of the tokens: by gated rows and by weights.";
  let description = [{
    What `moe.unpermute_grad` and `moe.grouped_gemm_dgrad_gated` behind it are for, without rows of
    `dy` and without the experts' results. For row r of expert e, `dy` [T, N], `token_of_row` and
    `weight_of_row` [R], `row_of_slot` [T, k], `w` [E, N, F], `group_sizes` [E] and `gate_up` [R, 2
    F], with y0 [R, F] what `moe.gated_activation` makes of `gate_up`:

        p[r, f] = sum_n dy[token_of_row[r], n] w[e, n, f],
        dgate_up[r, :] = the activation's gradient by weight_of_row[r] p[r, :],
        y[r, f] = weight_of_row[r] y0[r, f],
        dweights[t, j] = sum_f p[r, f] y0[r, f] where r = row_of_slot[t, j].

    `y` is what the gradient by `w` contracts with `dy`. A row of no token, and one after the last
    group, has p = 0; a slot at -1 has zero in `dweights`.

    p and y0 are rounded to the element type, and weighted behind that; `moe.unpermute_grad` weights
    and rounds `dy`, and its `dweights` are sums over n: not the same bits. `gather-rows` makes it.

    Constraints:
    - (C1) `dy` and `row_of_slot` have the same T.
    - (C2) `dy` and `w` have the same N.
    - (C3) `w` and `group_sizes` have the same E.
    - (C4) `token_of_row`, `weight_of_row` and `gate_up` have the same R, and `gate_up` has twice as
      many columns as `w`.
    - (C5) `dy`, `w` and `gate_up` have the same element type.
    - (C6) `dgate_up` has the type of `gate_up`, `y` is [R, F] of its elements, `dweights` [T, k] of
      those of `weight_of_row`.
    - (C7) activation is "silu".

    ```mlir
    %dgate_up, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row,
        %weight_of_row, %row_of_slot, %w, %group_sizes, %gate_up activation "silu"
        : tensor<?x64xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>,
          tensor<?xf32, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x64x96xf32>,
          tensor<8xi32>, tensor<?x192xf32, #moe.rows<2 * "T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_I32Tensor<1>:$token_of_row,
                       MoE_FloatTensor<1>:$weight_of_row, MoE_I32Tensor<2>:$row_of_slot,
                       MoE_Weight<3>:$w, MoE_I32Tensor<1>:$group_sizes,
                       MoE_FloatTensor<2>:$gate_up, MoE_Activation:$activation);
  let results = (outs MoE_FloatTensor<2>:$dgate_up, MoE_FloatTensor<2>:$y,
                      MoE_FloatTensor<2>:$dweights);
  let assemblyFormat = [{
    $dy `,` $token_of_row `,` $weight_of_row `,` $row_of_slot `,` $w `,` $group_sizes `,` $gate_up
    `activation` $activation attr-dict `:` type(operands)
  }];
  let hasVerifier = 1;
}

def MoE_GroupedGemmDgradGatedWeightedOp : MoE_KernelOp<"grouped_gemm_dgrad_gated_weighted",
    [InferTypeOpAdaptor, AllElementTypesMatch<["dy", "w", "gate_up"]>]> {
  let summary = "`moe.grouped_gemm_dgrad_gated_gather` of rows that were permuted before.";
  let description = [{
    `dgate_up` [R, 2 F], `y` [R, F] and `dweights` [T, k] are what
    `moe.grouped_gemm_dgrad_gated_gather` makes, with p[r, f] = sum_n dy[r, n] w[e, n, f], for `dy`
    [R, N], `weight_of_row` [R], `row_of_slot` [T, k], `w` [E, N, F], `group_sizes` [E] and `gate_up`
    [R, 2 F]. `gather-rows` makes it, of rows that `moe.permute` made of the tokens' gradient.

    Constraints:
    - (C1) `dy` and `w` have the same N.
    - (C2) `w` and `group_sizes` have the same E.
    - (C3) `weight_of_row` and `gate_up` have the R of `dy`, and `gate_up` has twice as many columns
      as `w`.
    - (C4) `dy`, `w` and `gate_up` have the same element type.
    - (C5) `dgate_up` has the type of `gate_up`, `y` is [R, F] of its elements, `dweights` [T, k] of
      those of `weight_of_row`.
    - (C6) activation is "silu".

    ```mlir
    %dgate_up, %y, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy, %weight_of_row,
        %row_of_slot, %w, %group_sizes, %gate_up activation "silu"
        : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<?xf32, #moe.rows<2 * "T">>,
          tensor<?x2xi32, #moe.rows<"T">>, tensor<8x64x96xf32>, tensor<8xi32>,
          tensor<?x192xf32, #moe.rows<2 * "T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<1>:$weight_of_row,
                       MoE_I32Tensor<2>:$row_of_slot, MoE_Weight<3>:$w,
                       MoE_I32Tensor<1>:$group_sizes, MoE_FloatTensor<2>:$gate_up,
                       MoE_Activation:$activation);
  let results = (outs MoE_FloatTensor<2>:$dgate_up, MoE_FloatTensor<2>:$y,
                      MoE_FloatTensor<2>:$dweights);
  let assemblyFormat = [{
    $dy `,` $weight_of_row `,` $row_of_slot `,` $w `,` $group_sizes `,` $gate_up
    `activation` $activation attr-dict `:` type(operands)
  }];
  let hasVerifier = 1;
}

def MoE_GroupedGemmWgradGatherXOp : MoE_KernelOp<"grouped_gemm_wgrad_gather_x",
    [AllElementTypesMatch<["dy", "x"]>]> {
  let summary = "`moe.grouped_gemm_wgrad` where `x` are tokens where they stand.";
  let description = [{
    `dw` [E, N, K] is `moe.grouped_gemm_wgrad` of `dy` [R, N] and of rows of which row r is
    x[token_of_row[r], :], or zero where that is no token, for `x` [T, K], `token_of_row` [R] and
    `group_sizes` [E]: the same bits, without the rows. `gather-rows` makes it.

    Constraints:
    - (C1) `dy` and `token_of_row` have the same R.
    - (C2) `dy` and `x` have the same element type.
    - (C3) `dw` is [E, N, K].
    - (C4) `dw` is in f32 or has the element type of `dy` and `x`.

    ```mlir
    %dw = moe.grouped_gemm_wgrad_gather_x %dy, %x, %token_of_row, %group_sizes
        : tensor<?x192xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<"T">>,
          tensor<?xi32, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x192x64xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$x,
                       MoE_I32Tensor<1>:$token_of_row, MoE_I32Tensor<1>:$group_sizes);
  let results = (outs MoE_FloatTensor<3>:$dw);
  let assemblyFormat = [{
    $dy `,` $x `,` $token_of_row `,` $group_sizes attr-dict `:` type(operands) `->` type($dw)
  }];
  let hasVerifier = 1;
}

def MoE_GroupedGemmWgradGatherDyOp : MoE_KernelOp<"grouped_gemm_wgrad_gather_dy",
    [AllElementTypesMatch<["dy", "x"]>]> {
  let summary = "`moe.grouped_gemm_wgrad` where `dy` are tokens where they stand.";
  let description = [{
    `dw` [E, N, K] is `moe.grouped_gemm_wgrad` of rows of which row r is dy[token_of_row[r], :], or
    zero where that is no token, and of `x` [R, K], for `dy` [T, N], `token_of_row` [R] and
    `group_sizes` [E]: the same bits, without the rows. `gather-rows` makes it.

    Constraints:
    - (C1) `token_of_row` and `x` have the same R.
    - (C2) `dy` and `x` have the same element type.
    - (C3) `dw` is [E, N, K].
    - (C4) `dw` is in f32 or has the element type of `dy` and `x`.

    ```mlir
    %dw = moe.grouped_gemm_wgrad_gather_dy %dy, %token_of_row, %x, %group_sizes
        : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>,
          tensor<?x96xbf16, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x96xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_I32Tensor<1>:$token_of_row,
                       MoE_FloatTensor<2>:$x, MoE_I32Tensor<1>:$group_sizes);
  let results = (outs MoE_FloatTensor<3>:$dw);
  let assemblyFormat = [{
    $dy `,` $token_of_row `,` $x `,` $group_sizes attr-dict `:` type(operands) `->` type($dw)
  }];
  let hasVerifier = 1;
}

def MoE_GroupedGemmWgradGatherXAccumulateOp : MoE_KernelOp<"grouped_gemm_wgrad_gather_x_accumulate",
    [AllElementTypesMatch<["dy", "x"]>, AllTypesMatch<["accumulator", "result"]>]> {
  let summary = "`moe.grouped_gemm_wgrad_gather_x`, added to what there is.";
  let description = [{
    The result is `moe.accumulate` of `accumulator` [E, N, K] and the float32
    `moe.grouped_gemm_wgrad_gather_x` of `dy` [R, N], `x` [T, K], `token_of_row` [R] and
    `group_sizes` [E], the same bits, without the latter. `fuse-accumulate` makes it.

    Constraints:
    - (C1) `dy` and `token_of_row` have the same R.
    - (C2) `dy` and `x` have the same element type.
    - (C3) `accumulator` is [E, N, K].
    - (C4) `accumulator` is in f32 or has the element type of `dy` and `x`.
    - (C5) the result has the type of `accumulator`.

    ```mlir
    %sum = moe.grouped_gemm_wgrad_gather_x_accumulate %dy, %x, %token_of_row, %group_sizes, %accumulator
        : tensor<?x192xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<"T">>,
          tensor<?xi32, #moe.rows<2 * "T">>, tensor<8xi32>, tensor<8x192x64xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$x,
                       MoE_I32Tensor<1>:$token_of_row, MoE_I32Tensor<1>:$group_sizes,
                       MoE_FloatTensor<3>:$accumulator);
  let results = (outs MoE_FloatTensor<3>:$result);
  let assemblyFormat = [{
    $dy `,` $x `,` $token_of_row `,` $group_sizes `,` $accumulator attr-dict `:`
    type($dy) `,` type($x) `,` type($token_of_row) `,` type($group_sizes) `,` type($accumulator)
  }];
  let hasVerifier = 1;
}

def MoE_GroupedGemmWgradGatherDyAccumulateOp : MoE_KernelOp<"grouped_gemm_wgrad_gather_dy_accumulate",
    [AllElementTypesMatch<["dy", "x"]>, AllTypesMatch<["accumulator", "result"]>]> {
  let summary = "`moe.grouped_gemm_wgrad_gather_dy`, added to what there is.";
  let description = [{
    The result is `moe.accumulate` of `accumulator` [E, N, K] and the float32
    `moe.grouped_gemm_wgrad_gather_dy` of `dy` [T, N], `token_of_row` [R], `x` [R, K] and
    `group_sizes` [E], the same bits, without the latter. `fuse-accumulate` makes it.

    Constraints:
    - (C1) `token_of_row` and `x` have the same R.
    - (C2) `dy` and `x` have the same element type.
    - (C3) `accumulator` is [E, N, K].
    - (C4) `accumulator` is in f32 or has the element type of `dy` and `x`.
    - (C5) the result has the type of `accumulator`.

    ```mlir
    %sum = moe.grouped_gemm_wgrad_gather_dy_accumulate %dy, %token_of_row, %x, %group_sizes, %accumulator
        : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>,
          tensor<?x96xbf16, #moe.rows<2 * "T">>, tensor<8xi32>, tensor<8x64x96xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_I32Tensor<1>:$token_of_row,
                       MoE_FloatTensor<2>:$x, MoE_I32Tensor<1>:$group_sizes,
                       MoE_FloatTensor<3>:$accumulator);
  let results = (outs MoE_FloatTensor<3>:$result);
  let assemblyFormat = [{
    $dy `,` $token_of_row `,` $x `,` $group_sizes `,` $accumulator attr-dict `:`
    type($dy) `,` type($token_of_row) `,` type($x) `,` type($group_sizes) `,` type($accumulator)
  }];
  let hasVerifier = 1;
}

#endif
