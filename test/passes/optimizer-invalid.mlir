// RUN: moe-opt %s --optimizer --split-input-file --verify-diagnostics

// expected-error @+1 {{optimizer: no parameter has a gradient state; run accumulate first}}
module {}

// -----

moe.state @a : tensor<4xf32> {kind = parameter} from "a"
moe.state @a.grad : tensor<4xf32> {kind = gradient, of = @a}
// expected-error @+1 {{optimizer: @optimizer_step is there already}}
func.func @optimizer_step() {
  return
}

// -----

// expected-error @+1 {{'moe.state' op has a derived state already: @a.exp_avg is taken}}
moe.state @a : tensor<4xf32> {kind = parameter} from "a"
moe.state @a.grad : tensor<4xf32> {kind = gradient, of = @a}
moe.state @a.exp_avg : tensor<4xf32> {kind = moment, of = @a}

// -----

// expected-error @+1 {{optimizer: there is no @micro_step with gradients; run differentiate and accumulate first}}
module attributes {moe.model = {step_program = "fused"}} {
  moe.state @w : tensor<4xf32> {kind = parameter} from "w"
  func.func @micro_step() {
    return
  }
}

// -----

module attributes {moe.model = {step_program = "fused"}} {
  moe.state @w : tensor<4xf32> {kind = parameter} from "w"
  func.func @micro_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
    moe.gradient @w, %dw : tensor<4xf32>
    return
  }
  // expected-error @+1 {{optimizer: @train_step is there already}}
  func.func @train_step() {
    return
  }
}
