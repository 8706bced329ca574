// RUN: moe-opt %s --assign-streams --split-input-file | FileCheck %s
// RUN: moe-opt %s --assign-streams --split-input-file | moe-opt --split-input-file | FileCheck %s

dist.mesh @mesh <["fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
moe.state @w.grad : tensor<200xf32> {kind = gradient, of = @w, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>}

// Gathers of states are on stream 1, reductions and what only adds their results to states or squares them on stream 2.
// The counts' gather, the exchange and a repeat with all of its body stay on stream 0, as does what takes a reduced value
// elsewhere.

// CHECK-LABEL: plan.program @micro_step
// CHECK: all_gather over ["fsdp"] {{.*}} stream 1{{$}}
// CHECK: plan.launch "scale" {{.*}} {factor = 2.000000e+00 : f64}{{$}}
// CHECK: all_gather over ["ep"] {{[^{]*}}){{$}}
// CHECK: token_exchange {{.*}}){{$}}
// CHECK: plan.repeat {{.*}} over ["ep"] :
// CHECK: all_reduce {{.*}}){{$}}
// CHECK: reduce_scatter {{.*}} stream 2{{$}}
// CHECK: all_reduce {{.*}} stream 2{{$}}
// CHECK: plan.launch "accumulate" {{.*}} {} stream 2{{$}}
// CHECK: plan.launch "sum_of_squares" {{.*}} {} stream 2{{$}}
// CHECK: plan.launch "scale" {{.*}} {factor = 2.000000e+00 : f64}{{$}}
// CHECK: plan.launch "accumulate" {{.*}} {}{{$}}
plan.program @micro_step {
  %x = plan.buffer io input "x" : tensor<?x64xf32, #moe.rows<"T">>
  %counts = plan.buffer io input "counts" : tensor<4xi32>
  %shard = plan.buffer state @w : tensor<128xf32>
  %grad = plan.buffer state @w.grad : tensor<128xf32>
  %w = plan.buffer transient reserve 256 : tensor<200xf32>
  %dw = plan.buffer transient reserve 256 : tensor<200xf32>
  %part = plan.buffer transient : tensor<128xf32>
  %sum = plan.buffer transient : tensor<128xf32>
  %all_counts = plan.buffer transient : tensor<2x4xi32>
  %round = plan.buffer transient : tensor<i32>
  %received = plan.buffer transient : tensor<?x64xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient : tensor<2xi32>
  %square = plan.buffer transient : tensor<f32>
  plan.collective all_gather over ["fsdp"] ins(%shard : !plan.buffer<tensor<128xf32>>) outs(%w : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%w : !plan.buffer<tensor<200xf32>>) outs(%dw : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all_counts : !plan.buffer<tensor<2x4xi32>>)
  plan.collective token_exchange over ["ep"] ins(%x, %all_counts : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>, !plan.buffer<tensor<2x4xi32>>) outs(%received, %sizes : !plan.buffer<tensor<?x64xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
  plan.repeat %round of %all_counts over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.collective all_reduce over ["ep"] ins(%part : !plan.buffer<tensor<128xf32>>) outs(%sum : !plan.buffer<tensor<128xf32>>)
  }
  plan.collective reduce_scatter over ["fsdp"] ins(%dw : !plan.buffer<tensor<200xf32>>) outs(%part : !plan.buffer<tensor<128xf32>>)
  plan.collective all_reduce over ["ep"] ins(%part : !plan.buffer<tensor<128xf32>>) outs(%sum : !plan.buffer<tensor<128xf32>>)
  plan.launch "accumulate" ins(%sum : !plan.buffer<tensor<128xf32>>) updates(%grad : !plan.buffer<tensor<128xf32>>) {}
  plan.launch "sum_of_squares" ins(%sum : !plan.buffer<tensor<128xf32>>) outs(%square : !plan.buffer<tensor<f32>>) {}
  plan.launch "scale" ins(%grad : !plan.buffer<tensor<128xf32>>) outs(%part : !plan.buffer<tensor<128xf32>>) {factor = 2.0 : f64}
  plan.launch "accumulate" ins(%part : !plan.buffer<tensor<128xf32>>) updates(%grad : !plan.buffer<tensor<128xf32>>) {}
}

// -----

// One rank: nothing to do.

// CHECK-LABEL: plan.program @alone
plan.program @alone {
  %x = plan.buffer transient at 0 : tensor<4xf32>
}
