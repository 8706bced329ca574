// RUN: moe-opt %s -split-input-file --differentiate | FileCheck %s
// RUN: moe-opt %s -split-input-file --differentiate | FileCheck %s --check-prefix=GRADIENT

// What each differentiable op becomes in reverse (buildVjp), seen through the pass that asks for it.
// The forward part of @micro_step is a copy of @evaluate; what follows is checked.

!hidden = tensor<?x8xbf16, #moe.rows<"T">>
!packed = tensor<?x16xbf16, #moe.rows<"T">>
!ids = tensor<?xi32, #moe.rows<"T">>

moe.state @table : tensor<32x8xbf16> {kind = parameter}
moe.state @norm : tensor<8xbf16> {kind = parameter}
moe.state @qkv : tensor<16x8xbf16> {kind = parameter}
moe.state @q : tensor<8xbf16> {kind = parameter}
moe.state @k : tensor<4xbf16> {kind = parameter}
moe.state @head : tensor<32x8xbf16> {kind = parameter}

// CHECK-LABEL: func.func @micro_step
// CHECK-SAME: (%[[IDS:[^:]*]]: tensor<{{.*}}> {moe.name = "input_ids"}, %[[LABELS:[^:]*]]: tensor
// CHECK: %[[X:.*]] = moe.embedding
// CHECK: %[[NORM:.*]] = moe.read @norm
// CHECK: %[[H:.*]] = moe.rms_norm %[[X]]
// CHECK: %[[QKV:.*]] = moe.read @qkv
// CHECK: %[[P:.*]] = moe.linear %[[H]]
// CHECK: %[[Q:.*]] = moe.read @q :
// CHECK: %[[K:.*]] = moe.read @k :
// CHECK: %[[N:.*]] = moe.qk_norm %[[P]]
// CHECK: %[[R:.*]] = moe.rotary %[[N]]
// CHECK: %[[A:.*]], %[[LSE:.*]] = moe.attention %[[R]], %[[CU:[^ ]*]]
// CHECK: %[[B:.*]] = moe.boundary
// CHECK: %[[HEAD:.*]] = moe.read @head
// CHECK: %{{.*}} = moe.linear_cross_entropy %[[B]]

