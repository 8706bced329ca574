// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// Routing and experts, in custom and in generic form; inferred results.

!hidden = tensor<?x64xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!statistics = tensor<?x2x8xf32, #moe.rows<"M">>

// CHECK-LABEL: func.func @router
func.func @router(%logits: tensor<?x8xbf16, #moe.rows<"T">>,
                  %micro_batch_ids: tensor<?xi32, #moe.rows<"T">>) -> (!weights, !slots, !statistics) {
  // CHECK: moe.router %{{.*}}, %{{.*}} top_k 2 score "softmax" renormalize true
  // CHECK-SAME: : tensor<?x8xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"T">>
  // CHECK-SAME: -> tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2x8xf32, #moe.rows<"M">>
  // GENERIC: "moe.router"{{.*}} <{renormalize = true, score = "softmax", top_k = 2 : i64}>
  // GENERIC-SAME: -> (tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<?x2x8xf32, #moe.rows<"M">>)
  %weights, %experts, %statistics = moe.router %logits, %micro_batch_ids top_k 2 score "softmax"
      renormalize true : tensor<?x8xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"T">>
      -> !weights, !statistics
  return %weights, %experts, %statistics : !weights, !slots, !statistics
}

// CHECK-LABEL: func.func @router_as_olmoe
func.func @router_as_olmoe(%logits: tensor<4x8xbf16>, %micro_batch_ids: tensor<4xi32>) -> tensor<4x2xbf16> {
  // CHECK: moe.router %{{.*}}, %{{.*}} top_k 2 score "softmax" : tensor<4x8xbf16>, tensor<4xi32>
  // CHECK-SAME: -> tensor<4x2xbf16>, tensor<1x2x8xf32>
  %weights, %experts, %statistics = moe.router %logits, %micro_batch_ids top_k 2 score "softmax"
      : tensor<4x8xbf16>, tensor<4xi32> -> tensor<4x2xbf16>, tensor<1x2x8xf32>
  return %weights : tensor<4x2xbf16>
}

// CHECK-LABEL: func.func @experts
func.func @experts(%x: !hidden, %weights: !weights, %experts: !slots, %gate_up: tensor<8x192x64xf32>,
                   %down: tensor<8x64x96xf32>) -> !hidden {
  // CHECK: moe.experts %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} activation "silu"
  // CHECK-SAME: : tensor<?x64xf32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>,
  // CHECK-SAME: tensor<8x192x64xf32>, tensor<8x64x96xf32>
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !hidden, !weights, !slots, tensor<8x192x64xf32>, tensor<8x64x96xf32>
  return %y : !hidden
}

// CHECK-LABEL: func.func @load_balance_loss
func.func @load_balance_loss(%aux_weights: tensor<?xf32, #moe.rows<"M">>, %s0: !statistics,
                             %s1: !statistics) -> (tensor<f32>, tensor<2x8xf32>) {
  // CHECK: moe.load_balance_loss %{{.*}}, %{{.*}}, %{{.*}} top_k 2
  // CHECK-SAME: : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>
  // GENERIC: "moe.load_balance_loss"{{.*}} -> (tensor<f32>, tensor<2x8xf32>)
  %loss, %expert_counts = moe.load_balance_loss %aux_weights, %s0, %s1 top_k 2
      : tensor<?xf32, #moe.rows<"M">>, !statistics, !statistics
  return %loss, %expert_counts : tensor<f32>, tensor<2x8xf32>
}

// CHECK-LABEL: func.func @lowered_experts
func.func @lowered_experts(%x: !hidden, %weights: !weights, %experts: !slots,
                           %gate_up: tensor<8x192x64xf32>, %down: tensor<8x64x96xf32>) -> !hidden {
  // CHECK: %[[SIZES:.*]], %[[ROW:.*]] = moe.sort_by_expert %{{.*}} num_experts 8 : tensor<?x2xi32, #moe.rows<"T">>
  // GENERIC: "moe.sort_by_expert"{{.*}} -> (tensor<8xi32>, tensor<?x2xi32, #moe.rows<"T">>)
  %group_sizes, %row_of_slot = moe.sort_by_expert %experts num_experts 8 : !slots
  // CHECK: %[[ROWS:.*]] = moe.permute %{{.*}}, %[[ROW]] : tensor<?x64xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
  // GENERIC: "moe.permute"{{.*}} -> tensor<?x64xf32, #moe.rows<2 * "T">>
  %rows = moe.permute %x, %row_of_slot : !hidden, !slots
  // CHECK: %[[UP:.*]] = moe.grouped_gemm %[[ROWS]], %{{.*}}, %[[SIZES]]
  // CHECK-SAME: : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
  %up = moe.grouped_gemm %rows, %gate_up, %group_sizes
      : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
  // CHECK: %[[ACT:.*]] = moe.gated_activation %[[UP]] activation "silu" : tensor<?x192xf32, #moe.rows<2 * "T">>
  // GENERIC: "moe.gated_activation"{{.*}} -> tensor<?x96xf32, #moe.rows<2 * "T">>
  %act = moe.gated_activation %up activation "silu" : tensor<?x192xf32, #moe.rows<2 * "T">>
  // CHECK: %[[DOWN:.*]] = moe.grouped_gemm %[[ACT]]
  %out = moe.grouped_gemm %act, %down, %group_sizes
      : tensor<?x96xf32, #moe.rows<2 * "T">>, tensor<8x64x96xf32>, tensor<8xi32>
  // CHECK: moe.unpermute %[[DOWN]], %{{.*}}, %[[ROW]]
  // CHECK-SAME: : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
  %y = moe.unpermute %out, %weights, %row_of_slot
      : tensor<?x64xf32, #moe.rows<2 * "T">>, !weights, !slots
  return %y : !hidden
}

