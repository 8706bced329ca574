#!/usr/bin/env python3
"""Times training steps of transformers on one GPU: Mixtral's dimensions with 4 layers, bfloat16, AdamW, clipping.

The fastest that transformers has: grouped_mm experts, sdpa attention, torch.compile, fused AdamW. Cases, as BATCH x TOKENS x
ACCUMULATION:

    alpaca-1x256x16     one record of 256 tokens at a time, 16 times
    alpaca-16x256x1     the same tokens as one batch
    alpaca-real-16x1    16 records of the lengths in --lengths, padded to the longest; tokens/s counts real ones
    alpaca-real-1x16    the same records one at a time, without padding
    long-4x4096x1       4 rows of 4,096 tokens

    bench/peers/transformers_step.py [--cases long-4x4096x1,...] [--eager] [--json FILE]

Compiling takes longer than timing, and torch keeps what it compiled (TORCHINDUCTOR_CACHE_DIR, TRITON_CACHE_DIR): with
--compile-only cases can be compiled at the same time, then timed one after the other.
"""
import gc
import pathlib

import report
import torch

CASES = {"alpaca-1x256x16": (1, 256, 16), "alpaca-16x256x1": (16, 256, 1), "alpaca-real-16x1": (16, 0, 1),
         "alpaca-real-1x16": (1, 0, 16), "long-4x4096x1": (4, 4096, 1)}
MIXTRAL = dict(hidden_size=4096, intermediate_size=14336, num_attention_heads=32, num_key_value_heads=8,
               num_local_experts=8, num_experts_per_tok=2, vocab_size=32000, max_position_embeddings=4096)
TINY = dict(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2,
            num_local_experts=4, num_experts_per_tok=2, vocab_size=512, max_position_embeddings=4096)


def flags(parser):
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--compile-only", action="store_true", help="fill torch.compile's caches; time nothing")
    parser.add_argument("--tiny", action="store_true", help="a toy's dimensions, to try the script on any machine")
    parser.add_argument("--lengths", default=str(pathlib.Path(__file__).parent.parent / "alpaca-lengths.txt"),
                        help="tokens of the records, separated by white space (%(default)s)")


def read_lengths(path):
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    return [int(word) for line in lines if not line.startswith("#") for word in line.split()]


def create(args, device):
    from transformers import MixtralConfig, MixtralForCausalLM
    config = MixtralConfig(num_hidden_layers=args.layers, output_router_logits=True, **(TINY if args.tiny else MIXTRAL))
    config._attn_implementation = "sdpa"
    config._experts_implementation = "grouped_mm"
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = MixtralForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model.train()


def active_parameters(config):
    """Parameters that one token's forward pass multiplies with, as a plan counts them."""
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    attention = width * head * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    experts = config.num_experts_per_tok * 3 * config.intermediate_size * width
    return config.num_hidden_layers * (attention + experts + config.num_local_experts * width) + config.vocab_size * width


def step_flops(config, lengths):
    """6 for each active parameter and token, and 12 for each pair of tokens that attention's causal mask leaves."""
    pairs = sum(n * (n + 1) // 2 for n in lengths)
    return 6 * active_parameters(config) * sum(lengths) + 12 * pairs * config.hidden_size * config.num_hidden_layers


def micro_batches(config, lengths, batch, device):
    """The records as model inputs, `batch` at a time; rows are padded to the longest of theirs."""
    result = []
    for begin in range(0, len(lengths), batch):
        rows = lengths[begin:begin + batch]
        width = max(rows)
        ids = torch.randint(0, config.vocab_size, (len(rows), width), device=device)
        inputs = {"input_ids": ids, "labels": ids}
        if min(rows) < width:
            mask = torch.arange(width, device=device) < torch.tensor(rows, device=device)[:, None]
            inputs = {"input_ids": ids, "labels": ids.masked_fill(~mask, -100), "attention_mask": mask.long()}
        result.append(inputs)
    return result


def run(args, case, output):
    batch, tokens, accumulation = CASES[case]
    device, _ = report.device()
    model = create(args, device)
    if args.compile_only:
        args.warmup, args.steps = 0, 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, eps=1e-8, weight_decay=0.01, fused=True)
    forward = model if args.eager else torch.compile(model)
    count = batch * accumulation
    lengths = [tokens] * count * args.steps if tokens else read_lengths(args.lengths)
    steps = [lengths[i * count:(i + 1) * count] for i in range(args.steps)]
    data = [micro_batches(model.config, step, batch, device) for step in steps]  # taken in turn, in the warm-up too
    for inputs in (inputs for step in data for inputs in step):
        if not tokens and not args.eager:
            for tensor in inputs.values():
                torch._dynamo.maybe_mark_dynamic(tensor, 1)

    def step(i):
        for inputs in data[i % args.steps]:
            (forward(**inputs, use_cache=False).loss / accumulation).backward()
            if args.compile_only:
                return
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    times = report.step_times(step, args.warmup, args.steps)
    if args.compile_only:
        return
    timed = [steps[i % args.steps] for i in range(args.warmup, args.warmup + args.steps)]
    output.add(f"step {case}", times, tokens=[sum(step) for step in timed],
               flops=[step_flops(model.config, step) for step in timed], memory=report.peak_bytes())


def main():
    args = report.arguments(__doc__.splitlines()[0], list(CASES), 5, 2, flags)
    output = report.Report("transformers" + (" eager" if args.eager else ""), args.json)
    for case in args.cases:
        with output.case(f"step {case}"):
            run(args, case, output)
        gc.collect()
    return 1 if output.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
