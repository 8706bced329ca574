// Routing tokens to experts, and the experts.
#ifndef SWITCHYARD_DIALECTS_MOE_ROUTINGOPS
#define SWITCHYARD_DIALECTS_MOE_ROUTINGOPS

include "dialects/moe/Attrs.td"

def MoE_RouterOp : MoE_DifferentiableOp<"router",
    [TypesMatchWith<"experts has the shape of weights in i32", "weights", "experts",
                   "::switchyard::moe::withElement($_self, "
                   "::mlir::IntegerType::get($_self.getContext(), 32))">]> {
  let summary = "Chooses each token's experts and their weights.";
  let description = [{
    p[t, :] = softmax(logits[t, :]) in float32 for `logits` [T, E]; `experts` [T, k] holds the k =
    top_k experts of the largest p, the larger first and among equals the lower index first;
    `weights` [T, k] are their p, divided by their sum if `renormalize`, cast to the element type of
    `weights`. A token whose micro-batch id is negative is inert: its experts are -1, its weights 0.

    `statistics` [M, 2, E] holds for micro-batch m the number of slots (t, j) routed to e in [m, 0,
    e] and the sum of p[t, e] (cast to the logits' element type) over its tokens in [m, 1, e].

    Constraints:
    - (C1) `logits` and `micro_batch_ids` have the same T.
    - (C2) `weights` and `experts` are [T, top_k].
    - (C3) `statistics` is [M, 2, E].
    - (C4) top_k is in [1, E] and at most 65536; score is "softmax".

    ```mlir
    %weights, %experts, %statistics = moe.router %logits, %micro_batch_ids top_k 2 score "softmax"
        renormalize true : tensor<?x8xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"T">>
        -> tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2x8xf32, #moe.rows<"M">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$logits, MoE_I32Tensor<1>:$micro_batch_ids,
                       MoE_Size:$top_k, MoE_Score:$score, MoE_Flag:$renormalize);
  let results = (outs MoE_FloatTensor<2>:$weights, MoE_I32Tensor<2>:$experts,
                      MoE_F32Tensor<3>:$statistics);
  let builders = [
    // Weights of `weightElement`, statistics of `microBatches` many micro-batches.
    OpBuilder<(ins "::mlir::Value":$logits, "::mlir::Value":$microBatchIds, "int64_t":$topK,
        "::llvm::StringRef":$score, "bool":$renormalize, "::mlir::Type":$weightElement,
        "RowsAttr":$microBatches)>,
  ];
  let assemblyFormat = [{
    $logits `,` $micro_batch_ids `top_k` $top_k `score` $score (`renormalize` $renormalize^)?
    attr-dict `:` type($logits) `,` type($micro_batch_ids) `->` type($weights) `,` type($statistics)
  }];
  let hasVerifier = 1;
}

def MoE_ExpertsOp : MoE_Op<"experts",
    [Pure, AllElementTypesMatch<["x", "gate_up", "down"]>, AllTypesMatch<["x", "y"]>]> {
  let summary = "The feed-forward networks of the experts that tokens were routed to.";
  let description = [{
    For `x` [T, D], `weights` and `experts` [T, k], `gate_up` [E, 2 F, D] and `down` [E, D, F], with
    e = experts[t, j] and [g | u] = gate_up[e] x[t]:

        y[t] = sum_j weights[t, j] * down[e] (activation(g) * u)

    in top-k order; slots with experts[t, j] = -1 count nothing, no token is ever dropped. It is
    what a model means; `lower-experts` says how: permute, grouped_gemm, gated_activation,
    grouped_gemm, unpermute. It has no kernel, and is lowered before it is differentiated.

    Constraints:
    - (C1) `x`, `weights` and `experts` have the same T.
    - (C2) `weights` and `experts` have the same k.
    - (C3) `gate_up` and `down` have the same E.
    - (C4) rows of `x`, rows of `down` and columns of `gate_up` have the same D.
    - (C5) `gate_up` has twice as many rows as `down` has columns.
    - (C6) `x`, `gate_up` and `down` have the same element type.
    - (C7) `y` has the type of `x`.
    - (C8) activation is "silu".

    ```mlir
    %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
        : tensor<?x64xf32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>,
          tensor<?x2xi32, #moe.rows<"T">>, tensor<8x192x64xf32>, tensor<8x64x96xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_FloatTensor<2>:$weights,
                       MoE_I32Tensor<2>:$experts, MoE_Weight<3>:$gate_up, MoE_Weight<3>:$down,
                       MoE_Activation:$activation);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = [{
    $x `,` $weights `,` $experts `,` $gate_up `,` $down `activation` $activation attr-dict
    `:` type($x) `,` type($weights) `,` type($experts) `,` type($gate_up) `,` type($down)
  }];
  let hasVerifier = 1;
}

def MoE_LoadBalanceLossOp : MoE_DifferentiableOp<"load_balance_loss",
    [InferTypeOpAdaptor, DeclareOpInterfaceMethods<LinearOpInterface>]> {
  let summary = "The load-balancing loss over all layers' router statistics.";
  let description = [{
    Fedus et al. 2021, as transformers' load_balancing_loss_func. With L `statistics` [M, 2, E], n_m
    the tokens of micro-batch m (the sum of its counts divided by top_k) and `aux_weights` [M]:

        f[m, e] = sum_l statistics[l][m, 0, e] / (L n_m)
        P[m, e] = sum_l statistics[l][m, 1, e] / (L n_m)
        loss = sum_m aux_weights[m] * E * sum_e f[m, e] P[m, e]

    A micro-batch without tokens counts 0. `expert_counts` [L, E] is the number of slots that went
    to each expert, over all micro-batches. The loss is differentiated by the sums of probabilities;
    the counts are integers.

    Constraints:
    - (C1) there is at least one layer.
    - (C2) `aux_weights` and all statistics have the same M.
    - (C3) all statistics are [M, 2, E].
    - (C4) `expert_counts` is [L, E].
    - (C5) top_k is in [1, 65536].

    ```mlir
    %loss, %expert_counts = moe.load_balance_loss %aux_weights, %s0, %s1 top_k 2
        : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>,
          tensor<?x2x8xf32, #moe.rows<"M">>
    ```
  }];
  let arguments = (ins MoE_F32Tensor<1>:$aux_weights, Variadic<MoE_F32Tensor<3>>:$statistics,
                       MoE_Size:$top_k);
  let results = (outs MoE_F32Scalar:$loss, MoE_F32Tensor<2>:$expert_counts);
  let assemblyFormat = "$aux_weights `,` $statistics `top_k` $top_k attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_SortByExpertOp : MoE_KernelOp<"sort_by_expert", [InferTypeOpAdaptor]> {
  let summary = "Orders slots by expert.";
  let description = [{
    The slots (t, j) of `experts` [T, k] are ordered by expert, those of one expert by t, then by j:
    `row_of_slot` [T, k] is the row of each slot in that order, -1 where the expert is -1, and
    `group_sizes` [E], E = num_experts, the number of rows of each expert.

    Constraints:
    - (C1) `group_sizes` is [E] and `row_of_slot` [T, k], both i32.
    - (C2) num_experts is in [1, 65536].

    ```mlir
    %group_sizes, %row_of_slot = moe.sort_by_expert %experts num_experts 8
        : tensor<?x2xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_I32Tensor<2>:$experts, MoE_Size:$num_experts);
  let results = (outs MoE_I32Tensor<1>:$group_sizes, MoE_I32Tensor<2>:$row_of_slot);
  let assemblyFormat = "$experts `num_experts` $num_experts attr-dict `:` type(operands)";
}

def MoE_PermuteOp : MoE_DifferentiableOp<"permute",
    [RecomputableOpInterface, InferTypeOpAdaptor]> {
  let summary = "Copies tokens to the rows of their slots.";
  let description = [{
    rows[row_of_slot[t, j], :] = x[t, :] for `x` [T, D], `row_of_slot` [T, k] and `rows` [T * k, D];
    slots at -1 go nowhere, rows of no slot are zero.

    Constraints:
    - (C1) `x` and `row_of_slot` have the same T.
    - (C2) `rows` is [T * k, D], of the elements of `x`.

    ```mlir
    %rows = moe.permute %x, %row_of_slot
        : tensor<?x64xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_I32Tensor<2>:$row_of_slot);
  let results = (outs MoE_FloatTensor<2>:$rows);
  let assemblyFormat = "$x `,` $row_of_slot attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_UnpermuteOp : MoE_DifferentiableOp<"unpermute", [InferTypeOpAdaptor]> {
  let summary = "Sums each token's rows, weighted.";
  let description = [{
    y[t, :] = sum_j weights[t, j] * rows[row_of_slot[t, j], :] for `rows` [T * k, D], `weights` and
    `row_of_slot` [T, k] and `y` [T, D], in float32 and in top-k order; slots at -1 count nothing.

    Constraints:
    - (C1) `weights` and `row_of_slot` have the same T.
    - (C2) `weights` and `row_of_slot` have the same k.
    - (C3) `rows` has T * k rows.
    - (C4) `y` is [T, D], of the elements of `rows`.

    ```mlir
    %y = moe.unpermute %rows, %weights, %row_of_slot : tensor<?x64xf32, #moe.rows<2 * "T">>,
        tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$rows, MoE_FloatTensor<2>:$weights,
                       MoE_I32Tensor<2>:$row_of_slot);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = "$rows `,` $weights `,` $row_of_slot attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_UnpermuteAddOp : MoE_KernelOp<"unpermute_add",
    [AllElementTypesMatch<["rows", "x"]>, AllTypesMatch<["x", "y"]>]> {
  let summary = "`moe.unpermute`, added to another tensor, in one kernel.";
  let description = [{
    `y` [T, D] is `moe.add` of `x` [T, D] and of `moe.unpermute` of `rows` [T * k, D], `weights` and
    `row_of_slot` [T, k]: the same bits, as the sum is rounded before it is added, but it is not
    stored between. `fuse-add` makes it, behind `differentiate`, so it has no derivative.

    Constraints:
    - (C1) `weights`, `row_of_slot` and `x` have the same T.
    - (C2) `weights` and `row_of_slot` have the same k.
    - (C3) `rows` has T * k rows.
    - (C4) `rows` and `x` have the same D.
    - (C5) `rows` and `x` have the same element type.
    - (C6) `y` has the type of `x`.

    ```mlir
    %y = moe.unpermute_add %rows, %weights, %row_of_slot, %x
        : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<?x2xf32, #moe.rows<"T">>,
          tensor<?x2xi32, #moe.rows<"T">>, tensor<?x64xf32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$rows, MoE_FloatTensor<2>:$weights,
                       MoE_I32Tensor<2>:$row_of_slot, MoE_FloatTensor<2>:$x);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = "$rows `,` $weights `,` $row_of_slot `,` $x attr-dict `:` "
      "type($rows) `,` type($weights) `,` type($row_of_slot) `,` type($x)";
  let hasVerifier = 1;
}

def MoE_GroupedGemmOp : MoE_DifferentiableOp<"grouped_gemm",
    [InferTypeOpAdaptor,
    AllElementTypesMatch<["x", "w"]>]> {
  let summary = "Each expert's rows times its weight.";
  let description = [{
    Rows of `x` [R, K] stand one expert after the other, group_sizes[e] of expert e. For row r of
    expert e: y[r, n] = sum_k x[r, k] w[e, n, k] for `w` [E, N, K] and `y` [R, N], summed in
    float32. Rows after the last group are zero in `y`. The group sizes are data, not part of any
    shape.

    Constraints:
    - (C1) `x` and `w` have the same K.
    - (C2) `w` and `group_sizes` have the same E.
    - (C3) `x` and `w` have the same element type.
    - (C4) `y` is [R, N], of the elements of `x`.

    ```mlir
    %y = moe.grouped_gemm %x, %w, %group_sizes
        : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_Weight<3>:$w, MoE_I32Tensor<1>:$group_sizes);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = "$x `,` $w `,` $group_sizes attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_GatedActivationOp : MoE_DifferentiableOp<"gated_activation",
    [RecomputableOpInterface, InferTypeOpAdaptor]> {
  let summary = "The activated gate times the other half: y = activation(gate) * up.";
  let description = [{
    y[r, f] = cast(activation(gate_up[r, f])) * gate_up[r, F + f] for `gate_up` [R, 2 F] and `y` [R,
    F] (SwiGLU, Shazeer 2020, for silu(x) = x / (1 + exp(-x))); float32 inside, cast to the element
    type before the product.

    Constraints:
    - (C1) `gate_up` has an even number of columns.
    - (C2) `y` is [R, F], of the elements of `gate_up`.
    - (C3) activation is "silu".

    ```mlir
    %y = moe.gated_activation %gate_up activation "silu" : tensor<?x192xf32, #moe.rows<2 * "T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$gate_up, MoE_Activation:$activation);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = "$gate_up `activation` $activation attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_GroupedGemmGatedOp : MoE_KernelOp<"grouped_gemm_gated",
    [InferTypeOpAdaptor, AllElementTypesMatch<["x", "w"]>]> {
  let summary = "Each expert's rows times its weight, and their gated activation, in one kernel.";
  let description = [{
    `gate_up` [R, 2 F] is `moe.grouped_gemm` of `x` [R, K], `w` [E, 2 F, K] and `group_sizes` [E];
    `y` [R, F] is `moe.gated_activation` of it: the same bits, but `gate_up` is not read again.
    `fuse` makes it, behind `differentiate`, so it has no derivative.

    Constraints:
    - (C1) `x` and `w` have the same K.
    - (C2) `w` and `group_sizes` have the same E.
    - (C3) `w` has an even number of rows, 2 F.
    - (C4) `x` and `w` have the same element type.
    - (C5) `gate_up` is [R, 2 F] and `y` [R, F], of the elements of `x`.
    - (C6) activation is "silu".

    ```mlir
    %gate_up, %y = moe.grouped_gemm_gated %x, %w, %group_sizes activation "silu"
        : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_Weight<3>:$w, MoE_I32Tensor<1>:$group_sizes,
                       MoE_Activation:$activation);
  let results = (outs MoE_FloatTensor<2>:$gate_up, MoE_FloatTensor<2>:$y);
  let assemblyFormat = [{
    $x `,` $w `,` $group_sizes `activation` $activation attr-dict `:` type(operands)
  }];
  let hasVerifier = 1;
}

def MoE_RowsOfTokensOp : MoE_KernelOp<"rows_of_tokens", [InferTypeOpAdaptor]> {
  let summary = "The token and the weight of each row: slots' rows the other way round.";
  let description = [{
    token_of_row[row_of_slot[t, j]] = t and weight_of_row[row_of_slot[t, j]] = weights[t, j] for
    `row_of_slot` and `weights` [T, k] and `token_of_row` and `weight_of_row` [T * k]; slots at -1
    go nowhere, rows of no slot have the token -1 and the weight 0.

    Constraints:
    - (C1) `row_of_slot` and `weights` have the same T.
    - (C2) `row_of_slot` and `weights` have the same k.
    - (C3) `token_of_row` is [T * k], `weight_of_row` too, of the elements of `weights`.

    ```mlir
    %token_of_row, %weight_of_row = moe.rows_of_tokens %row_of_slot, %weights
        : tensor<?x2xi32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_I32Tensor<2>:$row_of_slot, MoE_FloatTensor<2>:$weights);
  let results = (outs MoE_I32Tensor<1>:$token_of_row, MoE_FloatTensor<1>:$weight_of_row);
  let assemblyFormat = "$row_of_slot `,` $weights attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_GroupedGemmGatedGatherOp : MoE_KernelOp<"grouped_gemm_gated_gather",
    [InferTypeOpAdaptor, AllElementTypesMatch<["x", "w"]>]> {
  let summary = "`moe.grouped_gemm_gated` of tokens where they stand.";
  let description = [{
    `gate_up` [R, 2 F] and `y` [R, F] are `moe.grouped_gemm_gated` of rows of which row r is
    x[token_of_row[r], :], or zero where that is no token, for `x` [T, K], `token_of_row` [R], `w`
    [E, 2 F, K] and `group_sizes` [E]: the same bits, without the rows. `gather-rows` makes it.

    Constraints:
    - (C1) `x` and `w` have the same K.
    - (C2) `w` and `group_sizes` have the same E.
    - (C3) `w` has an even number of rows, 2 F.
    - (C4) `x` and `w` have the same element type.
    - (C5) `gate_up` is [R, 2 F] and `y` [R, F], of the elements of `x`.
    - (C6) activation is "silu".

    ```mlir
    %gate_up, %y = moe.grouped_gemm_gated_gather %x, %token_of_row, %w, %group_sizes
        activation "silu" : tensor<?x64xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>,
        tensor<8x192x64xf32>, tensor<8xi32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_I32Tensor<1>:$token_of_row, MoE_Weight<3>:$w,
                       MoE_I32Tensor<1>:$group_sizes, MoE_Activation:$activation);
  let results = (outs MoE_FloatTensor<2>:$gate_up, MoE_FloatTensor<2>:$y);
  let assemblyFormat = [{
    $x `,` $token_of_row `,` $w `,` $group_sizes `activation` $activation attr-dict
    `:` type(operands)
  }];
  let hasVerifier = 1;
}

#endif
