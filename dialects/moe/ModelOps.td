// The dense part of a model, and its losses.
//
// Shapes are written [T, D], extents by name; extents of one name are equal within an op.
#ifndef SWITCHYARD_DIALECTS_MOE_MODELOPS
#define SWITCHYARD_DIALECTS_MOE_MODELOPS

include "dialects/moe/Attrs.td"

// Queries, keys and values of one token side by side: [q | k | v].
class MoE_Heads {
  dag arguments = (ins MoE_Size:$num_heads, MoE_Size:$num_kv_heads, MoE_Size:$head_dim);
  string assembly = "`heads` $num_heads `kv_heads` $num_kv_heads `head_dim` $head_dim";
}
defvar heads = MoE_Heads<>;

def MoE_EmbeddingOp : MoE_DifferentiableOp<"embedding", [InferTypeOpAdaptor]> {
  let summary = "Rows of a table by token id.";
  let description = [{
    y[t, :] = table[ids[t], :] for `table` [V, D], `ids` [T] in [0, V) and `y` [T, D].

    Constraints:
    - (C1) `y` is [T, D], of the table's elements.

    ```mlir
    %y = moe.embedding %table, %ids : tensor<256x64xbf16>, tensor<?xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_Weight<2>:$table, MoE_I32Tensor<1>:$ids);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = "$table `,` $ids attr-dict `:` type(operands)";
}

def MoE_LinearOp : MoE_DifferentiableOp<"linear",
    [InferTypeOpAdaptor,
    AllElementTypesMatch<["x", "w"]>]> {
  let summary = "A matrix product with a weight: y = x w^T.";
  let description = [{
    y[t, n] = sum_k x[t, k] w[n, k] for `x` [T, K], `w` [N, K] and `y` [T, N], summed in float32.

    Constraints:
    - (C1) `x` and `w` have the same K.
    - (C2) `x` and `w` have the same element type.
    - (C3) `y` is [T, N], of the same elements.

    ```mlir
    %y = moe.linear %x, %w : tensor<?x64xbf16, #moe.rows<"T">>, tensor<128x64xbf16>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_Weight<2>:$w);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = "$x `,` $w attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def MoE_RmsNormOp : MoE_DifferentiableOp<"rms_norm",
    [RecomputableOpInterface, AllElementTypesMatch<["x", "w"]>,
    AllTypesMatch<["x", "y"]>]> {
  let summary = "RMSNorm over the last dimension.";
  let description = [{
    y[t, d] = cast(x[t, d] / sqrt(mean_d(x[t, d]^2) + eps)) * w[d] for `x` [T, D] and `w` [D];
    float32 inside, cast to the element type before the product (Zhang & Sennrich 2019, as
    transformers' MixtralRMSNorm).

    Constraints:
    - (C1) `w` has as many elements as a row of `x`.
    - (C2) `x` and `w` have the same element type.
    - (C3) `y` has the type of `x`.
    - (C4) eps is in [0, 1].

    ```mlir
    %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<?x64xf32, #moe.rows<"T">>, tensor<64xf32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_Weight<1>:$w, MoE_Epsilon:$eps);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = "$x `,` $w `eps` $eps attr-dict `:` type($x) `,` type($w)";
  let hasVerifier = 1;
}

def MoE_QkNormOp : MoE_DifferentiableOp<"qk_norm",
    [AllElementTypesMatch<["qkv", "q_weight", "k_weight"]>, AllTypesMatch<["qkv", "y"]>]> {
  let summary = "RMSNorm of the whole query and the whole key projection.";
  let description = [{
    For rows [q | k | v] of `qkv`, q of Q = num_heads * head_dim columns, k and v of K =
    num_kv_heads * head_dim each: q becomes rms_norm(q, q_weight), k becomes rms_norm(k, k_weight),
    v stays. OLMoE normalizes all heads together.

    Constraints:
    - (C1) `qkv` has Q + 2 K columns.
    - (C2) `q_weight` has Q and `k_weight` K elements.
    - (C3) `qkv` and the weights have the same element type.
    - (C4) `y` has the type of `qkv`.
    - (C5) num_heads, num_kv_heads and head_dim are in [1, 65536], eps is in [0, 1].
    - (C6) num_heads is a multiple of num_kv_heads.

    ```mlir
    %y = moe.qk_norm %qkv, %q_weight, %k_weight heads 4 kv_heads 2 head_dim 16 eps 1.0e-05
        : tensor<?x128xf32, #moe.rows<"T">>, tensor<64xf32>, tensor<32xf32>
    ```
  }];
  let arguments = !con((ins MoE_FloatTensor<2>:$qkv, MoE_Weight<1>:$q_weight,
                            MoE_Weight<1>:$k_weight),
                       heads.arguments, (ins MoE_Epsilon:$eps));
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = !strconcat("$qkv `,` $q_weight `,` $k_weight ",
      heads.assembly,
      " `eps` $eps attr-dict `:` type($qkv) `,` type($q_weight) `,` type($k_weight)");
  let hasVerifier = 1;
}

def MoE_RotaryOp : MoE_DifferentiableOp<"rotary", [AllTypesMatch<["qkv", "y"]>]> {
  let summary = "Rotary position embedding of queries and keys.";
  let description = [{
    Each query and key head h of a row at position p turns by half rotation (Su et al. 2021, as
    transformers): with H = head_dim, i < H / 2 and angle a = p * theta^(-2 i / H),

        y[i] = h[i] cos a - h[i + H/2] sin a,    y[i + H/2] = h[i + H/2] cos a + h[i] sin a.

    cos and sin are computed in float32 and cast to the element type. Values stay. `inverse` turns
    back (-a), which is also the transpose.

    Constraints:
    - (C1) `qkv` has (num_heads + 2 num_kv_heads) * head_dim columns.
    - (C2) `position_ids` has an element for each row of `qkv`.
    - (C3) `y` has the type of `qkv`.
    - (C4) num_heads, num_kv_heads and head_dim are in [1, 65536], theta is in [1, 1e12].
    - (C5) num_heads is a multiple of num_kv_heads.
    - (C6) head_dim is even.

    ```mlir
    %y = moe.rotary %qkv, %position_ids heads 4 kv_heads 2 head_dim 16 theta 1.0e+06
        : tensor<?x128xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"T">>
    ```
  }];
  let arguments = !con((ins MoE_FloatTensor<2>:$qkv, MoE_I32Tensor<1>:$position_ids),
                       heads.arguments,
                       (ins MoE_Real<"1.0", "1e12">:$theta, MoE_Flag:$inverse));
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = !strconcat("$qkv `,` $position_ids ",
      heads.assembly,
      " `theta` $theta (`inverse` $inverse^)? attr-dict `:` type($qkv) `,` type($position_ids)");
  let hasVerifier = 1;
}

def MoE_AttentionOp : MoE_DifferentiableOp<"attention", [InferTypeOpAdaptor]> {
  let summary = "Causal attention inside segments.";
  let description = [{
    For each segment s, rows cu_seqlens[s] to cu_seqlens[s + 1] of `qkv` ([q | k | v] as in
    `moe.qk_norm`), and each query head, with the key and value head that num_heads / num_kv_heads
    query heads share:

        y = softmax(scale * q k^T + mask) v

    in float32, without an intermediate of T x T (Dao 2023). Row i sees rows j <= i of its segment,
    and with window = W > 0 only those with i - j < W. `lse` [T, num_heads] is the logarithm of the
    sum that the softmax divides by; the gradient needs it, and nothing is differentiable by it.
    Rows after the last segment are zero in `y`.

    Constraints:
    - (C1) `qkv` has (num_heads + 2 num_kv_heads) * head_dim columns.
    - (C2) `y` is [T, num_heads * head_dim], of the elements of `qkv`; `lse` is [T, num_heads] in
      f32.
    - (C3) num_heads, num_kv_heads and head_dim are in [1, 65536], scale is in [0, 1e6] and window
      in [0, 2^40].
    - (C4) num_heads is a multiple of num_kv_heads.

    ```mlir
    %y, %lse = moe.attention %qkv, %cu_seqlens heads 4 kv_heads 2 head_dim 16 scale 2.5e-01
        : tensor<?x128xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"S" + 1>>
    ```
  }];
  let arguments = !con((ins MoE_FloatTensor<2>:$qkv, MoE_I32Tensor<1>:$cu_seqlens), heads.arguments,
                       (ins MoE_Real<"0.0", "1e6">:$scale, MoE_Window:$window));
  let results = (outs MoE_FloatTensor<2>:$y, MoE_F32Tensor<2>:$lse);
  let assemblyFormat = !strconcat("$qkv `,` $cu_seqlens ",
      heads.assembly,
      " `scale` $scale (`window` $window^)? attr-dict `:` type(operands)");
  let hasVerifier = 1;
}

def MoE_LinearCrossEntropyOp : MoE_DifferentiableOp<"linear_cross_entropy",
    [AllElementTypesMatch<["x", "w"]>]> {
  let summary = "The weighted sum of the tokens' cross entropies, from hidden states.";
  let description = [{
    With logits[t, v] = sum_d x[t, d] w[v, d] in float32, for `x` [T, D], `w` [V, D], `labels` [T]
    and `loss_weights` [T]:

        loss = sum_t loss_weights[t] * (logsumexp_v logits[t, v] - logits[t, labels[t]])

    A token whose label is negative has no part in it. The logits are held for `chunk_rows` tokens
    at a time, or fewer, never for all.

    Canonicalization: where a `moe.linear_cross_entropy_grad` of the same operands stands in the
    block, its loss takes the place of this op's, so that a training step computes the logits once.

    Constraints:
    - (C1) `x`, `labels` and `loss_weights` have the same T.
    - (C2) `x` and `w` have the same D.
    - (C3) `x` and `w` have the same element type.
    - (C4) chunk_rows is in [1, 65536].

    ```mlir
    %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 1024
        : tensor<?x64xf32, #moe.rows<"T">>, tensor<256x64xf32>,
          tensor<?xi32, #moe.rows<"T">>, tensor<?xf32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_Weight<2>:$w, MoE_I32Tensor<1>:$labels,
                       MoE_F32Tensor<1>:$loss_weights, MoE_Size:$chunk_rows);
  let results = (outs MoE_F32Scalar:$loss);
  let assemblyFormat = [{
    $x `,` $w `,` $labels `,` $loss_weights `chunk_rows` $chunk_rows attr-dict
    `:` type($x) `,` type($w) `,` type($labels) `,` type($loss_weights)
  }];
  let hasVerifier = 1;
  let hasCanonicalizer = 1;
}

#endif
