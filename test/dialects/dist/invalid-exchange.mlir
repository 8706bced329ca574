// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of token_exchange, token_return and overflow_rounds, one test each.

!tokens = tensor<?x4xf32, #moe.rows<"T">>

// token_exchange_c1
moe.symbol @R {bound = 64}
func.func @program(%x: !tokens, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{is over axes of a mesh, but the module declares none; add dist.mesh @mesh}}
  %r, %s = dist.token_exchange %x, %c over ["ep"] : !tokens, tensor<2x4xi32>
  return
}

// -----

// token_exchange_c2_ranks
!tokens = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=4]>
moe.symbol @R {bound = 64}
func.func @program(%x: !tokens, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{expects the counts of 4 ranks, those of a group, but all_counts is 'tensor<2x4xi32>'}}
  %r, %s = dist.token_exchange %x, %c over ["ep"] : !tokens, tensor<2x4xi32>
  return
}

// -----

// token_exchange_c2_experts
!tokens = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=4]>
moe.symbol @R {bound = 64}
func.func @program(%x: !tokens, %c: tensor<4x6xi32>) {
  // expected-error@+1 {{expects all_counts [n, E] with n ranks among which E experts can be divided evenly, but got 'tensor<4x6xi32>'}}
  %r, %s = dist.token_exchange %x, %c over ["ep"] : !tokens, tensor<4x6xi32>
  return
}

// -----

// token_exchange_c2_none
!tokens = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=4]>
moe.symbol @R {bound = 64}
func.func @program(%x: !tokens, %c: tensor<0x6xi32>) {
  // expected-error@+1 {{expects all_counts [n, E] with n ranks among which E experts can be divided evenly, but got 'tensor<0x6xi32>'}}
  %r, %s = dist.token_exchange %x, %c over ["ep"] : !tokens, tensor<0x6xi32>
  return
}

// -----

// token_exchange_c3
!tokens = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
func.func @program(%x: !tokens, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{needs the bound of the rows received, but the module has no moe.symbol @R}}
  %r, %s = dist.token_exchange %x, %c over ["ep"] : !tokens, tensor<2x4xi32>
  return
}

// -----

// token_exchange_c4: T for R.
!tokens = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: !tokens, %c: tensor<2x4xi32>) {
  // expected-error@+2 {{op inferred type(s) 'tensor<?x4xf32, #moe.rows<"R">>', 'tensor<2xi32>' are incompatible with return type(s) of operation 'tensor<?x4xf32, #moe.rows<"T">>', 'tensor<2xi32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r, %s = "dist.token_exchange"(%x, %c) {axes = #dist.axes<["ep"]>} : (!tokens, tensor<2x4xi32>) -> (!tokens, tensor<2xi32>)
  return
}

// -----

// token_exchange_c4_sizes
!tokens = tensor<?x4xf32, #moe.rows<"T">>
!received = tensor<?x4xf32, #moe.rows<"R">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: !tokens, %c: tensor<2x4xi32>) {
  // expected-error@+2 {{op inferred type(s)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r, %s = "dist.token_exchange"(%x, %c) {axes = #dist.axes<["ep"]>} : (!tokens, tensor<2x4xi32>) -> (!received, tensor<4xi32>)
  return
}

// -----

// token_exchange_operand
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: tensor<?x?xf32>, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{cannot infer the type of result #0}}
  %r, %s = dist.token_exchange %x, %c over ["ep"] : tensor<?x?xf32>, tensor<2x4xi32>
  return
}

// -----

// token_return_c1
!tokens = tensor<?x4xf32, #moe.rows<"T">>
!received = tensor<?x4xf32, #moe.rows<"R">>
dist.mesh @mesh <["dp"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: !received, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{is over the axis "ep", which the mesh does not have; it is #dist.mesh<["dp"=2]>}}
  %y = dist.token_return %x, %c over ["ep"] : !received, tensor<2x4xi32> -> !tokens
  return
}

// -----

// token_return_c2_ranks
!tokens = tensor<?x4xf32, #moe.rows<"T">>
!received = tensor<?x4xf32, #moe.rows<"R">>
dist.mesh @mesh <["ep"=4]>
moe.symbol @R {bound = 64}
func.func @program(%x: !received, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{expects the counts of 4 ranks, those of a group, but all_counts is 'tensor<2x4xi32>'}}
  %y = dist.token_return %x, %c over ["ep"] : !received, tensor<2x4xi32> -> !tokens
  return
}

