// RUN: moe-opt %s --fuse-add --split-input-file | FileCheck %s
// RUN: moe-opt %s --fuse-add --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --fuse-add --split-input-file | moe-opt --fuse-add --split-input-file | FileCheck %s
// RUN: moe-opt %s --split-input-file -o %t.none
// RUN: moe-opt %s --fuse-add=enable=false --split-input-file | diff - %t.none

// Forward the experts' sum joins the layer's input, backward the router's gradient, which is made behind it: the new op
// stands where the moe.add stood.

// CHECK-LABEL: func.func @layer
// CHECK-SAME: (%[[X:[^:]*]]: tensor<?x8xbf16, {{[^%]*}}, %[[ROWS:[^:]*]]: tensor<?x8xbf16, {{[^%]*}}, %[[WEIGHTS:[^:]*]]: tensor<?x2xf32, {{[^%]*}}, %[[SLOTS:[^:]*]]: tensor<?x2xi32
// CHECK-NEXT: %[[Y:.*]] = moe.unpermute_add %[[ROWS]], %[[WEIGHTS]], %[[SLOTS]], %[[X]] : tensor<?x8xbf16, #moe.rows<2 * "T">>, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<?x8xbf16, #moe.rows<"T">>
// CHECK-NEXT: %[[DROUTER:.*]] = moe.linear_dgrad
// CHECK-NEXT: %[[DX:.*]] = moe.permute_grad_add %[[ROWS]], %[[SLOTS]], %[[DROUTER]] : tensor<?x8xbf16, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<?x8xbf16, #moe.rows<"T">>
// CHECK-NEXT: return %[[Y]], %[[DX]]
!x = tensor<?x8xbf16, #moe.rows<"T">>
!rows = tensor<?x8xbf16, #moe.rows<2 * "T">>
!weights = tensor<?x2xf32, #moe.rows<"T">>
!slots = tensor<?x2xi32, #moe.rows<"T">>
!logits = tensor<?x4xbf16, #moe.rows<"T">>
func.func @layer(%x: !x, %rows: !rows, %weights: !weights, %slots: !slots, %dlogits: !logits, %router: tensor<4x8xbf16>)
    -> (!x, !x) {
  %sum = moe.unpermute %rows, %weights, %slots : !rows, !weights, !slots
  %y = moe.add %x, %sum : !x
  %dexperts = moe.permute_grad %rows, %slots : !rows, !slots
  %drouter = moe.linear_dgrad %dlogits, %router : !logits, tensor<4x8xbf16>
  %dx = moe.add %dexperts, %drouter : !x
  return %y, %dx : !x, !x
}

// -----

// The sum may be either operand, in float32 too, and what takes the result takes that of the new op.

// CHECK-LABEL: func.func @either_side
// CHECK-SAME: (%[[X:[^:]*]]: tensor<3x8xf32>, %[[ROWS:[^:]*]]: tensor<6x8xf32>, %[[WEIGHTS:[^:]*]]: tensor<3x2xf32>, %[[SLOTS:[^:]*]]: tensor<3x2xi32>
// CHECK-NEXT: %[[Y:.*]] = moe.unpermute_add %[[ROWS]], %[[WEIGHTS]], %[[SLOTS]], %[[X]]
// CHECK-NEXT: %[[DX:.*]] = moe.permute_grad_add %[[ROWS]], %[[SLOTS]], %[[Y]]
// CHECK-NEXT: %[[TWICE:.*]] = moe.add %[[DX]], %[[Y]]
// CHECK-NEXT: return %[[TWICE]]
func.func @either_side(%x: tensor<3x8xf32>, %rows: tensor<6x8xf32>, %weights: tensor<3x2xf32>, %slots: tensor<3x2xi32>)
    -> tensor<3x8xf32> {
  %sum = moe.unpermute %rows, %weights, %slots : tensor<6x8xf32>, tensor<3x2xf32>, tensor<3x2xi32>
  %y = moe.add %sum, %x : tensor<3x8xf32>
  %dexperts = moe.permute_grad %rows, %slots : tensor<6x8xf32>, tensor<3x2xi32>
  %dx = moe.add %y, %dexperts : tensor<3x8xf32>
  %twice = moe.add %dx, %y : tensor<3x8xf32>
  return %twice : tensor<3x8xf32>
}

