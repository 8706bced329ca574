// RUN: moe-opt %s -verify-diagnostics -split-input-file

// Types that no op takes are refused where they are parsed, where results are inferred from them, or
// by the verifier.

func.func @unranked(%x: tensor<*xf32>, %w: tensor<16x8xf32>) {
  // expected-error@+1 {{cannot infer the type of result #0; expects operands with static extents, but for a first one given by #moe.rows, and results with extents up to 2^40}}
  %y = moe.linear %x, %w : tensor<*xf32>, tensor<16x8xf32>
  return
}

// -----

func.func @no_tensor(%x: f32, %w: tensor<16x8xf32>) {
  // expected-error@+1 {{operand #0 must be 2-d tensor of f32 or bf16 with static extents, but for a first one given by #moe.rows, but got 'f32'}}
  %y = "moe.linear"(%x, %w) : (f32, tensor<16x8xf32>) -> tensor<4x16xf32>
  return
}

// -----

func.func @unranked_rows(%x: tensor<*xf32>, %w: tensor<8xf32>) {
  // expected-error@+1 {{invalid kind of type specified: expected builtin.tensor, but found 'tensor<*xf32>'}}
  %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<*xf32>, tensor<8xf32>
  return
}

// -----

func.func @scalar(%x: tensor<f32>, %w: tensor<16x8xf32>) {
  // expected-error@+1 {{cannot infer the type of result #0; expects operands with static extents, but for a first one given by #moe.rows, and results with extents up to 2^40}}
  %y = moe.linear %x, %w : tensor<f32>, tensor<16x8xf32>
  return
}

// -----

func.func @dynamic_without_rows(%x: tensor<?x8xf32>, %w: tensor<16x8xf32>) {
  // expected-error@+1 {{cannot infer the type of result #0; expects operands with static extents, but for a first one given by #moe.rows, and results with extents up to 2^40}}
  %y = moe.linear %x, %w : tensor<?x8xf32>, tensor<16x8xf32>
  return
}

// -----

func.func @dynamic_weight(%x: tensor<4x8xf32>, %w: tensor<?x8xf32, #moe.rows<"T">>) {
  // expected-error@+1 {{cannot infer the type of result #0; expects operands with static extents, but for a first one given by #moe.rows, and results with extents up to 2^40}}
  %y = moe.linear %x, %w : tensor<4x8xf32>, tensor<?x8xf32, #moe.rows<"T">>
  return
}

// -----

func.func @second_dynamic(%a: tensor<4x?xf32>) {
  // expected-error@+1 {{operand #0 must be tensor of f32 or bf16 with static extents, but for a first one given by #moe.rows, but got 'tensor<4x?xf32>'}}
  %y = moe.add %a, %a : tensor<4x?xf32>
  return
}

// -----

func.func @other_encoding(%a: tensor<4xf32, "rows">) {
  // expected-error@+1 {{operand #0 must be tensor of f32 or bf16 with static extents, but for a first one given by #moe.rows, but got 'tensor<4xf32, "rows">'}}
  %y = moe.add %a, %a : tensor<4xf32, "rows">
  return
}

// -----

func.func @rank(%a: tensor<1x1x1x1x1xf32>) {
  // expected-error@+1 {{operand #0 must be tensor of f32 or bf16}}
  %y = moe.add %a, %a : tensor<1x1x1x1x1xf32>
  return
}

// -----

func.func @huge(%a: tensor<1099511627777xf32>) {
  // expected-error@+1 {{operand #0 must be tensor of f32 or bf16}}
  %y = moe.add %a, %a : tensor<1099511627777xf32>
  return
}

// -----

func.func @too_many_slots(%x: tensor<1099511627776x8xf32>, %r: tensor<1099511627776x2xi32>) {
  // expected-error@+1 {{cannot infer the type of result #0; expects operands with static extents, but for a first one given by #moe.rows, and results with extents up to 2^40}}
  %rows = moe.permute %x, %r : tensor<1099511627776x8xf32>, tensor<1099511627776x2xi32>
  return
}

// -----

func.func @too_many_slot_rows(%x: tensor<?x8xf32, #moe.rows<1099511627776 * "T">>,
                              %r: tensor<?x2xi32, #moe.rows<1099511627776 * "T">>) {
  // expected-error@+1 {{cannot infer the type of result #0; expects operands with static extents, but for a first one given by #moe.rows, and results with extents up to 2^40}}
  %rows = moe.permute %x, %r
      : tensor<?x8xf32, #moe.rows<1099511627776 * "T">>,
        tensor<?x2xi32, #moe.rows<1099511627776 * "T">>
  return
}

// -----

func.func @huge_head_dim(%qkv: tensor<4x32xf32>, %cu: tensor<2xi32>) {
  // expected-error@+1 {{cannot infer the type of result #0; expects operands with static extents, but for a first one given by #moe.rows, and results with extents up to 2^40}}
  %y, %lse = moe.attention %qkv, %cu heads 9223372036854775807 kv_heads 2
      head_dim 9223372036854775807 scale 0.5 : tensor<4x32xf32>, tensor<2xi32>
  return
}

// -----

func.func @negative_table(%dy: tensor<4x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{cannot infer the type of result #0; expects operands with static extents, but for a first one given by #moe.rows, and results with extents up to 2^40}}
  %d = moe.embedding_grad %dy, %ids num_embeddings -9223372036854775808
      : tensor<4x8xf32>, tensor<4xi32>
  return
}

// -----

func.func @negative_head_dim(%qkv: tensor<4x32xf32>, %position_ids: tensor<4xi32>) {
  // expected-error@+1 {{attribute 'head_dim' failed to satisfy constraint}}
  %y = moe.rotary %qkv, %position_ids heads 4 kv_heads 2 head_dim -4 theta 1.0e+04
      : tensor<4x32xf32>, tensor<4xi32>
  return
}

// -----

func.func @statistics_rank(%dloss: tensor<f32>, %aux_weights: tensor<3xf32>, %s: tensor<3xf32>) {
  // expected-error@+1 {{operand #2 must be variadic of 3-d tensor of f32}}
  %d = moe.load_balance_loss_grad %dloss, %aux_weights, %s top_k 2
      : tensor<f32>, tensor<3xf32>, tensor<3xf32>
  return
}

// -----

func.func @string_attribute(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{integer literal not valid for specified type}}
  %y = moe.gated_activation %x activation 4 : tensor<4x8xf32>
  return
}
