#!/usr/bin/env python3
"""Times one MoE layer of a peer on one GPU: router, top-k, experts, combine.

    bench/peers/moe_layer.py [--shapes 16384,4096,14336,8,2 ...] [--model NAME ... --tokens T ...] [--cases compiled,sonicmoe] [--json FILE]

`compiled` and `eager` are transformers with experts by grouped_mm, `sonicmoe` is SonicMoE (arXiv 2512.14080,
github.com/Dao-AILab/sonic-moe), which has to be where Python finds it, with quack and nvidia-cutlass-dsl in the versions that its
requirements.txt names.

bfloat16, random weights, forward alone and forward with all gradients, which take turns. A shape is T,D,F,E,K: tokens, hidden
size, expert size, experts, experts of a token. TFLOP/s count the experts alone, 6 T D F K forward and 18 with the gradients;
`backward` is what the gradients add to the forward, by runs behind each other. `error` is how far y is from that of
transformers' layer, the norm of the difference over its norm.
"""
import types

import report
import shapes
import torch
import torch.nn.functional as F

SHAPES = ["16384,4096,14336,8,2", "32768,2048,1024,64,8", "24576,1536,256,128,8"]


def transformers_layer(x, router, gate_up, down, top_k):
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


def sonicmoe_layer(x, router, gate_up, down, top_k):
    """The same, where rows of gate and up are in turn in gate_up."""
    from sonicmoe.enums import ActivationType
    from sonicmoe.functional import moe_TC_softmax_topk_layer
    stream = torch.cuda.current_stream().cuda_stream
    return moe_TC_softmax_topk_layer(x, router, gate_up.permute(1, 2, 0), None, down.permute(1, 2, 0), None, top_k, stream,
                                     ActivationType.SWIGLU, False)[0]


CASES = {  # what --cases says -> what figures say, the layer
    "compiled": ("transformers", torch.compile(transformers_layer)), "eager": ("transformers eager", transformers_layer),
    "sonicmoe": ("SonicMoE", sonicmoe_layer)}


def run(args, name, shape, function, output):
    tokens, width, ffn, experts, top_k = shape
    device, _ = report.device()
    torch.manual_seed(0)
    random = lambda scale, *dims: (scale * torch.randn(*dims, device=device)).bfloat16().requires_grad_()
    x, router, gate_up, down = inputs = [random(0.2, tokens, width), random(0.02, experts, width),
                                         random(0.02, experts, 2 * ffn, width), random(0.02, experts, width, ffn)]
    gradient = (0.2 * torch.randn(tokens, width, device=device)).bfloat16()
    with torch.no_grad():
        gate_first = torch.cat([gate_up[:, 0::2], gate_up[:, 1::2]], 1) if function is sonicmoe_layer else gate_up
        expected = transformers_layer(x, router, gate_first, down, top_k).float()
        error = ((function(*inputs, top_k) - expected).norm() / expected.norm()).item()
        del gate_first, expected
    if error > 0.05:
        raise RuntimeError(f"the result is not that of transformers' layer: relative error {error:.3g}")

    def forward():
        return function(*inputs, top_k)

    def both():
        torch.autograd.grad(forward(), inputs, gradient)
    both()
    report.synchronize()
    cuda = torch.cuda.is_available()
    before = torch.cuda.memory_allocated() if cuda else 0
    result = forward()
    report.synchronize()
    # What backward needs, as moe-bench counts it: with x, without y.
    kept = torch.cuda.memory_allocated() - before - result.nbytes + x.nbytes if cuda else 0
    del result
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    forward_times, all_times = report.times_in_turn([forward, both], args.warmup, args.steps)
    flops = 6 * tokens * width * ffn * top_k
    output.add(f"layer {name} forward", forward_times, tokens=tokens, flops=flops, kept_bytes=kept, error=error)
    output.add(f"layer {name} forward+backward", all_times, tokens=tokens, flops=3 * flops, memory=report.peak_bytes())
    backward_times = [whole - part for part, whole in zip(forward_times, all_times)]
    output.add(f"layer {name} backward", backward_times, flops=2 * flops)


def main():
    args = report.arguments(__doc__.splitlines()[0], ["compiled", "eager"], 30, 10, shapes.add_flags, list(CASES))
    failed = 0
    for case in args.cases:
        program, function = CASES[case]
        output = report.Report(program, args.json)
        for name, shape in shapes.chosen(args, SHAPES).items():
            with output.case(f"layer {name}"):
                run(args, name, shape, function, output)
        failed += output.failed
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
