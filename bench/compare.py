#!/usr/bin/env python3
"""Prints figures of ours beside those of the peers, and their ratio: compare.py [--markdown] FILE.jsonl ...

The files are what moe-bench and bench/peers write with --json. Cases are compared by name; a case of the peers that is
another way to do the work of one of ours is compared with that. A ratio is of tokens/s where there are any, else of
times: above 1, ours is faster. Figures of many ranks are compared with those of as many, with the fastest of our meshes. Of several
lines of one program, case, number of ranks and mesh the last counts. A second table has what traces of steps say of collectives.

The experts' products (grouped_gemm) have a table of their own, a line each: beside the peer's figure its speed in terms of a dense product
of as many FLOPs, and which share of its time reading the experts' weights once would take (writing, of their gradient) at the speed of a
copy. Both stand there where moe-bench timed `dense` and `copy`, too. Figures that are of different groups of rows are an error.
"""
import json
import sys

# A case of the peers -> the case of ours that does the same work: a pass takes segments as they come.
SAME_WORK = {"step alpaca-16x256x1": "step alpaca-1x256x16", "step alpaca-real-16x1": "step alpaca-real-1x16"}
OURS = "switchyard"
# A collective of a trace -> the peer's that moves bytes in the same way.
SAME_WAY = {"token_exchange": "all_to_all", "token_return": "all_to_all", "all_gather": "all_gather",
            "reduce_scatter": "reduce_scatter"}


def read(paths):
    """Figures by what tells them apart, and the devices that the files name."""
    figures, devices = {}, set()
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                figures[work_of(record), record["case"], record["program"], record.get("mesh", "")] = record
                devices.add(record["device"])
    return list(figures.values()), devices


def work_of(record):
    """What our figures and theirs are compared by."""
    return SAME_WORK.get(record["case"], record["case"]), record.get("ranks", 1)


def case_of(record):
    return record["case"] + (f" on {record['ranks']} ranks" if "ranks" in record else "")


def program_of(record):
    return " ".join(word for word in (record["program"], record.get("mesh", "")) if word)


def rate(record):
    """"42980 tokens/s 46.0%", "612 TFLOP/s", and the memory."""
    words = []
    if record["case"].startswith("step") and "tokens_per_second" in record:
        words.append(f"{record['tokens_per_second']:.0f} tokens/s")
        if "mfu" in record:
            words.append(f"MFU {100 * record['mfu']:.1f}%")
    elif "tflops" in record:
        words.append(f"{record['tflops']:.3g} TFLOP/s")
    elif "gb_per_second" in record:
        words.append(f"{record['gb_per_second']:.0f} GB/s")
    if "bus_gb_per_second" in record:
        words.append(f"{record['bytes'] / 1e6:.1f} MB sent, {record['bus_gb_per_second']:.1f} GB/s")
    for key in ("peak_bytes", "kept_bytes", "listed_bytes", "driver_bytes"):
        if key in record:
            words.append(f"{key.removesuffix('_bytes')} {record[key] / 2**30:.1f} GiB")
    return ", ".join(words)


def show(record):
    times = record["ms"]
    spread = f" [{times['min']:.3f} {times['max']:.3f}]" if record["runs"] > 1 else ""
    return f"{times['median']:.3f} ms{spread}", rate(record)


def ratio(ours, theirs):
    if ours["case"].startswith("step") and "tokens_per_second" in ours and "tokens_per_second" in theirs:
        return ours["tokens_per_second"] / theirs["tokens_per_second"]
    return theirs["ms"]["median"] / ours["ms"]["median"]


def best_of_ours(figures, work):
    """The record of ours for `work` that is fastest, or None."""
    ours = [record for record in figures if record["program"] == OURS and work_of(record) == work]
    return min(ours, key=lambda record: record["ms"]["median"], default=None)


def comparison(figures):
    rows = []
    for record in figures:
        ours = best_of_ours(figures, work_of(record))
        compared = f"{ratio(ours, record):.2f}x" if record["program"] != OURS and ours else ""
        rows.append((work_of(record), (case_of(record), program_of(record), *show(record), compared)))
    order = {work: i for i, work in reversed(list(enumerate(work for work, _ in rows)))}
    rows.sort(key=lambda row: order[row[0]])
    return [("case", "program", "time [min max]", "rate, memory", "ours is faster by"), *(row for _, row in rows)]


