//===-- Passes over plan programs: in what order, on which streams and behind what instructions run -----------===//

#ifndef SWITCHYARD_SCHEDULE_PASSES
#define SWITCHYARD_SCHEDULE_PASSES

include "mlir/Pass/PassBase.td"

def ReshardAfterForward : Pass<"reshard-after-forward", "::mlir::ModuleOp"> {
  let summary = "Gather a layer's states again for the backward direction, instead of keeping them";
  let description = [{
    A tensor that is gathered from a state and was last used before a gather for another layer is gathered into a fresh
    buffer right before its next use. So what is gathered lives while a layer is computed, not from the forward to the
    backward direction: memory for one more gather. The layer is the state's; states without one count as one layer.

    A gathered tensor that something else writes too is left, and so is one whose state the program has written by then.
    `enable=false` leaves all. The passes up to insert-waits leave a module without a `dist.mesh` as it is.

    Refused: a program that has addresses or events already.

    Before:

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%shard0 : ...) outs(%w0 : ...)
    plan.launch "linear" ins(%x, %w0 : ...) outs(%y : ...) {}
    plan.collective all_gather over ["fsdp"] ins(%shard1 : ...) outs(%w1 : ...)
    plan.launch "linear" ins(%y, %w1 : ...) outs(%z : ...) {}
    plan.launch "linear_grad_x" ins(%w0, %dy : ...) outs(%dx : ...) {}
    ```

    After:

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%shard0 : ...) outs(%w0 : ...)
    plan.launch "linear" ins(%x, %w0 : ...) outs(%y : ...) {}
    plan.collective all_gather over ["fsdp"] ins(%shard1 : ...) outs(%w1 : ...)
    plan.launch "linear" ins(%y, %w1 : ...) outs(%z : ...) {}
    plan.collective all_gather over ["fsdp"] ins(%shard0 : ...) outs(%again : ...)
    plan.launch "linear_grad_x" ins(%again, %dy : ...) outs(%dx : ...) {}
    ```
  }];
  let options = [Option<"enable", "enable", "bool", "true",
      "Gather again; false keeps what is gathered, for less communication and more memory">];
  let dependentDialects = ["::switchyard::plan::PlanDialect"];
}

def BucketCollectives : Pass<"bucket-collectives", "::mlir::ModuleOp"> {
  let summary = "Join a layer's collectives into grouped calls";
  let description = [{
    Gathers of states that follow each other, are of one layer and over the same axes become one op with a list of pairs, at
    the place of the first; nothing is copied together. Reductions (reduce_scatter, all_reduce) are held back, together
    with the launches that only add their results to states or make a scalar of them, and those of one kind over the same axes become one op, at
    the place of the last: until something else needs a result or overwrites what is still to be reduced, until a
    reduction for another layer comes, or until `bucket-bytes` of whole tensors are held back. A reduction belongs to
    the layer of the state that it reads or that its result ends up in; one without such a state, as of a router's
    statistics, joins any.

    Memory bounds the delay: what is gathered early and what is reduced late lives longer, at most by the smaller of one
    layer's tensors and `bucket-bytes` per op. A tensor that is larger has an op of its own, where it stood.

    Refused: a program that has addresses or events already, a negative number of bytes.

    Before:

    ```mlir
    plan.collective reduce_scatter over ["fsdp"] ins(%da : ...) outs(%dashard : ...)
    plan.launch "accumulate" ins(%dashard : ...) updates(%a.grad : ...) {}
    plan.launch "linear_grad_w" ins(%x, %dy : ...) outs(%db : ...) {}
    plan.collective reduce_scatter over ["fsdp"] ins(%db : ...) outs(%dbshard : ...)
    plan.launch "accumulate" ins(%dbshard : ...) updates(%b.grad : ...) {}
    ```

    After:

    ```mlir
    plan.launch "linear_grad_w" ins(%x, %dy : ...) outs(%db : ...) {}
    plan.collective reduce_scatter over ["fsdp"] ins(%da, %db : ...) outs(%dashard, %dbshard : ...)
    plan.launch "accumulate" ins(%dashard : ...) updates(%a.grad : ...) {}
    plan.launch "accumulate" ins(%dbshard : ...) updates(%b.grad : ...) {}
    ```
  }];
  let options = [Option<"bucketBytes", "bucket-bytes", "int64_t", "134217728",
      "Bytes of whole tensors that one op gathers or reduces at most, unless one alone is larger; 0: join nothing">];
  let dependentDialects = ["::switchyard::plan::PlanDialect"];
}

