// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// Gradients in custom and in generic form: those by a weight are inferred to be f32.

!hidden = tensor<?x64xbf16, #moe.rows<"T">>
!packed = tensor<?x128xbf16, #moe.rows<"T">>
!ids = tensor<?xi32, #moe.rows<"T">>
!rows = tensor<?x64xbf16, #moe.rows<2 * "T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!statistics = tensor<?x2x8xf32, #moe.rows<"M">>

// CHECK-LABEL: func.func @dense
func.func @dense(%dy: !hidden, %x: !hidden, %ids: !ids, %w: tensor<64x32xbf16>, %n: tensor<64xbf16>) {
  // CHECK: moe.embedding_grad %{{[^ ,]+}}, %{{[^ ,]+}} num_embeddings 256 : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"T">>
  // GENERIC: "moe.embedding_grad"{{.*}} -> tensor<256x64xf32>
  %dtable = moe.embedding_grad %dy, %ids num_embeddings 256 : !hidden, !ids
  // CHECK: moe.linear_dgrad %{{[^ ,]+}}, %{{[^ ,]+}} : tensor<?x64xbf16, #moe.rows<"T">>, tensor<64x32xbf16>
  // GENERIC: "moe.linear_dgrad"{{.*}} -> tensor<?x32xbf16, #moe.rows<"T">>
  %dx = moe.linear_dgrad %dy, %w : !hidden, tensor<64x32xbf16>
  // CHECK: moe.linear_wgrad %{{[^ ,]+}}, %{{[^ ,]+}} : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?x32xbf16, #moe.rows<"T">> -> tensor<64x32xf32>
  %dw = moe.linear_wgrad %dy, %dx : !hidden, tensor<?x32xbf16, #moe.rows<"T">> -> tensor<64x32xf32>
  // CHECK: moe.linear_wgrad {{.*}} -> tensor<64x32xbf16>
  %rounded = moe.linear_wgrad %dy, %dx : !hidden, tensor<?x32xbf16, #moe.rows<"T">> -> tensor<64x32xbf16>
  // CHECK: moe.rms_norm_grad %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} eps 1.000000e-05 : tensor<?x64xbf16, #moe.rows<"T">>, tensor<64xbf16>
  // GENERIC: "moe.rms_norm_grad"{{.*}} -> (tensor<?x64xbf16, #moe.rows<"T">>, tensor<64xf32>)
  %dh, %dn = moe.rms_norm_grad %dy, %x, %n eps 1.0e-05 : !hidden, tensor<64xbf16>
  return
}

// CHECK-LABEL: func.func @heads
func.func @heads(%dy: !packed, %qkv: !packed, %q: tensor<64xbf16>, %k: tensor<32xbf16>,
                 %da: !hidden, %a: !hidden, %lse: tensor<?x4xf32, #moe.rows<"T">>,
                 %cu_seqlens: tensor<?xi32, #moe.rows<"S" + 1>>) {
  // CHECK: moe.qk_norm_grad %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} heads 4 kv_heads 2 head_dim 16 eps 1.000000e-05
  // CHECK-SAME: : tensor<?x128xbf16, #moe.rows<"T">>, tensor<64xbf16>, tensor<32xbf16>
  // GENERIC: "moe.qk_norm_grad"{{.*}} -> (tensor<?x128xbf16, #moe.rows<"T">>, tensor<64xf32>, tensor<32xf32>)
  %dqkv, %dq, %dk = moe.qk_norm_grad %dy, %qkv, %q, %k heads 4 kv_heads 2 head_dim 16 eps 1.0e-05
      : !packed, tensor<64xbf16>, tensor<32xbf16>
  // CHECK: moe.attention_grad %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} heads 4 kv_heads 2 head_dim 16 scale 2.500000e-01
  // CHECK-SAME: : tensor<?x128xbf16, #moe.rows<"T">>, tensor<?x64xbf16, #moe.rows<"T">>,
  // CHECK-SAME: tensor<?x4xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"S" + 1>>
  // GENERIC: "moe.attention_grad"{{.*}} -> tensor<?x128xbf16, #moe.rows<"T">>
  %d = moe.attention_grad %da, %qkv, %a, %lse, %cu_seqlens heads 4 kv_heads 2 head_dim 16 scale 2.5e-01
      : !packed, !hidden, tensor<?x4xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"S" + 1>>
  // CHECK: moe.attention_grad {{.*}} scale 2.500000e-01 window 64 :
  %e = moe.attention_grad %da, %qkv, %a, %lse, %cu_seqlens heads 4 kv_heads 2 head_dim 16 scale 2.5e-01
      window 64
      : !packed, !hidden, tensor<?x4xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"S" + 1>>
  return
}

