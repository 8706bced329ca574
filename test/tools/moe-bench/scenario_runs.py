"""moe-bench --scenarios_config_path with a moe-run beside it that plays what a real one may do.

    scenario_runs.py EXAMPLES OUTPUT FOLDER    with moe-bench in PATH; FOLDER is emptied

OUTPUT is what a real run of one step left; the played one copies it.
"""
import csv
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

PATIENCE = 60  # seconds; only a hang takes as long

MOE_RUN = """#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in --ranks) ranks=$2 ;; --max-steps) steps=$2 ;; esac
  shift
done
[ -e "$PLAYED/die-$ranks" ] && kill -9 $$
[ -e "$PLAYED/fail-$ranks" ] && { echo "moe-run: error: does not fit: 1 byte"; exit 4; }
if [ -e "$PLAYED/wait-$ranks" ]; then
  trap 'touch "$PLAYED/stopped"; exit 0' TERM
  touch "$PLAYED/waiting"
  while [ -e "$PLAYED/wait-$ranks" ]; do sleep 0.05; done
fi
mkdir output && cp "$PLAYED/output/metrics.jsonl" "$PLAYED/output/step.plan" output
echo "GPU memory: plan 1.0 MiB; the driver counts $((ranks * 100)).5 MiB (+0.10%)"
echo "$ranks" >> "$PLAYED/ran"
"""


class Played:
    def __init__(self, examples, output, folder):
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        self.program = shutil.copy(shutil.which("moe-bench"), folder / "bin")
        (folder / "bin/moe-run").write_text(MOE_RUN)
        (folder / "bin/moe-run").chmod(0o755)
        shutil.copytree(output, folder / "output")
        scenarios = examples / "scenarios/accelerated-moe.yaml"
        (folder / "one.yaml").write_text("max_steps: 1\nmax_seq_length: 128\n")
        self.command = [self.program, "--scenarios_config_path", scenarios, "--defaults_config_path",
                        folder / "one.yaml", "--results_output_path", folder / "results", "--configurations",
                        examples / "configurations", "--num_gpus_matrix", "1", "2"]
        self.environment = {**os.environ, "PLAYED": str(folder)}

    def start(self, *more):
        return subprocess.Popen([*self.command, *more], env=self.environment, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True)

    def run(self, *more):
        process = self.start(*more)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def wait_for(self, name, process):
        end = time.monotonic() + PATIENCE
        while not (self.folder / name).exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, f"no {name}"
            time.sleep(0.02)

    def ran(self):
        return (self.folder / "ran").read_text().split()

    def rows(self):
        with open(self.folder / "results/benchmarks.csv", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def interrupted(played):
    """A Ctrl-C ends the run at hand, which is not counted; the same command goes on."""
    (played.folder / "wait-2").touch()
    process = played.start()
    played.wait_for("waiting", process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, (process.returncode, err)
    assert err.endswith("moe-bench: error: stopped by a signal with 1 of 5 runs done; the same command goes on from "
                        "there\n"), err
    assert (played.folder / "stopped").exists() and played.ran() == ["1"], played.ran()
    assert len(played.rows()) == 1
    (played.folder / "wait-2").unlink()
    code, _, err = played.run()
    assert code == 0, err
    assert played.ran() == ["1", "2", "1", "2", "2"], played.ran()
    assert [row["framework_config"] for row in played.rows()] == ["none", "none", "ep1", "ep1", "ep2"]
    assert [row["mem_nvidia_mem_reserved"] for row in played.rows()] == ["100.5", "200.5", "100.5", "200.5", "200.5"]


def locked(played):
    """Two matrices don't share a folder, nor does one with a run that is left of another."""
    shutil.rmtree(played.folder / "results")
    (played.folder / "waiting").unlink()
    (played.folder / "wait-1").touch()
    first = played.start()
    played.wait_for("waiting", first)
    message = ("/results: is in use by another moe-bench, or by a run that a killed one left behind; wait for it or end "
               "it\n")
    code, _, err = played.run()
    assert code == 1 and err.endswith(message), err
    first.kill()
    first.wait(timeout=PATIENCE)
    code, _, err = played.run()
    assert code == 1 and err.endswith(message), err
    before = len(played.ran())
    (played.folder / "wait-1").unlink()
    end = time.monotonic() + PATIENCE
    while played.run()[0] != 0:
        assert time.monotonic() < end, "still locked"
        time.sleep(0.1)
    assert len(played.ran()) == before + 6, played.ran()  # the one left, and all of the matrix
    assert len(played.rows()) == 5


def failed(played):
    """A run that fails has no row and is named; the others are made, and it is tried again."""
    shutil.rmtree(played.folder / "results")
    (played.folder / "fail-2").touch()
    code, out, err = played.run()
    assert code == 1, err
    for i, name in ((1, "none"), (3, "ep1"), (4, "ep2")):
        line = (f'exp_{i}: scenario "accelerated-moe-full", framework_config "{name}", model "examples/tiny", 2 GPUs, '
                "batch 1 x 16, length 128: ended with exit code 4: does not fit: 1 byte (see ")
        assert f"failed: {line}" in out and f"error: {line}" in err, (out, err)
    assert err.endswith("moe-bench: error: 3 of 5 runs failed; their folders have a log, and the same command tries "
                        "them again\n"), err
    assert [row["num_gpus"] for row in played.rows()] == ["1", "1"]
    (played.folder / "fail-2").unlink()
    (played.folder / "die-2").touch()
    code, out, err = played.run()
    assert code == 1 and "ended with exit code 137: it said nothing" in out, out
    (played.folder / "die-2").unlink()
    code, _, err = played.run()
    assert code == 0 and len(played.rows()) == 5, err


def stopped_alone(played):
    """A run that was stopped, and ended well, before its last step is no measurement."""
    shutil.rmtree(played.folder / "results")
    (played.folder / "one.yaml").write_text("max_steps: 2\nmax_seq_length: 128\n")
    code, out, _ = played.run()
    assert code == 1 and "was stopped after step 1, before its end" in out, out
    assert played.rows() == []


def written_nowhere(played):
    shutil.rmtree(played.folder / "results")
    (played.folder / "results").touch()
    code, _, err = played.run()
    assert code == 1 and "/results: cannot be made: " in err and "give another --results_output_path" in err, err
    (played.folder / "bin/moe-run").unlink()
    code, _, err = played.run()
    assert code == 2 and err.endswith("/bin/moe-run to run scenarios with; install moe-run beside moe-bench\n"), err


def main():
    played = Played(pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]))
    for case in (interrupted, locked, failed, stopped_alone, written_nowhere):
        case(played)


main()
