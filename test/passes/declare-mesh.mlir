// RUN: moe-opt %s --declare-mesh=mesh=fsdp=2,ep=4 --split-input-file | FileCheck %s
// RUN: moe-opt %s --declare-mesh=mesh=fsdp=2,ep=4 --split-input-file | moe-opt --declare-mesh --split-input-file | FileCheck %s
// RUN: moe-opt %s --declare-mesh=mesh=dp=1,fsdp=1 --split-input-file | FileCheck %s --check-prefix=ONE
// RUN: moe-opt %s --declare-mesh --split-input-file | FileCheck %s --check-prefix=ONE

// The loss of a micro-batch is its rank's own.

// CHECK: dist.mesh @mesh <["fsdp"=2, "ep"=4]>
// CHECK-NOT: dist.all_reduce
// ONE-NOT: dist.
module attributes {moe.model = {aux_loss_scope = "micro_batch"}} {
  moe.symbol @M {bound = 16}
  func.func @evaluate(%weights: tensor<?xf32, #moe.rows<"M">>, %s: tensor<?x2x8xf32, #moe.rows<"M">>)
      -> (tensor<f32>, tensor<1x8xf32>) {
    %loss, %counts = moe.load_balance_loss %weights, %s top_k 2
        : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>
    return %loss, %counts : tensor<f32>, tensor<1x8xf32>
  }
}

// -----

// That of a pass is over all ranks' statistics. Eight ranks yield an eighth each; a result that nobody
// uses is not scaled.

// CHECK: dist.mesh @mesh <["fsdp"=2, "ep"=4]>
// CHECK: func.func @evaluate(%[[WEIGHTS:[^:]*]]: {{[^%]*}} {dist.replicated = #dist.axes<["fsdp", "ep"]>}, %[[S0:[^:]*]]: {{[^%]*}}, %[[S1:[^:]*]]:
// CHECK-NEXT: %[[SUM0:.*]] = dist.all_reduce %[[S0]] over ["fsdp", "ep"] : tensor<?x2x8xf32, #moe.rows<"M">>
// CHECK-NEXT: %[[SUM1:.*]] = dist.all_reduce %[[S1]] over ["fsdp", "ep"] : tensor<?x2x8xf32, #moe.rows<"M">>
// CHECK-NEXT: %[[SHARE:.*]] = moe.scale %[[WEIGHTS]] by 1.250000e-01 : tensor<?xf32, #moe.rows<"M">>
// CHECK-NEXT: %[[LOSS:.*]], %[[COUNTS:.*]] = moe.load_balance_loss %[[SHARE]], %[[SUM0]], %[[SUM1]] top_k 2
// CHECK-NEXT: %[[COUNTS_SHARE:.*]] = moe.scale %[[COUNTS]] by 1.250000e-01 : tensor<2x8xf32>
// CHECK-NEXT: return %[[LOSS]], %[[COUNTS_SHARE]]
// CHECK: func.func @balance
// CHECK: %[[SHARE:.*]] = moe.scale
// CHECK-NEXT: %[[LOSS:.*]], %{{.*}} = moe.load_balance_loss %[[SHARE]]
// CHECK-NEXT: return %[[LOSS]]
module attributes {moe.model = {aux_loss_scope = "pass"}} {
  moe.symbol @M {bound = 16}
  func.func @evaluate(%weights: tensor<?xf32, #moe.rows<"M">>, %s0: tensor<?x2x8xf32, #moe.rows<"M">>,
                      %s1: tensor<?x2x8xf32, #moe.rows<"M">>) -> (tensor<f32>, tensor<2x8xf32>) {
    %loss, %counts = moe.load_balance_loss %weights, %s0, %s1 top_k 2
        : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>
    return %loss, %counts : tensor<f32>, tensor<2x8xf32>
  }
  func.func @balance(%weights: tensor<?xf32, #moe.rows<"M">>, %s: tensor<?x2x8xf32, #moe.rows<"M">>)
      -> tensor<f32> {
    %loss, %counts = moe.load_balance_loss %weights, %s top_k 2
        : tensor<?xf32, #moe.rows<"M">>, tensor<?x2x8xf32, #moe.rows<"M">>
    return %loss : tensor<f32>
  }
}

// -----

// A module that says nothing of the scope.

// CHECK: module {
// CHECK-NEXT: dist.mesh @mesh <["fsdp"=2, "ep"=4]>
module {}
