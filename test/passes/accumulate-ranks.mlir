// RUN: moe-opt %s --accumulate --split-input-file | FileCheck %s
// RUN: moe-opt %s --accumulate --split-input-file | moe-opt --split-input-file | FileCheck %s

// On many ranks gradients are reduced in each pass, and accumulate in shards.

// CHECK: moe.state @w.grad : tensor<16x50xf32> {kind = gradient, of = @w, sharding = #dist.sharding<flat over ["fsdp"]>}
// CHECK: func.func @micro_step
// CHECK: dist.reduce_scatter
// CHECK: %[[SUM:.*]] = dist.all_reduce
// CHECK: moe.accumulate %{{.*}}, %[[SUM]] : tensor<512xf32>, tensor<512xf32>
// CHECK-NOT: @optimizer_step
// CHECK: return
dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @w : tensor<16x50xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
func.func @micro_step(%dw: tensor<16x50xf32> {moe.name = "dw"}) {
  %shard = dist.reduce_scatter %dw over ["fsdp"] : tensor<16x50xf32> -> tensor<512xf32>
  %sum = dist.all_reduce %shard over ["dp"] : tensor<512xf32>
  moe.gradient @w, %sum : tensor<512xf32>
  return
}

// -----

// In the accumulators' elements.

// CHECK: func.func @micro_step(%[[DW:[^:]*]]:
// CHECK-NEXT: %[[NARROW:.*]] = moe.cast %[[DW]] : tensor<16x50xf32> to tensor<16x50xbf16>
// CHECK-NEXT: %[[SHARD:.*]] = dist.reduce_scatter %[[NARROW]] over ["fsdp"] : tensor<16x50xbf16> -> tensor<512xbf16>
// CHECK-NEXT: %[[SUM:.*]] = dist.all_reduce %[[SHARD]] over ["dp"] : tensor<512xbf16>
// CHECK: moe.accumulate %{{.*}}, %[[SUM]] : tensor<512xbf16>, tensor<512xbf16>
module attributes {moe.model = {precision = "bf16"}} {
  dist.mesh @mesh <["dp"=2, "fsdp"=2]>
  moe.state @w : tensor<16x50xbf16> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
  func.func @micro_step(%dw: tensor<16x50xf32> {moe.name = "dw"}) {
    %shard = dist.reduce_scatter %dw over ["fsdp"] : tensor<16x50xf32> -> tensor<512xf32>
    %sum = dist.all_reduce %shard over ["dp"] : tensor<512xf32>
    moe.gradient @w, %sum : tensor<512xf32>
    return
  }
}

// -----

// Or once a step: in the accumulators' elements, at the head of @optimizer_step. Experts stay divided over
// "ep"; a gradient that is reduced in another way keeps that, and one that is not reduced is left.

