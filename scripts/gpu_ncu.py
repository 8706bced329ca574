"""The part ncu of scripts/gpu: what Nsight Compute counts in the kernels of the experts' products."""

import csv
import os
import re
import shutil

from gpu_machine import Failure, Skip

SHAPES = ["mixtral-8x7b", "olmoe-1b-7b"]
TOKENS = 4096
# The sections have the metrics that the GPU has: of a row's cells below those are shown that are there.
SECTIONS = ["SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "WarpStateStats"]
PERCENT = r"\.avg\.pct_of_peak_sustained_(active|elapsed)$"
# Of each the largest of the first pattern's metrics that a row has is shown.
METRICS = {
    "ms": [r"gpu__time_duration\.(sum|avg|max)$"],
    "tensor %": [r"sm__pipe_tensor_cycles_active" + PERCENT, r"sm__pipe_tensor_op_[gh]mma_cycles_active" + PERCENT],
    "SM %": [r"sm__throughput" + PERCENT],
    "L2 %": [r"lts__throughput" + PERCENT, r"lts__t_sectors" + PERCENT],
    "DRAM %": [r"(gpu__dram|dram_)_throughput" + PERCENT],
    "DRAM GB/s": [r"dram__bytes\.sum\.per_second$"],
}
# Further ones, where `ncu --query-metrics` lists what stands in front of the first point.
ALSO = ["sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__pipe_tensor_op_gmma_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
        "lts__throughput.avg.pct_of_peak_sustained_elapsed", "dram__bytes.sum.per_second"]
STALL = re.compile(r"smsp__average_warps_issue_stalled_(?!selected)(\w+)_per_issue_active\.ratio$")
REASONS = 3  # that are shown


def kernels(text):
    """Of ncu's CSV (--page raw), whatever stands around it, the kernels: their cells by the columns' names."""
    lines = text.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if begin is None:
        return []
    rows = csv.DictReader(line for line in lines[begin:] if line.startswith('"'))
    return [row for row in rows if row["ID"]]  # the second line has the units


def number(cell):
    try:
        return float(cell.replace(",", ""))
    except (AttributeError, ValueError):  # none, or "n/a"
        return None


def figure(row, patterns):
    """The largest number in the columns of the first pattern that finds any, or None."""
    for pattern in patterns:
        numbers = [number(cell) for name, cell in row.items() if re.match(pattern, name or "")]
        if numbers := [value for value in numbers if value is not None]:
            return max(numbers)
    return None


def stalls(row):
    """"long_scoreboard 3.1, wait 0.8": cycles that a warp waits for each reason between two instructions, the longest first."""
    found = {}
    for name, cell in row.items():
        if (match := STALL.match(name or "")) and (value := number(cell)):
            found[match[1]] = value
    longest = sorted(found.items(), key=lambda one: -one[1])[:REASONS]
    return ", ".join(f"{reason} {value:.1f}" for reason, value in longest)


def short_name(name):
    """A kernel's name without namespaces, "(anonymous namespace)" and arguments."""
    name = re.sub(r"\(anonymous namespace\)::|<unnamed>::|(\w+::)+", "", name)
    name = re.sub(r"^void ", "", name)
    depth, end = 0, len(name)
    for i, letter in enumerate(name):  # the arguments begin with the first bracket outside <>
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            end = i
            break
    return name[:end][:70]


def table(rows):
    """Lines of text, one a kernel, in the order in which they ran."""
    scale = {"ms": 1e-6, "DRAM GB/s": 1e-9}  # of nanoseconds and of bytes a second
    cells = [["kernel", *METRICS, "cycles waited for"]]
    for row in rows:
        values = [figure(row, patterns) for patterns in METRICS.values()]
        texts = ["-" if value is None else f"{value * scale.get(name, 1):.{3 if name == 'ms' else 1}f}"
                 for name, value in zip(METRICS, values)]
        cells.append([short_name(row["Kernel Name"]), *texts, stalls(row)])
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


def ncu(machine):
    program = shutil.which("ncu") or "/usr/local/cuda/bin/ncu"
    if not os.access(program, os.X_OK):
        raise Skip("there is no ncu")
    _, listed = machine.run("ncu-metrics", [program, "--query-metrics"], check=False, limit=60)
    known = set(re.findall(r"^(\w+__\w+)", listed, re.MULTILINE))
    metrics = [metric for metric in ALSO if metric.split(".")[0] in known]
    count = 0
    for shape in SHAPES:
        path = machine.results / f"ncu-{shape}.csv"
        path.unlink(missing_ok=True)
        status, output = machine.run(f"ncu-{shape}", [
            program, "--clock-control", "none", "--csv", "--page", "raw", "--print-units", "base", "--log-file", path,
            *[word for section in SECTIONS for word in ("--section", section)],
            *(["--metrics", ",".join(metrics)] if metrics else []),
            machine.programs["moe-bench"], "grouped-gemm", "--model", shape, "--tokens", TOKENS, "--warmup", "0", "--runs", "1"],
            check=False)
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        if "ERR_NVGPUCTRPERM" in output + text:
            raise Skip("this machine does not let its users read the GPU's counters (ERR_NVGPUCTRPERM)")
        rows = kernels(text)
        if not rows:
            last = [line for line in (text + output).splitlines() if line.strip()][-3:]
            raise Failure(f"ncu ended with {status} and counted no kernel ({path}): " + " | ".join(last))
        print(f"{shape}, {TOKENS} tokens:\n" + "\n".join(table(rows)), flush=True)
        count += len(rows)
    return f"{count} kernels; all that was counted is in {machine.results}/ncu-*.csv"
