#!/usr/bin/env python3
"""Checks the form of a metrics.jsonl: valid JSON, one object a step, its keys, kinds and ranges.

    check_metrics.py METRICS STEPS RATE...      with the learning rates of the first steps
"""
import json
import math
import sys

KEYS = ["step", "epoch", "loss", "grad_norm", "learning_rate", "aux_loss", "expert_load_max_over_mean",
        "train_tokens_per_second", "step_time", "mfu", "peak_memory_bytes", "sent_bytes", "overflow_rounds",
        "expert_load_histogram"]


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def main():
    path, steps, rates = sys.argv[1], int(sys.argv[2]), [float(rate) for rate in sys.argv[3:]]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert text.endswith("\n"), "the last line is not whole"
    lines = [json.loads(line, parse_constant=refuse_constant) for line in text.splitlines()]
    assert [line["step"] for line in lines] == list(range(1, steps + 1)), [line["step"] for line in lines]
    for line in lines:
        assert list(line) == KEYS, list(line)
        assert line["mfu"] is None, line
        assert isinstance(line["peak_memory_bytes"], int) and line["peak_memory_bytes"] > 0, line
        assert line["sent_bytes"] == line["overflow_rounds"] == 0, line  # one rank has nobody to send to
        for key in ("epoch", "loss", "grad_norm", "aux_loss", "train_tokens_per_second", "step_time"):
            assert isinstance(line[key], float) and math.isfinite(line[key]) and line[key] > 0, (key, line)
        assert line["expert_load_max_over_mean"] >= 1, line
        assert len(line["expert_load_histogram"]) == 9 and sum(line["expert_load_histogram"]) > 0, line
    for line, rate in zip(lines, rates):
        assert math.isclose(line["learning_rate"], rate, rel_tol=1e-12), (line["learning_rate"], rate)
    print(f"{steps} lines of metrics")


if __name__ == "__main__":
    main()
