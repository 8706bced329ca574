// RUN: moe-opt %s --verify-gradient-reduction --split-input-file --verify-diagnostics

// @train_step: its tokens are each rank's own, what a user tunes is the same on all ranks, and from the gradients on, which
// moe.gradient marks, the ranks have to agree.

dist.mesh @mesh <["dp"=2, "fsdp"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
func.func @train_step(%dw: tensor<256xf32> {moe.name = "dw"},
                      %max: tensor<f32> {moe.name = "max_grad_norm", dist.replicated = #dist.axes<["dp", "fsdp"]>})
    -> (tensor<f32> {moe.name = "loss"}, tensor<f32> {moe.name = "grad_norm"}) {
  %loss = moe.sum_of_squares %dw : tensor<256xf32>
  %part = dist.reduce_scatter %dw over ["fsdp"] : tensor<256xf32> -> tensor<128xf32>
  %total = dist.all_reduce %part over ["dp"] : tensor<128xf32>
  moe.gradient @w, %total : tensor<128xf32>
  %square = moe.sum_of_squares %total : tensor<128xf32>
  %sum = dist.all_reduce %square over ["fsdp"] : tensor<f32>
  %norm, %coefficient, %apply = moe.clip %sum to %max
  %w = moe.read @w : tensor<128xf32>
  %new = moe.accumulate %w, %total : tensor<128xf32>, tensor<128xf32>
  moe.write @w, %new : tensor<128xf32>
  return %loss, %norm : tensor<f32>, tensor<f32>
}

// -----

// A dropped reduce.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @train_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  // expected-error @+1 {{'moe.gradient' op for @w over "dp": the gradient is each rank's own: its sum over ["dp"] is missing; make it (dist.all_reduce)}}
  moe.gradient @w, %dw : tensor<4xf32>
  %w = moe.read @w : tensor<4xf32>
  %new = moe.accumulate %w, %dw : tensor<4xf32>, tensor<4xf32>
  moe.write @w, %new : tensor<4xf32>
  return
}

// -----

// The mark is on the sum, but the update takes a rank's own.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @train_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  %total = dist.all_reduce %dw over ["dp"] : tensor<4xf32>
  moe.gradient @w, %total : tensor<4xf32>
  %w = moe.read @w : tensor<4xf32>
  // expected-error @+1 {{'moe.accumulate' op for @w over "dp": adds @w, which is the same on all ranks, to the input "dw", which is each rank's own: the sum over ranks counts it 2 times; weight it by 1/n for the n ranks that have it (moe.scale)}}
  %new = moe.accumulate %w, %dw : tensor<4xf32>, tensor<4xf32>
  moe.write @w, %new : tensor<4xf32>
  return
}

// -----

// No mark.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
moe.state @w.exp_avg : tensor<4xf32> {kind = moment, of = @w}
func.func @train_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  %total = dist.all_reduce %dw over ["dp"] : tensor<4xf32>
  %m = moe.read @w.exp_avg : tensor<4xf32>
  %new = moe.accumulate %m, %total : tensor<4xf32>, tensor<4xf32>
  // expected-error @+1 {{'moe.write' op updates @w.exp_avg in @train_step, which has no gradient of @w; mark it (moe.gradient), or nothing proves that it is summed over ranks}}
  moe.write @w.exp_avg, %new : tensor<4xf32>
  return
}

// -----

// A mark behind a use.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<4xf32> {kind = parameter} from "w"
func.func @train_step(%dw: tensor<4xf32> {moe.name = "dw"}) {
  %total = dist.all_reduce %dw over ["dp"] : tensor<4xf32>
  // expected-error @+1 {{'moe.sum_of_squares' op uses the gradient of @w before moe.gradient marks it; put it behind, or it is not seen as a part of the update}}
  %square = moe.sum_of_squares %total : tensor<4xf32>
  moe.gradient @w, %total : tensor<4xf32>
  return
}

// -----

// The norm of a rank's own part only.

