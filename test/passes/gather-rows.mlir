// RUN: moe-opt %s --gather-rows --split-input-file | FileCheck %s
// RUN: moe-opt %s --gather-rows --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --gather-rows --split-input-file | moe-opt --gather-rows --split-input-file | FileCheck %s
// RUN: moe-opt %s --split-input-file -o %t.none
// RUN: moe-opt %s --gather-rows=enable=false --split-input-file | diff - %t.none

// Both directions of a layer: neither rows of x nor of dy are made, and the results have no use behind unpermute.

// CHECK-LABEL: func.func @layer
// CHECK-SAME: (%[[X:[^:]*]]: tensor<?x8xf32, {{[^%]*}}, %[[WEIGHTS:[^:]*]]: {{[^%]*}}, %[[EXPERTS:[^:]*]]: {{[^%]*}}, %[[GATE_UP_W:[^:]*]]: {{[^%]*}}, %[[DOWN:[^:]*]]: tensor<4x8x6xf32>)
// CHECK-NEXT: %[[SIZES:.*]], %[[SLOTS:.*]] = moe.sort_by_expert %[[EXPERTS]]
// CHECK-NEXT: %[[TOKENS:.*]], %[[ROW_WEIGHTS:.*]] = moe.rows_of_tokens %[[SLOTS]], %[[WEIGHTS]]
// CHECK-NEXT: %[[GATE_UP:.*]], %[[HIDDEN:.*]] = moe.grouped_gemm_gated_gather %[[X]], %[[TOKENS]], %[[GATE_UP_W]], %[[SIZES]] activation "silu"
// CHECK-NEXT: %[[RESULTS:.*]] = moe.grouped_gemm %[[HIDDEN]], %[[DOWN]], %[[SIZES]]
// CHECK-NEXT: %[[Y:.*]] = moe.unpermute %[[RESULTS]], %[[WEIGHTS]], %[[SLOTS]]
// CHECK-NEXT: %[[DY:.*]] = moe.scale %[[Y]] by 2.0
// CHECK-NEXT: %[[DGATE_UP:.*]], %[[AGAIN:.*]], %[[DWEIGHTS:.*]] = moe.grouped_gemm_dgrad_gated_gather %[[DY]], %[[TOKENS]], %[[ROW_WEIGHTS]], %[[SLOTS]], %[[DOWN]], %[[SIZES]], %[[GATE_UP]] activation "silu"
// CHECK-NEXT: %[[DDOWN:.*]] = moe.grouped_gemm_wgrad_gather_dy %[[DY]], %[[TOKENS]], %[[AGAIN]], %[[SIZES]] {{.*}} -> tensor<4x8x6xf32>
// CHECK-NEXT: %[[DW:.*]] = moe.grouped_gemm_wgrad_gather_x %[[DGATE_UP]], %[[X]], %[[TOKENS]], %[[SIZES]] {{.*}} -> tensor<4x12x8xf32>
// CHECK-NEXT: %[[DROWS:.*]] = moe.grouped_gemm_dgrad %[[DGATE_UP]], %[[GATE_UP_W]], %[[SIZES]]
// CHECK-NEXT: %[[DX:.*]] = moe.permute_grad %[[DROWS]], %[[SLOTS]]
// CHECK-NEXT: return %[[DX]], %[[DWEIGHTS]], %[[DW]], %[[DDOWN]]
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @layer(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// Wide experts: the backward direction's products take rows permuted again, which are not weighted.

// CHECK-LABEL: func.func @wide
// CHECK-SAME: (%[[X:[^:]*]]: tensor<?x8xf32, {{[^%]*}}, %[[WEIGHTS:[^:]*]]: {{[^%]*}}, %[[EXPERTS:[^:]*]]: {{[^%]*}}, %[[GATE_UP_W:[^:]*]]: {{[^%]*}}, %[[DOWN:[^:]*]]: tensor<4x8x513xf32>)
// CHECK-NEXT: %[[SIZES:.*]], %[[SLOTS:.*]] = moe.sort_by_expert %[[EXPERTS]]
// CHECK-NEXT: %[[TOKENS:.*]], %[[ROW_WEIGHTS:.*]] = moe.rows_of_tokens %[[SLOTS]], %[[WEIGHTS]]
// CHECK-NEXT: %[[GATE_UP:.*]], %[[HIDDEN:.*]] = moe.grouped_gemm_gated_gather %[[X]], %[[TOKENS]], %[[GATE_UP_W]], %[[SIZES]] activation "silu"
// CHECK-NEXT: %[[RESULTS:.*]] = moe.grouped_gemm %[[HIDDEN]], %[[DOWN]], %[[SIZES]]
// CHECK-NEXT: %[[Y:.*]] = moe.unpermute %[[RESULTS]], %[[WEIGHTS]], %[[SLOTS]]
// CHECK-NEXT: %[[DY:.*]] = moe.scale %[[Y]] by 2.0
// CHECK-NEXT: %[[DY_ROWS:.*]] = moe.permute %[[DY]], %[[SLOTS]]
// CHECK-NEXT: %[[DGATE_UP:.*]], %[[AGAIN:.*]], %[[DWEIGHTS:.*]] = moe.grouped_gemm_dgrad_gated_weighted %[[DY_ROWS]], %[[ROW_WEIGHTS]], %[[SLOTS]], %[[DOWN]], %[[SIZES]], %[[GATE_UP]] activation "silu"
// CHECK-NEXT: %[[DDOWN:.*]] = moe.grouped_gemm_wgrad %[[DY_ROWS]], %[[AGAIN]], %[[SIZES]] {{.*}} -> tensor<4x8x513xf32>
// CHECK-NEXT: %[[ROWS:.*]] = moe.permute %[[X]], %[[SLOTS]]
// CHECK-NEXT: %[[DW:.*]] = moe.grouped_gemm_wgrad %[[DGATE_UP]], %[[ROWS]], %[[SIZES]] {{.*}} -> tensor<4x1026x8xf32>
// CHECK-NEXT: %[[DROWS:.*]] = moe.grouped_gemm_dgrad %[[DGATE_UP]], %[[GATE_UP_W]], %[[SIZES]]
// CHECK-NEXT: %[[DX:.*]] = moe.permute_grad %[[DROWS]], %[[SLOTS]]
// CHECK-NEXT: return %[[DX]], %[[DWEIGHTS]], %[[DW]], %[[DDOWN]]
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x1026xf32, #moe.rows<2 * "T">>
!activated = tensor<?x513xf32, #moe.rows<2 * "T">>
func.func @wide(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x1026x8xf32>, %down: tensor<4x8x513xf32>)
    -> (!hidden, !weights, tensor<4x1026x8xf32>, tensor<4x8x513xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x1026x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x513xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x513xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x513xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x1026x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x1026x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x1026x8xf32>, tensor<4x8x513xf32>
}

// -----

// The widest that gather in both directions.

// CHECK-LABEL: func.func @widest
// CHECK-NOT: moe.permute %
// CHECK: moe.grouped_gemm_dgrad_gated_gather
// CHECK-NEXT: moe.grouped_gemm_wgrad_gather_dy
// CHECK-NEXT: moe.grouped_gemm_wgrad_gather_x
// CHECK-NOT: moe.permute %
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x1024xf32, #moe.rows<2 * "T">>
!activated = tensor<?x512xf32, #moe.rows<2 * "T">>
func.func @widest(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x1024x8xf32>, %down: tensor<4x8x512xf32>)
    -> (!hidden, !weights, tensor<4x1024x8xf32>, tensor<4x8x512xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x1024x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x512xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x512xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x512xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x1024x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x1024x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x1024x8xf32>, tensor<4x8x512xf32>
}

// -----

// Without a backward direction only the tokens' rows go.

// CHECK-LABEL: func.func @forward
// CHECK-NEXT: %[[SIZES:.*]], %[[SLOTS:.*]] = moe.sort_by_expert
// CHECK-NEXT: %[[TOKENS:.*]], %{{.*}} = moe.rows_of_tokens %[[SLOTS]], %
// CHECK-NEXT: %{{.*}}, %[[HIDDEN:.*]] = moe.grouped_gemm_gated_gather %{{[^ ,]+}}, %[[TOKENS]], %{{[^ ,]+}}, %[[SIZES]]
// CHECK-NEXT: moe.grouped_gemm %[[HIDDEN]]
// CHECK-NEXT: moe.unpermute
// CHECK-NEXT: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @forward(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  return %y : !hidden
}

