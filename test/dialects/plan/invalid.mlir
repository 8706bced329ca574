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
  // expected-error @+1 {{writes a buffer that is also another operand of the launch}}
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
