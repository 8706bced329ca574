#!/usr/bin/env python3
"""Makes tokenizer.model and model.safetensors of the toy model in this folder.

    python3 make.py        (needs spm_train, Debian's package sentencepiece, and nothing of Python's but its standard library)

The tokenizer is trained on alpaca_sample.json as the trainer templates it; the weights are random, normally distributed
with config.json's initializer_range, from a fixed seed. Running it again gives the same files.
"""

import json
import os
import random
import struct
import subprocess
import tempfile

SEED = 20240607
HERE = os.path.dirname(os.path.abspath(__file__))
PREAMBLE = "Below is an instruction that describes a task"
REQUEST = "Write a response that appropriately completes the request."
CONTEXT = ", paired with an input that provides further context"


def template(record):
    """The text that `moe-run train` makes of a record (runtime/data/Alpaca.h)."""
    context = CONTEXT if record["input"] else ""
    text = f"{PREAMBLE}{context}. {REQUEST}\n\n### Instruction:\n{record['instruction']}"
    if record["input"]:
        text += f"\n\n### Input:\n{record['input']}"
    return f"{text}\n\n### Response: {record['output']}"


def make_tokenizer(vocab_size):
    with open(os.path.join(HERE, "alpaca_sample.json"), encoding="utf-8") as file:
        records = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "sample.txt"), "w", encoding="utf-8") as file:
            file.writelines(template(record) + "\n" for record in records)
        # As Mixtral's: pairs of pieces, bytes for what has no piece, digits apart, text left as it is.
        subprocess.run(
            ["spm_train", "--input=sample.txt", "--model_prefix=tokenizer", f"--vocab_size={vocab_size}",
             "--model_type=bpe", "--byte_fallback=true", "--split_digits=true",
             "--normalization_rule_name=identity", "--remove_extra_whitespaces=false",
             "--character_coverage=1.0", "--allow_whitespace_only_pieces=true", "--num_threads=1",
             "--minloglevel=2"],
            cwd=folder, check=True)
        with open(os.path.join(folder, "tokenizer.model"), "rb") as file:
            model = file.read()
    with open(os.path.join(HERE, "tokenizer.model"), "wb") as file:
        file.write(model)


def shapes(config):
    """Name and shape of every tensor, as the hub's Mixtral checkpoints have them."""
    hidden = config["hidden_size"]
    inner = config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    key_value = head * config["num_key_value_heads"]
    yield "lm_head.weight", [config["vocab_size"], hidden]
    yield "model.embed_tokens.weight", [config["vocab_size"], hidden]
    yield "model.norm.weight", [hidden]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", [hidden]
        yield f"{prefix}.post_attention_layernorm.weight", [hidden]
        yield f"{prefix}.self_attn.q_proj.weight", [hidden, hidden]
        yield f"{prefix}.self_attn.k_proj.weight", [key_value, hidden]
        yield f"{prefix}.self_attn.v_proj.weight", [key_value, hidden]
        yield f"{prefix}.self_attn.o_proj.weight", [hidden, hidden]
        yield f"{prefix}.block_sparse_moe.gate.weight", [config["num_local_experts"], hidden]
        for expert in range(config["num_local_experts"]):
            weights = f"{prefix}.block_sparse_moe.experts.{expert}"
            yield f"{weights}.w1.weight", [inner, hidden]
            yield f"{weights}.w2.weight", [hidden, inner]
            yield f"{weights}.w3.weight", [inner, hidden]


def bfloat16(value):
    """The two bytes of `value` rounded to bfloat16, ties to even."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return struct.pack("<H", (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)


def make_weights(config):
    generator = random.Random(SEED)
    header, data = {"__metadata__": {"format": "pt"}}, bytearray()
    for name, shape in sorted(shapes(config)):
        begin = len(data)
        count = 1
        for extent in shape:
            count *= extent
        for _ in range(count):
            norm = len(shape) == 1
            data += bfloat16(1.0 if norm else generator.gauss(0.0, config["initializer_range"]))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(HERE, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main():
    with open(os.path.join(HERE, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    make_tokenizer(config["vocab_size"])
    make_weights(config)


if __name__ == "__main__":
    main()
