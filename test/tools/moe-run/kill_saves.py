#!/usr/bin/env python3
"""Kills moe-run with SIGKILL at random moments of its saves: the old or the new checkpoint is there whole, always.

    kill_saves.py [--seed S] EXAMPLE FOLDER BIN    FOLDER is emptied; BIN has moe-run

Each run saves after every step and keeps two checkpoints; it is killed, resumed from what it left, and killed again. Every
checkpoint that has a name is read as a whole by `moe-run export`, which must find nothing wrong, and resumed from; the steps
on record never go back behind the newest one. In turn with 1, 2 and 4 ranks. test/runtime/checkpoint/killed_saves_test.cpp
kills more, of what saves alone.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import time

PATIENCE = 120  # seconds; only a hang takes as long
KILLS_OF_A_RUN = 10


def command(args, out, ranks, plan):
    return [f"{args.bin}/moe-run", "train", "--plan", str(plan), "--model", args.example, "--data", f"{args.example}/alpaca_sample.json",
            "--output-dir", str(out), "--max-steps", "1000000", "--lr-scheduler-type", "constant", "--save-steps", "1",
            "--save-total-limit", "2", "--ranks", str(ranks), "--threads", "1"]


def steps_of(out):
    return sorted(int(path.name[11:]) for path in out.glob("checkpoint-*"))


def kill(words, out, generator):
    """Starts the run and kills it in a save; gives the newest checkpoint's step before."""
    before = steps_of(out) if out.exists() else []
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        end = time.monotonic() + PATIENCE
        while not list(out.glob(".checkpoint-*")) or (before and steps_of(out) == before and generator.random() < 0.5):
            assert process.poll() is None, f"ended early with {process.returncode}: {process.stderr.read()}"
            assert time.monotonic() < end, "nothing is saved"
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.06))
        assert process.poll() is None, f"ended early with {process.returncode}: {process.stderr.read()}"
    finally:
        process.kill()
        process.communicate()
    return before[-1] if before else 0


def check(args, out, newest):
    """What is left, and whether the kill came while a checkpoint was written."""
    steps = steps_of(out)
    if newest or (out / "latest").is_symlink():
        assert steps and steps[-1] >= newest, (steps, newest)
    for step in steps:
        assert json.loads((out / f"checkpoint-{step}" / "checkpoint.json").read_text())["step"] == step
        shutil.rmtree(args.folder / "hf", ignore_errors=True)
        subprocess.run([f"{args.bin}/moe-run", "export", "--checkpoint", str(out / f"checkpoint-{step}"), "--output-dir",
                        str(args.folder / "hf")], check=True, stderr=subprocess.DEVNULL)
    if (out / "latest").is_symlink():
        assert (out / "latest" / "checkpoint.json").exists() or steps, "latest names nothing"
    return steps, bool(list(out.glob(".checkpoint-*")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("bin")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    times = 200 if "SWITCHYARD_THOROUGH" in os.environ else 30
    print(f"seed {args.seed}", flush=True)
    generator = random.Random(args.seed)
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    plans = {}
    for ranks in (1, 2, 4):
        plans[ranks] = args.folder / f"{ranks}.plan"
        subprocess.run([f"{args.bin}/moe-compile", args.example, "-o", str(plans[ranks]), "--ranks", str(ranks), "--max-seq-length", "96",
                        "--gradient-accumulation-steps", "2"], check=True, stdout=subprocess.DEVNULL)
    in_a_save = newest = 0
    outs = {ranks: args.folder / f"out-{ranks}" for ranks in plans}
    for number in range(times):
        ranks = (1, 2, 4)[number % 3]
        out = outs[ranks]
        if number // 3 % KILLS_OF_A_RUN == 0:
            shutil.rmtree(out, ignore_errors=True)
        words = command(args, out, ranks, plans[ranks])
        if out.exists() and steps_of(out):
            words += ["--resume-from-checkpoint", "latest"]
        else:
            shutil.rmtree(out, ignore_errors=True)
        newest = kill(words, out, generator)
        _, is_torn = check(args, out, newest)
        in_a_save += is_torn
    print(f"faults: moe-run killed {times} times, {in_a_save} of them in a save: every checkpoint is whole")


if __name__ == "__main__":
    main()