// -----

// Of two sums the later one is fused, whichever operand it is.

// CHECK-LABEL: func.func @both
// CHECK-NEXT: %[[A:.*]] = moe.permute_grad %{{[^ ]+}}, %[[SLOTS:[^ ]+]]
// CHECK-NEXT: %[[AB:.*]] = moe.permute_grad_add %[[B:[^ ]+]], %[[SLOTS]], %[[A]]
// CHECK-NEXT: %[[C:.*]] = moe.permute_grad %{{[^ ]+}}, %[[SLOTS]]
// CHECK-NEXT: %[[CB:.*]] = moe.permute_grad_add %[[B]], %[[SLOTS]], %[[C]]
// CHECK-NEXT: return %[[AB]], %[[CB]]
func.func @both(%a: tensor<6x8xf32>, %b: tensor<6x8xf32>, %slots: tensor<3x2xi32>) -> (tensor<3x8xf32>, tensor<3x8xf32>) {
  %da = moe.permute_grad %a, %slots : tensor<6x8xf32>, tensor<3x2xi32>
  %db = moe.permute_grad %b, %slots : tensor<6x8xf32>, tensor<3x2xi32>
  %ab = moe.add %da, %db : tensor<3x8xf32>
  %dc = moe.permute_grad %a, %slots : tensor<6x8xf32>, tensor<3x2xi32>
  %dd = moe.permute_grad %b, %slots : tensor<6x8xf32>, tensor<3x2xi32>
  %cb = moe.add %dd, %dc : tensor<3x8xf32>
  return %ab, %cb : tensor<3x8xf32>, tensor<3x8xf32>
}

// -----

// A sum that something else takes is made anyway; so is one that is added to itself.

// CHECK-LABEL: func.func @two_uses
// CHECK-NEXT: %[[A:.*]] = moe.permute_grad
// CHECK-NEXT: moe.add %{{[^ ]+}}, %[[A]]
// CHECK-NEXT: %[[B:.*]] = moe.permute_grad
// CHECK-NEXT: moe.add %[[B]], %[[B]]
// CHECK-NEXT: return
func.func @two_uses(%x: tensor<3x8xf32>, %rows: tensor<6x8xf32>, %slots: tensor<3x2xi32>)
    -> (tensor<3x8xf32>, tensor<3x8xf32>, tensor<3x8xf32>) {
  %a = moe.permute_grad %rows, %slots : tensor<6x8xf32>, tensor<3x2xi32>
  %y = moe.add %x, %a : tensor<3x8xf32>
  %b = moe.permute_grad %rows, %slots : tensor<6x8xf32>, tensor<3x2xi32>
  %twice = moe.add %b, %b : tensor<3x8xf32>
  return %a, %y, %twice : tensor<3x8xf32>, tensor<3x8xf32>, tensor<3x8xf32>
}

// -----

// What a dist.rounds adds to the value that it carries stays a moe.add, of which to-plan makes an update in place.

// CHECK-LABEL: func.func @rounds
// CHECK: dist.rounds
// CHECK: %[[SUM:.*]] = moe.permute_grad %
// CHECK-NEXT: %[[NEXT:.*]] = moe.add %{{[^ ]+}}, %[[SUM]]
// CHECK-NEXT: dist.yield %[[NEXT]]
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 6, rows_per_token = 2.0}
func.func @rounds(%x: tensor<3x8xf32>, %rows: tensor<6x8xf32>, %slots: tensor<3x2xi32>, %all_counts: tensor<2x4xi32>)
    -> tensor<3x8xf32> {
  %count = dist.overflow_rounds %all_counts : tensor<2x4xi32>
  %y = dist.rounds %round of %count on host over ["ep"] carry(%carried = %x : tensor<3x8xf32>)
      with(%rows_in = %rows : tensor<6x8xf32>, %slots_in = %slots : tensor<3x2xi32>) {
    %sum = moe.permute_grad %rows_in, %slots_in : tensor<6x8xf32>, tensor<3x2xi32>
    %next = moe.add %carried, %sum : tensor<3x8xf32>
    dist.yield %next : tensor<3x8xf32>
  }
  return %y : tensor<3x8xf32>
}