// CHECK: moe.state @w.grad : tensor<16x50xbf16> {kind = gradient, of = @w}
// CHECK: moe.state @down.grad : tensor<8x50x8xbf16> {kind = gradient, of = @down, sharding = #dist.sharding<dim 0 over ["ep"]>}
// CHECK: moe.state @up.grad : tensor<8x50x8xbf16> {kind = gradient, of = @up}
// CHECK: moe.state @v.grad : tensor<4xbf16> {kind = gradient, of = @v}
// CHECK: moe.state @u.grad : tensor<4xbf16> {kind = gradient, of = @u}
// CHECK: func.func @micro_step(
// CHECK-SAME: %[[DW:[^:]*]]: {{[^%]*}}, %[[DDOWN:[^:]*]]: {{[^%]*}}, %[[DUP:[^:]*]]: {{[^%]*}}, %[[DV:[^:]*]]: {{[^%]*}}, %[[DU:[^:]*]]:
// CHECK-NOT: dist.
// CHECK: moe.accumulate %{{.*}}, %[[DW]] : tensor<16x50xbf16>, tensor<16x50xf32>
// CHECK: moe.accumulate %{{.*}}, %[[DDOWN]] : tensor<2x50x8xbf16>, tensor<2x50x8xf32>
// CHECK: moe.accumulate %{{.*}}, %[[DUP]] : tensor<8x50x8xbf16>, tensor<8x50x8xf32>
// CHECK: moe.accumulate %{{.*}}, %[[DV]] : tensor<4xbf16>, tensor<4xf32>
// CHECK: %[[TWICE:.*]] = dist.all_reduce %[[DU]]
// CHECK: moe.accumulate %{{.*}}, %[[TWICE]] : tensor<4xbf16>, tensor<4xf32>
// CHECK: func.func @optimizer_step()
// CHECK-NEXT: %[[W:.*]] = moe.read @w.grad : tensor<16x50xbf16>
// CHECK-NEXT: %[[WSHARD:.*]] = dist.reduce_scatter %[[W]] over ["fsdp", "ep"] : tensor<16x50xbf16> -> tensor<128xbf16>
// CHECK-NEXT: %[[WSUM:.*]] = dist.all_reduce %[[WSHARD]] over ["dp"] : tensor<128xbf16>
// CHECK-NEXT: moe.gradient @w, %[[WSUM]] : tensor<128xbf16>
// CHECK-NEXT: %[[DOWN:.*]] = moe.read @down.grad : tensor<2x50x8xbf16>
// CHECK-NEXT: %[[DOWNSHARD:.*]] = dist.reduce_scatter %[[DOWN]] over ["fsdp"] : tensor<2x50x8xbf16> -> tensor<512xbf16>
// CHECK-NEXT: moe.gradient @down, %[[DOWNSHARD]] : tensor<512xbf16>
// CHECK-NEXT: %[[UP:.*]] = moe.read @up.grad : tensor<8x50x8xbf16>
// CHECK-NEXT: %[[UPSHARD:.*]] = dist.reduce_scatter %[[UP]] over ["ep"] : tensor<8x50x8xbf16> -> tensor<2x50x8xbf16>
// CHECK-NEXT: moe.gradient @up, %[[UPSHARD]] : tensor<2x50x8xbf16>
// CHECK-NEXT: return
module attributes {moe.model = {precision = "bf16", sync_each_batch = false}} {
  dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=4]>
  moe.state @w : tensor<16x50xbf16> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "w"
  moe.state @down : tensor<8x50x8xbf16>
      {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>} from "down"
  moe.state @up : tensor<8x50x8xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "up"
  moe.state @v : tensor<4xbf16> {kind = parameter} from "v"
  moe.state @u : tensor<4xbf16> {kind = parameter} from "u"
  func.func @micro_step(%dw: tensor<16x50xf32> {moe.name = "dw"}, %ddown: tensor<2x50x8xf32> {moe.name = "ddown"},
                        %dup: tensor<8x50x8xf32> {moe.name = "dup"}, %dv: tensor<4xf32> {moe.name = "dv"},
                        %du: tensor<4xf32> {moe.name = "du"}) -> (tensor<4xf32> {moe.name = "sum"}) {
    %shard = dist.reduce_scatter %dw over ["fsdp", "ep"] : tensor<16x50xf32> -> tensor<128xf32>
    %sum = dist.all_reduce %shard over ["dp"] : tensor<128xf32>
    moe.gradient @w, %sum : tensor<128xf32>
    %part = dist.reduce_scatter %ddown over ["fsdp"] : tensor<2x50x8xf32> -> tensor<512xf32>
    moe.gradient @down, %part : tensor<512xf32>
    %up = dist.reduce_scatter %dup over ["ep"] : tensor<8x50x8xf32> -> tensor<2x50x8xf32>
    moe.gradient @up, %up : tensor<2x50x8xf32>
    moe.gradient @v, %dv : tensor<4xf32>
    %twice = dist.all_reduce %du over ["dp"] : tensor<4xf32>
    moe.gradient @u, %twice : tensor<4xf32>
    return %twice : tensor<4xf32>
  }
}
