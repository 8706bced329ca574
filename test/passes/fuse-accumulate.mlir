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

// -----

// Of tokens where they stand.

// CHECK-LABEL: func.func @gathered
// CHECK-SAME: (%[[DY:[^:]*]]: tensor<5x8xbf16>, %[[X:[^:]*]]: tensor<7x6xbf16>, %[[TOKENS:[^:]*]]: tensor<7xi32>, %[[SIZES:[^:]*]]: tensor<4xi32>, %[[A:[^:]*]]: tensor<4x8x6xbf16>, %[[B:[^:]*]]: tensor<4x6x8xf32>)
// CHECK-NEXT: %[[WITH_A:.*]] = moe.grouped_gemm_wgrad_gather_dy_accumulate %[[DY]], %[[TOKENS]], %[[X]], %[[SIZES]], %[[A]] :
// CHECK-NEXT: %[[WITH_B:.*]] = moe.grouped_gemm_wgrad_gather_x_accumulate %[[X]], %[[DY]], %[[TOKENS]], %[[SIZES]], %[[B]] :
// CHECK-NEXT: return %[[WITH_A]], %[[WITH_B]]
func.func @gathered(%dy: tensor<5x8xbf16>, %x: tensor<7x6xbf16>, %tokens: tensor<7xi32>, %sizes: tensor<4xi32>,
                    %a: tensor<4x8x6xbf16>, %b: tensor<4x6x8xf32>) -> (tensor<4x8x6xbf16>, tensor<4x6x8xf32>) {
  %da = moe.grouped_gemm_wgrad_gather_dy %dy, %tokens, %x, %sizes
      : tensor<5x8xbf16>, tensor<7xi32>, tensor<7x6xbf16>, tensor<4xi32> -> tensor<4x8x6xf32>
  %with_a = moe.accumulate %a, %da : tensor<4x8x6xbf16>, tensor<4x8x6xf32>
  %db = moe.grouped_gemm_wgrad_gather_x %x, %dy, %tokens, %sizes
      : tensor<7x6xbf16>, tensor<5x8xbf16>, tensor<7xi32>, tensor<4xi32> -> tensor<4x6x8xf32>
  %with_b = moe.accumulate %b, %db : tensor<4x6x8xf32>, tensor<4x6x8xf32>
  return %with_a, %with_b : tensor<4x8x6xbf16>, tensor<4x6x8xf32>
}

// -----

// Overflow rounds: they and round 0 add to the accumulator itself, but where the gradient of round 0 is needed otherwise.

