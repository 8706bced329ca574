// RUN: moe-opt %s --insert-waits --split-input-file --verify-diagnostics

dist.mesh @mesh <["fsdp"=2]>
plan.program @unplaced {
  // expected-error @+1 {{has no address yet; run assign-addresses before insert-waits}}
  %x = plan.buffer transient : tensor<4xf32>
  %y = plan.buffer transient at 256 : tensor<4xf32>
  plan.copy %x to %y : !plan.buffer<tensor<4xf32>>
}

// -----

dist.mesh @mesh <["fsdp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
plan.program @unplaced_state {
  // expected-error @+1 {{has no address yet; run assign-addresses before insert-waits}}
  %x = plan.buffer state @w : tensor<4xf32>
  %y = plan.buffer transient at 256 : tensor<4xf32>
  plan.copy %x to %y : !plan.buffer<tensor<4xf32>>
}

// -----

dist.mesh @mesh <["fsdp"=2]>
// expected-error @+1 {{@twice has events already; insert-waits runs once}}
plan.program @twice {
  %e = plan.record
  plan.wait %e stream 1
}

