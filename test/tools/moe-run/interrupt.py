#!/usr/bin/env python3
"""Sends signals to moe-run at chosen moments and checks what it leaves.

    interrupt.py CASE EXAMPLE FOLDER    with moe-run and moe-compile in PATH; FOLDER is emptied

Cases: training, twice, compiling, compiled.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

PATIENCE = 120  # seconds; only a hang takes as long


def train_command(program, example, out, *more):
    return [program, "train", "--model", example, "--data", f"{example}/alpaca_sample.json", "--output-dir", str(out),
            "--max-seq-length", "128", *more]


def start(command, log):
    with open(log, "w", encoding="utf-8") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def wait_until(condition, process):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"ended early with {process.returncode}"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def training(example, folder):
    """The step at hand is finished, a checkpoint is saved, the exit code is 0."""
    for number, name, ranks in ((signal.SIGINT, "int", 1), (signal.SIGTERM, "term", 1), (signal.SIGTERM, "ranks", 4)):
        out = folder / name
        process = start(train_command("moe-run", example, out, "--max-steps", "100000", "--ranks", str(ranks)), folder / "log")
        wait_until(lambda: len(lines_of(out / "metrics.jsonl")) >= 3, process)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0, process.returncode
        steps = len(lines_of(out / "metrics.jsonl"))
        assert [json.loads(line)["step"] for line in lines_of(out / "metrics.jsonl")] == list(range(1, steps + 1))
        assert entries(out) == [f"checkpoint-{steps}", "latest", "metrics.jsonl", "step.plan"], entries(out)
        log = lines_of(folder / "log")
        assert log[-2:] == [f"stopped by a signal after step {steps} of 100000", f"saved {out}/checkpoint-{steps}"], log[-2:]
        assert json.loads((out / f"checkpoint-{steps}" / "checkpoint.json").read_text())["step"] == steps
        subprocess.run(["moe-run", "export", "--checkpoint", str(out / f"checkpoint-{steps}"), "--output-dir",
                        str(folder / f"hf-{name}")], check=True, stderr=subprocess.DEVNULL)


def twice(example, folder):
    """A step that takes long, so that the second signal comes within it: the process is gone, without a word."""
    records = json.loads(pathlib.Path(f"{example}/alpaca_sample.json").read_text()) * 1000
    (folder / "many.json").write_text(json.dumps(records))
    out = folder / "out"
    command = train_command("moe-run", example, out, "--coalesce", "1", "--gradient-accumulation-steps", str(len(records)))
    command[command.index("--data") + 1] = str(folder / "many.json")
    process = start(command, folder / "log")
    wait_until((out / "metrics.jsonl").exists, process)
    time.sleep(0.3)  # the step has begun
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first signal must not end a step"
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == -signal.SIGINT, process.returncode
    assert entries(out) == ["metrics.jsonl", "step.plan"], entries(out)
    assert lines_of(out / "metrics.jsonl") == [], "the step was not finished"
    assert not [line for line in lines_of(folder / "log") if "error" in line], lines_of(folder / "log")


def with_compiler(folder, script):
    """A moe-run whose moe-compile is `script`."""
    programs = folder / "programs"
    programs.mkdir()
    shutil.copy(shutil.which("moe-run"), programs)
    (programs / "moe-compile").write_text("#!/bin/sh\n" + script)
    (programs / "moe-compile").chmod(0o755)
    return str(programs / "moe-run")


def compiling(example, folder):
    """The compiler is ended too; one line, no output, nothing in the folder for temporary files."""
    program = with_compiler(folder, f'echo $$ > "{folder}/compiler"\necho part > "$3"\nexec sleep {PATIENCE}\n')
    (folder / "tmp").mkdir()
    os.environ["TMPDIR"] = str(folder / "tmp")
    send_to_all = lambda process: os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C
    for send in (lambda process: process.send_signal(signal.SIGINT), send_to_all):
        (folder / "compiler").unlink(missing_ok=True)
        process = start(train_command(program, example, folder / "out"), folder / "log")
        wait_until(lambda: lines_of(folder / "compiler") and list((folder / "tmp").glob("*/step.plan")), process)
        send(process)
        assert process.wait(PATIENCE) == 1, process.returncode
        message = "moe-run: error: stopped by a signal while compiling; nothing was written"
        assert lines_of(folder / "log") == [message], lines_of(folder / "log")
        assert not (folder / "out").exists() and entries(folder / "tmp") == [], entries(folder / "tmp")
        compiler = lines_of(folder / "compiler")[0]
        assert not os.path.exists(f"/proc/{compiler}"), "the compiler is still there"


def compiled(example, folder):
    """The signal comes when the compiler is just done."""
    compiler = shutil.which("moe-compile")
    program = with_compiler(folder, f'"{compiler}" "$@" || exit\nkill -INT $PPID\n')
    process = start(train_command(program, example, folder / "out"), folder / "log")
    assert process.wait(PATIENCE) == 1, process.returncode
    assert lines_of(folder / "log") == ["moe-run: error: stopped by a signal while compiling; nothing was written"]
    assert not (folder / "out").exists()


def main():
    case, example, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    {"training": training, "twice": twice, "compiling": compiling, "compiled": compiled}[case](example, folder)
    print(f"{case}: as it should be")


if __name__ == "__main__":
    main()
