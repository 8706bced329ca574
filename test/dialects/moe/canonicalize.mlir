// RUN: moe-opt %s --canonicalize | FileCheck %s

// Folders and canonicalization patterns.

!x = tensor<?x8xf32, #moe.rows<"T">>

// CHECK-LABEL: func.func @scale_by_one
// CHECK-SAME: (%[[X:.*]]: tensor
// CHECK-NEXT: return %[[X]]
func.func @scale_by_one(%x: !x) -> !x {
  %y = moe.scale %x by 1.0 : !x
  return %y : !x
}

// CHECK-LABEL: func.func @scale_of_scale
// CHECK-SAME: (%[[X:.*]]: tensor
// CHECK-NEXT: %[[Y:.*]] = moe.scale %[[X]] by 6.000000e+00
// CHECK-NEXT: return %[[Y]]
func.func @scale_of_scale(%x: !x) -> !x {
  %y = moe.scale %x by 2.0 : !x
  %z = moe.scale %y by 3.0 : !x
  return %z : !x
}

// The inner scale has another use: it stays.
// CHECK-LABEL: func.func @scale_of_shared_scale
// CHECK-SAME: (%[[X:.*]]: tensor
// CHECK-DAG: %[[Y:.*]] = moe.scale %[[X]] by 2.000000e+00
// CHECK-DAG: %[[Z:.*]] = moe.scale %[[X]] by 6.000000e+00
// CHECK: return %[[Y]], %[[Z]]
func.func @scale_of_shared_scale(%x: !x) -> (!x, !x) {
  %y = moe.scale %x by 2.0 : !x
  %z = moe.scale %y by 3.0 : !x
  return %y, %z : !x, !x
}

// The product is a factor that moe.scale may not have.
// CHECK-LABEL: func.func @scale_too_large
// CHECK: moe.scale %{{.*}} by 1.000000e+20
// CHECK: moe.scale %{{.*}} by 1.000000e+20
func.func @scale_too_large(%x: !x) -> !x {
  %y = moe.scale %x by 1.0e+20 : !x
  %z = moe.scale %y by 1.0e+20 : !x
  return %z : !x
}

// CHECK-LABEL: func.func @scale_of_constant
// CHECK-NEXT: %[[C:.*]] = moe.constant 5.000000e-01 : tensor<?x8xf32, #moe.rows<"T">>
// CHECK-NEXT: return %[[C]]
func.func @scale_of_constant() -> !x {
  %c = moe.constant 2.0 : !x
  %y = moe.scale %c by 0.25 : !x
  return %y : !x
}

// CHECK-LABEL: func.func @add_of_zero
// CHECK-SAME: (%[[X:.*]]: tensor
// CHECK-NEXT: return %[[X]], %[[X]]
func.func @add_of_zero(%x: !x) -> (!x, !x) {
  %zero = moe.constant 0.0 : !x
  %y = moe.add %x, %zero : !x
  %z = moe.add %zero, %x : !x
  return %y, %z : !x, !x
}

// CHECK-LABEL: func.func @add_of_constants
// CHECK-NEXT: %[[C:.*]] = moe.constant 3.500000e+00 : tensor<f32>
// CHECK-NEXT: return %[[C]]
func.func @add_of_constants() -> tensor<f32> {
  %a = moe.constant 1.0 : tensor<f32>
  %b = moe.constant 2.5 : tensor<f32>
  %y = moe.add %a, %b : tensor<f32>
  return %y : tensor<f32>
}

// CHECK-LABEL: func.func @sum_of_one
// CHECK-SAME: (%[[X:.*]]: tensor
// CHECK-NEXT: return %[[X]]
func.func @sum_of_one(%x: tensor<f32>) -> tensor<f32> {
  %y = moe.sum %x
  return %y : tensor<f32>
}

