// RUN: moe-opt %s --assign-addresses="memory=100000" | FileCheck %s --check-prefix=FITS
// RUN: moe-opt %s --assign-addresses="memory=1000" | FileCheck %s --check-prefix=MINIMUM
// RUN: moe-opt %s --assign-addresses | FileCheck %s --check-prefix=FREE

// 512 bytes a token: the largest multiple of 64 within 100,000 bytes is 192; where nothing fits, the minimum is taken for
// verify-memory to refuse; without a memory the bound stands.

// FITS: plan.peak = 98304 : i64
// FITS: moe.symbol @T {bound = 192 : i64}
// MINIMUM: moe.symbol @T {bound = 64 : i64}
// FREE: moe.symbol @T {bound = 4096 : i64}
moe.symbol @T {bound = 4096 : i64, minimum = 64 : i64}
plan.program @double {
  %x = plan.buffer io input "x" : tensor<?x64xf32, #moe.rows<"T">>
  %y = plan.buffer io output "y" : tensor<?x64xf32, #moe.rows<"T">>
  plan.launch "scale" ins(%x : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>) outs(%y : !plan.buffer<tensor<?x64xf32, #moe.rows<"T">>>) {factor = 2.0 : f64}
}
