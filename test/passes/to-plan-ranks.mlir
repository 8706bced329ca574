// RUN: moe-opt %s --to-plan --split-input-file | FileCheck %s
// RUN: moe-opt %s --to-plan --split-input-file | moe-opt --split-input-file | FileCheck %s

dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @norm : tensor<50xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "norm"
moe.state @norm.grad : tensor<50xf32> {kind = gradient, of = @norm, sharding = #dist.sharding<flat over ["fsdp"]>}

// Buffers have the local types. What is gathered from flat shards, or summed into them, has room for the padding;
// replicate is its operand; the mesh stays.

// CHECK: dist.mesh @mesh
// CHECK-LABEL: plan.program @states
// CHECK: %[[NORM:[0-9]+]] = plan.buffer state @norm : tensor<128xf32>
// CHECK: %[[WHOLE:[0-9]+]] = plan.buffer transient reserve 256 : tensor<50xf32>
// CHECK-NEXT: plan.collective all_gather over ["fsdp"] ins(%[[NORM]] : !plan.buffer<tensor<128xf32>>) outs(%[[WHOLE]] : !plan.buffer<tensor<50xf32>>)
// CHECK: %[[D:[0-9]+]] = plan.buffer transient reserve 256 : tensor<50xf32>
// CHECK-NEXT: plan.launch "scale" ins(%[[WHOLE]] : {{.*}}) outs(%[[D]]
// CHECK: %[[SHARD:[0-9]+]] = plan.buffer transient : tensor<128xf32>
// CHECK-NEXT: plan.collective reduce_scatter over ["fsdp"] ins(%[[D]] : {{.*}}) outs(%[[SHARD]]
// CHECK: %[[SUM:[0-9]+]] = plan.buffer transient : tensor<128xf32>
// CHECK-NEXT: plan.collective all_reduce over ["dp"] ins(%[[SHARD]] : {{.*}}) outs(%[[SUM]]
// CHECK: %[[GRAD:[0-9]+]] = plan.buffer state @norm.grad
// CHECK-NEXT: plan.launch "accumulate" ins(%[[SUM]] : {{.*}}) updates(%[[GRAD]]
// CHECK-NOT: plan.copy
func.func @states() {
  %shard = moe.read @norm : tensor<128xf32>
  %one = dist.replicate %shard over ["dp"] : tensor<128xf32>
  %whole = dist.all_gather %one over ["fsdp"] : tensor<128xf32> -> tensor<50xf32>
  %d = moe.scale %whole by 2.0 : tensor<50xf32>
  %part = dist.reduce_scatter %d over ["fsdp"] : tensor<50xf32> -> tensor<128xf32>
  %sum = dist.all_reduce %part over ["dp"] : tensor<128xf32>
  %grad = moe.read @norm.grad : tensor<128xf32>
  %new = moe.accumulate %grad, %sum : tensor<128xf32>, tensor<128xf32>
  moe.write @norm.grad, %new : tensor<128xf32>
  return
}

// -----

dist.mesh @mesh <["fsdp"=2]>
moe.state @norm : tensor<50xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "norm"
moe.state @norm.grad : tensor<50xf32> {kind = gradient, of = @norm}

// A state's own memory can have the room too; a port has none. A scalar is reduced where it is returned.

// CHECK-LABEL: plan.program @room
// CHECK: %[[X:[0-9]+]] = plan.buffer io input "x" : tensor<50xf32>
// CHECK: %[[Y:[0-9]+]] = plan.buffer io output "y" : tensor<50xf32>
// CHECK: %[[FLAG:[0-9]+]] = plan.buffer io output "flag" : tensor<i32>
// CHECK: %[[GRAD:[0-9]+]] = plan.buffer state @norm.grad reserve 256 : tensor<50xf32>
// CHECK: plan.collective reduce_scatter over ["fsdp"] ins(%[[GRAD]] :
// CHECK: %[[C:[0-9]+]] = plan.buffer transient reserve 256 : tensor<50xf32>
// CHECK: plan.copy %[[X]] to %[[C]]
// CHECK: plan.collective reduce_scatter over ["fsdp"] ins(%[[C]] :
// CHECK: %[[W:[0-9]+]] = plan.buffer transient reserve 256 : tensor<50xf32>
// CHECK: plan.collective all_gather over ["fsdp"] ins({{.*}}) outs(%[[W]] :
// CHECK: plan.collective all_reduce over ["fsdp"] reduction max ins({{.*}}) outs(%[[FLAG]] : !plan.buffer<tensor<i32>>)
// CHECK: plan.copy %[[W]] to %[[Y]]
func.func @room(%x: tensor<50xf32> {moe.name = "x"}, %mine: tensor<i32> {moe.name = "mine"})
    -> (tensor<50xf32> {moe.name = "y"}, tensor<i32> {moe.name = "flag"}) {
  %grad = moe.read @norm.grad : tensor<50xf32>
  %a = dist.reduce_scatter %grad over ["fsdp"] : tensor<50xf32> -> tensor<128xf32>
  %b = dist.reduce_scatter %x over ["fsdp"] : tensor<50xf32> -> tensor<128xf32>
  %sum = moe.add %a, %b : tensor<128xf32>
  %y = dist.all_gather %sum over ["fsdp"] : tensor<128xf32> -> tensor<50xf32>
  %flag = dist.all_reduce %mine over ["fsdp"] reduction max : tensor<i32>
  return %y, %flag : tensor<50xf32>, tensor<i32>
}

// -----

dist.mesh @mesh <["ep"=2]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
moe.state @w : tensor<4x16x16xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from #moe.stack<e = 0 to 4, "w.{e}">
moe.state @w.grad : tensor<4x16x16xf32> {kind = gradient, of = @w, sharding = #dist.sharding<dim 0 over ["ep"]>}

// What rounds carry is updated in place, a state's memory on the way to its write too; a sum becomes an update. Buffers of the
// body stand before it.

// CHECK-LABEL: plan.program @rounds
// CHECK: %[[X:[0-9]+]] = plan.buffer io input "x"
// CHECK: %[[C:[0-9]+]] = plan.buffer io input "counts"
// CHECK: %[[Y:[0-9]+]] = plan.buffer io output "y"
// CHECK: plan.collective token_exchange over ["ep"] ins(%[[X]], %[[C]] : {{.*}}) outs(%[[RECEIVED:[0-9]+]], %[[SIZES:[0-9]+]] :
// CHECK: plan.collective token_return over ["ep"] ins(%{{.*}}, %[[C]] : {{.*}}) outs(%[[SUM:[0-9]+]] :
// CHECK: %[[GRAD:[0-9]+]] = plan.buffer state @w.grad
// CHECK: %[[ROUND:[0-9]+]] = plan.buffer transient : tensor<i32>
// CHECK-COUNT-4: plan.buffer transient
// CHECK: plan.repeat %[[ROUND]] of %[[C]] over ["ep"] : <tensor<i32>>, <tensor<2x4xi32>> {
// CHECK-NEXT: plan.collective token_exchange over ["ep"] ins(%[[X]], %[[C]], %[[ROUND]] : {{.*}}) outs(%[[R:[0-9]+]], %[[S:[0-9]+]] :
// CHECK-NEXT: plan.launch "grouped_gemm" ins(%[[R]], %{{.*}}, %[[S]] : {{.*}}) outs(%[[Z:[0-9]+]] :
// CHECK-NEXT: plan.collective token_return over ["ep"] ins(%[[Z]], %[[C]], %[[ROUND]] : {{.*}}) updates(%[[SUM]] :
// CHECK-NEXT: plan.launch "constant" outs(%[[DW:[0-9]+]] :
// CHECK-NEXT: plan.launch "accumulate" ins(%[[DW]] : {{.*}}) updates(%[[GRAD]] :
// CHECK-NOT: plan.launch
// CHECK: plan.copy %[[SUM]] to %[[Y]]
// CHECK-NOT: plan.copy
func.func @rounds(%x: tensor<?x16xf32, #moe.rows<"T">> {moe.name = "x"}, %c: tensor<2x4xi32> {moe.name = "counts"})
    -> (tensor<?x16xf32, #moe.rows<"T">> {moe.name = "y"}) {
  %w = moe.read @w : tensor<2x16x16xf32>
  %g = moe.read @w.grad : tensor<2x16x16xf32>
  %received, %sizes = dist.token_exchange %x, %c over ["ep"] : tensor<?x16xf32, #moe.rows<"T">>, tensor<2x4xi32>
  %z = moe.grouped_gemm %received, %w, %sizes : tensor<?x16xf32, #moe.rows<"R">>, tensor<2x16x16xf32>, tensor<2xi32>
  %y0 = dist.token_return %z, %c over ["ep"] : tensor<?x16xf32, #moe.rows<"R">>, tensor<2x4xi32> -> tensor<?x16xf32, #moe.rows<"T">>
  %count = dist.overflow_rounds %c : tensor<2x4xi32>
  %y, %dw_sum = dist.rounds %round of %count on host over ["ep"]
      carry(%sum = %y0 : tensor<?x16xf32, #moe.rows<"T">>, %dw_so_far = %g : tensor<2x16x16xf32>)
      with(%xi = %x : tensor<?x16xf32, #moe.rows<"T">>, %ci = %c : tensor<2x4xi32>, %wi = %w : tensor<2x16x16xf32>) {
    %r, %s = dist.token_exchange %xi, %ci round %round over ["ep"] : tensor<?x16xf32, #moe.rows<"T">>, tensor<2x4xi32>
    %zi = moe.grouped_gemm %r, %wi, %s : tensor<?x16xf32, #moe.rows<"R">>, tensor<2x16x16xf32>, tensor<2xi32>
    %next = dist.token_return %zi, %ci round %round into %sum over ["ep"]
        : tensor<?x16xf32, #moe.rows<"R">>, tensor<2x4xi32> -> tensor<?x16xf32, #moe.rows<"T">>
    %dw = moe.constant 1.0 : tensor<2x16x16xf32>
    %dw_next = moe.add %dw, %dw_so_far : tensor<2x16x16xf32>
    dist.yield %next, %dw_next : tensor<?x16xf32, #moe.rows<"T">>, tensor<2x16x16xf32>
  }
  moe.write @w.grad, %dw_sum : tensor<2x16x16xf32>
  return %y : tensor<?x16xf32, #moe.rows<"T">>
}

// -----

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 512 : i64}

// A carried value that is needed afterwards is copied; a constant is made once for each that carries it.

// CHECK-LABEL: plan.program @carried
// CHECK: plan.launch "scale" ins({{.*}}) outs(%[[A:[0-9]+]] :
// CHECK: plan.launch "constant" outs(%[[ZERO:[0-9]+]] :
// CHECK: plan.launch "constant" outs(%[[OTHER:[0-9]+]] :
// CHECK: plan.copy %[[A]] to %[[CARRIED:[0-9]+]] :
// CHECK: plan.repeat
// CHECK-DAG: updates(%[[CARRIED]] :
// CHECK-DAG: updates(%[[ZERO]] :
// CHECK-DAG: updates(%[[OTHER]] :
// CHECK: }
func.func @carried(%x: tensor<4xf32> {moe.name = "x"}, %c: tensor<2x4xi32> {moe.name = "counts"})
    -> (tensor<4xf32> {moe.name = "y"}) {
  %a = moe.scale %x by 2.0 : tensor<4xf32>
  %zero = moe.constant 0.0 : tensor<4xf32>
  %count = dist.overflow_rounds %c : tensor<2x4xi32>
  %y:3 = dist.rounds %round of %count on host over ["ep"]
      carry(%u = %a : tensor<4xf32>, %v = %zero : tensor<4xf32>, %w = %zero : tensor<4xf32>) with(%xi = %x : tensor<4xf32>) {
    %un = moe.accumulate %u, %xi : tensor<4xf32>, tensor<4xf32>
    %vn = moe.accumulate %v, %xi : tensor<4xf32>, tensor<4xf32>
    %wn = moe.accumulate %w, %xi : tensor<4xf32>, tensor<4xf32>
    dist.yield %un, %vn, %wn : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>
  }
  %b = moe.add %a, %y#0 : tensor<4xf32>
  %d = moe.add %y#1, %y#2 : tensor<4xf32>
  %e = moe.add %b, %d : tensor<4xf32>
  return %e : tensor<4xf32>
}
