// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// Symbols, states and their uses in custom and in generic form.

// CHECK: module attributes {moe.model = {num_layers = 2 : i64}}
module attributes {moe.model = {num_layers = 2 : i64}} {

// CHECK: moe.symbol @T {bound = 32768 : i64, minimum = 2048 : i64}
// GENERIC: "moe.symbol"() <{bound = 32768 : i64, minimum = 2048 : i64, sym_name = "T"}>
moe.symbol @T {bound = 32768, minimum = 2048}
// CHECK: moe.symbol @S {bound = 64 : i64}
moe.symbol @S {bound = 64 : i64}

// CHECK: moe.state @norm : tensor<64xbf16> {kind = parameter} from "model.norm.weight"
// GENERIC: "moe.state"() <{decay = false, from = "model.norm.weight", kind = #moe<kind parameter>
// GENERIC-SAME: sym_name = "norm", type = tensor<64xbf16>}>
moe.state @norm : tensor<64xbf16> {kind = parameter} from "model.norm.weight"

// CHECK: moe.state @norm.master : tensor<64xf32> {kind = master, of = @norm}
moe.state @norm.master : tensor<64xf32> {kind = master, of = @norm}
// CHECK: moe.state @norm.grad : tensor<64xf32> {kind = gradient, of = @norm}
moe.state @norm.grad : tensor<64xf32> {of = @norm, kind = gradient}
// CHECK: moe.state @norm.exp_avg : tensor<64xbf16> {kind = moment, of = @norm, offset = 4096}
moe.state @norm.exp_avg : tensor<64xbf16> {kind = moment, of = @norm, offset = 4096 : i64}

// CHECK: moe.state @qkv : tensor<128x64xbf16> {kind = parameter, decay = true, layer = 0}
// CHECK-SAME: from #moe.concat<"q.weight", "k.weight", "v.weight" rows 64, 32, 32>
moe.state @qkv : tensor<128x64xbf16> {kind = parameter, layer = 0, decay = true}
    from #moe.concat<"q.weight", "k.weight", "v.weight" rows 64, 32, 32>

// CHECK: moe.state @gate_up : tensor<8x192x64xbf16>
// CHECK-SAME: {kind = parameter, decay = true, layer = 0, module_name = "mlp.experts.gate_up_proj"}
// CHECK-SAME: from #moe.stack<e = 0 to 8, #moe.concat<"{e}.w1", "{e}.w3">>
moe.state @gate_up : tensor<8x192x64xbf16>
    {kind = parameter, layer = 0, decay = true, module_name = "mlp.experts.gate_up_proj"}
    from #moe.stack<e = 0 to 8, #moe.concat<"{e}.w1", "{e}.w3">>

// CHECK: moe.state @nested : tensor<2x3x4xf32> {kind = parameter}
// CHECK-SAME: from #moe.stack<l = 0 to 2, #moe.stack<e = 1 to 4, "{l}.{e}">>
moe.state @nested : tensor<2x3x4xf32> {kind = parameter}
    from #moe.stack<l = 0 to 2, #moe.stack<e = 1 to 4, "{l}.{e}">>

// CHECK: func.func @step(%{{.*}}: tensor<64xf32> {moe.name = "gradient"})
func.func @step(%gradient: tensor<64xf32> {moe.name = "gradient"}) {
  // CHECK: %[[W:.*]] = moe.read @norm : tensor<64xbf16>
  // GENERIC: "moe.read"() <{state = @norm}> : () -> tensor<64xbf16>
  %w = moe.read @norm : tensor<64xbf16>
  // CHECK: moe.write @norm.exp_avg, %[[W]] : tensor<64xbf16>
  // GENERIC: "moe.write"(%{{.*}}) <{state = @norm.exp_avg}> : (tensor<64xbf16>) -> ()
  moe.write @norm.exp_avg, %w : tensor<64xbf16>
  // CHECK: moe.gradient @norm, %{{.*}} : tensor<64xf32>
  // GENERIC: "moe.gradient"(%{{.*}}) <{parameter = @norm}> : (tensor<64xf32>) -> ()
  moe.gradient @norm, %gradient : tensor<64xf32>
  return
}

// CHECK: func.func private @rows(tensor<?x4xf32, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"S" + 1>>,
// CHECK-SAME: tensor<?x4xf32, #moe.rows<2 * "T">>, tensor<?xf32, #moe.rows<3 * "T" + 5>>)
func.func private @rows(tensor<?x4xf32, #moe.rows<1 * "T" + 0>>, tensor<?xi32, #moe.rows<"S" + 1>>,
                        tensor<?x4xf32, #moe.rows<2 * "T">>, tensor<?xf32, #moe.rows<3 * "T" + 5>>)
}
