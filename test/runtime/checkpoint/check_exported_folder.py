#!/usr/bin/env python3
"""Opens an exported folder with the libraries that its users have. Run by hand; needs `pip install safetensors numpy`, and
uses transformers and torch where they are installed.

    check_exported_folder.py FOLDER [ORIGINAL]

Every tensor of FOLDER must open and, with ORIGINAL (a folder with the same weights), equal its tensor there after rounding
to FOLDER's dtype. Exits 1 and names what is wrong.
"""

import json
import pathlib
import sys

import numpy
from safetensors import safe_open


def shards(folder):
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]


def as_bf16_bits(values):
    bits = values.view(numpy.uint32).astype(numpy.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def raw_tensors(path):
    """{name: (dtype, shape, array)} read from the bytes, for numpy has no bfloat16."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    kinds = {"F32": numpy.float32, "BF16": numpy.uint16}
    return {
        name: (entry["dtype"], entry["shape"], numpy.frombuffer(data[slice(*entry["data_offsets"])], kinds[entry["dtype"]]))
        for name, entry in header.items()
    }


def folder_tensors(folder):
    tensors = {}
    for path in shards(folder):
        with safe_open(path, framework="numpy") as opened:  # the library's own checks
            if opened.metadata() != {"format": "pt"}:
                sys.exit(f"{path}: metadata is {opened.metadata()}, expected format pt")
            names = set(opened.keys())
        raw = raw_tensors(path)
        if names != set(raw):
            sys.exit(f"{path}: the library sees {len(names)} tensors, the header has {len(raw)}")
        tensors.update(raw)
    return tensors


def compare(tensors, original):
    if set(tensors) != set(original):
        sys.exit(f"tensors differ: {sorted(set(tensors) ^ set(original))[:5]}")
    for name, (dtype, shape, values) in tensors.items():
        source_dtype, source_shape, source = original[name]
        if dtype == "BF16" and source_dtype == "F32":
            source = as_bf16_bits(source)
        elif dtype == "F32" and source_dtype == "BF16":
            source = (source.astype(numpy.uint32) << 16).view(numpy.float32)
        if shape != source_shape or not numpy.array_equal(values, source):
            sys.exit(f"{name}: differs from the original")


def load_with_transformers(folder):
    try:
        import transformers
    except ImportError:
        return "transformers is not installed"
    _, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    if wrong:
        sys.exit(f"{folder}: transformers says {wrong}")
    return "transformers loads it"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    tensors = folder_tensors(folder)
    if len(sys.argv) == 3:
        compare(tensors, folder_tensors(pathlib.Path(sys.argv[2])))
    print(f"{folder}: {len(tensors)} tensors in {len(shards(folder))} files, {load_with_transformers(folder)}")


if __name__ == "__main__":
    main()
