#!/usr/bin/env python3
"""Times a training step of a checkpoint on the CPU: moe-run beside transformers, in one run.

Both train the same records in the same order (one record per micro-batch) with the same number of threads.
transformers runs with sdpa attention and grouped_mm experts. Prints the median step time of each and their ratio, for
float32 and bfloat16. Needs torch, transformers and a built moe-run:

    test/benchmark/cpu_step.py --model DIR --data alpaca.json --tokenizer tokenizer.model \
        --bin build/release/bin [--threads 2] [--steps 12] [--warmup 2]
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--bin", required=True, help="folder of moe-run and moe-compile")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro-batches", type=int, default=16)
    parser.add_argument("--max-seq-length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=2)
    return parser.parse_args()


def ours(args, precision):
    """Step times of moe-run in seconds, read from its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        plan = f"{folder}/step.plan"
        subprocess.run(
            [f"{args.bin}/moe-compile", args.model, "-o", plan, "--precision", precision,
             "--gradient-accumulation-steps", str(args.micro_batches),
             "--max-seq-length", str(args.max_seq_length), "--threads", str(args.threads)],
            check=True, stdout=subprocess.DEVNULL)
        subprocess.run(
            [f"{args.bin}/moe-run", "train", "--plan", plan, "--model", args.model, "--data", args.data,
             "--tokenizer", args.tokenizer, "--output-dir", f"{folder}/out", "--max-steps", str(args.steps),
             "--learning-rate", "1e-3", "--threads", str(args.threads)],
            check=True, stdout=subprocess.DEVNULL)
        lines = (pathlib.Path(folder) / "out" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step_time"] for line in lines]


def records(args):
    """Token ids and labels of the records, as moe-run makes them."""
    import sentencepiece
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=args.tokenizer)
    with_input = ("Below is an instruction that describes a task, paired with an input that provides further context. "
                  "Write a response that appropriately completes the request.\n\n"
                  "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:")
    without = ("Below is an instruction that describes a task. Write a response that appropriately completes the "
               "request.\n\n### Instruction:\n{instruction}\n\n### Response:")
    result = []
    for record in json.load(open(args.data))[: args.steps * args.micro_batches]:
        prompt = (with_input if record.get("input") else without).format(**record)
        ids = [tokenizer.bos_id()] + tokenizer.encode(prompt + " " + record["output"]) + [tokenizer.eos_id()]
        masked = 1 + len(tokenizer.encode(prompt))
        ids = ids[: args.max_seq_length]
        result.append((ids, ([-100] * masked + ids[masked:])[: len(ids)]))
    return result


def theirs(args, precision):
    """Step times of transformers in seconds."""
    import torch
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(args.threads)
    dtype = torch.float32 if precision == "f32" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(
        args.model, dtype=dtype, attn_implementation="sdpa", experts_implementation="grouped_mm").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    data, times = records(args), []
    for step in range(args.steps):
        start = time.perf_counter()
        for ids, labels in data[step * args.micro_batches: (step + 1) * args.micro_batches]:
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]), use_cache=False).loss
            (loss / args.micro_batches).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    return times


def main():
    args = arguments()
    print(f"{args.steps - args.warmup} steps after {args.warmup} of warm-up, {args.micro_batches} records a step, "
          f"{args.threads} threads; seconds per step: median (min to max)")
    for precision in ("f32", "bf16"):
        mine, peer = (times[args.warmup:] for times in (ours(args, precision), theirs(args, precision)))
        for name, times in (("switchyard", mine), ("transformers", peer)):
            print(f"{precision:5} {name:13} {statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f})")
        print(f"{precision:5} ratio         {statistics.median(peer) / statistics.median(mine):.2f}x", flush=True)


if __name__ == "__main__":
    main()
