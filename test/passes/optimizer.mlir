// RUN: moe-opt %s --optimizer --split-input-file | FileCheck %s
// RUN: moe-opt %s --optimizer --split-input-file | moe-opt --split-input-file | FileCheck %s

// The norm is over all gradients, in the order of the parameters; then each parameter is updated.

// CHECK: moe.state @a.exp_avg : tensor<4xf32> {kind = moment, of = @a}
// CHECK: moe.state @a.exp_avg_sq : tensor<4xf32> {kind = moment, of = @a}
// CHECK: moe.state @b.exp_avg : tensor<4x4xf32> {kind = moment, layer = 0, of = @b}
// CHECK: moe.state @b.exp_avg_sq : tensor<4x4xf32> {kind = moment, layer = 0, of = @b}
// CHECK-NOT: moe.state
// CHECK-LABEL: func.func @optimizer_step(
// CHECK-SAME: %[[LR:[a-z0-9]+]]: tensor<f32> {moe.name = "learning_rate"}, %[[B1:[a-z0-9]+]]: tensor<f32> {moe.name = "beta1"}
// CHECK-SAME: %[[B2:[a-z0-9]+]]: tensor<f32> {moe.name = "beta2"}, %[[EPS:[a-z0-9]+]]: tensor<f32> {moe.name = "epsilon"}
// CHECK-SAME: %[[WD:[a-z0-9]+]]: tensor<f32> {moe.name = "weight_decay"}, %[[MAX:[a-z0-9]+]]: tensor<f32> {moe.name = "max_grad_norm"}
// CHECK-SAME: %[[STEP:[a-z0-9]+]]: tensor<f32> {moe.name = "step"}
// CHECK-SAME: -> (tensor<f32> {moe.name = "grad_norm"}, tensor<i32> {moe.name = "apply"})
// CHECK: %[[GA:.*]] = moe.read @a.grad
// CHECK: %[[SA:.*]] = moe.sum_of_squares %[[GA]]
// CHECK: %[[GB:.*]] = moe.read @b.grad
// CHECK: %[[SB:.*]] = moe.sum_of_squares %[[GB]]
// CHECK: %[[SUM:.*]] = moe.sum %[[SA]], %[[SB]]
// CHECK: %[[NORM:.*]], %[[C:.*]], %[[APPLY:.*]] = moe.clip %[[SUM]] to %[[MAX]]
// CHECK: %[[A:.*]] = moe.read @a :
// CHECK: %[[M:.*]] = moe.read @a.exp_avg :
// CHECK: %[[V:.*]] = moe.read @a.exp_avg_sq :
// CHECK: %[[G:.*]] = moe.read @a.grad :
// CHECK: %[[A1:.*]], %[[M1:.*]], %[[V1:.*]] = moe.adamw %[[A]], %[[M]], %[[V]], %[[G]] times %[[C]] if %[[APPLY]] rate %[[LR]] betas %[[B1]], %[[B2]] epsilon %[[EPS]] weight_decay %[[WD]] step %[[STEP]]
// CHECK-NOT: decay true
// CHECK: moe.write @a, %[[A1]]
// CHECK: moe.write @a.exp_avg, %[[M1]]
// CHECK: moe.write @a.exp_avg_sq, %[[V1]]
// CHECK: moe.adamw {{.*}} decay true
// CHECK: return %[[NORM]], %[[APPLY]]
moe.state @a : tensor<4xf32> {kind = parameter} from "a"
moe.state @b : tensor<4x4xf32> {kind = parameter, decay = true, layer = 0} from "b"
moe.state @b.grad : tensor<4x4xf32> {kind = gradient, layer = 0, of = @b}
moe.state @a.grad : tensor<4xf32> {kind = gradient, of = @a}

// -----

// bf16: moments are bfloat16.

