// RUN: moe-opt %s --reshard-after-forward --split-input-file | FileCheck %s
// RUN: moe-opt %s --reshard-after-forward --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --reshard-after-forward="enable=false" --split-input-file | FileCheck %s --check-prefix=KEPT

dist.mesh @mesh <["fsdp"=2]>
moe.state @embedding : tensor<200xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "e"
moe.state @a : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "a"
moe.state @b : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "b"
moe.state @c : tensor<200xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>} from "c"

// Layer 0 is left when layer 1 is gathered: %a and %b are gathered again, once each, %a before the repeat that uses it. %c
// is used twice in its own layer and stays. The embedding's second use is at the end, behind all others.

// CHECK-LABEL: plan.program @micro_step
// CHECK-DAG: %[[X:.*]] = plan.buffer io input "x"
// CHECK-DAG: %[[SA:.*]] = plan.buffer state @a
// CHECK-DAG: %[[SB:.*]] = plan.buffer state @b
// CHECK-DAG: %[[SE:.*]] = plan.buffer state @embedding
// CHECK: all_gather over ["fsdp"] ins(%[[SE]]
// CHECK: plan.launch "scale"
// CHECK: all_gather over ["fsdp"] ins(%[[SA]] : {{.*}}) outs(%[[A:[0-9a-z]+]] :
// CHECK: all_gather over ["fsdp"] ins(%[[SB]] : {{.*}}) outs(%[[B:[0-9a-z]+]] :
// CHECK: plan.launch "add" ins(%[[A]], %[[B]]
// CHECK: all_gather over ["fsdp"] ins({{.*}}) outs(%[[C:[0-9a-z]+]] :
// CHECK: plan.launch "add" ins(%{{.*}}, %[[C]]
// CHECK-NOT: all_gather
// CHECK: plan.launch "add" ins(%{{.*}}, %[[C]]
// CHECK: %[[B2:.*]] = plan.buffer transient reserve 256 : tensor<200xf32>
// CHECK: all_gather over ["fsdp"] ins(%[[SB]] : {{.*}}) outs(%[[B2]] :
// CHECK: plan.launch "add" ins(%{{.*}}, %[[B2]]
// CHECK: %[[A2:.*]] = plan.buffer transient reserve 256 : tensor<200xf32>
// CHECK: all_gather over ["fsdp"] ins(%[[SA]] : {{.*}}) outs(%[[A2]] :
// CHECK: plan.repeat
// CHECK: plan.launch "add" ins(%{{.*}}, %[[A2]]
// CHECK: plan.launch "add" ins(%[[A2]], %[[B2]]
// CHECK: %[[E2:.*]] = plan.buffer transient
// CHECK: all_gather over ["fsdp"] ins(%[[SE]] : {{.*}}) outs(%[[E2]] :
// CHECK: plan.launch "add" ins(%[[E2]]
// CHECK-NOT: all_gather

