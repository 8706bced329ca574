// RUN: moe-opt %s --insert-token-exchange --split-input-file --verify-diagnostics
// RUN: not moe-opt %s --insert-token-exchange=slot-factor=0 --split-input-file 2>&1 | FileCheck %s --check-prefix=ZERO
// RUN: not moe-opt %s --insert-token-exchange=slot-factor=nan --split-input-file 2>&1 | FileCheck %s --check-prefix=NAN

// ZERO: insert-token-exchange: slot-factor is 0.{{0*}}e+00, expected a number above 0 and at most
// NAN: insert-token-exchange: slot-factor is nan, expected a number above 0 and at most

!x = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @T {bound = 64}
moe.state @gate_up : tensor<8x12x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "gate_up"
func.func @layer(%x: !x, %weights: tensor<?x2xf32, #moe.rows<"T">>, %experts: tensor<?x2xi32, #moe.rows<"T">>,
                 %down: tensor<8x4x6xf32>) -> !x {
  %part = moe.read @gate_up : tensor<4x12x4xf32>
  %gate_up = dist.all_gather %part over ["ep"] : tensor<4x12x4xf32> -> tensor<8x12x4xf32>
  // expected-error @+1 {{has experts that are divided over "ep" in gate_up and whole in down; divide both or none}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %y : !x
}

// -----

!x = tensor<?x4xf32, #moe.rows<2 * "T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @T {bound = 64}
func.func @layer(%x: !x, %weights: tensor<?x2xf32, #moe.rows<2 * "T">>, %experts: tensor<?x2xi32, #moe.rows<2 * "T">>,
                 %gate_up_part: tensor<4x12x4xf32>, %down_part: tensor<4x4x6xf32>) -> !x {
  %gate_up = dist.all_gather %gate_up_part over ["ep"] : tensor<4x12x4xf32> -> tensor<8x12x4xf32>
  %down = dist.all_gather %down_part over ["ep"] : tensor<4x4x6xf32> -> tensor<8x4x6xf32>
  // expected-error @+1 {{has tokens of the type 'tensor<?x4xf32, #moe.rows<2 * "T">>'; to be exchanged, their number has to be the symbol "T"}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, tensor<?x2xf32, #moe.rows<2 * "T">>, tensor<?x2xi32, #moe.rows<2 * "T">>, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %y : !x
}

// -----

!x = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @T {bound = 64}
// expected-error @+1 {{insert-token-exchange: the name @R is taken, which is the symbol of the rows received}}
moe.symbol @R {bound = 64}
func.func @layer(%x: !x, %weights: tensor<?x2xf32, #moe.rows<"T">>, %experts: tensor<?x2xi32, #moe.rows<"T">>,
                 %gate_up_part: tensor<4x12x4xf32>, %down_part: tensor<4x4x6xf32>) -> !x {
  %gate_up = dist.all_gather %gate_up_part over ["ep"] : tensor<4x12x4xf32> -> tensor<8x12x4xf32>
  %down = dist.all_gather %down_part over ["ep"] : tensor<4x4x6xf32> -> tensor<8x4x6xf32>
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : !x, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>, tensor<8x12x4xf32>, tensor<8x4x6xf32>
  return %y : !x
}

// -----

// expected-error @+1 {{insert-token-exchange: the module has no moe.symbol @T}}
module {
  dist.mesh @mesh <["ep"=2]>
  func.func @layer(%x: tensor<?x4xf32, #moe.rows<"T">>, %weights: tensor<?x2xf32, #moe.rows<"T">>,
                   %experts: tensor<?x2xi32, #moe.rows<"T">>, %gate_up_part: tensor<4x12x4xf32>,
                   %down_part: tensor<4x4x6xf32>) -> tensor<?x4xf32, #moe.rows<"T">> {
    %gate_up = dist.all_gather %gate_up_part over ["ep"] : tensor<4x12x4xf32> -> tensor<8x12x4xf32>
    %down = dist.all_gather %down_part over ["ep"] : tensor<4x4x6xf32> -> tensor<8x4x6xf32>
    %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
        : tensor<?x4xf32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>,
          tensor<8x12x4xf32>, tensor<8x4x6xf32>
    return %y : tensor<?x4xf32, #moe.rows<"T">>
  }
}
