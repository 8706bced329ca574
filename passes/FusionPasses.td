//===-- Passes over tensor programs that give kernels what other kernels did ----------------------------------===//

#ifndef SWITCHYARD_FUSION_PASSES
#define SWITCHYARD_FUSION_PASSES

include "mlir/Pass/PassBase.td"

def Fuse : Pass<"fuse", "::mlir::ModuleOp"> {
  let summary = "Let kernels do on the way what other kernels would do to what they have just made";
  let description = [{
    `moe.grouped_gemm` and the `moe.gated_activation` that is the first to take its result become one op, and so do
    `moe.grouped_gemm_dgrad` and the `moe.gated_activation_grad` that alone takes its result. The latter makes the activated
    rows again: what took them behind it takes these, so that they need not be kept. The values are the same bits.

    It runs behind `recompute`. `enable=false` changes nothing.

    Before:

    ```mlir
    %gate_up = moe.grouped_gemm %rows, %w, %sizes : ...
    %hidden = moe.gated_activation %gate_up activation "silu" : tensor<?x192xf32, #moe.rows<2 * "T">>
    %down_rows = moe.grouped_gemm %hidden, %down, %sizes : ...
    ...
    %ddown = moe.grouped_gemm_wgrad %drows, %hidden, %sizes : ...
    %dhidden = moe.grouped_gemm_dgrad %drows, %down, %sizes : ...
    %dgate_up = moe.gated_activation_grad %dhidden, %gate_up activation "silu" : ...
    ```

    After:

    ```mlir
    %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : ...
    %down_rows = moe.grouped_gemm %hidden, %down, %sizes : ...
    ...
    %dgate_up, %again = moe.grouped_gemm_dgrad_gated %drows, %down, %sizes, %gate_up activation "silu" : ...
    %ddown = moe.grouped_gemm_wgrad %drows, %again, %sizes : ...
    ```
  }];
  let options = [Option<"enable", "enable", "bool", "true", "Whether to fuse at all">];
  let dependentDialects = ["::switchyard::moe::MoEDialect"];
}

def GatherRows : Pass<"gather-rows", "::mlir::ModuleOp"> {
  let summary = "Let the experts' products take tokens where they stand, and keep no copies of them";
  let description = [{
    Where `fuse` left a layer whose experts are on one rank, its products gather the tokens' rows by themselves:
    `moe.permute` goes, and so does `moe.unpermute_grad`, whose rows are those of the tokens' gradient by weight. The weights
    multiply what the products make, and their gradient is summed there too, so that the experts' results are not wanted
    behind `moe.unpermute`. What is kept for the backward direction is less by both. The forward direction gives the same
    bits; in the backward direction what a weight multiplies is rounded at another place (`moe.grouped_gemm_dgrad_gated_gather`).

    Gathering slows the gradients by weight. Where experts are wide, of more than 512 gated columns, that costs more than the
    rows do, so `moe.permute` makes those of the tokens, and of their gradient, in the backward direction, each just before
    the first product that takes them; they are not weighted, and what is kept is the same.

    It runs behind `fuse`. A layer of which anything is another way, such as one whose tokens are exchanged between ranks or
    that was not fused, stays as it is. `enable=false` changes nothing.

    Before:

    ```mlir
    %sizes, %row_of_slot = moe.sort_by_expert %experts num_experts 8 : ...
    %rows = moe.permute %x, %row_of_slot : ...
    %gate_up, %hidden = moe.grouped_gemm_gated %rows, %w, %sizes activation "silu" : ...
    %results = moe.grouped_gemm %hidden, %down, %sizes : ...
    %y = moe.unpermute %results, %weights, %row_of_slot : ...
    ...
    %drows, %dweights = moe.unpermute_grad %dy, %results, %weights, %row_of_slot : ...
    %dgate_up, %again = moe.grouped_gemm_dgrad_gated %drows, %down, %sizes, %gate_up activation "silu" : ...
    %ddown = moe.grouped_gemm_wgrad %drows, %again, %sizes : ...
    %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : ...
    ```

    After:

    ```mlir
    %sizes, %row_of_slot = moe.sort_by_expert %experts num_experts 8 : ...
    %token_of_row, %weight_of_row = moe.rows_of_tokens %row_of_slot, %weights : ...
    %gate_up, %hidden = moe.grouped_gemm_gated_gather %x, %token_of_row, %w, %sizes activation "silu" : ...
    %results = moe.grouped_gemm %hidden, %down, %sizes : ...
    %y = moe.unpermute %results, %weights, %row_of_slot : ...
    ...
    %dgate_up, %again, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot,
        %down, %sizes, %gate_up activation "silu" : ...
    %ddown = moe.grouped_gemm_wgrad_gather_dy %dy, %token_of_row, %again, %sizes : ...
    %dw = moe.grouped_gemm_wgrad_gather_x %dgate_up, %x, %token_of_row, %sizes : ...
    ```

    The backward direction of wide experts:

    ```mlir
    %dy_rows = moe.permute %dy, %row_of_slot : ...
    %dgate_up, %again, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy_rows, %weight_of_row, %row_of_slot, %down,
        %sizes, %gate_up activation "silu" : ...
    %ddown = moe.grouped_gemm_wgrad %dy_rows, %again, %sizes : ...
    %rows = moe.permute %x, %row_of_slot : ...
    %dw = moe.grouped_gemm_wgrad %dgate_up, %rows, %sizes : ...
    ```
  }];
  let options = [Option<"enable", "enable", "bool", "true", "Whether to gather at all">];
  let dependentDialects = ["::switchyard::moe::MoEDialect"];
}

