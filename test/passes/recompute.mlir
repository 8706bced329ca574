// RUN: moe-opt %s --recompute=what=cheap --split-input-file | FileCheck %s
// RUN: moe-opt %s --recompute=what=cheap --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --recompute --split-input-file | FileCheck %s --check-prefix=NONE

// The norm is used on both sides of the first gradient, and its operand behind its later use: it is copied. Its copy is
// what the copy of the permutation takes, and the activation is copied from what its gradient takes.

// CHECK-LABEL: func.func @train_step
// CHECK: %[[N:.*]] = moe.rms_norm %[[X:.*]], %[[W:.*]] eps
// CHECK: %[[ROWS:.*]] = moe.permute %[[N]],
// CHECK: moe.gated_activation %[[ROWS]]
// CHECK: moe.gradient @head
// CHECK-NEXT: %[[N2:.*]] = moe.rms_norm %[[X]], %[[W]] eps
// CHECK-NEXT: %[[ROWS2:.*]] = moe.permute %[[N2]],
// CHECK-NEXT: %[[A2:.*]] = moe.gated_activation %[[ROWS2]]
// CHECK-NEXT: moe.linear_wgrad %{{.*}}, %[[A2]]
// CHECK-NEXT: moe.gated_activation_grad %{{.*}}, %[[ROWS2]]
// CHECK-NEXT: moe.linear_wgrad %{{.*}}, %[[N2]]
// CHECK-NEXT: moe.rms_norm_grad %{{.*}}, %[[X]], %[[W]]

// NONE: moe.rms_norm %
// NONE: moe.gradient @head
// NONE-NEXT: moe.linear_wgrad
!tokens = tensor<?x8xf32, #moe.rows<"T">>
!half = tensor<?x4xf32, #moe.rows<2 * "T">>
!rows = tensor<?x8xf32, #moe.rows<2 * "T">>
moe.state @norm : tensor<8xf32> {kind = parameter} from "norm"
moe.state @head : tensor<8x8xf32> {kind = parameter} from "head"
moe.state @down : tensor<8x4xf32> {kind = parameter} from "down"
moe.state @router : tensor<8x8xf32> {kind = parameter} from "router"
func.func @train_step(%x: !tokens {moe.name = "x"}, %d: !tokens {moe.name = "d"}, %dr: !rows {moe.name = "dr"},
                      %dh: !half {moe.name = "dh"}, %dhead: tensor<8x8xf32> {moe.name = "dhead"},
                      %slots: tensor<?x2xi32, #moe.rows<"T">> {moe.name = "slots"})
    -> (!half {moe.name = "y"}, !tokens {moe.name = "dx"}, !rows {moe.name = "dg"}) {
  %h = moe.scale %x by 2.0 : !tokens
  %w = moe.read @norm : tensor<8xf32>
  %n = moe.rms_norm %h, %w eps 1.0e-05 : !tokens, tensor<8xf32>
  %rows = moe.permute %n, %slots : !tokens, tensor<?x2xi32, #moe.rows<"T">>
  %a = moe.gated_activation %rows activation "silu" : !rows
  %y = moe.scale %a by 2.0 : !half
  moe.gradient @head, %dhead : tensor<8x8xf32>
  %ddown = moe.linear_wgrad %dr, %a : !rows, !half -> tensor<8x4xf32>
  %dg = moe.gated_activation_grad %dh, %rows activation "silu" : !half, !rows
  %drouter = moe.linear_wgrad %d, %n : !tokens, !tokens -> tensor<8x8xf32>
  %dx, %dnorm = moe.rms_norm_grad %d, %h, %w eps 1.0e-05 : !tokens, tensor<8xf32>
  moe.gradient @down, %ddown : tensor<8x4xf32>
  moe.gradient @router, %drouter : tensor<8x8xf32>
  moe.gradient @norm, %dnorm : tensor<8xf32>
  return %y, %dx, %dg : !half, !tokens, !rows
}

// -----

// What the norm was computed from is gone: to keep it would cost as much as to keep the norm.

// CHECK-LABEL: func.func @micro_step
// CHECK-COUNT-1: moe.rms_norm
// CHECK-NOT: moe.rms_norm
moe.state @norm : tensor<8xf32> {kind = parameter} from "norm"
moe.state @head : tensor<8x8xf32> {kind = parameter} from "head"
moe.state @head.grad : tensor<8x8xf32> {kind = gradient, of = @head}
func.func @micro_step(%x: tensor<4x8xf32> {moe.name = "x"}, %d: tensor<4x8xf32> {moe.name = "d"})
    -> (tensor<4x8xf32> {moe.name = "y"}, tensor<8x8xf32> {moe.name = "dw"}) {
  %h = moe.scale %x by 2.0 : tensor<4x8xf32>
  %w = moe.read @norm : tensor<8xf32>
  %n = moe.rms_norm %h, %w eps 1.0e-05 : tensor<4x8xf32>, tensor<8xf32>
  %y = moe.scale %n by 3.0 : tensor<4x8xf32>
  %g = moe.linear_wgrad %d, %y : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<8x8xf32>
  moe.write @head.grad, %g : tensor<8x8xf32>
  %dw = moe.linear_wgrad %d, %n : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<8x8xf32>
  return %y, %dw : tensor<4x8xf32>, tensor<8x8xf32>
}

// -----

// No gradient, no backward direction.

// CHECK-LABEL: func.func @evaluate
// CHECK-COUNT-1: moe.rms_norm
// CHECK-NOT: moe.rms_norm
moe.state @norm : tensor<8xf32> {kind = parameter} from "norm"
func.func @evaluate(%x: tensor<4x8xf32> {moe.name = "x"}) -> (tensor<4x8xf32> {moe.name = "y"}) {
  %w = moe.read @norm : tensor<8xf32>
  %n = moe.rms_norm %x, %w eps 1.0e-05 : tensor<4x8xf32>, tensor<8xf32>
  %y = moe.add %n, %x : tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}
