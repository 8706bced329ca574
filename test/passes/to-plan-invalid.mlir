// RUN: moe-opt %s --to-plan --split-input-file --verify-diagnostics --allow-unregistered-dialect
// RUN: not moe-opt %s --to-plan=target=tpu --split-input-file --allow-unregistered-dialect 2>&1 | FileCheck %s --check-prefix=TARGET
// TARGET: to-plan: target is "tpu"; expected cpu or cuda

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

// -----

dist.mesh @mesh <["ep"=2]>
func.func @count(%x: tensor<4xf32> {moe.name = "x"}, %count: tensor<i32> {moe.name = "count"}) {
  // expected-error @+1 {{repeats by a count that is not a dist.overflow_rounds; a plan has no other}}
  %y = dist.rounds %round of %count on host over ["ep"] carry(%sum = %x : tensor<4xf32>) with(%xi = %x : tensor<4xf32>) {
    %next = moe.add %sum, %xi : tensor<4xf32>
    dist.yield %next : tensor<4xf32>
  }
  return
}

// -----

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 512 : i64}
func.func @returned(%c: tensor<2x4xi32> {moe.name = "counts"}) -> (tensor<i32> {moe.name = "rounds"}) {
  %count = dist.overflow_rounds %c : tensor<2x4xi32>
  // expected-error @+1 {{uses the number of overflow rounds, which only a dist.rounds does in a plan}}
  return %count : tensor<i32>
}