// CHECK-LABEL: func.func @linear_cross_entropy_grad
func.func @linear_cross_entropy_grad(%x: !hidden, %w: tensor<256x64xbf16>, %labels: !ids,
                                     %loss_weights: tensor<?xf32, #moe.rows<"T">>, %dloss: tensor<f32>) {
  // CHECK: moe.linear_cross_entropy_grad %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} chunk_rows 1024
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<"T">>, tensor<256x64xbf16>, tensor<?xi32, #moe.rows<"T">>, tensor<?xf32, #moe.rows<"T">>
  // GENERIC: "moe.linear_cross_entropy_grad"{{.*}} -> (tensor<f32>, tensor<?x64xbf16, #moe.rows<"T">>, tensor<256x64xf32>)
  %loss, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %dloss chunk_rows 1024
      : !hidden, tensor<256x64xbf16>, !ids, tensor<?xf32, #moe.rows<"T">>
  return
}

// CHECK-LABEL: func.func @routing
func.func @routing(%dweights: !weights, %dstatistics: !statistics, %logits: tensor<?x8xbf16, #moe.rows<"T">>,
                   %weights: !weights, %experts: !slots, %micro_batch_ids: !ids, %dloss: tensor<f32>,
                   %aux_weights: tensor<?xf32, #moe.rows<"M">>, %s: !statistics) {
  // CHECK: moe.router_grad %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} top_k 2 score "softmax" renormalize true
  // CHECK-SAME: : tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2x8xf32, #moe.rows<"M">>, tensor<?x8xbf16, #moe.rows<"T">>,
  // CHECK-SAME: tensor<?x2xi32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"T">>
  // GENERIC: "moe.router_grad"{{.*}} -> tensor<?x8xbf16, #moe.rows<"T">>
  %dlogits = moe.router_grad %dweights, %dstatistics, %logits, %experts, %micro_batch_ids
      top_k 2 score "softmax" renormalize true
      : !weights, !statistics, tensor<?x8xbf16, #moe.rows<"T">>, !slots, !ids
  // CHECK: moe.router_grad_renormalized %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} num_experts 8
  // CHECK-SAME: : tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">> -> tensor<?x8xbf16, #moe.rows<"T">>
  // GENERIC: "moe.router_grad_renormalized"{{.*}} : (tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>) -> tensor<?x8xbf16, #moe.rows<"T">>
  %dlogits_of_weights = moe.router_grad_renormalized %dweights, %weights, %experts num_experts 8
      : !weights, !slots -> tensor<?x8xbf16, #moe.rows<"T">>
  // CHECK: moe.load_balance_loss_grad %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} top_k 2
  // CHECK-SAME: : tensor<f32>, tensor<?xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>
  // GENERIC: "moe.load_balance_loss_grad"{{.*}} -> tensor<?x2x8xf32, #moe.rows<"M">>
  %d = moe.load_balance_loss_grad %dloss, %aux_weights, %s, %dstatistics top_k 2
      : tensor<f32>, tensor<?xf32, #moe.rows<"M">>, !statistics, !statistics
  return
}