// CHECK-LABEL: func.func @rounds
// CHECK-SAME: (%[[DY:[^:]*]]: tensor<?x8xbf16, {{[^%]*}}, %[[C:[^:]*]]: tensor<2x4xi32>)
// CHECK-NEXT: %[[R:.*]], %[[SIZES:.*]] = dist.token_exchange %[[DY]], %[[C]] over
// CHECK-NEXT: %[[SUM_A:.*]] = moe.read @a.grad
// CHECK-NEXT: %[[A:.*]] = moe.grouped_gemm_wgrad_accumulate %[[R]], %[[R]], %[[SIZES]], %[[SUM_A]] : {{.*}}, tensor<2x8x8xbf16>
// CHECK-NEXT: %[[SUM_B:.*]] = moe.read @b.grad
// CHECK-NEXT: %[[B:.*]] = moe.grouped_gemm_wgrad_accumulate %[[R]], %[[R]], %[[SIZES]], %[[SUM_B]] : {{.*}}, tensor<2x8x8xf32>
// CHECK-NEXT: %[[OTHER:.*]] = moe.grouped_gemm_wgrad %[[R]], %[[R]], %[[SIZES]]
// CHECK-NEXT: dist.overflow_rounds
// CHECK-NEXT: %[[LOOP:.*]]:3 = dist.rounds {{.*}} carry(%[[IN_A:.*]] = %[[A]] : tensor<2x8x8xbf16>, %[[IN_B:.*]] = %[[B]] : tensor<2x8x8xf32>,
// CHECK-SAME:   %[[IN_OTHER:.*]] = %[[OTHER]] : tensor<2x8x8xf32>)
// CHECK-NEXT:   %[[RI:.*]], %[[SI:.*]] = dist.token_exchange
// CHECK-NEXT:   %[[NEXT_A:.*]] = moe.grouped_gemm_wgrad_accumulate %[[RI]], %[[RI]], %[[SI]], %[[IN_A]] : {{.*}}, tensor<2x8x8xbf16>
// CHECK-NEXT:   %[[NEXT_B:.*]] = moe.grouped_gemm_wgrad_accumulate %[[RI]], %[[RI]], %[[SI]], %[[IN_B]] : {{.*}}, tensor<2x8x8xf32>
// CHECK-NEXT:   %[[NEXT_OTHER:.*]] = moe.grouped_gemm_wgrad_accumulate %[[RI]], %[[RI]], %[[SI]], %[[IN_OTHER]] : {{.*}}, tensor<2x8x8xf32>
// CHECK-NEXT:   dist.yield %[[NEXT_A]], %[[NEXT_B]], %[[NEXT_OTHER]]
// CHECK: moe.write @a.grad, %[[LOOP]]#0
// CHECK-NEXT: moe.write @b.grad, %[[LOOP]]#1
// CHECK-NEXT: %[[SUM_C:.*]] = moe.read @c.grad
// CHECK-NEXT: %[[WITH_C:.*]] = moe.accumulate %[[SUM_C]], %[[LOOP]]#2
// CHECK-NEXT: moe.write @c.grad, %[[WITH_C]]
// CHECK-NEXT: return %[[OTHER]]
!tokens = tensor<?x8xbf16, #moe.rows<"T">>
!received = tensor<?x8xbf16, #moe.rows<"R">>
!dw = tensor<2x8x8xf32>
dist.mesh @mesh <["ep" = 2]>
moe.symbol @T {bound = 64 : i64}
moe.symbol @R {bound = 128 : i64}
moe.state @a : tensor<4x8x8xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "a"
moe.state @b : tensor<4x8x8xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "b"
moe.state @c : tensor<4x8x8xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "c"
moe.state @a.grad : tensor<4x8x8xbf16> {kind = gradient, of = @a, sharding = #dist.sharding<dim 0 over ["ep"]>}
moe.state @b.grad : tensor<4x8x8xf32> {kind = gradient, of = @b, sharding = #dist.sharding<dim 0 over ["ep"]>}
moe.state @c.grad : tensor<4x8x8xbf16> {kind = gradient, of = @c, sharding = #dist.sharding<dim 0 over ["ep"]>}
func.func @rounds(%dy: !tokens, %c: tensor<2x4xi32>) -> !dw {
  %r, %sizes = dist.token_exchange %dy, %c over ["ep"] : !tokens, tensor<2x4xi32>
  %da = moe.grouped_gemm_wgrad %r, %r, %sizes : !received, !received, tensor<2xi32> -> !dw
  %sum_a = moe.read @a.grad : tensor<2x8x8xbf16>
  %db = moe.grouped_gemm_wgrad %r, %r, %sizes : !received, !received, tensor<2xi32> -> !dw
  %dc = moe.grouped_gemm_wgrad %r, %r, %sizes : !received, !received, tensor<2xi32> -> !dw
  %count = dist.overflow_rounds %c : tensor<2x4xi32>
  %all:3 = dist.rounds %round of %count on host over ["ep"] carry(%ca = %da : !dw, %cb = %db : !dw, %cc = %dc : !dw)
      with(%dyi = %dy : !tokens, %ci = %c : tensor<2x4xi32>) {
    %ri, %si = dist.token_exchange %dyi, %ci round %round over ["ep"] : !tokens, tensor<2x4xi32>
    %dai = moe.grouped_gemm_wgrad %ri, %ri, %si : !received, !received, tensor<2xi32> -> !dw
    %na = moe.accumulate %ca, %dai : !dw, !dw
    %dbi = moe.grouped_gemm_wgrad %ri, %ri, %si : !received, !received, tensor<2xi32> -> !dw
    %nb = moe.accumulate %cb, %dbi : !dw, !dw
    %dci = moe.grouped_gemm_wgrad %ri, %ri, %si : !received, !received, tensor<2xi32> -> !dw
    %nc = moe.accumulate %cc, %dci : !dw, !dw
    dist.yield %na, %nb, %nc : !dw, !dw, !dw
  }
  %a = moe.accumulate %sum_a, %all#0 : tensor<2x8x8xbf16>, !dw
  moe.write @a.grad, %a : tensor<2x8x8xbf16>
  %sum_b = moe.read @b.grad : tensor<2x8x8xf32>
  %b = moe.accumulate %sum_b, %all#1 : tensor<2x8x8xf32>, !dw
  moe.write @b.grad, %b : tensor<2x8x8xf32>
  %sum_c = moe.read @c.grad : tensor<2x8x8xbf16>
  %with_c = moe.accumulate %sum_c, %all#2 : tensor<2x8x8xbf16>, !dw
  moe.write @c.grad, %with_c : tensor<2x8x8xbf16>
  return %dc : !dw
}
