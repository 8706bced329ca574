// RUN: moe-opt %s --fuse --split-input-file | FileCheck %s
// RUN: moe-opt %s --fuse --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --fuse --split-input-file | moe-opt --fuse --split-input-file | FileCheck %s
// RUN: moe-opt %s --split-input-file -o %t.none
// RUN: moe-opt %s --fuse=enable=false --split-input-file | diff - %t.none

// Both directions of the experts. The activated rows are made again where the first op behind wants them, before the gradient
// that they are made with.

// CHECK-LABEL: func.func @experts
// CHECK-SAME: (%[[ROWS:[^:]*]]: tensor<?x8xf32, {{[^%]*}}, %[[GATE_UP_W:[^:]*]]: {{[^%]*}}, %[[DOWN:[^:]*]]: {{[^%]*}}, %[[SIZES:[^:]*]]: tensor<4xi32>)
// CHECK-NEXT: %[[GATE_UP:.*]], %[[HIDDEN:.*]] = moe.grouped_gemm_gated %[[ROWS]], %[[GATE_UP_W]], %[[SIZES]] activation "silu"
// CHECK-NEXT: %[[Y:.*]] = moe.grouped_gemm %[[HIDDEN]], %[[DOWN]], %[[SIZES]]
// CHECK-NEXT: %[[DROWS:.*]] = moe.scale %[[Y]] by 2.0
// CHECK-NEXT: %[[DGATE_UP:.*]], %[[AGAIN:.*]] = moe.grouped_gemm_dgrad_gated %[[DROWS]], %[[DOWN]], %[[SIZES]], %[[GATE_UP]] activation "silu"
// CHECK-NEXT: %[[DDOWN:.*]] = moe.grouped_gemm_wgrad %[[DROWS]], %[[AGAIN]], %[[SIZES]]
// CHECK-NEXT: %[[DW:.*]] = moe.grouped_gemm_wgrad %[[DGATE_UP]], %[[ROWS]], %[[SIZES]]
// CHECK-NEXT: return %[[Y]], %[[DDOWN]], %[[DW]]
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
func.func @experts(%rows: !rows, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>, %sizes: tensor<4xi32>)
    -> (!rows, tensor<4x8x6xf32>, tensor<4x12x8xf32>) {
  %gate_up = moe.grouped_gemm %rows, %w, %sizes : !rows, tensor<4x12x8xf32>, tensor<4xi32>
  %hidden = moe.gated_activation %gate_up activation "silu" : tensor<?x12xf32, #moe.rows<2 * "T">>
  %y = moe.grouped_gemm %hidden, %down, %sizes
      : tensor<?x6xf32, #moe.rows<2 * "T">>, tensor<4x8x6xf32>, tensor<4xi32>
  %drows = moe.scale %y by 2.0 : !rows
  %ddown = moe.grouped_gemm_wgrad %drows, %hidden, %sizes
      : !rows, tensor<?x6xf32, #moe.rows<2 * "T">>, tensor<4xi32> -> tensor<4x8x6xf32>
  %dhidden = moe.grouped_gemm_dgrad %drows, %down, %sizes : !rows, tensor<4x8x6xf32>, tensor<4xi32>
  %dgate_up = moe.gated_activation_grad %dhidden, %gate_up activation "silu"
      : tensor<?x6xf32, #moe.rows<2 * "T">>, tensor<?x12xf32, #moe.rows<2 * "T">>
  %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes
      : tensor<?x12xf32, #moe.rows<2 * "T">>, !rows, tensor<4xi32> -> tensor<4x12x8xf32>
  return %y, %ddown, %dw : !rows, tensor<4x8x6xf32>, tensor<4x12x8xf32>
}

// -----

// The activated rows have several uses: those before the gradient's operands are there keep the first ones.

