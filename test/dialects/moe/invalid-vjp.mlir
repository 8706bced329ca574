// RUN: moe-opt %s -verify-diagnostics -split-input-file --differentiate

// Ops that cannot be differentiated refuse by name.

moe.state @qkv : tensor<16x16xf32> {kind = parameter}
moe.state @head : tensor<8x2xf32> {kind = parameter}

func.func @evaluate(%x: tensor<4x16xf32> {moe.name = "x"}, %ids: tensor<4xi32> {moe.name = "ids"},
                    %cu_seqlens: tensor<2xi32> {moe.name = "cu_seqlens"},
                    %loss_weights: tensor<4xf32> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %w = moe.read @qkv : tensor<16x16xf32>
  %qkv = moe.linear %x, %w : tensor<4x16xf32>, tensor<16x16xf32>
  // expected-error@+2 {{has no derivative by lse, which only attention_grad may use, but the loss depends on it}}
  // expected-error@+1 {{gives 0 vector-Jacobian products for 2 operands}}
  %y, %lse = moe.attention %qkv, %cu_seqlens heads 2 kv_heads 1 head_dim 4 scale 0.5
      : tensor<4x16xf32>, tensor<2xi32>
  %head = moe.read @head : tensor<8x2xf32>
  %loss = moe.linear_cross_entropy %lse, %head, %ids, %loss_weights chunk_rows 4
      : tensor<4x2xf32>, tensor<8x2xf32>, tensor<4xi32>, tensor<4xf32>
  return %loss : tensor<f32>
}

// -----

moe.state @head : tensor<8x2xf32> {kind = parameter}
moe.state @w : tensor<8x2xf32> {kind = parameter}

func.func @evaluate(%x: tensor<4x2xf32> {moe.name = "x"}, %ids: tensor<4xi32> {moe.name = "ids"},
                    %loss_weights: tensor<4xf32> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  // expected-error@+1 {{is on the way from the loss to the parameters, but has no vector-Jacobian product}}
  %y = moe.gather_rows %x, %ids : tensor<4x2xf32>, tensor<4xi32>
  %head = moe.read @head : tensor<8x2xf32>
  %loss = moe.linear_cross_entropy %y, %head, %ids, %loss_weights chunk_rows 4
      : tensor<4x2xf32>, tensor<8x2xf32>, tensor<4xi32>, tensor<4xf32>
  return %loss : tensor<f32>
}
