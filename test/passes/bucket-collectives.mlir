// RUN: moe-opt %s --bucket-collectives --split-input-file | FileCheck %s
// RUN: moe-opt %s --bucket-collectives --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --bucket-collectives="bucket-bytes=2000" --split-input-file | FileCheck %s --check-prefix=SMALL
// RUN: moe-opt %s --bucket-collectives="bucket-bytes=0" --split-input-file | FileCheck %s --check-prefix=NONE
// RUN: not moe-opt %s --bucket-collectives="bucket-bytes=-1" --split-input-file 2>&1 | FileCheck %s --check-prefix=REFUSED

// REFUSED: bucket-collectives: bucket-bytes is -1; expected a number of bytes, or 0 to leave every collective alone

dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @a : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "a"
moe.state @b : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "b"
moe.state @c : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "c"
moe.state @d : tensor<200xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>} from "d"
moe.state @whole : tensor<128xf32> {kind = parameter, layer = 0} from "w"

// Three gathers of layer 0 join the first, one over other axes does not, nor does one of layer 1. 800 bytes each: two fit
// in 2000.

// CHECK-LABEL: plan.program @gathers
// CHECK-DAG: %[[A:.*]] = plan.buffer state @a
// CHECK-DAG: %[[B:.*]] = plan.buffer state @b
// CHECK-DAG: %[[C:.*]] = plan.buffer state @c
// CHECK: all_gather over ["fsdp"] ins(%[[A]], %[[B]], %[[C]] : {{.*}}) outs(%[[GA:.*]], %[[GB:.*]], %[[GC:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "scale" ins(%[[GA]]
// CHECK-NEXT: all_gather over ["dp"]
// CHECK-NEXT: plan.launch "scale" ins(%[[GB]]
// CHECK-NEXT: plan.launch "scale" ins(%[[GC]]
// CHECK-NEXT: all_gather over ["fsdp"]
// CHECK-NEXT: plan.launch "scale"
// CHECK-NEXT: {{^ *}$}}
// SMALL-LABEL: plan.program @gathers
// SMALL: all_gather over ["fsdp"] ins(%{{.*}}, %{{.*}} : {{.*}})
// SMALL: all_gather over ["dp"]
// SMALL: all_gather over ["fsdp"] ins(%[[A:[0-9a-z]+]] :
// SMALL-NEXT: plan.launch
// SMALL-NEXT: all_gather over ["fsdp"] ins(%[[A:[0-9a-z]+]] :
// NONE-LABEL: plan.program @gathers
// NONE-COUNT-5: all_gather
plan.program @gathers {
  %a = plan.buffer state @a : tensor<128xf32>
  %ga = plan.buffer transient reserve 256 : tensor<200xf32>
  %y = plan.buffer transient : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%a : !plan.buffer<tensor<128xf32>>) outs(%ga : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%ga : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  %w = plan.buffer state @whole : tensor<128xf32>
  %gw = plan.buffer transient : tensor<2x128xf32>
  plan.collective all_gather over ["dp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%gw : !plan.buffer<tensor<2x128xf32>>)
  %b = plan.buffer state @b : tensor<128xf32>
  %gb = plan.buffer transient reserve 256 : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%b : !plan.buffer<tensor<128xf32>>) outs(%gb : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%gb : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  %c = plan.buffer state @c : tensor<128xf32>
  %gc = plan.buffer transient reserve 256 : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%c : !plan.buffer<tensor<128xf32>>) outs(%gc : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%gc : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  %d = plan.buffer state @d : tensor<128xf32>
  %gd = plan.buffer transient reserve 256 : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%d : !plan.buffer<tensor<128xf32>>) outs(%gd : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%gd : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
}

// A buffer that is filled twice, or a state that is written in between, keeps the second gather behind.

// CHECK-LABEL: plan.program @kept_apart
// CHECK: all_gather
// CHECK-NEXT: plan.launch "scale"
// CHECK-NEXT: all_gather
// CHECK-NEXT: plan.launch "accumulate"
// CHECK-NEXT: all_gather
plan.program @kept_apart {
  %a = plan.buffer state @a : tensor<128xf32>
  %b = plan.buffer state @b : tensor<128xf32>
  %c = plan.buffer state @c : tensor<128xf32>
  %g = plan.buffer transient reserve 256 : tensor<200xf32>
  %h = plan.buffer transient reserve 256 : tensor<200xf32>
  %y = plan.buffer transient : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%a : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%g : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective all_gather over ["fsdp"] ins(%b : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>)
  plan.launch "accumulate" ins(%a : !plan.buffer<tensor<128xf32>>) updates(%c : !plan.buffer<tensor<128xf32>>) {}
  plan.collective all_gather over ["fsdp"] ins(%c : !plan.buffer<tensor<128xf32>>) outs(%h : !plan.buffer<tensor<200xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @a : tensor<200xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>} from "a"
moe.state @b : tensor<200xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>} from "b"
moe.state @c : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "c"
moe.state @a.grad : tensor<200xf32> {kind = gradient, of = @a, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>}
moe.state @b.grad : tensor<200xf32> {kind = gradient, of = @b, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>}
moe.state @c.grad : tensor<200xf32> {kind = gradient, of = @c, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>}

// The gradients of layer 1 are reduced together where the last of them is there, before layer 0 goes on: over fsdp, then
// over dp, then added to their states. Layer 0's is on its own.

// CHECK-LABEL: plan.program @reductions
// CHECK-DAG: %[[A:.*]] = plan.buffer state @a.grad
// CHECK-DAG: %[[B:.*]] = plan.buffer state @b.grad
// CHECK-DAG: %[[C:.*]] = plan.buffer state @c.grad
// CHECK: plan.launch "scale" ins({{.*}}) outs(%[[DA:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "scale" ins({{.*}}) outs(%[[DB:[0-9a-z]+]] :
// CHECK-NEXT: reduce_scatter over ["fsdp"] ins(%[[DA]], %[[DB]] : {{.*}}) outs(%[[RA:.*]], %[[RB:[0-9a-z]+]] :
// CHECK-NEXT: all_reduce over ["dp"] ins(%[[RA]], %[[RB]] : {{.*}}) outs(%[[SA:.*]], %[[SB:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "accumulate" ins(%[[SA]] : {{.*}}) updates(%[[A]]
// CHECK-NEXT: plan.launch "accumulate" ins(%[[SB]] : {{.*}}) updates(%[[B]]
// CHECK-NEXT: plan.launch "scale" ins({{.*}}) outs(%[[DC:[0-9a-z]+]] :
// CHECK-NEXT: reduce_scatter over ["fsdp"] ins(%[[DC]] :
// CHECK-NEXT: all_reduce over ["dp"] ins(%[[RC:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "accumulate" ins({{.*}}) updates(%[[C]]

// SMALL-LABEL: plan.program @reductions
// SMALL: reduce_scatter over ["fsdp"] ins(%{{.*}}, %{{.*}} :
// NONE-LABEL: plan.program @reductions
// NONE: plan.launch "scale"
// NONE-NEXT: reduce_scatter over ["fsdp"] ins(%[[DA:[0-9a-z]+]] :
// NONE-NEXT: all_reduce over ["dp"] ins(%[[RA:[0-9a-z]+]] :
// NONE-NEXT: plan.launch "accumulate"
// NONE-NEXT: plan.launch "scale"
plan.program @reductions {
  %x = plan.buffer io input "x" : tensor<200xf32>
  %a = plan.buffer state @a.grad : tensor<128xf32>
  %b = plan.buffer state @b.grad : tensor<128xf32>
  %c = plan.buffer state @c.grad : tensor<128xf32>
  %da = plan.buffer transient reserve 256 : tensor<200xf32>
  %db = plan.buffer transient reserve 256 : tensor<200xf32>
  %dc = plan.buffer transient reserve 256 : tensor<200xf32>
  %ra = plan.buffer transient : tensor<128xf32>
  %rb = plan.buffer transient : tensor<128xf32>
  %rc = plan.buffer transient : tensor<128xf32>
  %sa = plan.buffer transient : tensor<128xf32>
  %sb = plan.buffer transient : tensor<128xf32>
  %sc = plan.buffer transient : tensor<128xf32>
  plan.launch "scale" ins(%x : !plan.buffer<tensor<200xf32>>) outs(%da : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective reduce_scatter over ["fsdp"] ins(%da : !plan.buffer<tensor<200xf32>>) outs(%ra : !plan.buffer<tensor<128xf32>>)
  plan.collective all_reduce over ["dp"] ins(%ra : !plan.buffer<tensor<128xf32>>) outs(%sa : !plan.buffer<tensor<128xf32>>)
  plan.launch "accumulate" ins(%sa : !plan.buffer<tensor<128xf32>>) updates(%a : !plan.buffer<tensor<128xf32>>) {}
  plan.launch "scale" ins(%x : !plan.buffer<tensor<200xf32>>) outs(%db : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective reduce_scatter over ["fsdp"] ins(%db : !plan.buffer<tensor<200xf32>>) outs(%rb : !plan.buffer<tensor<128xf32>>)
  plan.collective all_reduce over ["dp"] ins(%rb : !plan.buffer<tensor<128xf32>>) outs(%sb : !plan.buffer<tensor<128xf32>>)
  plan.launch "accumulate" ins(%sb : !plan.buffer<tensor<128xf32>>) updates(%b : !plan.buffer<tensor<128xf32>>) {}
  plan.launch "scale" ins(%x : !plan.buffer<tensor<200xf32>>) outs(%dc : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective reduce_scatter over ["fsdp"] ins(%dc : !plan.buffer<tensor<200xf32>>) outs(%rc : !plan.buffer<tensor<128xf32>>)
  plan.collective all_reduce over ["dp"] ins(%rc : !plan.buffer<tensor<128xf32>>) outs(%sc : !plan.buffer<tensor<128xf32>>)
  plan.launch "accumulate" ins(%sc : !plan.buffer<tensor<128xf32>>) updates(%c : !plan.buffer<tensor<128xf32>>) {}
}

// A launch that needs what is held back, or overwrites what is to be reduced, ends the bucket. Sums and maxima differ.

// CHECK-LABEL: plan.program @needed
// CHECK: all_reduce over ["fsdp"] ins(%[[X:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "scale" ins(%[[Y:[0-9a-z]+]] :
// CHECK-NEXT: all_reduce over ["fsdp"] reduction max ins(%[[Y]]
// CHECK-NEXT: all_reduce over ["fsdp"] ins(%[[Y]]
// CHECK-NEXT: plan.launch "scale" ins(%[[X]] : {{.*}}) outs(%[[Y]] :
plan.program @needed {
  %x = plan.buffer io input "x" : tensor<4xf32>
  %y = plan.buffer transient : tensor<4xf32>
  %z = plan.buffer transient : tensor<4xf32>
  %u = plan.buffer transient : tensor<4xf32>
  plan.collective all_reduce over ["fsdp"] ins(%x : !plan.buffer<tensor<4xf32>>) outs(%y : !plan.buffer<tensor<4xf32>>)
  plan.launch "scale" ins(%y : !plan.buffer<tensor<4xf32>>) outs(%z : !plan.buffer<tensor<4xf32>>) {factor = 2.0 : f64}
  plan.collective all_reduce over ["fsdp"] reduction max ins(%y : !plan.buffer<tensor<4xf32>>) outs(%z : !plan.buffer<tensor<4xf32>>)
  plan.collective all_reduce over ["fsdp"] ins(%y : !plan.buffer<tensor<4xf32>>) outs(%u : !plan.buffer<tensor<4xf32>>)
  plan.launch "scale" ins(%x : !plan.buffer<tensor<4xf32>>) outs(%y : !plan.buffer<tensor<4xf32>>) {factor = 2.0 : f64}
}

// -----

// One rank: nothing to do.

// CHECK-LABEL: plan.program @alone
plan.program @alone {
  %x = plan.buffer transient at 0 : tensor<4xf32>
}

// -----

dist.mesh @mesh <["fsdp"=2]>
moe.state @a : tensor<200xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>} from "a"
moe.state @b : tensor<200xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>} from "b"

// The sums of squares of what is held back are held back with it, unlike what takes anything else too.

// CHECK-LABEL: plan.program @squares
// CHECK: plan.launch "scale"
// CHECK-NEXT: plan.launch "scale"
// CHECK-NEXT: reduce_scatter over ["fsdp"] ins(%{{.*}}, %{{.*}} : {{.*}}) outs(%[[RA:.*]], %[[RB:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "sum_of_squares" ins(%[[RA]] : {{.*}}) outs(%[[A:.*]] :
// CHECK-NEXT: plan.launch "sum_of_squares" ins(%[[RB]] : {{.*}}) outs(%[[B:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "sum" ins(%[[A]], %[[B]] : {{.*}}) outs(%[[SUM:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "clip" ins(%[[SUM]]
// NONE-LABEL: plan.program @squares
// SMALL-LABEL: plan.program @squares
plan.program @squares {
  %x = plan.buffer io input "x" : tensor<200xf32>
  %most = plan.buffer io input "max_grad_norm" : tensor<f32>
  %sa = plan.buffer state @a : tensor<128xf32>
  %sb = plan.buffer state @b : tensor<128xf32>
  %da = plan.buffer transient reserve 256 : tensor<200xf32>
  %db = plan.buffer transient reserve 256 : tensor<200xf32>
  %ra = plan.buffer transient : tensor<128xf32>
  %rb = plan.buffer transient : tensor<128xf32>
  %a = plan.buffer transient : tensor<f32>
  %b = plan.buffer transient : tensor<f32>
  %sum = plan.buffer transient : tensor<f32>
  %norm = plan.buffer transient : tensor<f32>
  %coefficient = plan.buffer transient : tensor<f32>
  %apply = plan.buffer transient : tensor<i32>
  plan.launch "scale" ins(%x : !plan.buffer<tensor<200xf32>>) outs(%da : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective reduce_scatter over ["fsdp"] ins(%da : !plan.buffer<tensor<200xf32>>) outs(%ra : !plan.buffer<tensor<128xf32>>)
  plan.launch "sum_of_squares" ins(%ra : !plan.buffer<tensor<128xf32>>) outs(%a : !plan.buffer<tensor<f32>>) {}
  plan.launch "scale" ins(%x : !plan.buffer<tensor<200xf32>>) outs(%db : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective reduce_scatter over ["fsdp"] ins(%db : !plan.buffer<tensor<200xf32>>) outs(%rb : !plan.buffer<tensor<128xf32>>)
  plan.launch "sum_of_squares" ins(%rb : !plan.buffer<tensor<128xf32>>) outs(%b : !plan.buffer<tensor<f32>>) {}
  plan.launch "sum" ins(%a, %b : !plan.buffer<tensor<f32>>, !plan.buffer<tensor<f32>>) outs(%sum : !plan.buffer<tensor<f32>>) {}
  plan.launch "clip" ins(%sum, %most : !plan.buffer<tensor<f32>>, !plan.buffer<tensor<f32>>) outs(%norm, %coefficient, %apply : !plan.buffer<tensor<f32>>, !plan.buffer<tensor<f32>>, !plan.buffer<tensor<i32>>) {}
  plan.launch "accumulate" ins(%ra : !plan.buffer<tensor<128xf32>>) updates(%sa : !plan.buffer<tensor<128xf32>>) {}
  plan.launch "accumulate" ins(%rb : !plan.buffer<tensor<128xf32>>) updates(%sb : !plan.buffer<tensor<128xf32>>) {}
}