// CHECK-LABEL: func.func @cast_to_itself
// CHECK-NEXT: %[[Y:.*]] = moe.cast %arg0
// CHECK-NEXT: return %arg0, %[[Y]]
func.func @cast_to_itself(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xbf16>) {
  %same = moe.cast %x : tensor<4xf32> to tensor<4xf32>
  %y = moe.cast %same : tensor<4xf32> to tensor<4xbf16>
  return %same, %y : tensor<4xf32>, tensor<4xbf16>
}

// CHECK-LABEL: func.func @accumulate_zero
// CHECK-SAME: (%[[X:.*]]: tensor
// CHECK-NEXT: return %[[X]]
func.func @accumulate_zero(%x: tensor<4xbf16>) -> tensor<4xbf16> {
  %zero = moe.constant 0.0 : tensor<4xf32>
  %y = moe.accumulate %x, %zero : tensor<4xbf16>, tensor<4xf32>
  return %y : tensor<4xbf16>
}

// CHECK-LABEL: func.func @boundary_twice
// CHECK-SAME: (%[[X:.*]]: tensor
// CHECK-NEXT: %[[Y:.*]] = moe.boundary %[[X]] {layer = 0 : i64}
// CHECK-NEXT: %[[Z:.*]] = moe.boundary %[[Y]] {layer = 1 : i64}
// CHECK-NEXT: return %[[Z]]
func.func @boundary_twice(%x: !x) -> !x {
  %y = moe.boundary %x {layer = 0} : !x
  %z = moe.boundary %y {layer = 0} : !x
  %w = moe.boundary %z {layer = 1} : !x
  return %w : !x
}

// Ops are pure: what nobody uses goes, writes and gradients stay.
moe.state @w : tensor<8xf32> {kind = parameter}

// CHECK-LABEL: func.func @dead
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32, #moe.rows<"T">>, %[[G:.*]]: tensor<8xf32>)
// CHECK-NEXT: moe.gradient @w, %[[G]]
// CHECK-NEXT: moe.write @w, %[[G]]
// CHECK-NEXT: return
func.func @dead(%x: !x, %g: tensor<8xf32>) {
  %w = moe.read @w : tensor<8xf32>
  %y = moe.rms_norm %x, %w eps 1.0e-05 : !x, tensor<8xf32>
  %z = moe.boundary %y {layer = 0} : !x
  moe.gradient @w, %g : tensor<8xf32>
  moe.write @w, %g : tensor<8xf32>
  return
}

// The gradient of the cross entropy yields its loss. What its cotangent is computed from moves up.
// CHECK-LABEL: func.func @merge_loss
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xf32>, %[[W:.*]]: tensor<16x8xf32>, %[[L:.*]]: tensor<4xi32>,
// CHECK-SAME: %[[LW:.*]]: tensor<4xf32>, %[[AUX:.*]]: tensor<f32>, %[[D:.*]]: tensor<f32>)
// CHECK-NEXT: %[[DLOSS:.*]] = moe.add %[[D]], %[[AUX]]
// CHECK-NEXT: %[[LOSS:.*]], %[[DX:.*]], %[[DW:.*]] = moe.linear_cross_entropy_grad %[[X]], %[[W]], %[[L]], %[[LW]], %[[DLOSS]]
// CHECK-NEXT: %[[TOTAL:.*]] = moe.add %[[LOSS]], %[[AUX]]
// CHECK-NEXT: return %[[TOTAL]], %[[DX]], %[[DW]]
func.func @merge_loss(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>, %labels: tensor<4xi32>,
                      %loss_weights: tensor<4xf32>, %aux: tensor<f32>, %d: tensor<f32>)
    -> (tensor<f32>, tensor<4x8xf32>, tensor<16x8xf32>) {
  %ce = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  %loss = moe.add %ce, %aux : tensor<f32>
  %dloss = moe.add %d, %aux : tensor<f32>
  %again, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %dloss chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  return %loss, %dx, %dw : tensor<f32>, tensor<4x8xf32>, tensor<16x8xf32>
}

