// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the dialect's attributes, one test each, the faults of their assembly,
// and what a sharding asks of the state that it divides.

// axes_c1
// expected-error@+1 {{#dist.axes: expects at least one axis}}
module attributes {dist.axes = #dist.axes<[]>} {}

// -----

// axes_c2_order
// expected-error@+1 {{#dist.axes: expects each axis once, in the order "dp", "fsdp", "ep", but got "fsdp" after "ep"}}
module attributes {dist.axes = #dist.axes<["ep", "fsdp"]>} {}

// -----

// axes_c2_twice
// expected-error@+1 {{#dist.axes: expects each axis once, in the order "dp", "fsdp", "ep", but got "ep" after "ep"}}
module attributes {dist.axes = #dist.axes<["ep", "ep"]>} {}

// -----

// axes_unknown
// expected-error@+1 {{expects "dp", "fsdp" or "ep" as an axis, but got "tp"}}
module attributes {dist.axes = #dist.axes<["tp"]>} {}

// -----

// mesh_c1_order
// expected-error@+1 {{#dist.mesh: expects each axis once, in the order "dp", "fsdp", "ep", but got "dp" after "ep"}}
dist.mesh @mesh <["ep"=2, "dp"=2]>

// -----

// mesh_c1_twice
// expected-error@+1 {{#dist.mesh: expects each axis once, in the order "dp", "fsdp", "ep", but got "dp" after "dp"}}
dist.mesh @mesh <["dp"=2, "dp"=2]>

// -----

// mesh_c2_zero
// expected-error@+1 {{#dist.mesh: expects sizes of at least 1, but "ep" has size 0}}
dist.mesh @mesh <["dp"=2, "ep"=0]>

// -----

// mesh_c2_negative
// expected-error@+1 {{#dist.mesh: expects sizes of at least 1, but "dp" has size -2}}
dist.mesh @mesh <["dp"=-2, "ep"=-2]>

// -----

// mesh_c2_large
// expected-error@+1 {{#dist.mesh: has more than 65536 ranks}}
dist.mesh @mesh <["dp"=256, "fsdp"=257]>

// -----

// mesh_c2_overflow
// expected-error@+1 {{#dist.mesh: has more than 65536 ranks}}
dist.mesh @mesh <["dp"=4611686018427387904, "fsdp"=4]>

// -----

// mesh_op_c1
// expected-error@+1 {{is named @grid, but a module's only mesh is named @mesh}}
dist.mesh @grid <["dp"=2]>

// -----

// mesh_twice
// expected-note@+1 {{see existing symbol definition here}}
dist.mesh @mesh <["dp"=2]>
// expected-error@+1 {{redefinition of symbol named 'mesh'}}
dist.mesh @mesh <["ep"=2]>

// -----

// mesh_parent
func.func @program() {
  // expected-error@+1 {{expects parent op 'builtin.module'}}
  dist.mesh @mesh <["dp"=2]>
  return
}

// -----

// sharding_c1
// expected-error@+1 {{#dist.sharding: expects axes that divide dimension 0, or a flat division, or both}}
moe.state @w : tensor<4xf32> {kind = parameter, sharding = #dist.sharding<>}

// -----

// sharding_c2
// expected-error@+1 {{#dist.sharding: divides over "ep" twice}}
moe.state @w : tensor<4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp", "ep"]>}

// -----

// sharding_c3_mesh
// expected-error@+1 {{is over axes of a mesh, but the module declares none; add dist.mesh @mesh}}
moe.state @w : tensor<4xf32> {kind = parameter, sharding = #dist.sharding<flat over ["ep"]>}

// -----

// sharding_c3_flat
dist.mesh @mesh <["dp"=2]>
// expected-error@+1 {{is over the axis "ep", which the mesh does not have; it is #dist.mesh<["dp"=2]>}}
moe.state @w : tensor<4xf32> {kind = parameter, sharding = #dist.sharding<flat over ["ep"]>}

// -----

// sharding_c3_dim
dist.mesh @mesh <["dp"=2]>
// expected-error@+1 {{is over the axis "ep", which the mesh does not have; it is #dist.mesh<["dp"=2]>}}
moe.state @w : tensor<4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>}

// -----

// sharding_c4
dist.mesh @mesh <["ep"=4]>
// expected-error@+1 {{is divided along dimension 0 among 4 ranks (#dist.sharding<dim 0 over ["ep"]>), which do not divide 6, its extent in 'tensor<6x4xf32>'}}
moe.state @w : tensor<6x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>}

// -----

// sharding_c4_scalar
dist.mesh @mesh <["ep"=4]>
// expected-error@+1 {{is divided along dimension 0 among 4 ranks (#dist.sharding<dim 0 over ["ep"]>), which do not divide 1, its extent in 'tensor<f32>'}}
moe.state @w : tensor<f32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>}

// -----

// sharding_c5
dist.mesh @mesh <["fsdp"=4]>
// expected-error@+1 {{has more than 2^40 elements, too many to be divided: 'tensor<1048577x1048576xf32>'}}
moe.state @w : tensor<1048577x1048576xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>}

// -----

// sharding_c5_before_dim
dist.mesh @mesh <["fsdp"=4, "ep"=2]>
// expected-error@+1 {{has more than 2^40 elements, too many to be divided: 'tensor<2x1048576x1048576xf32>'}}
moe.state @w : tensor<2x1048576x1048576xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>}

// -----

// sharding_c5_dim
dist.mesh @mesh <["ep"=2]>
// expected-error@+1 {{has more than 2^40 elements, too many to be divided: 'tensor<2x1099511627776x1099511627776xf32>'}}
moe.state @w : tensor<2x1099511627776x1099511627776xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>}

// -----

// sharding_dimension
// expected-error@+1 {{expects dimension 0, but got 1: a rank's part is one range of the state's elements}}
moe.state @w : tensor<4x4xf32> {kind = parameter, sharding = #dist.sharding<dim 1 over ["ep"]>}

// -----

// sharding_comma
// expected-error@+1 {{expected 'flat'}}
moe.state @w : tensor<4x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], dim 1 over ["fsdp"]>}

