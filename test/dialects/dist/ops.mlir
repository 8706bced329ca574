// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// Each collective and the loop, in custom and in generic form.

!slots = tensor<?x64xbf16, #moe.rows<2 * "T">>
!received = tensor<?x64xbf16, #moe.rows<"R">>

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=4]>
moe.symbol @T {bound = 512}
moe.symbol @R {bound = 512}

// CHECK-LABEL: func.func @gather
func.func @gather(%shard: tensor<128xbf16>, %counts: tensor<8xi32>) {
  // CHECK: dist.all_gather %{{.*}} over ["fsdp", "ep"] : tensor<128xbf16> -> tensor<8x50xbf16>
  // GENERIC: "dist.all_gather"(%{{.*}}) <{axes = #dist.axes<["fsdp", "ep"]>}> : (tensor<128xbf16>) -> tensor<8x50xbf16>
  %w = dist.all_gather %shard over ["fsdp", "ep"] : tensor<128xbf16> -> tensor<8x50xbf16>
  // CHECK: dist.all_gather %{{.*}} over ["ep"] : tensor<8xi32> -> tensor<4x8xi32>
  %all_counts = dist.all_gather %counts over ["ep"] : tensor<8xi32> -> tensor<4x8xi32>
  return
}

// CHECK-LABEL: func.func @scatter
func.func @scatter(%dw: tensor<8x50xf32>, %parts: tensor<4x3x5xbf16>,
                   %joined: tensor<12x5xbf16>) {
  // CHECK: dist.reduce_scatter %{{.*}} over ["fsdp", "ep"] : tensor<8x50xf32> -> tensor<128xf32>
  %shard = dist.reduce_scatter %dw over ["fsdp", "ep"] : tensor<8x50xf32> -> tensor<128xf32>
  // CHECK: dist.reduce_scatter %{{.*}} over ["ep"] : tensor<12x5xbf16> -> tensor<3x5xbf16>
  %rows = dist.reduce_scatter %joined over ["ep"] : tensor<12x5xbf16> -> tensor<3x5xbf16>
  // CHECK: dist.all_gather %{{.*}} over ["ep"] : tensor<3x5xbf16> -> tensor<12x5xbf16>
  %whole = dist.all_gather %rows over ["ep"] : tensor<3x5xbf16> -> tensor<12x5xbf16>
  // CHECK: dist.reduce_scatter %{{.*}} over ["ep"] : tensor<4x3x5xbf16> -> tensor<3x5xbf16>
  %part = dist.reduce_scatter %parts over ["ep"] : tensor<4x3x5xbf16> -> tensor<3x5xbf16>
  return
}

// CHECK-LABEL: func.func @reduce
func.func @reduce(%x: tensor<f32>, %flag: tensor<i32>, %s: tensor<?x2x8xf32, #moe.rows<"M">>) {
  // CHECK: dist.all_reduce %{{.*}} over ["dp"] : tensor<f32>
  // GENERIC: "dist.all_reduce"(%{{.*}}) <{axes = #dist.axes<["dp"]>, reduction = #dist<reduction sum>}>
  %a = dist.all_reduce %x over ["dp"] : tensor<f32>
  // CHECK: dist.all_reduce %{{.*}} over ["dp", "fsdp", "ep"] reduction max : tensor<i32>
  %b = dist.all_reduce %flag over ["dp", "fsdp", "ep"] reduction max : tensor<i32>
  // CHECK: dist.all_reduce %{{.*}} over ["ep"] : tensor<?x2x8xf32, #moe.rows<"M">>
  %c = dist.all_reduce %s over ["ep"] : tensor<?x2x8xf32, #moe.rows<"M">>
  // CHECK: dist.replicate %{{.*}} over ["dp", "ep"] : tensor<f32>
  %d = dist.replicate %x over ["dp", "ep"] : tensor<f32>
  return
}

