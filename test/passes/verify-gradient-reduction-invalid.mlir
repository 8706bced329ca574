// RUN: moe-opt %s --verify-gradient-reduction --split-input-file --verify-diagnostics

// Planted faults. Inputs of @micro_step are each rank's own: %dw stands for the gradient of one
// rank's tokens.

// A dropped reduce.

dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
moe.state @w.grad : tensor<256xf32>
    {kind = gradient, of = @w, sharding = #dist.sharding<flat over ["fsdp"]>}
func.func @micro_step(%dw: tensor<256xf32> {moe.name = "dw"}) {
  %part = dist.reduce_scatter %dw over ["fsdp"] : tensor<256xf32> -> tensor<128xf32>
  %sum = moe.read @w.grad : tensor<128xf32>
  %new = moe.accumulate %sum, %part : tensor<128xf32>, tensor<128xf32>
  // expected-error @+1 {{'moe.write' op for @w over "dp": the gradient added to @w.grad is each rank's own, and its sum over ["dp"] is missing, here and at the head of @optimizer_step; make it (dist.all_reduce, dist.reduce_scatter)}}
  moe.write @w.grad, %new : tensor<128xf32>
  return
}

// -----

// The same before accumulate.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @micro_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  // expected-error @+1 {{'moe.gradient' op for @w over "dp": the gradient is each rank's own: its sum over ["dp"] is missing; make it (dist.all_reduce)}}
  moe.gradient @w, %dw : tensor<4xf32>
  return
}

// -----

// A reduce over the wrong axis: summed over "ep", which divides the state, as if it were "dp".

dist.mesh @mesh <["dp"=2, "ep"=2]>
moe.state @w : tensor<4x64xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "w"
moe.state @w.grad : tensor<4x64xf32>
    {kind = gradient, of = @w, sharding = #dist.sharding<dim 0 over ["ep"]>}
func.func @micro_step(%dw: tensor<2x64xf32> {moe.name = "dw"}) {
  %total = dist.all_reduce %dw over ["ep"] : tensor<2x64xf32>
  %sum = moe.read @w.grad : tensor<2x64xf32>
  // expected-error @+1 {{'moe.accumulate' op for @w over "ep": adds @w.grad, which is a part, cut along dimension 0, to the input "dw", which is the same on all ranks; make both the same before}}
  %new = moe.accumulate %sum, %total : tensor<2x64xf32>, tensor<2x64xf32>
  moe.write @w.grad, %new : tensor<2x64xf32>
  return
}

// -----

// A reduce twice.

dist.mesh @mesh <["dp"=4]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @micro_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  %once = dist.all_reduce %dw over ["dp"] : tensor<4xf32>
  // expected-error @+1 {{'dist.all_reduce' op for @w over "dp": sums a second time what is a total already, so that it counts 4 times; drop ["dp"] from its axes}}
  %twice = dist.all_reduce %once over ["dp"] : tensor<4xf32>
  moe.gradient @w, %twice : tensor<4xf32>
  return
}

// -----

// A reduce of parts: scattered over "fsdp", then summed over it as well.

dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
func.func @micro_step(%dw: tensor<256xf32> {moe.name = "dw"}) {
  %part = dist.reduce_scatter %dw over ["fsdp"] : tensor<256xf32> -> tensor<128xf32>
  // expected-error @+1 {{'dist.all_reduce' op for @w over "fsdp": sums the input "dw", of which each rank has another part; drop ["fsdp"] from its axes}}
  %total = dist.all_reduce %part over ["dp", "fsdp"] : tensor<128xf32>
  moe.gradient @w, %total : tensor<128xf32>
  return
}

// -----

// The experts' gradient summed over the axis that their tokens were sent over.

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
moe.state @w : tensor<4x4x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>}
    from #moe.stack<e = 0 to 4, "{e}">
func.func @micro_step(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"},
                      %dy: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "dy"},
                      %counts: tensor<4xi32> {moe.name = "counts"}) {
  %c = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  %rx, %sizes = dist.token_exchange %x, %c over ["ep"]
      : tensor<?x4xf32, #moe.rows<"T">>, tensor<2x4xi32>
  %rdy, %same = dist.token_exchange %dy, %c over ["ep"]
      : tensor<?x4xf32, #moe.rows<"T">>, tensor<2x4xi32>
  %dw = moe.grouped_gemm_wgrad %rdy, %rx, %sizes
      : tensor<?x4xf32, #moe.rows<"R">>, tensor<?x4xf32, #moe.rows<"R">>, tensor<2xi32> -> tensor<2x4x4xf32>
  // expected-error @+1 {{'dist.all_reduce' op for @w over "ep": sums the result of moe.grouped_gemm_wgrad, of which each rank has another part; drop ["ep"] from its axes}}
  %total = dist.all_reduce %dw over ["ep"] : tensor<2x4x4xf32>
  moe.gradient @w, %total : tensor<2x4x4xf32>
  return
}

// -----