// The loss is 3 ce: its cotangent is scaled on the way back.
// CHECK: %[[ONE:.*]] = moe.constant 1.000000e+00 : tensor<f32>
// CHECK: %[[DCE:.*]] = moe.scale %[[ONE]] by 3.000000e+00
// CHECK: %{{.*}}, %[[DB:.*]], %[[DHEAD:.*]] = moe.linear_cross_entropy_grad %[[B]], %[[HEAD]], %[[LABELS]], %{{.*}}, %[[DCE]] chunk_rows 4
// CHECK: %[[DS:.*]] = moe.boundary %[[DB]] {layer = 0 : i64}
// CHECK: %[[DR:.*]] = moe.attention_grad %[[DS]], %[[R]], %[[A]], %[[LSE]], %[[CU]] heads 2 kv_heads 1 head_dim 4 scale 5.000000e-01 window 64
// CHECK: %[[DN:.*]] = moe.rotary %[[DR]], %{{.*}} heads 2 kv_heads 1 head_dim 4 theta 1.000000e+04 inverse true
// CHECK: %[[DP:.*]], %[[DQ:.*]], %[[DK:.*]] = moe.qk_norm_grad %[[DN]], %[[P]], %[[Q]], %[[K]] heads 2 kv_heads 1 head_dim 4 eps 1.000000e-05
// CHECK: %[[DQKV:.*]] = moe.linear_wgrad %[[DP]], %[[H]]
// CHECK: %[[DH:.*]] = moe.linear_dgrad %[[DP]], %[[QKV]]
// CHECK: %[[DX:.*]], %[[DNORM:.*]] = moe.rms_norm_grad %[[DH]], %[[X]], %[[NORM]] eps 1.000000e-05
// What reaches x directly and what comes through the norm add up.
// CHECK: %[[SUM:.*]] = moe.add %[[DS]], %[[DX]] : tensor<?x8xbf16, #moe.rows<"T">>
// CHECK: %[[DTABLE:.*]] = moe.embedding_grad %[[SUM]], %[[IDS]] num_embeddings 32
// Gradients by parameters are float32.
// GRADIENT-LABEL: func.func @micro_step
// GRADIENT-DAG: moe.gradient @head, %{{.*}} : tensor<32x8xf32>
// GRADIENT-DAG: moe.gradient @k, %{{.*}} : tensor<4xf32>
// GRADIENT-DAG: moe.gradient @norm, %{{.*}} : tensor<8xf32>
// GRADIENT-DAG: moe.gradient @q, %{{.*}} : tensor<8xf32>
// GRADIENT-DAG: moe.gradient @qkv, %{{.*}} : tensor<16x8xf32>
// GRADIENT-DAG: moe.gradient @table, %{{.*}} : tensor<32x8xf32>
func.func @evaluate(%ids: !ids {moe.name = "input_ids"}, %labels: !ids {moe.name = "labels"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"},
                    %cu_seqlens: tensor<?xi32, #moe.rows<"S" + 1>> {moe.name = "cu_seqlens"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x8xbf16>
  %x = moe.embedding %table, %ids : tensor<32x8xbf16>, !ids
  %norm = moe.read @norm : tensor<8xbf16>
  %h = moe.rms_norm %x, %norm eps 1.0e-05 : !hidden, tensor<8xbf16>
  %w = moe.read @qkv : tensor<16x8xbf16>
  %p = moe.linear %h, %w : !hidden, tensor<16x8xbf16>
  %q = moe.read @q : tensor<8xbf16>
  %k = moe.read @k : tensor<4xbf16>
  %n = moe.qk_norm %p, %q, %k heads 2 kv_heads 1 head_dim 4 eps 1.0e-05
      : !packed, tensor<8xbf16>, tensor<4xbf16>
  %r = moe.rotary %n, %ids heads 2 kv_heads 1 head_dim 4 theta 1.0e+04 : !packed, !ids
  %a, %lse = moe.attention %r, %cu_seqlens heads 2 kv_heads 1 head_dim 4 scale 0.5 window 64
      : !packed, tensor<?xi32, #moe.rows<"S" + 1>>
  %s = moe.add %x, %a : !hidden
  %b = moe.boundary %s {layer = 0} : !hidden
  %head = moe.read @head : tensor<32x8xbf16>
  %ce = moe.linear_cross_entropy %b, %head, %labels, %loss_weights chunk_rows 4
      : !hidden, tensor<32x8xbf16>, !ids, tensor<?xf32, #moe.rows<"T">>
  %loss = moe.scale %ce by 3.0 : tensor<f32>
  return %loss : tensor<f32>
}

// -----

!hidden = tensor<?x8xf32, #moe.rows<"T">>
!ids = tensor<?xi32, #moe.rows<"T">>

moe.state @table : tensor<32x8xf32> {kind = parameter}
moe.state @router : tensor<4x8xf32> {kind = parameter}
moe.state @gate_up : tensor<4x12x8xf32> {kind = parameter}
moe.state @down : tensor<4x8x6xf32> {kind = parameter}

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[LOGITS:.*]] = moe.linear %
// CHECK: %[[WEIGHTS:.*]], %[[EXPERTS:.*]], %[[STATISTICS:.*]] = moe.router %[[LOGITS]], %[[MB:[^ ]*]] top_k 2
// CHECK: %[[GATE_UP:.*]] = moe.read @gate_up
// CHECK: %[[DOWN:.*]] = moe.read @down
// CHECK: %[[SIZES:.*]], %[[ROW:.*]] = moe.sort_by_expert
// CHECK: %[[ROWS:.*]] = moe.permute
// CHECK: %[[G:.*]] = moe.grouped_gemm %[[ROWS]]
// CHECK: %[[ACT:.*]] = moe.gated_activation %[[G]]
// CHECK: %[[D:.*]] = moe.grouped_gemm %[[ACT]]
// CHECK: moe.unpermute %[[D]]
// CHECK: %{{.*}}, %{{.*}} = moe.load_balance_loss %[[AUX:[^ ]*]], %[[STATISTICS]]