dist.mesh @mesh <["fsdp"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
// expected-error @+1 {{'func.func' op for the result "grad_norm" over "fsdp": it is each rank's own, but ranks have to agree on it; sum what it is computed from over ["fsdp"] (dist.all_reduce)}}
func.func @train_step(%dw: tensor<256xf32> {moe.name = "dw"},
                      %max: tensor<f32> {moe.name = "max_grad_norm", dist.replicated = #dist.axes<["fsdp"]>})
    -> (tensor<f32> {moe.name = "grad_norm"}) {
  %part = dist.reduce_scatter %dw over ["fsdp"] : tensor<256xf32> -> tensor<128xf32>
  moe.gradient @w, %part : tensor<128xf32>
  %square = moe.sum_of_squares %part : tensor<128xf32>
  %norm, %coefficient, %apply = moe.clip %square to %max
  return %norm : tensor<f32>
}

// -----

// The largest of the ranks' norms instead of the norm.

dist.mesh @mesh <["fsdp"=2]>
moe.state @w : tensor<256xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
// expected-error @+1 {{'func.func' op for the result "grad_norm" over "fsdp": it is made of what was gathered, or is the maximum over ranks, for a sum over ranks; use dist.all_reduce with a sum}}
func.func @train_step(%dw: tensor<256xf32> {moe.name = "dw"},
                      %max: tensor<f32> {moe.name = "max_grad_norm", dist.replicated = #dist.axes<["fsdp"]>})
    -> (tensor<f32> {moe.name = "grad_norm"}) {
  %part = dist.reduce_scatter %dw over ["fsdp"] : tensor<256xf32> -> tensor<128xf32>
  moe.gradient @w, %part : tensor<128xf32>
  %square = moe.sum_of_squares %part : tensor<128xf32>
  %largest = dist.all_reduce %square over ["fsdp"] reduction max : tensor<f32>
  %norm, %coefficient, %apply = moe.clip %largest to %max
  return %norm : tensor<f32>
}

// -----

// Squares that come with a gradient are a part of the update, too.

dist.mesh @mesh <["dp"=2]>
moe.state @w : tensor<3x4x6xf32> {kind = parameter} from "w"
func.func @train_step(%dy: tensor<5x4xf32> {moe.name = "dy", dist.replicated = #dist.axes<["dp"]>},
                      %x: tensor<5x6xf32> {moe.name = "x", dist.replicated = #dist.axes<["dp"]>},
                      %sizes: tensor<3xi32> {moe.name = "sizes", dist.replicated = #dist.axes<["dp"]>},
                      %max: tensor<f32> {moe.name = "max_grad_norm", dist.replicated = #dist.axes<["dp"]>})
    -> (tensor<f32> {moe.name = "grad_norm"}) {
  %dw, %square = moe.grouped_gemm_wgrad_squared %dy, %x, %sizes
      : tensor<5x4xf32>, tensor<5x6xf32>, tensor<3xi32> -> tensor<3x4x6xf32>
  moe.gradient @w, %dw : tensor<3x4x6xf32>
  %norm, %coefficient, %apply = moe.clip %square to %max
  return %norm : tensor<f32>
}

// -----

dist.mesh @mesh <["ep"=2]>
moe.state @w : tensor<6x4x6xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "w"
moe.state @rows : tensor<10x4xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "rows"
// expected-error @+1 {{'func.func' op for the result "grad_norm" over "ep": it is each rank's own, but ranks have to agree on it; sum what it is computed from over ["ep"] (dist.all_reduce)}}
func.func @train_step(%x: tensor<5x6xf32> {moe.name = "x", dist.replicated = #dist.axes<["ep"]>},
                      %sizes: tensor<3xi32> {moe.name = "sizes", dist.replicated = #dist.axes<["ep"]>},
                      %max: tensor<f32> {moe.name = "max_grad_norm", dist.replicated = #dist.axes<["ep"]>})
    -> (tensor<f32> {moe.name = "grad_norm"}) {
  %dy = moe.read @rows : tensor<5x4xf32>
  %dw, %square = moe.grouped_gemm_wgrad_squared %dy, %x, %sizes
      : tensor<5x4xf32>, tensor<5x6xf32>, tensor<3xi32> -> tensor<3x4x6xf32>
  moe.gradient @w, %dw : tensor<3x4x6xf32>
  %norm, %coefficient, %apply = moe.clip %square to %max
  return %norm : tensor<f32>
}

// -----

// A sum of a rank's rows and a share that waits to be summed is a term, as it is of moe.add.

dist.mesh @mesh <["dp"=2]>
func.func @evaluate(%rows: tensor<8x4xf32> {moe.name = "rows"}, %slots: tensor<4x2xi32> {moe.name = "slots"},
                    %x: tensor<4x4xf32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}) {
  %total = dist.all_reduce %x over ["dp"] : tensor<4x4xf32>
  %half = moe.scale %total by 0.5 : tensor<4x4xf32>
  %y = moe.permute_grad_add %rows, %slots, %half : tensor<8x4xf32>, tensor<4x2xi32>, tensor<4x4xf32>
  %twice = moe.add %y, %y : tensor<4x4xf32>
  // expected-error @+1 {{'moe.sum_of_squares' op for the result "loss" over "dp": uses the result of moe.add, a share that waits to be summed, in what is not known to be linear in it; sum it first (dist.all_reduce)}}
  %loss = moe.sum_of_squares %twice : tensor<4x4xf32>
  return %loss : tensor<f32>
}
