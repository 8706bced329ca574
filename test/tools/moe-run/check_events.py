#!/usr/bin/env python3
"""Checks that the event files of a run hold what its metrics.jsonl does.

    check_events.py RUNS METRICS

Reads them with TensorBoard's own reader where that is installed, else their records alone.
"""
import json
import math
import os
import struct
import sys


def records(path):
    """The messages of a file, by their lengths."""
    with open(path, "rb") as file:
        while header := file.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            message = file.read(length)
            assert len(message) == length and len(file.read(4)) == 4, "the last record is not whole"
            yield message


def main():
    runs, metrics = sys.argv[1], sys.argv[2]
    with open(metrics, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    names = sorted(os.listdir(runs))
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        messages = [message for name in names for message in records(os.path.join(runs, name))]
        assert len(messages) == 2 * len(names) + len(lines), (len(messages), len(names), len(lines))
        assert all(b"train/loss" in message for message in messages[2:2 + len(lines)])
        print(f"{len(lines)} steps, as records")
        return
    accumulator = EventAccumulator(runs, size_guidance={"scalars": 0})
    accumulator.Reload()
    keys = [key for key, value in lines[0].items() if isinstance(value, (int, float)) and key != "step"]
    assert sorted(accumulator.Tags()["scalars"]) == sorted("train/" + key for key in keys), accumulator.Tags()
    for key in keys:
        scalars = accumulator.Scalars("train/" + key)
        assert [scalar.step for scalar in scalars] == [line["step"] for line in lines], key
        for scalar, line in zip(scalars, lines):
            assert math.isclose(scalar.value, line[key], rel_tol=1e-6), (key, scalar, line[key])
    print(f"{len(lines)} steps, by TensorBoard's reader")


if __name__ == "__main__":
    main()
