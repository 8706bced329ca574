// RUN: moe-opt %s -verify-diagnostics -split-input-file --differentiate

// Ops that a cotangent reaches and that have no derivative.

dist.mesh @mesh <["ep"=2]>
moe.state @x : tensor<128x2xf32> {kind = parameter}
moe.state @head : tensor<32x2xf32> {kind = parameter}

func.func @evaluate(%labels: tensor<128xi32> {moe.name = "labels"},
                    %loss_weights: tensor<128xf32> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %x = moe.read @x : tensor<128x2xf32>
  // expected-error@+2 {{has no derivative by a max, but the loss depends on it}}
  // expected-error@+1 {{gives 0 vector-Jacobian products for 1 operands}}
  %y = dist.all_reduce %x over ["ep"] reduction max : tensor<128x2xf32>
  %head = moe.read @head : tensor<32x2xf32>
  %loss = moe.linear_cross_entropy %y, %head, %labels, %loss_weights chunk_rows 4
      : tensor<128x2xf32>, tensor<32x2xf32>, tensor<128xi32>, tensor<128xf32>
  return %loss : tensor<f32>
}

// -----

// Inside the loop the op is named, and the loop with it.

dist.mesh @mesh <["ep"=2]>
moe.state @x : tensor<128x2xf32> {kind = parameter}
moe.state @head : tensor<32x2xf32> {kind = parameter}

func.func @evaluate(%n: tensor<i32> {moe.name = "n"}, %labels: tensor<128xi32> {moe.name = "labels"},
                    %loss_weights: tensor<128xf32> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %x = moe.read @x : tensor<128x2xf32>
  // expected-error@+1 {{'dist.rounds' op gives 0 vector-Jacobian products for 3 operands}}
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : tensor<128x2xf32>) with(%w = %x : tensor<128x2xf32>) {
    // expected-error@+1 {{'moe.accumulate' op is in the body of a dist.rounds on the way from the loss to the parameters, but has no vector-Jacobian product}}
    %t = moe.accumulate %s, %w : tensor<128x2xf32>, tensor<128x2xf32>
    dist.yield %t : tensor<128x2xf32>
  }
  %head = moe.read @head : tensor<32x2xf32>
  %loss = moe.linear_cross_entropy %y, %head, %labels, %loss_weights chunk_rows 4
      : tensor<128x2xf32>, tensor<32x2xf32>, tensor<128xi32>, tensor<128xf32>
  return %loss : tensor<f32>
}

// -----

// An op of the body that refuses one of its results' cotangents.

dist.mesh @mesh <["ep"=2]>
moe.state @x : tensor<128x2xf32> {kind = parameter}
moe.state @head : tensor<32x2xf32> {kind = parameter}

func.func @evaluate(%n: tensor<i32> {moe.name = "n"}, %labels: tensor<128xi32> {moe.name = "labels"},
                    %loss_weights: tensor<128xf32> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %x = moe.read @x : tensor<128x2xf32>
  // expected-error@+1 {{'dist.rounds' op gives 0 vector-Jacobian products for 3 operands}}
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : tensor<128x2xf32>) with(%w = %x : tensor<128x2xf32>) {
    // expected-error@+1 {{'dist.all_reduce' op has no derivative by a max, but the loss depends on it}}
    %t = dist.all_reduce %w over ["ep"] reduction max : tensor<128x2xf32>
    %u = moe.add %s, %t : tensor<128x2xf32>
    dist.yield %u : tensor<128x2xf32>
  }
  %head = moe.read @head : tensor<32x2xf32>
  %loss = moe.linear_cross_entropy %y, %head, %labels, %loss_weights chunk_rows 4
      : tensor<128x2xf32>, tensor<32x2xf32>, tensor<128xi32>, tensor<128xf32>
  return %loss : tensor<f32>
}
