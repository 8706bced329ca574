#!/usr/bin/env python3
"""Times training steps of transformers with FSDP2 on several GPUs: Mixtral's dimensions, bfloat16, AdamW, clipping.

    torchrun --nproc-per-node N bench/peers/transformers_fsdp.py [--layers L] [--cases long-4x4096x1,...] [--eager] [--json FILE]

fully_shard on each decoder layer and on the model, its defaults: a layer's parameters are gathered before its forward and again
before its backward, gradients are reduced in each micro-batch. Else as transformers_step.py: grouped_mm experts, sdpa attention,
fused AdamW; each layer's forward is compiled by torch.compile, unless --eager. Cases are BATCH x TOKENS x ACCUMULATION of a GPU:

    long-4x4096x1       4 rows of 4,096 tokens
    alpaca-16x256x1     16 records of 256 tokens as one batch
    alpaca-1x256x16     the same one record at a time, 16 times

tokens_per_second counts the tokens of all ranks; peak_bytes is that of the rank that needs most. Where there is no GPU the ranks
are processes that talk by gloo.
"""
import gc

import report
import torch
import torch.distributed as dist
import transformers_step as single
from torch.distributed.fsdp import fully_shard

CASES = {name: single.CASES[name] for name in ("long-4x4096x1", "alpaca-16x256x1", "alpaca-1x256x16")}


def flags(parser):
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--tiny", action="store_true", help="a toy's dimensions and rows, to try the script on any machine")


def create(args, device):
    """The model, divided over the ranks before it takes memory; each rank fills its own part."""
    from transformers import MixtralConfig, MixtralForCausalLM
    config = MixtralConfig(num_hidden_layers=args.layers, output_router_logits=True,
                           **(single.TINY if args.tiny else single.MIXTRAL))
    config._attn_implementation = "sdpa"
    config._experts_implementation = "grouped_mm"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = MixtralForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    model.to_empty(device=device)
    torch.manual_seed(dist.get_rank())
    with torch.no_grad():
        for parameter in model.parameters():
            local = parameter.to_local()
            local.fill_(1) if parameter.dim() == 1 else local.normal_(0, 0.02)
    with torch.device(device):  # to_empty left its frequencies undefined
        model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    if not args.eager:
        for layer in model.model.layers:
            layer.forward = torch.compile(layer.forward, dynamic=False)
    return model.train()


def run(args, case, model, optimizer, device, output):
    batch, tokens, accumulation = CASES[case]
    tokens = min(tokens, 64) if args.tiny else tokens
    lengths = [tokens] * batch * accumulation
    data = single.micro_batches(model.config, lengths, batch, device)
    losses = []

    def step(_):
        for inputs in data:
            loss = model(**inputs, use_cache=False).loss / accumulation
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss)

    times = report.step_times(step, args.warmup, args.steps)
    if not torch.isfinite(losses[-1]):
        raise RuntimeError(f"the loss is {losses[-1].item()}")
    memory = torch.tensor(report.peak_bytes() or 0, device=device)
    dist.all_reduce(memory, op=dist.ReduceOp.MAX)
    ranks = dist.get_world_size()
    output.add(f"step {case}", times, tokens=ranks * sum(lengths), flops=ranks * single.step_flops(model.config, lengths),
               memory=memory.item() or None, ranks=ranks, mesh=f"fsdp={ranks}")


def main():
    args = report.arguments(__doc__.splitlines()[0], list(CASES), 3, 2, flags)
    device = report.join_ranks()
    is_first = dist.get_rank() == 0
    output = report.Report("transformers fsdp" + (" eager" if args.eager else ""), args.json if is_first else "",
                           quiet=not is_first)
    model = optimizer = None
    for case in args.cases:
        failed = output.failed
        with output.case(f"step {case}"):
            if model is None:
                model = create(args, device)
                optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, eps=1e-8, weight_decay=0.01, fused=True)
            run(args, case, model, optimizer, device, output)
        if output.failed > failed:  # on all ranks, as it is memory as a rule; the model may be half gathered
            model = optimizer = None
            gc.collect()
    report.leave_ranks()
    return 1 if output.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