// -----

// As recompute leaves it: the tokens and their rows are there a second time.

// CHECK-LABEL: func.func @made_again
// CHECK-NOT: moe.permute %
// CHECK: moe.grouped_gemm_gated_gather %[[X:[^ ,]+]], %[[TOKENS:[^ ,]+]],
// CHECK-NOT: moe.permute %
// CHECK: %[[AGAIN:.*]] = moe.scale %[[X]] by 1.0
// CHECK-NEXT: moe.grouped_gemm_wgrad_gather_x %{{[^ ,]+}}, %[[AGAIN]], %[[TOKENS]],
// CHECK-NOT: moe.permute %
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @made_again(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %x_again = moe.scale %x by 1.0 : !hidden
  %rows_again = moe.permute %x_again, %slots : !hidden, !slots
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows_again, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// As recompute leaves wide experts: the rows are of the tokens that are there a second time.

// CHECK-LABEL: func.func @wide_made_again
// CHECK-NOT: moe.permute %
// CHECK: moe.grouped_gemm_gated_gather %[[X:[^ ,]+]],
// CHECK: %[[AGAIN:.*]] = moe.scale %[[X]] by 1.0
// CHECK-NEXT: %[[ROWS:.*]] = moe.permute %[[AGAIN]],
// CHECK-NEXT: moe.grouped_gemm_wgrad %{{[^ ,]+}}, %[[ROWS]],
// CHECK-NOT: moe.permute %
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x1026xf32, #moe.rows<2 * "T">>
!activated = tensor<?x513xf32, #moe.rows<2 * "T">>
func.func @wide_made_again(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x1026x8xf32>, %down: tensor<4x8x513xf32>)
    -> (!hidden, !weights, tensor<4x1026x8xf32>, tensor<4x8x513xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x1026x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x513xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x513xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x513xf32>
  %x_again = moe.scale %x by 1.0 : !hidden
  %rows_again = moe.permute %x_again, %slots : !hidden, !slots
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows_again, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x1026x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x1026x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x1026x8xf32>, tensor<4x8x513xf32>
}

// -----

// Left alone: a product that is not fused with its activation.

// CHECK-LABEL: func.func @single
// CHECK-NOT: moe.rows_of_tokens
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @single(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up = moe.grouped_gemm %rows, %w, %sizes : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %hidden = moe.gated_activation %gate_up activation "silu" : !gated
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// Left alone: rows that another op takes too.

// CHECK-LABEL: func.func @other_rows
// CHECK-NOT: moe.rows_of_tokens
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @other_rows(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %twice = moe.scale %rows by 2.0 : !rows
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %twice, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// Left alone: a gradient of the results that another op takes too.

// CHECK-LABEL: func.func @other_gradient
// CHECK-NOT: moe.rows_of_tokens
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @other_gradient(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %dresults, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// Left alone: activated rows made again that go elsewhere, unweighted.

// CHECK-LABEL: func.func @other_activation
// CHECK-NOT: moe.rows_of_tokens
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @other_activation(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %alone = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  %ddown = moe.grouped_gemm_wgrad %results, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// Left alone: gradients of other weights than those of the sum.

// CHECK-LABEL: func.func @other_weights
// CHECK-NOT: moe.rows_of_tokens
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @other_weights(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>, %others: !weights)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %others, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// Left alone: results that are not those of the gradient's product.

// CHECK-LABEL: func.func @other_product
// CHECK-NOT: moe.rows_of_tokens
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @other_product(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>, %other: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %other, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// Left alone: weights that come behind the rows.

// CHECK-LABEL: func.func @too_late
// CHECK-NOT: moe.rows_of_tokens
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @too_late(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %late = moe.scale %weights by 2.0 : !weights
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %late, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %late, %slots : !hidden, !rows, !weights, !slots
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}

// -----

// Left alone: a weights' gradient that is used before the gradient by data.

// CHECK-LABEL: func.func @too_early
// CHECK-NOT: moe.rows_of_tokens
// CHECK: return
!hidden = tensor<?x8xf32, #moe.rows<"T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
!gated = tensor<?x12xf32, #moe.rows<2 * "T">>
!activated = tensor<?x6xf32, #moe.rows<2 * "T">>
func.func @too_early(%x: !hidden, %weights: !weights, %experts: !slots, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>)
    -> (!hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>) {
  %sizes, %slots = moe.sort_by_expert %experts num_experts 4 : !slots
  %rows = moe.permute %x, %slots : !hidden, !slots
  %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %results = moe.grouped_gemm %hidden, %down, %sizes : !activated, tensor<4x8x6xf32>, tensor<4xi32>
  %y = moe.unpermute %results, %weights, %slots : !rows, !weights, !slots
  %dy = moe.scale %y by 2.0 : !hidden
  %dresults, %dweights = moe.unpermute_grad %dy, %results, %weights, %slots : !hidden, !rows, !weights, !slots
  %early = moe.scale %dweights by 2.0 : !weights
  %dgate_up, %again = moe.grouped_gemm_dgrad_gated %dresults, %down, %sizes, %gate_up activation "silu"
      : !rows, tensor<4x8x6xf32>, tensor<4xi32>, !gated
  %ddown = moe.grouped_gemm_wgrad %dresults, %again, %sizes : !rows, !activated, tensor<4xi32> -> tensor<4x8x6xf32>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : !gated, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  %drows = moe.grouped_gemm_dgrad %dgate_up, %w, %sizes : !gated, tensor<4x12x8xf32>, tensor<4xi32>
  %dx = moe.permute_grad %drows, %slots : !rows, !slots
  return %dx, %dweights, %dw, %ddown : !hidden, !weights, tensor<4x12x8xf32>, tensor<4x8x6xf32>
}
