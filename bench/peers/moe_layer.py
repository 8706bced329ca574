#!/usr/bin/env python3
"""Times one MoE layer of transformers on one GPU, compiled: router, top-k, experts by grouped_mm, combine.

bfloat16, random weights, forward alone and forward with all gradients. A shape is T,D,F,E,K: tokens, hidden size, expert
size, experts, experts of a token. TFLOP/s count the experts alone, 6 T D F K forward and 18 with the gradients; `backward`
is what the gradients add to the forward.

    bench/peers/moe_layer.py [--shapes 16384,4096,14336,8,2 ...] [--model NAME ... --tokens T ...] [--cases compiled,eager] [--json FILE]
"""
import types

import report
import shapes
import torch
import torch.nn.functional as F

SHAPES = ["16384,4096,14336,8,2", "32768,2048,1024,64,8", "24576,1536,256,128,8"]


def layer(x, router, gate_up, down, top_k):
    """[T, D] as MixtralSparseMoeBlock computes it: softmax over all experts, the top_k renormalized."""
    from transformers.integrations.moe import grouped_mm_experts_forward
    weights, experts = F.softmax(F.linear(x, router), -1, dtype=torch.float32).topk(top_k, -1)
    weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)

    def gate(h):
        g, u = h.chunk(2, -1)
        return F.silu(g) * u
    module = types.SimpleNamespace(num_experts=gate_up.shape[0], has_gate=True, has_bias=False, is_transposed=False,
                                   gate_up_proj=gate_up, down_proj=down, _apply_gate=gate)
    return grouped_mm_experts_forward(module, x, experts, weights)


def run(args, name, shape, compiled, output):
    tokens, width, ffn, experts, top_k = shape
    device, _ = report.device()
    torch.manual_seed(0)
    random = lambda scale, *dims: (scale * torch.randn(*dims, device=device)).bfloat16().requires_grad_()
    inputs = [random(0.2, tokens, width), random(0.02, experts, width), random(0.02, experts, 2 * ffn, width),
              random(0.02, experts, width, ffn)]
    gradient = (0.2 * torch.randn(tokens, width, device=device)).bfloat16()
    function = torch.compile(layer) if compiled else layer

    def both():
        torch.autograd.grad(function(*inputs, top_k), inputs, gradient)
    both()
    report.synchronize()
    cuda = torch.cuda.is_available()
    before = torch.cuda.memory_allocated() if cuda else 0
    result = function(*inputs, top_k)
    report.synchronize()
    # What backward needs, as moe-bench counts it: with x, without y.
    kept = torch.cuda.memory_allocated() - before - result.nbytes + inputs[0].nbytes if cuda else 0
    del result
    forward = report.kernel_times(lambda: function(*inputs, top_k), args.warmup, args.steps)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    all_times = report.kernel_times(both, args.warmup, args.steps)
    flops = 6 * tokens * width * ffn * top_k
    output.add(f"layer {name} forward", forward, tokens=tokens, flops=flops, kept_bytes=kept)
    output.add(f"layer {name} forward+backward", all_times, tokens=tokens, flops=3 * flops, memory=report.peak_bytes())
    middle = lambda times: sorted(times)[len(times) // 2]
    backward = middle(all_times) - middle(forward)
    output.add(f"layer {name} backward", [backward], flops=2 * flops)


def main():
    args = report.arguments(__doc__.splitlines()[0], ["compiled", "eager"], 30, 10, shapes.add_flags)
    failed = 0
    for case in args.cases:
        output = report.Report("transformers" + (" eager" if case == "eager" else ""), args.json)
        for name, shape in shapes.chosen(args, SHAPES).items():
            with output.case(f"layer {name}"):
                run(args, name, shape, case == "compiled", output)
        failed += output.failed
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
