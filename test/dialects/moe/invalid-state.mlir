// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the ops of StateOps.td, one test each, and the faults of their assembly.

// symbol_c1
// expected-error@+1 {{expects a bound in [1, 2^40], but got 0}}
moe.symbol @T {bound = 0}

// -----

// symbol_c1_large
// expected-error@+1 {{expects a bound in [1, 2^40], but got 1099511627777}}
moe.symbol @T {bound = 1099511627777}

// -----

// symbol_c2
// expected-error@+1 {{expects a minimum in [1, 64], the bound, but got 65}}
moe.symbol @T {bound = 64, minimum = 65}

// -----

// symbol_c3
// expected-error@+1 {{#moe.rows: expects an identifier as the symbol, but got "2T"}}
moe.symbol @"2T" {bound = 64}

// -----

// state_type
// expected-error@+1 {{attribute 'type' failed to satisfy constraint: type attribute of tensor of f32 or bf16 with static extents}}
moe.state @w : tensor<?x4xf32, #moe.rows<"T">> {kind = parameter}

// -----

// state_layer
// expected-error@+1 {{attribute 'layer' failed to satisfy constraint: 64-bit signless integer attribute}}
moe.state @w : tensor<4xf32> {kind = parameter, layer = "first"}

// -----

// state_c1_missing
// expected-error@+1 {{is derived and needs `of`, the parameter it belongs to}}
moe.state @w.grad : tensor<4xf32> {kind = gradient}

// -----

// state_c1_parameter
moe.state @v : tensor<4xf32> {kind = parameter}
// expected-error@+1 {{is a parameter and has `of`, which only other kinds have}}
moe.state @w : tensor<4xf32> {kind = parameter, of = @v}

// -----

// state_c1_unknown
// expected-error@+1 {{names @w, which is no moe.state of the module}}
moe.state @w.grad : tensor<4xf32> {kind = gradient, of = @w}

// -----

// state_c1_derived
moe.state @w : tensor<4xf32> {kind = parameter}
moe.state @w.exp_avg : tensor<4xf32> {kind = moment, of = @w}
// expected-error@+1 {{names @w.exp_avg, a state of kind moment where a parameter is expected}}
moe.state @w.grad : tensor<4xf32> {kind = gradient, of = @w.exp_avg}

// -----

// state_c2_shape
moe.state @w : tensor<4xf32> {kind = parameter}
// expected-error@+1 {{has the type 'tensor<5xf32>', which is not of the shape of @w, 'tensor<4xf32>'}}
moe.state @w.grad : tensor<5xf32> {kind = gradient, of = @w}

// -----

// state_c2_master
moe.state @w : tensor<4xbf16> {kind = parameter}
// expected-error@+1 {{is a master, which is of f32, but has the type 'tensor<4xbf16>'}}
moe.state @w.master : tensor<4xbf16> {kind = master, of = @w}

// -----

// state_c3
moe.state @w : tensor<4xf32> {kind = parameter}
// expected-error@+1 {{is no parameter, and only a parameter has from, module_name or decay}}
moe.state @w.grad : tensor<4xf32> {kind = gradient, of = @w, decay = true}

// -----

// state_c4_kind
// expected-error@+1 {{expects a string, a concat or a stack as from, but got 1 : i64}}
moe.state @w : tensor<4xf32> {kind = parameter} from 1

// -----

// state_c4_missing_variable
// expected-error@+1 {{has the tensor "w1" in from, without the variable {e} of a stack around it}}
moe.state @w : tensor<2x4xf32> {kind = parameter} from #moe.stack<e = 0 to 2, "w1">

// -----

// state_c4_unknown_variable
// expected-error@+1 {{has the tensor "{e}.{f}" in from, with braces that hold no variable of a stack around it}}
moe.state @w : tensor<2x4xf32> {kind = parameter} from #moe.stack<e = 0 to 2, "{e}.{f}">

// -----

// state_c4_open_brace
// expected-error@+1 {{has the tensor "{e}.{e" in from, with braces that hold no variable of a stack around it}}
moe.state @w : tensor<2x4xf32> {kind = parameter} from #moe.stack<e = 0 to 2, "{e}.{e">

// -----

// state_c4_close_brace
// expected-error@+1 {{has the tensor "w}" in from, with braces that hold no variable of a stack around it}}
moe.state @w : tensor<4xf32> {kind = parameter} from "w}"

// -----

// state_c4_same_variable
// expected-error@+1 {{has a stack over e inside a stack over e}}
moe.state @w : tensor<2x3x4xf32> {kind = parameter}
    from #moe.stack<e = 0 to 2, #moe.stack<e = 0 to 3, "{e}">>

// -----

// state_c4_empty
// expected-error@+1 {{has a tensor without a name in from}}
moe.state @w : tensor<4xf32> {kind = parameter} from #moe.concat<"a", "">

// -----

// state_c5_stack
// expected-error@+1 {{has a stack of 3 in from, which is not an extent of 'tensor<2x4xf32>' there}}
moe.state @w : tensor<2x4xf32> {kind = parameter}
    from #moe.stack<e = 0 to 2, #moe.stack<f = 1 to 4, "{e}.{f}">>

// -----

// state_c5_stack_rank
// expected-error@+1 {{has a stack of 2 in from, which is not an extent of 'tensor<2xf32>' there}}
moe.state @w : tensor<2xf32> {kind = parameter}
    from #moe.stack<e = 0 to 2, #moe.stack<f = 0 to 2, "{e}.{f}">>

