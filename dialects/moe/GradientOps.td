// Gradients of the ops of a model: what buildVjp of the op of that name makes.
//
// A cotangent of y is called dy. Gradients by a weight are float32 sums over rows.
#ifndef SWITCHYARD_DIALECTS_MOE_GRADIENTOPS
#define SWITCHYARD_DIALECTS_MOE_GRADIENTOPS

include "dialects/moe/ModelOps.td"

def MoE_EmbeddingGradOp : MoE_KernelOp<"embedding_grad", [InferTypeOpAdaptor]> {
  let summary = "Gradient of `moe.embedding` by the table.";
  let description = [{
    dtable[v, :] = sum of dy[t, :] over t with ids[t] = v, for `dy` [T, D], `ids` [T] and `dtable`
    [V, D], V = num_embeddings.

    Constraints:
    - (C1) `dy` and `ids` have the same T.
    - (C2) `dtable` is [V, D] in f32.
    - (C3) num_embeddings is in [1, 2^40].

    ```mlir
    %dtable = moe.embedding_grad %dy, %ids num_embeddings 256
        : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_I32Tensor<1>:$ids, MoE_Extent:$num_embeddings);
  let results = (outs MoE_F32Tensor<2>:$dtable);
  let assemblyFormat = "$dy `,` $ids `num_embeddings` $num_embeddings attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_LinearDgradOp : MoE_KernelOp<"linear_dgrad",
    [InferTypeOpAdaptor, AllElementTypesMatch<["dy", "w"]>]> {
  let summary = "Gradient of `moe.linear` by its data.";
  let description = [{
    dx[t, k] = sum_n dy[t, n] w[n, k] for `dy` [T, N], `w` [N, K] and `dx` [T, K].

    Constraints:
    - (C1) `dy` and `w` have the same N.
    - (C2) `dy` and `w` have the same element type.
    - (C3) `dx` is [T, K], of the same elements.

    ```mlir
    %dx = moe.linear_dgrad %dy, %w : tensor<?x128xbf16, #moe.rows<"T">>, tensor<128x64xbf16>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_Weight<2>:$w);
  let results = (outs MoE_FloatTensor<2>:$dx);
  let assemblyFormat = "$dy `,` $w attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_LinearWgradOp : MoE_KernelOp<"linear_wgrad", [AllElementTypesMatch<["dy", "x"]>]> {
  let summary = "Gradient of `moe.linear` by its weight.";
  let description = [{
    dw[n, k] = sum_t dy[t, n] x[t, k] for `dy` [T, N], `x` [T, K] and `dw` [N, K]: the sum in
    float32, or its rounding to the element type of the operands.

    Canonicalizes: where all that is done with the sum is to round it to the operands' element type
    (`moe.cast`), it is rounded at once.

    Constraints:
    - (C1) `dy` and `x` have the same T.
    - (C2) `dy` and `x` have the same element type.
    - (C3) `dw` is [N, K].
    - (C4) `dw` is in f32 or has the element type of the operands.

    ```mlir
    %dw = moe.linear_wgrad %dy, %x
        : tensor<?x128xbf16, #moe.rows<"T">>, tensor<?x64xbf16, #moe.rows<"T">> -> tensor<128x64xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$x);
  let results = (outs MoE_FloatTensor<2>:$dw);
  let builders = [OpBuilder<(ins "::mlir::Value":$dy, "::mlir::Value":$x)>]; // `dw` in f32
  let assemblyFormat = "$dy `,` $x attr-dict `:` type(operands) `->` type($dw)";
  let hasCanonicalizer = 1;
  let hasVerifier = 1;
}

def MoE_RmsNormGradOp : MoE_KernelOp<"rms_norm_grad", [AllTypesMatch<["dy", "x", "dx"]>,
    AllElementTypesMatch<["x", "w"]>, MoE_Float32Of<"w", "dw">]> {
  let summary = "Gradient of `moe.rms_norm`.";
  let description = [{
    With r = 1 / sqrt(mean(x^2) + eps), n = x r and g = dy w, row by row:

        dx = r (g - n mean(g n)),    dw = sum_t dy n.

    Constraints:
    - (C1) `w` has as many elements as a row of `x`.
    - (C2) `dy`, `x` and `dx` have the same type.
    - (C3) `x` and `w` have the same element type.
    - (C4) `dw` has the shape of `w` in f32.
    - (C5) eps is in [0, 1].

    ```mlir
    %dx, %dw = moe.rms_norm_grad %dy, %x, %w eps 1.0e-05
        : tensor<?x64xf32, #moe.rows<"T">>, tensor<64xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$x, MoE_Weight<1>:$w,
                       MoE_Epsilon:$eps);
  let results = (outs MoE_FloatTensor<2>:$dx, MoE_F32Tensor<1>:$dw);
  let assemblyFormat = "$dy `,` $x `,` $w `eps` $eps attr-dict `:` type($x) `,` type($w)";
  let hasVerifier = 1;
}

def MoE_QkNormGradOp : MoE_KernelOp<"qk_norm_grad", [AllTypesMatch<["dy", "qkv", "dqkv"]>,
    AllElementTypesMatch<["qkv", "q_weight", "k_weight"]>,
    MoE_Float32Of<"q_weight", "dq_weight">, MoE_Float32Of<"k_weight", "dk_weight">]> {
  let summary = "Gradient of `moe.qk_norm`.";
  let description = [{
    That of `moe.rms_norm` on the query columns and on the key columns; value columns of `dy` pass.

    Constraints:
    - (C1) `qkv` has (num_heads + 2 num_kv_heads) * head_dim columns.
    - (C2) `q_weight` has num_heads * head_dim and `k_weight` num_kv_heads * head_dim elements.
    - (C3) `dy`, `qkv` and `dqkv` have the same type.
    - (C4) `qkv` and the weights have the same element type.
    - (C5) `dq_weight` and `dk_weight` have the shapes of `q_weight` and `k_weight` in f32.
    - (C6) num_heads, num_kv_heads and head_dim are in [1, 65536], eps is in [0, 1].
    - (C7) num_heads is a multiple of num_kv_heads.

    ```mlir
    %dqkv, %dq, %dk = moe.qk_norm_grad %dy, %qkv, %q, %k heads 4 kv_heads 2 head_dim 16 eps 1.0e-05
        : tensor<?x128xf32, #moe.rows<"T">>, tensor<64xf32>, tensor<32xf32>
    ```
  }];
  let arguments = !con((ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$qkv,
                            MoE_Weight<1>:$q_weight, MoE_Weight<1>:$k_weight),
                       heads.arguments, (ins MoE_Epsilon:$eps));
  let results = (outs MoE_FloatTensor<2>:$dqkv, MoE_F32Tensor<1>:$dq_weight,
                      MoE_F32Tensor<1>:$dk_weight);
  let assemblyFormat = !strconcat("$dy `,` $qkv `,` $q_weight `,` $k_weight ",
      heads.assembly,
      " `eps` $eps attr-dict `:` type($qkv) `,` type($q_weight) `,` type($k_weight)");
  let hasVerifier = 1;
}

def MoE_AttentionGradOp : MoE_KernelOp<"attention_grad",
    [AllTypesMatch<["qkv", "dqkv"]>, AllTypesMatch<["dy", "y"]>,
     AllElementTypesMatch<["qkv", "y"]>]> {
  let summary = "Gradient of `moe.attention`.";
  let description = [{
    The scores are computed again from `qkv` and `lse`, block by block (Dao 2023): with p =
    exp(scale * q k^T - lse), c = sum over a head's columns of dy * y, ds = p * (dy v^T - c):

        dq = scale * ds k,    dk = scale * ds^T q,    dv = p^T dy

    with dk and dv summed over the query heads that share them. Rows after the last segment are
    zero.

    Constraints:
    - (C1) `qkv` has (num_heads + 2 num_kv_heads) * head_dim columns.
    - (C2) `dy` and `y` are [T, num_heads * head_dim] and `lse` is [T, num_heads], of the T of
      `qkv`.
    - (C3) `dy` and `y` have the same type.
    - (C4) `qkv` and `y` have the same element type.
    - (C5) `dqkv` has the type of `qkv`.
    - (C6) num_heads, num_kv_heads and head_dim are in [1, 65536], scale is in [0, 1e6] and window
      in [0, 2^40].
    - (C7) num_heads is a multiple of num_kv_heads.

    ```mlir
    %dqkv = moe.attention_grad %dy, %qkv, %y, %lse, %cu_seqlens
        heads 4 kv_heads 2 head_dim 16 scale 2.5e-01
        : tensor<?x128xf32, #moe.rows<"T">>, tensor<?x64xf32, #moe.rows<"T">>,
          tensor<?x4xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"S" + 1>>
    ```
  }];
  let arguments = !con((ins MoE_FloatTensor<2>:$dy, MoE_FloatTensor<2>:$qkv, MoE_FloatTensor<2>:$y,
                            MoE_F32Tensor<2>:$lse, MoE_I32Tensor<1>:$cu_seqlens),
                       heads.arguments, (ins MoE_Real<"0.0", "1e6">:$scale, MoE_Window:$window));
  let results = (outs MoE_FloatTensor<2>:$dqkv);
  let assemblyFormat = !strconcat("$dy `,` $qkv `,` $y `,` $lse `,` $cu_seqlens ",
      heads.assembly,
      " `scale` $scale (`window` $window^)? attr-dict"
      " `:` type($qkv) `,` type($y) `,` type($lse) `,` type($cu_seqlens)");
  let hasVerifier = 1;
}

def MoE_LinearCrossEntropyGradOp : MoE_KernelOp<"linear_cross_entropy_grad",
    [AllElementTypesMatch<["x", "w"]>, AllTypesMatch<["x", "dx"]>, MoE_Float32Of<"w", "dw">]> {
  let summary = "Gradient of `moe.linear_cross_entropy`, and its loss.";
  let description = [{
    With d[t, v] = dloss * loss_weights[t] * (softmax(logits[t])[v] - (v == labels[t])), zero where
    the label is negative:

        dx = d w,    dw = d^T x,

    and `loss` as `moe.linear_cross_entropy` has it: the logits are at hand, chunk by chunk.

    Constraints:
    - (C1) `x`, `labels` and `loss_weights` have the same T.
    - (C2) `x` and `w` have the same D.
    - (C3) `x` and `w` have the same element type.
    - (C4) `dx` has the type of `x`.
    - (C5) `dw` has the shape of `w` in f32.
    - (C6) chunk_rows is in [1, 65536].

    ```mlir
    %loss, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %dloss
        chunk_rows 1024 : tensor<?x64xf32, #moe.rows<"T">>, tensor<256x64xf32>,
          tensor<?xi32, #moe.rows<"T">>, tensor<?xf32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_Weight<2>:$w, MoE_I32Tensor<1>:$labels,
                       MoE_F32Tensor<1>:$loss_weights, MoE_F32Scalar:$dloss, MoE_Size:$chunk_rows);
  let results = (outs MoE_F32Scalar:$loss, MoE_FloatTensor<2>:$dx, MoE_F32Tensor<2>:$dw);
  let assemblyFormat = [{
    $x `,` $w `,` $labels `,` $loss_weights `,` $dloss `chunk_rows` $chunk_rows attr-dict
    `:` type($x) `,` type($w) `,` type($labels) `,` type($loss_weights)
  }];
  let hasVerifier = 1;
}

#endif
