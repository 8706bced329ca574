// RUN: moe-opt %s --accumulate --split-input-file | FileCheck %s
// RUN: moe-opt %s --accumulate --split-input-file | moe-opt --split-input-file | FileCheck %s

// A step that is one pass accumulates nothing: the gradient is rounded as the accumulator would be, where it is made.

// CHECK-NOT: kind = gradient
// CHECK-LABEL: func.func @micro_step(
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<8xf32>
// CHECK-NEXT: %[[DW:.*]] = moe.scale %[[X]] by 2.0
// CHECK-NEXT: %[[ROUNDED:.*]] = moe.cast %[[DW]] : tensor<8xf32> to tensor<8xbf16>
// CHECK-NEXT: moe.scale %[[X]] by 3.0
// CHECK-NEXT: moe.gradient @w, %[[ROUNDED]] : tensor<8xbf16>
module attributes {moe.model = {precision = "bf16", step_program = "fused"}} {
  moe.state @w : tensor<8xbf16> {kind = parameter} from "w"
  func.func @micro_step(%x: tensor<8xf32> {moe.name = "x"}) -> (tensor<8xf32> {moe.name = "y"}) {
    %dw = moe.scale %x by 2.0 : tensor<8xf32>
    %y = moe.scale %x by 3.0 : tensor<8xf32>
    moe.gradient @w, %dw : tensor<8xf32>
    return %y : tensor<8xf32>
  }
}

// -----

// Float32 gradients stay as they are.

// CHECK-LABEL: func.func @micro_step(
// CHECK-SAME: %[[DW:.*]]: tensor<8xf32>
// CHECK-NEXT: moe.gradient @w, %[[DW]] : tensor<8xf32>
module attributes {moe.model = {precision = "bf16_f32_state", step_program = "fused"}} {
  moe.state @w : tensor<8xbf16> {kind = parameter} from "w"
  func.func @micro_step(%dw: tensor<8xf32> {moe.name = "dw"}) {
    moe.gradient @w, %dw : tensor<8xf32>
    return
  }
}

// -----

// A step that is one pass: rounded before it is reduced, whatever sync_each_batch says.

// CHECK-NOT: kind = gradient
// CHECK-LABEL: func.func @micro_step(
// CHECK-SAME: %[[DW:.*]]: tensor<16x50xf32>
// CHECK-NEXT: %[[ROUNDED:.*]] = moe.cast %[[DW]] : tensor<16x50xf32> to tensor<16x50xbf16>
// CHECK-NEXT: %[[SHARD:.*]] = dist.reduce_scatter %[[ROUNDED]] over ["fsdp"] : tensor<16x50xbf16> -> tensor<512xbf16>
// CHECK-NEXT: %[[SUM:.*]] = dist.all_reduce %[[SHARD]] over ["dp"] : tensor<512xbf16>
// CHECK-NEXT: moe.gradient @w, %[[SUM]] : tensor<512xbf16>
// CHECK-NOT: @optimizer_step
module attributes {moe.model = {precision = "bf16", step_program = "fused", sync_each_batch = false}} {
  dist.mesh @mesh <["dp"=2, "fsdp"=2]>
  moe.state @w : tensor<16x50xbf16> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
  func.func @micro_step(%dw: tensor<16x50xf32> {moe.name = "dw"}) {
    %shard = dist.reduce_scatter %dw over ["fsdp"] : tensor<16x50xf32> -> tensor<512xf32>
    %sum = dist.all_reduce %shard over ["dp"] : tensor<512xf32>
    moe.gradient @w, %sum : tensor<512xf32>
    return
  }
}
