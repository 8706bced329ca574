// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

moe.symbol @T {bound = 128 : i64}
moe.state @w : tensor<64xf32> {kind = parameter} from "norm.weight"

// CHECK-LABEL: plan.program @forward
plan.program @forward {
  // CHECK: %[[W:.*]] = plan.buffer state @w : tensor<64xf32>
  %w = plan.buffer state @w : tensor<64xf32>
  // CHECK: %[[X:.*]] = plan.buffer io input "x" at 256 : tensor<?x64xf32, #moe.rows<"T">>
  %x = plan.buffer io input "x" at 256 : tensor<?x64xf32, #moe.rows<"T">>
  // CHECK: %[[Y:.*]] = plan.buffer io output "y" : tensor<?x64xf32, #moe.rows<"T">>
  %y = plan.buffer io output "y" : tensor<?x64xf32, #moe.rows<"T">>
  // CHECK: %[[S:.*]] = plan.buffer transient at 0 : tensor<16xi32>
  %s = plan.buffer transient at 0 : tensor<16xi32>
  // CHECK: plan.launch "rms_norm" ins(%[[X]], %[[W]] : {{.*}}) outs(%[[Y]] : {{.*}}) workspace(%[[S]] : {{.*}}) {eps = 1.000000e-05 : f64}
  plan.launch "rms_norm" ins(%x, %w : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>, !plan.buffer<tensor<64xf32>>)
      outs(%y : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>) workspace(%s : !plan.buffer<tensor<16xi32>>) {eps = 1.0e-05 : f64}
  // CHECK: plan.copy %[[X]] to %[[Y]]
  plan.copy %x to %y : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>
}

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}

// CHECK-LABEL: plan.program @ranks
plan.program @ranks {
  %shard = plan.buffer transient : tensor<128xf32>
  // CHECK: %[[WHOLE:.*]] = plan.buffer transient at 1024 reserve 512 : tensor<8x50xf32>
  %whole = plan.buffer transient at 1024 reserve 512 : tensor<8x50xf32>
  %counts = plan.buffer transient : tensor<8xi32>
  %all_counts = plan.buffer transient : tensor<4x8xi32>
  %slice = plan.buffer transient : tensor<2x5xf32>
  %joined = plan.buffer transient : tensor<8x5xf32>
  %s = plan.buffer transient : tensor<f32>
  %t = plan.buffer transient : tensor<f32>
  %round = plan.buffer transient : tensor<i32>
  %sizes = plan.buffer transient : tensor<2xi32>
  %x = plan.buffer transient : tensor<?x64xf32, #moe.rows<"T">>
  %r = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  // CHECK: plan.collective all_gather over ["ep"] ins(%{{.*}}, %{{.*}}, %{{.*}} : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<8xi32>>, {{.*}}) outs(%[[WHOLE]], {{.*}}) stream 1
  plan.collective all_gather over ["ep"]
      ins(%shard, %counts, %slice : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<8xi32>>, !plan.buffer<tensor<2x5xf32>>)
      outs(%whole, %all_counts, %joined : !plan.buffer<tensor<8x50xf32>>, !plan.buffer<tensor<4x8xi32>>, !plan.buffer<tensor<8x5xf32>>) stream 1
  // CHECK: %[[E:.*]] = plan.record stream 1
  %e = plan.record stream 1
  // CHECK: plan.wait %[[E]]{{$}}
  plan.wait %e
  // CHECK: plan.wait %[[E]] stream 2
  plan.wait %e stream 2
  // CHECK: plan.collective reduce_scatter over ["ep"] ins(%[[WHOLE]] : {{.*}}) outs({{.*}}) stream 2
  plan.collective reduce_scatter over ["ep"] ins(%whole : !plan.buffer<tensor<8x50xf32>>) outs(%shard : !plan.buffer<tensor<128xf32>>) stream 2
  // CHECK: plan.collective all_reduce over ["dp", "ep"] reduction max ins
  plan.collective all_reduce over ["dp", "ep"] reduction max ins(%s : !plan.buffer<tensor<f32>>) outs(%t : !plan.buffer<tensor<f32>>)
  // CHECK: plan.repeat %{{.*}} of %{{.*}} over ["ep"] stream 3 : <tensor<i32>>, <tensor<4x8xi32>> {
  plan.repeat %round of %all_counts over ["ep"] stream 3 : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<4x8xi32>> {
    // CHECK: plan.collective token_exchange over ["ep"] ins({{.*}}) outs({{.*}})
    plan.collective token_exchange over ["ep"]
        ins(%x, %all_counts, %round : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>, !plan.buffer<tensor<4x8xi32>>, !plan.buffer<tensor<i32>>)
        outs(%r, %sizes : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
    // CHECK: plan.collective token_return over ["ep"] ins({{.*}}) updates({{.*}})
    plan.collective token_return over ["ep"]
        ins(%r, %all_counts, %round : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>, !plan.buffer<tensor<4x8xi32>>, !plan.buffer<tensor<i32>>)
        updates(%x : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>)
  }
}
