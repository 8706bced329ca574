//===-- The passes, one per .cpp; docs/passes.md is generated from this file -----------------------------------===//

#ifndef SWITCHYARD_PASSES
#define SWITCHYARD_PASSES

include "passes/DistributionPasses.td"
include "passes/FusionPasses.td"
include "mlir/Pass/PassBase.td"

def LowerExperts : Pass<"lower-experts", "::mlir::ModuleOp"> {
  let summary = "Decompose moe.experts into its dropless grouped form";
  let description = [{
    Every slot (token, choice) gets one row, rows stand sorted by expert, and the group sizes are data on the device: no
    token is dropped and no shape depends on the routing. What the IR looks like does not depend on the number of experts.

    Before:

    ```mlir
    %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
        : tensor<?x64xf32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>,
          tensor<8x224x64xf32>, tensor<8x64x112xf32>
    ```

    After:

    ```mlir
    %group_sizes, %row_of_slot = moe.sort_by_expert %experts num_experts 8 : tensor<?x2xi32, #moe.rows<"T">>
    %rows = moe.permute %x, %row_of_slot : tensor<?x64xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
    %gate_up_rows = moe.grouped_gemm %rows, %gate_up, %group_sizes
        : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<8x224x64xf32>, tensor<8xi32>
    %hidden = moe.gated_activation %gate_up_rows activation "silu" : tensor<?x224xf32, #moe.rows<2 * "T">>
    %down_rows = moe.grouped_gemm %hidden, %down, %group_sizes
        : tensor<?x112xf32, #moe.rows<2 * "T">>, tensor<8x64x112xf32>, tensor<8xi32>
    %y = moe.unpermute %down_rows, %weights, %row_of_slot : tensor<?x64xf32, #moe.rows<2 * "T">>,
        tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
    ```
  }];
  let dependentDialects = ["::switchyard::moe::MoEDialect"];
}

def Differentiate : Pass<"differentiate", "::mlir::ModuleOp"> {
  let summary = "Make @micro_step out of @evaluate: the same values and the gradient of the loss by every parameter";
  let description = [{
    Clones `@evaluate` and walks its block backwards from the result named `loss`. Each op that a cotangent reaches gives its
    vector-Jacobian product through DifferentiableOpInterface; cotangents that meet are added. Those that arrive at a
    parameter's `moe.read`s are left as `moe.gradient`, in float32, right behind the first op that uses the parameter, so
    that it can be accumulated and freed before the walk goes on. Gradients are sums: nothing divides by ranks or steps.

    Refused: a module without `@evaluate` or that has `@micro_step` already, an op on the way from the loss to a parameter
    that has no product, and a parameter that the loss does not depend on.

    Before:

    ```mlir
    func.func @evaluate(...) -> (tensor<f32> {moe.name = "loss"}) {
      %w = moe.read @w : tensor<512x64xf32>
      %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 256 : ...
      return %loss
    }
    ```

    After, beside `@evaluate`:

    ```mlir
    func.func @micro_step(...) -> (tensor<f32> {moe.name = "loss"}) {
      %w = moe.read @w : tensor<512x64xf32>
      %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 256 : ...
      %one = moe.constant 1.0 : tensor<f32>
      %loss_again, %dx, %dw = moe.linear_cross_entropy_grad %x, %w, %labels, %loss_weights, %one chunk_rows 256 : ...
      moe.gradient @w, %dw : tensor<512x64xf32>
      return %loss
    }
    ```

    (`canonicalize` then drops the forward op: the gradient yields the same loss.)
  }];
  let dependentDialects = ["::switchyard::moe::MoEDialect", "::mlir::func::FuncDialect"];
}