def PrefetchGathers : Pass<"prefetch-gathers", "::mlir::ModuleOp"> {
  let summary = "Issue the gathers of a layer's states under the compute of the layer before";
  let description = [{
    Gathers of states of one layer that follow each other are a unit. A unit moves up to right behind the first use of the
    unit `depth` before it, forward and backward alike, but never past a write to what it gathers or another use of the
    buffer that it fills. Units stay in their order. Memory holds the gathered tensors of `depth` more layers.

    Reductions stay: their results are waited for where they are used.

    Refused: a program that has addresses or events already, a negative depth.

    Before:

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%shard0 : ...) outs(%w0 : ...)
    plan.launch "linear" ins(%x, %w0 : ...) outs(%h : ...) {}
    plan.launch "rms_norm" ins(%h, %norm : ...) outs(%y : ...) {eps = 1.0e-05}
    plan.collective all_gather over ["fsdp"] ins(%shard1 : ...) outs(%w1 : ...)
    plan.launch "linear" ins(%y, %w1 : ...) outs(%z : ...) {}
    ```

    After:

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%shard0 : ...) outs(%w0 : ...)
    plan.launch "linear" ins(%x, %w0 : ...) outs(%h : ...) {}
    plan.collective all_gather over ["fsdp"] ins(%shard1 : ...) outs(%w1 : ...)
    plan.launch "rms_norm" ins(%h, %norm : ...) outs(%y : ...) {eps = 1.0e-05}
    plan.launch "linear" ins(%y, %w1 : ...) outs(%z : ...) {}
    ```
  }];
  let options = [Option<"depth", "depth", "int64_t", "1",
      "How many layers ahead gathers are issued; 0: none">];
  let dependentDialects = ["::switchyard::plan::PlanDialect"];
}

def AssignStreams : Pass<"assign-streams", "::mlir::ModuleOp"> {
  let summary = "Put each instruction on a stream";
  let description = [{
    - 0 computes. Token exchanges are here too, and the gather of their counts: what they send was computed just before and
      what they get is used right behind, so a stream of their own would only add two waits each.
    - 1 gathers states.
    - 2 reduces (reduce_scatter, all_reduce), and adds what was reduced to states or makes a scalar of it (its sum of
      squares) where that takes nothing else, so that the stream that computes does not wait for a gradient.

    The body of a repeat is on the repeat's stream.

    Refused: a program that has addresses or events already.

    Before:

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%shard : ...) outs(%w : ...)
    plan.launch "linear_grad_w" ins(%x, %dy : ...) outs(%dw : ...) {}
    plan.collective reduce_scatter over ["fsdp"] ins(%dw : ...) outs(%dshard : ...)
    plan.launch "accumulate" ins(%dshard : ...) updates(%w.grad : ...) {}
    ```

    After:

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%shard : ...) outs(%w : ...) stream 1
    plan.launch "linear_grad_w" ins(%x, %dy : ...) outs(%dw : ...) {}
    plan.collective reduce_scatter over ["fsdp"] ins(%dw : ...) outs(%dshard : ...) stream 2
    plan.launch "accumulate" ins(%dshard : ...) updates(%w.grad : ...) {} stream 2
    ```
  }];
  let dependentDialects = ["::switchyard::plan::PlanDialect"];
}

def InsertWaits : Pass<"insert-waits", "::mlir::ModuleOp"> {
  let summary = "Order instructions on different streams by events";
  let description = [{
    An instruction that touches bytes that one on another stream wrote, or writes bytes that it read, waits for it, so memory
    that is used again is waited for as well. Sizes are those at the symbols' bounds, with the reserve. Each op in which
    ranks meet waits for the one before it: each rank is in a group of both. A repeat counts as one instruction that
    does what its body does.

    Waits are the fewest that do: none for what a stream is behind already, or gets behind by another wait. An event is
    recorded right behind the instruction, once for all that wait for it.

    Refused: a program without addresses, or with events.

    Before:

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%shard : ...) outs(%w : ...) stream 1
    plan.launch "linear" ins(%x, %w : ...) outs(%y : ...) {}
    ```

    After:

    ```mlir
    plan.collective all_gather over ["fsdp"] ins(%shard : ...) outs(%w : ...) stream 1
    %gathered = plan.record stream 1
    plan.wait %gathered
    plan.launch "linear" ins(%x, %w : ...) outs(%y : ...) {}
    ```
  }];
  let dependentDialects = ["::switchyard::plan::PlanDialect"];
}

def VerifyCollectiveOrder : Pass<"verify-collective-order", "::mlir::ModuleOp"> {
  let summary = "Refuse a program in which instructions race or ranks could wait for each other forever";
  let description = [{
    Proves of each program, from its streams, events and addresses alone:

    - Any two instructions that touch the same bytes, one of them writing, are ordered: on one stream, or by events.
    - Any two collectives are ordered, likewise. A rank is in a group of each of them, so two without an order could be
      started in another order by another rank.
    - The number of rounds of a repeat, and the rows that a token exchange moves, come from counts that an all_gather over
      exactly its axes has written and nothing has overwritten, so all ranks of a group have the same. The collectives of
      a repeat's body are over its axes or some of them, and in its round.
    - Events are waited for, on another stream, and not inside a repeat, whose body is on one stream.

    The module stays as it is. A diagnostic names the program, both instructions with axes and streams, the bytes, and what
    to change. For two instructions without an order, it says which event was meant to give one.
  }];
}

#endif // SWITCHYARD_SCHEDULE_PASSES
