// RUN: moe-opt %s --to-plan="threads=3" --split-input-file | FileCheck %s
// RUN: moe-opt %s --to-plan="threads=3" --split-input-file | moe-opt --split-input-file | FileCheck %s

// A returned result is computed in the output's buffer; a boundary is its operand.

// CHECK: plan.target = {kind = "cpu", threads = 3 : i64}
// CHECK-LABEL: plan.program @double
// CHECK: %[[X:.*]] = plan.buffer io input "x"
// CHECK: %[[Y:.*]] = plan.buffer io output "y"
// CHECK: plan.launch "scale" ins(%[[X]] : {{.*}}) outs(%[[Y]] : {{.*}}) {factor = 2.000000e+00 : f64}
// CHECK-NOT: plan.copy
func.func @double(%x: tensor<4xf32> {moe.name = "x"}) -> (tensor<4xf32> {moe.name = "y"}) {
  %0 = moe.boundary %x {layer = 0 : i64} : tensor<4xf32>
  %y = moe.scale %0 by 2.0 : tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

moe.state @w : tensor<4xf32> {kind = parameter} from "w"
moe.state @w.grad : tensor<4xf32> {kind = gradient, of = @w}

// An update of a state that ends in its write is in place.

// CHECK-LABEL: plan.program @accumulate
// CHECK: %[[X:.*]] = plan.buffer io input "x"
// CHECK: %[[G:.*]] = plan.buffer state @w.grad
// CHECK: plan.launch "accumulate" ins(%[[X]] : {{.*}}) updates(%[[G]]
// CHECK-NOT: plan.copy
func.func @accumulate(%x: tensor<4xf32> {moe.name = "x"}) {
  %g = moe.read @w.grad : tensor<4xf32>
  %s = moe.accumulate %g, %x : tensor<4xf32>, tensor<4xf32>
  moe.write @w.grad, %s : tensor<4xf32>
  return
}

// -----

moe.state @w : tensor<4xf32> {kind = parameter} from "w"
moe.state @w.grad : tensor<4xf32> {kind = gradient, of = @w}

// The state's entry value is still read after the update, so the update works on a copy that is written back at exit.

// CHECK-LABEL: plan.program @late_read
// CHECK: %[[Y:.*]] = plan.buffer io output "y"
// CHECK: %[[G:.*]] = plan.buffer state @w.grad
// CHECK: %[[C:.*]] = plan.buffer transient
// CHECK: plan.copy %[[G]] to %[[C]]
// CHECK: plan.launch "accumulate" ins({{.*}}) updates(%[[C]]
// CHECK: plan.launch "scale" ins(%[[G]] : {{.*}}) outs(%[[Y]]
// CHECK: plan.copy %[[C]] to %[[G]]
func.func @late_read(%x: tensor<4xf32> {moe.name = "x"}) -> (tensor<4xf32> {moe.name = "y"}) {
  %g = moe.read @w.grad : tensor<4xf32>
  %s = moe.accumulate %g, %x : tensor<4xf32>, tensor<4xf32>
  %y = moe.scale %g by 2.0 : tensor<4xf32>
  moe.write @w.grad, %s : tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

moe.state @a : tensor<4xf32> {kind = parameter} from "a"
moe.state @b : tensor<4xf32> {kind = parameter} from "b"

// Writes take effect together, at exit: a swap sets both aside.

// CHECK-LABEL: plan.program @swap
// CHECK-DAG: %[[A:.*]] = plan.buffer state @a
// CHECK-DAG: %[[B:.*]] = plan.buffer state @b
// CHECK: plan.copy %[[B]] to %[[S:.*]] :
// CHECK: plan.copy %[[A]] to %[[R:.*]] :
// CHECK: plan.copy %[[S]] to %[[A]] :
// CHECK: plan.copy %[[R]] to %[[B]] :
func.func @swap() {
  %a = moe.read @a : tensor<4xf32>
  %b = moe.read @b : tensor<4xf32>
  moe.write @a, %b : tensor<4xf32>
  moe.write @b, %a : tensor<4xf32>
  return
}

// -----

// An input is never overwritten, and one that is returned is copied.

// CHECK-LABEL: plan.program @inputs
// CHECK: %[[X:.*]] = plan.buffer io input "x"
// CHECK: %[[Y:.*]] = plan.buffer io output "y"
// CHECK: %[[Z:.*]] = plan.buffer io output "z"
// CHECK: plan.copy %[[X]] to %[[U:.*]] :
// CHECK: plan.launch "accumulate" ins(%[[X]] : {{.*}}) updates(%[[U]]
// CHECK: plan.copy %[[X]] to %[[Y]]
// CHECK: plan.copy %[[U]] to %[[Z]]
func.func @inputs(%x: tensor<4xf32> {moe.name = "x"}) -> (tensor<4xf32> {moe.name = "y"}, tensor<4xf32> {moe.name = "z"}) {
  %s = moe.accumulate %x, %x : tensor<4xf32>, tensor<4xf32>
  return %x, %s : tensor<4xf32>, tensor<4xf32>
}

// -----

moe.state @w : tensor<4xf32> {kind = parameter} from "w"

// A gradient that the program itself has used is only a mark. The update is in place, behind every read of the state.

// CHECK-LABEL: plan.program @train_step
// CHECK: %[[W:.*]] = plan.buffer state @w
// CHECK: plan.launch "add" ins(%[[W]], {{.*}}) outs(%[[G:.*]] :
// CHECK-NEXT: plan.launch "accumulate" ins(%[[G]] : {{.*}}) updates(%[[W]]
// CHECK-NOT: plan.copy
func.func @train_step(%x: tensor<4xf32> {moe.name = "x"}) {
  %w = moe.read @w : tensor<4xf32>
  %g = moe.add %w, %x : tensor<4xf32>
  moe.gradient @w, %g : tensor<4xf32>
  %new = moe.accumulate %w, %g : tensor<4xf32>, tensor<4xf32>
  moe.write @w, %new : tensor<4xf32>
  return
}