// CHECK-LABEL: func.func @several_uses
// CHECK-SAME: (%[[GATE_UP:[^:]*]]: tensor<5x12xf32>, %[[DY:[^:]*]]: tensor<5x8xf32>,
// CHECK-NEXT: %[[HIDDEN:.*]] = moe.gated_activation %[[GATE_UP]]
// CHECK-NEXT: %[[A:.*]] = moe.scale %[[HIDDEN]] by 2.0
// CHECK-NEXT: %[[DROWS:.*]] = moe.scale %[[DY]] by 3.0
// CHECK-NEXT: %[[DGATE_UP:.*]], %[[AGAIN:.*]] = moe.grouped_gemm_dgrad_gated %[[DROWS]], %{{[^ ,]+}}, %{{[^ ,]+}}, %[[GATE_UP]]
// CHECK-NEXT: %[[B:.*]] = moe.scale %[[AGAIN]] by 4.0
// CHECK-NEXT: %[[C:.*]] = moe.add %[[AGAIN]], %[[A]]
// CHECK-NEXT: return %[[A]], %[[B]], %[[C]], %[[DGATE_UP]]
func.func @several_uses(%gate_up: tensor<5x12xf32>, %dy: tensor<5x8xf32>, %down: tensor<4x8x6xf32>,
                        %sizes: tensor<4xi32>)
    -> (tensor<5x6xf32>, tensor<5x6xf32>, tensor<5x6xf32>, tensor<5x12xf32>) {
  %hidden = moe.gated_activation %gate_up activation "silu" : tensor<5x12xf32>
  %a = moe.scale %hidden by 2.0 : tensor<5x6xf32>
  %drows = moe.scale %dy by 3.0 : tensor<5x8xf32>
  %b = moe.scale %hidden by 4.0 : tensor<5x6xf32>
  %dhidden = moe.grouped_gemm_dgrad %drows, %down, %sizes
      : tensor<5x8xf32>, tensor<4x8x6xf32>, tensor<4xi32>
  %dgate_up = moe.gated_activation_grad %dhidden, %gate_up activation "silu"
      : tensor<5x6xf32>, tensor<5x12xf32>
  %c = moe.add %hidden, %a : tensor<5x6xf32>
  return %a, %b, %c, %dgate_up : tensor<5x6xf32>, tensor<5x6xf32>, tensor<5x6xf32>, tensor<5x12xf32>
}

// -----

// As recompute leaves it: the activation is there a second time, and gate_up too. What is behind both goes, and so does an
// activation right behind its gradient.

// CHECK-LABEL: func.func @made_again
// CHECK: %[[DY:.*]] = moe.scale
// CHECK-NEXT: %[[GATE_UP:.*]] = moe.scale
// CHECK-NEXT: %[[DGATE_UP:.*]], %[[AGAIN:.*]] = moe.grouped_gemm_dgrad_gated %[[DY]], %{{[^ ,]+}}, %{{[^ ,]+}}, %[[GATE_UP]]
// CHECK-NEXT: %[[B:.*]] = moe.scale %[[AGAIN]] by 4.0
// CHECK-NEXT: return %[[DGATE_UP]], %[[B]]
func.func @made_again(%x: tensor<5x12xf32>, %d: tensor<5x8xf32>, %down: tensor<4x8x6xf32>,
                      %sizes: tensor<4xi32>) -> (tensor<5x12xf32>, tensor<5x6xf32>) {
  %dy = moe.scale %d by 3.0 : tensor<5x8xf32>
  %dhidden = moe.grouped_gemm_dgrad %dy, %down, %sizes
      : tensor<5x8xf32>, tensor<4x8x6xf32>, tensor<4xi32>
  %gate_up = moe.scale %x by 2.0 : tensor<5x12xf32>
  %dgate_up = moe.gated_activation_grad %dhidden, %gate_up activation "silu"
      : tensor<5x6xf32>, tensor<5x12xf32>
  %again = moe.gated_activation %gate_up activation "silu" : tensor<5x12xf32>
  %b = moe.scale %again by 4.0 : tensor<5x6xf32>
  return %dgate_up, %b : tensor<5x12xf32>, tensor<5x6xf32>
}

// -----

// A body of rounds is by itself: what is outside it stays, and what is inside is fused there.

