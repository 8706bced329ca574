// RUN: moe-opt %s --fuse-norm --split-input-file | FileCheck %s
// RUN: moe-opt %s --fuse-norm --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --fuse-norm --split-input-file | moe-opt --fuse-norm --split-input-file | FileCheck %s
// RUN: moe-opt %s --split-input-file -o %t.none
// RUN: moe-opt %s --fuse-norm=enable=false --split-input-file | diff - %t.none

// The gradient brings its squares, whatever else takes it. One that is not squared stays, and so does a square of something else.

// CHECK-LABEL: func.func @train_step
// CHECK-SAME: (%[[DY:[^:]*]]: tensor<?x8xbf16, {{[^%]*}}, %[[X:[^:]*]]: tensor<?x6xbf16, {{[^%]*}}, %[[SIZES:[^:]*]]: tensor<4xi32>
// CHECK-NEXT: %[[DW:.*]], %[[SQUARE:.*]] = moe.grouped_gemm_wgrad_squared %[[DY]], %[[X]], %[[SIZES]] {{.*}} -> tensor<4x8x6xbf16>
// CHECK-NEXT: moe.gradient @w, %[[DW]]
// CHECK-NEXT: %[[OTHER:.*]] = moe.grouped_gemm_wgrad %[[X]], %[[DY]], %[[SIZES]]
// CHECK-NEXT: %[[SQUARE_OF_V:.*]] = moe.sum_of_squares %{{[^ ]+}} : tensor<4x8x6xbf16>
// CHECK-NEXT: %[[SUM:.*]] = moe.sum %[[SQUARE]], %[[SQUARE_OF_V]]
// CHECK-NEXT: %[[HALF:.*]] = moe.scale %[[DW]] by
// CHECK-NEXT: return %[[SUM]], %[[HALF]], %[[OTHER]]
!dy = tensor<?x8xbf16, #moe.rows<2 * "T">>
!x = tensor<?x6xbf16, #moe.rows<2 * "T">>
moe.state @w : tensor<4x8x6xbf16> {kind = parameter} from "w"
func.func @train_step(%dy: !dy, %x: !x, %sizes: tensor<4xi32>, %v: tensor<4x8x6xbf16>)
    -> (tensor<f32>, tensor<4x8x6xbf16>, tensor<4x6x8xf32>) {
  %dw = moe.grouped_gemm_wgrad %dy, %x, %sizes : !dy, !x, tensor<4xi32> -> tensor<4x8x6xbf16>
  moe.gradient @w, %dw : tensor<4x8x6xbf16>
  %square = moe.sum_of_squares %dw : tensor<4x8x6xbf16>
  %other = moe.grouped_gemm_wgrad %x, %dy, %sizes : !x, !dy, tensor<4xi32> -> tensor<4x6x8xf32>
  %square_of_v = moe.sum_of_squares %v : tensor<4x8x6xbf16>
  %sum = moe.sum %square, %square_of_v
  %half = moe.scale %dw by 0.5 : tensor<4x8x6xbf16>
  return %sum, %half, %other : tensor<f32>, tensor<4x8x6xbf16>, tensor<4x6x8xf32>
}

// -----

// Several gradients, in float32 too.

// CHECK-LABEL: func.func @several
// CHECK-NEXT: %{{.*}}, %[[A:.*]] = moe.grouped_gemm_wgrad_squared {{.*}} -> tensor<4x8x6xf32>
// CHECK-NEXT: %{{.*}}, %[[B:.*]] = moe.grouped_gemm_wgrad_squared {{.*}} -> tensor<4x6x8xf32>
// CHECK-NEXT: return %[[A]], %[[B]]
func.func @several(%dy: tensor<5x8xf32>, %x: tensor<5x6xf32>, %sizes: tensor<4xi32>) -> (tensor<f32>, tensor<f32>) {
  %a = moe.grouped_gemm_wgrad %dy, %x, %sizes : tensor<5x8xf32>, tensor<5x6xf32>, tensor<4xi32> -> tensor<4x8x6xf32>
  %b = moe.grouped_gemm_wgrad %x, %dy, %sizes : tensor<5x6xf32>, tensor<5x8xf32>, tensor<4xi32> -> tensor<4x6x8xf32>
  %square_of_b = moe.sum_of_squares %b : tensor<4x6x8xf32>
  %square_of_a = moe.sum_of_squares %a : tensor<4x8x6xf32>
  return %square_of_a, %square_of_b : tensor<f32>, tensor<f32>
}