// A sum over ranks in the midst of the backward direction, where cotangents are those of tokens.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4x4xf32> {kind = parameter} from "w"
func.func @micro_step(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"},
                      %dy: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "dy"}) {
  // expected-error @+1 {{'dist.all_reduce' op for @w over "dp": adds up rows of different tokens, which are no terms of one sum; sum the gradients of parameters, not of tokens}}
  %sum = dist.all_reduce %dy over ["dp"] : tensor<?x4xf32, #moe.rows<"T">>
  %dw = moe.linear_wgrad %sum, %x
      : tensor<?x4xf32, #moe.rows<"T">>, tensor<?x4xf32, #moe.rows<"T">> -> tensor<4x4xf32>
  %total = dist.all_reduce %dw over ["dp"] : tensor<4x4xf32>
  moe.gradient @w, %total : tensor<4x4xf32>
  return
}

// -----

// The maximum instead of the sum.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @micro_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  %largest = dist.all_reduce %dw over ["dp"] reduction max : tensor<4xf32>
  // expected-error @+1 {{'moe.gradient' op for @w over "dp": takes what was gathered, or is the maximum over ranks, for a sum over ranks; use dist.all_reduce with a sum, or dist.reduce_scatter}}
  moe.gradient @w, %largest : tensor<4xf32>
  return
}

// -----

// One use of a parameter is reduced, the other is not.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @micro_step(%a: tensor<4xf32> {moe.name = "a"}, %b: tensor<4xf32> {moe.name = "b"}) {
  %total = dist.all_reduce %a over ["dp"] : tensor<4xf32>
  // expected-error @+1 {{'moe.add' op for @w over "dp": adds the input "b", which is each rank's own, to a total (dist.all_reduce): the one is not summed over ranks, or the other is twice; sum both or none}}
  %dw = moe.add %total, %b : tensor<4xf32>
  moe.gradient @w, %dw : tensor<4xf32>
  return
}

// -----

// The same where the sum of a token's rows takes one to the other: it adds as moe.add does.

dist.mesh @mesh <["dp"=2]>
func.func @evaluate(%rows: tensor<8x4xf32> {moe.name = "rows"}, %slots: tensor<4x2xi32> {moe.name = "slots"},
                    %x: tensor<4x4xf32> {moe.name = "x"}) -> (tensor<4x4xf32> {moe.name = "y"}) {
  %total = dist.all_reduce %x over ["dp"] : tensor<4x4xf32>
  // expected-error @+1 {{'moe.permute_grad_add' op for the result "y" over "dp": adds the result of moe.permute_grad_add, which is each rank's own, to a total (dist.all_reduce): the one is not summed over ranks, or the other is twice; sum both or none}}
  %y = moe.permute_grad_add %rows, %slots, %total : tensor<8x4xf32>, tensor<4x2xi32>, tensor<4x4xf32>
  return %y : tensor<4x4xf32>
}

// -----

dist.mesh @mesh <["dp"=2]>
func.func @evaluate(%rows: tensor<8x4xf32> {moe.name = "rows"}, %slots: tensor<4x2xi32> {moe.name = "slots"},
                    %weights: tensor<4x2xf32> {moe.name = "weights"},
                    %x: tensor<4x4xf32> {moe.name = "x"}) -> (tensor<4x4xf32> {moe.name = "y"}) {
  %total = dist.all_reduce %x over ["dp"] : tensor<4x4xf32>
  // expected-error @+1 {{'moe.unpermute_add' op for the result "y" over "dp": adds the result of moe.unpermute_add, which is each rank's own, to a total (dist.all_reduce)}}
  %y = moe.unpermute_add %rows, %weights, %slots, %total
      : tensor<8x4xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<4x4xf32>
  return %y : tensor<4x4xf32>
}

// -----

// It is linear in what it adds, not known to be in the rows.

dist.mesh @mesh <["dp"=2]>
func.func @evaluate(%rows: tensor<8x4xf32> {moe.name = "rows"}, %slots: tensor<4x2xi32> {moe.name = "slots"},
                    %x: tensor<4x4xf32> {moe.name = "x"}) -> (tensor<4x4xf32> {moe.name = "y"}) {
  %total = dist.all_reduce %rows over ["dp"] : tensor<8x4xf32>
  %half = moe.scale %total by 0.5 : tensor<8x4xf32>
  // expected-error @+1 {{'moe.permute_grad_add' op for the result "y" over "dp": uses the result of moe.scale, a share that waits to be summed, in what is not known to be linear in it; sum it first (dist.all_reduce)}}
  %y = moe.permute_grad_add %half, %slots, %x : tensor<8x4xf32>, tensor<4x2xi32>, tensor<4x4xf32>
  return %y : tensor<4x4xf32>
}

// -----

