"""The lines of JSON that two runs of moe-bench step appended: check_step.py FILE."""
import json
import sys

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
