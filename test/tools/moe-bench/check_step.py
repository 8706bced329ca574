"""The lines of JSON that two runs of moe-bench step appended: check_step.py FILE.

check_step.py --ranks FILE TRACE: a run on four ranks, whose trace is TRACE, and one on one, of the same global batch.
"""
import json
import sys


def check_ranks(path, trace):
    four, one = (json.loads(line) for line in open(path, encoding="utf-8"))
    assert (four["ranks"], four["mesh"]) == (4, "fsdp=2,ep=2") and "ranks" not in one, (four, one)
    assert abs(four["loss"] - one["loss"]) < 1e-5 * one["loss"], (four, one)
    for record in (four, one):  # of all ranks: 8 records of 64 tokens
        assert abs(record["tokens_per_second"] * record["ms"]["median"] / 1e3 / 512 - 1) < 1e-9, record
    # The counters' calls, and the trace's time of the same: steps but the first one.
    begun = {}
    for event in json.load(open(trace, encoding="utf-8"))["traceEvents"]:
        kind = event["name"].split(" ")[0]
        if kind in four["collectives"] and event["args"]["step"] > 4:
            count, time = begun.get(kind, (0, 0))
            begun[kind] = count + 1, time + event["dur"]
    assert begun.keys() == four["collectives"].keys(), (begun, four)
    for kind, figures in four["collectives"].items():
        assert figures["calls"] * 3 == begun[kind][0] and figures["bytes"] > 0, (kind, figures, begun)
        assert abs(figures["ms"] * 3e3 / begun[kind][1] - 1) < 1e-3, (kind, figures, begun)
    total = sum(figures["ms"] for figures in four["collectives"].values())
    assert abs(four["communication_ms"] / total - 1) < 1e-3, four  # one after the other on the CPU
    assert abs(four["exposed_ms"] - four["communication_ms"]) < 1e-9, four
    assert four["communication_ms"] < four["profiled_step_ms"], four


if sys.argv[1] == "--ranks":
    check_ranks(*sys.argv[2:])
    sys.exit()
fixed, listed = (json.loads(line) for line in open(sys.argv[1], encoding="utf-8"))
keys = ["program", "case", "device", "ms", "runs", "tokens_per_second", "tflops", "loss", "peak_bytes",
        "high_water_bytes"]
for record in (fixed, listed):
    assert list(record) == keys, record
    assert (record["program"], record["device"], record["runs"]) == ("switchyard", "CPU", 3), record
    assert 0 < record["ms"]["min"] <= record["ms"]["median"] <= record["ms"]["max"], record
    assert 0 < record["high_water_bytes"] <= record["peak_bytes"], record
assert (fixed["case"], listed["case"]) == ("step 1x64x4", "step some")
# Tokens of each step: 4 x 64, and 3 + 5 + 64 (cut from 70) + 1.
for record, tokens in ((fixed, 256), (listed, 73)):
    assert abs(record["tokens_per_second"] * record["ms"]["median"] / 1e3 / tokens - 1) < 1e-9, record
# The first count, of the toy model: 6 flops for a token and active parameter, 12 for a pair of tokens and head element.
active = 2 * (64 * (64 + 2 * 32) + 64 * 64 + 2 * 3 * 128 * 64 + 4 * 64) + 512 * 64
flops = 6 * active * 256 + 12 * 64 * (64 * 65 // 2) * 2 * 4
assert abs(fixed["tflops"] * 1e12 * fixed["ms"]["median"] / 1e3 / flops - 1) < 1e-9, (fixed, flops)