// CHECK: %[[ONE:.*]] = moe.constant 1.000000e+00
// CHECK: %[[DSTATISTICS:.*]] = moe.load_balance_loss_grad %[[ONE]], %[[AUX]], %[[STATISTICS]] top_k 2
// CHECK: %{{.*}}, %[[DY:.*]], %{{.*}} = moe.linear_cross_entropy_grad
// CHECK: %[[DD:.*]], %[[DWEIGHTS:.*]] = moe.unpermute_grad %[[DY]], %[[D]], %[[WEIGHTS]], %[[ROW]]
// CHECK: %[[DDOWN:.*]] = moe.grouped_gemm_wgrad %[[DD]], %[[ACT]], %[[SIZES]]
// CHECK: %[[DACT:.*]] = moe.grouped_gemm_dgrad %[[DD]], %[[DOWN]], %[[SIZES]]
// CHECK: %[[DG:.*]] = moe.gated_activation_grad %[[DACT]], %[[G]] activation "silu"
// CHECK: %[[DGATE_UP:.*]] = moe.grouped_gemm_wgrad %[[DG]], %[[ROWS]], %[[SIZES]]
// CHECK: %[[DROWS:.*]] = moe.grouped_gemm_dgrad %[[DG]], %[[GATE_UP]], %[[SIZES]]
// CHECK: moe.permute_grad %[[DROWS]], %[[ROW]]
// CHECK: moe.router_grad %[[DWEIGHTS]], %[[DSTATISTICS]], %[[LOGITS]], %[[EXPERTS]], %[[MB]] top_k 2 score "softmax" renormalize true
// Gradients by parameters are float32.
// GRADIENT-LABEL: func.func @micro_step
// GRADIENT-DAG: moe.gradient @down, %{{.*}} : tensor<4x8x6xf32>
// GRADIENT-DAG: moe.gradient @gate_up, %{{.*}} : tensor<4x12x8xf32>
// GRADIENT-DAG: moe.gradient @router, %{{.*}} : tensor<4x8xf32>
// GRADIENT-DAG: moe.gradient @table, %{{.*}} : tensor<32x8xf32>
func.func @evaluate(%ids: !ids {moe.name = "input_ids"},
                    %micro_batch_ids: !ids {moe.name = "micro_batch_ids"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"},
                    %aux_weights: tensor<?xf32, #moe.rows<"M">> {moe.name = "aux_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x8xf32>
  %x = moe.embedding %table, %ids : tensor<32x8xf32>, !ids
  %router = moe.read @router : tensor<4x8xf32>
  %logits = moe.linear %x, %router : !hidden, tensor<4x8xf32>
  %weights, %experts, %statistics = moe.router %logits, %micro_batch_ids top_k 2 score "softmax"
      renormalize true : tensor<?x4xf32, #moe.rows<"T">>, !ids
      -> tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2x4xf32, #moe.rows<"M">>
  %gate_up = moe.read @gate_up : tensor<4x12x8xf32>
  %down = moe.read @down : tensor<4x8x6xf32>
  %sizes, %row = moe.sort_by_expert %experts num_experts 4 : tensor<?x2xi32, #moe.rows<"T">>
  %rows = moe.permute %x, %row : !hidden, tensor<?x2xi32, #moe.rows<"T">>
  %g = moe.grouped_gemm %rows, %gate_up, %sizes
      : tensor<?x8xf32, #moe.rows<2 * "T">>, tensor<4x12x8xf32>, tensor<4xi32>
  %act = moe.gated_activation %g activation "silu" : tensor<?x12xf32, #moe.rows<2 * "T">>
  %d = moe.grouped_gemm %act, %down, %sizes
      : tensor<?x6xf32, #moe.rows<2 * "T">>, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %d, %weights, %row : tensor<?x8xf32, #moe.rows<2 * "T">>,
      tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
  %ce = moe.linear_cross_entropy %y, %table, %ids, %loss_weights chunk_rows 4
      : !hidden, tensor<32x8xf32>, !ids, tensor<?xf32, #moe.rows<"T">>
  %aux, %counts = moe.load_balance_loss %aux_weights, %statistics top_k 2
      : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x4xf32, #moe.rows<"M">>
  %loss = moe.sum %ce, %aux
  return %loss : tensor<f32>
}

// -----

// Only the statistics reach the loss: the weights' cotangent is zero.

!ids = tensor<?xi32, #moe.rows<"T">>

moe.state @table : tensor<32x4xf32> {kind = parameter}

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[DSTATISTICS:.*]] = moe.load_balance_loss_grad
// CHECK: %[[ZERO:.*]] = moe.constant 0.000000e+00 : tensor<?x2xf32, #moe.rows<"T">>
// CHECK: moe.router_grad %[[ZERO]], %[[DSTATISTICS]],
func.func @evaluate(%ids: !ids {moe.name = "input_ids"},
                    %aux_weights: tensor<?xf32, #moe.rows<"M">> {moe.name = "aux_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x4xf32>
  %logits = moe.embedding %table, %ids : tensor<32x4xf32>, !ids
  %weights, %experts, %statistics = moe.router %logits, %ids top_k 2 score "softmax"
      : tensor<?x4xf32, #moe.rows<"T">>, !ids
      -> tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2x4xf32, #moe.rows<"M">>
  %loss, %counts = moe.load_balance_loss %aux_weights, %statistics top_k 2
      : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x4xf32, #moe.rows<"M">>
  return %loss : tensor<f32>
}

// -----

// Only the weights reach the loss: the statistics' cotangent is zero.

!ids = tensor<?xi32, #moe.rows<"T">>

moe.state @table : tensor<32x4xf32> {kind = parameter}
moe.state @head : tensor<8x2xf32> {kind = parameter}

