// RUN: moe-opt %s --verify-gradient-reduction --split-input-file | FileCheck %s --check-prefix=FORWARD
// RUN: moe-opt %s --differentiate --verify-gradient-reduction --split-input-file | FileCheck %s --check-prefix=GRADIENT
// RUN: moe-opt %s --differentiate --accumulate --optimizer --verify-gradient-reduction --canonicalize --cse --verify-gradient-reduction --split-input-file | FileCheck %s

// Programs of which the proof holds: before differentiate, after it, and when they are complete.
// The module stays as it is.

// All three axes: dense parameters flat, experts by dimension 0 and flat, tokens exchanged, rows
// that overflow in a loop, and a loss term of all ranks' statistics, weighted 1/8.

// FORWARD: func.func @evaluate
// GRADIENT: moe.gradient @experts
// CHECK-LABEL: func.func @micro_step
// CHECK: dist.all_reduce {{.*}} over ["dp"]
// CHECK: moe.write @experts.grad
// CHECK-LABEL: func.func @optimizer_step
// CHECK: dist.all_reduce {{.*}} over ["fsdp", "ep"]
// CHECK: moe.write @experts

!tokens = tensor<?x8xf32, #moe.rows<"T">>
!slots = tensor<?x8xf32, #moe.rows<2 * "T">>
!received = tensor<?x8xf32, #moe.rows<"R">>
!ids = tensor<?xi32, #moe.rows<"T">>
!choices = tensor<?x2xf32, #moe.rows<"T">>
!experts = tensor<?x2xi32, #moe.rows<"T">>

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 64}
moe.symbol @M {bound = 4}
moe.symbol @R {bound = 128}
moe.state @table : tensor<32x8xf32>
    {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "table"
moe.state @router : tensor<4x8xf32>
    {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "router"
moe.state @experts : tensor<4x8x8xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>}
    from #moe.stack<e = 0 to 4, "{e}">

func.func @evaluate(%ids: !ids {moe.name = "ids"}, %labels: !ids {moe.name = "labels"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"},
                    %micro_batch_ids: !ids {moe.name = "micro_batch_ids"},
                    %aux_weights: tensor<?xf32, #moe.rows<"M">> {moe.name = "aux_weights",
                        dist.replicated = #dist.axes<["dp", "fsdp", "ep"]>})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table_shard = moe.read @table : tensor<128xf32>
  %table_copy = dist.replicate %table_shard over ["dp"] : tensor<128xf32>
  %table = dist.all_gather %table_copy over ["fsdp", "ep"] : tensor<128xf32> -> tensor<32x8xf32>
  %router_shard = moe.read @router : tensor<128xf32>
  %router_copy = dist.replicate %router_shard over ["dp"] : tensor<128xf32>
  %router = dist.all_gather %router_copy over ["fsdp", "ep"] : tensor<128xf32> -> tensor<4x8xf32>
  %experts_shard = moe.read @experts : tensor<128xf32>
  %experts_copy = dist.replicate %experts_shard over ["dp"] : tensor<128xf32>
  %w = dist.all_gather %experts_copy over ["fsdp"] : tensor<128xf32> -> tensor<2x8x8xf32>

  %x = moe.embedding %table, %ids : tensor<32x8xf32>, !ids
  %logits = moe.linear %x, %router : !tokens, tensor<4x8xf32>
  %weights, %experts, %statistics = moe.router %logits, %micro_batch_ids top_k 2 score "softmax"
      : tensor<?x4xf32, #moe.rows<"T">>, !ids -> !choices, tensor<?x2x4xf32, #moe.rows<"M">>
  %counts, %row_of_slot = moe.sort_by_expert %experts num_experts 4 : !experts
  %rows = moe.permute %x, %row_of_slot : !tokens, !experts
  %all_counts = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  %received, %sizes = dist.token_exchange %rows, %all_counts over ["ep"] : !slots, tensor<2x4xi32>
  %h = moe.grouped_gemm %received, %w, %sizes : !received, tensor<2x8x8xf32>, tensor<2xi32>
  %back = dist.token_return %h, %all_counts over ["ep"] : !received, tensor<2x4xi32> -> !slots
  %count = dist.overflow_rounds %all_counts : tensor<2x4xi32>
  %all = dist.rounds %round of %count on host over ["ep"] carry(%sum = %back : !slots)
      with(%rows_in = %rows : !slots, %counts_in = %all_counts : tensor<2x4xi32>,
           %w_in = %w : tensor<2x8x8xf32>) {
    %more, %more_sizes = dist.token_exchange %rows_in, %counts_in round %round over ["ep"]
        : !slots, tensor<2x4xi32>
    %more_h = moe.grouped_gemm %more, %w_in, %more_sizes
        : !received, tensor<2x8x8xf32>, tensor<2xi32>
    %next = dist.token_return %more_h, %counts_in round %round into %sum over ["ep"]
        : !received, tensor<2x4xi32> -> !slots
    dist.yield %next : !slots
  }
  %y = moe.unpermute %all, %weights, %row_of_slot : !slots, !choices, !experts
  %sum = moe.add %x, %y : !tokens
  %loss = moe.linear_cross_entropy %sum, %table, %labels, %loss_weights chunk_rows 4
      : !tokens, tensor<32x8xf32>, !ids, tensor<?xf32, #moe.rows<"T">>

  %totals = dist.all_reduce %statistics over ["dp", "fsdp", "ep"]
      : tensor<?x2x4xf32, #moe.rows<"M">>
  %share = moe.scale %aux_weights by 0.125 : tensor<?xf32, #moe.rows<"M">>
  %aux, %expert_counts = moe.load_balance_loss %share, %totals top_k 2
      : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x4xf32, #moe.rows<"M">>
  %weighted = moe.scale %aux by 0.02 : tensor<f32>
  %both = moe.add %loss, %weighted : tensor<f32>
  return %both : tensor<f32>
}

// -----

// The same with gradients that are reduced once, at the head of @optimizer_step.

// CHECK-LABEL: func.func @micro_step
// CHECK-NOT: dist.reduce_scatter
// CHECK: moe.write @experts.grad
// CHECK-LABEL: func.func @optimizer_step
// CHECK: dist.reduce_scatter
// CHECK: moe.write @experts

!tokens = tensor<?x8xf32, #moe.rows<"T">>
!slots = tensor<?x8xf32, #moe.rows<2 * "T">>
!received = tensor<?x8xf32, #moe.rows<"R">>
!ids = tensor<?xi32, #moe.rows<"T">>
!choices = tensor<?x2xf32, #moe.rows<"T">>
!experts = tensor<?x2xi32, #moe.rows<"T">>

module attributes {moe.model = {sync_each_batch = false}} {
dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 64}
moe.symbol @M {bound = 4}
moe.symbol @R {bound = 128}
moe.state @table : tensor<32x8xf32>
    {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "table"
moe.state @router : tensor<4x8xf32>
    {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "router"
moe.state @experts : tensor<4x8x8xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>}
    from #moe.stack<e = 0 to 4, "{e}">

func.func @evaluate(%ids: !ids {moe.name = "ids"}, %labels: !ids {moe.name = "labels"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"},
                    %micro_batch_ids: !ids {moe.name = "micro_batch_ids"},
                    %aux_weights: tensor<?xf32, #moe.rows<"M">> {moe.name = "aux_weights",
                        dist.replicated = #dist.axes<["dp", "fsdp", "ep"]>})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table_shard = moe.read @table : tensor<128xf32>
  %table_copy = dist.replicate %table_shard over ["dp"] : tensor<128xf32>
  %table = dist.all_gather %table_copy over ["fsdp", "ep"] : tensor<128xf32> -> tensor<32x8xf32>
  %router_shard = moe.read @router : tensor<128xf32>
  %router_copy = dist.replicate %router_shard over ["dp"] : tensor<128xf32>
  %router = dist.all_gather %router_copy over ["fsdp", "ep"] : tensor<128xf32> -> tensor<4x8xf32>
  %experts_shard = moe.read @experts : tensor<128xf32>
  %experts_copy = dist.replicate %experts_shard over ["dp"] : tensor<128xf32>
  %w = dist.all_gather %experts_copy over ["fsdp"] : tensor<128xf32> -> tensor<2x8x8xf32>

  %x = moe.embedding %table, %ids : tensor<32x8xf32>, !ids
  %logits = moe.linear %x, %router : !tokens, tensor<4x8xf32>
  %weights, %experts, %statistics = moe.router %logits, %micro_batch_ids top_k 2 score "softmax"
      : tensor<?x4xf32, #moe.rows<"T">>, !ids -> !choices, tensor<?x2x4xf32, #moe.rows<"M">>
  %counts, %row_of_slot = moe.sort_by_expert %experts num_experts 4 : !experts
  %rows = moe.permute %x, %row_of_slot : !tokens, !experts
  %all_counts = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  %received, %sizes = dist.token_exchange %rows, %all_counts over ["ep"] : !slots, tensor<2x4xi32>
  %h = moe.grouped_gemm %received, %w, %sizes : !received, tensor<2x8x8xf32>, tensor<2xi32>
  %back = dist.token_return %h, %all_counts over ["ep"] : !received, tensor<2x4xi32> -> !slots
  %count = dist.overflow_rounds %all_counts : tensor<2x4xi32>
  %all = dist.rounds %round of %count on host over ["ep"] carry(%sum = %back : !slots)
      with(%rows_in = %rows : !slots, %counts_in = %all_counts : tensor<2x4xi32>,
           %w_in = %w : tensor<2x8x8xf32>) {
    %more, %more_sizes = dist.token_exchange %rows_in, %counts_in round %round over ["ep"]
        : !slots, tensor<2x4xi32>
    %more_h = moe.grouped_gemm %more, %w_in, %more_sizes
        : !received, tensor<2x8x8xf32>, tensor<2xi32>
    %next = dist.token_return %more_h, %counts_in round %round into %sum over ["ep"]
        : !received, tensor<2x4xi32> -> !slots
    dist.yield %next : !slots
  }
  %y = moe.unpermute %all, %weights, %row_of_slot : !slots, !choices, !experts
  %sum = moe.add %x, %y : !tokens
  %loss = moe.linear_cross_entropy %sum, %table, %labels, %loss_weights chunk_rows 4
      : !tokens, tensor<32x8xf32>, !ids, tensor<?xf32, #moe.rows<"T">>

  %totals = dist.all_reduce %statistics over ["dp", "fsdp", "ep"]
      : tensor<?x2x4xf32, #moe.rows<"M">>
  %share = moe.scale %aux_weights by 0.125 : tensor<?xf32, #moe.rows<"M">>
  %aux, %expert_counts = moe.load_balance_loss %share, %totals top_k 2
      : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x4xf32, #moe.rows<"M">>
  %weighted = moe.scale %aux by 0.02 : tensor<f32>
  %both = moe.add %loss, %weighted : tensor<f32>
  return %both : tensor<f32>
}
}

// -----

// Replicas only: a gradient is all_reduced, the norm is each replica's and needs no sum.

// CHECK-LABEL: func.func @micro_step
// CHECK: dist.all_reduce {{.*}} over ["dp"]
// CHECK-LABEL: func.func @optimizer_step
// CHECK-NOT: dist.all_reduce
dist.mesh @mesh <["dp"=4]>
moe.state @w : tensor<32x8xf32> {kind = parameter} from "w"
func.func @evaluate(%ids: tensor<?xi32, #moe.rows<"T">> {moe.name = "ids"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %copy = moe.read @w : tensor<32x8xf32>
  %w = dist.replicate %copy over ["dp"] : tensor<32x8xf32>
  %x = moe.embedding %w, %ids : tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>
  %loss = moe.linear_cross_entropy %x, %w, %ids, %loss_weights chunk_rows 4
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>,
        tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// -----

// Flat shards only.

// CHECK-LABEL: func.func @micro_step
// CHECK: dist.reduce_scatter {{.*}} over ["fsdp"]
// CHECK-LABEL: func.func @optimizer_step
// CHECK: dist.all_reduce {{.*}} over ["fsdp"]
dist.mesh @mesh <["fsdp"=4]>
moe.state @w : tensor<32x8xf32>
    {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
func.func @evaluate(%ids: tensor<?xi32, #moe.rows<"T">> {moe.name = "ids"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %shard = moe.read @w : tensor<128xf32>
  %w = dist.all_gather %shard over ["fsdp"] : tensor<128xf32> -> tensor<32x8xf32>
  %x = moe.embedding %w, %ids : tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>
  %loss = moe.linear_cross_entropy %x, %w, %ids, %loss_weights chunk_rows 4
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>,
        tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// -----

// Experts over "ep", another way: gathered whole, and their gradient scattered by experts.

// CHECK-LABEL: func.func @micro_step
// CHECK: dist.reduce_scatter {{.*}} over ["ep"]
// CHECK: dist.all_reduce {{.*}} over ["dp"]
// CHECK: moe.write @experts.grad
dist.mesh @mesh <["dp"=2, "ep"=2]>
moe.state @head : tensor<32x8xf32> {kind = parameter} from "head"
moe.state @experts : tensor<4x8x8xf32>
    {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from #moe.stack<e = 0 to 4, "{e}">
func.func @evaluate(%x: tensor<?x8xf32, #moe.rows<"T">> {moe.name = "x"},
                    %sizes: tensor<4xi32> {moe.name = "sizes"},
                    %labels: tensor<?xi32, #moe.rows<"T">> {moe.name = "labels"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %part = moe.read @experts : tensor<2x8x8xf32>
  %copy = dist.replicate %part over ["dp"] : tensor<2x8x8xf32>
  %w = dist.all_gather %copy over ["ep"] : tensor<2x8x8xf32> -> tensor<4x8x8xf32>
  %y = moe.grouped_gemm %x, %w, %sizes
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<4x8x8xf32>, tensor<4xi32>
  %head_copy = moe.read @head : tensor<32x8xf32>
  %head = dist.replicate %head_copy over ["dp", "ep"] : tensor<32x8xf32>
  %loss = moe.linear_cross_entropy %y, %head, %labels, %loss_weights chunk_rows 4
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>,
        tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// -----

// Without a mesh there is one rank, and nothing to prove.

// CHECK-LABEL: func.func @micro_step
moe.state @head : tensor<32x8xf32> {kind = parameter} from "head"
func.func @evaluate(%x: tensor<?x8xf32, #moe.rows<"T">> {moe.name = "x"},
                    %labels: tensor<?xi32, #moe.rows<"T">> {moe.name = "labels"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %head = moe.read @head : tensor<32x8xf32>
  %loss = moe.linear_cross_entropy %x, %head, %labels, %loss_weights chunk_rows 4
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>,
        tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}
