// RUN: moe-opt %s --split-input-file --verify-diagnostics

moe.state @w : tensor<64xf32> {kind = parameter} from "norm.weight"
plan.program @buffer_c1 {
  // expected-error @+1 {{names a state if, and only if, it is in the state arena}}
  %0 = "plan.buffer"() {arena = #plan.arena<transient>, state = @w} : () -> !plan.buffer<tensor<64xf32>>
}

// -----

plan.program @buffer_c2 {
  // expected-error @+1 {{has a port and a name if, and only if, it is in the io arena}}
  %0 = "plan.buffer"() {arena = #plan.arena<io>, port = #plan.port<input>} : () -> !plan.buffer<tensor<64xf32>>
}

// -----

plan.program @buffer_c3_missing {
  // expected-error @+1 {{names @w, which is not a moe.state of the module}}
  %0 = plan.buffer state @w : tensor<64xf32>
}

// -----

moe.state @w : tensor<64xf32> {kind = parameter} from "norm.weight"
plan.program @buffer_c3_type {
  // expected-error @+1 {{is of type 'tensor<32xf32>', but @w is of type 'tensor<64xf32>'}}
  %0 = plan.buffer state @w : tensor<32xf32>
}

// -----

plan.program @buffer_c4_alignment {
  // expected-error @+1 {{has the offset 100, which is not a multiple of 256 from 0 on}}
  %0 = plan.buffer transient at 100 : tensor<32xf32>
}

// -----

moe.state @w : tensor<64xf32> {kind = parameter} from "norm.weight"
plan.program @buffer_c4_state {
  // expected-error @+1 {{has the offset 256, but a state's buffer has the state's}}
  %0 = plan.buffer state @w at 256 : tensor<64xf32>
}

// -----

plan.program @launch_c1 {
  %x = plan.buffer transient : tensor<32xf32>
  // expected-error @+1 {{writes a buffer that is also another of its operands}}
  plan.launch "scale" ins(%x : !plan.buffer<tensor<32xf32>>) outs(%x : !plan.buffer<tensor<32xf32>>) {factor = 2.0 : f64}
}

// -----

// expected-error @+1 {{expects parent op 'plan.program'}}
%0 = plan.buffer transient : tensor<32xf32>

// -----

plan.program @attribute {
  // expected-error @+1 {{attribute 'offset' failed to satisfy constraint: 64-bit signless integer attribute}}
  %0 = plan.buffer transient {offset = "far"} : tensor<32xf32>
}

// -----

plan.program @buffer_c5 {
  // expected-error @+1 {{reserves 128 elements, which is not more than those of 'tensor<8x16xf32>'}}
  %0 = plan.buffer transient reserve 128 : tensor<8x16xf32>
}

// -----

plan.program @collective_c1_mesh {
  %a = plan.buffer transient : tensor<4xf32>
  %b = plan.buffer transient : tensor<4xf32>
  // expected-error @+1 {{is over axes of a mesh, but the module declares none; add dist.mesh @mesh}}
  plan.collective all_reduce over ["ep"] ins(%a : !plan.buffer<tensor<4xf32>>) outs(%b : !plan.buffer<tensor<4xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c1_axis {
  %a = plan.buffer transient : tensor<4xf32>
  %b = plan.buffer transient : tensor<4xf32>
  // expected-error @+1 {{is over the axis "fsdp", which the mesh does not have}}
  plan.collective all_reduce over ["fsdp"] ins(%a : !plan.buffer<tensor<4xf32>>) outs(%b : !plan.buffer<tensor<4xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c2_pairs {
  %a = plan.buffer transient : tensor<4xf32>
  %b = plan.buffer transient : tensor<4xf32>
  // expected-error @+1 {{expects of all_reduce an output for each input, and no updates, but has 2 inputs, 0 updates and 0 outputs}}
  plan.collective all_reduce over ["ep"] ins(%a, %b : !plan.buffer<tensor<4xf32>>, !plan.buffer<tensor<4xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c2_exchange {
  %x = plan.buffer transient : tensor<?x64xf32, #moe.rows<"T">>
  %c = plan.buffer transient : tensor<4x8xi32>
  %r = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  // expected-error @+1 {{expects of token_exchange rows, all_counts and perhaps a round, and received and group_sizes as outputs, but has 2 inputs, 0 updates and 1 outputs}}
  plan.collective token_exchange over ["ep"] ins(%x, %c : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>, !plan.buffer<tensor<4x8xi32>>) outs(%r : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c2_return {
  %x = plan.buffer transient : tensor<?x64xf32, #moe.rows<"T">>
  %c = plan.buffer transient : tensor<4x8xi32>
  %r = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  // expected-error @+1 {{expects of token_return rows, all_counts and perhaps a round, and one output or update, but has 2 inputs, 0 updates and 0 outputs}}
  plan.collective token_return over ["ep"] ins(%r, %c : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>, !plan.buffer<tensor<4x8xi32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c3_reduced {
  %a = plan.buffer transient : tensor<4xf32>
  %b = plan.buffer transient : tensor<5xf32>
  // expected-error @+1 {{reduces 'tensor<4xf32>' to 'tensor<5xf32>'; both have the same type}}
  plan.collective all_reduce over ["ep"] ins(%a : !plan.buffer<tensor<4xf32>>) outs(%b : !plan.buffer<tensor<5xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c3_received {
  %r = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  %s = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  // expected-error @+1 {{rows over "R", whose number differs between ranks}}
  plan.collective all_reduce over ["ep"] ins(%r : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>) outs(%s : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c3_part {
  %a = plan.buffer transient : tensor<4xf32>
  %w = plan.buffer transient : tensor<9x50xf32>
  // expected-error @+1 {{expects a part of 'tensor<9x50xf32>' on each of 4 ranks, but it is 'tensor<4xf32>'}}
  plan.collective all_gather over ["ep"] ins(%a : !plan.buffer<tensor<4xf32>>) outs(%w : !plan.buffer<tensor<9x50xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c3_sum {
  %wi = plan.buffer transient : tensor<4x8xi32>
  %ci = plan.buffer transient : tensor<8xi32>
  // expected-error @+1 {{sums 'tensor<4x8xi32>'; sums over ranks are of f32 or bf16}}
  plan.collective reduce_scatter over ["ep"] ins(%wi : !plan.buffer<tensor<4x8xi32>>) outs(%ci : !plan.buffer<tensor<8xi32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c3_rows {
  %x = plan.buffer transient : tensor<?x32xf32, #moe.rows<"T">>
  %c = plan.buffer transient : tensor<4x8xi32>
  %r = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  %g = plan.buffer transient : tensor<2xi32>
  // expected-error @+1 {{expects rows [A, D] that are sent and [R, D] that are received, but they are}}
  plan.collective token_exchange over ["ep"] ins(%x, %c : !plan.buffer<tensor<?x32xf32, #moe.rows<"T">>>, !plan.buffer<tensor<4x8xi32>>) outs(%r, %g : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c3_counts {
  %x = plan.buffer transient : tensor<?x64xf32, #moe.rows<"T">>
  %c = plan.buffer transient : tensor<2x8xi32>
  %r = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  %g = plan.buffer transient : tensor<2xi32>
  // expected-error @+1 {{expects all_counts, i32 [n, E], of n = 4 ranks with equally many of E experts each, but it is 'tensor<2x8xi32>'}}
  plan.collective token_exchange over ["ep"] ins(%x, %c : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>, !plan.buffer<tensor<2x8xi32>>) outs(%r, %g : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c3_sizes {
  %x = plan.buffer transient : tensor<?x64xf32, #moe.rows<"T">>
  %c = plan.buffer transient : tensor<4x8xi32>
  %r = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  %g = plan.buffer transient : tensor<8xi32>
  // expected-error @+1 {{expects group_sizes, i32 [2], one for each expert of a rank, but it is 'tensor<8xi32>'}}
  plan.collective token_exchange over ["ep"] ins(%x, %c : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>, !plan.buffer<tensor<4x8xi32>>) outs(%r, %g : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>, !plan.buffer<tensor<8xi32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c3_round {
  %x = plan.buffer transient : tensor<?x64xf32, #moe.rows<"T">>
  %c = plan.buffer transient : tensor<4x8xi32>
  %r = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  %i = plan.buffer transient : tensor<1xi32>
  // expected-error @+1 {{expects a round that is an i32 scalar, but it is 'tensor<1xi32>'}}
  plan.collective token_return over ["ep"] ins(%r, %c, %i : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>, !plan.buffer<tensor<4x8xi32>>, !plan.buffer<tensor<1xi32>>) updates(%x : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c4 {
  %v = plan.buffer transient : tensor<16xf32>
  %w = plan.buffer transient : tensor<4x16xf32>
  // expected-error @+1 {{has the reduction max, which only an all_reduce has}}
  plan.collective all_gather over ["ep"] reduction max ins(%v : !plan.buffer<tensor<16xf32>>) outs(%w : !plan.buffer<tensor<4x16xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c5 {
  %a = plan.buffer transient : tensor<4xf32>
  // expected-error @+1 {{writes a buffer that is also another of its operands}}
  plan.collective all_reduce over ["ep"] ins(%a : !plan.buffer<tensor<4xf32>>) outs(%a : !plan.buffer<tensor<4xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c6 {
  %s = plan.buffer transient : tensor<128xf32>
  %w = plan.buffer transient : tensor<8x50xf32>
  // expected-error @+1 {{has flat shards of 512 elements in all, padding included, but the buffer of 'tensor<8x50xf32>' has room for 400; give it `reserve 512`}}
  plan.collective all_gather over ["ep"] ins(%s : !plan.buffer<tensor<128xf32>>) outs(%w : !plan.buffer<tensor<8x50xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @collective_c6_reduced {
  %w = plan.buffer transient : tensor<8x50xf32>
  %s = plan.buffer transient : tensor<128xf32>
  // expected-error @+1 {{but the buffer of 'tensor<8x50xf32>' has room for 400; give it `reserve 512`}}
  plan.collective reduce_scatter over ["ep"] ins(%w : !plan.buffer<tensor<8x50xf32>>) outs(%s : !plan.buffer<tensor<128xf32>>)
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @repeat_c1_axis {
  %i = plan.buffer transient : tensor<i32>
  %c = plan.buffer transient : tensor<4x8xi32>
  // expected-error @+1 {{is over the axis "fsdp", which the mesh does not have}}
  plan.repeat %i of %c over ["fsdp"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<4x8xi32>> {
  }
}

// -----

dist.mesh @mesh <["ep"=4]>
plan.program @repeat_c1_symbol {
  %i = plan.buffer transient : tensor<i32>
  %c = plan.buffer transient : tensor<4x8xi32>
  // expected-error @+1 {{needs the bound of the rows received, but the module has no moe.symbol @R}}
  plan.repeat %i of %c over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<4x8xi32>> {
  }
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @repeat_c2_counts {
  %i = plan.buffer transient : tensor<i32>
  %c = plan.buffer transient : tensor<2x8xi32>
  // expected-error @+1 {{expects all_counts, i32 [n, E], of n = 4 ranks with equally many of E experts each, but it is 'tensor<2x8xi32>'}}
  plan.repeat %i of %c over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x8xi32>> {
  }
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @repeat_c2_round {
  %i = plan.buffer transient : tensor<1xi32>
  %c = plan.buffer transient : tensor<4x8xi32>
  // expected-error @+1 {{expects a round that is an i32 scalar, but it is 'tensor<1xi32>'}}
  plan.repeat %i of %c over ["ep"] : !plan.buffer<tensor<1xi32>>, !plan.buffer<tensor<4x8xi32>> {
  }
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @repeat_c3 {
  %i = plan.buffer transient : tensor<i32>
  %c = plan.buffer transient : tensor<4x8xi32>
  %a = plan.buffer transient : tensor<4xf32>
  %b = plan.buffer transient : tensor<4xf32>
  plan.repeat %i of %c over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<4x8xi32>> {
    // expected-error @+1 {{in a repeat, whose number of rounds is the same only over}}
    plan.collective all_reduce over ["dp", "ep"] ins(%a : !plan.buffer<tensor<4xf32>>) outs(%b : !plan.buffer<tensor<4xf32>>)
  }
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @repeat_c4_repeat {
  %i = plan.buffer transient : tensor<i32>
  %c = plan.buffer transient : tensor<4x8xi32>
  plan.repeat %i of %c over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<4x8xi32>> {
    // expected-error @+1 {{is in the body of a repeat; a repeat is one level of launches, copies and collectives}}
    plan.repeat %i of %c over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<4x8xi32>> {
    }
  }
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @repeat_c4_event {
  %i = plan.buffer transient : tensor<i32>
  %c = plan.buffer transient : tensor<4x8xi32>
  plan.repeat %i of %c over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<4x8xi32>> {
    // expected-error @+1 {{is in the body of a repeat; a repeat is one level of launches, copies and collectives}}
    %e = plan.record
  }
}

// -----

dist.mesh @mesh <["dp"=2, "ep"=4]>
moe.symbol @T {bound = 128 : i64}
moe.symbol @R {bound = 512 : i64, rows_per_token = 4.0 : f64}
plan.program @repeat_c5 {
  %i = plan.buffer transient : tensor<i32>
  %j = plan.buffer transient : tensor<i32>
  %c = plan.buffer transient : tensor<4x8xi32>
  plan.repeat %i of %c over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<4x8xi32>> {
    // expected-error @+1 {{writes the round of the repeat around it}}
    plan.copy %j to %i : !plan.buffer<tensor<i32>>
  }
}

// -----

plan.program @stream {
  // expected-error @+1 {{attribute 'stream' failed to satisfy constraint: 32-bit signless integer attribute whose minimum value is 0 whose maximum value is 7}}
  %e = plan.record stream 8
}

// -----

plan.program @buffer_c5_port {
  // expected-error @+1 {{reserves 128 elements, but a port has no more than its own}}
  %0 = plan.buffer io input "x" reserve 128 : tensor<8x12xf32>
}