// CHECK-LABEL: func.func @exchange
func.func @exchange(%rows: !slots, %c: tensor<4x8xi32>, %i: tensor<i32>, %y0: !slots) {
  // CHECK: %[[RECEIVED:.*]], %[[SIZES:.*]] = dist.token_exchange %[[ROWS:.*]], %[[C:.*]] over ["ep"] : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<4x8xi32>
  // GENERIC: "dist.token_exchange"(%{{.*}}, %{{.*}}) <{axes = #dist.axes<["ep"]>}>
  // GENERIC-SAME: -> (tensor<?x64xbf16, #moe.rows<"R">>, tensor<2xi32>)
  %received, %sizes = dist.token_exchange %rows, %c over ["ep"] : !slots, tensor<4x8xi32>
  // CHECK: dist.token_exchange %[[ROWS]], %[[C]] round %[[I:.*]] over ["ep"] :
  %more, %more_sizes = dist.token_exchange %rows, %c round %i over ["ep"] : !slots, tensor<4x8xi32>
  // CHECK: %[[Y:.*]] = dist.token_return %[[RECEIVED]], %[[C]] over ["ep"] : tensor<?x64xbf16, #moe.rows<"R">>, tensor<4x8xi32> -> tensor<?x64xbf16, #moe.rows<2 * "T">>
  %y = dist.token_return %received, %c over ["ep"] : !received, tensor<4x8xi32> -> !slots
  // CHECK: dist.token_return %[[RECEIVED]], %[[C]] round %[[I]] into %[[Y]] over ["ep"] :
  %z = dist.token_return %received, %c round %i into %y over ["ep"]
      : !received, tensor<4x8xi32> -> !slots
  // CHECK: dist.token_return %[[RECEIVED]], %[[C]] into %[[Y]] over ["ep"] :
  %u = dist.token_return %received, %c into %y over ["ep"] : !received, tensor<4x8xi32> -> !slots
  // CHECK: %[[COUNT:.*]] = dist.overflow_rounds %[[C]] : tensor<4x8xi32>
  // GENERIC: "dist.overflow_rounds"(%{{.*}}) : (tensor<4x8xi32>) -> tensor<i32>
  %count = dist.overflow_rounds %c : tensor<4x8xi32>

  // CHECK: %{{.*}}:2 = dist.rounds %[[ROUND:.*]] of %[[COUNT]] on host over ["ep"]
  // CHECK-SAME: carry(%[[SUM:.*]] = %[[Y]] : tensor<?x64xbf16, #moe.rows<2 * "T">>, %[[SAME:.*]] = %{{.*}} : tensor<?x64xbf16, #moe.rows<2 * "T">>)
  // CHECK-SAME: with(%[[R:.*]] = %[[ROWS]] : tensor<?x64xbf16, #moe.rows<2 * "T">>, %[[K:.*]] = %[[C]] : tensor<4x8xi32>) {
  // GENERIC: "dist.rounds"(%{{.*}}) <{axes = #dist.axes<["ep"]>, known = #dist<knower host>, operandSegmentSizes = array<i32: 1, 2, 2>}>
  // GENERIC-NEXT: ^bb0(%{{.*}}: tensor<i32>,
  %v:2 = dist.rounds %round of %count on host over ["ep"]
      carry(%sum = %y : !slots, %same = %y0 : !slots) with(%r = %rows : !slots, %k = %c : tensor<4x8xi32>) {
    // CHECK: dist.token_exchange %[[R]], %[[K]] round %[[ROUND]] over ["ep"]
    %in, %in_sizes = dist.token_exchange %r, %k round %round over ["ep"] : !slots, tensor<4x8xi32>
    // CHECK: %[[NEXT:.*]] = dist.token_return %{{.*}}, %[[K]] round %[[ROUND]] into %[[SUM]] over ["ep"]
    %next = dist.token_return %in, %k round %round into %sum over ["ep"]
        : !received, tensor<4x8xi32> -> !slots
    // CHECK: %[[MORE:.*]] = moe.add %[[R]], %[[NEXT]]
    %more_next = moe.add %r, %next : !slots
    // CHECK: dist.yield %[[MORE]], %[[SAME]] : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<2 * "T">>
    dist.yield %more_next, %same : !slots, !slots
  }

  // CHECK: dist.rounds %{{.*}} of %{{.*}} on device over ["fsdp", "ep"] carry(%[[A:.*]] = %{{.*}} : tensor<?x64xbf16, #moe.rows<2 * "T">>) attributes {note = 1 : i64} {
  // CHECK: moe.accumulate %[[A]], %{{.*}} : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<2 * "T">>
  %w = dist.rounds %j of %i on device over ["fsdp", "ep"] carry(%a = %y : !slots)
      attributes {note = 1} {
    %one = moe.constant 1.0 : !slots
    %b = moe.accumulate %a, %one : !slots, !slots
    dist.yield %b : !slots
  }
  return
}
