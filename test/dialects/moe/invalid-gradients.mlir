// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the ops of GradientOps.td, one test each.

func.func @embedding_grad_c1(%dy: tensor<4x8xf32>, %ids: tensor<5xi32>) {
  // expected-error@+1 {{expects dimension 0 of ids to be T = 4, as dimension 0 of dy is, but it is 5}}
  %d = "moe.embedding_grad"(%dy, %ids) {num_embeddings = 16}
      : (tensor<4x8xf32>, tensor<5xi32>) -> tensor<16x8xf32>
  return
}

// -----

func.func @embedding_grad_c2(%dy: tensor<4x8xbf16>, %ids: tensor<4xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<16x8xf32>' are incompatible with return type(s) of operation 'tensor<15x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %d = "moe.embedding_grad"(%dy, %ids) {num_embeddings = 16}
      : (tensor<4x8xbf16>, tensor<4xi32>) -> tensor<15x8xf32>
  return
}

// -----

func.func @embedding_grad_c3(%dy: tensor<4x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{attribute 'num_embeddings' failed to satisfy constraint: 64-bit signless integer attribute in [1, 1099511627776]}}
  %d = "moe.embedding_grad"(%dy, %ids) {num_embeddings = 0}
      : (tensor<4x8xf32>, tensor<4xi32>) -> tensor<0x8xf32>
  return
}

// -----

func.func @linear_dgrad_c1(%dy: tensor<4x8xf32>, %w: tensor<9x6xf32>) {
  // expected-error@+1 {{expects dimension 0 of w to be N = 8, as dimension 1 of dy is, but it is 9}}
  %d = moe.linear_dgrad %dy, %w : tensor<4x8xf32>, tensor<9x6xf32>
  return
}

// -----

func.func @linear_dgrad_c2(%dy: tensor<4x8xf32>, %w: tensor<8x6xbf16>) {
  // expected-error@+1 {{failed to verify that all of {dy, w} have same element type}}
  %d = moe.linear_dgrad %dy, %w : tensor<4x8xf32>, tensor<8x6xbf16>
  return
}

// -----

func.func @linear_dgrad_c3(%dy: tensor<4x8xf32>, %w: tensor<8x6xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x6xf32>' are incompatible with return type(s) of operation 'tensor<4x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %d = "moe.linear_dgrad"(%dy, %w) : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @linear_wgrad_c1(%dy: tensor<4x8xf32>, %x: tensor<5x6xf32>) {
  // expected-error@+1 {{expects dimension 0 of x to be T = 4, as dimension 0 of dy is, but it is 5}}
  %d = moe.linear_wgrad %dy, %x : tensor<4x8xf32>, tensor<5x6xf32> -> tensor<8x6xf32>
  return
}

// -----

func.func @linear_wgrad_c2(%dy: tensor<4x8xf32>, %x: tensor<4x6xbf16>) {
  // expected-error@+1 {{failed to verify that all of {dy, x} have same element type}}
  %d = moe.linear_wgrad %dy, %x : tensor<4x8xf32>, tensor<4x6xbf16> -> tensor<8x6xf32>
  return
}

// -----

func.func @linear_wgrad_c3(%dy: tensor<4x8xbf16>, %x: tensor<4x6xbf16>) {
  // expected-error@+1 {{expects dimension 0 of dw to be N = 8, as dimension 1 of dy is, but it is 6}}
  %d = moe.linear_wgrad %dy, %x : tensor<4x8xbf16>, tensor<4x6xbf16> -> tensor<6x8xf32>
  return
}

// -----

func.func @linear_wgrad_c4(%dy: tensor<4x8xf32>, %x: tensor<4x6xf32>) {
  // expected-error@+1 {{expects a sum in f32 or rounded to 'f32', the operands' element type, but it is in 'bf16'}}
  %d = moe.linear_wgrad %dy, %x : tensor<4x8xf32>, tensor<4x6xf32> -> tensor<8x6xbf16>
  return
}

// -----

func.func @rms_norm_grad_c1(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<4xf32>) {
  // expected-error@+1 {{expects dimension 0 of w to be D = 8, as dimension 1 of x is, but it is 4}}
  %dx, %dw = moe.rms_norm_grad %dy, %x, %w eps 1.0e-05 : tensor<4x8xf32>, tensor<4xf32>
  return
}

// -----

func.func @rms_norm_grad_c2(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8xf32>) {
  // expected-error@+1 {{failed to verify that all of {dy, x, dx} have same type}}
  %dx, %dw = "moe.rms_norm_grad"(%dy, %x, %w) {eps = 1.0e-05}
      : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<8xf32>) -> (tensor<8x4xf32>, tensor<8xf32>)
  return
}

