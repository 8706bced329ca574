// RUN: moe-opt %s --prefetch-gathers --split-input-file | FileCheck %s
// RUN: moe-opt %s --prefetch-gathers --split-input-file | moe-opt --split-input-file | FileCheck %s
// RUN: moe-opt %s --prefetch-gathers="depth=2" --split-input-file | FileCheck %s --check-prefix=TWO
// RUN: moe-opt %s --prefetch-gathers="depth=0" --split-input-file | FileCheck %s --check-prefix=NONE
// RUN: not moe-opt %s --prefetch-gathers="depth=-1" --split-input-file 2>&1 | FileCheck %s --check-prefix=REFUSED

// REFUSED: prefetch-gathers: depth is -1; expected a number of layers, or 0 to leave gathers where they are

dist.mesh @mesh <["fsdp"=2, "ep"=2]>
moe.state @a : tensor<200xf32> {kind = parameter, layer = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "a"
moe.state @b : tensor<200xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp"]>} from "b"
moe.state @b2 : tensor<400xf32> {kind = parameter, layer = 1, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "b2"
moe.state @c : tensor<200xf32> {kind = parameter, layer = 2, sharding = #dist.sharding<flat over ["fsdp"]>} from "c"

// Both gathers of layer 1 are issued behind the first use of layer 0, that of layer 2 behind the first use of layer 1.

// CHECK-LABEL: plan.program @forward
// CHECK: all_gather over ["fsdp"] {{.*}} outs(%[[A:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "add" ins(%[[A]]
// CHECK-NEXT: all_gather over ["fsdp"] {{.*}} outs(%[[B:[0-9a-z]+]] :
// CHECK-NEXT: all_gather over ["fsdp", "ep"]
// CHECK-NEXT: plan.launch "scale"
// CHECK-NEXT: plan.launch "add" ins(%[[B]]
// CHECK-NEXT: all_gather over ["fsdp"] {{.*}} outs(%[[C:[0-9a-z]+]] :
// CHECK-NEXT: plan.launch "scale"
// CHECK-NEXT: plan.launch "add" ins(%[[C]]
// TWO-LABEL: plan.program @forward
// TWO: all_gather over ["fsdp"] {{.*}} outs(%[[A:[0-9a-z]+]] :
// TWO-NEXT: all_gather over ["fsdp"]
// TWO-NEXT: all_gather over ["fsdp", "ep"]
// TWO-NEXT: plan.launch "add" ins(%[[A]]
// TWO-NEXT: all_gather over ["fsdp"] {{.*}} outs(%[[C:[0-9a-z]+]] :
// TWO-NEXT: plan.launch "scale"
// NONE-LABEL: plan.program @forward
// NONE: all_gather over ["fsdp"]
// NONE-NEXT: plan.launch "add"
// NONE-NEXT: plan.launch "scale"
// NONE: all_gather over ["fsdp"]
plan.program @forward {
  %x = plan.buffer io input "x" : tensor<200xf32>
  %y = plan.buffer transient : tensor<200xf32>
  %a = plan.buffer state @a : tensor<128xf32>
  %ga = plan.buffer transient reserve 256 : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%a : !plan.buffer<tensor<128xf32>>) outs(%ga : !plan.buffer<tensor<200xf32>>)
  plan.launch "add" ins(%ga, %x : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
  plan.launch "scale" ins(%x : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  %b = plan.buffer state @b : tensor<128xf32>
  %gb = plan.buffer transient reserve 256 : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%b : !plan.buffer<tensor<128xf32>>) outs(%gb : !plan.buffer<tensor<200xf32>>)
  plan.launch "add" ins(%gb, %x : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
  %b2 = plan.buffer state @b2 : tensor<128xf32>
  %gb2 = plan.buffer transient reserve 512 : tensor<400xf32>
  %y2 = plan.buffer transient : tensor<400xf32>
  plan.collective all_gather over ["fsdp", "ep"] ins(%b2 : !plan.buffer<tensor<128xf32>>) outs(%gb2 : !plan.buffer<tensor<400xf32>>)
  plan.launch "scale" ins(%gb2 : !plan.buffer<tensor<400xf32>>) outs(%y2 : !plan.buffer<tensor<400xf32>>) {factor = 2.0 : f64}
  %c = plan.buffer state @c : tensor<128xf32>
  %gc = plan.buffer transient reserve 256 : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%c : !plan.buffer<tensor<128xf32>>) outs(%gc : !plan.buffer<tensor<200xf32>>)
  plan.launch "add" ins(%gc, %x : !plan.buffer<tensor<200xf32>>, !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {}
}

// Layer 1's gather fills a buffer that is still read, layer 2's gathers a state that is written: neither passes that.

// CHECK-LABEL: plan.program @kept_behind
// CHECK: all_gather
// CHECK-NEXT: plan.launch "scale"
// CHECK-NEXT: plan.launch "scale" ins(%[[GA:[0-9a-z]+]] :
// CHECK-NEXT: all_gather {{.*}} outs(%[[GA]] :
// CHECK-NEXT: plan.copy
// CHECK-NEXT: plan.launch "scale" ins(%[[GA]]
// CHECK-NEXT: plan.launch "accumulate"
// CHECK-NEXT: all_gather
// CHECK-NEXT: plan.copy
plan.program @kept_behind {
  %a = plan.buffer state @a : tensor<128xf32>
  %b = plan.buffer state @b : tensor<128xf32>
  %c = plan.buffer state @c : tensor<128xf32>
  %g = plan.buffer transient reserve 256 : tensor<200xf32>
  %h = plan.buffer transient reserve 256 : tensor<200xf32>
  %y = plan.buffer transient : tensor<200xf32>
  %z = plan.buffer transient : tensor<200xf32>
  plan.collective all_gather over ["fsdp"] ins(%a : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%g : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.launch "scale" ins(%g : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.copy %y to %z : !plan.buffer<tensor<200xf32>>
  plan.collective all_gather over ["fsdp"] ins(%b : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>)
  plan.launch "scale" ins(%g : !plan.buffer<tensor<200xf32>>) outs(%y : !plan.buffer<tensor<200xf32>>) {factor = 2.0 : f64}
  plan.launch "accumulate" ins(%a : !plan.buffer<tensor<128xf32>>) updates(%c : !plan.buffer<tensor<128xf32>>) {}
  plan.copy %y to %z : !plan.buffer<tensor<200xf32>>
  plan.collective all_gather over ["fsdp"] ins(%c : !plan.buffer<tensor<128xf32>>) outs(%h : !plan.buffer<tensor<200xf32>>)
}

// -----

// One rank: nothing to do.

// CHECK-LABEL: plan.program @alone
plan.program @alone {
  %x = plan.buffer transient at 0 : tensor<4xf32>
}
