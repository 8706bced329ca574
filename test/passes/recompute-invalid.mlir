// RUN: moe-opt %s --recompute=what=layer --verify-diagnostics

// expected-error @+1 {{recompute: what is "layer"; expected none or cheap}}
module {}
