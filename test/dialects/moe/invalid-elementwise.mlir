// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the ops of ElementwiseOps.td, one test each.

func.func @add_c1(%a: tensor<4x8xf32>, %b: tensor<4x9xf32>) {
  // expected-error@+1 {{requires the same type for all operands and results}}
  %y = "moe.add"(%a, %b) : (tensor<4x8xf32>, tensor<4x9xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @add_c1_rows(%a: tensor<?x8xf32, #moe.rows<"T">>,
                       %b: tensor<?x8xf32, #moe.rows<2 * "T">>) {
  // expected-error@+1 {{requires the same encoding for all operands and results}}
  %y = "moe.add"(%a, %b)
      : (tensor<?x8xf32, #moe.rows<"T">>, tensor<?x8xf32, #moe.rows<2 * "T">>) -> tensor<?x8xf32, #moe.rows<"T">>
  return
}

// -----

func.func @add_c1_element(%a: tensor<4x8xf32>, %b: tensor<4x8xbf16>) {
  // expected-error@+1 {{requires the same type for all operands and results}}
  %y = "moe.add"(%a, %b) : (tensor<4x8xf32>, tensor<4x8xbf16>) -> tensor<4x8xf32>
  return
}

// -----

func.func @scale_c1(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{requires the same type for all operands and results}}
  %y = "moe.scale"(%x) {factor = 2.0} : (tensor<4x8xf32>) -> tensor<4x8xbf16>
  return
}

// -----

func.func @scale_c2(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{attribute 'factor' failed to satisfy constraint: 64-bit float attribute in [-1e30, 1e30]}}
  %y = moe.scale %x by 1.0e+31 : tensor<4x8xf32>
  return
}

// -----

func.func @cast_c1(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {x, y} have same shape}}
  %y = moe.cast %x : tensor<4x8xf32> to tensor<8x4xbf16>
  return
}

// -----

func.func @constant_c1() {
  // expected-error@+1 {{attribute 'value' failed to satisfy constraint: 64-bit float attribute in [-1e30, 1e30]}}
  %y = moe.constant 0x7FF0000000000000 : tensor<4xf32>
  return
}

// -----

func.func @sum_c1() {
  // expected-error@+1 {{expects at least one term}}
  %y = "moe.sum"() : () -> tensor<f32>
  return
}

// -----

func.func @sum_type(%a: tensor<1xf32>) {
  // expected-error@+1 {{operand #0 must be variadic of f32 scalar (tensor<f32>), but got 'tensor<1xf32>'}}
  %y = "moe.sum"(%a) : (tensor<1xf32>) -> tensor<f32>
  return
}

// -----

func.func @gather_rows_c1(%x: tensor<9x8xf32>, %rows: tensor<4xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x8xf32>' are incompatible with return type(s) of operation 'tensor<9x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = "moe.gather_rows"(%x, %rows) : (tensor<9x8xf32>, tensor<4xi32>) -> tensor<9x8xf32>
  return
}

// -----

func.func @boundary_c1(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{requires the same type for all operands and results}}
  %y = "moe.boundary"(%x) {layer = 0} : (tensor<4x8xf32>) -> tensor<8x4xf32>
  return
}

// -----

func.func @boundary_c2(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{attribute 'layer' failed to satisfy constraint: 64-bit signless integer attribute in [0, 1099511627776]}}
  %y = moe.boundary %x {layer = -1} : tensor<4x8xf32>
  return
}