// CHECK-LABEL: func.func @experts
func.func @experts(%dy: !hidden, %rows: !rows, %weights: !weights, %row_of_slot: !slots,
                   %w: tensor<8x64x32xbf16>, %group_sizes: tensor<8xi32>,
                   %gate_up: tensor<?x128xbf16, #moe.rows<2 * "T">>) {
  // CHECK: %[[DROWS:.*]], %{{[^ ,]+}} = moe.unpermute_grad %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?x64xbf16, #moe.rows<2 * "T">>,
  // CHECK-SAME: tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
  // GENERIC: "moe.unpermute_grad"{{.*}} -> (tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x2xf32, #moe.rows<"T">>)
  %drows, %dweights = moe.unpermute_grad %dy, %rows, %weights, %row_of_slot
      : !hidden, !rows, !weights, !slots
  // CHECK: %[[DX:.*]] = moe.grouped_gemm_dgrad %[[DROWS]], %{{[^ ,]+}}, %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<8x64x32xbf16>, tensor<8xi32>
  // GENERIC: "moe.grouped_gemm_dgrad"{{.*}} -> tensor<?x32xbf16, #moe.rows<2 * "T">>
  %dx = moe.grouped_gemm_dgrad %drows, %w, %group_sizes : !rows, tensor<8x64x32xbf16>, tensor<8xi32>
  // CHECK: moe.grouped_gemm_wgrad %[[DROWS]], %[[DX]], %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x32xf32>
  %dw = moe.grouped_gemm_wgrad %drows, %dx, %group_sizes
      : !rows, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x32xf32>
  // CHECK: moe.grouped_gemm_wgrad {{.*}} -> tensor<8x64x32xbf16>
  %rounded = moe.grouped_gemm_wgrad %drows, %dx, %group_sizes
      : !rows, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x32xbf16>
  // CHECK: %{{.*}}, %{{.*}} = moe.grouped_gemm_wgrad_squared %[[DROWS]], %[[DX]], %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x32xbf16>
  // GENERIC: "moe.grouped_gemm_wgrad_squared"{{.*}} -> (tensor<8x64x32xbf16>, tensor<f32>)
  %squared, %squares = moe.grouped_gemm_wgrad_squared %drows, %dx, %group_sizes
      : !rows, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x32xbf16>
  // CHECK: moe.grouped_gemm_wgrad_accumulate %[[DROWS]], %[[DX]], %{{[^ ,]+}}, %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32>, tensor<8x64x32xf32>
  // GENERIC: "moe.grouped_gemm_wgrad_accumulate"{{.*}} -> tensor<8x64x32xf32>
  %sum = moe.grouped_gemm_wgrad_accumulate %drows, %dx, %group_sizes, %dw
      : !rows, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32>, tensor<8x64x32xf32>
  // CHECK: moe.gated_activation_grad %{{[^ ,]+}}, %{{[^ ,]+}} activation "silu"
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x128xbf16, #moe.rows<2 * "T">>
  // GENERIC: "moe.gated_activation_grad"{{.*}} -> tensor<?x128xbf16, #moe.rows<2 * "T">>
  %dgate_up = moe.gated_activation_grad %drows, %gate_up activation "silu"
      : !rows, tensor<?x128xbf16, #moe.rows<2 * "T">>
  // CHECK: moe.grouped_gemm_dgrad_gated %[[DROWS]], %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} activation "silu"
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<8x64x32xbf16>, tensor<8xi32>, tensor<?x64xbf16, #moe.rows<2 * "T">>
  // GENERIC: "moe.grouped_gemm_dgrad_gated"{{.*}} -> (tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>)
  %dfused, %again = moe.grouped_gemm_dgrad_gated %drows, %w, %group_sizes, %rows activation "silu"
      : !rows, tensor<8x64x32xbf16>, tensor<8xi32>, !rows
  // CHECK: moe.permute_grad %[[DROWS]], %{{[^ ,]+}} : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<"T">>
  // GENERIC: "moe.permute_grad"{{.*}} -> tensor<?x64xbf16, #moe.rows<"T">>
  %dh = moe.permute_grad %drows, %row_of_slot : !rows, !slots
  // CHECK: moe.permute_grad_add %[[DROWS]], %{{[^ ,]+}}, %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<?x64xbf16, #moe.rows<"T">>
  // GENERIC: "moe.permute_grad_add"{{.*}} -> tensor<?x64xbf16, #moe.rows<"T">>
  %dsum = moe.permute_grad_add %drows, %row_of_slot, %dy : !rows, !slots, !hidden
  // CHECK: moe.unpermute_add %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<?x64xbf16, #moe.rows<"T">>
  // GENERIC: "moe.unpermute_add"{{.*}} -> tensor<?x64xbf16, #moe.rows<"T">>
  %y = moe.unpermute_add %rows, %weights, %row_of_slot, %dy : !rows, !weights, !slots, !hidden
  return
}