// -----

// state_c5_concat_rows
// expected-error@+1 {{joins 2 parts in from that do not fill 8 rows of 'tensor<8x4xf32>'}}
moe.state @w : tensor<8x4xf32> {kind = parameter} from #moe.concat<"a", "b" rows 4, 5>

// -----

// state_c5_concat_equal
// expected-error@+1 {{joins 3 parts in from that do not fill 8 rows of 'tensor<2x8x4xf32>'}}
moe.state @w : tensor<2x8x4xf32> {kind = parameter}
    from #moe.stack<e = 0 to 2, #moe.concat<"{e}.a", "{e}.b", "{e}.c">>

// -----

// state_c5_concat_rank
// expected-error@+1 {{joins 1 parts in from that do not fill 1 rows of 'tensor<2xf32>'}}
moe.state @w : tensor<2xf32> {kind = parameter} from #moe.stack<e = 0 to 2, #moe.concat<"{e}">>

// -----

// state_c5_part
// expected-error@+1 {{has a stack of 4 in from, which is not an extent of 'tensor<8x4xf32>' there}}
moe.state @w : tensor<8x4xf32> {kind = parameter}
    from #moe.concat<"a", #moe.stack<e = 0 to 4, "{e}"> rows 5, 3>

// -----

// state_c6_layer
// expected-error@+1 {{expects a layer and an offset that are not negative}}
moe.state @w : tensor<4xf32> {kind = parameter, layer = -1}

// -----

// state_c6_offset
// expected-error@+1 {{expects a layer and an offset that are not negative}}
moe.state @w : tensor<4xf32> {kind = parameter, offset = -256}

// -----

// expected-error@+1 {{requires attribute 'kind'}}
moe.state @w : tensor<4xf32> {layer = 0}

// -----

// expected-error@+1 {{expected one of [parameter, master, gradient, moment] for kind of state, got: weight}}
moe.state @w : tensor<4xf32> {kind = weight}

// -----

// expected-error@+1 {{gives "layer" a second time}}
moe.state @w : tensor<4xf32> {kind = parameter, layer = 0, layer = 1}

// -----

// expected-error@+1 {{invalid kind of type specified: expected builtin.tensor, but found 'tensor<*xf32>'}}
moe.state @w : tensor<*xf32> {kind = parameter}

// -----

func.func @read_c1() {
  // expected-error@+1 {{names @w, which is no moe.state of the module}}
  %w = moe.read @w : tensor<4xf32>
  return
}

// -----

moe.symbol @T {bound = 64}

func.func @read_c1_symbol() {
  // expected-error@+1 {{names @T, which is no moe.state of the module}}
  %w = moe.read @T : tensor<4xf32>
  return
}

// -----

moe.state @w : tensor<4xf32> {kind = parameter}

func.func @read_c2() {
  // expected-error@+1 {{has the type 'tensor<4xbf16>', but @w is of type 'tensor<4xf32>'}}
  %w = moe.read @w : tensor<4xbf16>
  return
}

// -----

func.func @write_c1(%v: tensor<4xf32>) {
  // expected-error@+1 {{names @w, which is no moe.state of the module}}
  moe.write @w, %v : tensor<4xf32>
  return
}

// -----

moe.state @w : tensor<4xf32> {kind = parameter}

func.func @write_c2(%v: tensor<5xf32>) {
  // expected-error@+1 {{has the type 'tensor<5xf32>', but @w is of type 'tensor<4xf32>'}}
  moe.write @w, %v : tensor<5xf32>
  return
}

// -----

moe.state @w : tensor<4xf32> {kind = parameter}

func.func @write_c3(%v: tensor<4xf32>) {
  moe.write @w, %v : tensor<4xf32>
  // expected-error@+1 {{names @w a second time; a program does so once for each state}}
  moe.write @w, %v : tensor<4xf32>
  return
}

// -----

moe.state @w : tensor<4xf32> {kind = parameter}
moe.state @w.grad : tensor<4xf32> {kind = gradient, of = @w}

func.func @gradient_c1(%g: tensor<4xf32>) {
  // expected-error@+1 {{names @w.grad, a state of kind gradient where a parameter is expected}}
  moe.gradient @w.grad, %g : tensor<4xf32>
  return
}

// -----

moe.state @w : tensor<4xbf16> {kind = parameter}

func.func @gradient_c2(%g: tensor<5xf32>) {
  // expected-error@+1 {{has the type 'tensor<5xf32>', which is not of the shape of @w, 'tensor<4xbf16>'}}
  moe.gradient @w, %g : tensor<5xf32>
  return
}

// -----

moe.state @w : tensor<4xbf16> {kind = parameter}

func.func @gradient_c3(%g: tensor<4xf32>) {
  moe.gradient @w, %g : tensor<4xf32>
  // expected-error@+1 {{names @w a second time; a program does so once for each state}}
  moe.gradient @w, %g : tensor<4xf32>
  return
}

// -----

moe.state @w : tensor<4xbf16> {kind = parameter}

func.func @gradient_element(%g: tensor<4xi32>) {
  // expected-error@+1 {{operand #0 must be tensor of f32 or bf16 with static extents, but got 'tensor<4xi32>'}}
  moe.gradient @w, %g : tensor<4xi32>
  return
}
