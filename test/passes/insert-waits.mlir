// RUN: moe-opt %s --insert-waits --split-input-file | FileCheck %s
// RUN: moe-opt %s --insert-waits --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --insert-waits --verify-collective-order --split-input-file | FileCheck %s

dist.mesh @mesh <["fsdp"=2]>
moe.state @w : tensor<200xf32> {kind = parameter, layer = 0, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
moe.state @w.grad : tensor<200xf32> {kind = gradient, of = @w, layer = 0, offset = 512, sharding = #dist.sharding<flat over ["fsdp"]>}

// The launch waits for what is gathered, the reduction for the launch; the second launch is behind the gather already. What
// the reduction adds to its state on its own stream waits for nothing.

// CHECK-LABEL: plan.program @flow
// CHECK: all_gather
// CHECK-NEXT: %[[GATHERED:.*]] = plan.record stream 1
// CHECK-NEXT: plan.wait %[[GATHERED]]{{$}}
// CHECK-NEXT: plan.launch "scale"
// CHECK-NEXT: plan.launch "scale"
// CHECK-NEXT: %[[COMPUTED:.*]] = plan.record{{$}}
// CHECK-NEXT: plan.wait %[[COMPUTED]] stream 2
// CHECK-NEXT: reduce_scatter
// CHECK-NEXT: plan.launch "accumulate"
// CHECK-NEXT: {{^ *}$}}
plan.program @flow {
  %w = plan.buffer state @w : tensor<128xf32>
  %grad = plan.buffer state @w.grad : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %y = plan.buffer transient at 1024 reserve 256 : tensor<200xf32>
  %z = plan.buffer transient at 2048 reserve 256 : tensor<200xf32>
  %part = plan.buffer transient at 3072 : tensor<128xf32>
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  plan.launch "scale" ins(%g : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.launch "scale" ins(%g : !plan.buffer<tensor<200xf32>>) outs(%z : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective reduce_scatter over ["fsdp"] ins(%z : !plan.buffer<tensor<200xf32>>) outs(%part : !plan.buffer<tensor<128xf32>>) stream 2
  plan.launch "accumulate" ins(%part : !plan.buffer<tensor<128xf32>>) updates(%grad : !plan.buffer<tensor<128xf32>>) {} stream 2
}

// Memory that is used again: %b lies where %a was, %c over the padding behind %b. The gather into %b waits for the launch
// that still reads %a, the copy into %c for the gather, by one event each.

// CHECK-LABEL: plan.program @reuse
// CHECK: plan.launch "scale"
// CHECK-NEXT: %[[READ:.*]] = plan.record{{$}}
// CHECK-NEXT: plan.wait %[[READ]] stream 1
// CHECK-NEXT: all_gather
// CHECK-NEXT: %[[FILLED:.*]] = plan.record stream 1
// CHECK-NEXT: plan.copy %{{.*}} to %[[D:[0-9a-z]+]] :
// CHECK-NEXT: plan.wait %[[FILLED]]{{$}}
// CHECK-NEXT: plan.copy
// CHECK-NEXT: {{^ *}$}}
plan.program @reuse {
  %w = plan.buffer state @w : tensor<128xf32>
  %a = plan.buffer transient at 0 : tensor<64xf32>
  %b = plan.buffer transient at 0 reserve 256 : tensor<150xf32>
  %c = plan.buffer transient at 768 : tensor<64xf32>
  %d = plan.buffer transient at 1024 : tensor<64xf32>
  %d2 = plan.buffer transient at 1280 : tensor<64xf32>
  plan.launch "scale" ins(%a : !plan.buffer<tensor<64xf32>>) outs(%d : !plan.buffer<tensor<64xf32>>) {factor = 2.0 : f64}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%b : !plan.buffer<tensor<150xf32>>) stream 1
  plan.copy %d to %d2 : !plan.buffer<tensor<64xf32>>
  plan.copy %d to %c : !plan.buffer<tensor<64xf32>>
}

// Of two waits, one that is implied by the other is left out: %a is read on stream 1 and %c written on stream 2, which is
// behind stream 1 already.

// CHECK-LABEL: plan.program @implied
// CHECK: plan.copy {{.*}} stream 1 :
// CHECK-NEXT: %[[FIRST:.*]] = plan.record stream 1
// CHECK-NEXT: plan.wait %[[FIRST]] stream 2
// CHECK-NEXT: plan.copy {{.*}} stream 2 :
// CHECK-NEXT: %[[SECOND:.*]] = plan.record stream 2
// CHECK-NEXT: plan.wait %[[SECOND]]{{$}}
// CHECK-NEXT: plan.launch "add"
// CHECK-NEXT: {{^ *}$}}
plan.program @implied {
  %a = plan.buffer transient at 0 : tensor<64xf32>
  %b = plan.buffer transient at 256 : tensor<64xf32>
  %c = plan.buffer transient at 512 : tensor<64xf32>
  %d = plan.buffer transient at 768 : tensor<64xf32>
  plan.copy %a to %b stream 1 : !plan.buffer<tensor<64xf32>>
  plan.copy %b to %c stream 2 : !plan.buffer<tensor<64xf32>>
  plan.launch "add" ins(%c, %d : !plan.buffer<tensor<64xf32>>, !plan.buffer<tensor<64xf32>>) outs(%a : !plan.buffer<tensor<64xf32>>) {}
}

// Collectives that share no memory are ordered, because ranks meet in them.

// CHECK-LABEL: plan.program @order
// CHECK: all_gather
// CHECK-NEXT: %[[E:.*]] = plan.record stream 1
// CHECK-NEXT: plan.wait %[[E]] stream 2
// CHECK-NEXT: all_reduce
plan.program @order {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %x = plan.buffer transient at 1024 : tensor<64xf32>
  %x2 = plan.buffer transient at 1280 : tensor<64xf32>
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  plan.collective all_reduce over ["fsdp"] ins(%x : !plan.buffer<tensor<64xf32>>) outs(%x2 : !plan.buffer<tensor<64xf32>>) stream 2
}

// -----

dist.mesh @mesh <["ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}

// Sizes are those at the bounds: %y is 8 rows of 64 floats, so %z starts in it. A repeat is one instruction: waits stand
// before it, records behind.

// CHECK-LABEL: plan.program @bounds
// CHECK: plan.launch "scale"
// CHECK-NEXT: %[[E:.*]] = plan.record{{$}}
// CHECK-NEXT: plan.wait %[[E]] stream 1
// CHECK-NEXT: plan.copy
// CHECK-NEXT: %[[F:.*]] = plan.record stream 1
// CHECK-NEXT: all_gather
// CHECK-NEXT: plan.wait %[[F]]{{$}}
// CHECK-NEXT: plan.repeat
// CHECK-NOT: plan.record
// CHECK: {{^ *}$}}
// CHECK-NEXT: %[[G:.*]] = plan.record{{$}}
// CHECK-NEXT: plan.wait %[[G]] stream 1
// CHECK-NEXT: plan.copy
plan.program @bounds {
  %x = plan.buffer io input "x" at 0 : tensor<?x64xf32, #moe.rows<"T">>
  %counts = plan.buffer io input "counts" at 2048 : tensor<4xi32>
  %y = plan.buffer transient at 0 : tensor<?x64xf32, #moe.rows<"T">>
  %z = plan.buffer transient at 1792 : tensor<64xf32>
  %u = plan.buffer transient at 2048 : tensor<64xf32>
  %all_counts = plan.buffer transient at 2304 : tensor<2x4xi32>
  %round = plan.buffer transient at 2560 : tensor<i32>
  %v = plan.buffer transient at 2816 : tensor<64xf32>
  plan.launch "scale" ins(%x : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>) outs(%y : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>) {factor = 2.0 : f64}
  plan.copy %u to %z stream 1 : !plan.buffer<tensor<64xf32>>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all_counts : !plan.buffer<tensor<2x4xi32>>)
  plan.repeat %round of %all_counts over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.copy %z to %v : !plan.buffer<tensor<64xf32>>
  }
  plan.copy %v to %u stream 1 : !plan.buffer<tensor<64xf32>>
}

// -----

// One rank: nothing to do.

// CHECK-LABEL: plan.program @alone
plan.program @alone {
  %x = plan.buffer transient at 0 : tensor<4xf32>
}
