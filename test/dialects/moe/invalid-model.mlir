// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the ops of ModelOps.td, one test each.

func.func @embedding_c1(%table: tensor<16x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x8xf32>' are incompatible with return type(s) of operation 'tensor<4x16xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = "moe.embedding"(%table, %ids) : (tensor<16x8xf32>, tensor<4xi32>) -> tensor<4x16xf32>
  return
}

// -----

func.func @embedding_table_type(%table: tensor<16x8xi32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{operand #0 must be 2-d tensor of f32 or bf16 with static extents, but got 'tensor<16x8xi32>'}}
  %y = "moe.embedding"(%table, %ids) : (tensor<16x8xi32>, tensor<4xi32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @embedding_ids_type(%table: tensor<16x8xf32>, %ids: tensor<4xf32>) {
  // expected-error@+1 {{operand #1 must be 1-d tensor of i32 with static extents, but for a first one given by #moe.rows, but got 'tensor<4xf32>'}}
  %y = "moe.embedding"(%table, %ids) : (tensor<16x8xf32>, tensor<4xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @linear_c1(%x: tensor<4x8xf32>, %w: tensor<16x9xf32>) {
  // expected-error@+1 {{expects dimension 1 of w to be K = 8, as dimension 1 of x is, but it is 9}}
  %y = moe.linear %x, %w : tensor<4x8xf32>, tensor<16x9xf32>
  return
}

// -----

func.func @linear_c2(%x: tensor<4x8xf32>, %w: tensor<16x8xbf16>) {
  // expected-error@+1 {{failed to verify that all of {x, w} have same element type}}
  %y = moe.linear %x, %w : tensor<4x8xf32>, tensor<16x8xbf16>
  return
}

// -----

func.func @linear_c3(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x16xf32>' are incompatible with return type(s) of operation 'tensor<16x4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = "moe.linear"(%x, %w) : (tensor<4x8xf32>, tensor<16x8xf32>) -> tensor<16x4xf32>
  return
}

// -----

func.func @rms_norm_c1(%x: tensor<4x8xf32>, %w: tensor<4xf32>) {
  // expected-error@+1 {{expects dimension 0 of w to be D = 8, as dimension 1 of x is, but it is 4}}
  %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<4x8xf32>, tensor<4xf32>
  return
}

// -----

func.func @rms_norm_c2(%x: tensor<4x8xbf16>, %w: tensor<8xf32>) {
  // expected-error@+1 {{failed to verify that all of {x, w} have same element type}}
  %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<4x8xbf16>, tensor<8xf32>
  return
}

// -----

func.func @rms_norm_c3(%x: tensor<4x8xf32>, %w: tensor<8xf32>) {
  // expected-error@+1 {{failed to verify that all of {x, y} have same type}}
  %y = "moe.rms_norm"(%x, %w) {eps = 1.0e-05} : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<8x4xf32>
  return
}

// -----

func.func @rms_norm_c4(%x: tensor<4x8xf32>, %w: tensor<8xf32>) {
  // expected-error@+1 {{attribute 'eps' failed to satisfy constraint: 64-bit float attribute in [0.0, 1.0]}}
  %y = moe.rms_norm %x, %w eps 2.0 : tensor<4x8xf32>, tensor<8xf32>
  return
}

// -----

func.func @rms_norm_c4_nan(%x: tensor<4x8xf32>, %w: tensor<8xf32>) {
  // expected-error@+1 {{attribute 'eps' failed to satisfy constraint: 64-bit float attribute in [0.0, 1.0]}}
  %y = moe.rms_norm %x, %w eps 0x7FF8000000000000 : tensor<4x8xf32>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_c1(%qkv: tensor<4x33xf32>, %q: tensor<16xf32>, %k: tensor<8xf32>) {
  // expected-error@+1 {{expects dimension 1 of qkv to be 32, but it is 33}}
  %y = moe.qk_norm %qkv, %q, %k heads 4 kv_heads 2 head_dim 4 eps 1.0e-05
      : tensor<4x33xf32>, tensor<16xf32>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_c2_q(%qkv: tensor<4x32xf32>, %q: tensor<8xf32>, %k: tensor<8xf32>) {
  // expected-error@+1 {{expects dimension 0 of q_weight to be 16, but it is 8}}
  %y = moe.qk_norm %qkv, %q, %k heads 4 kv_heads 2 head_dim 4 eps 1.0e-05
      : tensor<4x32xf32>, tensor<8xf32>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_c2_k(%qkv: tensor<4x32xf32>, %q: tensor<16xf32>, %k: tensor<16xf32>) {
  // expected-error@+1 {{expects dimension 0 of k_weight to be 8, but it is 16}}
  %y = moe.qk_norm %qkv, %q, %k heads 4 kv_heads 2 head_dim 4 eps 1.0e-05
      : tensor<4x32xf32>, tensor<16xf32>, tensor<16xf32>
  return
}

// -----

func.func @qk_norm_c3(%qkv: tensor<4x32xbf16>, %q: tensor<16xbf16>, %k: tensor<8xf32>) {
  // expected-error@+1 {{failed to verify that all of {qkv, q_weight, k_weight} have same element type}}
  %y = moe.qk_norm %qkv, %q, %k heads 4 kv_heads 2 head_dim 4 eps 1.0e-05
      : tensor<4x32xbf16>, tensor<16xbf16>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_c4(%qkv: tensor<4x32xf32>, %q: tensor<16xf32>, %k: tensor<8xf32>) {
  // expected-error@+1 {{failed to verify that all of {qkv, y} have same type}}
  %y = "moe.qk_norm"(%qkv, %q, %k) {num_heads = 4, num_kv_heads = 2, head_dim = 4, eps = 1.0e-05}
      : (tensor<4x32xf32>, tensor<16xf32>, tensor<8xf32>) -> tensor<4x32xbf16>
  return
}

// -----

func.func @qk_norm_c5(%qkv: tensor<4x32xf32>, %q: tensor<16xf32>, %k: tensor<8xf32>) {
  // expected-error@+1 {{attribute 'num_kv_heads' failed to satisfy constraint: 64-bit signless integer attribute in [1, 65536]}}
  %y = moe.qk_norm %qkv, %q, %k heads 4 kv_heads 0 head_dim 4 eps 1.0e-05
      : tensor<4x32xf32>, tensor<16xf32>, tensor<8xf32>
  return
}

// -----

func.func @qk_norm_c6(%qkv: tensor<4x32xf32>, %q: tensor<16xf32>, %k: tensor<8xf32>) {
  // expected-error@+1 {{expects num_heads to be a multiple of num_kv_heads, but got 4 and 3}}
  %y = moe.qk_norm %qkv, %q, %k heads 4 kv_heads 3 head_dim 4 eps 1.0e-05
      : tensor<4x32xf32>, tensor<16xf32>, tensor<8xf32>
  return
}

// -----

func.func @rotary_c1(%qkv: tensor<4x24xf32>, %position_ids: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 1 of qkv to be 32, but it is 24}}
  %y = moe.rotary %qkv, %position_ids heads 4 kv_heads 2 head_dim 4 theta 1.0e+04
      : tensor<4x24xf32>, tensor<4xi32>
  return
}

// -----

func.func @rotary_c2(%qkv: tensor<4x32xf32>, %position_ids: tensor<5xi32>) {
  // expected-error@+1 {{expects dimension 0 of position_ids to be T = 4, as dimension 0 of qkv is, but it is 5}}
  %y = moe.rotary %qkv, %position_ids heads 4 kv_heads 2 head_dim 4 theta 1.0e+04
      : tensor<4x32xf32>, tensor<5xi32>
  return
}

// -----

func.func @rotary_c3(%qkv: tensor<4x32xf32>, %position_ids: tensor<4xi32>) {
  // expected-error@+1 {{failed to verify that all of {qkv, y} have same type}}
  %y = "moe.rotary"(%qkv, %position_ids) {num_heads = 4, num_kv_heads = 2, head_dim = 4, theta = 1.0e+04}
      : (tensor<4x32xf32>, tensor<4xi32>) -> tensor<4x16xf32>
  return
}

// -----

func.func @rotary_c4_head_dim(%qkv: tensor<4x32xf32>, %position_ids: tensor<4xi32>) {
  // expected-error@+1 {{attribute 'head_dim' failed to satisfy constraint: 64-bit signless integer attribute in [1, 65536]}}
  %y = moe.rotary %qkv, %position_ids heads 4 kv_heads 2 head_dim 65537 theta 1.0e+04
      : tensor<4x32xf32>, tensor<4xi32>
  return
}

// -----

func.func @rotary_c4_theta(%qkv: tensor<4x32xf32>, %position_ids: tensor<4xi32>) {
  // expected-error@+1 {{attribute 'theta' failed to satisfy constraint: 64-bit float attribute in [1.0, 1e12]}}
  %y = moe.rotary %qkv, %position_ids heads 4 kv_heads 2 head_dim 4 theta 0.5
      : tensor<4x32xf32>, tensor<4xi32>
  return
}

// -----

func.func @rotary_c5(%qkv: tensor<4x32xf32>, %position_ids: tensor<4xi32>) {
  // expected-error@+1 {{expects num_heads to be a multiple of num_kv_heads, but got 3 and 2}}
  %y = moe.rotary %qkv, %position_ids heads 3 kv_heads 2 head_dim 4 theta 1.0e+04
      : tensor<4x32xf32>, tensor<4xi32>
  return
}

// -----

func.func @rotary_c6(%qkv: tensor<4x40xf32>, %position_ids: tensor<4xi32>) {
  // expected-error@+1 {{expects an even head_dim, but got 5}}
  %y = moe.rotary %qkv, %position_ids heads 4 kv_heads 2 head_dim 5 theta 1.0e+04
      : tensor<4x40xf32>, tensor<4xi32>
  return
}

// -----

func.func @attention_c1(%qkv: tensor<4x33xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{expects dimension 1 of qkv to be 32, but it is 33}}
  %y, %lse = moe.attention %qkv, %cu heads 4 kv_heads 2 head_dim 4 scale 0.5
      : tensor<4x33xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_c2_y(%qkv: tensor<4x32xf32>, %cu: tensor<2xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x16xf32>', 'tensor<4x4xf32>' are incompatible with return type(s) of operation 'tensor<4x8xf32>', 'tensor<4x4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %y, %lse = "moe.attention"(%qkv, %cu) {num_heads = 4, num_kv_heads = 2, head_dim = 4, scale = 0.5}
      : (tensor<4x32xf32>, tensor<2xi32>) -> (tensor<4x8xf32>, tensor<4x4xf32>)
  return
}

// -----

func.func @attention_c2_lse(%qkv: tensor<4x32xbf16>, %cu: tensor<2xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x16xbf16>', 'tensor<4x4xf32>' are incompatible with return type(s) of operation 'tensor<4x16xbf16>', 'tensor<4x2xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %y, %lse = "moe.attention"(%qkv, %cu) {num_heads = 4, num_kv_heads = 2, head_dim = 4, scale = 0.5}
      : (tensor<4x32xbf16>, tensor<2xi32>) -> (tensor<4x16xbf16>, tensor<4x2xf32>)
  return
}

// -----

func.func @attention_c3_heads(%qkv: tensor<4x32xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{attribute 'num_heads' failed to satisfy constraint: 64-bit signless integer attribute in [1, 65536]}}
  %y, %lse = moe.attention %qkv, %cu heads 0 kv_heads 2 head_dim 4 scale 0.5
      : tensor<4x32xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_c3_scale(%qkv: tensor<4x32xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{attribute 'scale' failed to satisfy constraint: 64-bit float attribute in [0.0, 1e6]}}
  %y, %lse = moe.attention %qkv, %cu heads 4 kv_heads 2 head_dim 4 scale -0.5
      : tensor<4x32xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_c3_window(%qkv: tensor<4x32xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{attribute 'window' failed to satisfy constraint: 64-bit signless integer attribute in [0, 1099511627776]}}
  %y, %lse = moe.attention %qkv, %cu heads 4 kv_heads 2 head_dim 4 scale 0.5 window -1
      : tensor<4x32xf32>, tensor<2xi32>
  return
}

// -----

func.func @attention_c4(%qkv: tensor<4x32xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{expects num_heads to be a multiple of num_kv_heads, but got 4 and 3}}
  %y, %lse = moe.attention %qkv, %cu heads 4 kv_heads 3 head_dim 4 scale 0.5
      : tensor<4x32xf32>, tensor<2xi32>
  return
}

// -----

func.func @linear_cross_entropy_c1_labels(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>,
                                          %labels: tensor<5xi32>, %loss_weights: tensor<4xf32>) {
  // expected-error@+1 {{expects dimension 0 of labels to be T = 4, as dimension 0 of x is, but it is 5}}
  %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<5xi32>, tensor<4xf32>
  return
}

// -----

func.func @linear_cross_entropy_c1_loss_weights(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>,
                                                %labels: tensor<4xi32>,
                                                %loss_weights: tensor<1xf32>) {
  // expected-error@+1 {{expects dimension 0 of loss_weights to be T = 4, as dimension 0 of x is, but it is 1}}
  %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<1xf32>
  return
}

// -----

func.func @linear_cross_entropy_c2(%x: tensor<4x8xf32>, %w: tensor<16x4xf32>,
                                   %labels: tensor<4xi32>, %loss_weights: tensor<4xf32>) {
  // expected-error@+1 {{expects dimension 1 of w to be D = 8, as dimension 1 of x is, but it is 4}}
  %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 2
      : tensor<4x8xf32>, tensor<16x4xf32>, tensor<4xi32>, tensor<4xf32>
  return
}

// -----

func.func @linear_cross_entropy_c3(%x: tensor<4x8xf32>, %w: tensor<16x8xbf16>,
                                   %labels: tensor<4xi32>, %loss_weights: tensor<4xf32>) {
  // expected-error@+1 {{failed to verify that all of {x, w} have same element type}}
  %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xbf16>, tensor<4xi32>, tensor<4xf32>
  return
}

// -----

func.func @linear_cross_entropy_c4(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>,
                                   %labels: tensor<4xi32>, %loss_weights: tensor<4xf32>) {
  // expected-error@+1 {{attribute 'chunk_rows' failed to satisfy constraint: 64-bit signless integer attribute in [1, 65536]}}
  %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 0
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  return
}
