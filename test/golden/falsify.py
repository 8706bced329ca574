#!/usr/bin/env python3
"""Copies a golden folder and falsifies one thing in the copy, for tests that must see it.

    falsify.py GOLDEN COPY add FIELD NUMBER           a number of expected.json, as steps.2.loss
    falsify.py GOLDEN COPY set FIELD JSON             any field of expected.json
    falsify.py GOLDEN COPY remove FIELD
    falsify.py GOLDEN COPY gradient TENSOR FACTOR     a gradient of step 0, or the logits
    falsify.py GOLDEN COPY change TENSOR FACTOR       what training did to a weight
    falsify.py GOLDEN COPY element FILE TENSOR INDEX INTEGER    of an I64 tensor
    falsify.py GOLDEN COPY reshape FILE TENSOR 4,2
    falsify.py GOLDEN COPY rows FILE TENSOR N         the first N rows, beginning again behind the last
    falsify.py GOLDEN COPY rename FILE TENSOR NAME
    falsify.py GOLDEN COPY drop FILE [TENSOR]         the tensor, or the whole file
"""
import json
import pathlib
import shutil
import struct
import sys


class Safetensors:
    """A file's tensors by name: dtype, shape, bytes."""

    def __init__(self, path):
        self.path = path
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:8 + length])
        self.metadata = header.pop("__metadata__", None)
        data = raw[8 + length:]
        self.tensors = {name: [entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]]
                        for name, entry in header.items()}

    def write(self):
        header, parts, end = {}, [], 0
        if self.metadata is not None:
            header["__metadata__"] = self.metadata
        for name, (dtype, shape, data) in self.tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
            parts.append(data)
            end += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self.path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))

    def floats(self, name):
        dtype, _, data = self.tensors[name]
        assert dtype == "F32", dtype
        return struct.unpack(f"<{len(data) // 4}f", data)

    def set_floats(self, name, values):
        self.tensors[name][2] = struct.pack(f"<{len(values)}f", *values)


def falsify_json(folder, kind, field, *value):
    path = folder / "expected.json"
    root = json.loads(path.read_text())
    *parents, last = [int(key) if key.isdigit() else key for key in field.split(".")]
    node = root
    for key in parents:
        node = node[key]
    if kind == "remove":
        del node[last]
    elif kind == "add":
        node[last] += float(value[0])
    else:
        node[last] = json.loads(value[0])
    path.write_text(json.dumps(root))


def falsify_gradient(folder, name, factor):
    file = Safetensors(folder / "grads_step0.safetensors")
    file.set_floats(name, [value * float(factor) for value in file.floats(name)])
    file.write()


def falsify_change(folder, name, factor):
    start = Safetensors(folder / "model.safetensors").floats(name)
    file = Safetensors(folder / "final" / "model.safetensors")
    file.set_floats(name, [a + (b - a) * float(factor) for a, b in zip(start, file.floats(name))])
    file.write()


def falsify_file(folder, kind, name, tensor=None, *value):
    if tensor is None:
        (folder / name).unlink()
        return
    file = Safetensors(folder / name)
    if kind == "drop":
        del file.tensors[tensor]
    elif kind == "rename":
        file.tensors[value[0]] = file.tensors.pop(tensor)
    elif kind == "reshape":
        file.tensors[tensor][1] = [int(extent) for extent in value[0].split(",")]
    elif kind == "rows":
        dtype, shape, data = file.tensors[tensor]
        row, count = len(data) // shape[0], int(value[0])
        file.tensors[tensor] = [dtype, [count, *shape[1:]], (data * (count // shape[0] + 1))[:count * row]]
    else:
        data = bytearray(file.tensors[tensor][2])
        struct.pack_into("<q", data, 8 * int(value[0]), int(value[1]))
        file.tensors[tensor][2] = bytes(data)
    file.write()


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sys.argv[1], folder)
    kind, words = sys.argv[3], sys.argv[4:]
    if kind in ("add", "set", "remove"):
        falsify_json(folder, kind, *words)
    elif kind == "gradient":
        falsify_gradient(folder, *words)
    elif kind == "change":
        falsify_change(folder, *words)
    elif kind in ("element", "reshape", "rows", "rename", "drop"):
        falsify_file(folder, kind, *words)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