// CHECK-LABEL: func.func @rounds
// CHECK: %[[GATE_UP:.*]] = moe.grouped_gemm %
// CHECK-NEXT: %[[DHIDDEN:.*]] = moe.grouped_gemm_dgrad
// CHECK-NEXT: dist.rounds {{.*}} carry(%[[SUM:.*]] = %{{.*}} : tensor<5x6xf32>) with(%[[X:.*]] = %{{.*}} : tensor<5x8xf32>, %[[G:.*]] = %[[GATE_UP]] : tensor<5x12xf32>, %[[D:.*]] = %[[DHIDDEN]] :
// CHECK-NEXT: %[[OUTER:.*]] = moe.gated_activation %[[G]]
// CHECK-NEXT: %[[DOUTER:.*]] = moe.gated_activation_grad %[[D]], %[[G]]
// CHECK-NEXT: %{{.*}}, %[[INNER:.*]] = moe.grouped_gemm_gated %[[X]], %
// CHECK-NEXT: %[[DINNER:.*]], %[[AGAIN:.*]] = moe.grouped_gemm_dgrad_gated %[[X]], %{{[^ ,]+}}, %{{[^ ,]+}}, %[[DOUTER]]
// CHECK-NEXT: moe.add %[[OUTER]], %[[INNER]]
// CHECK-NOT: moe.grouped_gemm
// CHECK: return
dist.mesh @mesh <["ep"=2]>
func.func @rounds(%x: tensor<5x8xf32>, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>, %sizes: tensor<4xi32>,
                  %count: tensor<i32>, %zero: tensor<5x6xf32>) -> tensor<5x6xf32> {
  %gate_up = moe.grouped_gemm %x, %w, %sizes : tensor<5x8xf32>, tensor<4x12x8xf32>, tensor<4xi32>
  %dhidden = moe.grouped_gemm_dgrad %x, %down, %sizes
      : tensor<5x8xf32>, tensor<4x8x6xf32>, tensor<4xi32>
  %sum = dist.rounds %round of %count on host over ["ep"] carry(%s = %zero : tensor<5x6xf32>)
      with(%xi = %x : tensor<5x8xf32>, %g = %gate_up : tensor<5x12xf32>, %d = %dhidden : tensor<5x6xf32>,
           %wi = %w : tensor<4x12x8xf32>, %downi = %down : tensor<4x8x6xf32>, %si = %sizes : tensor<4xi32>) {
    %outer = moe.gated_activation %g activation "silu" : tensor<5x12xf32>
    %douter = moe.gated_activation_grad %d, %g activation "silu" : tensor<5x6xf32>, tensor<5x12xf32>
    %gi = moe.grouped_gemm %xi, %wi, %si : tensor<5x8xf32>, tensor<4x12x8xf32>, tensor<4xi32>
    %inner = moe.gated_activation %gi activation "silu" : tensor<5x12xf32>
    %di = moe.grouped_gemm_dgrad %xi, %downi, %si : tensor<5x8xf32>, tensor<4x8x6xf32>, tensor<4xi32>
    %dinner = moe.gated_activation_grad %di, %douter activation "silu" : tensor<5x6xf32>, tensor<5x12xf32>
    %both = moe.add %outer, %inner : tensor<5x6xf32>
    %again = moe.gated_activation %dinner activation "silu" : tensor<5x12xf32>
    %all = moe.add %both, %again : tensor<5x6xf32>
    %next = moe.add %s, %all : tensor<5x6xf32>
    dist.yield %next : tensor<5x6xf32>
  }
  return %sum : tensor<5x6xf32>
}

// -----

// Left alone: a product whose first user is another op, one that nothing activates, a gradient by data that another op takes
// too, and an activation and its gradient without a product.

// CHECK-LABEL: func.func @alone
// CHECK-NEXT: %[[A:.*]] = moe.grouped_gemm %
// CHECK-NEXT: moe.scale %[[A]]
// CHECK-NEXT: moe.gated_activation %[[A]]
// CHECK-NEXT: moe.grouped_gemm %
// CHECK-NEXT: %[[D:.*]] = moe.grouped_gemm_dgrad
// CHECK-NEXT: moe.gated_activation_grad %[[D]], %[[A]]
// CHECK-NEXT: moe.scale %[[D]]
// CHECK-NEXT: moe.gated_activation %
// CHECK-NEXT: moe.gated_activation_grad %
// CHECK-NEXT: moe.add
// CHECK-NEXT: return
func.func @alone(%x: tensor<5x8xf32>, %w: tensor<4x12x8xf32>, %down: tensor<4x8x6xf32>, %sizes: tensor<4xi32>)
    -> (tensor<5x12xf32>, tensor<5x6xf32>, tensor<5x12xf32>, tensor<5x12xf32>, tensor<5x6xf32>,
        tensor<5x12xf32>) {
  %a = moe.grouped_gemm %x, %w, %sizes : tensor<5x8xf32>, tensor<4x12x8xf32>, tensor<4xi32>
  %scaled = moe.scale %a by 2.0 : tensor<5x12xf32>
  %activated = moe.gated_activation %a activation "silu" : tensor<5x12xf32>
  %b = moe.grouped_gemm %x, %w, %sizes : tensor<5x8xf32>, tensor<4x12x8xf32>, tensor<4xi32>
  %d = moe.grouped_gemm_dgrad %x, %down, %sizes : tensor<5x8xf32>, tensor<4x8x6xf32>, tensor<4xi32>
  %g = moe.gated_activation_grad %d, %a activation "silu" : tensor<5x6xf32>, tensor<5x12xf32>
  %other = moe.scale %d by 2.0 : tensor<5x6xf32>
  %c = moe.gated_activation %scaled activation "silu" : tensor<5x12xf32>
  %h = moe.gated_activation_grad %activated, %scaled activation "silu" : tensor<5x6xf32>, tensor<5x12xf32>
  %both = moe.add %c, %other : tensor<5x6xf32>
  return %b, %activated, %g, %scaled, %both, %h
      : tensor<5x12xf32>, tensor<5x6xf32>, tensor<5x12xf32>, tensor<5x12xf32>, tensor<5x6xf32>, tensor<5x12xf32>
}