def best_of_theirs(figures, kind, ranks):
    """The highest bandwidth that the peer reached in a collective of this kind by itself, or None."""
    prefix = f"collective {SAME_WAY.get(kind, kind)}-"
    return max((record["bus_gb_per_second"] for record in figures
                if record["case"].startswith(prefix) and record.get("ranks") == ranks), default=None)


def communication(figures):
    """What a step's trace says of its collectives: all of them together, then each kind."""
    rows = [("case", "program", "collective", "a step", "bus bandwidth", "of the peer's best")]
    for record in figures:
        if "collectives" not in record:
            continue
        exposed, step = record["exposed_ms"], record["profiled_step_ms"]
        rows.append((case_of(record), program_of(record), "all", f"{record['communication_ms']:.3f} of {step:.3f} ms, exposed "
                     f"{exposed:.3f} ms ({100 * exposed / step:.1f}%)", "", ""))
        for kind, one in record["collectives"].items():
            best = best_of_theirs(figures, kind, record.get("ranks"))
            rows.append(("", "", kind, f"{one['calls']} calls, {one['bytes'] / 1e6:.1f} MB sent, {one['ms']:.3f} ms",
                         f"{one['bus_gb_per_second']:.1f} GB/s", f"{one['bus_gb_per_second'] / best:.2f}" if best else ""))
    return rows


def is_product(case):
    """Whether it is "grouped_gemm SHAPE MATRIX ROUTING CASE", or of a dense product "grouped_gemm SHAPE MATRIX dense"."""
    return case.startswith("grouped_gemm ")


def products(figures):
    """A line for each product, and the cases that were timed on different groups of rows."""
    by_case = {}
    for record in figures:
        by_case.setdefault(record["case"], {})["ours" if record["program"] == OURS else "theirs"] = record
    copy = by_case.get("copy", {}).get("ours", {}).get("gb_per_second")
    rows = [("product", "ours [min max]", "TFLOP/s", "error", "of dense", "weights alone", "theirs [min max]", "ours is faster by")]
    different = []
    for case, pair in by_case.items():
        if not is_product(case):
            continue
        ours, theirs = pair.get("ours"), pair.get("theirs")
        dense = by_case.get(" ".join(case.split()[:3]) + " dense", {}).get("ours")
        row = [case.removeprefix("grouped_gemm ")] + [""] * (len(rows[0]) - 1)
        if ours:
            row[1], row[2] = show(ours)[0], f"{ours['tflops']:.3g}"
            row[3] = "" if "error" not in ours else "NaN" if ours["error"] is None else f"{ours['error']:.1e}"
            if dense and dense is not ours:
                row[4] = f"{dense['ms']['median'] / ours['ms']['median']:.2f}"
            if copy and "weight_bytes" in ours:
                row[5] = f"{100 * ours['weight_bytes'] / (copy * 1e6) / ours['ms']['median']:.0f}%"
        if theirs:
            row[6] = show(theirs)[0]
        if ours and theirs:
            row[7] = f"{ratio(ours, theirs):.2f}x"
            if ours.get("group_sizes") != theirs.get("group_sizes"):
                different.append(case)
        rows.append(tuple(row))
    return rows, different


def print_table(rows, markdown):
    if markdown:
        rows = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    widths = [0 if markdown else max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        if markdown:
            print("| " + " | ".join(row) + " |")
            continue
        print("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())


def main():
    markdown = sys.argv[1:2] == ["--markdown"]
    paths = sys.argv[2:] if markdown else sys.argv[1:]
    if not paths or paths[0].startswith("-"):
        print(__doc__)
        return 2
    figures, devices = read(paths)
    print(", ".join(sorted(devices)) + ("\n" if markdown else ""))
    rows, different = products(figures)
    tables = [comparison([record for record in figures if not is_product(record["case"])]), rows, communication(figures)]
    for i, table in enumerate(table for table in tables if len(table) > 1):
        if i > 0:
            print()
        print_table(table, markdown)
    if len(devices) > 1:
        print("compare: the figures are of different devices", file=sys.stderr)
    for case in different:
        print(f"compare: {case}: the rows of the experts are not the same", file=sys.stderr)
    return 1 if len(devices) > 1 or different else 0


if __name__ == "__main__":
    raise SystemExit(main())