// CHECK-LABEL: func.func @gathered_experts
func.func @gathered_experts(%dy: !hidden, %x: !hidden, %token_of_row: tensor<?xi32, #moe.rows<2 * "T">>,
                            %weight_of_row: tensor<?xf32, #moe.rows<2 * "T">>, %row_of_slot: !slots,
                            %w: tensor<8x64x32xbf16>, %group_sizes: tensor<8xi32>, %gate_up: !rows) {
  // CHECK: %[[D:.*]], %[[AGAIN:.*]], %{{.*}} = moe.grouped_gemm_dgrad_gated_gather %[[DY:[^ ,]+]], %[[TOKENS:[^ ,]+]], %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} activation "silu"
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>, tensor<?xf32, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x64x32xbf16>, tensor<8xi32>, tensor<?x64xbf16, #moe.rows<2 * "T">>
  // GENERIC: "moe.grouped_gemm_dgrad_gated_gather"{{.*}} -> (tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<?x2xf32, #moe.rows<"T">>)
  %dgate_up, %again, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot,
      %w, %group_sizes, %gate_up activation "silu"
      : !hidden, tensor<?xi32, #moe.rows<2 * "T">>, tensor<?xf32, #moe.rows<2 * "T">>, !slots, tensor<8x64x32xbf16>,
        tensor<8xi32>, !rows
  // CHECK: moe.grouped_gemm_dgrad_gated_weighted %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} activation "silu"
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?xf32, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x64x32xbf16>, tensor<8xi32>, tensor<?x64xbf16, #moe.rows<2 * "T">>
  // GENERIC: "moe.grouped_gemm_dgrad_gated_weighted"{{.*}} -> (tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<?x2xf32, #moe.rows<"T">>)
  %dwide, %wide, %dwide_weights = moe.grouped_gemm_dgrad_gated_weighted %gate_up, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "silu"
      : !rows, tensor<?xf32, #moe.rows<2 * "T">>, !slots, tensor<8x64x32xbf16>, tensor<8xi32>, !rows
  // CHECK: moe.grouped_gemm_wgrad_gather_dy %[[DY]], %[[TOKENS]], %[[AGAIN]], %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x32xf32>
  %ddown = moe.grouped_gemm_wgrad_gather_dy %dy, %token_of_row, %again, %group_sizes
      : !hidden, tensor<?xi32, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32>
      -> tensor<8x64x32xf32>
  // CHECK: moe.grouped_gemm_wgrad_gather_x %[[D]], %{{[^ ,]+}}, %[[TOKENS]], %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x64xbf16>
  %dw = moe.grouped_gemm_wgrad_gather_x %dgate_up, %x, %token_of_row, %group_sizes
      : !rows, !hidden, tensor<?xi32, #moe.rows<2 * "T">>, tensor<8xi32> -> tensor<8x64x64xbf16>
  // CHECK: moe.grouped_gemm_wgrad_gather_dy_accumulate %[[DY]], %[[TOKENS]], %[[AGAIN]], %{{[^ ,]+}}, %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32>, tensor<8x64x32xf32>
  // GENERIC: "moe.grouped_gemm_wgrad_gather_dy_accumulate"{{.*}} -> tensor<8x64x32xf32>
  %sum_down = moe.grouped_gemm_wgrad_gather_dy_accumulate %dy, %token_of_row, %again, %group_sizes, %ddown
      : !hidden, tensor<?xi32, #moe.rows<2 * "T">>, tensor<?x32xbf16, #moe.rows<2 * "T">>, tensor<8xi32>, tensor<8x64x32xf32>
  // CHECK: moe.grouped_gemm_wgrad_gather_x_accumulate %[[D]], %{{[^ ,]+}}, %[[TOKENS]], %{{[^ ,]+}}, %{{[^ ,]+}}
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<?x64xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<2 * "T">>, tensor<8xi32>, tensor<8x64x64xbf16>
  // GENERIC: "moe.grouped_gemm_wgrad_gather_x_accumulate"{{.*}} -> tensor<8x64x64xbf16>
  %sum = moe.grouped_gemm_wgrad_gather_x_accumulate %dgate_up, %x, %token_of_row, %group_sizes, %dw
      : !rows, !hidden, tensor<?xi32, #moe.rows<2 * "T">>, tensor<8xi32>, tensor<8x64x64xbf16>
  return
}
