// RUN: moe-opt %s --insert-fsdp --split-input-file | FileCheck %s
// RUN: moe-opt %s --insert-fsdp --split-input-file | moe-opt --split-input-file | FileCheck %s

// Dense parameters over "fsdp" and "ep", experts that "ep" divides over "fsdp" only, both replicated over
// "dp". One read of each, right before its first use; one that nobody uses goes.

// CHECK: moe.state @w : tensor<16x50xbf16> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "w"
// CHECK: moe.state @down : tensor<8x50x8xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>} from "down"
// CHECK-LABEL: func.func @evaluate
// CHECK-NEXT: %[[W_SHARD:.*]] = moe.read @w : tensor<128xbf16>
// CHECK-NEXT: %[[W_ONE:.*]] = dist.replicate %[[W_SHARD]] over ["dp"] : tensor<128xbf16>
// CHECK-NEXT: %[[W:.*]] = dist.all_gather %[[W_ONE]] over ["fsdp", "ep"] : tensor<128xbf16> -> tensor<16x50xbf16>
// CHECK-NEXT: %[[Y:.*]] = moe.linear %{{.*}}, %[[W]]
// CHECK-NEXT: %[[Z:.*]] = moe.linear %{{.*}}, %[[W]]
// CHECK-NEXT: %[[D_SHARD:.*]] = moe.read @down : tensor<384xbf16>
// CHECK-NEXT: %[[D_ONE:.*]] = dist.replicate %[[D_SHARD]] over ["dp"] : tensor<384xbf16>
// CHECK-NEXT: %[[PART:.*]] = dist.all_gather %[[D_ONE]] over ["fsdp"] : tensor<384xbf16> -> tensor<2x50x8xbf16>
// CHECK-NEXT: %[[DOWN:.*]] = dist.all_gather %[[PART]] over ["ep"] : tensor<2x50x8xbf16> -> tensor<8x50x8xbf16>
// CHECK-NEXT: return %[[Y]], %[[Z]], %[[DOWN]]
// CHECK-LABEL: func.func @unused
// CHECK-NEXT: return
dist.mesh @mesh <["dp"=2, "fsdp"=3, "ep"=4]>
moe.symbol @T {bound = 64}
moe.state @w : tensor<16x50xbf16> {kind = parameter} from "w"
moe.state @down : tensor<8x50x8xbf16> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "down"
func.func @evaluate(%x: tensor<?x50xbf16, #moe.rows<"T">>)
    -> (tensor<?x16xbf16, #moe.rows<"T">>, tensor<?x16xbf16, #moe.rows<"T">>, tensor<8x50x8xbf16>) {
  %part = moe.read @down : tensor<2x50x8xbf16>
  %w = moe.read @w : tensor<16x50xbf16>
  %y = moe.linear %x, %w : tensor<?x50xbf16, #moe.rows<"T">>, tensor<16x50xbf16>
  %v = moe.read @w : tensor<16x50xbf16>
  %z = moe.linear %x, %v : tensor<?x50xbf16, #moe.rows<"T">>, tensor<16x50xbf16>
  %down = dist.all_gather %part over ["ep"] : tensor<2x50x8xbf16> -> tensor<8x50x8xbf16>
  return %y, %z, %down : tensor<?x16xbf16, #moe.rows<"T">>, tensor<?x16xbf16, #moe.rows<"T">>, tensor<8x50x8xbf16>
}
func.func @unused() {
  %w = moe.read @w : tensor<16x50xbf16>
  return
}

// -----

// Without "fsdp" dense parameters are divided over "ep", and experts that are divided already stay.

// CHECK: moe.state @w : tensor<16x50xf32> {kind = parameter, sharding = #dist.sharding<flat over ["ep"]>} from "w"
// CHECK: moe.state @down : tensor<8x50x8xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "down"
// CHECK: moe.read @w : tensor<256xf32>
// CHECK-NEXT: dist.all_gather %{{.*}} over ["ep"] : tensor<256xf32> -> tensor<16x50xf32>
// CHECK-NEXT: %[[PART:.*]] = moe.read @down : tensor<2x50x8xf32>
// CHECK-NEXT: return %{{.*}}, %[[PART]]
dist.mesh @mesh <["ep"=4]>
moe.state @w : tensor<16x50xf32> {kind = parameter} from "w"
moe.state @down : tensor<8x50x8xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "down"
func.func @evaluate() -> (tensor<16x50xf32>, tensor<2x50x8xf32>) {
  %w = moe.read @w : tensor<16x50xf32>
  %part = moe.read @down : tensor<2x50x8xf32>
  return %w, %part : tensor<16x50xf32>, tensor<2x50x8xf32>
}

// -----

// With "dp" alone every rank holds all.

// CHECK: moe.state @w : tensor<16x50xf32> {kind = parameter} from "w"
// CHECK: %[[W:.*]] = moe.read @w : tensor<16x50xf32>
// CHECK-NEXT: %[[ONE:.*]] = dist.replicate %[[W]] over ["dp"] : tensor<16x50xf32>
// CHECK-NEXT: return %[[ONE]]
dist.mesh @mesh <["dp"=4]>
moe.state @w : tensor<16x50xf32> {kind = parameter} from "w"
func.func @evaluate() -> tensor<16x50xf32> {
  %w = moe.read @w : tensor<16x50xf32>
  return %w : tensor<16x50xf32>
}

// -----

// One rank.

// CHECK: moe.state @w : tensor<16x50xf32> {kind = parameter} from "w"
// CHECK-NOT: dist.
moe.state @w : tensor<16x50xf32> {kind = parameter} from "w"
func.func @evaluate() -> tensor<16x50xf32> {
  %w = moe.read @w : tensor<16x50xf32>
  return %w : tensor<16x50xf32>
}
