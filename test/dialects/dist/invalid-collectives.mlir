// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the ops of CollectiveOps.td, one test each.

// all_gather_c1_mesh
func.func @program(%x: tensor<128xf32>) {
  // expected-error@+1 {{is over axes of a mesh, but the module declares none; add dist.mesh @mesh}}
  %y = dist.all_gather %x over ["ep"] : tensor<128xf32> -> tensor<8x50xf32>
  return
}

// -----

// all_gather_c1_axis
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<128xf32>) {
  // expected-error@+1 {{is over the axis "ep", which the mesh does not have; it is #dist.mesh<["dp"=2]>}}
  %y = dist.all_gather %x over ["dp", "ep"] : tensor<128xf32> -> tensor<8x50xf32>
  return
}

// -----

// all_gather_c1_not_a_mesh
moe.symbol @mesh {bound = 4}
func.func @program(%x: tensor<128xf32>) {
  // expected-error@+1 {{is over axes of a mesh, but the module declares none; add dist.mesh @mesh}}
  %y = dist.all_gather %x over ["ep"] : tensor<128xf32> -> tensor<8x50xf32>
  return
}

// -----

// all_gather_c2
dist.mesh @mesh <["ep"=4]>
func.func @program(%x: tensor<128xbf16>) {
  // expected-error@+1 {{failed to verify that all of {x, y} have same element type}}
  %y = dist.all_gather %x over ["ep"] : tensor<128xbf16> -> tensor<8x50xf32>
  return
}

// -----

// all_gather_c3_shard: 400 elements, 4 ranks; 100 each is no multiple of 128.
dist.mesh @mesh <["ep"=4]>
func.func @program(%x: tensor<100xf32>) {
  // expected-error@+1 {{expects a part of 'tensor<8x50xf32>' on each of 4 ranks: a flat shard of 128 elements, or slice i of dimension 0 on rank i, or the i-th of 4 equal parts of dimension 0; but the part is 'tensor<100xf32>'}}
  %y = dist.all_gather %x over ["ep"] : tensor<100xf32> -> tensor<8x50xf32>
  return
}

// -----

// all_gather_c3_rank
dist.mesh @mesh <["ep"=4]>
func.func @program(%x: tensor<1x128xf32>) {
  // expected-error@+1 {{expects a part of 'tensor<8x50xf32>' on each of 4 ranks}}
  %y = dist.all_gather %x over ["ep"] : tensor<1x128xf32> -> tensor<8x50xf32>
  return
}

// -----

// all_gather_c3_slice
dist.mesh @mesh <["ep"=4]>
func.func @program(%x: tensor<8xi32>) {
  // expected-error@+1 {{expects a part of 'tensor<2x8xi32>' on each of 4 ranks}}
  %y = dist.all_gather %x over ["ep"] : tensor<8xi32> -> tensor<2x8xi32>
  return
}

// -----

// all_gather_c3_large
dist.mesh @mesh <["ep"=4]>
func.func @program(%x: tensor<128xf32>) {
  // expected-error@+1 {{has more than 2^40 elements in 'tensor<1048577x1048576xf32>'}}
  %y = dist.all_gather %x over ["ep"] : tensor<128xf32> -> tensor<1048577x1048576xf32>
  return
}

// -----

// all_gather_dynamic
dist.mesh @mesh <["ep"=4]>
func.func @program(%x: tensor<?xf32, #moe.rows<"T">>) {
  // expected-error@+1 {{operand #0 must be tensor of f32, bf16 or i32 with static extents}}
  %y = dist.all_gather %x over ["ep"] : tensor<?xf32, #moe.rows<"T">> -> tensor<8x50xf32>
  return
}

// -----

// reduce_scatter_c1
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<8x50xf32>) {
  // expected-error@+1 {{is over the axis "fsdp", which the mesh does not have; it is #dist.mesh<["dp"=2]>}}
  %y = dist.reduce_scatter %x over ["fsdp"] : tensor<8x50xf32> -> tensor<128xf32>
  return
}

// -----

// reduce_scatter_c2
dist.mesh @mesh <["ep"=4]>
func.func @program(%x: tensor<8x50xf32>) {
  // expected-error@+1 {{failed to verify that all of {x, y} have same element type}}
  %y = dist.reduce_scatter %x over ["ep"] : tensor<8x50xf32> -> tensor<128xbf16>
  return
}

// -----

// reduce_scatter_c3
dist.mesh @mesh <["ep"=2]>
func.func @program(%x: tensor<8x50xf32>) {
  // expected-error@+1 {{expects a part of 'tensor<8x50xf32>' on each of 2 ranks: a flat shard of 256 elements, or slice i of dimension 0 on rank i, or the i-th of 2 equal parts of dimension 0; but the part is 'tensor<128xf32>'}}
  %y = dist.reduce_scatter %x over ["ep"] : tensor<8x50xf32> -> tensor<128xf32>
  return
}

// -----

// reduce_scatter_type
dist.mesh @mesh <["ep"=4]>
func.func @program(%x: tensor<4x8xi32>) {
  // expected-error@+1 {{operand #0 must be tensor of f32 or bf16 with static extents}}
  %y = dist.reduce_scatter %x over ["ep"] : tensor<4x8xi32> -> tensor<8xi32>
  return
}

// -----

// all_reduce_c1
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<f32>) {
  // expected-error@+1 {{is over the axis "ep", which the mesh does not have; it is #dist.mesh<["dp"=2]>}}
  %y = dist.all_reduce %x over ["ep"] : tensor<f32>
  return
}

// -----

// all_reduce_c2
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<f32>) {
  // expected-error@+1 {{requires the same type for all operands and results}}
  %y = "dist.all_reduce"(%x) {axes = #dist.axes<["dp"]>} : (tensor<f32>) -> tensor<bf16>
  return
}

// -----

// all_reduce_c3
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<?x4xf32, #moe.rows<"R">>) {
  // expected-error@+1 {{has rows over "R", whose number differs between ranks: 'tensor<?x4xf32, #moe.rows<"R">>'}}
  %y = dist.all_reduce %x over ["dp"] : tensor<?x4xf32, #moe.rows<"R">>
  return
}

// -----

// all_reduce_reduction
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<f32>) {
  // expected-error@+2 {{expected ::switchyard::dist::Reduction to be one of: sum, max}}
  // expected-error@+1 {{failed to parse Dist_ReductionAttr}}
  %y = dist.all_reduce %x over ["dp"] reduction mean : tensor<f32>
  return
}

// -----

// replicate_c1
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<f32>) {
  // expected-error@+1 {{is over the axis "ep", which the mesh does not have; it is #dist.mesh<["dp"=2]>}}
  %y = dist.replicate %x over ["ep"] : tensor<f32>
  return
}

// -----

// replicate_c2
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<f32>) {
  // expected-error@+1 {{requires the same type for all operands and results}}
  %y = "dist.replicate"(%x) {axes = #dist.axes<["dp"]>} : (tensor<f32>) -> tensor<bf16>
  return
}

// -----

// replicate_c3
dist.mesh @mesh <["dp"=2]>
func.func @program(%x: tensor<?x4xf32, #moe.rows<3 * "R">>) {
  // expected-error@+1 {{has rows over "R", whose number differs between ranks: 'tensor<?x4xf32, #moe.rows<3 * "R">>'}}
  %y = dist.replicate %x over ["dp"] : tensor<?x4xf32, #moe.rows<3 * "R">>
  return
}