// CHECK-LABEL: func.func @micro_step
// CHECK: %{{.*}}, %[[DWEIGHTS:.*]], %{{.*}} = moe.linear_cross_entropy_grad
// CHECK: %[[ZERO:.*]] = moe.constant 0.000000e+00 : tensor<?x2x4xf32, #moe.rows<"M">>
// CHECK: moe.router_grad %[[DWEIGHTS]], %[[ZERO]],
func.func @evaluate(%ids: !ids {moe.name = "input_ids"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x4xf32>
  %logits = moe.embedding %table, %ids : tensor<32x4xf32>, !ids
  %weights, %experts, %statistics = moe.router %logits, %ids top_k 2 score "softmax"
      : tensor<?x4xf32, #moe.rows<"T">>, !ids
      -> tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2x4xf32, #moe.rows<"M">>
  %head = moe.read @head : tensor<8x2xf32>
  %loss = moe.linear_cross_entropy %weights, %head, %ids, %loss_weights chunk_rows 4
      : tensor<?x2xf32, #moe.rows<"T">>, tensor<8x2xf32>, !ids, tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// -----

// Renormalized weights alone reach the loss, though the statistics are used: no logits are kept.

!ids = tensor<?xi32, #moe.rows<"T">>

moe.state @table : tensor<32x4xf32> {kind = parameter}
moe.state @head : tensor<8x2xf32> {kind = parameter}

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[WEIGHTS:.*]], %[[EXPERTS:.*]], %{{.*}} = moe.router
// CHECK: %{{.*}}, %[[DWEIGHTS:.*]], %{{.*}} = moe.linear_cross_entropy_grad
// CHECK: %[[DLOGITS:.*]] = moe.router_grad_renormalized %[[DWEIGHTS]], %[[WEIGHTS]], %[[EXPERTS]] num_experts 4
// CHECK-SAME: -> tensor<?x4xf32, #moe.rows<"T">>
// CHECK-NEXT: moe.embedding_grad %[[DLOGITS]]
func.func @evaluate(%ids: !ids {moe.name = "input_ids"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"},
                    %aux_weights: tensor<?xf32, #moe.rows<"M">> {moe.name = "aux_weights"})
    -> (tensor<f32> {moe.name = "loss"}, tensor<f32> {moe.name = "aux_loss"}) {
  %table = moe.read @table : tensor<32x4xf32>
  %logits = moe.embedding %table, %ids : tensor<32x4xf32>, !ids
  %weights, %experts, %statistics = moe.router %logits, %ids top_k 2 score "softmax"
      renormalize true : tensor<?x4xf32, #moe.rows<"T">>, !ids
      -> tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2x4xf32, #moe.rows<"M">>
  %head = moe.read @head : tensor<8x2xf32>
  %loss = moe.linear_cross_entropy %weights, %head, %ids, %loss_weights chunk_rows 4
      : tensor<?x2xf32, #moe.rows<"T">>, tensor<8x2xf32>, !ids, tensor<?xf32, #moe.rows<"T">>
  %aux, %counts = moe.load_balance_loss %aux_weights, %statistics top_k 2
      : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x4xf32, #moe.rows<"M">>
  return %loss, %aux : tensor<f32>, tensor<f32>
}

// -----

// The cotangent of what is cast has the elements of what it was cast from.

!ids = tensor<?xi32, #moe.rows<"T">>

moe.state @table : tensor<32x8xf32> {kind = parameter}
moe.state @head : tensor<32x8xbf16> {kind = parameter}

// CHECK: func.func @micro_step
// CHECK: %{{.*}}, %[[DX:.*]], %{{.*}} = moe.linear_cross_entropy_grad
// CHECK: %[[WIDE:.*]] = moe.cast %[[DX]] : tensor<?x8xbf16, #moe.rows<"T">> to tensor<?x8xf32, #moe.rows<"T">>
// CHECK: moe.embedding_grad %[[WIDE]]
// GRADIENT: func.func @micro_step
// GRADIENT: moe.gradient @table
func.func @evaluate(%ids: !ids {moe.name = "input_ids"},
                    %loss_weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x8xf32>
  %x = moe.embedding %table, %ids : tensor<32x8xf32>, !ids
  %narrow = moe.cast %x : tensor<?x8xf32, #moe.rows<"T">> to tensor<?x8xbf16, #moe.rows<"T">>
  %head = moe.read @head : tensor<32x8xbf16>
  %loss = moe.linear_cross_entropy %narrow, %head, %ids, %loss_weights chunk_rows 4
      : tensor<?x8xbf16, #moe.rows<"T">>, tensor<32x8xbf16>, !ids, tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}
