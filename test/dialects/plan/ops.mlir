// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

moe.symbol @T {bound = 128 : i64}
moe.state @w : tensor<64xf32> {kind = parameter} from "norm.weight"

// CHECK-LABEL: plan.program @forward
plan.program @forward {
  // CHECK: %[[W:.*]] = plan.buffer state @w : tensor<64xf32>
  %w = plan.buffer state @w : tensor<64xf32>
  // CHECK: %[[X:.*]] = plan.buffer io input "x" at 256 : tensor<?x64xf32, #moe.rows<"T">>
  %x = plan.buffer io input "x" at 256 : tensor<?x64xf32, #moe.rows<"T">>
  // CHECK: %[[Y:.*]] = plan.buffer io output "y" : tensor<?x64xf32, #moe.rows<"T">>
  %y = plan.buffer io output "y" : tensor<?x64xf32, #moe.rows<"T">>
  // CHECK: %[[S:.*]] = plan.buffer transient at 0 : tensor<16xi32>
  %s = plan.buffer transient at 0 : tensor<16xi32>
  // CHECK: plan.launch "rms_norm" ins(%[[X]], %[[W]] : {{.*}}) outs(%[[Y]] : {{.*}}) workspace(%[[S]] : {{.*}}) {eps = 1.000000e-05 : f64}
  plan.launch "rms_norm" ins(%x, %w : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>, !plan.buffer<tensor<64xf32>>)
      outs(%y : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>) workspace(%s : !plan.buffer<tensor<16xi32>>) {eps = 1.0e-05 : f64}
  // CHECK: plan.copy %[[X]] to %[[Y]]
  plan.copy %x to %y : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>
}
