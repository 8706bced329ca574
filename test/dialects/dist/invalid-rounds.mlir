// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of dist.rounds and dist.yield, one test each.

// rounds_c1
dist.mesh @mesh <["dp"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{is over the axis "ep", which the mesh does not have; it is #dist.mesh<["dp"=2]>}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    dist.yield %s : tensor<4xf32>
  }
  return
}

// -----

// rounds_c2_none
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{carries no value, so that it computes nothing}}
  "dist.rounds"(%n) <{axes = #dist.axes<["ep"]>, known = #dist<knower host>, operandSegmentSizes = array<i32: 1, 0, 0>}> ({
  ^bb0(%i: tensor<i32>):
    "dist.yield"() : () -> ()
  }) : (tensor<i32>) -> ()
  return
}

// -----

// rounds_c2_results
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects results of the types of the carried values, 'tensor<4xf32>', but they are 'tensor<5xf32>'}}
  %y = "dist.rounds"(%n, %x) <{axes = #dist.axes<["ep"]>, known = #dist<knower host>, operandSegmentSizes = array<i32: 1, 1, 0>}> ({
  ^bb0(%i: tensor<i32>, %s: tensor<4xf32>):
    dist.yield %s : tensor<4xf32>
  }) : (tensor<i32>, tensor<4xf32>) -> tensor<5xf32>
  return
}

// -----

// rounds_c3_arguments
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects a body with the arguments 'tensor<i32>', 'tensor<4xf32>': the round, the carried values, those of `with`}}
  %y = "dist.rounds"(%n, %x) <{axes = #dist.axes<["ep"]>, known = #dist<knower host>, operandSegmentSizes = array<i32: 1, 1, 0>}> ({
  ^bb0(%s: tensor<4xf32>):
    dist.yield %s : tensor<4xf32>
  }) : (tensor<i32>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

// rounds_c3_yield
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects a body that yields the carried values, 'tensor<4xf32>'}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    dist.yield %s, %s : tensor<4xf32>, tensor<4xf32>
  }
  return
}

// -----

// rounds_c3_terminator
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    // expected-error@+1 {{expects parent op 'func.func'}}
    func.return
  }
  return
}

// -----

// rounds_c3_no_terminator
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects a non-empty block}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
  }
  return
}

// -----

// rounds_c4_product: what a round adds depends on what the rounds before it added.
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects its body only to add to carried value 0, but it is used otherwise, or not yielded in its place}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    %t = moe.scale %s by 2.0 : tensor<4xf32>
    dist.yield %t : tensor<4xf32>
  }
  return
}

// -----

// rounds_c4_twice
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects its body only to add to carried value 0, but it is used otherwise, or not yielded in its place}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    %t = moe.add %s, %s : tensor<4xf32>
    dist.yield %t : tensor<4xf32>
  }
  return
}

// -----

// rounds_c4_exchanged
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects its body only to add to carried value 0, but it is used otherwise, or not yielded in its place}}
  %y:2 = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : tensor<4xf32>, %t = %x : tensor<4xf32>) {
    dist.yield %t, %s : tensor<4xf32>, tensor<4xf32>
  }
  return
}

// -----

// rounds_c4_overwritten
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects its body only to add to carried value 0, but it is used otherwise, or not yielded in its place}}
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : tensor<4xf32>) with(%t = %x : tensor<4xf32>) {
    dist.yield %t : tensor<4xf32>
  }
  return
}

// -----

// rounds_c4_value: the carried value is what is accumulated, not the accumulator.
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expects its body only to add to carried value 0, but it is used otherwise, or not yielded in its place}}
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : tensor<4xf32>) with(%t = %x : tensor<4xf32>) {
    %u = moe.accumulate %t, %s : tensor<4xf32>, tensor<4xf32>
    dist.yield %u : tensor<4xf32>
  }
  return
}

// -----

// rounds_c4_returned: the carried value is sent back, not added to.
!received = tensor<?x4xf32, #moe.rows<"R">>
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @program(%n: tensor<i32>, %x: !received, %c: tensor<2x4xi32>) {
  // expected-error@+1 {{expects its body only to add to carried value 0, but it is used otherwise, or not yielded in its place}}
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : !received) with(%cin = %c : tensor<2x4xi32>) {
    %t = dist.token_return %s, %cin over ["ep"]
        : !received, tensor<2x4xi32> -> tensor<64x4xf32>
    %u, %v = dist.token_exchange %t, %cin over ["ep"] : tensor<64x4xf32>, tensor<2x4xi32>
    dist.yield %u : !received
  }
  return
}

