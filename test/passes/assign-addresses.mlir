// RUN: moe-opt %s --assign-addresses --split-input-file | FileCheck %s
// RUN: moe-opt %s --assign-addresses --split-input-file | moe-opt --split-input-file | FileCheck %s

// States and ports get addresses. %a is dead when %c is made, so they share memory; %b takes over nothing, for "add" reads
// both of its operands at once and only the first may be overlaid; the peak is the sum of the arenas.

// CHECK: plan.arenas = {comm = 0 : i64, io = 1024 : i64, state = 1024 : i64, transient = 1024 : i64}
// CHECK-SAME: plan.peak = 3072 : i64
// CHECK: moe.state @v : tensor<128xf32> {{.*}}offset = 0}
// CHECK: moe.state @w : tensor<128xf32> {{.*}}offset = 512}
moe.state @v : tensor<128xf32> {kind = parameter} from "v"
moe.state @w : tensor<128xf32> {kind = parameter} from "w"
// CHECK-LABEL: plan.program @chain
// CHECK: plan.buffer io input "x" at 0
// CHECK: plan.buffer io output "y" at 512
// CHECK: %[[A:.*]] = plan.buffer transient at [[FIRST:[0-9]+]]
// CHECK: %[[B:.*]] = plan.buffer transient at [[SECOND:[0-9]+]]
// CHECK: %[[C:.*]] = plan.buffer transient at [[FIRST]]
plan.program @chain {
  %v = plan.buffer state @v : tensor<128xf32>
  %x = plan.buffer io input "x" : tensor<128xf32>
  %y = plan.buffer io output "y" : tensor<128xf32>
  %a = plan.buffer transient : tensor<128xf32>
  %b = plan.buffer transient : tensor<128xf32>
  %c = plan.buffer transient : tensor<128xf32>
  plan.launch "scale" ins(%x : !plan.buffer<tensor<128xf32>>) outs(%a : !plan.buffer<tensor<128xf32>>) {factor = 2.0 : f64}
  plan.launch "scale" ins(%v : !plan.buffer<tensor<128xf32>>) outs(%b : !plan.buffer<tensor<128xf32>>) {factor = 2.0 : f64}
  plan.launch "add" ins(%a, %b : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<128xf32>>) outs(%c : !plan.buffer<tensor<128xf32>>) {}
  plan.launch "add" ins(%c, %b : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<128xf32>>) outs(%y : !plan.buffer<tensor<128xf32>>) {}
}

// -----

// A launch gets the workspace that its signature asks for, beside what lives then.

// CHECK-LABEL: plan.program @workspace
// CHECK: %[[W:.*]] = plan.buffer transient at {{[0-9]+}} : tensor<1024xi32>
// CHECK: plan.launch "sum_of_squares" {{.*}} workspace(%[[W]] : !plan.buffer<tensor<1024xi32>>)
plan.program @workspace {
  %x = plan.buffer io input "x" : tensor<128xf32>
  %y = plan.buffer io output "y" : tensor<f32>
  plan.launch "sum_of_squares" ins(%x : !plan.buffer<tensor<128xf32>>) outs(%y : !plan.buffer<tensor<f32>>) {}
}