// -----

// What is squared is a rounding of the gradient, or there are two squares of it.

// CHECK-LABEL: func.func @others
// CHECK-NOT: moe.grouped_gemm_wgrad_squared
// CHECK: return
func.func @others(%dy: tensor<5x8xbf16>, %x: tensor<5x6xbf16>, %sizes: tensor<4xi32>)
    -> (tensor<f32>, tensor<f32>, tensor<f32>) {
  %a = moe.grouped_gemm_wgrad %dy, %x, %sizes : tensor<5x8xbf16>, tensor<5x6xbf16>, tensor<4xi32> -> tensor<4x8x6xf32>
  %rounded = moe.cast %a : tensor<4x8x6xf32> to tensor<4x8x6xbf16>
  %square_of_a = moe.sum_of_squares %rounded : tensor<4x8x6xbf16>
  %b = moe.grouped_gemm_wgrad %x, %dy, %sizes : tensor<5x6xbf16>, tensor<5x8xbf16>, tensor<4xi32> -> tensor<4x6x8xf32>
  %once = moe.sum_of_squares %b : tensor<4x6x8xf32>
  %twice = moe.sum_of_squares %b : tensor<4x6x8xf32>
  return %square_of_a, %once, %twice : tensor<f32>, tensor<f32>, tensor<f32>
}

// -----

// No kernel gathers and squares.

// CHECK-LABEL: func.func @gathered
// CHECK-NEXT: %[[A:.*]] = moe.grouped_gemm_wgrad_gather_x
// CHECK-NEXT: moe.sum_of_squares %[[A]]
// CHECK-NEXT: %[[B:.*]] = moe.grouped_gemm_wgrad_gather_dy
// CHECK-NEXT: moe.sum_of_squares %[[B]]
func.func @gathered(%rows: tensor<5x8xf32>, %x: tensor<3x6xf32>, %tokens: tensor<5xi32>, %sizes: tensor<4xi32>)
    -> (tensor<f32>, tensor<f32>) {
  %a = moe.grouped_gemm_wgrad_gather_x %rows, %x, %tokens, %sizes
      : tensor<5x8xf32>, tensor<3x6xf32>, tensor<5xi32>, tensor<4xi32> -> tensor<4x8x6xf32>
  %square_of_a = moe.sum_of_squares %a : tensor<4x8x6xf32>
  %b = moe.grouped_gemm_wgrad_gather_dy %x, %tokens, %rows, %sizes
      : tensor<3x6xf32>, tensor<5xi32>, tensor<5x8xf32>, tensor<4xi32> -> tensor<4x6x8xf32>
  %square_of_b = moe.sum_of_squares %b : tensor<4x6x8xf32>
  return %square_of_a, %square_of_b : tensor<f32>, tensor<f32>
}

// -----

// A gradient that ranks sum is squared behind the sum.

// CHECK-LABEL: func.func @reduced
// CHECK-NEXT: %[[DW:.*]] = moe.grouped_gemm_wgrad %
// CHECK-NEXT: %[[TOTAL:.*]] = dist.all_reduce %[[DW]]
// CHECK-NEXT: moe.sum_of_squares %[[TOTAL]]
dist.mesh @mesh <["dp"=2]>
func.func @reduced(%dy: tensor<5x8xf32>, %x: tensor<5x6xf32>, %sizes: tensor<4xi32>) -> tensor<f32> {
  %dw = moe.grouped_gemm_wgrad %dy, %x, %sizes : tensor<5x8xf32>, tensor<5x6xf32>, tensor<4xi32> -> tensor<4x8x6xf32>
  %total = dist.all_reduce %dw over ["dp"] : tensor<4x8x6xf32>
  %square = moe.sum_of_squares %total : tensor<4x8x6xf32>
  return %square : tensor<f32>
}
