"""Checks lines of JSON of moe-bench grouped-gemm: check_products.py counts|groups FILE."""
import json
import os
import sys

sys.dont_write_bytecode = True  # the source tree stays as it is
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), *[".."] * 3, "bench", "peers"))
import shapes


def counts(records):
    """Of 64,32,48,4,2 in float32: FLOPs, bytes that move once, of these the weights."""
    rows, width, ffn, experts, tokens = 128, 32, 48, 4, 64
    sizes = 4 * experts
    x, hidden, activated = 4 * rows * width, 4 * rows * 2 * ffn, 4 * rows * ffn
    gate_up, down = 4 * experts * 2 * ffn * width, 4 * experts * ffn * width
    x_tokens, index, dweights = 4 * tokens * width, 4 * rows, 4 * rows
    expected = {
        "gate_up forward": (gate_up, x + hidden + sizes), "gate_up dgrad": (gate_up, x + hidden + sizes),
        "gate_up wgrad": (gate_up, x + hidden + sizes),
        "gate_up wgrad_accumulate": (gate_up, x + hidden + sizes + gate_up), "gate_up gated": (gate_up, x + hidden + activated + sizes),
        "gate_up gated_gather": (gate_up, x_tokens + index + hidden + activated + sizes),
        "gate_up wgrad_gather_x": (gate_up, x_tokens + index + hidden + sizes), "gate_up dense": (gate_up // 4, x + hidden),
        "down forward": (down, activated + x + sizes), "down dgrad": (down, activated + x + sizes),
        "down wgrad": (down, activated + x + sizes), "down wgrad_accumulate": (down, activated + x + sizes + down),
        "down dgrad_gated": (down, x + 2 * hidden + activated + sizes),
        "down dgrad_gated_gather": (down, x_tokens + 3 * index + dweights + 2 * hidden + activated + sizes),
        "down dgrad_gated_weighted": (down, x + 2 * index + dweights + 2 * hidden + activated + sizes),
        "down wgrad_gather_dy": (down, x_tokens + index + activated + sizes), "down dense": (down // 4, activated + x)}
    for record in records:
        words = record["case"].split()
        if words[0] != "grouped_gemm":
            continue
        weights, others = expected.pop(f"{words[2]} {words[-1]}")
        seconds = record["ms"]["median"] / 1e3
        same = lambda found, wanted: abs(found / wanted - 1) < 1e-9
        assert record["weight_bytes"] == weights, record
        assert same(record["gb_per_second"] * 1e9 * seconds, weights + others), (record, weights + others)
        assert same(record["tflops"] * 1e12 * seconds, 2 * rows * width * ffn * (2 if words[2] == "gate_up" else 1)), record
        assert record["error"] < 1e-5, record
    assert not expected, expected


def groups(records):
    """The sizes that the peers have; what each routing is for; only experts with rows have weights that are read."""
    seen = set()
    for record in records:
        _, shape, matrix, routing, case = record["case"].split()
        tokens, width, ffn, experts, top_k = ((int(shape.split(",")[1]), *shapes.MODELS["granite-3b"]) if "granite" in shape else
                                              map(int, shape.split(",")))
        sizes = record["group_sizes"]
        assert sizes == shapes.group_sizes(tokens, experts, top_k, routing), record
        assert sum(sizes) == tokens * top_k and max(sizes) <= tokens, record
        assert record["error"] < 1e-5, record
        matrices = experts if case == "wgrad" else experts - sizes.count(0)
        assert record["weight_bytes"] == 4 * matrices * width * ffn * (2 if matrix == "gate_up" else 1), record
        assert routing != "balanced" or max(sizes) - min(sizes) <= 1, record
        assert routing != "one-overfull" or sizes[experts // 2] == tokens, record
        assert routing != "one-empty" or [i for i, size in enumerate(sizes) if size == 0] == [experts // 2], record
        assert routing != "zipf" or sizes[0] == max(sizes), record
        seen.add((shape, routing))
    assert len(seen) == 2 * 4 + 1 + 2, seen


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as lines:
        {"counts": counts, "groups": groups}[sys.argv[1]]([json.loads(line) for line in lines])
