// RUN: moe-opt %s --lower-experts | FileCheck %s
// RUN: moe-opt %s --lower-experts | moe-opt | FileCheck %s

// One row for each slot, sorted by expert; the group sizes are data, so the module does not grow with the experts.

// CHECK-LABEL: func.func @layer(
// CHECK-SAME: %[[X:.*]]: tensor<?x64xf32, #moe.rows<"T">> {{{.*}}}, %[[WEIGHTS:.*]]: tensor<?x2xf32, #moe.rows<"T">> {{{.*}}}, %[[EXPERTS:.*]]: tensor<?x2xi32, #moe.rows<"T">> {{{.*}}})
// CHECK: %[[GATE_UP:.*]] = moe.read @gate_up
// CHECK: %[[DOWN:.*]] = moe.read @down
// CHECK: %[[SIZES:.*]], %[[ROWS:.*]] = moe.sort_by_expert %[[EXPERTS]] num_experts 8
// CHECK: %[[PERMUTED:.*]] = moe.permute %[[X]], %[[ROWS]]
// CHECK: %[[GU:.*]] = moe.grouped_gemm %[[PERMUTED]], %[[GATE_UP]], %[[SIZES]] : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x224x64xf32>, tensor<8xi32>
// CHECK: %[[HIDDEN:.*]] = moe.gated_activation %[[GU]] activation "silu"
// CHECK: %[[D:.*]] = moe.grouped_gemm %[[HIDDEN]], %[[DOWN]], %[[SIZES]]
// CHECK: %[[Y:.*]] = moe.unpermute %[[D]], %[[WEIGHTS]], %[[ROWS]]
// CHECK-NOT: moe.experts
// CHECK: return %[[Y]]
moe.symbol @T {bound = 64 : i64}
moe.state @gate_up : tensor<8x224x64xf32> {kind = parameter} from "gate_up"
moe.state @down : tensor<8x64x112xf32> {kind = parameter} from "down"
func.func @layer(%x: tensor<?x64xf32, #moe.rows<"T">> {moe.name = "x"},
                 %weights: tensor<?x2xf32, #moe.rows<"T">> {moe.name = "weights"},
                 %experts: tensor<?x2xi32, #moe.rows<"T">> {moe.name = "experts"})
    -> (tensor<?x64xf32, #moe.rows<"T">> {moe.name = "y"}) {
  %gate_up = moe.read @gate_up : tensor<8x224x64xf32>
  %down = moe.read @down : tensor<8x64x112xf32>
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<?x64xf32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>,
        tensor<?x2xi32, #moe.rows<"T">>, tensor<8x224x64xf32>, tensor<8x64x112xf32>
  return %y : tensor<?x64xf32, #moe.rows<"T">>
}