// -----

func.func @rms_norm_grad_c3(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8xbf16>) {
  // expected-error@+1 {{failed to verify that all of {x, w} have same element type}}
  %dx, %dw = moe.rms_norm_grad %dy, %x, %w eps 1.0e-05 : tensor<4x8xf32>, tensor<8xbf16>
  return
}

// -----

func.func @rms_norm_grad_c4(%dy: tensor<4x8xbf16>, %x: tensor<4x8xbf16>, %w: tensor<8xbf16>) {
  // expected-error@+1 {{failed to verify that dw has the shape of w in float32}}
  %dx, %dw = "moe.rms_norm_grad"(%dy, %x, %w) {eps = 1.0e-05}
      : (tensor<4x8xbf16>, tensor<4x8xbf16>, tensor<8xbf16>) -> (tensor<4x8xbf16>, tensor<4xf32>)
  return
}

// -----

func.func @rms_norm_grad_c5(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8xf32>) {
  // expected-error@+1 {{attribute 'eps' failed to satisfy constraint: 64-bit float attribute in [0.0, 1.0]}}
  %dx, %dw = moe.rms_norm_grad %dy, %x, %w eps -1.0 : tensor<4x8xf32>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_grad_c1(%dy: tensor<4x33xf32>, %qkv: tensor<4x33xf32>, %q: tensor<16xf32>,
                           %k: tensor<8xf32>) {
  // expected-error@+1 {{expects dimension 1 of qkv to be 32, but it is 33}}
  %dqkv, %dq, %dk = moe.qk_norm_grad %dy, %qkv, %q, %k heads 4 kv_heads 2 head_dim 4 eps 1.0e-05
      : tensor<4x33xf32>, tensor<16xf32>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_grad_c2(%dy: tensor<4x32xf32>, %qkv: tensor<4x32xf32>, %q: tensor<16xf32>,
                           %k: tensor<16xf32>) {
  // expected-error@+1 {{expects dimension 0 of k_weight to be 8, but it is 16}}
  %dqkv, %dq, %dk = moe.qk_norm_grad %dy, %qkv, %q, %k heads 4 kv_heads 2 head_dim 4 eps 1.0e-05
      : tensor<4x32xf32>, tensor<16xf32>, tensor<16xf32>
  return
}

// -----

func.func @qk_norm_grad_c3(%dy: tensor<5x32xf32>, %qkv: tensor<4x32xf32>, %q: tensor<16xf32>,
                           %k: tensor<8xf32>) {
  // expected-error@+1 {{failed to verify that all of {dy, qkv, dqkv} have same type}}
  %dqkv, %dq, %dk = "moe.qk_norm_grad"(%dy, %qkv, %q, %k) {num_heads = 4, num_kv_heads = 2, head_dim = 4, eps = 1.0e-05}
      : (tensor<5x32xf32>, tensor<4x32xf32>, tensor<16xf32>, tensor<8xf32>) -> (tensor<4x32xf32>, tensor<16xf32>, tensor<8xf32>)
  return
}

// -----

func.func @qk_norm_grad_c4(%dy: tensor<4x32xf32>, %qkv: tensor<4x32xf32>, %q: tensor<16xbf16>,
                           %k: tensor<8xf32>) {
  // expected-error@+1 {{failed to verify that all of {qkv, q_weight, k_weight} have same element type}}
  %dqkv, %dq, %dk = moe.qk_norm_grad %dy, %qkv, %q, %k heads 4 kv_heads 2 head_dim 4 eps 1.0e-05
      : tensor<4x32xf32>, tensor<16xbf16>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_grad_c5(%dy: tensor<4x32xf32>, %qkv: tensor<4x32xf32>, %q: tensor<16xf32>,
                           %k: tensor<8xf32>) {
  // expected-error@+1 {{failed to verify that dk_weight has the shape of k_weight in float32}}
  %dqkv, %dq, %dk = "moe.qk_norm_grad"(%dy, %qkv, %q, %k) {num_heads = 4, num_kv_heads = 2, head_dim = 4, eps = 1.0e-05}
      : (tensor<4x32xf32>, tensor<4x32xf32>, tensor<16xf32>, tensor<8xf32>) -> (tensor<4x32xf32>, tensor<16xf32>, tensor<16xf32>)
  return
}

// -----

func.func @qk_norm_grad_c6(%dy: tensor<4x32xf32>, %qkv: tensor<4x32xf32>, %q: tensor<16xf32>,
                           %k: tensor<8xf32>) {
  // expected-error@+1 {{attribute 'eps' failed to satisfy constraint: 64-bit float attribute in [0.0, 1.0]}}
  %dqkv, %dq, %dk = moe.qk_norm_grad %dy, %qkv, %q, %k heads 4 kv_heads 2 head_dim 4 eps 2.0
      : tensor<4x32xf32>, tensor<16xf32>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_grad_c7(%dy: tensor<4x32xf32>, %qkv: tensor<4x32xf32>, %q: tensor<16xf32>,
                           %k: tensor<8xf32>) {
  // expected-error@+1 {{expects num_heads to be a multiple of num_kv_heads, but got 4 and 3}}
  %dqkv, %dq, %dk = moe.qk_norm_grad %dy, %qkv, %q, %k heads 4 kv_heads 3 head_dim 4 eps 1.0e-05
      : tensor<4x32xf32>, tensor<16xf32>, tensor<8xf32>
  return
}

// -----

func.func @attention_grad_c1(%dy: tensor<4x16xf32>, %qkv: tensor<4x33xf32>, %y: tensor<4x16xf32>,
                             %lse: tensor<4x4xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{expects dimension 1 of qkv to be 32, but it is 33}}
  %dqkv = moe.attention_grad %dy, %qkv, %y, %lse, %cu heads 4 kv_heads 2 head_dim 4 scale 0.5
      : tensor<4x33xf32>, tensor<4x16xf32>, tensor<4x4xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_grad_c2_y(%dy: tensor<4x8xf32>, %qkv: tensor<4x32xf32>, %y: tensor<4x8xf32>,
                               %lse: tensor<4x4xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{expects dimension 1 of y to be 16, but it is 8}}
  %dqkv = moe.attention_grad %dy, %qkv, %y, %lse, %cu heads 4 kv_heads 2 head_dim 4 scale 0.5
      : tensor<4x32xf32>, tensor<4x8xf32>, tensor<4x4xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_grad_c2_lse(%dy: tensor<4x16xf32>, %qkv: tensor<4x32xf32>,
                                 %y: tensor<4x16xf32>, %lse: tensor<4x2xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{expects dimension 1 of lse to be 4, but it is 2}}
  %dqkv = moe.attention_grad %dy, %qkv, %y, %lse, %cu heads 4 kv_heads 2 head_dim 4 scale 0.5
      : tensor<4x32xf32>, tensor<4x16xf32>, tensor<4x2xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_grad_c3(%dy: tensor<4x8xf32>, %qkv: tensor<4x32xf32>, %y: tensor<4x16xf32>,
                             %lse: tensor<4x4xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{failed to verify that all of {dy, y} have same type}}
  %dqkv = "moe.attention_grad"(%dy, %qkv, %y, %lse, %cu) {num_heads = 4, num_kv_heads = 2, head_dim = 4, scale = 0.5}
      : (tensor<4x8xf32>, tensor<4x32xf32>, tensor<4x16xf32>, tensor<4x4xf32>, tensor<2xi32>) -> tensor<4x32xf32>
  return
}

// -----

func.func @attention_grad_c4(%dy: tensor<4x16xbf16>, %qkv: tensor<4x32xf32>, %y: tensor<4x16xbf16>,
                             %lse: tensor<4x4xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{failed to verify that all of {qkv, y} have same element type}}
  %dqkv = moe.attention_grad %dy, %qkv, %y, %lse, %cu heads 4 kv_heads 2 head_dim 4 scale 0.5
      : tensor<4x32xf32>, tensor<4x16xbf16>, tensor<4x4xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_grad_c5(%dy: tensor<4x16xf32>, %qkv: tensor<4x32xf32>, %y: tensor<4x16xf32>,
                             %lse: tensor<4x4xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{failed to verify that all of {qkv, dqkv} have same type}}
  %dqkv = "moe.attention_grad"(%dy, %qkv, %y, %lse, %cu) {num_heads = 4, num_kv_heads = 2, head_dim = 4, scale = 0.5}
      : (tensor<4x16xf32>, tensor<4x32xf32>, tensor<4x16xf32>, tensor<4x4xf32>, tensor<2xi32>) -> tensor<4x16xf32>
  return
}

// -----

func.func @attention_grad_c6(%dy: tensor<4x16xf32>, %qkv: tensor<4x32xf32>, %y: tensor<4x16xf32>,
                             %lse: tensor<4x4xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{attribute 'window' failed to satisfy constraint: 64-bit signless integer attribute in [0, 1099511627776]}}
  %dqkv = moe.attention_grad %dy, %qkv, %y, %lse, %cu heads 4 kv_heads 2 head_dim 4 scale 0.5 window -1
      : tensor<4x32xf32>, tensor<4x16xf32>, tensor<4x4xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_grad_c7(%dy: tensor<4x16xf32>, %qkv: tensor<4x32xf32>, %y: tensor<4x16xf32>,
                             %lse: tensor<4x4xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{expects num_heads to be a multiple of num_kv_heads, but got 4 and 3}}
  %dqkv = moe.attention_grad %dy, %qkv, %y, %lse, %cu heads 4 kv_heads 3 head_dim 4 scale 0.5
      : tensor<4x32xf32>, tensor<4x16xf32>, tensor<4x4xf32>, tensor<2xi32>
  return
}

// -----

func.func @linear_cross_entropy_grad_c1(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>,
                                        %labels: tensor<5xi32>, %loss_weights: tensor<4xf32>,
                                        %dloss: tensor<f32>) {
  // expected-error@+1 {{expects dimension 0 of labels to be T = 4, as dimension 0 of x is, but it is 5}}
  %loss, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %dloss chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<5xi32>, tensor<4xf32>
  return
}

// -----

func.func @linear_cross_entropy_grad_c2(%x: tensor<4x8xf32>, %w: tensor<16x4xf32>,
                                        %labels: tensor<4xi32>, %loss_weights: tensor<4xf32>,
                                        %dloss: tensor<f32>) {
  // expected-error@+1 {{expects dimension 1 of w to be D = 8, as dimension 1 of x is, but it is 4}}
  %loss, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %dloss chunk_rows 2
      : tensor<4x8xf32>, tensor<16x4xf32>, tensor<4xi32>, tensor<4xf32>
  return
}

// -----

func.func @linear_cross_entropy_grad_c3(%x: tensor<4x8xf32>, %w: tensor<16x8xbf16>,
                                        %labels: tensor<4xi32>, %loss_weights: tensor<4xf32>,
                                        %dloss: tensor<f32>) {
  // expected-error@+1 {{failed to verify that all of {x, w} have same element type}}
  %loss, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %dloss chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xbf16>, tensor<4xi32>, tensor<4xf32>
  return
}

// -----

func.func @linear_cross_entropy_grad_c4(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>,
                                        %labels: tensor<4xi32>, %loss_weights: tensor<4xf32>,
                                        %dloss: tensor<f32>) {
  // expected-error@+1 {{failed to verify that all of {x, dx} have same type}}
  %loss, %dx, %dw = "moe.linear_cross_entropy_grad"(%x, %w, %labels, %loss_weights, %dloss) {chunk_rows = 2}
      : (tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>, tensor<f32>) -> (tensor<f32>, tensor<8x4xf32>, tensor<16x8xf32>)
  return
}

// -----

func.func @linear_cross_entropy_grad_c5(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>,
                                        %labels: tensor<4xi32>, %loss_weights: tensor<4xf32>,
                                        %dloss: tensor<f32>) {
  // expected-error@+1 {{failed to verify that dw has the shape of w in float32}}
  %loss, %dx, %dw = "moe.linear_cross_entropy_grad"(%x, %w, %labels, %loss_weights, %dloss) {chunk_rows = 2}
      : (tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>, tensor<f32>) -> (tensor<f32>, tensor<4x8xf32>, tensor<8x16xf32>)
  return
}

// -----

func.func @linear_cross_entropy_grad_c6(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>,
                                        %labels: tensor<4xi32>, %loss_weights: tensor<4xf32>,
                                        %dloss: tensor<f32>) {
  // expected-error@+1 {{attribute 'chunk_rows' failed to satisfy constraint: 64-bit signless integer attribute in [1, 65536]}}
  %loss, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %dloss chunk_rows 65537
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  return
}
