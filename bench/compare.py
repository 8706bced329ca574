#!/usr/bin/env python3
"""Prints figures of ours beside those of the peers, and their ratio: compare.py [--markdown] FILE.jsonl ...

The files are what moe-bench and bench/peers write with --json. Cases are compared by name; a case of the peers that is
another way to do the work of one of ours is compared with that. A ratio is of tokens/s where there are any, else of
times: above 1, ours is faster. Of several lines of one program and case the last counts.
"""
import json
import sys

# A case of the peers -> the case of ours that does the same work: a pass takes segments as they come.
SAME_WORK = {"step alpaca-16x256x1": "step alpaca-1x256x16", "step alpaca-real-16x1": "step alpaca-real-1x16"}
OURS = "switchyard"


def read(paths):
    """{(case, program): figures} and the devices that the files name."""
    figures, devices = {}, set()
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                figures[record["case"], record["program"]] = record
                devices.add(record["device"])
    return figures, devices


def rate(record):
    """"42980 tokens/s 46.0%", "612 TFLOP/s", and the memory."""
    words = []
    if record["case"].startswith("step") and "tokens_per_second" in record:
        words.append(f"{record['tokens_per_second']:.0f} tokens/s")
        if "mfu" in record:
            words.append(f"MFU {100 * record['mfu']:.1f}%")
    elif "tflops" in record:
        words.append(f"{record['tflops']:.3g} TFLOP/s")
    for key in ("peak_bytes", "kept_bytes"):
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


def main():
    markdown = sys.argv[1:2] == ["--markdown"]
    paths = sys.argv[2:] if markdown else sys.argv[1:]
    if not paths or paths[0].startswith("-"):
        print(__doc__)
        return 2
    figures, devices = read(paths)
    rows = []
    for (case, program), record in figures.items():
        ours = figures.get((SAME_WORK.get(case, case), OURS))
        compared = f"{ratio(ours, record):.2f}x" if program != OURS and ours else ""
        rows.append((case, program, *show(record), compared))
    order = {case: i for i, case in reversed(list(enumerate(SAME_WORK.get(row[0], row[0]) for row in rows)))}
    rows.sort(key=lambda row: order[SAME_WORK.get(row[0], row[0])])
    rows.insert(0, ("case", "program", "time [min max]", "rate, memory", "ours is faster by"))
    if markdown:
        rows.insert(1, ("---",) * 5)
    widths = [0 if markdown else max(len(row[i]) for row in rows) for i in range(5)]
    print(", ".join(sorted(devices)) + ("\n" if markdown else ""))
    for row in rows:
        if markdown:
            print("| " + " | ".join(row) + " |")
            continue
        print("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())
    if len(devices) > 1:
        print("compare: the figures are of different devices", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
