//===-- The passes that bring a model onto many ranks; part of Passes.td -----------------------------------------===//

#ifndef SWITCHYARD_DISTRIBUTIONPASSES
#define SWITCHYARD_DISTRIBUTIONPASSES

include "mlir/Pass/PassBase.td"

class DistributionPass<string flag> : Pass<flag, "::mlir::ModuleOp"> {
  let dependentDialects = ["::switchyard::dist::DistDialect", "::switchyard::moe::MoEDialect"];
}

def DeclareMesh : DistributionPass<"declare-mesh"> {
  let summary = "Declare the ranks that the programs run on";
  let description = [{
    From here on each rank runs the programs on its own tokens, and what they yield is summed over ranks. Axes of size 1
    are left out; where that leaves none, and where the option is not given, the module stays one for one rank, or for the
    mesh that it declares itself.

    If `moe.model` has `aux_loss_scope = "pass"`, the statistics of the load-balancing loss are summed over all ranks. Each
    rank then computes the same loss and the same counts, so it yields one n-th of them; the weights, which the host gives
    all ranks alike, say so (`dist.replicated`).

    Refused: sizes below 1, other axes, an axis twice, more than 65536 ranks, a second mesh.

    Before, with `mesh=fsdp=2,ep=4` and the scope `pass`:

    ```mlir
    %loss, %counts = moe.load_balance_loss %aux_weights, %s top_k 2 : tensor<?xf32, #moe.rows<"M">>,
        tensor<?x2x8xf32, #moe.rows<"M">>
    ```

    After:

    ```mlir
    dist.mesh @mesh <["fsdp"=2, "ep"=4]>
    %sum = dist.all_reduce %s over ["fsdp", "ep"] : tensor<?x2x8xf32, #moe.rows<"M">>
    %share = moe.scale %aux_weights by 1.250000e-01 : tensor<?xf32, #moe.rows<"M">>
    %loss, %counts_of_all = moe.load_balance_loss %share, %sum top_k 2 : ...
    %counts = moe.scale %counts_of_all by 1.250000e-01 : tensor<1x8xf32>
    ```
  }];
  let options = [Option<"mesh", "mesh", "std::string", "\"\"",
      "Sizes of the axes dp, fsdp and ep, as fsdp=2,ep=4; none: one rank">];
}

def InsertExpertSharding : DistributionPass<"insert-expert-sharding"> {
  let summary = "Divide experts over the axis ep";
  let description = [{
    The states that are weights of a `moe.experts` are divided along dimension 0. Every program reads its part and gathers
    the whole, so it means what it meant; `insert-token-exchange` then takes the parts. Without a mesh that has "ep"
    nothing changes.

    Refused: experts that the size of "ep" does not divide, weights that are not states, states that are divided already
    or that gradients or moments belong to.

    Before:

    ```mlir
    moe.state @down : tensor<8x64x96xf32> {kind = parameter} from "down"
    %down = moe.read @down : tensor<8x64x96xf32>
    %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu" : ...
    ```

    After, with "ep"=4:

    ```mlir
    moe.state @down : tensor<8x64x96xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "down"
    %part = moe.read @down : tensor<2x64x96xf32>
    %down = dist.all_gather %part over ["ep"] : tensor<2x64x96xf32> -> tensor<8x64x96xf32>
    %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu" : ...
    ```
  }];
}

