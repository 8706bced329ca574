// RUN: moe-opt %s --assign-addresses --split-input-file | FileCheck %s
// RUN: moe-opt %s --assign-addresses --split-input-file | moe-opt --split-input-file | FileCheck %s

// A state has the size of a rank's part, or of the most that one of its buffers reserves; then all of them say so. A buffer
// has the size of what it reserves.

// CHECK: plan.arenas = {comm = 0 : i64, io = 256 : i64, state = 2304 : i64, transient = 1024 : i64}
// CHECK: moe.state @a : {{.*}}offset = 0,
// CHECK: moe.state @a.grad : {{.*}}offset = 512
// CHECK: moe.state @b : {{.*}}offset = 1536,
// CHECK: moe.state @c : {{.*}}offset = 2048,
dist.mesh @mesh <["fsdp"=2]>
moe.state @a : tensor<50xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "a"
moe.state @a.grad : tensor<50xf32> {kind = gradient, of = @a}
moe.state @b : tensor<256xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "b"
moe.state @c : tensor<4x32xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["fsdp"]>} from "c"
// CHECK-LABEL: plan.program @gather
// CHECK: plan.buffer transient at 0 reserve 256 : tensor<50xf32>
// CHECK-LABEL: plan.program @reduce
// CHECK: plan.buffer state @a.grad reserve 256 : tensor<50xf32>
// CHECK-LABEL: plan.program @other
// CHECK: plan.buffer state @a.grad reserve 256 : tensor<50xf32>
plan.program @gather {
  %shard = plan.buffer state @a : tensor<128xf32>
  %whole = plan.buffer transient reserve 256 : tensor<50xf32>
  plan.collective all_gather over ["fsdp"] ins(%shard : !plan.buffer<tensor<128xf32>>) outs(%whole : !plan.buffer<tensor<50xf32>>)
}
plan.program @reduce {
  %sum = plan.buffer state @a.grad reserve 256 : tensor<50xf32>
  %part = plan.buffer transient : tensor<128xf32>
  plan.collective reduce_scatter over ["fsdp"] ins(%sum : !plan.buffer<tensor<50xf32>>) outs(%part : !plan.buffer<tensor<128xf32>>)
}
plan.program @other {
  %sum = plan.buffer state @a.grad : tensor<50xf32>
  %x = plan.buffer io input "x" : tensor<50xf32>
  plan.launch "accumulate" ins(%x : !plan.buffer<tensor<50xf32>>) updates(%sum : !plan.buffer<tensor<50xf32>>) {}
}

// -----

// An all_reduce is in place where its operand is dead afterwards, also on another stream.

// CHECK-LABEL: plan.program @in_place
// CHECK: %[[A:[0-9]+]] = plan.buffer transient at [[FIRST:[0-9]+]]
// CHECK: %[[B:[0-9]+]] = plan.buffer transient at [[SECOND:[0-9]+]]
// CHECK-NEXT: plan.buffer transient at [[FIRST]] :
// CHECK-NOT: plan.buffer transient at [[SECOND]] :
// CHECK: plan.buffer transient at [[B_SUM:[0-9]+]] :
// CHECK-NEXT: plan.buffer transient at [[SECOND]] :
dist.mesh @mesh <["dp"=2]>
plan.program @in_place {
  %x = plan.buffer io input "x" : tensor<128xf32>
  %y = plan.buffer io output "y" : tensor<128xf32>
  %a = plan.buffer transient : tensor<128xf32>
  %b = plan.buffer transient : tensor<128xf32>
  %a_sum = plan.buffer transient : tensor<128xf32>
  %b_sum = plan.buffer transient : tensor<128xf32>
  %c = plan.buffer transient : tensor<128xf32>
  plan.launch "scale" ins(%x : !plan.buffer<tensor<128xf32>>) outs(%a : !plan.buffer<tensor<128xf32>>) {factor = 2.0 : f64}
  plan.launch "scale" ins(%x : !plan.buffer<tensor<128xf32>>) outs(%b : !plan.buffer<tensor<128xf32>>) {factor = 2.0 : f64}
  plan.collective all_reduce over ["dp"] ins(%a, %b : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<128xf32>>)
      outs(%a_sum, %b_sum : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<128xf32>>) stream 2
  plan.launch "add" ins(%b, %a_sum : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<128xf32>>) outs(%c : !plan.buffer<tensor<128xf32>>) {}
  plan.launch "add" ins(%c, %b_sum : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<128xf32>>) outs(%y : !plan.buffer<tensor<128xf32>>) {}
}

// -----

// %round, %sum, which rounds add to, and %x, which each of them reads, live for the whole repeat, though no instruction needs
// them after their place in it: nothing else is where they are. %u and %v are overwritten in each round. A workspace stands
// before the repeat.

// CHECK-LABEL: plan.program @rounds
// CHECK: plan.buffer transient at [[X:[0-9]+]] : tensor<128xf32>
// CHECK: plan.buffer transient at [[SUM:[0-9]+]] : tensor<128xf32>
// CHECK: plan.buffer transient at [[ROUND:[0-9]+]] : tensor<i32>
// CHECK-NOT: plan.buffer transient at [[X]] :
// CHECK-NOT: plan.buffer transient at [[SUM]] :
// CHECK-NOT: plan.buffer transient at [[ROUND]] :
// CHECK: %[[W:[0-9]+]] = plan.buffer transient {{.*}} : tensor<1024xi32>
// CHECK-NEXT: plan.repeat
// CHECK: workspace(%[[W]]
dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 512 : i64}
plan.program @rounds {
  %counts = plan.buffer io input "counts" : tensor<2x4xi32>
  %in = plan.buffer io input "x" : tensor<128xf32>
  %x = plan.buffer transient : tensor<128xf32>
  %sum = plan.buffer transient : tensor<128xf32>
  %round = plan.buffer transient : tensor<i32>
  %u = plan.buffer transient : tensor<128xf32>
  %v = plan.buffer transient : tensor<128xf32>
  %s = plan.buffer transient : tensor<f32>
  plan.launch "scale" ins(%in : !plan.buffer<tensor<128xf32>>) outs(%x : !plan.buffer<tensor<128xf32>>) {factor = 2.0 : f64}
  plan.launch "constant" outs(%sum : !plan.buffer<tensor<128xf32>>) {value = 0.0 : f64}
  plan.repeat %round of %counts over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.launch "add" ins(%in, %x : !plan.buffer<tensor<128xf32>>, !plan.buffer<tensor<128xf32>>) outs(%u : !plan.buffer<tensor<128xf32>>) {}
    plan.launch "accumulate" ins(%u : !plan.buffer<tensor<128xf32>>) updates(%sum : !plan.buffer<tensor<128xf32>>) {}
    plan.launch "scale" ins(%in : !plan.buffer<tensor<128xf32>>) outs(%v : !plan.buffer<tensor<128xf32>>) {factor = 2.0 : f64}
    plan.launch "sum_of_squares" ins(%v : !plan.buffer<tensor<128xf32>>) outs(%s : !plan.buffer<tensor<f32>>) {}
  }
}
