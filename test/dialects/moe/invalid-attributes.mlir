// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the attributes, and what text can get wrong in them.

// rows_c1
// expected-error@+1 {{#moe.rows: expects an identifier as the symbol, but got "T tokens"}}
func.func private @rows_c1(tensor<?x4xf32, #moe.rows<"T tokens">>)

// -----

// rows_c1_empty
// expected-error@+1 {{#moe.rows: expects an identifier as the symbol, but got ""}}
func.func private @rows_c1_empty(tensor<?x4xf32, #moe.rows<"">>)

// -----

// rows_c2_scale
// expected-error@+1 {{#moe.rows: expects a scale in [1, 2^40], but got 0}}
func.func private @rows_c2_scale(tensor<?x4xf32, #moe.rows<0 * "T">>)

// -----

// rows_c2_offset
// expected-error@+1 {{#moe.rows: expects an offset in [0, 2^40], but got 1099511627777}}
func.func private @rows_c2_offset(tensor<?x4xf32, #moe.rows<"T" + 1099511627777>>)

// -----

// rows_c3_static
// expected-error@+1 {{#moe.rows: expects a tensor whose first extent, and no other, is dynamic}}
func.func private @rows_c3_static(tensor<4x4xf32, #moe.rows<"T">>)

// -----

// rows_c3_second
// expected-error@+1 {{#moe.rows: expects a tensor whose first extent, and no other, is dynamic}}
func.func private @rows_c3_second(tensor<?x?xf32, #moe.rows<"T">>)

// -----

// rows_c3_scalar
// expected-error@+1 {{#moe.rows: expects a tensor whose first extent, and no other, is dynamic}}
func.func private @rows_c3_scalar(tensor<f32, #moe.rows<"T">>)

// -----

// expected-error@+1 {{integer value too large}}
func.func private @rows_overflow(tensor<?x4xf32, #moe.rows<99999999999999999999999 * "T">>)

// -----

// expected-error@+1 {{expected string}}
func.func private @rows_no_symbol(tensor<?x4xf32, #moe.rows<2 * T>>)

// -----

// concat_c1
// expected-error@+1 {{#moe.concat: expects strings, concats and stacks, but got 4 : i64}}
moe.state @w : tensor<4xf32> {kind = parameter} from #moe.concat<"a", 4>

// -----

// concat_c2_count
// expected-error@+1 {{#moe.concat: expects the rows of 2 parts, but got those of 3}}
moe.state @w : tensor<4xf32> {kind = parameter} from #moe.concat<"a", "b" rows 1, 1, 2>

// -----

// concat_c2_zero
// expected-error@+1 {{#moe.concat: expects rows in [1, 2^40], but got 0}}
moe.state @w : tensor<4xf32> {kind = parameter} from #moe.concat<"a", "b" rows 4, 0>

// -----

// stack_c1
// expected-error@+1 {{#moe.stack: expects an identifier as the variable, but got "e e"}}
moe.state @w : tensor<4xf32> {kind = parameter} from #moe.stack<"e e" = 0 to 4, "{e}">

// -----

// stack_c2_empty
// expected-error@+1 {{#moe.stack: expects 0 <= begin < end <= 65536, but got 4 to 4}}
moe.state @w : tensor<4xf32> {kind = parameter} from #moe.stack<e = 4 to 4, "{e}">

// -----

// stack_c2_large
// expected-error@+1 {{#moe.stack: expects 0 <= begin < end <= 65536, but got 0 to 65537}}
moe.state @w : tensor<4xf32> {kind = parameter} from #moe.stack<e = 0 to 65537, "{e}">

// -----

// stack_c3
// expected-error@+1 {{#moe.stack: expects a string, a concat or a stack, but got unit}}
moe.state @w : tensor<4xf32> {kind = parameter} from #moe.stack<e = 0 to 4, unit>

// -----

// expected-error@+1 {{has moe.model, which is a dictionary of a module}}
module attributes {moe.model = 1} {}

// -----

// expected-error@+1 {{has an attribute "moe.modal", which the moe dialect does not know}}
module attributes {moe.modal = {}} {}

// -----

// expected-error@+1 {{has a moe.name that is not a string with something in it: ""}}
func.func private @name(tensor<4xf32> {moe.name = ""})

// -----

// expected-error@+1 {{has a moe.name that is not a string with something in it: 1 : i64}}
func.func private @result_name() -> (tensor<4xf32> {moe.name = 1})

// -----

// expected-error@+1 {{has an argument or a result with "moe.nom", which the moe dialect does not know}}
func.func private @nom(tensor<4xf32> {moe.nom = "x"})
