// RUN: moe-opt %s --differentiate --split-input-file | FileCheck %s
// RUN: moe-opt %s --differentiate --split-input-file | moe-opt --split-input-file | FileCheck %s

// @evaluate stays; @micro_step has its values and the gradients. Cotangents that meet are added (%h is used twice), and a
// gradient stands right behind the first use of its parameter, so that it can be freed before the walk goes on.

// CHECK-LABEL: func.func @evaluate(
// CHECK-NOT: moe.gradient
// CHECK-LABEL: func.func @micro_step(
// CHECK: %[[X:.*]] = moe.embedding
// CHECK: %[[A:.*]] = moe.read @a
// CHECK: %[[H:.*]] = moe.linear %[[X]], %[[A]]
// CHECK: %[[SUM:.*]] = moe.add %[[H]], %[[H]]
// CHECK: %[[W:.*]] = moe.read @head
// CHECK: %[[LOSS:.*]] = moe.linear_cross_entropy %[[SUM]], %[[W]]
// CHECK: %[[ONE:.*]] = moe.constant 1.000000e+00 : tensor<f32>
// CHECK: %{{.*}}, %[[DX:.*]], %[[DW:.*]] = moe.linear_cross_entropy_grad %[[SUM]], %[[W]], {{.*}}, %[[ONE]]
// CHECK-NEXT: moe.gradient @head, %[[DW]] : tensor<32x8xf32>
// CHECK-NEXT: %[[DH:.*]] = moe.add %[[DX]], %[[DX]]
// CHECK-NEXT: %[[DA:.*]] = moe.linear_wgrad %[[DH]], %[[X]]
// CHECK-NEXT: %[[DX1:.*]] = moe.linear_dgrad %[[DH]], %[[A]]
// CHECK-NEXT: moe.gradient @a, %[[DA]] : tensor<8x8xf32>
// CHECK-NEXT: %[[DTABLE:.*]] = moe.embedding_grad %[[DX1]]
// CHECK-NEXT: moe.gradient @table, %[[DTABLE]] : tensor<32x8xf32>
// CHECK-NEXT: return %[[LOSS]] : tensor<f32>
moe.symbol @T {bound = 64 : i64}
moe.state @table : tensor<32x8xf32> {kind = parameter} from "table"
moe.state @a : tensor<8x8xf32> {kind = parameter} from "a"
moe.state @head : tensor<32x8xf32> {kind = parameter} from "head"
func.func @evaluate(%ids: tensor<?xi32, #moe.rows<"T">> {moe.name = "input_ids"},
                    %labels: tensor<?xi32, #moe.rows<"T">> {moe.name = "labels"},
                    %weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x8xf32>
  %x = moe.embedding %table, %ids : tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>
  %a = moe.read @a : tensor<8x8xf32>
  %h = moe.linear %x, %a : tensor<?x8xf32, #moe.rows<"T">>, tensor<8x8xf32>
  %sum = moe.add %h, %h : tensor<?x8xf32, #moe.rows<"T">>
  %head = moe.read @head : tensor<32x8xf32>
  %loss = moe.linear_cross_entropy %sum, %head, %labels, %weights chunk_rows 32
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<32x8xf32>, tensor<?xi32, #moe.rows<"T">>,
        tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// -----

// Tied embeddings in bfloat16: one parameter, read twice; its gradients are summed in float32.

// CHECK-LABEL: func.func @micro_step(
// CHECK: %{{.*}}, %[[DX:.*]], %[[DW:.*]] = moe.linear_cross_entropy_grad
// CHECK-NEXT: %[[DTABLE:.*]] = moe.embedding_grad %[[DX]]
// CHECK-NEXT: %[[SUM:.*]] = moe.add %[[DW]], %[[DTABLE]] : tensor<32x8xf32>
// CHECK-NEXT: moe.gradient @table, %[[SUM]] : tensor<32x8xf32>
// CHECK-NEXT: return
moe.symbol @T {bound = 64 : i64}
moe.state @table : tensor<32x8xbf16> {kind = parameter} from "table"
func.func @evaluate(%ids: tensor<?xi32, #moe.rows<"T">> {moe.name = "input_ids"},
                    %labels: tensor<?xi32, #moe.rows<"T">> {moe.name = "labels"},
                    %weights: tensor<?xf32, #moe.rows<"T">> {moe.name = "loss_weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %table = moe.read @table : tensor<32x8xbf16>
  %x = moe.embedding %table, %ids : tensor<32x8xbf16>, tensor<?xi32, #moe.rows<"T">>
  %head = moe.read @table : tensor<32x8xbf16>
  %loss = moe.linear_cross_entropy %x, %head, %labels, %weights chunk_rows 32
      : tensor<?x8xbf16, #moe.rows<"T">>, tensor<32x8xbf16>, tensor<?xi32, #moe.rows<"T">>,
        tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}
