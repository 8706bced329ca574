// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// The mesh, how states are divided over it, and the types of what programs read and write.

// CHECK: module attributes {dist.axes = #dist.axes<["dp", "ep"]>, dist.mesh = #dist.mesh<[]>}
module attributes {dist.axes = #dist.axes<["dp", "ep"]>, dist.mesh = #dist.mesh<[]>} {

// CHECK: dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=4]>
// GENERIC: "dist.mesh"() <{mesh = #dist.mesh<["dp"=2, "fsdp"=2, "ep"=4]>, sym_name = "mesh"}>
dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=4]>

// 60 elements over 8 ranks: 128 for each, of which the first rank holds them all.
// CHECK: moe.state @norm : tensor<60xbf16> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "norm"
// GENERIC: sharding = #dist.sharding<flat over ["fsdp", "ep"]>
moe.state @norm : tensor<60xbf16>
    {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "norm"
// CHECK: moe.state @norm.grad : tensor<60xf32> {kind = gradient, of = @norm, sharding = #dist.sharding<flat over ["fsdp", "ep"]>}
moe.state @norm.grad : tensor<60xf32>
    {kind = gradient, of = @norm, sharding = #dist.sharding<flat over ["fsdp", "ep"]>}

// CHECK: moe.state @down : tensor<8x64x96xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>} from
moe.state @down : tensor<8x64x96xf32>
    {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>}
    from #moe.stack<e = 0 to 8, "{e}.down">

// CHECK: moe.state @whole : tensor<8x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["fsdp", "ep"]>}
moe.state @whole : tensor<8x4xf32>
    {kind = parameter, sharding = #dist.sharding<dim 0 over ["fsdp", "ep"]>}

// CHECK-LABEL: func.func @step
func.func @step(%g: tensor<128xf32> {moe.name = "g"}) {
  // CHECK: moe.read @norm : tensor<128xbf16>
  %norm = moe.read @norm : tensor<128xbf16>
  // The gradient's shards have as many elements as the parameter's, though their bytes differ.
  // CHECK: moe.write @norm.grad, %{{.*}} : tensor<128xf32>
  moe.write @norm.grad, %g : tensor<128xf32>
  // CHECK: moe.gradient @norm, %{{.*}} : tensor<128xf32>
  moe.gradient @norm, %g : tensor<128xf32>
  // 2 of 8 experts, half of them: 2 * 64 * 96 / 2.
  // CHECK: moe.read @down : tensor<6144xf32>
  %down = moe.read @down : tensor<6144xf32>
  // CHECK: moe.read @whole : tensor<1x4xf32>
  %whole = moe.read @whole : tensor<1x4xf32>
  return
}
}