// -----

// token_return_c2_experts
!tokens = tensor<?x4xf32, #moe.rows<"T">>
!received = tensor<?x4xf32, #moe.rows<"R">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: !received, %c: tensor<2x3xi32>) {
  // expected-error@+1 {{expects all_counts [n, E] with n ranks among which E experts can be divided evenly, but got 'tensor<2x3xi32>'}}
  %y = dist.token_return %x, %c over ["ep"] : !received, tensor<2x3xi32> -> !tokens
  return
}

// -----

// token_return_c3
!tokens = tensor<?x4xf32, #moe.rows<"T">>
!received = tensor<?x4xf32, #moe.rows<"R">>
dist.mesh @mesh <["ep"=2]>
func.func @program(%x: !received, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{needs the bound of the rows received, but the module has no moe.symbol @R}}
  %y = dist.token_return %x, %c over ["ep"] : !received, tensor<2x4xi32> -> !tokens
  return
}

// -----

// token_return_c4_rows: T for R.
!tokens = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: !tokens, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{expects dimension 0 of rows to be "R", but it is "T"}}
  %y = dist.token_return %x, %c over ["ep"] : !tokens, tensor<2x4xi32> -> !tokens
  return
}

// -----

// token_return_c4_columns
!tokens = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: tensor<?x8xf32, #moe.rows<"R">>, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{expects dimension 1 of returned to be D = 8, as dimension 1 of rows is, but it is 4}}
  %y = dist.token_return %x, %c over ["ep"] : tensor<?x8xf32, #moe.rows<"R">>, tensor<2x4xi32> -> !tokens
  return
}

// -----

// token_return_c4_elements
!tokens = tensor<?x4xf32, #moe.rows<"T">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: tensor<?x4xbf16, #moe.rows<"R">>, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{returns elements of 'f32' where rows are of 'bf16'}}
  %y = dist.token_return %x, %c over ["ep"] : tensor<?x4xbf16, #moe.rows<"R">>, tensor<2x4xi32> -> !tokens
  return
}

// -----

// token_return_c4_returned: R for T.
!received = tensor<?x4xf32, #moe.rows<"R">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: !received, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{returns rows over "R", where those that were sent are expected}}
  %y = dist.token_return %x, %c over ["ep"] : !received, tensor<2x4xi32> -> !received
  return
}

// -----

// token_return_c5
!tokens = tensor<?x4xf32, #moe.rows<"T">>
!received = tensor<?x4xf32, #moe.rows<"R">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%x: !received, %c: tensor<2x4xi32>, %into: tensor<?x4xf32, #moe.rows<2 * "T">>) {
  // expected-error@+1 {{failed to verify that into has the type of returned}}
  %y = "dist.token_return"(%x, %c, %into) {axes = #dist.axes<["ep"]>, operandSegmentSizes = array<i32: 1, 1, 0, 1>}
      : (!received, tensor<2x4xi32>, tensor<?x4xf32, #moe.rows<2 * "T">>) -> !tokens
  return
}

// -----

// overflow_rounds_c1
moe.symbol @R {bound = 64}
func.func @program(%c: tensor<4x6xi32>) {
  // expected-error@+1 {{expects all_counts [n, E] with n ranks among which E experts can be divided evenly, but got 'tensor<4x6xi32>'}}
  %n = dist.overflow_rounds %c : tensor<4x6xi32>
  return
}

// -----

// overflow_rounds_c2
func.func @program(%c: tensor<4x8xi32>) {
  // expected-error@+1 {{needs the bound of the rows received, but the module has no moe.symbol @R}}
  %n = dist.overflow_rounds %c : tensor<4x8xi32>
  return
}
