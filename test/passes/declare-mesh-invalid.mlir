// RUN: moe-opt %s --declare-mesh=mesh=ep=2 --verify-diagnostics
// RUN: not moe-opt %s --declare-mesh=mesh=pp=2 2>&1 | FileCheck %s --check-prefix=AXIS
// RUN: not moe-opt %s --declare-mesh=mesh=ep=two 2>&1 | FileCheck %s --check-prefix=SIZE
// RUN: not moe-opt %s --declare-mesh=mesh=ep=2,dp=0 2>&1 | FileCheck %s --check-prefix=ZERO
// RUN: not moe-opt %s --declare-mesh=mesh=ep=2,ep=2 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not moe-opt %s --declare-mesh=mesh=fsdp=512,ep=256 2>&1 | FileCheck %s --check-prefix=RANKS

// AXIS: error: declare-mesh: mesh: found "pp=2", expected the sizes, at least 1, of some of the axes dp, fsdp and ep, each once, as fsdp=2,ep=4
// SIZE: error: declare-mesh: mesh: found "ep=two", expected the sizes
// ZERO: error: declare-mesh: mesh: found "ep=2,dp=0", expected the sizes
// TWICE: error: declare-mesh: mesh: found "ep=2,ep=2", expected the sizes
// RANKS: error: declare-mesh: mesh: found "fsdp=512,ep=256", which is more than 65536 ranks; expected a smaller mesh

// expected-error @+1 {{declare-mesh: the module declares a mesh already}}
dist.mesh @mesh <["dp"=2]>
