// RUN: moe-opt %s --accumulate --split-input-file | FileCheck %s
// RUN: moe-opt %s --accumulate --split-input-file | moe-opt --split-input-file | FileCheck %s

// Float32 accumulators where the module names no precision.

// CHECK: moe.state @w : tensor<8xf32>
// CHECK: moe.state @w.grad : tensor<8xf32> {kind = gradient, layer = 3, of = @w}
// CHECK-LABEL: func.func @micro_step(
// CHECK-SAME: %[[DW:.*]]: tensor<8xf32>
// CHECK-NEXT: %[[SUM:.*]] = moe.read @w.grad : tensor<8xf32>
// CHECK-NEXT: %[[NEW:.*]] = moe.accumulate %[[SUM]], %[[DW]]
// CHECK-NEXT: moe.write @w.grad, %[[NEW]] : tensor<8xf32>
// CHECK-NOT: moe.gradient
moe.state @w : tensor<8xf32> {kind = parameter, layer = 3} from "w"
func.func @micro_step(%dw: tensor<8xf32> {moe.name = "dw"}) {
  moe.gradient @w, %dw : tensor<8xf32>
  return
}

// -----

// The policy bf16 keeps them in bfloat16.

// CHECK: moe.state @w.grad : tensor<8xbf16>
// CHECK: %[[SUM:.*]] = moe.read @w.grad : tensor<8xbf16>
// CHECK: moe.accumulate %[[SUM]], %{{.*}} : tensor<8xbf16>, tensor<8xf32>
module attributes {moe.model = {precision = "bf16"}} {
  moe.state @w : tensor<8xbf16> {kind = parameter} from "w"
  func.func @micro_step(%dw: tensor<8xf32> {moe.name = "dw"}) {
    moe.gradient @w, %dw : tensor<8xf32>
    return
  }
}

// -----

// The policy bf16_f32_state does not.

// CHECK: moe.state @w.grad : tensor<8xf32>
module attributes {moe.model = {precision = "bf16_f32_state"}} {
  moe.state @w : tensor<8xbf16> {kind = parameter} from "w"
  func.func @micro_step(%dw: tensor<8xf32> {moe.name = "dw"}) {
    moe.gradient @w, %dw : tensor<8xf32>
    return
  }
}
