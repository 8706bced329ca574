#!/usr/bin/env python3
"""Ends runs by SIGTERM at random steps and resumes them until they are done; they must end as one that was left alone.

    stop_and_resume.py [--times N] [--seed S] EXAMPLE FOLDER    with moe-run and moe-compile in PATH; FOLDER is emptied
"""
import argparse
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

STEPS = 60
PATIENCE = 120  # seconds; only a hang takes as long


def command(example, out, ranks):
    return ["moe-run", "train", "--model", example, "--data", f"{example}/alpaca_sample.json", "--output-dir", str(out),
            "--max-seq-length", "96", "--gradient-accumulation-steps", str(8 // ranks), "--max-steps", str(STEPS),
            "--save-steps", "1000", "--save-total-limit", "1", "--train-sampling-strategy", "random", "--ranks", str(ranks)]


def stopped(words, out, wait):
    """Whether the run had to be stopped, after `wait` more steps."""
    done = len((out / "metrics.jsonl").read_text().splitlines()) if out.exists() else 0
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + PATIENCE
    while process.poll() is None:
        assert time.monotonic() < end, "the run does not end"
        metrics = out / "metrics.jsonl"
        if metrics.exists() and len(metrics.read_text().splitlines()) >= done + wait:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.002)
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, (process.returncode, log)
    return "stopped by a signal" in log


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    generator = random.Random(args.seed)
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    compare = [sys.executable, str(pathlib.Path(__file__).with_name("same_run.py"))]
    for time_ in range(args.times):
        ranks = (1, 2, 4)[time_ % 3] if args.times > 1 else 2
        whole, cut = args.folder / f"whole-{time_}", args.folder / f"cut-{time_}"
        subprocess.run(command(args.example, whole, ranks), check=True, stderr=subprocess.DEVNULL)
        words, stops = command(args.example, cut, ranks), 0
        while stopped(words, cut, generator.randrange(1, STEPS // 4)):
            stops += 1
            words = command(args.example, cut, ranks) + ["--resume-from-checkpoint", "latest"]
        subprocess.run(compare + [str(whole), str(cut)], check=True)
        print(f"{ranks} ranks, stopped {stops} times: the same")


if __name__ == "__main__":
    main()
