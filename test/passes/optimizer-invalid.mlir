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
