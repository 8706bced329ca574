// RUN: moe-opt %s --optimizer --split-input-file | FileCheck %s
// RUN: moe-opt %s --optimizer --split-input-file | moe-opt --split-input-file | FileCheck %s

// Each rank updates its shards. Squares of gradients that are divided alike are summed over ranks together,
// those of whole gradients are not.

// CHECK: moe.state @a.exp_avg : tensor<8x50xf32> {kind = moment, of = @a, sharding = #dist.sharding<flat over ["fsdp", "ep"]>}
// CHECK: func.func @optimizer_step
// CHECK: %[[A:.*]] = moe.sum_of_squares %{{.*}} : tensor<128xf32>
// CHECK: %[[B:.*]] = moe.sum_of_squares %{{.*}} : tensor<128xf32>
// CHECK: %[[C:.*]] = moe.sum_of_squares %{{.*}} : tensor<4xf32>
// CHECK: %[[D:.*]] = moe.sum_of_squares %{{.*}} : tensor<2x4xf32>
// CHECK: %[[DENSE:.*]] = moe.sum %[[A]], %[[B]]
// CHECK: %[[DENSE_ALL:.*]] = dist.all_reduce %[[DENSE]] over ["fsdp", "ep"] : tensor<f32>
// CHECK: %[[WHOLE:.*]] = moe.sum %[[C]]
// CHECK: %[[EP:.*]] = moe.sum %[[D]]
// CHECK: %[[EP_ALL:.*]] = dist.all_reduce %[[EP]] over ["ep"] : tensor<f32>
// CHECK: %[[SUM:.*]] = moe.sum %[[DENSE_ALL]], %[[WHOLE]], %[[EP_ALL]]
// CHECK: moe.clip %[[SUM]]
// CHECK: moe.adamw {{.*}} : tensor<128xf32>, tensor<128xf32>, tensor<128xf32>
dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.state @a : tensor<8x50xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "a"
moe.state @b : tensor<4x9xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>} from "b"
moe.state @c : tensor<4xf32> {kind = parameter} from "c"
moe.state @d : tensor<4x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "d"
moe.state @a.grad : tensor<8x50xf32> {kind = gradient, of = @a, sharding = #dist.sharding<flat over ["fsdp", "ep"]>}
moe.state @b.grad : tensor<4x9xf32> {kind = gradient, of = @b, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>}
moe.state @c.grad : tensor<4xf32> {kind = gradient, of = @c}
moe.state @d.grad : tensor<4x4xf32> {kind = gradient, of = @d, sharding = #dist.sharding<dim 0 over ["ep"]>}

// -----

// What accumulate left to be reduced once a step comes first, and gives both the norm and the update.

// CHECK: func.func @optimizer_step(%{{.*}}: tensor<f32> {moe.name = "learning_rate"}
// CHECK-NEXT: %[[OWN:.*]] = moe.read @a.grad : tensor<8x50xf32>
// CHECK-NEXT: %[[SHARD:.*]] = dist.reduce_scatter %[[OWN]] over ["fsdp"]
// CHECK-NEXT: moe.sum_of_squares %[[SHARD]]
// CHECK-NOT: moe.gradient
// CHECK-NOT: moe.read @a.grad
// CHECK: moe.adamw %{{.*}}, %{{.*}}, %{{.*}}, %[[SHARD]] times

dist.mesh @mesh <["fsdp"=2]>
moe.state @a : tensor<8x50xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "a"
moe.state @a.grad : tensor<8x50xf32> {kind = gradient, of = @a}
func.func @optimizer_step() {
  %own = moe.read @a.grad : tensor<8x50xf32>
  %shard = dist.reduce_scatter %own over ["fsdp"] : tensor<8x50xf32> -> tensor<256xf32>
  moe.gradient @a, %shard : tensor<256xf32>
  return
}

// -----

// A step that is one program: what a user tunes is the same on all ranks, unlike its other inputs.

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME: %[[DW:[a-z0-9]+]]: tensor<16xf32> {moe.name = "dw"},
// CHECK-SAME: tensor<f32> {dist.replicated = #dist.axes<["fsdp", "ep"]>, moe.name = "learning_rate"}
// CHECK-SAME: tensor<f32> {dist.replicated = #dist.axes<["fsdp", "ep"]>, moe.name = "step"}
// CHECK: %[[PART:.*]] = dist.reduce_scatter
// CHECK: %[[SQUARE:.*]] = moe.sum_of_squares %[[PART]]
// CHECK: %[[OWN:.*]] = moe.sum %[[SQUARE]]
// CHECK: dist.all_reduce %[[OWN]] over ["fsdp"] : tensor<f32>
module attributes {moe.model = {step_program = "fused"}} {
  dist.mesh @mesh <["fsdp"=2, "ep"=2]>
  moe.state @w : tensor<16xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
  func.func @micro_step(%dw: tensor<16xf32> {moe.name = "dw"}) {
    %total = dist.all_reduce %dw over ["ep"] : tensor<16xf32>
    %part = dist.reduce_scatter %total over ["fsdp"] : tensor<16xf32> -> tensor<128xf32>
    moe.gradient @w, %part : tensor<128xf32>
    return
  }
}