// CHECK: moe.state @a.exp_avg : tensor<4xbf16>
// CHECK: moe.state @a.exp_avg_sq : tensor<4xbf16>
// CHECK-NOT: master
module attributes {moe.model = {precision = "bf16"}} {
  moe.state @a : tensor<4xbf16> {kind = parameter} from "a"
  moe.state @a.grad : tensor<4xbf16> {kind = gradient, of = @a}
}

// -----

// bf16_f32_state: float32 moments, and a float32 master that the parameter is the rounding of.

// CHECK: moe.state @a.exp_avg : tensor<4xf32>
// CHECK: moe.state @a.exp_avg_sq : tensor<4xf32>
// CHECK: moe.state @a.master : tensor<4xf32> {kind = master, of = @a}
// CHECK: moe.adamw_master
// CHECK: moe.write @a.master
module attributes {moe.model = {precision = "bf16_f32_state"}} {
  moe.state @a : tensor<4xbf16> {kind = parameter} from "a"
  moe.state @a.grad : tensor<4xf32> {kind = gradient, of = @a}
}

// -----

// A step that is one program: the norm and the updates stand behind the pass that makes the gradients. Squares are summed
// where a gradient is made, and added up in the order of the parameters. The gradients stay marked.

// CHECK-NOT: func.func @micro_step
// CHECK-LABEL: func.func @train_step(
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<4xf32> {moe.name = "x"}, %[[LR:[a-z0-9]+]]: tensor<f32> {moe.name = "learning_rate"}
// CHECK-SAME: %[[MAX:[a-z0-9]+]]: tensor<f32> {moe.name = "max_grad_norm"}, %{{[a-z0-9]+}}: tensor<f32> {moe.name = "step"})
// CHECK-SAME: -> (tensor<4xf32> {moe.name = "y"}, tensor<f32> {moe.name = "grad_norm"}, tensor<i32> {moe.name = "apply"})
// CHECK-NEXT: %[[DB:.*]] = moe.scale %[[X]] by 2.0
// CHECK-NEXT: moe.gradient @b, %[[DB]]
// CHECK-NEXT: %[[SB:.*]] = moe.sum_of_squares %[[DB]]
// CHECK-NEXT: %[[DA:.*]] = moe.scale %[[X]] by 3.0
// CHECK-NEXT: moe.gradient @a, %[[DA]]
// CHECK-NEXT: %[[SA:.*]] = moe.sum_of_squares %[[DA]]
// CHECK-NEXT: %[[Y:.*]] = moe.add
// CHECK-NEXT: %[[SUM:.*]] = moe.sum %[[SA]], %[[SB]]
// CHECK-NEXT: %[[NORM:.*]], %[[C:.*]], %[[APPLY:.*]] = moe.clip %[[SUM]] to %[[MAX]]
// CHECK: %[[A:.*]] = moe.read @a :
// CHECK: %[[A1:.*]], %{{.*}}, %{{.*}} = moe.adamw %[[A]], %{{.*}}, %{{.*}}, %[[DA]] times %[[C]] if %[[APPLY]] rate %[[LR]]
// CHECK: moe.write @a, %[[A1]]
// CHECK: moe.adamw {{.*}}, %[[DB]] times
// CHECK: return %[[Y]], %[[NORM]], %[[APPLY]]
module attributes {moe.model = {step_program = "fused"}} {
  moe.state @a : tensor<4xf32> {kind = parameter} from "a"
  moe.state @b : tensor<4xf32> {kind = parameter, decay = true} from "b"
  func.func @micro_step(%x: tensor<4xf32> {moe.name = "x"}) -> (tensor<4xf32> {moe.name = "y"}) {
    %db = moe.scale %x by 2.0 : tensor<4xf32>
    moe.gradient @b, %db : tensor<4xf32>
    %da = moe.scale %x by 3.0 : tensor<4xf32>
    moe.gradient @a, %da : tensor<4xf32>
    %y = moe.add %da, %db : tensor<4xf32>
    return %y : tensor<4xf32>
  }
}