def Accumulate : Pass<"accumulate", "::mlir::ModuleOp"> {
  let summary = "Declare the gradient states and add every moe.gradient to its own";
  let description = [{
    A step runs `@micro_step` once per pass over accumulators that start at zero. The accumulators are float32, or bfloat16
    under the precision policy `bf16` (`moe.model`'s `precision`; float32 where it says nothing).

    Before:

    ```mlir
    moe.state @w : tensor<512x64xf32> {kind = parameter} from "lm_head.weight"
    func.func @micro_step(...) {
      moe.gradient @w, %dw : tensor<512x64xf32>
    ```

    After:

    ```mlir
    moe.state @w : tensor<512x64xf32> {kind = parameter} from "lm_head.weight"
    moe.state @w.grad : tensor<512x64xf32> {kind = gradient, of = @w}
    func.func @micro_step(...) {
      %sum = moe.read @w.grad : tensor<512x64xf32>
      %new = moe.accumulate %sum, %dw : tensor<512x64xf32>, tensor<512x64xf32>
      moe.write @w.grad, %new : tensor<512x64xf32>
    ```

    On many ranks a gradient is reduced over ranks first, in elements of the accumulator's type, and its accumulator is
    divided like the parameter. If
    `moe.model` has `sync_each_batch = false`, the reduction is put off instead: each rank accumulates its own gradients,
    whole where they are summed into shards, and the chain of collectives stands at the head of `@optimizer_step`, once a
    step. There `moe.gradient` leaves its result for `optimizer`.

    Before:

    ```mlir
    moe.state @w : tensor<512x64xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
    func.func @micro_step(...) {
      %shard = dist.reduce_scatter %dw over ["fsdp"] : tensor<512x64xf32> -> tensor<16384xf32>
      %sum = dist.all_reduce %shard over ["dp"] : tensor<16384xf32>
      moe.gradient @w, %sum : tensor<16384xf32>
    ```

    After, with `sync_each_batch = false`:

    ```mlir
    moe.state @w.grad : tensor<512x64xf32> {kind = gradient, of = @w}
    func.func @micro_step(...) {
      %sum = moe.read @w.grad : tensor<512x64xf32>
      %new = moe.accumulate %sum, %dw : tensor<512x64xf32>, tensor<512x64xf32>
      moe.write @w.grad, %new : tensor<512x64xf32>
    }
    func.func @optimizer_step() {
      %own = moe.read @w.grad : tensor<512x64xf32>
      %shard = dist.reduce_scatter %own over ["fsdp"] : tensor<512x64xf32> -> tensor<16384xf32>
      %sum = dist.all_reduce %shard over ["dp"] : tensor<16384xf32>
      moe.gradient @w, %sum : tensor<16384xf32>
      return
    }
    ```

    If `moe.model` has `step_program = "fused"`, a step is one pass and nothing is accumulated: no states are declared, and
    `moe.gradient` is left for `optimizer`, with elements of the type that an accumulator would have. They are rounded where
    they are made, or before they are reduced, so they are the bits that an accumulator has which starts at zero.
  }];
  let dependentDialects = ["::switchyard::moe::MoEDialect", "::switchyard::dist::DistDialect",
      "::mlir::func::FuncDialect"];
}

def Optimizer : Pass<"optimizer", "::mlir::ModuleOp"> {
  let summary = "Build @optimizer_step, or the end of @train_step: global norm, clip, AdamW for every parameter";
  let description = [{
    Declares what AdamW keeps (`NAME.exp_avg`, `NAME.exp_avg_sq`; with the precision policy `bf16_f32_state` also
    `NAME.master`, the float32 value of the parameter) and builds the one program that writes them. The norm is over every
    parameter once, in the order of their declaration. What a user tunes is an input. Moments are bfloat16 under `bf16`, else
    float32. A parameter decays where its state says `decay`.

    On many ranks each updates its own shards. The sums of squares of gradients that are divided over the same axes are
    added up and then summed over those axes, so the norm is that of all gradients, the same on all ranks. A
    gradient that `accumulate` left at the head of `@optimizer_step` is taken from there.

    If `moe.model` has `step_program = "fused"`, all of this goes to the end of `@micro_step`, which becomes `@train_step`:
    its inputs and results are those of both. A gradient's squares are summed where it is made; it is a value of the
    program and no state, and stays marked by `moe.gradient`.

    Before:

    ```mlir
    moe.state @w : tensor<512x64xf32> {kind = parameter, decay = true} from "lm_head.weight"
    moe.state @w.grad : tensor<512x64xf32> {kind = gradient, of = @w}
    ```

    After, beside the new states:

    ```mlir
    func.func @optimizer_step(%learning_rate: tensor<f32> {moe.name = "learning_rate"}, ..., %step: tensor<f32> {moe.name = "step"})
        -> (tensor<f32> {moe.name = "grad_norm"}, tensor<i32> {moe.name = "apply"}) {
      %grad = moe.read @w.grad : tensor<512x64xf32>
      %square = moe.sum_of_squares %grad : tensor<512x64xf32>
      %sum = moe.sum %square
      %grad_norm, %coefficient, %apply = moe.clip %sum to %max_grad_norm
      %w = moe.read @w : tensor<512x64xf32>
      %m = moe.read @w.exp_avg : tensor<512x64xf32>
      %v = moe.read @w.exp_avg_sq : tensor<512x64xf32>
      %new_w, %new_m, %new_v = moe.adamw %w, %m, %v, %grad times %coefficient if %apply rate %learning_rate
          betas %beta1, %beta2 epsilon %epsilon weight_decay %weight_decay step %step decay true : ...
      moe.write @w, %new_w : tensor<512x64xf32>
      moe.write @w.exp_avg, %new_m : tensor<512x64xf32>
      moe.write @w.exp_avg_sq, %new_v : tensor<512x64xf32>
      return %grad_norm, %apply
    }
    ```
  }];
  let dependentDialects = ["::switchyard::moe::MoEDialect", "::switchyard::dist::DistDialect",
      "::mlir::func::FuncDialect"];
}

def Recompute : Pass<"recompute", "::mlir::ModuleOp"> {
  let summary = "Compute again what is cheap to compute, instead of keeping it for the backward direction";
  let description = [{
    `what=cheap`: where a result of an op that only moves memory (RecomputableOpInterface: norms, permutations of rows,
    activations) is used before the first gradient is done and behind it, and the op's operands are there behind it anyway,
    the op is copied to before the first of the later uses, which all take the copy's result. The values are the same
    bits, the memory of those in between is free, and each copy takes about as long as its kernel did. `what=none`
    changes nothing.

    It runs behind `cse`, which would merge the copies again.

    Before:

    ```mlir
    %hidden = moe.gated_activation %gate_up activation "silu" : tensor<?x96xf32, #moe.rows<2 * "T">>
    %rows = moe.grouped_gemm %hidden, %down, %sizes : ...
    ...
    moe.gradient @lm_head, %dlm_head : tensor<512x64xf32>
    ...
    %ddown = moe.grouped_gemm_wgrad %drows, %hidden, %sizes : ...
    %dgate_up = moe.gated_activation_grad %dhidden, %gate_up activation "silu" : ...
    ```

    After:

    ```mlir
    %hidden = moe.gated_activation %gate_up activation "silu" : tensor<?x96xf32, #moe.rows<2 * "T">>
    %rows = moe.grouped_gemm %hidden, %down, %sizes : ...
    ...
    moe.gradient @lm_head, %dlm_head : tensor<512x64xf32>
    ...
    %again = moe.gated_activation %gate_up activation "silu" : tensor<?x96xf32, #moe.rows<2 * "T">>
    %ddown = moe.grouped_gemm_wgrad %drows, %again, %sizes : ...
    %dgate_up = moe.gated_activation_grad %dhidden, %gate_up activation "silu" : ...
    ```
  }];
  let options = [Option<"what", "what", "std::string", "\"none\"",
      "What is computed again: none, or cheap (norms, permutations, activations)">];
  let dependentDialects = ["::switchyard::moe::MoEDialect"];
}

def VerifyGradientReduction : Pass<"verify-gradient-reduction", "::mlir::ModuleOp"> {
  let summary = "Prove that every gradient is summed exactly once over every axis of the mesh on which its tokens differ";
  let description = [{
    A dataflow over `@evaluate`, `@micro_step` and `@optimizer_step`, or `@train_step`, after the types of JAX's shard_map: along each axis of
    the mesh, a value is the same on all ranks, a copy of one state, a rank's own, a part, or a share of a sum (the lattice
    is in AxisKinds.h, the rules in AxisFlow.h, the rationale in dialects/dist/README.md). It follows that

    - every parameter's gradient is summed once over every axis, by the `dist.reduce_scatter` or `dist.all_reduce` that its
      state asks for, in `@micro_step` or `@train_step`, or at the head of `@optimizer_step`;
    - the parts that are updated are the parts that were reduced, and copies of a state get the same update;
    - the norm counts each part of each gradient once;
    - a term of the loss that n ranks have alike is weighted 1/n;
    - tokens that were sent are returned before they meet those that stayed, in the loops for rows that overflow as well.

    Refused, by parameter, axis and op, is a module of which this does not follow. It stays as it is, and so does one
    without `dist.mesh`.

    ```mlir
    %shard = moe.read @norm : tensor<128xf32>                                    // flat over "fsdp", copies over "dp"
    %w = dist.all_gather %shard over ["fsdp"] : tensor<128xf32> -> tensor<64xf32>
    %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<?x64xf32, #moe.rows<"T">>, tensor<64xf32>
    // error: 'moe.rms_norm' op for @norm over "dp": uses @norm, of which the ranks hold copies, beside the input "x", which
    // is each rank's own: nothing would sum its gradient; put dist.replicate over ["dp"] behind the moe.read
    ```
  }];
}