def FuseAdd : Pass<"fuse-add", "::mlir::ModuleOp"> {
  let summary = "Let the kernels that sum a token's rows add what the sum is added to";
  let description = [{
    A `moe.add` and the `moe.unpermute` or `moe.permute_grad` of its block that makes one of its operands, and that nothing
    else takes, become one op in the place of the `moe.add`: forward a layer's input is added to what its experts make of
    it, backward the router's gradient to theirs. The sum is not stored, nor read again. The values are the same bits.

    Where both operands are such sums, the later one is fused. What a `dist.rounds` adds in its body stays, as it has to be
    seen to be a sum. It runs behind `gather-rows`, on any number of ranks. `enable=false` changes nothing.

    Before:

    ```mlir
    %sum = moe.unpermute %results, %weights, %row_of_slot : ...
    %y = moe.add %x, %sum : tensor<?x64xbf16, #moe.rows<"T">>
    ...
    %dx_experts = moe.permute_grad %drows, %row_of_slot : ...
    %dx_router = moe.linear_dgrad %dlogits, %router : ...
    %dx = moe.add %dx_experts, %dx_router : tensor<?x64xbf16, #moe.rows<"T">>
    ```

    After:

    ```mlir
    %y = moe.unpermute_add %results, %weights, %row_of_slot, %x : ...
    ...
    %dx_router = moe.linear_dgrad %dlogits, %router : ...
    %dx = moe.permute_grad_add %drows, %row_of_slot, %dx_router : ...
    ```
  }];
  let options = [Option<"enable", "enable", "bool", "true", "Whether to fuse at all">];
  let dependentDialects = ["::switchyard::moe::MoEDialect"];
}

def FuseNorm : Pass<"fuse-norm", "::mlir::ModuleOp"> {
  let summary = "Let the gradients of the experts' weights bring their parts of the norm";
  let description = [{
    A `moe.grouped_gemm_wgrad` and the one `moe.sum_of_squares` of its block that takes its result become one op, so that the
    gradient is not read again for the norm. The gradient is the same bits, its squares may be added in another order.

    It is for a step that is one program, on one rank: elsewhere what is squared is a state, or a sum over ranks. It runs
    behind `gather-rows`, and leaves the gradients by weight that gather as they are. `enable=false` changes nothing.

    Before:

    ```mlir
    %ddown = moe.grouped_gemm_wgrad %drows, %hidden, %sizes : ...
    moe.gradient @down, %ddown : tensor<8x64x96xbf16>
    %square = moe.sum_of_squares %ddown : tensor<8x64x96xbf16>
    ```

    After:

    ```mlir
    %ddown, %square = moe.grouped_gemm_wgrad_squared %drows, %hidden, %sizes : ...
    moe.gradient @down, %ddown : tensor<8x64x96xbf16>
    ```
  }];
  let options = [Option<"enable", "enable", "bool", "true", "Whether to fuse at all">];
  let dependentDialects = ["::switchyard::moe::MoEDialect"];
}

def FuseAccumulate : Pass<"fuse-accumulate", "::mlir::ModuleOp"> {
  let summary = "Let the gradients of the experts' weights add themselves to their accumulators";
  let description = [{
    Where a step takes several passes, a float32 `moe.grouped_gemm_wgrad`, or one that gathers, and the `moe.accumulate` that alone
    takes it become one op, so that the gradient is neither written nor read again, and needs no memory. Where a `dist.rounds` stands
    between them, the accumulator is what it carries: round 0 and each overflow round add to it. Without such rounds the accumulators
    are the same bits; with them, sums in float32 have another order, and narrower accumulators are rounded once a round, as they are
    once a pass.

    It runs behind `verify-gradient-reduction`, which follows both ops by themselves. `enable=false` changes nothing.

    Before:

    ```mlir
    %ddown = moe.grouped_gemm_wgrad %drows, %hidden, %sizes : ... -> tensor<8x64x96xf32>
    %sum = moe.read @down.grad : tensor<8x64x96xbf16>
    %updated = moe.accumulate %sum, %ddown : tensor<8x64x96xbf16>, tensor<8x64x96xf32>
    ```

    After:

    ```mlir
    %sum = moe.read @down.grad : tensor<8x64x96xbf16>
    %updated = moe.grouped_gemm_wgrad_accumulate %drows, %hidden, %sizes, %sum : ..., tensor<8x64x96xbf16>
    ```
  }];
  let options = [Option<"enable", "enable", "bool", "true", "Whether to fuse at all">];
  let dependentDialects = ["::switchyard::moe::MoEDialect"];
}

#endif // SWITCHYARD_FUSION_PASSES