// A missing replicate.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @evaluate(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"})
    -> (tensor<?x4xf32, #moe.rows<"T">> {moe.name = "y"}) {
  %w = moe.read @w : tensor<4xf32>
  // expected-error @+1 {{'moe.rms_norm' op for the result "y" over "dp": uses @w, of which the ranks hold copies, beside the input "x", which is each rank's own: nothing would sum its gradient; put dist.replicate over ["dp"] behind the moe.read}}
  %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<?x4xf32, #moe.rows<"T">>, tensor<4xf32>
  return %y : tensor<?x4xf32, #moe.rows<"T">>
}

// -----

// Two of them.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @evaluate(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"})
    -> (tensor<?x4xf32, #moe.rows<"T">> {moe.name = "y"}) {
  %w = moe.read @w : tensor<4xf32>
  %one = dist.replicate %w over ["dp"] : tensor<4xf32>
  // expected-error @+1 {{'dist.replicate' op for the result "y" over "dp": replicates @w a second time, so that its gradient would be summed twice; drop ["dp"] from its axes}}
  %two = dist.replicate %one over ["dp"] : tensor<4xf32>
  %y = moe.rms_norm %x, %two eps 1.0e-05 : tensor<?x4xf32, #moe.rows<"T">>, tensor<4xf32>
  return %y : tensor<?x4xf32, #moe.rows<"T">>
}

// -----

// A replicate over the axis that divides the state.

dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @w : tensor<128xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
func.func @evaluate() -> (tensor<128xf32> {moe.name = "y"}) {
  %w = moe.read @w : tensor<128xf32>
  // expected-error @+1 {{'dist.replicate' op for the result "y" over "fsdp": expects copies of one state, but @w is a part, cut flat; gather a part, and replicate over the other axes}}
  %y = dist.replicate %w over ["fsdp"] : tensor<128xf32>
  return %y : tensor<128xf32>
}

// -----

// A gather of what all have already.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @evaluate() -> (tensor<2x4xf32> {moe.name = "y"}) {
  %w = moe.read @w : tensor<4xf32>
  // expected-error @+1 {{'dist.all_gather' op for the result "y" over "dp": gathers @w, which all ranks have alike already: what is read is no part; drop the gather, or divide the state}}
  %y = dist.all_gather %w over ["dp"] : tensor<4xf32> -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}

// -----

// An exchange that is left out: this rank's tokens meet this rank's experts.

dist.mesh @mesh <["ep"=2]>
moe.state @w : tensor<4x4x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>}
    from #moe.stack<e = 0 to 4, "{e}">
func.func @evaluate(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"},
                    %sizes: tensor<2xi32> {moe.name = "sizes"})
    -> (tensor<?x4xf32, #moe.rows<"T">> {moe.name = "y"}) {
  %w = moe.read @w : tensor<2x4x4xf32>
  // expected-error @+1 {{'moe.grouped_gemm' op for the result "y" over "ep": brings together the input "x", which is each rank's own, and @w, of which each rank has another part; exchange tokens and return them (dist.token_exchange, dist.token_return), or gather the part (dist.all_gather)}}
  %y = moe.grouped_gemm %x, %w, %sizes
      : tensor<?x4xf32, #moe.rows<"T">>, tensor<2x4x4xf32>, tensor<2xi32>
  return %y : tensor<?x4xf32, #moe.rows<"T">>
}

// -----

