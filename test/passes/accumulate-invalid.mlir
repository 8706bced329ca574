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

// -----

module attributes {moe.model = {sync_each_batch = false}} {
  dist.mesh @mesh <["fsdp"=2]>
  moe.state @w : tensor<256xf32> {kind = parameter} from "w"
  func.func @micro_step(%dw: tensor<512xf32> {moe.name = "dw"}) {
    %sum = dist.reduce_scatter %dw over ["fsdp"] : tensor<512xf32> -> tensor<256xf32>
    // expected-error @+1 {{is reduced from 'tensor<512xf32>', which is no way to divide the state 'tensor<256xf32>'; it cannot be put off, use sync_each_batch = true}}
    moe.gradient @w, %sum : tensor<256xf32>
    return
  }
}

// -----

module attributes {moe.model = {sync_each_batch = false}} {
  dist.mesh @mesh <["dp"=2]>
  moe.state @w : tensor<256xf32> {kind = parameter} from "w"
  func.func @micro_step(%dw: tensor<256xf32> {moe.name = "dw"}) {
    %sum = dist.all_reduce %dw over ["dp"] : tensor<256xf32>
    moe.gradient @w, %sum : tensor<256xf32>
    return
  }
  // expected-error @+1 {{accumulate: @optimizer_step is there already}}
  func.func @optimizer_step() {
    return
  }
}

// -----

// expected-error @+1 {{moe.model: step_program is "both", expected "split" or "fused"}}
module attributes {moe.model = {step_program = "both"}} {
  moe.state @w : tensor<8xf32> {kind = parameter} from "w"
  func.func @micro_step(%dw: tensor<8xf32> {moe.name = "dw"}) {
    moe.gradient @w, %dw : tensor<8xf32>
    return
  }
}