// The gradient stands first: nothing has to move.
// CHECK-LABEL: func.func @merge_loss_after
// CHECK-NEXT: %[[LOSS:.*]], %[[DX:.*]], %{{.*}} = moe.linear_cross_entropy_grad
// CHECK-NEXT: return %[[LOSS]], %[[DX]]
func.func @merge_loss_after(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>, %labels: tensor<4xi32>,
                            %loss_weights: tensor<4xf32>, %dloss: tensor<f32>)
    -> (tensor<f32>, tensor<4x8xf32>) {
  %again, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %dloss chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  %ce = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  return %ce, %dx : tensor<f32>, tensor<4x8xf32>
}

// Its cotangent depends on the loss, or it is of other labels: both stay.
// CHECK-LABEL: func.func @keep_loss
// CHECK-NEXT: moe.linear_cross_entropy %
// CHECK-NEXT: moe.linear_cross_entropy_grad
// CHECK-NEXT: moe.linear_cross_entropy_grad
func.func @keep_loss(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>, %labels: tensor<4xi32>,
                     %other: tensor<4xi32>, %loss_weights: tensor<4xf32>)
    -> (tensor<f32>, tensor<4x8xf32>, tensor<4x8xf32>) {
  %ce = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  %again, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %ce chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  %more, %dy, %dv = moe.linear_cross_entropy_grad %x, %w, %other, %loss_weights, %ce chunk_rows 2
      : tensor<4x8xf32>, tensor<16x8xf32>, tensor<4xi32>, tensor<4xf32>
  return %ce, %dx, %dy : tensor<f32>, tensor<4x8xf32>, tensor<4x8xf32>
}

// A sum that is only rounded is rounded by the op that makes it.
// CHECK-LABEL: func.func @round_sums
// CHECK-NEXT: %[[A:.*]] = moe.linear_wgrad {{.*}} -> tensor<8x6xbf16>
// CHECK-NEXT: %[[B:.*]] = moe.grouped_gemm_wgrad {{.*}} -> tensor<3x8x6xbf16>
// CHECK-NEXT: return %[[A]], %[[B]]
func.func @round_sums(%dy: tensor<4x8xbf16>, %x: tensor<4x6xbf16>, %group_sizes: tensor<3xi32>)
    -> (tensor<8x6xbf16>, tensor<3x8x6xbf16>) {
  %a = moe.linear_wgrad %dy, %x : tensor<4x8xbf16>, tensor<4x6xbf16> -> tensor<8x6xf32>
  %b = moe.grouped_gemm_wgrad %dy, %x, %group_sizes
      : tensor<4x8xbf16>, tensor<4x6xbf16>, tensor<3xi32> -> tensor<3x8x6xf32>
  %c = moe.cast %a : tensor<8x6xf32> to tensor<8x6xbf16>
  %d = moe.cast %b : tensor<3x8x6xf32> to tensor<3x8x6xbf16>
  return %c, %d : tensor<8x6xbf16>, tensor<3x8x6xbf16>
}

// The sum is used, or rounded to what no kernel rounds it to: both stay.
// CHECK-LABEL: func.func @keep_sums
// CHECK-COUNT-2: moe.linear_wgrad {{.*}} -> tensor<8x6xf32>
// CHECK-COUNT-2: moe.cast
func.func @keep_sums(%dy: tensor<4x8xbf16>, %x: tensor<4x6xbf16>, %fy: tensor<4x8xf32>, %fx: tensor<4x6xf32>)
    -> (tensor<8x6xf32>, tensor<8x6xbf16>, tensor<8x6xbf16>) {
  %a = moe.linear_wgrad %dy, %x : tensor<4x8xbf16>, tensor<4x6xbf16> -> tensor<8x6xf32>
  %b = moe.linear_wgrad %fy, %fx : tensor<4x8xf32>, tensor<4x6xf32> -> tensor<8x6xf32>
  %c = moe.cast %a : tensor<8x6xf32> to tensor<8x6xbf16>
  %d = moe.cast %b : tensor<8x6xf32> to tensor<8x6xbf16>
  return %a, %c, %d : tensor<8x6xf32>, tensor<8x6xbf16>, tensor<8x6xbf16>
}
