// RUN: moe-opt %s --verify-collective-order | FileCheck %s
// RUN: moe-opt %s --verify-collective-order | moe-opt | FileCheck %s

// What is ordered by events, also by way of a third stream, is accepted, and stays as it is.

dist.mesh @mesh <["fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"

// CHECK-LABEL: plan.program @ordered
// CHECK: all_gather over ["fsdp"]
// CHECK-NEXT: %[[E:.*]] = plan.record stream 1
// CHECK-NEXT: plan.wait %[[E]] stream 2
// CHECK-NEXT: plan.copy
// CHECK-NEXT: %[[F:.*]] = plan.record stream 2
// CHECK-NEXT: plan.wait %[[F]]
// CHECK-NEXT: plan.copy
// CHECK-NEXT: all_gather over ["ep"]
// CHECK-NEXT: plan.repeat
plan.program @ordered {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %y = plan.buffer transient at 1024 : tensor<200xf32>
  %z = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %all = plan.buffer transient at 3072 : tensor<2x4xi32>
  %round = plan.buffer transient at 3328 : tensor<i32>
  %r = plan.buffer transient at 4096 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 3584 : tensor<2xi32>
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  %e = plan.record stream 1
  plan.wait %e stream 2
  plan.copy %g to %y stream 2 : !plan.buffer<tensor<200xf32>>
  %f = plan.record stream 2
  plan.wait %f
  plan.copy %z to %g : !plan.buffer<tensor<200xf32>>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.collective token_exchange over ["ep"] ins(%x, %all, %round : !plan.buffer<tensor<?x16xf32, #moe.rows<"T">>>, !plan.buffer<tensor<2x4xi32>>, !plan.buffer<tensor<i32>>) outs(%r, %sizes : !plan.buffer<tensor<?x16xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
  }
}
