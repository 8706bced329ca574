// RUN: moe-opt %s --accumulate --split-input-file --verify-diagnostics

// expected-error @+1 {{accumulate: the module has no @micro_step; run differentiate first}}
module {}

// -----

// expected-error @+1 {{moe.model: precision is "fp8", expected "f32", "bf16" or "bf16_f32_state"}}
module attributes {moe.model = {precision = "fp8"}} {
  func.func @micro_step() {
    return
  }
}

// -----

// expected-error @+1 {{'moe.state' op has a derived state already: @w.grad is taken}}
moe.state @w : tensor<8xf32> {kind = parameter} from "w"
moe.state @w.grad : tensor<8xf32> {kind = gradient, of = @w}
func.func @micro_step(%dw: tensor<8xf32> {moe.name = "dw"}) {
  moe.gradient @w, %dw : tensor<8xf32>
  return
}
