// RUN: moe-opt %s --reshard-after-forward --split-input-file --verify-diagnostics
// RUN: not moe-opt %s --bucket-collectives --split-input-file 2>&1 | FileCheck %s --check-prefix=BUCKET
// RUN: not moe-opt %s --prefetch-gathers --split-input-file 2>&1 | FileCheck %s --check-prefix=PREFETCH
// RUN: not moe-opt %s --assign-streams --split-input-file 2>&1 | FileCheck %s --check-prefix=STREAMS

// All passes that move instructions refuse what would be undone.

dist.mesh @mesh <["fsdp"=2]>
// BUCKET: @placed has addresses already; run bucket-collectives before assign-addresses
// PREFETCH: @placed has addresses already; run prefetch-gathers before assign-addresses
// STREAMS: @placed has addresses already; run assign-streams before assign-addresses
// expected-error @+1 {{@placed has addresses already; run reshard-after-forward before assign-addresses}}
plan.program @placed {
  %x = plan.buffer transient at 0 : tensor<4xf32>
}

// -----

dist.mesh @mesh <["fsdp"=2]>
// BUCKET: @waiting has events already; run bucket-collectives before insert-waits
// PREFETCH: @waiting has events already; run prefetch-gathers before insert-waits
// STREAMS: @waiting has events already; run assign-streams before insert-waits
// expected-error @+1 {{@waiting has events already; run reshard-after-forward before insert-waits}}
plan.program @waiting {
  %e = plan.record
  plan.wait %e stream 1
}
