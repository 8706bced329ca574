#!/usr/bin/env python3
"""Times torch._grouped_mm on one GPU in the experts' products, bfloat16, random routing.

    forward   [T k, K] by [E, N, K]   -> [T k, N]
    dgrad     [T k, N] by [E, N, K]   -> [T k, K]
    wgrad     [T k, N] and [T k, K]   -> [E, N, K]

for gate_up (N = 2 F, K = D) and down (N = D, K = F) of each shape T,D,F,E,k.

    bench/peers/grouped_mm.py [--shapes 16384,4096,14336,8,2 ...] [--cases forward,dgrad,wgrad] [--json FILE]
"""
import report
import torch

SHAPES = [f"{tokens},{dims}" for dims in ("4096,14336,8,2", "2048,1024,64,8", "2048,768,128,8")
          for tokens in (4096, 16384)]


def run(args, shape, output):
    tokens, width, ffn, experts, top_k = (int(word) for word in shape.split(","))
    device, _ = report.device()
    torch.manual_seed(0)
    rows = tokens * top_k
    chosen = torch.rand(tokens, experts, device=device).topk(top_k, -1).indices.flatten()
    ends = torch.bincount(chosen, minlength=experts).cumsum(0).to(torch.int32)
    random = lambda *dims: torch.randn(*dims, device=device, dtype=torch.bfloat16)
    for name, n, k in (("gate_up", 2 * ffn, width), ("down", width, ffn)):
        x, dy, w = random(rows, k), random(rows, n), random(experts, n, k)
        runs = {"forward": lambda: torch._grouped_mm(x, w.transpose(1, 2), offs=ends),
                "dgrad": lambda: torch._grouped_mm(dy, w, offs=ends),
                "wgrad": lambda: torch._grouped_mm(dy.t(), x, offs=ends)}
        for case in args.cases:
            times = report.kernel_times(runs[case], args.warmup, args.steps)
            output.add(f"grouped_gemm {shape} {name} {case}", times, flops=2 * rows * n * k)


def main():
    args = report.arguments(__doc__.splitlines()[0], ["forward", "dgrad", "wgrad"], 15, 5,
                            lambda parser: parser.add_argument("--shapes", nargs="+", default=SHAPES,
                                                               metavar="T,D,F,E,k"))
    output = report.Report("torch", args.json)
    for shape in args.shapes:
        with output.case(f"grouped_gemm {shape}"):
            run(args, shape, output)
    return 1 if output.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