def InsertFsdp : DistributionPass<"insert-fsdp"> {
  let summary = "Divide every parameter into flat shards and gather it before its first use";
  let description = [{
    A parameter is divided flat over those of the axes "fsdp" and "ep" that the mesh has, experts that are divided over
    "ep" only over "fsdp". A program reads a state once, right before its first use. What is read is the same along "dp",
    on ranks with different tokens, so it passes through a `dist.replicate` over "dp": its gradient is summed there. Without
    a mesh nothing changes.

    Refused: states that are divided flat already or that gradients or moments belong to, programs of several blocks.

    Before:

    ```mlir
    dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=4]>
    moe.state @w : tensor<512x64xf32> {kind = parameter} from "w"
    moe.state @down : tensor<8x64x96xf32> {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"]>} from "down"
    %w = moe.read @w : tensor<512x64xf32>
    %part = moe.read @down : tensor<2x64x96xf32>
    ```

    After:

    ```mlir
    moe.state @w : tensor<512x64xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp", "ep"]>} from "w"
    moe.state @down : tensor<8x64x96xf32>
        {kind = parameter, sharding = #dist.sharding<dim 0 over ["ep"], flat over ["fsdp"]>} from "down"
    %w_shard = moe.read @w : tensor<4096xf32>
    %w_one = dist.replicate %w_shard over ["dp"] : tensor<4096xf32>
    %w = dist.all_gather %w_one over ["fsdp", "ep"] : tensor<4096xf32> -> tensor<512x64xf32>
    %down_shard = moe.read @down : tensor<6144xf32>
    %down_one = dist.replicate %down_shard over ["dp"] : tensor<6144xf32>
    %part = dist.all_gather %down_one over ["fsdp"] : tensor<6144xf32> -> tensor<2x64x96xf32>
    ```
  }];
}

def InsertTokenExchange : DistributionPass<"insert-token-exchange"> {
  let summary = "Send tokens to the ranks of their experts instead of gathering experts";
  let description = [{
    A `moe.experts` whose weights are gathered over "ep" becomes: rows sorted by expert, the counts of all ranks of the
    group, an exchange, the grouped form of the rank's own experts on what arrived, the way back, and the weighted sum in
    top-k order. No token is dropped, and the memory does not depend on the routing: in one round a rank receives at most R
    rows, and `dist.rounds` takes those that are left, usually none.

    Declares R, which follows T. With k choices per token, evenly routed tokens of all ranks make k * T rows on each; R is
    `slot-factor` times as many, but no more than all rows of the group. A `moe.experts` whose weights are not divided is left to
    `lower-experts`.

    Refused: weights of which one is divided and one is not, tokens whose number is not T, a slot factor that is not above
    0 and at most 65536, the name @R taken.

    Before:

    ```mlir
    %gate_up = dist.all_gather %gate_up_part over ["ep"] : tensor<2x192x64xf32> -> tensor<8x192x64xf32>
    %down = dist.all_gather %down_part over ["ep"] : tensor<2x64x96xf32> -> tensor<8x64x96xf32>
    %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu" : ...
    ```

    After:

    ```mlir
    moe.symbol @R {bound = 16384 : i64, rows_per_token = 4.000000e+00 : f64}
    %counts, %row_of_slot = moe.sort_by_expert %experts num_experts 8 : tensor<?x2xi32, #moe.rows<"T">>
    %rows = moe.permute %x, %row_of_slot : ...
    %all_counts = dist.all_gather %counts over ["ep"] : tensor<8xi32> -> tensor<4x8xi32>
    %received, %group_sizes = dist.token_exchange %rows, %all_counts over ["ep"] : ...
    %gate_up_rows = moe.grouped_gemm %received, %gate_up_part, %group_sizes : ...
    %hidden = moe.gated_activation %gate_up_rows activation "silu" : ...
    %down_rows = moe.grouped_gemm %hidden, %down_part, %group_sizes : ...
    %returned = dist.token_return %down_rows, %all_counts over ["ep"] : ...
    %count = dist.overflow_rounds %all_counts : tensor<4x8xi32>
    %all = dist.rounds %round of %count on host over ["ep"] carry(%sum = %returned : ...) with(...) {
      ... the same, of round %round, into %sum
    }
    %y = moe.unpermute %all, %weights, %row_of_slot : ...
    ```
  }];
  let options = [Option<"slotFactor", "slot-factor", "double", "2.0",
      "Rows that a rank can receive in one round, as a multiple of what even routing sends it">];
}

#endif // SWITCHYARD_DISTRIBUTIONPASSES
