#!/usr/bin/env python3
"""Compares what two runs left, read by the standard library alone.

    same_run.py A B                   the same bits: losses and norms of every step, and all states of every
                                      checkpoint
    same_run.py --evaluations FILE    the lines of FILE, one `moe-run eval` each, agree
"""
import json
import pathlib
import sys

# What a run costs, not what it computes: plans of one mesh may differ in it.
COSTS = ("step_time", "train_tokens_per_second", "peak_memory_bytes", "sent_bytes")


def metrics(folder):
    lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in COSTS} for line in lines]


def states(checkpoint):
    """The bytes of each state as a whole, from the ranks' files."""
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    ranks, pieces = len(manifest["ranks"]), {}
    for rank, file in enumerate(manifest["ranks"]):
        raw = (checkpoint / f"states-{rank:05}-of-{ranks:05}.safetensors").read_bytes()
        end = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:end])
        for piece in file["pieces"]:
            begin, stop = header[piece["state"]]["data_offsets"]
            pieces.setdefault(piece["state"], []).append((piece["elements"], raw[end + begin:end + stop]))
    for name, parts in pieces.items():
        parts.sort()
        assert [part[0][1] for part in parts[:-1]] == [part[0][0] for part in parts[1:]], (name, parts)
    return {name: b"".join(data for _, data in parts) for name, parts in pieces.items()}


def checkpoints(folder):
    return {path.name: states(path) for path in pathlib.Path(folder).glob("checkpoint-*")}


def compare_evaluations(path):
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    if len(lines) < 2:
        sys.exit(f"{path} has {len(lines)} lines, expected two or more")
    for line in lines[1:]:
        for key, value in lines[0].items():
            if abs(line[key] - value) > (1e-5 * abs(value) if isinstance(value, float) else 0):
                sys.exit(f"{key}: {value} and {line[key]}")


def main():
    if sys.argv[1] == "--evaluations":
        return compare_evaluations(sys.argv[2])
    ours, theirs = sys.argv[1:3]
    for mine, other in zip(metrics(ours), metrics(theirs), strict=True):
        if mine != other:
            sys.exit(f"metrics differ: {mine} and {other}")
    mine, other = checkpoints(ours), checkpoints(theirs)
    if not mine or mine.keys() != other.keys():
        sys.exit(f"checkpoints: {sorted(mine)} and {sorted(other)}")
    for name, states_ in mine.items():
        if states_ != other[name]:
            sys.exit(f"{name}: these states differ: {[state for state in states_ if states_[state] != other[name].get(state)]}")
    print(f"{len(metrics(ours))} steps and {len(mine)} checkpoints are the same")


if __name__ == "__main__":
    main()