// -----

// rounds_c5_read
dist.mesh @mesh <["ep"=2]>
moe.state @w : tensor<4xf32> {kind = parameter}
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    // expected-error@+1 {{is in the body of a dist.rounds, whose ops have no effects and no regions, and get states through `with`}}
    %w = moe.read @w : tensor<4xf32>
    %t = moe.add %s, %w : tensor<4xf32>
    dist.yield %t : tensor<4xf32>
  }
  return
}

// -----

// rounds_c5_effect
dist.mesh @mesh <["ep"=2]>
moe.state @w : tensor<4xf32> {kind = parameter}
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : tensor<4xf32>) with(%w = %x : tensor<4xf32>) {
    // expected-error@+1 {{is in the body of a dist.rounds, whose ops have no effects and no regions, and get states through `with`}}
    moe.write @w, %w : tensor<4xf32>
    dist.yield %s : tensor<4xf32>
  }
  return
}

// -----

// rounds_c5_region: no loop in a loop.
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : tensor<4xf32>) with(%m = %n : tensor<i32>) {
    // expected-error@+1 {{is in the body of a dist.rounds, whose ops have no effects and no regions, and get states through `with`}}
    %z = dist.rounds %j of %m on host over ["ep"] carry(%t = %s : tensor<4xf32>) {
      dist.yield %t : tensor<4xf32>
    }
    dist.yield %z : tensor<4xf32>
  }
  return
}

// -----

// rounds_c6
dist.mesh @mesh <["fsdp"=2, "ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %x : tensor<4xf32>) with(%w = %x : tensor<4xf32>) {
    // expected-error@+1 {{is over #dist.axes<["fsdp", "ep"]> in the body of a dist.rounds, whose number of rounds is the same only over #dist.axes<["ep"]>}}
    %t = dist.all_reduce %w over ["fsdp", "ep"] : tensor<4xf32>
    %u = moe.add %s, %t : tensor<4xf32>
    dist.yield %u : tensor<4xf32>
  }
  return
}

// -----

// rounds_isolated
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-note@+1 {{required by region isolation constraints}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    // expected-error@+1 {{using value defined outside the region}}
    %t = moe.add %s, %x : tensor<4xf32>
    dist.yield %t : tensor<4xf32>
  }
  return
}

// -----

// rounds_count
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<4xi32>, %x: tensor<4xf32>) {
  // expected-note@-1 {{prior use here}}
  // expected-error@+1 {{use of value '%n' expects different type than prior uses: 'tensor<i32>' vs 'tensor<4xi32>'}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    dist.yield %s : tensor<4xf32>
  }
  return
}

// -----

// rounds_knower
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{expected one of [host, device] for who knows a number when it is needed, got: disk}}
  %y = dist.rounds %i of %n on disk over ["ep"] carry(%s = %x : tensor<4xf32>) {
    dist.yield %s : tensor<4xf32>
  }
  return
}

// -----

// rounds_attribute
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  // expected-error@+1 {{has "axes" among its attributes, which its assembly gives otherwise}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>)
      attributes {axes = #dist.axes<["dp"]>} {
    dist.yield %s : tensor<4xf32>
  }
  return
}

// -----

// rounds_last_op
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xf32>) {
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xf32>) {
    // expected-error@+1 {{block with no terminator}}
    %t = moe.add %s, %s : tensor<4xf32>
  }
  return
}

// -----

// rounds_carried_integers
dist.mesh @mesh <["ep"=2]>
func.func @program(%n: tensor<i32>, %x: tensor<4xi32>) {
  // expected-error@+1 {{operand #1 must be variadic of tensor of f32 or bf16 with static extents, but for a first one given by #moe.rows}}
  %y = dist.rounds %i of %n on host over ["ep"] carry(%s = %x : tensor<4xi32>) {
    dist.yield %s : tensor<4xi32>
  }
  return
}

// -----

// yield_c1
func.func @program(%x: tensor<4xf32>) {
  // expected-error@+1 {{expects parent op 'dist.rounds'}}
  dist.yield %x : tensor<4xf32>
}
