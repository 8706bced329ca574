"""How the peers time and what they print: a line for a person, and the same as a line of JSON.

A line of JSON has the keys that moe-bench writes, so that a case of ours and a case of theirs are compared by their
name: program, case, device, ranks, mesh, ms (median, min, max), runs, tokens_per_second, tflops, mfu, peak_bytes. What a case does
not have is left out.
"""
import argparse
import contextlib
import gc
import json
import os
import statistics
import sys
import time
import traceback

import torch

# Dense bfloat16 TFLOP/s by the vendors' data sheets, by a part of the device's name.
PEAK_TFLOPS = {"H200": 989.4, "H100 PCIe": 756.0, "H100": 989.4, "GH200": 989.4, "A100": 312.0}


def arguments(description, cases, steps, warmup, add=lambda parser: None, known=None):
    """The flags that all peers have; `cases` are the default of --cases, which chooses from `known` (default: the same)."""
    known = known or cases
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cases", default=",".join(cases),
                        help="comma-separated, of: " + ", ".join(known) + " (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=steps, help="timed runs of a case (%(default)s)")
    parser.add_argument("--warmup", type=int, default=warmup, help="runs before these (%(default)s)")
    parser.add_argument("--json", default="", help="append a line of JSON a case to this file")
    add(parser)
    args = parser.parse_args()
    args.cases = args.cases.split(",")
    for case in args.cases:
        if case not in known:
            parser.error(f"--cases: there is no {case!r}; known: {', '.join(known)}")
    if args.steps < 1 or args.warmup < 0:
        parser.error("--steps is at least 1, --warmup at least 0")
    return args


def device():
    """The device that the peers run on, "cuda" where there is one, and its name."""
    if torch.cuda.is_available():
        return "cuda", torch.cuda.get_device_name()
    return "cpu", "CPU"


def join_ranks():
    """Meets the other processes that torchrun started; this one's device. By gloo where there is no GPU."""
    import torch.distributed as dist
    if not torch.cuda.is_available():
        dist.init_process_group("gloo")
        return "cpu"
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl", device_id=torch.device("cuda", torch.cuda.current_device()))
    return "cuda"


def leave_ranks():
    import torch.distributed as dist
    synchronize()
    dist.barrier()
    dist.destroy_process_group()


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def step_times(step, warmup, steps):
    """Milliseconds by the host's clock of step(i) for the `steps` values of i behind `warmup`, each synchronized.

    Peak memory is measured from the end of the warm-up on.
    """
    for i in range(warmup):
        step(i)
    synchronize()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    times = []
    for i in range(warmup, warmup + steps):
        begin = time.perf_counter()
        step(i)
        synchronize()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def times_in_turn(runs, warmup, steps):
    """Milliseconds of each of `runs` between device events, other data read into the L2 cache before each.

    A run of one is followed by a run of the next, so that all meet the same clocks. The host never waits, so that no launch is
    waited for where the device takes longer than the host.
    """
    if not torch.cuda.is_available():
        times = step_times(lambda i: runs[i % len(runs)](), warmup * len(runs), steps * len(runs))
        return [times[i::len(runs)] for i in range(len(runs))]
    cache = torch.zeros(64 << 20, device="cuda")
    events = []
    for _ in range(warmup + steps):
        for run in runs:
            cache.sum()  # only read, so that nothing has to be written back while the run is timed
            events.append([torch.cuda.Event(enable_timing=True) for _ in range(2)])
            events[-1][0].record()
            run()
            events[-1][1].record()
    torch.cuda.synchronize()
    times = [begin.elapsed_time(end) for begin, end in events[warmup * len(runs):]]
    return [times[i::len(runs)] for i in range(len(runs))]


def kernel_times(run, warmup, steps):
    """times_in_turn() of one."""
    return times_in_turn([run], warmup, steps)[0]


def peak_bytes():
    """What torch's allocator held at most; without the context and the libraries."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


class Report:
    """Prints and appends what a script of a peer measured."""

    def __init__(self, program, path, quiet=False):
        """`quiet`: prints failures alone, as ranks but the first do."""
        self.program, self.path, self.quiet = program, path, quiet
        self.device = device()[1]
        self.peak = next((v for k, v in PEAK_TFLOPS.items() if k in self.device), None)
        self.failed = 0

    def add(self, case, times, tokens=None, flops=None, memory=None, ranks=1, mesh="", **more):
        """`times` in ms; `tokens` of each run (or one number for all); `flops` likewise, both of all `ranks`; `more`: further
        figures, by key."""
        median = statistics.median(times)
        record = {"program": self.program, "case": case, "device": self.device,
                  "ms": {"median": median, "min": min(times), "max": max(times)}, "runs": len(times)}
        if ranks > 1:
            record["ranks"] = ranks
            if mesh:
                record["mesh"] = mesh
        on = f" on {ranks} ranks" if ranks > 1 else ""
        line = f"{self.program} {case}{on}: {median:.3f} ms [{min(times):.3f} {max(times):.3f}] n {len(times)}"
        rate = lambda work: statistics.median(
            w / t * 1e3 for w, t in zip(work if isinstance(work, list) else [work] * len(times), times))
        if tokens:
            record["tokens_per_second"] = rate(tokens)
            line += f", {record['tokens_per_second']:.0f} tokens/s"
        if flops:
            record["tflops"] = rate(flops) / 1e12
            line += f", {record['tflops']:.1f} TFLOP/s"
            if self.peak:
                record["mfu"] = record["tflops"] / (self.peak * ranks)
                line += f", MFU {100 * record['mfu']:.1f}%"
        if memory:
            record["peak_bytes"] = memory
            line += f", peak {memory / 2**30:.1f} GiB"
        for name, value in more.items():
            record[name] = value
            if name == "bus_gb_per_second":
                line += f", {value:.1f} GB/s"
            elif name.endswith("bytes"):
                line += f", {name.removesuffix('_bytes')} {value / 2**30:.2f} GiB"
        if not self.quiet:
            print(line, flush=True)
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    @contextlib.contextmanager
    def case(self, name):
        """One case: its failure is printed and does not keep the others from running; its memory is given back."""
        try:
            yield
        except Exception as error:  # out of memory, or a peer that lacks what the case needs
            self.failed += 1
            print(f"{self.program} {name}: failed: {type(error).__name__}: {str(error)[:300]}", flush=True)
            traceback.print_exc(limit=3, file=sys.stderr)
        finally:
            gc.collect()
            torch._dynamo.reset()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
