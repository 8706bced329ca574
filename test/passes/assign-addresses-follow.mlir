// RUN: moe-opt %s --assign-addresses="memory=100000" | FileCheck %s --check-prefix=FITS
// RUN: moe-opt %s --assign-addresses | FileCheck %s --check-prefix=FREE

// Lowering the bound of T lowers that of R, which follows it: with 64 + 2.5 * 64 bytes a token, and 2 * 256 more, the largest
// multiple of 64 within 100,000 bytes is 384.

// FITS: plan.peak = 86528 : i64
// FITS: moe.symbol @T {bound = 384 : i64}
// FITS: moe.symbol @R {bound = 960 : i64, rows_per_token = 2.500000e+00 : f64}
// FREE: moe.symbol @T {bound = 4097 : i64}
// FREE: moe.symbol @R {bound = 10243 : i64, rows_per_token = 2.500000e+00 : f64}
dist.mesh @mesh <["ep"=2]>
moe.symbol @T {bound = 4097 : i64, minimum = 64 : i64}
moe.symbol @R {bound = 10243 : i64, rows_per_token = 2.5 : f64}
plan.program @exchange {
  %x = plan.buffer io input "x" : tensor<?x16xf32, #moe.rows<"T">>
  %counts = plan.buffer io input "counts" : tensor<2x4xi32>
  %received = plan.buffer transient : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient : tensor<2xi32>
  plan.collective token_exchange over ["ep"] ins(%x, %counts : !plan.buffer<tensor<?x16xf32, #moe.rows<"T">>>, !plan.buffer<tensor<2x4xi32>>)
      outs(%received, %sizes : !plan.buffer<tensor<?x16xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
}
