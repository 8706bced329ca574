// RUN: moe-opt %s --insert-token-exchange --split-input-file | FileCheck %s
// RUN: moe-opt %s --insert-token-exchange --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --insert-token-exchange=slot-factor=1.25 --split-input-file | FileCheck %s --check-prefix=FACTOR
// RUN: moe-opt %s --insert-token-exchange=slot-factor=100 --split-input-file | FileCheck %s --check-prefix=MOST

// Round 0 is straight-line code, the others are a loop over the same; the gathers of experts go.

// CHECK: moe.symbol @T
// CHECK-NEXT: moe.symbol @S
// CHECK-NEXT: moe.symbol @R {bound = 400 : i64, rows_per_token = 4.000000e+00 : f64}
// FACTOR: moe.symbol @R {bound = 250 : i64, rows_per_token = 2.500000e+00 : f64}
// No more than 2 choices of 4 ranks' tokens can arrive.
// MOST: moe.symbol @R {bound = 800 : i64, rows_per_token = 8.000000e+00 : f64}
// CHECK-LABEL: func.func @layer
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x4xbf16, #moe.rows<"T">>, %[[WEIGHTS:[^:]*]]: {{[^%]*}}, %[[EXPERTS:[^:]*]]:
// CHECK-NEXT: %[[GATE_UP:.*]] = moe.read @gate_up
// CHECK-NEXT: %[[DOWN:.*]] = moe.read @down
// CHECK-NEXT: %[[COUNTS:.*]], %[[ROW_OF_SLOT:.*]] = moe.sort_by_expert %[[EXPERTS]] num_experts 8
// CHECK-NEXT: %[[ROWS:.*]] = moe.permute %[[X]], %[[ROW_OF_SLOT]]
// CHECK-NEXT: %[[ALL_COUNTS:.*]] = dist.all_gather %[[COUNTS]] over ["ep"] : tensor<8xi32> -> tensor<4x8xi32>
// CHECK-NEXT: %[[RECEIVED:.*]], %[[SIZES:.*]] = dist.token_exchange %[[ROWS]], %[[ALL_COUNTS]] over ["ep"]
// CHECK-NEXT: %[[GU:.*]] = moe.grouped_gemm %[[RECEIVED]], %[[GATE_UP]], %[[SIZES]] : tensor<?x4xbf16, #moe.rows<"R">>, tensor<2x12x4xbf16>, tensor<2xi32>
// CHECK-NEXT: %[[HIDDEN:.*]] = moe.gated_activation %[[GU]] activation "silu"
// CHECK-NEXT: %[[D:.*]] = moe.grouped_gemm %[[HIDDEN]], %[[DOWN]], %[[SIZES]]
// CHECK-NEXT: %[[RETURNED:.*]] = dist.token_return %[[D]], %[[ALL_COUNTS]] over ["ep"] : {{.*}} -> tensor<?x4xbf16, #moe.rows<2 * "T">>
// CHECK-NEXT: %[[COUNT:.*]] = dist.overflow_rounds %[[ALL_COUNTS]]
// CHECK-NEXT: %[[ALL:.*]] = dist.rounds %[[I:.*]] of %[[COUNT]] on host over ["ep"] carry(%[[SUM:.*]] = %[[RETURNED]] : {{[^%]*}}) with(%[[ROWS_IN:.*]] = %[[ROWS]] : {{[^%]*}}, %[[COUNTS_IN:.*]] = %[[ALL_COUNTS]] : {{[^%]*}}, %[[GATE_UP_IN:.*]] = %[[GATE_UP]] : {{[^%]*}}, %[[DOWN_IN:.*]] = %[[DOWN]] :
// CHECK-NEXT: %[[RECEIVED_I:.*]], %[[SIZES_I:.*]] = dist.token_exchange %[[ROWS_IN]], %[[COUNTS_IN]] round %[[I]] over ["ep"]
// CHECK-NEXT: %[[GU_I:.*]] = moe.grouped_gemm %[[RECEIVED_I]], %[[GATE_UP_IN]], %[[SIZES_I]]
// CHECK-NEXT: %[[HIDDEN_I:.*]] = moe.gated_activation %[[GU_I]]
// CHECK-NEXT: %[[D_I:.*]] = moe.grouped_gemm %[[HIDDEN_I]], %[[DOWN_IN]], %[[SIZES_I]]
// CHECK-NEXT: %[[NEXT:.*]] = dist.token_return %[[D_I]], %[[COUNTS_IN]] round %[[I]] into %[[SUM]] over ["ep"]
// CHECK-NEXT: dist.yield %[[NEXT]]
// CHECK: %[[Y:.*]] = moe.unpermute %[[ALL]], %[[WEIGHTS]], %[[ROW_OF_SLOT]]
// CHECK-NEXT: return %[[Y]]
!x = tensor<?x4xbf16, #moe.rows<"T">>
!w = tensor<?x2xf32, #moe.rows<"T">>
!e = tensor<?x2xi32, #moe.rows<"T">>
dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 100}
moe.symbol @S {bound = 8}
moe.state @gate_up : tensor<8x12x4xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "gate_up"
moe.state @down : tensor<8x4x6xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "down"
func.func @layer(%x: !x, %weights: !w, %experts: !e) -> !x {
  %gate_up_part = moe.read @gate_up : tensor<2x12x4xbf16>
  %gate_up = dist.all_gather %gate_up_part over ["ep"] : tensor<2x12x4xbf16> -> tensor<8x12x4xbf16>
  %down_part = moe.read @down : tensor<2x4x6xbf16>
  %down = dist.all_gather %down_part over ["ep"] : tensor<2x4x6xbf16> -> tensor<8x4x6xbf16>
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, !w, !e, tensor<8x12x4xbf16>, tensor<8x4x6xbf16>
  return %y : !x
}

// -----

// Experts that are whole, or gathered over another axis only, are left to lower-experts; and where no
// tokens are exchanged there is no R.

// CHECK-NOT: moe.symbol @R
// CHECK: moe.experts
!x = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["fsdp"=2]>
moe.symbol @T {bound = 100}
moe.state @gate_up : tensor<8x12x4xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "gate_up"
func.func @layer(%x: !x, %weights: tensor<?x2xf32, #moe.rows<"T">>, %experts: tensor<?x2xi32, #moe.rows<"T">>,
                 %down: tensor<8x4x6xf32>) -> !x {
  %shard = moe.read @gate_up : tensor<256xf32>
  %gate_up = dist.all_gather %shard over ["fsdp"] : tensor<256xf32> -> tensor<8x12x4xf32>
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %y : !x
}
