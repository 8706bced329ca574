#!/usr/bin/env python3
"""Times torch._grouped_mm on one GPU in the experts' products, bfloat16, on the very groups that moe-bench grouped-gemm has.

    forward   [T k, K] by [E, N, K]   -> [T k, N]
    dgrad     [T k, N] by [E, N, K]   -> [T k, K]
    wgrad     [T k, N] and [T k, K]   -> [E, N, K]
    dense     [T k, K] by [N, K]      -> [T k, N], torch's linear

for gate_up (N = 2 F, K = D) and down (N = D, K = F) of each shape T,D,F,E,k.

    bench/peers/grouped_mm.py [--shapes 16384,4096,14336,8,2 ...] [--model NAME ... --tokens T ...] [--routing NAME ...]
                              [--cases forward,dgrad,wgrad,dense] [--json FILE]
"""
import report
import shapes
import torch

SHAPES = [f"{tokens},{dims}" for dims in ("4096,14336,8,2", "2048,1024,64,8", "2048,768,128,8")
          for tokens in (4096, 16384)]


def run(args, name, shape, output):
    tokens, width, ffn, experts, top_k = shape
    device, _ = report.device()
    torch.manual_seed(0)
    rows = tokens * top_k
    random = lambda scale, *dims: scale * torch.randn(*dims, device=device, dtype=torch.bfloat16)
    for matrix, n, k in (("gate_up", 2 * ffn, width), ("down", width, ffn)):
        x, dy, w = random(1, rows, k), random(1, rows, n), random(0.02, experts, n, k)

        def add(case, run, **more):
            times = report.kernel_times(run, args.warmup, args.steps)
            output.add(f"grouped_gemm {name} {matrix} {case}", times, flops=2 * rows * n * k, **more)
        for routing in args.routing:
            sizes = shapes.group_sizes(tokens, experts, top_k, routing)
            ends = torch.tensor(sizes, device=device).cumsum(0).to(torch.int32)
            runs = {"forward": lambda: torch._grouped_mm(x, w.transpose(1, 2), offs=ends),
                    "dgrad": lambda: torch._grouped_mm(dy, w, offs=ends),
                    "wgrad": lambda: torch._grouped_mm(dy.t(), x, offs=ends)}
            for case in (case for case in runs if case in args.cases):
                add(f"{routing} {case}", runs[case], group_sizes=sizes)
        if "dense" in args.cases:
            add("dense", lambda: torch.nn.functional.linear(x, w[0]))


def add_flags(parser):
    shapes.add_flags(parser)
    parser.add_argument("--routing", nargs="+", default=["random"], choices=shapes.ROUTINGS)


def main():
    args = report.arguments(__doc__.splitlines()[0], ["forward", "dgrad", "wgrad", "dense"], 15, 5, add_flags)
    output = report.Report("torch", args.json)
    for name, shape in shapes.chosen(args, SHAPES).items():
        with output.case(f"grouped_gemm {name}"):
            run(args, name, shape, output)
    return 1 if output.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
