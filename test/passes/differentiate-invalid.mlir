// RUN: moe-opt %s --differentiate --split-input-file --verify-diagnostics

// expected-error @+1 {{differentiate: the module has no @evaluate with one block}}
module {}

// -----

func.func @evaluate(%x: tensor<f32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}) {
  return %x : tensor<f32>
}
// expected-error @+1 {{differentiate: @micro_step is there already}}
func.func @micro_step(%x: tensor<f32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}) {
  return %x : tensor<f32>
}

// -----

// expected-error @+1 {{differentiate: no result of @evaluate is named "loss" (moe.name)}}
func.func @evaluate(%x: tensor<f32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "result"}) {
  return %x : tensor<f32>
}

// -----

// expected-error @+1 {{differentiate: the result named "loss" is of type 'tensor<4xf32>', expected 'tensor<f32>'}}
func.func @evaluate(%x: tensor<4xf32> {moe.name = "x"}) -> (tensor<4xf32> {moe.name = "loss"}) {
  return %x : tensor<4xf32>
}

// -----

// expected-error @+1 {{'moe.state' op is a parameter that the loss does not depend on, so that it has no gradient; remove it or use it in @evaluate}}
moe.state @unused : tensor<4xf32> {kind = parameter} from "unused"
func.func @evaluate(%x: tensor<f32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}) {
  return %x : tensor<f32>
}

// -----

// moe.experts has no derivative of its own: it is lowered first.

moe.symbol @T {bound = 64 : i64}
moe.state @gate_up : tensor<8x16x8xf32> {kind = parameter} from "gate_up"
moe.state @down : tensor<8x8x8xf32> {kind = parameter} from "down"
moe.state @head : tensor<32x8xf32> {kind = parameter} from "head"
func.func @evaluate(%x: tensor<?x8xf32, #moe.rows<"T">> {moe.name = "x"},
                    %weights: tensor<?x2xf32, #moe.rows<"T">> {moe.name = "weights"},
                    %experts: tensor<?x2xi32, #moe.rows<"T">> {moe.name = "experts"},
                    %labels: tensor<?xi32, #moe.rows<"T">> {moe.name = "labels"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %gate_up = moe.read @gate_up : tensor<8x16x8xf32>
  %down = moe.read @down : tensor<8x8x8xf32>
  // expected-error @+1 {{'moe.experts' op is on the way from the loss to the parameters, but has no vector-Jacobian product; it can't be trained through}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>,
        tensor<?x2xi32, #moe.rows<"T">>, tensor<8x16x8xf32>, tensor<8x8x8xf32>
  %head = moe.read @head : tensor<32x8xf32>
  %loss = moe.linear_cross_entropy %y, %head, %labels, %loss_weights chunk_rows 32
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>,
        tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}
