// RUN: moe-opt %s -split-input-file --differentiate --canonicalize | FileCheck %s

// What each differentiable op becomes in reverse (buildVjp), seen through the pass that asks for it.

// A parameter over all ranks: what was gathered is scattered, what was replicated is reduced, in
// float32, and the gradient is that of the shard.

!ids = tensor<?xi32, #moe.rows<"T">>

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=4]>
moe.symbol @T {bound = 512}
moe.state @head : tensor<32x8xbf16>
    {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "head"

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[SHARD:.*]] = moe.read @head : tensor<128xbf16>
// CHECK: %[[ONE:.*]] = dist.replicate %[[SHARD]] over ["dp"] : tensor<128xbf16>
// CHECK: %[[W:.*]] = dist.all_gather %[[ONE]] over ["fsdp", "ep"] : tensor<128xbf16> -> tensor<32x8xbf16>
// CHECK: %{{.*}}, %{{.*}}, %[[DW:.*]] = moe.linear_cross_entropy_grad %{{.*}}, %[[W]]
// CHECK: %[[PART:.*]] = dist.reduce_scatter %[[DW]] over ["fsdp", "ep"] : tensor<32x8xf32> -> tensor<128xf32>
// CHECK: %[[SUM:.*]] = dist.all_reduce %[[PART]] over ["dp"] : tensor<128xf32>
// CHECK: moe.gradient @head, %[[SUM]] : tensor<128xf32>
func.func @evaluate(%x: tensor<?x8xbf16, #moe.rows<"T">> {moe.name = "x"},
                    %labels: !ids {moe.name = "labels"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %shard = moe.read @head : tensor<128xbf16>
  %one = dist.replicate %shard over ["dp"] : tensor<128xbf16>
  %w = dist.all_gather %one over ["fsdp", "ep"] : tensor<128xbf16> -> tensor<32x8xbf16>
  %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 4
      : tensor<?x8xbf16, #moe.rows<"T">>, tensor<32x8xbf16>, !ids, tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// -----

// The other direction: a sum over ranks, scattered and reduced.

dist.mesh @mesh <["dp"=3, "fsdp"=2]>
moe.state @x : tensor<2x128x2xf32> {kind = parameter} from "x"
moe.state @head : tensor<32x2xf32> {kind = parameter} from "head"

// CHECK-LABEL: func.func @micro_step
// CHECK: %{{.*}}, %[[DX:.*]], %[[DHEAD:.*]] = moe.linear_cross_entropy_grad
// CHECK: moe.gradient @head, %[[DHEAD]] : tensor<32x2xf32>
// CHECK: %[[DPART:.*]] = dist.all_reduce %[[DX]] over ["dp"] : tensor<128x2xf32>
// CHECK: %[[DWHOLE:.*]] = dist.all_gather %[[DPART]] over ["fsdp"] : tensor<128x2xf32> -> tensor<2x128x2xf32>
// CHECK: moe.gradient @x, %[[DWHOLE]] : tensor<2x128x2xf32>
func.func @evaluate(%labels: tensor<128xi32> {moe.name = "labels"},
                    %loss_weights: tensor<128xf32> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %whole = moe.read @x : tensor<2x128x2xf32>
  %part = dist.reduce_scatter %whole over ["fsdp"] : tensor<2x128x2xf32> -> tensor<128x2xf32>
  %x = dist.all_reduce %part over ["dp"] : tensor<128x2xf32>
  %head = moe.read @head : tensor<32x2xf32>
  %loss = moe.linear_cross_entropy %x, %head, %labels, %loss_weights chunk_rows 4
      : tensor<128x2xf32>, tensor<32x2xf32>, tensor<128xi32>, tensor<128xf32>
  return %loss : tensor<f32>
}

// -----

// The exchange of tokens: an exchange becomes a return and a return an exchange, of the same counts
// and the same round.

!tokens = tensor<?x4xf32, #moe.rows<"T">>
!received = tensor<?x4xf32, #moe.rows<"R">>
!ids = tensor<?xi32, #moe.rows<"T">>

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
moe.state @table : tensor<32x4xf32> {kind = parameter} from "table"
moe.state @down : tensor<4x4x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>}
    from #moe.stack<e = 0 to 4, "{e}">

// CHECK-LABEL: func.func @micro_step
// CHECK-SAME: %[[C:[^:]*]]: tensor<2x4xi32> {moe.name = "counts"}, %[[I:[^:]*]]: tensor<i32>
// CHECK: %[[X:.*]] = moe.embedding
// CHECK: %[[W:.*]] = moe.read @down : tensor<2x4x4xf32>
// CHECK: %[[RECEIVED:.*]], %[[SIZES:.*]] = dist.token_exchange %[[X]], %[[C]] round %[[I]] over ["ep"]
// CHECK: %[[G:.*]] = moe.grouped_gemm %[[RECEIVED]], %[[W]], %[[SIZES]]
// CHECK: dist.token_return %[[G]], %[[C]] round %[[I]] into %[[X]] over ["ep"]
// CHECK: %{{.*}}, %[[DY:.*]], %{{.*}} = moe.linear_cross_entropy_grad
// CHECK: %[[DG:.*]], %{{.*}} = dist.token_exchange %[[DY]], %[[C]] round %[[I]] over ["ep"]
// CHECK: %[[DW:.*]] = moe.grouped_gemm_wgrad %[[DG]], %[[RECEIVED]], %[[SIZES]]
// CHECK: %[[DR:.*]] = moe.grouped_gemm_dgrad %[[DG]], %[[W]], %[[SIZES]]
// CHECK: moe.gradient @down, %[[DW]] : tensor<2x4x4xf32>
// The cotangent of `into` and that of the rows sent: one sum, made in place.
// CHECK: %[[DX:.*]] = dist.token_return %[[DR]], %[[C]] round %[[I]] into %[[DY]] over ["ep"]
// CHECK: moe.embedding_grad %[[DX]]
func.func @evaluate(%ids: !ids {moe.name = "ids"}, %c: tensor<2x4xi32> {moe.name = "counts"},
                    %i: tensor<i32> {moe.name = "round"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x4xf32>
  %x = moe.embedding %table, %ids : tensor<32x4xf32>, !ids
  %w = moe.read @down : tensor<2x4x4xf32>
  %received, %sizes = dist.token_exchange %x, %c round %i over ["ep"] : !tokens, tensor<2x4xi32>
  %g = moe.grouped_gemm %received, %w, %sizes : !received, tensor<2x4x4xf32>, tensor<2xi32>
  %y = dist.token_return %g, %c round %i into %x over ["ep"]
      : !received, tensor<2x4xi32> -> !tokens
  %loss = moe.linear_cross_entropy %y, %table, %ids, %loss_weights chunk_rows 4
      : !tokens, tensor<32x4xf32>, !ids, tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// -----

// The reverse of the loop is a loop of as many rounds that receives its rows once more. It carries
// the cotangents of rows and weights; that of the carried value passes by, and what rounds add to the
// cotangent of the rows starts there.

!tokens = tensor<?x4xbf16, #moe.rows<"T">>
!received = tensor<?x4xbf16, #moe.rows<"R">>
!ids = tensor<?xi32, #moe.rows<"T">>

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
moe.state @table : tensor<32x4xbf16> {kind = parameter} from "table"
moe.state @down : tensor<4x4x4xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>}
    from #moe.stack<e = 0 to 4, "{e}">

// CHECK-LABEL: func.func @micro_step
// CHECK-SAME: %[[C:[^:]*]]: tensor<2x4xi32> {moe.name = "counts"}
// CHECK: %[[ZEROW:.*]] = moe.constant 0.000000e+00 : tensor<2x4x4xf32>
// CHECK: %[[X:.*]] = moe.embedding
// CHECK: %[[W:.*]] = moe.read @down
// CHECK: %[[COUNT:.*]] = dist.overflow_rounds %[[C]]
// CHECK: dist.rounds %{{.*}} of %[[COUNT]] on device over ["ep"] carry(%{{.*}} = %[[X]]
// CHECK: %{{.*}}, %[[DY:.*]], %{{.*}} = moe.linear_cross_entropy_grad
// CHECK: %[[LOOP:.*]]:2 = dist.rounds %[[I:.*]] of %[[COUNT]] on device over ["ep"]
// CHECK-SAME: carry(%[[SUMX:.*]] = %[[DY]] : tensor<?x4xbf16, #moe.rows<"T">>, %[[SUMW:.*]] = %[[ZEROW]] : tensor<2x4x4xf32>)
// CHECK-SAME: with(%[[XIN:.*]] = %[[X]] : {{[^%]*}}, %[[CIN:.*]] = %[[C]] : tensor<2x4xi32>, %[[WIN:.*]] = %[[W]] : tensor<2x4x4xbf16>, %[[DYIN:.*]] = %[[DY]] : tensor<?x4xbf16, #moe.rows<"T">>) {
// CHECK-NEXT: %[[RECEIVED:.*]], %[[SIZES:.*]] = dist.token_exchange %[[XIN]], %[[CIN]] round %[[I]] over ["ep"]
// CHECK-NEXT: %[[DG:.*]], %{{.*}} = dist.token_exchange %[[DYIN]], %[[CIN]] round %[[I]] over ["ep"]
// CHECK-NEXT: %[[DW:.*]] = moe.grouped_gemm_wgrad %[[DG]], %[[RECEIVED]], %[[SIZES]]
// CHECK-NEXT: %[[DR:.*]] = moe.grouped_gemm_dgrad %[[DG]], %[[WIN]], %[[SIZES]]
// CHECK-NEXT: %[[NEXTX:.*]] = dist.token_return %[[DR]], %[[CIN]] round %[[I]] into %[[SUMX]] over ["ep"]
// CHECK-NEXT: %[[NEXTW:.*]] = moe.accumulate %[[SUMW]], %[[DW]] : tensor<2x4x4xf32>
// CHECK-NEXT: dist.yield %[[NEXTX]], %[[NEXTW]]
// CHECK: moe.gradient @down, %[[LOOP]]#1 : tensor<2x4x4xf32>
// CHECK: moe.embedding_grad %[[LOOP]]#0
func.func @evaluate(%ids: !ids {moe.name = "ids"}, %c: tensor<2x4xi32> {moe.name = "counts"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x4xbf16>
  %x = moe.embedding %table, %ids : tensor<32x4xbf16>, !ids
  %w = moe.read @down : tensor<2x4x4xbf16>
  %count = dist.overflow_rounds %c : tensor<2x4xi32>
  %y = dist.rounds %round of %count on device over ["ep"] carry(%sum = %x : !tokens)
      with(%xin = %x : !tokens, %cin = %c : tensor<2x4xi32>, %win = %w : tensor<2x4x4xbf16>) {
    %received, %sizes = dist.token_exchange %xin, %cin round %round over ["ep"]
        : !tokens, tensor<2x4xi32>
    %g = moe.grouped_gemm %received, %win, %sizes : !received, tensor<2x4x4xbf16>, tensor<2xi32>
    %next = dist.token_return %g, %cin round %round into %sum over ["ep"]
        : !received, tensor<2x4xi32> -> !tokens
    dist.yield %next : !tokens
  }
  %loss = moe.linear_cross_entropy %y, %table, %ids, %loss_weights chunk_rows 4
      : !tokens, tensor<32x4xbf16>, !ids, tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// -----

// A loop that only passes on what it carries, or whose second result the loss does not depend on.

dist.mesh @mesh <["ep"=2]>
moe.state @x : tensor<128x2xf32> {kind = parameter} from "x"
moe.state @a : tensor<128x2xf32> {kind = parameter} from "a"
moe.state @head : tensor<32x2xf32> {kind = parameter} from "head"

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[ZERO:.*]] = moe.constant 0.000000e+00 : tensor<128x2xf32>
// CHECK: dist.rounds
// CHECK: dist.rounds
// CHECK: %{{.*}}, %[[DY:.*]], %{{.*}} = moe.linear_cross_entropy_grad
// CHECK: %[[DA:.*]] = dist.rounds %{{.*}} carry(%[[SUM:.*]] = %[[ZERO]] : tensor<128x2xf32>) with(%[[DYIN:.*]] = %[[DY]] : tensor<128x2xf32>) {
// CHECK-NEXT: %[[D:.*]] = moe.scale %[[DYIN]] by 2.000000e+00
// CHECK-NEXT: %[[NEXT:.*]] = moe.accumulate %[[SUM]], %[[D]]
// CHECK-NEXT: dist.yield %[[NEXT]]
// CHECK: moe.gradient @a, %[[DA]]
// CHECK: moe.gradient @x, %[[DY]]
func.func @evaluate(%count: tensor<i32> {moe.name = "count"},
                    %labels: tensor<128xi32> {moe.name = "labels"},
                    %loss_weights: tensor<128xf32> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %x = moe.read @x : tensor<128x2xf32>
  %a = moe.read @a : tensor<128x2xf32>
  %same = dist.rounds %round of %count on host over ["ep"] carry(%s = %x : tensor<128x2xf32>) {
    dist.yield %s : tensor<128x2xf32>
  }
  %y:2 = dist.rounds %round of %count on host over ["ep"]
      carry(%s = %same : tensor<128x2xf32>, %u = %x : tensor<128x2xf32>)
      with(%ain = %a : tensor<128x2xf32>) {
    %b = moe.scale %ain by 2.0 : tensor<128x2xf32>
    %t = moe.add %b, %s : tensor<128x2xf32>
    %v = moe.add %u, %ain : tensor<128x2xf32>
    dist.yield %t, %v : tensor<128x2xf32>, tensor<128x2xf32>
  }
  %head = moe.read @head : tensor<32x2xf32>
  %loss = moe.linear_cross_entropy %y#0, %head, %labels, %loss_weights chunk_rows 4
      : tensor<128x2xf32>, tensor<32x2xf32>, tensor<128xi32>, tensor<128xf32>
  return %loss : tensor<f32>
}
