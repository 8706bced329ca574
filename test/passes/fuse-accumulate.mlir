// RUN: moe-opt %s --fuse-accumulate --split-input-file | FileCheck %s
// RUN: moe-opt %s --fuse-accumulate --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --fuse-accumulate --split-input-file | moe-opt --fuse-accumulate --split-input-file | FileCheck %s
// RUN: moe-opt %s --split-input-file -o %t.none
// RUN: moe-opt %s --fuse-accumulate=enable=false --split-input-file | diff - %t.none

// Into accumulators of the gradients' own elements, and in float32.

// CHECK-LABEL: func.func @micro_step
// CHECK-SAME: (%[[DY:[^:]*]]: tensor<?x8xbf16, {{[^%]*}}, %[[X:[^:]*]]: tensor<?x6xbf16, {{[^%]*}}, %[[SIZES:[^:]*]]: tensor<4xi32>
// CHECK-NEXT: %[[SUM:.*]] = moe.read @a.grad
// CHECK-NEXT: %[[A:.*]] = moe.grouped_gemm_wgrad_accumulate %[[DY]], %[[X]], %[[SIZES]], %[[SUM]] : {{.*}}, tensor<4x8x6xbf16>
// CHECK-NEXT: moe.write @a.grad, %[[A]]
// CHECK-NEXT: %[[SUM:.*]] = moe.read @b.grad
// CHECK-NEXT: %[[B:.*]] = moe.grouped_gemm_wgrad_accumulate %[[X]], %[[DY]], %[[SIZES]], %[[SUM]] : {{.*}}, tensor<4x6x8xf32>
// CHECK-NEXT: moe.write @b.grad, %[[B]]
// CHECK-NEXT: return
!dy = tensor<?x8xbf16, #moe.rows<2 * "T">>
!x = tensor<?x6xbf16, #moe.rows<2 * "T">>
moe.state @a : tensor<4x8x6xbf16> {kind = parameter} from "a"
moe.state @b : tensor<4x6x8xbf16> {kind = parameter} from "b"
moe.state @a.grad : tensor<4x8x6xbf16> {kind = gradient, of = @a}
moe.state @b.grad : tensor<4x6x8xf32> {kind = gradient, of = @b}
func.func @micro_step(%dy: !dy, %x: !x, %sizes: tensor<4xi32>) {
  %da = moe.grouped_gemm_wgrad %dy, %x, %sizes : !dy, !x, tensor<4xi32> -> tensor<4x8x6xf32>
  %sum_a = moe.read @a.grad : tensor<4x8x6xbf16>
  %a = moe.accumulate %sum_a, %da : tensor<4x8x6xbf16>, tensor<4x8x6xf32>
  moe.write @a.grad, %a : tensor<4x8x6xbf16>
  %db = moe.grouped_gemm_wgrad %x, %dy, %sizes : !x, !dy, tensor<4xi32> -> tensor<4x6x8xf32>
  %sum_b = moe.read @b.grad : tensor<4x6x8xf32>
  %b = moe.accumulate %sum_b, %db : tensor<4x6x8xf32>, tensor<4x6x8xf32>
  moe.write @b.grad, %b : tensor<4x6x8xf32>
  return
}

// -----

// The gradient is rounded first, is used again, or its accumulator is narrower than what it is of.

// CHECK-LABEL: func.func @others
// CHECK-NOT: moe.grouped_gemm_wgrad_accumulate
// CHECK: return
func.func @others(%dy: tensor<5x8xbf16>, %x: tensor<5x6xbf16>, %wide: tensor<5x6xf32>, %sizes: tensor<4xi32>,
                  %sum: tensor<4x8x6xbf16>, %other: tensor<4x6x6xbf16>)
    -> (tensor<4x8x6xbf16>, tensor<4x8x6xbf16>, tensor<4x8x6xf32>, tensor<4x6x6xbf16>) {
  %a = moe.grouped_gemm_wgrad %dy, %x, %sizes : tensor<5x8xbf16>, tensor<5x6xbf16>, tensor<4xi32> -> tensor<4x8x6xbf16>
  %with_a = moe.accumulate %sum, %a : tensor<4x8x6xbf16>, tensor<4x8x6xbf16>
  %b = moe.grouped_gemm_wgrad %dy, %x, %sizes : tensor<5x8xbf16>, tensor<5x6xbf16>, tensor<4xi32> -> tensor<4x8x6xf32>
  %with_b = moe.accumulate %with_a, %b : tensor<4x8x6xbf16>, tensor<4x8x6xf32>
  %c = moe.grouped_gemm_wgrad %wide, %wide, %sizes : tensor<5x6xf32>, tensor<5x6xf32>, tensor<4xi32> -> tensor<4x6x6xf32>
  %with_c = moe.accumulate %other, %c : tensor<4x6x6xbf16>, tensor<4x6x6xf32>
  return %with_a, %with_b, %b, %with_c : tensor<4x8x6xbf16>, tensor<4x8x6xbf16>, tensor<4x8x6xf32>, tensor<4x6x6xbf16>
}