// An exchange without its reverse: rows received meet the labels of this rank's tokens.

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
moe.state @head : tensor<4x4xf32> {kind = parameter, sharding = #dist.sharding<flat over ["ep"]>} from "head"
func.func @evaluate(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"},
                    %counts: tensor<4xi32> {moe.name = "counts"},
                    %labels: tensor<?xi32, #moe.rows<"R">> {moe.name = "labels"},
                    %weights: tensor<?xf32, #moe.rows<"R">> {moe.name = "weights"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %shard = moe.read @head : tensor<128xf32>
  %head = dist.all_gather %shard over ["ep"] : tensor<128xf32> -> tensor<4x4xf32>
  %c = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  %rows, %sizes = dist.token_exchange %x, %c over ["ep"]
      : tensor<?x4xf32, #moe.rows<"T">>, tensor<2x4xi32>
  // expected-error @+1 {{'moe.linear_cross_entropy' op for the result "loss" over "ep": brings together the input "labels", which is each rank's own, and the result of dist.token_exchange, of which each rank has another part}}
  %loss = moe.linear_cross_entropy %rows, %head, %labels, %weights chunk_rows 4
      : tensor<?x4xf32, #moe.rows<"R">>, tensor<4x4xf32>, tensor<?xi32, #moe.rows<"R">>,
        tensor<?xf32, #moe.rows<"R">>
  return %loss : tensor<f32>
}

// -----

// An exchange of what was exchanged.

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @evaluate(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"},
                    %counts: tensor<4xi32> {moe.name = "counts"})
    -> (tensor<?x4xf32, #moe.rows<"R">> {moe.name = "y"}) {
  %c = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  %rows, %sizes = dist.token_exchange %x, %c over ["ep"]
      : tensor<?x4xf32, #moe.rows<"T">>, tensor<2x4xi32>
  // expected-error @+1 {{'dist.token_exchange' op for the result "y" over "ep": sends rows that came by an exchange and were not sent back; put the dist.token_return of that exchange before it}}
  %y, %more = dist.token_exchange %rows, %c over ["ep"]
      : tensor<?x4xf32, #moe.rows<"R">>, tensor<2x4xi32>
  return %y : tensor<?x4xf32, #moe.rows<"R">>
}

// -----

// A return of what was never sent.

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @evaluate(%x: tensor<?x4xf32, #moe.rows<"R">> {moe.name = "x"},
                    %counts: tensor<4xi32> {moe.name = "counts"})
    -> (tensor<?x4xf32, #moe.rows<"T">> {moe.name = "y"}) {
  %c = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  // expected-error @+1 {{'dist.token_return' op for the result "y" over "ep": sends back rows that did not come by an exchange: they are each rank's own; return what has become of rows received}}
  %y = dist.token_return %x, %c over ["ep"]
      : tensor<?x4xf32, #moe.rows<"R">>, tensor<2x4xi32> -> tensor<?x4xf32, #moe.rows<"T">>
  return %y : tensor<?x4xf32, #moe.rows<"T">>
}

// -----

// An exchange by counts that were not gathered.

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @evaluate(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"},
                    %counts: tensor<2x4xi32> {moe.name = "counts"})
    -> (tensor<?x4xf32, #moe.rows<"R">> {moe.name = "y"}) {
  // expected-error @+1 {{'dist.token_exchange' op for the result "y" over "ep": expects counts that the ranks have alike, or they send and receive different rows, but they are each rank's own; gather them first (dist.all_gather)}}
  %y, %sizes = dist.token_exchange %x, %counts over ["ep"]
      : tensor<?x4xf32, #moe.rows<"T">>, tensor<2x4xi32>
  return %y : tensor<?x4xf32, #moe.rows<"R">>
}

// -----

// Tokens that all ranks have alike are computed once per rank.

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
moe.state @x : tensor<128x4xf32> {kind = parameter} from "x"
func.func @evaluate(%counts: tensor<4xi32> {moe.name = "counts"})
    -> (tensor<?x4xf32, #moe.rows<"R">> {moe.name = "y"}) {
  %copy = moe.read @x : tensor<128x4xf32>
  %x = dist.replicate %copy over ["ep"] : tensor<128x4xf32>
  %c = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  // expected-error @+1 {{'dist.token_exchange' op for the result "y" over "ep": expects each rank's own rows, but they are the same on all ranks, so that each would be computed and counted 2 times}}
  %y, %sizes = dist.token_exchange %x, %c over ["ep"] : tensor<128x4xf32>, tensor<2x4xi32>
  return %y : tensor<?x4xf32, #moe.rows<"R">>
}

// -----

// In the body of a loop: the rows of this round are not sent.

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
func.func @evaluate(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"},
                    %counts: tensor<4xi32> {moe.name = "counts"},
                    %more: tensor<?x4xf32, #moe.rows<"R">> {moe.name = "more"})
    -> (tensor<?x4xf32, #moe.rows<"T">> {moe.name = "y"}) {
  %c = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  %count = dist.overflow_rounds %c : tensor<2x4xi32>
  %y = dist.rounds %round of %count on host over ["ep"]
      carry(%sum = %x : tensor<?x4xf32, #moe.rows<"T">>)
      with(%rows = %more : tensor<?x4xf32, #moe.rows<"R">>, %c_in = %c : tensor<2x4xi32>) {
    // expected-error @+1 {{'dist.token_return' op for the result "y" over "ep": sends back rows that did not come by an exchange}}
    %next = dist.token_return %rows, %c_in round %round into %sum over ["ep"]
        : tensor<?x4xf32, #moe.rows<"R">>, tensor<2x4xi32> -> tensor<?x4xf32, #moe.rows<"T">>
    dist.yield %next : tensor<?x4xf32, #moe.rows<"T">>
  }
  return %y : tensor<?x4xf32, #moe.rows<"T">>
}

// -----

// A loop that ranks run unequally often.

dist.mesh @mesh <["ep"=2]>
func.func @evaluate(%x: tensor<4xf32> {moe.name = "x"}, %count: tensor<i32> {moe.name = "count"})
    -> (tensor<4xf32> {moe.name = "y"}) {
  // expected-error @+1 {{'dist.rounds' op for the result "y" over "ep": expects a count of rounds that the ranks have alike, or some wait for others that are done, but it is each rank's own; compute it from gathered counts}}
  %y = dist.rounds %round of %count on host over ["ep"] carry(%sum = %x : tensor<4xf32>)
      with(%x_in = %x : tensor<4xf32>) {
    %next = moe.add %sum, %x_in : tensor<4xf32>
    dist.yield %next : tensor<4xf32>
  }
  return %y : tensor<4xf32>
}

// -----

// A loop that adds ranks' own gradients to a total.

dist.mesh @mesh <["ep"=2]>
moe.symbol @R {bound = 64}
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @micro_step(%dw: tensor<4xf32> {moe.name = "dw"}, %counts: tensor<4xi32> {moe.name = "counts"}) {
  %c = dist.all_gather %counts over ["ep"] : tensor<4xi32> -> tensor<2x4xi32>
  %count = dist.overflow_rounds %c : tensor<2x4xi32>
  %total = dist.all_reduce %dw over ["ep"] : tensor<4xf32>
  // expected-error @+1 {{'dist.rounds' op for @w over "ep": adds the result of moe.accumulate, which is each rank's own, to a total (dist.all_reduce)}}
  %y = dist.rounds %round of %count on host over ["ep"] carry(%sum = %total : tensor<4xf32>)
      with(%dw_in = %dw : tensor<4xf32>) {
    %next = moe.accumulate %sum, %dw_in : tensor<4xf32>, tensor<4xf32>
    dist.yield %next : tensor<4xf32>
  }
  moe.gradient @w, %y : tensor<4xf32>
  return
}

// -----

// A term of the loss that all ranks have alike, counted once per rank.

dist.mesh @mesh <["fsdp"=2, "ep"=2]>
func.func @evaluate(%own: tensor<f32> {moe.name = "own"},
                    %statistics: tensor<4x2x8xf32> {moe.name = "statistics"},
                    %aux_weights: tensor<4xf32> {moe.name = "aux_weights",
                                                 dist.replicated = #dist.axes<["fsdp", "ep"]>})
    -> (tensor<f32> {moe.name = "loss"}) {
  %totals = dist.all_reduce %statistics over ["fsdp", "ep"] : tensor<4x2x8xf32>
  %aux, %counts = moe.load_balance_loss %aux_weights, %totals top_k 2 : tensor<4xf32>, tensor<4x2x8xf32>
  // expected-error @+1 {{'moe.add' op for the result "loss" over "fsdp": adds the result of moe.load_balance_loss, which is the same on all ranks, to the input "own", which is each rank's own: the sum over ranks counts it 2 times; weight it by 1/n for the n ranks that have it (moe.scale)}}
  %loss = moe.add %own, %aux : tensor<f32>
  return %loss : tensor<f32>
}

// -----

// A weight that fits one of two axes only.

dist.mesh @mesh <["fsdp"=2, "ep"=2]>
func.func @evaluate(%own: tensor<f32> {moe.name = "own"}, %term: tensor<f32> {moe.name = "term"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %alike = dist.all_reduce %term over ["fsdp", "ep"] : tensor<f32>
  %half = moe.scale %alike by 0.5 : tensor<f32>
  // expected-error @+1 {{'moe.add' op for the result "loss" over "fsdp": adds the result of moe.scale, which is the same on all ranks, to the input "own"}}
  %loss = moe.add %own, %half : tensor<f32>
  return %loss : tensor<f32>
}

// -----

// A loss that all ranks have alike.

dist.mesh @mesh <["ep"=4]>
// expected-error @+1 {{'func.func' op for the result "loss" over "ep": it is the same on all ranks, but what ranks yield is summed over them, which counts it 4 times; weight it by 1/n for the n ranks (moe.scale)}}
func.func @evaluate(%term: tensor<f32> {moe.name = "term"}) -> (tensor<f32> {moe.name = "loss"}) {
  %loss = dist.all_reduce %term over ["ep"] : tensor<f32>
  return %loss : tensor<f32>
}

// -----

// The reverse of a sum is left out: a share of a cotangent meets tokens.

dist.mesh @mesh <["ep"=2]>
moe.state @w : tensor<4x4xf32> {kind = parameter} from "w"
func.func @micro_step(%x: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "x"},
                      %statistics: tensor<?x4xf32, #moe.rows<"T">> {moe.name = "statistics"}) {
  %largest = dist.all_reduce %statistics over ["ep"] reduction max : tensor<?x4xf32, #moe.rows<"T">>
  %share = moe.scale %largest by 0.5 : tensor<?x4xf32, #moe.rows<"T">>
  // expected-error @+1 {{'moe.linear_wgrad' op for @w over "ep": uses the result of moe.scale, a share that waits to be summed, in what is not known to be linear in it; sum it first (dist.all_reduce)}}
  %dw = moe.linear_wgrad %share, %x
      : tensor<?x4xf32, #moe.rows<"T">>, tensor<?x4xf32, #moe.rows<"T">> -> tensor<4x4xf32>
  moe.gradient @w, %dw : tensor<4x4xf32>
  return
}

// -----

// The same, by an op that is linear in the share.

dist.mesh @mesh <["ep"=2]>
func.func @evaluate(%weights: tensor<4xf32> {moe.name = "weights"},
                    %statistics: tensor<4x2x8xf32> {moe.name = "statistics"})
    -> (tensor<f32> {moe.name = "loss"}) {
  %alike = dist.all_reduce %weights over ["ep"] : tensor<4xf32>
  %share = moe.scale %alike by 0.5 : tensor<4xf32>
  // expected-error @+1 {{'moe.load_balance_loss' op for the result "loss" over "ep": multiplies a share that waits to be summed by what is each rank's own; sum it first (dist.all_reduce)}}
  %loss, %counts = moe.load_balance_loss %share, %statistics top_k 2
      : tensor<4xf32>, tensor<4x2x8xf32>
  return %loss : tensor<f32>
}

// -----

// Gradients stay each rank's own until the optimizer, which sums some of their uses only.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
moe.state @w.grad : tensor<4xf32> {kind = gradient, of = @w}
func.func @micro_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  %sum = moe.read @w.grad : tensor<4xf32>
  %new = moe.accumulate %sum, %dw : tensor<4xf32>, tensor<4xf32>
  // expected-error @+1 {{'moe.write' op for @w over "dp": the gradient added to @w.grad is each rank's own, and its sum over ["dp"] is missing}}
  moe.write @w.grad, %new : tensor<4xf32>
  return
}
func.func @optimizer_step() -> (tensor<f32> {moe.name = "grad_norm"}) {
  %grad = moe.read @w.grad : tensor<4xf32>
  %total = dist.all_reduce %grad over ["dp"] : tensor<4xf32>
  %w = moe.read @w : tensor<4xf32>
  %new = moe.add %w, %total : tensor<4xf32>
  moe.write @w, %new : tensor<4xf32>
  %norm = moe.sum_of_squares %grad : tensor<4xf32>
  return %norm : tensor<f32>
}

// -----

// What a pass leaves in an accumulator is not a sum over what was there.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
moe.state @w.grad : tensor<4xf32> {kind = gradient, of = @w}
func.func @micro_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  %sum = moe.read @w.grad : tensor<4xf32>
  %both = moe.scale %sum by 2.0 : tensor<4xf32>
  %part = moe.add %both, %dw : tensor<4xf32>
  %none = moe.constant 1.0 : tensor<4xf32>
  // expected-error @+1 {{'moe.add' op for @w over "dp": adds the result of moe.constant, which is the same on all ranks, to the result of moe.add, which is each rank's own}}
  %new = moe.add %part, %none : tensor<4xf32>
  moe.write @w.grad, %new : tensor<4xf32>
  return
}

// -----

// The norm summed over too few axes.

#dense = #dist.sharding<flat over ["fsdp", "ep"]>
dist.mesh @mesh <["fsdp"=2, "ep"=2]>
moe.state @w : tensor<512xf32> {kind = parameter, sharding = #dense} from "w"
moe.state @w.grad : tensor<512xf32> {kind = gradient, of = @w, sharding = #dense}
moe.state @w.exp_avg : tensor<512xf32> {kind = moment, of = @w, sharding = #dense}
moe.state @w.exp_avg_sq : tensor<512xf32> {kind = moment, of = @w, sharding = #dense}
func.func @optimizer_step(%x: tensor<f32> {moe.name = "x"}) {
  %grad = moe.read @w.grad : tensor<128xf32>
  %square = moe.sum_of_squares %grad : tensor<128xf32>
  %sum = dist.all_reduce %square over ["fsdp"] : tensor<f32>
  %norm, %coefficient, %apply = moe.clip %sum to %x
  %w = moe.read @w : tensor<128xf32>
  %m = moe.read @w.exp_avg : tensor<128xf32>
  %v = moe.read @w.exp_avg_sq : tensor<128xf32>
  // expected-error @+1 {{'moe.adamw' op for @w over "ep": uses the result of moe.clip, a scalar that each rank computed of its own part, beside the part @w; sum it over all ranks first (dist.all_reduce)}}
  %p, %n, %u = moe.adamw %w, %m, %v, %grad times %coefficient if %apply rate %x betas %x, %x
      epsilon %x weight_decay %x step %x : tensor<128xf32>, tensor<128xf32>, tensor<128xf32>
  moe.write @w, %p : tensor<128xf32>
  return
}

// -----

// The norm summed over too many axes: replicas count twice.

#dense = #dist.sharding<flat over ["fsdp"]>
dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #dense} from "w"
moe.state @w.grad : tensor<256xf32> {kind = gradient, of = @w, sharding = #dense}
func.func @optimizer_step() -> (tensor<f32> {moe.name = "grad_norm"}) {
  %grad = moe.read @w.grad : tensor<128xf32>
  %square = moe.sum_of_squares %grad : tensor<128xf32>
  // expected-error @+1 {{'dist.all_reduce' op for the result "grad_norm" over "dp": sums what is the same on all ranks, so that it counts 2 times; drop ["dp"] from its axes}}
  %sum = dist.all_reduce %square over ["dp", "fsdp"] : tensor<f32>
  return %sum : tensor<f32>
}

// -----

// The norm of a gradient that is whole on each rank, added before the sum to that of parts.

#dense = #dist.sharding<flat over ["ep"]>
dist.mesh @mesh <["ep"=2]>
moe.state @a : tensor<256xf32> {kind = parameter, sharding = #dense} from "a"
moe.state @a.grad : tensor<256xf32> {kind = gradient, of = @a, sharding = #dense}
moe.state @b : tensor<4xf32> {kind = parameter} from "b"
moe.state @b.grad : tensor<4xf32> {kind = gradient, of = @b}
func.func @micro_step(%db: tensor<4xf32> {moe.name = "db"}) {
  %total = dist.all_reduce %db over ["ep"] : tensor<4xf32>
  %sum = moe.read @b.grad : tensor<4xf32>
  %new = moe.accumulate %sum, %total : tensor<4xf32>, tensor<4xf32>
  moe.write @b.grad, %new : tensor<4xf32>
  return
}
func.func @optimizer_step() -> (tensor<f32> {moe.name = "grad_norm"}) {
  %ga = moe.read @a.grad : tensor<128xf32>
  %gb = moe.read @b.grad : tensor<4xf32>
  %sa = moe.sum_of_squares %ga : tensor<128xf32>
  %sb = moe.sum_of_squares %gb : tensor<4xf32>
  // expected-error @+1 {{'moe.sum' op for the result "grad_norm" over "ep": adds the result of moe.sum_of_squares, which is the same on all ranks, to the result of moe.sum_of_squares, which is each rank's own: the sum over ranks counts it 2 times}}
  %both = moe.sum %sa, %sb
  %sum = dist.all_reduce %both over ["ep"] : tensor<f32>
  return %sum : tensor<f32>
}

// -----

// A result that ranks do not agree on.

#dense = #dist.sharding<flat over ["ep"]>
dist.mesh @mesh <["ep"=2]>
moe.state @a : tensor<256xf32> {kind = parameter, sharding = #dense} from "a"
moe.state @a.grad : tensor<256xf32> {kind = gradient, of = @a, sharding = #dense}
// expected-error @+1 {{'func.func' op for the result "grad_norm" over "ep": it is each rank's own, but ranks have to agree on it; sum what it is computed from over ["ep"] (dist.all_reduce)}}
func.func @optimizer_step() -> (tensor<f32> {moe.name = "grad_norm"}) {
  %ga = moe.read @a.grad : tensor<128xf32>
  %sa = moe.sum_of_squares %ga : tensor<128xf32>
  return %sa : tensor<f32>
}

// -----

// Copies updated by a part.

dist.mesh @mesh <["ep"=2]>
moe.state @a : tensor<256xf32>
    {kind = parameter, sharding = #dist.sharding<flat over ["ep"]>} from "a"
moe.state @a.grad : tensor<256xf32>
    {kind = gradient, of = @a, sharding = #dist.sharding<flat over ["ep"]>}
moe.state @b : tensor<128xf32> {kind = parameter} from "b"
func.func @optimizer_step() {
  %grad = moe.read @a.grad : tensor<128xf32>
  %b = moe.read @b : tensor<128xf32>
  %c = moe.read @b : tensor<128xf32>
  // expected-error @+1 {{'moe.add' op for @b over "ep": adds @a.grad, which is a part, cut flat, to @b, which is the same on all ranks, copies of one state; make both the same before}}
  %new = moe.add %b, %grad : tensor<128xf32>
  moe.write @b, %new : tensor<128xf32>
  return
}

// -----

// A scalar of each rank's own updates copies.

#dense = #dist.sharding<flat over ["ep"]>
dist.mesh @mesh <["ep"=2]>
moe.state @a : tensor<256xf32> {kind = parameter, sharding = #dense} from "a"
moe.state @a.grad : tensor<256xf32> {kind = gradient, of = @a, sharding = #dense}
moe.state @b : tensor<128xf32> {kind = parameter} from "b"
moe.state @b.exp_avg : tensor<128xf32> {kind = moment, of = @b}
func.func @optimizer_step(%x: tensor<f32> {moe.name = "x"}) {
  %grad = moe.read @a.grad : tensor<128xf32>
  %square = moe.sum_of_squares %grad : tensor<128xf32>
  %norm, %coefficient, %apply = moe.clip %square to %x
  %b = moe.read @b : tensor<128xf32>
  %m = moe.read @b.exp_avg : tensor<128xf32>
  // expected-error @+1 {{'moe.adamw' op for @b over "ep": updates @b, of which the ranks hold copies, by the result of moe.clip, which is each rank's own: the copies would differ; sum it first (dist.all_reduce)}}
  %p, %n, %u = moe.adamw %b, %m, %m, %m times %coefficient if %apply rate %x betas %x, %x
      epsilon %x weight_decay %x step %x : tensor<128xf32>, tensor<128xf32>, tensor<128xf32>
  moe.write @b, %p : tensor<128xf32>
  return
}

// -----

// A rank's own value, written to a state that all hold alike.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @micro_step(%x: tensor<4xf32> {moe.name = "x"}) {
  // expected-error @+1 {{'moe.write' op for @w over "dp": stores each rank's own value in @w, of which the ranks hold copies: these would differ; sum it over ["dp"] first (dist.all_reduce)}}
  moe.write @w, %x : tensor<4xf32>
  return
}

// -----

// A rank's own value, written to a state that is divided.

dist.mesh @mesh <["fsdp"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
func.func @micro_step(%dw: tensor<128xf32> {moe.name = "dw"}) {
  // expected-error @+1 {{'moe.gradient' op for @w over "fsdp": stores each rank's own value in @w, of which each rank holds a part: the sum over ["fsdp"] is missing; make it (dist.reduce_scatter)}}
  moe.gradient @w, %dw : tensor<128xf32>
  return
}

// -----

// A total, written to a state that is divided.

dist.mesh @mesh <["fsdp"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
func.func @micro_step(%dw: tensor<128xf32> {moe.name = "dw"}) {
  %total = dist.all_reduce %dw over ["fsdp"] : tensor<128xf32>
  // expected-error @+1 {{'moe.gradient' op for @w over "fsdp": stores what is the same on all ranks in @w, of which each rank holds another part; scatter it (dist.reduce_scatter)}}
  moe.gradient @w, %total : tensor<128xf32>
  return
}

// -----

// A part, written to a state that all hold whole.

dist.mesh @mesh <["fsdp"=2]>
moe.state @w : tensor<128xf32> {kind = parameter} from "w"
func.func @micro_step(%dw: tensor<256xf32> {moe.name = "dw"}) {
  %part = dist.reduce_scatter %dw over ["fsdp"] : tensor<256xf32> -> tensor<128xf32>
  // expected-error @+1 {{'moe.gradient' op for @w over "fsdp": stores a part in @w, of which the ranks hold copies; gather it (dist.all_gather), or divide the state}}
  moe.gradient @w, %part : tensor<128xf32>
  return
}

// -----

// A parameter and its moments, cut in different ways into parts of one size.

#experts = #dist.sharding<dim 0 over ["ep"]>
#flat = #dist.sharding<flat over ["ep"]>
dist.mesh @mesh <["ep"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #flat} from "w"
moe.state @w.exp_avg : tensor<256xf32> {kind = moment, of = @w, sharding = #experts}
func.func @optimizer_step(%x: tensor<f32> {moe.name = "x"}, %apply: tensor<i32> {moe.name = "apply"}) {
  %w = moe.read @w : tensor<128xf32>
  %m = moe.read @w.exp_avg : tensor<128xf32>
  // expected-error @+1 {{'moe.adamw' op for @w over "ep": brings together @w.exp_avg, cut along dimension 0, and @w, cut flat: they are parts of different elements; divide both states alike}}
  %p, %n, %u = moe.adamw %w, %m, %m, %m times %x if %apply rate %x betas %x, %x
      epsilon %x weight_decay %x step %x : tensor<128xf32>, tensor<128xf32>, tensor<128xf32>
  moe.write @w, %p : tensor<128xf32>
  return
}

// -----

// The largest norm of a part instead of the norm of all.

#dense = #dist.sharding<flat over ["ep"]>
dist.mesh @mesh <["ep"=2]>
moe.state @a : tensor<256xf32> {kind = parameter, sharding = #dense} from "a"
moe.state @a.grad : tensor<256xf32> {kind = gradient, of = @a, sharding = #dense}
// expected-error @+1 {{'func.func' op for the result "grad_norm" over "ep": it is made of what was gathered, or is the maximum over ranks, for a sum over ranks; use dist.all_reduce with a sum}}
func.func @optimizer_step(%x: tensor<f32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "grad_norm"}) {
  %ga = moe.read @a.grad : tensor<128xf32>
  %sa = moe.sum_of_squares %ga : tensor<128xf32>
  %largest = dist.all_reduce %sa over ["ep"] reduction max : tensor<f32>
  %norm, %coefficient, %apply = moe.clip %largest to %x
  return %norm : tensor<f32>
}

// -----

// The largest statistics instead of those of all ranks.

dist.mesh @mesh <["ep"=2]>
// expected-error @+1 {{'func.func' op for the result "loss" over "ep": it is made of what was gathered, or is the maximum over ranks, but terms of a sum over ranks are expected; use dist.all_reduce with a sum}}
func.func @evaluate(%statistics: tensor<4x2x8xf32> {moe.name = "statistics"},
                    %aux_weights: tensor<4xf32> {moe.name = "aux_weights",
                                                 dist.replicated = #dist.axes<["ep"]>})
    -> (tensor<f32> {moe.name = "loss"}) {
  %largest = dist.all_reduce %statistics over ["ep"] reduction max : tensor<4x2x8xf32>
  %share = moe.scale %aux_weights by 0.5 : tensor<4xf32>
  %loss, %counts = moe.load_balance_loss %share, %largest top_k 2 : tensor<4xf32>, tensor<4x2x8xf32>
  return %loss : tensor<f32>
}
