#!/usr/bin/env python3
"""Compares the weights of two model folders, read by the standard library alone.

    compare_weights.py A B             same names, dtypes, shapes and bytes
    compare_weights.py A B --trained   same names, dtypes and shapes; every tensor has changed
    compare_weights.py A B --dtype F32 same names and shapes; A's dtype is F32
"""
import json
import pathlib
import sys


def tensors(folder):
    raw = (pathlib.Path(folder) / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    metadata = header.pop("__metadata__", None)
    assert metadata == {"format": "pt"}, metadata
    return {name: (entry["dtype"], entry["shape"], raw[end:][slice(*entry["data_offsets"])])
            for name, entry in header.items()}


def main():
    ours, theirs = tensors(sys.argv[1]), tensors(sys.argv[2])
    option = sys.argv[3] if len(sys.argv) > 3 else None
    if set(ours) != set(theirs):
        sys.exit(f"names differ: {sorted(set(ours) ^ set(theirs))[:5]}")
    for name, (dtype, shape, data) in ours.items():
        if shape != theirs[name][1] or dtype != (sys.argv[4] if option == "--dtype" else theirs[name][0]):
            sys.exit(f"{name}: {dtype} {shape} and {theirs[name][:2]}")
        if option is None and data != theirs[name][2]:
            sys.exit(f"{name}: its bytes differ")
        if option == "--trained" and data == theirs[name][2]:
            sys.exit(f"{name}: was not trained")
    print(f"{len(ours)} tensors agree")


if __name__ == "__main__":
    main()
