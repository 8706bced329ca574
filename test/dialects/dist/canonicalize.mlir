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

// So it is into an accumulator of the same elements.
// CHECK-LABEL: func.func @return_into_accumulator
// CHECK-SAME: (%[[X:[^:]*]]: tensor<{{.*}}>, %[[Y:[^:]*]]: tensor<{{.*}}>, %[[ROWS:.*]]: tensor<{{.*}}>, %[[C:.*]]: tensor<2x4xi32>)
func.func @return_into_accumulator(%x: !slots, %y: tensor<?x4xbf16, #moe.rows<2 * "T">>,
                                   %rows: !received, %c: tensor<2x4xi32>)
    -> (!slots, tensor<?x4xbf16, #moe.rows<2 * "T">>) {
  // CHECK: %[[A:.*]] = dist.token_return %[[ROWS]], %[[C]] into %[[X]] over ["ep"]
  %p = dist.token_return %rows, %c over ["ep"] : !received, tensor<2x4xi32> -> !slots
  %a = moe.accumulate %x, %p : !slots, !slots
  // CHECK: %[[Q:.*]] = dist.token_return %[[ROWS]], %[[C]] over ["ep"]
  // CHECK: %[[B:.*]] = moe.accumulate %[[Y]], %[[Q]]
  %q = dist.token_return %rows, %c over ["ep"] : !received, tensor<2x4xi32> -> !slots
  %b = moe.accumulate %y, %q : tensor<?x4xbf16, #moe.rows<2 * "T">>, !slots
  // CHECK: return %[[A]], %[[B]]
  return %a, %b : !slots, tensor<?x4xbf16, #moe.rows<2 * "T">>
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

// What is added to a sum of rounds from zero is what the sum starts at. The loop moves behind it,
// and takes along what depends on the loop.
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
// CHECK-LABEL: func.func @start_at_term
// CHECK-SAME: (%[[A:.*]]: tensor<4xf32>, %[[B:.*]]: tensor<4xf32>, %[[N:.*]]: tensor<i32>)
func.func @start_at_term(%a: tensor<4xf32>, %b: tensor<4xf32>, %n: tensor<i32>) -> tensor<4xf32> {
  // CHECK-NEXT: %[[T:.*]] = moe.scale %[[B]] by 2.0
  // CHECK-NEXT: %[[LOOP:.*]]:2 = dist.rounds %{{.*}} of %[[N]] on host over ["ep"] carry(%{{.*}} = %[[A]] : tensor<4xf32>, %{{.*}} = %[[T]] : tensor<4xf32>)
  // CHECK: moe.gradient @w, %[[LOOP]]#0
  // CHECK-NEXT: return %[[LOOP]]#1
  %zero = moe.constant 0.0 : tensor<4xf32>
  %y:2 = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %zero : tensor<4xf32>, %u = %zero : tensor<4xf32>) with(%ain = %a : tensor<4xf32>) {
    %v = moe.accumulate %s, %ain : tensor<4xf32>, tensor<4xf32>
    %w = moe.accumulate %u, %ain : tensor<4xf32>, tensor<4xf32>
    dist.yield %v, %w : tensor<4xf32>, tensor<4xf32>
  }
  %dw = moe.add %y#0, %a : tensor<4xf32>
  moe.gradient @w, %dw : tensor<4xf32>
  %t = moe.scale %b by 2.0 : tensor<4xf32>
  %z = moe.add %t, %y#1 : tensor<4xf32>
  return %z : tensor<4xf32>
}

// Not where the term depends on the loop, where the sum has another use, or where it does not start
// at zero.
// CHECK-LABEL: func.func @keep_start
func.func @keep_start(%a: tensor<4xf32>, %n: tensor<i32>)
    -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) {
  // CHECK: %[[ZERO:.*]] = moe.constant 0.0
  %zero = moe.constant 0.0 : tensor<4xf32>
  // CHECK: dist.rounds %{{.*}} carry(%{{.*}} = %[[ZERO]] : tensor<4xf32>, %{{.*}} = %[[ZERO]] : tensor<4xf32>)
  %x:2 = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %zero : tensor<4xf32>, %u = %zero : tensor<4xf32>) with(%ain = %a : tensor<4xf32>) {
    %v = moe.add %s, %ain : tensor<4xf32>
    %w = moe.add %u, %ain : tensor<4xf32>
    dist.yield %v, %w : tensor<4xf32>, tensor<4xf32>
  }
  // CHECK: moe.scale
  // CHECK-NEXT: moe.add
  %t = moe.scale %x#0 by 2.0 : tensor<4xf32>
  %p = moe.add %t, %x#1 : tensor<4xf32>
  // CHECK: dist.rounds %{{.*}} carry(%{{.*}} = %[[ZERO]]
  %y = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %zero : tensor<4xf32>) with(%ain = %a : tensor<4xf32>) {
    %v = moe.add %s, %ain : tensor<4xf32>
    dist.yield %v : tensor<4xf32>
  }
  // CHECK: moe.add
  %q = moe.add %y, %a : tensor<4xf32>
  // CHECK: dist.rounds %{{.*}} carry(%{{.*}} = %arg0
  %z = dist.rounds %i of %n on host over ["ep"]
      carry(%s = %a : tensor<4xf32>) with(%ain = %a : tensor<4xf32>) {
    %v = moe.add %s, %ain : tensor<4xf32>
    dist.yield %v : tensor<4xf32>
  }
  // CHECK: moe.add
  %r = moe.add %z, %a : tensor<4xf32>
  return %p, %x#0, %y, %q, %r : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>
}