// CHECK-LABEL: func.func @gated_experts
func.func @gated_experts(%rows: tensor<?x64xf32, #moe.rows<2 * "T">>, %gate_up: tensor<8x192x64xf32>,
                         %group_sizes: tensor<8xi32>) -> tensor<?x96xf32, #moe.rows<2 * "T">> {
  // CHECK: %{{.*}}, %[[ACT:.*]] = moe.grouped_gemm_gated %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} activation "silu"
  // CHECK-SAME: : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
  // GENERIC: "moe.grouped_gemm_gated"{{.*}} -> (tensor<?x192xf32, #moe.rows<2 * "T">>, tensor<?x96xf32, #moe.rows<2 * "T">>)
  %up, %act = moe.grouped_gemm_gated %rows, %gate_up, %group_sizes activation "silu"
      : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
  // CHECK: return %[[ACT]]
  return %act : tensor<?x96xf32, #moe.rows<2 * "T">>
}

// Rows of rows: the scale and the offset of the symbol are multiplied by k.
// CHECK-LABEL: func.func @scaled_rows
func.func @scaled_rows(%x: tensor<?x4xf32, #moe.rows<3 * "T" + 1>>,
                       %row_of_slot: tensor<?x2xi32, #moe.rows<3 * "T" + 1>>)
    -> tensor<?x4xf32, #moe.rows<6 * "T" + 2>> {
  %rows = moe.permute %x, %row_of_slot
      : tensor<?x4xf32, #moe.rows<3 * "T" + 1>>, tensor<?x2xi32, #moe.rows<3 * "T" + 1>>
  return %rows : tensor<?x4xf32, #moe.rows<6 * "T" + 2>>
}

// CHECK-LABEL: func.func @gathered_experts
func.func @gathered_experts(%x: !hidden, %row_of_slot: !slots, %weights: !weights, %gate_up: tensor<8x192x64xf32>,
                            %group_sizes: tensor<8xi32>) -> tensor<?x96xf32, #moe.rows<2 * "T">> {
  // CHECK: %[[TOKENS:.*]], %{{.*}} = moe.rows_of_tokens %{{[^ ,]+}}, %{{[^ ,]+}} : tensor<?x2xi32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>
  // GENERIC: "moe.rows_of_tokens"{{.*}} -> (tensor<?xi32, #moe.rows<2 * "T">>, tensor<?xf32, #moe.rows<2 * "T">>)
  %token_of_row, %weight_of_row = moe.rows_of_tokens %row_of_slot, %weights : !slots, !weights
  // CHECK: %{{.*}}, %[[ACT:.*]] = moe.grouped_gemm_gated_gather %{{[^ ,]+}}, %[[TOKENS]], %{{[^ ,]+}}, %{{[^ ,]+}} activation "silu"
  // CHECK-SAME: : tensor<?x64xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
  // GENERIC: "moe.grouped_gemm_gated_gather"{{.*}} -> (tensor<?x192xf32, #moe.rows<2 * "T">>, tensor<?x96xf32, #moe.rows<2 * "T">>)
  %up, %act = moe.grouped_gemm_gated_gather %x, %token_of_row, %gate_up, %group_sizes activation "silu"
      : !hidden, tensor<?xi32, #moe.rows<2 * "T">>, tensor<8x192x64xf32>, tensor<8xi32>
  // CHECK: return %[[ACT]]
  return %act : tensor<?x96xf32, #moe.rows<2 * "T">>
}
