// RUN: moe-opt %s --to-plan --split-input-file --verify-diagnostics --allow-unregistered-dialect

// expected-error @+1 {{has the argument 0, which is not a ranked tensor with a moe.name}}
func.func @unnamed(%x: tensor<4xf32>) {
  return
}

// -----

moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @gradient(%x: tensor<4xf32> {moe.name = "x"}) {
  // expected-error @+1 {{has no kernel; lower it before to-plan}}
  moe.gradient @w, %x : tensor<4xf32>
  return
}

// -----

// expected-error @+1 {{has 2 blocks; a program is a single block}}
func.func @blocks(%x: tensor<4xf32> {moe.name = "x"}) {
  "test.br"()[^next] : () -> ()
^next:
  return
}

// -----

func.func @symbol(%x: tensor<?x4xf32, #moe.rows<"R">> {moe.name = "x"}) {
  // expected-error @+1 {{uses the symbol "R", which no moe.symbol declares}}
  %0 = moe.scale %x by 2.0 : tensor<?x4xf32, #moe.rows<"R">>
  return
}
