// RUN: moe-opt %s --canonicalize | FileCheck %s

!slots = tensor<?x4xf32, #moe.rows<2 * "T">>
!received = tensor<?x4xf32, #moe.rows<"R">>

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}

// What is returned is added in place, whichever term of the sum it is.
// CHECK-LABEL: func.func @return_into
// CHECK-SAME: (%[[X:.*]]: tensor<{{.*}}>, %[[ROWS:.*]]: tensor<{{.*}}>, %[[C:.*]]: tensor<2x4xi32>, %[[I:.*]]: tensor<i32>)
func.func @return_into(%x: !slots, %rows: !received, %c: tensor<2x4xi32>, %i: tensor<i32>)
    -> (!slots, !slots) {
  // CHECK: %[[A:.*]] = dist.token_return %[[ROWS]], %[[C]] round %[[I]] into %[[X]] over ["ep"]
  %p = dist.token_return %rows, %c round %i over ["ep"] : !received, tensor<2x4xi32> -> !slots
  %a = moe.add %x, %p : !slots
  // CHECK: %[[B:.*]] = dist.token_return %[[ROWS]], %[[C]] into %[[X]] over ["ep"]
  %q = dist.token_return %rows, %c over ["ep"] : !received, tensor<2x4xi32> -> !slots
  %b = moe.add %q, %x : !slots
  // CHECK: return %[[A]], %[[B]]
  return %a, %b : !slots, !slots
}

// Not where what is returned has another use, nor into two sums.
// CHECK-LABEL: func.func @keep
func.func @keep(%x: !slots, %rows: !received, %c: tensor<2x4xi32>) -> (!slots, !slots, !slots) {
  // CHECK: %[[P:.*]] = dist.token_return %{{.*}}, %{{.*}} over ["ep"]
  // CHECK: moe.add %{{.*}}, %[[P]]
  %p = dist.token_return %rows, %c over ["ep"] : !received, tensor<2x4xi32> -> !slots
  %a = moe.add %x, %p : !slots
  // CHECK: %[[Q:.*]] = dist.token_return %{{.*}}, %{{.*}} into %{{.*}} over ["ep"]
  // CHECK: moe.add %{{.*}}, %[[Q]]
  %q = dist.token_return %rows, %c into %x over ["ep"] : !received, tensor<2x4xi32> -> !slots
  %b = moe.add %x, %q : !slots
  return %p, %a, %b : !slots, !slots, !slots
}

// Collectives of equal operands are one, and one that nobody wants is none: all ranks run the same.
// CHECK-LABEL: func.func @dead
// CHECK-NEXT: return
func.func @dead(%x: tensor<f32>, %i: tensor<i32>) {
  %y = dist.all_reduce %x over ["ep"] : tensor<f32>
  %z = dist.rounds %round of %i on host over ["ep"] carry(%a = %y : tensor<f32>) {
    dist.yield %a : tensor<f32>
  }
  return
}
