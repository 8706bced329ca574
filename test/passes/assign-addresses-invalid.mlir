// RUN: moe-opt %s --assign-addresses --split-input-file --verify-diagnostics

plan.program @unknown {
  %x = plan.buffer io input "x" : tensor<4xf32>
  // expected-error @+1 {{names no kernel that has a signature: "scales"}}
  plan.launch "scales" ins(%x : !plan.buffer<tensor<4xf32>>) {}
}

// -----

plan.program @attribute {
  %x = plan.buffer io input "x" : tensor<4xf32>
  %y = plan.buffer io output "y" : tensor<4xf32>
  // expected-error @+1 {{needs the attribute "factor" of kernel "scale" and has none}}
  plan.launch "scale" ins(%x : !plan.buffer<tensor<4xf32>>) outs(%y : !plan.buffer<tensor<4xf32>>) {}
}

// -----

// expected-error @+1 {{a buffer is larger than 2^62 bytes at the symbols' bounds}}
module {
  moe.symbol @T {bound = 1099511627776 : i64}
  plan.program @huge {
    %x = plan.buffer io input "x" : tensor<?x1099511627776xf32, #moe.rows<"T">>
    %y = plan.buffer io output "y" : tensor<?x1099511627776xf32, #moe.rows<"T">>
    plan.copy %x to %y : !plan.buffer<tensor<?x1099511627776xf32, #moe.rows<"T">>>
  }
}

// -----

// expected-error @+1 {{plan.target is {kind = "tpu", threads = 1 : i64}; expected as to-plan leaves it, {kind = "cpu" or "cuda", threads = N : i64}}}
module attributes {plan.target = {kind = "tpu", threads = 1 : i64}} {
}
