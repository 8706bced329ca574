#!/usr/bin/env python3
"""Makes calls fail by which moe-run writes: the checkpoints that have a name are whole, always, and the run says what it could not write.

    fail_writes.py EXAMPLE FOLDER BIN LIBRARY    FOLDER is emptied; BIN has moe-run, LIBRARY is write_faults.cpp's

Each run fails at one call, the first, the second and so on, in one of four ways; every eleventh of these cases is tried, or
all with scripts/test --thorough. What is left is resumed without faults and must end as a run that was left alone.
"""
import argparse
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys

KINDS = ("ENOSPC", "EIO", "EINTR", "SHORT")
MESSAGES = {"ENOSPC": "No space left on device", "EIO": "Input/output error"}


def command(args, ranks, out):
    return [f"{args.bin}/moe-run", "train", "--plan", str(args.folder / f"{ranks}.plan"), "--model", args.example, "--data",
            f"{args.example}/alpaca_sample.json", "--output-dir", str(out), "--max-steps", "4", "--save-steps", "2",
            "--save-total-limit", "1", "--lr-scheduler-type", "constant", "--ranks", str(ranks), "--threads", "1"]


def run(words, **environment):
    return subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False)


def try_fault(args, ranks, kind, number, whole, out):
    """The name of the call that failed, and the exit code; None where there were fewer calls."""
    shutil.rmtree(out, ignore_errors=True)
    record = args.folder / "record"
    record.unlink(missing_ok=True)
    words = command(args, ranks, out)
    result = run(words, LD_PRELOAD=str(args.library), SWITCHYARD_FAULT_FOLDER=str(out), SWITCHYARD_FAULT_AT=str(number),
                 SWITCHYARD_FAULT_KIND=kind, SWITCHYARD_FAULT_RECORD=str(record))
    if not record.exists():
        assert result.returncode == 0, result.stderr
        return None
    call = record.read_text()
    case = (ranks, kind, number, call, result.stderr[-500:])
    if kind in ("SHORT", "EINTR") and call in ("write", "fsync", "open"):
        assert result.returncode == 0, case
    if result.returncode != 0:
        assert result.returncode == 1 and re.search(r"moe-run: error: .*: ", result.stderr), case
        assert MESSAGES.get(kind, "") in result.stderr, case
        assert not out.exists() or not list(out.glob(".*")), (case, list(out.glob(".*")))
    if result.returncode != 0 and out.exists() and list(out.glob("checkpoint-*")):
        again = run(words + ["--resume-from-checkpoint", "latest"])
        done = "has 4 done" in again.stderr  # all but its end was there
        assert again.returncode == (2 if done else 0), (case, again.stderr)
        if done:
            return call, result.returncode
    if result.returncode == 0 or (out.exists() and list(out.glob("checkpoint-*"))):
        same = subprocess.run([sys.executable, str(pathlib.Path(__file__).with_name("same_run.py")), str(whole), str(out)],
                              capture_output=True, text=True, check=False)
        assert same.returncode == 0, (case, same.stderr)
    return call, result.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("bin")
    parser.add_argument("library", type=pathlib.Path)
    args = parser.parse_args()
    every = 1 if "SWITCHYARD_THOROUGH" in os.environ else 11
    args.folder = args.folder.resolve()
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    case, count = 0, collections.Counter()
    for ranks in (1, 2):
        subprocess.run([f"{args.bin}/moe-compile", args.example, "-o", str(args.folder / f"{ranks}.plan"), "--ranks",
                        str(ranks), "--max-seq-length", "96", "--gradient-accumulation-steps", "2"], check=True,
                       stdout=subprocess.DEVNULL)
        whole, out = args.folder / f"whole-{ranks}", args.folder / f"out-{ranks}"
        assert run(command(args, ranks, whole)).returncode == 0
        for kind in KINDS:
            for number in range(1, 10000):
                case += 1
                if case % every and number > 1:
                    continue
                found = try_fault(args, ranks, kind, number, whole, out)
                if found is None:
                    break
                count[(kind, *found)] += 1
    for (kind, call, code), number in sorted(count.items()):
        print(f"{kind:7} {call:10} exit code {code}: {number}")
    print(f"faults: {sum(count.values())} writes of moe-run failed: every checkpoint is whole")


if __name__ == "__main__":
    main()