def ToPlan : Pass<"to-plan", "::mlir::ModuleOp"> {
  let summary = "Turn functions over tensors into programs of kernel launches over buffers";
  let description = [{
    Each op becomes one `plan.launch` of the kernel with its name, operands and attributes in the order of the kernel's
    signature. `moe.read` gives the state's own memory. A returned value is computed in the io buffer of its name, and one
    that is written to a state in the state's memory, if nothing still reads what is there; a tied result overwrites its
    operand if that is dead after the op (a state only on the way to its own `moe.write`, after every other read of it).
    Whatever is left is an explicit `plan.copy`.

    A collective of the dist dialect becomes a `plan.collective`; `dist.replicate` is its operand. Buffers have the local
    types, and those of tensors that are gathered from flat shards or summed into them a `reserve` for the padding.
    `dist.rounds` becomes a `plan.repeat` in which carried values are updated in place; `dist.overflow_rounds` leaves nothing,
    for a repeat counts by itself. A constant is made anew for each use. `moe.gradient` leaves nothing where the program
    itself writes the parameter.

    Refused: an op without a kernel, more than one block, an argument or result without a name, rounds with another count.

    Before:

    ```mlir
    func.func @double(%x: tensor<4xf32> {moe.name = "x"}) -> (tensor<4xf32> {moe.name = "y"}) {
      %y = moe.scale %x by 2.0 : tensor<4xf32>
      return %y : tensor<4xf32>
    }
    ```

    After:

    ```mlir
    plan.program @double {
      %0 = plan.buffer io input "x" : tensor<4xf32>
      %1 = plan.buffer io output "y" : tensor<4xf32>
      plan.launch "scale" ins(%0 : !plan.buffer<tensor<4xf32>>) outs(%1 : !plan.buffer<tensor<4xf32>>) {factor = 2.0 : f64}
    }
    ```
  }];
  let options = [
    Option<"target", "target", "std::string", "\"cpu\"",
        "What the plan runs on, cpu or cuda; workspaces are sized for it">,
    Option<"threads", "threads", "int32_t", "1",
        "Worker threads that a rank on a CPU has at most; workspaces are sized by it">,
  ];
  let dependentDialects = ["::switchyard::plan::PlanDialect"];
}

