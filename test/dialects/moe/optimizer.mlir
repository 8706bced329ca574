// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// The optimizer's ops in custom and in generic form: updated operands come back with their types.

// CHECK-LABEL: func.func @accumulate
func.func @accumulate(%sum: tensor<64xbf16>, %value: tensor<64xf32>) -> tensor<64xbf16> {
  // CHECK: moe.accumulate %{{[^ ,]+}}, %{{[^ ,]+}} : tensor<64xbf16>, tensor<64xf32>
  // GENERIC: "moe.accumulate"{{.*}} -> tensor<64xbf16>
  %new = moe.accumulate %sum, %value : tensor<64xbf16>, tensor<64xf32>
  return %new : tensor<64xbf16>
}

// CHECK-LABEL: func.func @update
func.func @update(%param: tensor<64xbf16>, %m: tensor<64xf32>, %v: tensor<64xf32>, %master: tensor<64xf32>,
                  %grad: tensor<64xbf16>, %lr: tensor<f32>, %b1: tensor<f32>, %b2: tensor<f32>,
                  %eps: tensor<f32>, %wd: tensor<f32>, %max: tensor<f32>, %step: tensor<f32>) {
  // CHECK: %[[SQUARES:.*]] = moe.sum_of_squares %{{[^ ,]+}} : tensor<64xbf16>
  // GENERIC: "moe.sum_of_squares"{{.*}} -> tensor<f32>
  %squares = moe.sum_of_squares %grad : tensor<64xbf16>
  // CHECK: %{{[^ ,]+}}, %[[C:.*]], %[[APPLY:.*]] = moe.clip %[[SQUARES]] to %{{[^ ,]+}}
  // GENERIC: "moe.clip"{{.*}} -> (tensor<f32>, tensor<f32>, tensor<i32>)
  %norm, %c, %apply = moe.clip %squares to %max
  // CHECK: moe.adamw %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} times %[[C]] if %[[APPLY]] rate %{{[^ ,]+}} betas %{{[^ ,]+}}, %{{[^ ,]+}}
  // CHECK-SAME: epsilon %{{[^ ,]+}} weight_decay %{{[^ ,]+}} step %{{[^ ,]+}} decay true : tensor<64xbf16>, tensor<64xf32>, tensor<64xbf16>
  // GENERIC: "moe.adamw"{{.*}} -> (tensor<64xbf16>, tensor<64xf32>, tensor<64xf32>)
  %p1, %m1, %v1 = moe.adamw %param, %m, %v, %grad times %c if %apply rate %lr betas %b1, %b2
      epsilon %eps weight_decay %wd step %step decay true : tensor<64xbf16>, tensor<64xf32>, tensor<64xbf16>
  // CHECK: moe.adamw_master %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}}, %{{[^ ,]+}} times %[[C]] if %[[APPLY]] rate %{{[^ ,]+}}
  // CHECK-SAME: step %{{[^ ,]+}} : tensor<64xbf16>, tensor<64xf32>, tensor<64xf32>, tensor<64xbf16>
  // GENERIC: "moe.adamw_master"{{.*}} -> (tensor<64xbf16>, tensor<64xf32>, tensor<64xf32>, tensor<64xf32>)
  %p2, %m2, %v2, %w2 = moe.adamw_master %param, %m, %v, %master, %grad times %c if %apply
      rate %lr betas %b1, %b2 epsilon %eps weight_decay %wd step %step
      : tensor<64xbf16>, tensor<64xf32>, tensor<64xf32>, tensor<64xbf16>
  return
}
