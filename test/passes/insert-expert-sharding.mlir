// RUN: moe-opt %s --insert-expert-sharding --split-input-file | FileCheck %s
// RUN: moe-opt %s --insert-expert-sharding --split-input-file | moe-opt --split-input-file | FileCheck %s

// Experts are divided along dimension 0; the reads in all programs become one, gathered right before the
// first use. What is no expert's weight stays.

// CHECK: moe.state @gate_up : tensor<8x12x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "gate_up"
// CHECK: moe.state @down : tensor<8x4x6xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "down"
// CHECK: moe.state @norm : tensor<4xf32> {kind = parameter} from "norm"
// CHECK-LABEL: func.func @evaluate
// CHECK: %[[NORM:.*]] = moe.read @norm : tensor<4xf32>
// CHECK: %[[X:.*]] = moe.rms_norm %{{.*}}, %[[NORM]]
// CHECK-NEXT: %[[GATE_UP_PART:.*]] = moe.read @gate_up : tensor<2x12x4xf32>
// CHECK-NEXT: %[[GATE_UP:.*]] = dist.all_gather %[[GATE_UP_PART]] over ["ep"] : tensor<2x12x4xf32> -> tensor<8x12x4xf32>
// CHECK-NEXT: %[[DOWN_PART:.*]] = moe.read @down : tensor<2x4x6xf32>
// CHECK-NEXT: %[[DOWN:.*]] = dist.all_gather %[[DOWN_PART]] over ["ep"] : tensor<2x4x6xf32> -> tensor<8x4x6xf32>
// CHECK-NEXT: %[[Y:.*]] = moe.experts %[[X]], %{{.*}}, %{{.*}}, %[[GATE_UP]], %[[DOWN]]
// CHECK-NEXT: %[[Z:.*]] = moe.experts %[[Y]], %{{.*}}, %{{.*}}, %[[GATE_UP]], %[[DOWN]]
// CHECK-NEXT: return %[[Z]]
// CHECK-LABEL: func.func @other
// CHECK: moe.read @down : tensor<2x4x6xf32>
// CHECK-NEXT: %[[WHOLE:.*]] = dist.all_gather
// CHECK-NEXT: return %[[WHOLE]] : tensor<8x4x6xf32>
!x = tensor<?x4xf32, #moe.rows<"T">>
!w = tensor<?x2xf32, #moe.rows<"T">>
!e = tensor<?x2xi32, #moe.rows<"T">>
dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 64}
moe.state @gate_up : tensor<8x12x4xf32> {kind = parameter} from "gate_up"
moe.state @down : tensor<8x4x6xf32> {kind = parameter} from "down"
moe.state @norm : tensor<4xf32> {kind = parameter} from "norm"
func.func @evaluate(%x: !x, %weights: !w, %experts: !e) -> !x {
  %gate_up = moe.read @gate_up : tensor<8x12x4xf32>
  %down = moe.read @down : tensor<8x4x6xf32>
  %norm = moe.read @norm : tensor<4xf32>
  %n = moe.rms_norm %x, %norm eps 1.0e-05 : !x, tensor<4xf32>
  %y = moe.experts %n, %weights, %experts, %gate_up, %down activation "silu"
      : !x, !w, !e, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  %again = moe.read @down : tensor<8x4x6xf32>
  %z = moe.experts %y, %weights, %experts, %gate_up, %again activation "silu"
      : !x, !w, !e, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %z : !x
}
func.func @other() -> tensor<8x4x6xf32> {
  %down = moe.read @down : tensor<8x4x6xf32>
  return %down : tensor<8x4x6xf32>
}

// -----

// A mesh without "ep" leaves all as it is.

// CHECK: moe.state @down : tensor<8x4x6xf32> {kind = parameter} from "down"
// CHECK-NOT: dist.all_gather
!x = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["fsdp"=3]>
moe.symbol @T {bound = 64}
moe.state @gate_up : tensor<8x12x4xf32> {kind = parameter} from "gate_up"
moe.state @down : tensor<8x4x6xf32> {kind = parameter} from "down"
func.func @evaluate(%x: !x, %weights: tensor<?x2xf32, #moe.rows<"T">>, %experts: tensor<?x2xi32, #moe.rows<"T">>) -> !x {
  %gate_up = moe.read @gate_up : tensor<8x12x4xf32>
  %down = moe.read @down : tensor<8x4x6xf32>
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %y : !x
}
