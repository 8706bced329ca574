// RUN: moe-opt %s --insert-expert-sharding --split-input-file --verify-diagnostics

!x = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=3]>
moe.symbol @T {bound = 64}
// expected-error @+1 {{@gate_up has 8 experts, which "ep"=3 does not divide; choose a mesh whose "ep" is a divisor of 8}}
moe.state @gate_up : tensor<8x12x4xf32> {kind = parameter} from "gate_up"
moe.state @down : tensor<8x4x6xf32> {kind = parameter} from "down"
func.func @evaluate(%x: !x, %weights: tensor<?x2xf32, #moe.rows<"T">>, %experts: tensor<?x2xi32, #moe.rows<"T">>) -> !x {
  %gate_up = moe.read @gate_up : tensor<8x12x4xf32>
  %down = moe.read @down : tensor<8x4x6xf32>
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %y : !x
}

// -----

!x = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @T {bound = 64}
moe.state @gate_up : tensor<8x12x4xf32> {kind = parameter} from "gate_up"
// expected-error @+1 {{@down is divided already: #dist.sharding<dim 0 over ["ep"]>}}
moe.state @down : tensor<16x4x6xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "down"
func.func @evaluate(%x: !x, %weights: tensor<?x2xf32, #moe.rows<"T">>, %experts: tensor<?x2xi32, #moe.rows<"T">>) -> !x {
  %gate_up = moe.read @gate_up : tensor<8x12x4xf32>
  %down = moe.read @down : tensor<8x4x6xf32>
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %y : !x
}

// -----

!x = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @T {bound = 64}
moe.state @gate_up : tensor<8x12x4xf32> {kind = parameter} from "gate_up"
func.func @evaluate(%x: !x, %weights: tensor<?x2xf32, #moe.rows<"T">>, %experts: tensor<?x2xi32, #moe.rows<"T">>,
                    %down: tensor<8x4x6xf32>) -> !x {
  %gate_up = moe.read @gate_up : tensor<8x12x4xf32>
  // expected-error @+1 {{has a weight that no moe.read yields; only the experts of a state can be divided among ranks}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %y : !x
}

// -----

dist.mesh @mesh <["ep"=2]>
moe.state @down : tensor<8x4x6xf32> {kind = parameter} from "down"
// expected-error @+1 {{insert-expert-sharding: @down.grad belongs to @down already, and would not be divided with it; run insert-expert-sharding before accumulate}}
moe.state @down.grad : tensor<8x4x6xf32> {kind = gradient, of = @down}
