#!/usr/bin/env python3
"""Times NCCL's collectives by themselves, through torch.distributed, on the bytes that a layer of Mixtral-8x7B moves.

    torchrun --nproc-per-node N bench/peers/torch_collectives.py [--json FILE]

Cases, in bfloat16:

    all_to_all-4096x2       the token exchange of a layer: T x k rows of the hidden size on each rank, evenly to all ranks
    all_to_all-16384x2
    all_gather-experts      the experts' parameters of a layer; and their gradients
    reduce_scatter-experts
    all_gather-dense        the other parameters of a layer
    reduce_scatter-dense

ms is that of the rank that comes last, as the others' time holds their waiting; bytes is what a rank sends to others in a ring,
bus_gb_per_second as nccl-tests'.
"""
import statistics

import report
import torch
import torch.distributed as dist

WIDTH, INNER, EXPERTS = 4096, 14336, 8
DENSE = WIDTH * (2 * 4096 + 2 * 1024)  # attention's projections
SIZES = {"all_to_all-4096x2": 4096 * 2 * WIDTH, "all_to_all-16384x2": 16384 * 2 * WIDTH,
         "all_gather-experts": EXPERTS * 3 * WIDTH * INNER, "reduce_scatter-experts": EXPERTS * 3 * WIDTH * INNER,
         "all_gather-dense": DENSE, "reduce_scatter-dense": DENSE}


def flags(parser):
    parser.add_argument("--tiny", action="store_true", help="a thousandth of the sizes, to try the script on any machine")


def call_of(case, elements, device):
    """A function that does the collective, on `elements` elements of the whole."""
    whole = torch.randn(elements, device=device, dtype=torch.bfloat16)
    kind = case.partition("-")[0]
    if kind == "all_to_all":
        received = torch.empty_like(whole)
        return lambda: dist.all_to_all_single(received, whole)
    part = torch.randn(elements // dist.get_world_size(), device=device, dtype=torch.bfloat16)
    if kind == "all_gather":
        return lambda: dist.all_gather_into_tensor(whole, part)
    return lambda: dist.reduce_scatter_tensor(part, whole)


def run(args, case, device, output):
    ranks = dist.get_world_size()
    elements = (SIZES[case] // 1000 if args.tiny else SIZES[case]) // ranks * ranks
    times = report.kernel_times(call_of(case, elements, device), args.warmup, args.steps)
    last = torch.tensor(times, device=device, dtype=torch.float64)
    dist.all_reduce(last, op=dist.ReduceOp.MIN)
    times = last.tolist()
    sent = 2 * elements * (ranks - 1) // ranks
    output.add(f"collective {case}", times, ranks=ranks, bytes=sent,
               bus_gb_per_second=sent / statistics.median(times) / 1e6)


def main():
    args = report.arguments(__doc__.splitlines()[0], list(SIZES), 10, 3, flags)
    device = report.join_ranks()
    is_first = dist.get_rank() == 0
    output = report.Report("nccl" if device == "cuda" else "gloo", args.json if is_first else "", quiet=not is_first)
    for case in args.cases:
        with output.case(f"collective {case}"):
            run(args, case, device, output)
    report.leave_ranks()
    return 1 if output.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