// -----

// state_sharding
// expected-error@+1 {{attribute 'sharding' failed to satisfy constraint: ShardingAttrInterface instance}}
moe.state @w : tensor<4xf32> {kind = parameter, sharding = "all"}

// -----

// state_c7_derived: a derived state is divided in its own way.
dist.mesh @mesh <["ep"=4]>
moe.state @w : tensor<6xf32> {kind = parameter}
// expected-error@+1 {{is divided along dimension 0 among 4 ranks}}
moe.state @w.grad : tensor<6xf32> {kind = gradient, of = @w, sharding = #dist.sharding<dim 0 over ["ep"]>}

// -----

// read_c2
dist.mesh @mesh <["fsdp"=4]>
moe.state @w : tensor<60xbf16> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>}
func.func @program() {
  // expected-error@+1 {{has the type 'tensor<60xbf16>', but @w is of type 'tensor<60xbf16>', of which each rank holds 'tensor<128xbf16>'}}
  %w = moe.read @w : tensor<60xbf16>
  return
}

// -----

// write_c2
dist.mesh @mesh <["fsdp"=4]>
moe.state @w : tensor<60xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>}
func.func @program(%w: tensor<60xf32>) {
  // expected-error@+1 {{has the type 'tensor<60xf32>', but @w is of type 'tensor<60xf32>', of which each rank holds 'tensor<128xf32>'}}
  moe.write @w, %w : tensor<60xf32>
  return
}

// -----

// gradient_c2
dist.mesh @mesh <["fsdp"=4]>
moe.state @w : tensor<60xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>}
func.func @program(%w: tensor<60xf32>) {
  // expected-error@+1 {{has the type 'tensor<60xf32>', which is not of the shape of @w, 'tensor<128xf32>'}}
  moe.gradient @w, %w : tensor<60xf32>
  return
}

// -----

dist.mesh @mesh <["fsdp"=4]>
// expected-error@+1 {{has a dist.replicated that is not a #dist.axes: "fsdp"}}
func.func @program(%w: tensor<60xf32> {dist.replicated = "fsdp"}) {
  return
}

// -----

dist.mesh @mesh <["fsdp"=4]>
// expected-error@+1 {{is over the axis "ep", which the mesh does not have}}
func.func @program(%w: tensor<60xf32> {dist.replicated = #dist.axes<["ep"]>}) {
  return
}

// -----

dist.mesh @mesh <["fsdp"=4]>
// expected-error@+1 {{has an argument with "dist.same", which the dist dialect does not know}}
func.func @program(%w: tensor<60xf32> {dist.same}) {
  return
}
