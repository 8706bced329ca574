// RUN: moe-opt %s --verify-memory="memory=2147483648" --split-input-file | FileCheck %s
// RUN: not moe-opt %s --verify-memory="memory=1048576" 2>&1 | FileCheck %s --check-prefix=REFUSED
// RUN: not moe-opt %s --verify-memory="memory=600000000" 2>&1 | FileCheck %s --check-prefix=STATE
// RUN: echo "module {}" | not moe-opt --verify-memory 2>&1 | FileCheck %s --check-prefix=UNPLACED

// CHECK: plan.peak = 1073741824
// REFUSED: does not fit: the plan needs 1.00 GiB and the device has 1.00 MiB (comm 0 bytes, io 0 bytes, state 512.00 MiB, transient 512.00 MiB); parameters, gradients and moments alone exceed it: divide them among more ranks with --mesh, use a larger device, or --precision bf16
// STATE: lower --max-seq-length, --per-device-train-batch-size or --coalesce, divide states and experts among more ranks with --mesh, or use --precision bf16
// UNPLACED: the module has no addresses yet; run assign-addresses first
module attributes {plan.arenas = {comm = 0 : i64, io = 0 : i64, state = 536870912 : i64, transient = 536870912 : i64}, plan.peak = 1073741824 : i64} {
}