// KEPT-LABEL: plan.program @micro_step
// KEPT-COUNT-4: all_gather
// KEPT-NOT: all_gather
// KEPT-LABEL: plan.program @written
moe.symbol @R {bound = 8 : i64}
plan.program @micro_step {
  %x = plan.buffer io input "x" : tensor<200xf32>
  %counts = plan.buffer io input "counts" : tensor<2x4xi32>
  %round = plan.buffer transient : tensor<i32>
  %sa = plan.buffer state @a : tensor<128xf32>
  %sb = plan.buffer state @b : tensor<128xf32>
  %sc = plan.buffer state @c : tensor<128xf32>
  %se = plan.buffer state @embedding : tensor<128xf32>
  %e = plan.buffer transient reserve 256 : tensor<200xf32>
  %a = plan.buffer transient reserve 256 : tensor<200xf32>
  %b = plan.buffer transient reserve 256 : tensor<200xf32>
  %c = plan.buffer transient reserve 256 : tensor<200xf32>
  %y = plan.buffer transient : tensor<200xf32>
  %z = plan.buffer transient : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%se : !plan.buffer<tensor<128xf32>>) outs(%e : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%e : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.collective all_gather over ["fsdp"] ins(%sa : !plan.buffer<tensor<128xf32>>) outs(%a : !plan.buffer<tensor<200xf32>>)
  plan.collective all_gather over ["fsdp"] ins(%sb : !plan.buffer<tensor<128xf32>>) outs(%b : !plan.buffer<tensor<200xf32>>)
  plan.launch "add" ins(%a, %b : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
  plan.collective all_gather over ["fsdp"] ins(%sc : !plan.buffer<tensor<128xf32>>) outs(%c : !plan.buffer<tensor<200xf32>>)
  plan.launch "add" ins(%y, %c : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%z : !plan.buffer<tensor<200xf32>>) {}
  plan.launch "add" ins(%z, %c : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
  plan.launch "add" ins(%y, %b : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%z : !plan.buffer<tensor<200xf32>>) {}
  plan.repeat %round of %counts over ["fsdp"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.launch "add" ins(%z, %a : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
  }
  plan.launch "add" ins(%a, %b : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%z : !plan.buffer<tensor<200xf32>>) {}
  plan.launch "add" ins(%e, %z : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
}

// A program that writes the state would gather another value.

// CHECK-LABEL: plan.program @written
// CHECK-COUNT-2: all_gather
// CHECK-NOT: all_gather
plan.program @written {
  %sa = plan.buffer state @a : tensor<128xf32>
  %sc = plan.buffer state @c : tensor<128xf32>
  %a = plan.buffer transient reserve 256 : tensor<200xf32>
  %c = plan.buffer transient reserve 256 : tensor<200xf32>
  %y = plan.buffer transient : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%sa : !plan.buffer<tensor<128xf32>>) outs(%a : !plan.buffer<tensor<200xf32>>)
  plan.launch "add" ins(%a, %a : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
  plan.collective all_gather over ["fsdp"] ins(%sc : !plan.buffer<tensor<128xf32>>) outs(%c : !plan.buffer<tensor<200xf32>>)
  plan.launch "accumulate" ins(%sc : !plan.buffer<tensor<128xf32>>) updates(%sa : !plan.buffer<tensor<128xf32>>) {}
  plan.launch "add" ins(%a, %c : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
}

// -----

// One rank: nothing to do.

// CHECK-LABEL: plan.program @alone
// CHECK: plan.buffer transient at 0
plan.program @alone {
  %x = plan.buffer transient at 0 : tensor<4xf32>
}

// -----

dist.mesh @mesh <["fsdp"=2]>
moe.state @a : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "a"
moe.state @c : tensor<200xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>} from "c"

// A program that writes the state later still gathers it again before.

// CHECK-LABEL: plan.program @written_last
// CHECK-COUNT-2: all_gather
// CHECK: plan.launch "add" ins(%{{.*}}, %[[C:[a-z0-9]+]] :
// CHECK: all_gather over ["fsdp"] ins(%[[SA:[a-z0-9]+]] : {{.*}}) outs(%[[A:[a-z0-9]+]] :
// CHECK-NEXT: plan.launch "add" ins(%[[A]], %{{.*}} :
// CHECK-NEXT: plan.launch "accumulate" ins({{.*}}) updates(%[[SA]] :
// CHECK-NOT: all_gather
plan.program @written_last {
  %sa = plan.buffer state @a : tensor<128xf32>
  %sc = plan.buffer state @c : tensor<128xf32>
  %a = plan.buffer transient reserve 256 : tensor<200xf32>
  %c = plan.buffer transient reserve 256 : tensor<200xf32>
  %y = plan.buffer transient : tensor<200xf32>
  %z = plan.buffer transient : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%sa : !plan.buffer<tensor<128xf32>>) outs(%a : !plan.buffer<tensor<200xf32>>)
  plan.launch "add" ins(%a, %a : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
  plan.collective all_gather over ["fsdp"] ins(%sc : !plan.buffer<tensor<128xf32>>) outs(%c : !plan.buffer<tensor<200xf32>>)
  plan.launch "add" ins(%y, %c : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%z : !plan.buffer<tensor<200xf32>>) {}
  plan.launch "add" ins(%a, %z : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
  plan.launch "accumulate" ins(%sc : !plan.buffer<tensor<128xf32>>) updates(%sa : !plan.buffer<tensor<128xf32>>) {}
}
