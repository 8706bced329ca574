#!/usr/bin/env python3
"""Kills, stops or asks to end a rank of an MPI training run at a random moment and checks how the job ends.

    lose_rank.py [--times N] [--seed S] kill|stop|term EXAMPLE FOLDER MPIRUN...

with moe-run and moe-compile in PATH; FOLDER is emptied; MPIRUN... is the command that stands before -n. The job must end within
5 s of a death, of a stop within --comm-timeout and 5 s; its exit code is not 0; each survivor leaves a record that names the
rank and says where all stood; no process is left. A rank that gets SIGTERM tells the others: all finish the step, save and
end with 0. Signals go to children of the mpirun that this program started, never to
others.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

RANKS = 4
PATIENCE = 120  # seconds; only a hang takes as long
TIMEOUT = 5     # --comm-timeout, seconds: longer than a loaded machine holds a rank up


def parent_of(process):
    try:
        return int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def is_gone(process):
    """Whether it has ended; one that waits for its parent to notice has."""
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def ranks_of(job):
    """The process of each rank, from mpirun's children."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or parent_of(entry.name) != job.pid:
            continue
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for word in words:
            name, _, value = word.partition(b"=")
            if name == b"OMPI_COMM_WORLD_RANK":
                found[int(value)] = int(entry.name)
    return found


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def start(example, out, mpirun, log):
    command = mpirun + ["-n", str(RANKS), "moe-run", "train", "--model", example, "--data", f"{example}/alpaca_sample.json",
                        "--output-dir", str(out), "--max-seq-length", "96", "--gradient-accumulation-steps", "2", "--mesh",
                        "fsdp=2,ep=2", "--max-steps", "1000000", "--save-steps", "20", "--comm-timeout", str(TIMEOUT)]
    with open(log, "w", encoding="utf-8") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def check_records(out, lost, reason, log):
    for rank in range(RANKS):
        lines = lines_of(out / f"failure-rank-{rank}.jsonl")
        if rank == lost:  # a stopped one goes on for a moment when mpirun ends it
            assert not lines or reason == "stalled", lines
            continue
        assert len(lines) == 1, (f"rank {rank} left {len(lines)} records", log.read_text())
        record = json.loads(lines[0])
        assert (record["rank"], record["lost_rank"], record["reason"]) == (rank, lost, reason), record
        assert len(record["ranks"]) == RANKS, record
        assert record["ranks"][rank]["program"], record
    assert f"error: rank {lost} {reason}" in log.read_text(), log.read_text()


def lose(how, example, folder, mpirun, generator):
    out, log = folder / "out", folder / "log"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job = start(example, out, mpirun, log)
    ranks = {}
    try:
        end = time.monotonic() + PATIENCE
        while len(lines_of(out / "metrics.jsonl")) < 2:
            assert job.poll() is None, f"ended early with {job.returncode}: {log.read_text()}"
            assert time.monotonic() < end, "the run does not start"
            time.sleep(0.01)
        ranks = ranks_of(job)
        assert sorted(ranks) == list(range(RANKS)), ranks
        lost = generator.randrange(RANKS)
        delay = generator.uniform(0, 1)
        time.sleep(delay)
        assert ranks[lost] > 1 and parent_of(ranks[lost]) == job.pid
        os.kill(ranks[lost], {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}[how])
        began = time.monotonic()
        code = job.wait(PATIENCE)
        took = time.monotonic() - began
        steps = len(lines_of(out / "metrics.jsonl"))
        print(f"rank {lost} after {delay:.2f} s, {steps} steps: ended in {took:.2f} s with {code}", flush=True)
        if how == "term":
            assert code == 0, log.read_text()
            assert f"stopped by a signal after step {steps} of" in log.read_text(), log.read_text()
            assert (out / f"checkpoint-{steps}" / "checkpoint.json").exists()
            assert not list(out.glob("failure-rank-*"))
            return
        assert code != 0
        assert took < (5 if how == "kill" else TIMEOUT + 5), took
        check_records(out, lost, "died" if how == "kill" else "stalled", log)
        time.sleep(0.2)
        left = {rank: process for rank, process in ranks.items() if not is_gone(process)}
        assert not left, left
    finally:
        if job.poll() is None:
            for process in ranks.values():
                if process > 1 and parent_of(process) == job.pid:
                    os.kill(process, signal.SIGKILL)
            job.kill()
            job.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("how", choices=("kill", "stop", "term"))
    parser.add_argument("example")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("mpirun", nargs=argparse.REMAINDER)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    generator = random.Random(seed)
    for _ in range(args.times):
        lose(args.how, args.example, args.folder, args.mpirun, generator)
    print(f"{args.how}: as it should be")


if __name__ == "__main__":
    sys.exit(main())