def AssignAddresses : Pass<"assign-addresses", "::mlir::ModuleOp"> {
  let summary = "Give each state and buffer its address and certify the peak";
  let description = [{
    States lie one after the other in the state arena, ports in the io arena. Transient buffers and workspaces share
    memory when they never live at the same time, and an elementwise result takes over its operand's where the signature
    allows it; an `all_reduce` is in place likewise. With `memory`, the bound of a symbol that has a `minimum` is lowered to
    the largest multiple of 64 at which the peak fits; symbols that follow T are lowered with it.

    A state has the size of a rank's part, and memory the size of what is reserved, if that is more. What a `plan.repeat` names
    lives for all its rounds, but for buffers that each round overwrites first and nothing else names. Lives follow the order
    of the list, also across streams: `insert-waits`, which runs later, orders what shares memory.

    Before:

    ```mlir
    %0 = plan.buffer transient : tensor<?x64xf32, #moe.rows<"T">>
    ```

    After, and the module has `plan.arenas` and `plan.peak`:

    ```mlir
    %0 = plan.buffer transient at 4096 : tensor<?x64xf32, #moe.rows<"T">>
    ```
  }];
  let options = [Option<"memory", "memory", "int64_t", "0",
      "Bytes of memory that symbols with a minimum are lowered to fit; 0: their bounds stand">];
  let dependentDialects = ["::switchyard::plan::PlanDialect"];
}

def VerifyMemory : Pass<"verify-memory", "::mlir::ModuleOp"> {
  let summary = "Refuse a plan whose peak is more than the device's memory";
  let description = [{
    Compares `plan.peak` with `memory` and, where it is more, fails with the size of each arena and what to change. The
    module stays as it is.
  }];
  let options = [Option<"memory", "memory", "int64_t", "0", "Bytes of memory there are; 0: no limit">];
}

include "passes/SchedulePasses.td"

#endif // SWITCHYARD_PASSES
