"""What the parts of scripts/gpu share: the machine, its programs and plans, and how one of them is run."""

import ctypes
import filecmp
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What the runtime alone is built from, as Debian calls it; CUDA's compiler and libraries come from NVIDIA.
TOOLS = {"cmake": "cmake", "ninja": "ninja-build", "g++": "g++", "flatc": "flatbuffers-compiler"}
HEADERS = {"flatbuffers/flatbuffers.h": "libflatbuffers-dev", "simdjson.h": "libsimdjson-dev", "dnnl.h": "libdnnl-dev",
           "CL/cl.h": "ocl-icd-opencl-dev", "sentencepiece_processor.h": "libsentencepiece-dev", "unicode/regex.h": "libicu-dev",
           "CLI/CLI.hpp": "libcli11-dev", "spdlog/spdlog.h": "libspdlog-dev", "fmt/format.h": "libfmt-dev",
           "yaml-cpp/yaml.h": "libyaml-cpp-dev", "gtest/gtest.h": "libgtest-dev", "gmock/gmock.h": "libgmock-dev",
           "benchmark/benchmark.h": "libbenchmark-dev"}

GOLDENS = {"mixtral-tiny": 24, "olmoe-tiny": 24}       # of test/golden: tokens of the longest row
SHARED_GOLDENS = {"mixtral": 48, "olmoe": 48}          # of --goldens


class Skip(Exception):
    """A part that this machine cannot run, and why."""


class OutOfTime(Skip):
    """What no longer fits into the time that a part, or all of them, has."""


class Failure(Exception):
    """What went wrong in a part."""


class Machine:
    """Programs, plans and the GPU, and running something on them."""

    def __init__(self, args):
        self.args = args
        self.results = pathlib.Path(args.results)
        self.results.mkdir(parents=True, exist_ok=True)
        self.rehearses = args.rehearse > 0
        self.gpus = [("CPU", "0", "0")] * args.rehearse or self.query("name,memory.total,compute_cap")
        self.programs = {}
        self.plans = pathlib.Path(args.make_plans or args.plans or self.results / "plans")
        self.deadline = self.end = time.monotonic() + args.budget if args.budget else float("inf")
        self.figures = []  # files of them, for the tables at the end
        self.jobs = set()  # that run now
        self.starting = []  # an entry for each that begins to: it may run, but is not among the jobs yet
        self.ending = None  # the status to end with

    def begin_part(self, limit=float("inf")):
        """The part that runs now has at most `limit` seconds."""
        self.deadline = min(self.end, time.monotonic() + limit)

    def seconds_left(self, needed=0):
        """What the part that runs still has; OutOfTime if that is less than `needed`."""
        left = self.deadline - time.monotonic()
        if left < max(needed, 1):
            raise OutOfTime(f"no time for it: {max(left, 0):.0f} s are left")
        return left

    @staticmethod
    def query(fields):
        try:
            text = subprocess.run(["nvidia-smi", "--query-gpu=" + fields, "--format=csv,noheader,nounits"],
                                  capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return []
        return [tuple(word.strip() for word in line.split(",")) for line in text.splitlines()]

    def find_programs(self, needed, also=()):
        """Where the programs are, built first unless --programs names their folder; those of `also` may be missing."""
        if self.rehearses and not self.args.plans:
            needed = [*needed, "moe-compile"]
        folders = [pathlib.Path(self.args.programs)] if self.args.programs else self.build([*needed, *also])
        for name in {*needed, *also, "moe-compile"}:
            for folder in folders:
                if os.access(folder / name, os.X_OK):
                    self.programs[name] = str((folder / name).resolve())
        if missing := [name for name in needed if name not in self.programs]:
            raise Failure(f"no {', '.join(missing)} in {' or '.join(map(str, folders))}")

    def build(self, targets):
        """The folders of the build with the compiler where that exists or is needed, else of the runtime alone."""
        compiler = "moe-compile" in targets
        preset = "release" if compiler or (ROOT / "build/release/bin/moe-compile").exists() else "runtime-only"
        missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
        missing += [package for header, package in HEADERS.items() if not has_header(header)]
        if missing:
            raise Failure("to build, these packages are missing: " + " ".join(missing) +
                          " (scripts/setup installs them on Debian 12)")
        configure = ["cmake", "--preset", preset]
        if not compiler:
            if not shutil.which("nvcc") and not os.path.exists("/usr/local/cuda/bin/nvcc"):
                raise Failure("to build, CUDA's compiler nvcc is missing: install the CUDA toolkit, 12.4 or newer")
            configure.append("-DMOE_CUDA=ON")
            capability = self.gpus[0][2].replace(".", "") if self.gpus else ""
            if capability in ("80", "90"):  # other GPUs need what the default compiles
                configure.append(f"-DMOE_CUDA_ARCHITECTURES={'90a' if capability == '90' else capability}-real")
        self.run("configure", configure)
        also = ["moe-compile"] if preset == "release" and not compiler else []
        self.run("build", ["cmake", "--build", "--preset", preset, "--target", *targets, *also])
        return [ROOT / "build" / preset / folder for folder in ("bin", "test")]

    def end_all(self, status):
        """Ends what runs, and this process with `status`: jobs are sessions of their own, which its end leaves alone.

        A signal may come while a job begins: then whoever begins it does this.
        """
        self.ending = status
        if self.starting:
            return
        for job in list(self.jobs):
            end_session(job)
        os._exit(status)

    def run(self, log, command, environment=None, check=True, append=False, limit=float("inf"), needed=0):
        """Runs `command` with its output in results/LOG.log; its exit status and output.

        It and what it started are ended after `limit` seconds, or when the part's time is over: that is a failure. Less
        time than `needed`: it is not begun.
        """
        seconds = min(limit, self.seconds_left(needed))
        path, began = self.results / f"{log}.log", time.monotonic()
        with open(path, "a" if append else "w", encoding="utf-8") as file:
            file.write(f"$ {' '.join(map(str, command))}\n")
            file.flush()
            begin = file.tell()
            self.starting.append(log)
            try:
                job = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
                                       env={**os.environ, **(environment or {})}, start_new_session=True)
                self.jobs.add(job)
            finally:
                self.starting.pop()
                if self.ending is not None:
                    self.end_all(self.ending)
            try:
                status = job.wait(None if seconds == float("inf") else seconds)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end_session(job)
                self.jobs.discard(job)
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(begin)
            output = file.read()
        with open(path, "a", encoding="utf-8") as file:
            said = f"exit status {status}" if status is not None else "ended"
            file.write(f"{said} after {time.monotonic() - began:.1f} s\n")
        name = pathlib.Path(str(command[0])).name
        if status is None:
            raise Failure(f"{name} was ended after {seconds:.0f} s ({path})")
        if check and status != 0:
            last = [line for line in output.splitlines() if line.strip()][-3:]
            raise Failure(f"{name} ended with {status} ({path}): " + " | ".join(last))
        return status, output

    def plan(self, name, model, flags):
        """The path of the plan `name`, which is compiled where it has to be."""
        path = self.plans / f"{name}.plan"
        if self.args.plans:
            if not path.exists():
                raise Failure(f"{path}: is not there; make plans again with scripts/gpu --make-plans")
        elif not path.exists() or self.args.make_plans:
            if "moe-compile" not in self.programs:
                raise Skip("there is no moe-compile here: make plans elsewhere with scripts/gpu --make-plans DIR, "
                           "carry DIR here and give it with --plans")
            self.plans.mkdir(parents=True, exist_ok=True)
            memory = ["--memory", self.args.memory] if self.args.memory else []
            self.run(f"compile-{name}", [self.programs["moe-compile"], model, "-o", path, "--target",
                                         "cpu" if self.rehearses else "cuda", *memory, *flags])
        return path

    def golden_plan(self, folder, length, suffix="", flags=()):
        return self.plan(folder.name + suffix, folder, [
            "--precision", "f32", "--gradient-accumulation-steps", "2", "--max-seq-length", str(length),
            "--loss-normalization", "micro_batch", "--weight-decay-scope", "all", *flags])

    @property
    def shared(self):
        return pathlib.Path(self.args.goldens)

    def goldens(self):
        """Folders of goldens, and the tokens of their longest rows."""
        found = [(ROOT / "test/golden" / name, length) for name, length in GOLDENS.items()]
        return found + [(self.shared / "golden" / name, length) for name, length in SHARED_GOLDENS.items()
                        if (self.shared / "golden" / name).is_dir()]


def end_session(job):
    """Ends what is left of the session that `job` began: asked to, then at once."""
    for number, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, 3)):
        if job.poll() is not None:
            break
        try:
            os.killpg(job.pid, number)
            job.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
    try:  # children that the first process left behind
        os.killpg(job.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def has_header(header):
    run = subprocess.run(["g++", "-x", "c++", "-std=c++20", "-E", "-"], input=f"#include <{header}>\n", text=True,
                         capture_output=True)
    return run.returncode == 0


def same_bits(folders):
    """What two runs of moe-run train left is compared; how much it was."""
    lines = [[json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] for out in folders]
    for one, other in zip(*lines, strict=True):
        for key in ("loss", "aux_loss", "grad_norm"):
            if one[key] != other[key]:
                raise Failure(f"step {one['step']}: {key} is {one[key]!r}, then {other[key]!r}")
    files = [path.relative_to(folders[0]) for path in folders[0].glob("checkpoint-*/**/*") if path.is_file()]
    _, differ, errors = filecmp.cmpfiles(*folders, files, shallow=False)
    if differ or errors or not files:
        raise Failure(f"files of the checkpoint differ: {', '.join(map(str, differ + errors)) or 'there are none'}")
    return f"{len(lines[0])} steps and {len(files)} files of the checkpoint, the same bits"


def nccl_version():
    try:
        library, version = ctypes.CDLL("libnccl.so.2"), ctypes.c_int()
        return version.value if library.ncclGetVersion(ctypes.byref(version)) == 0 else 0
    except OSError:
        return 0


@functools.cache
def python_of_peers():
    """The interpreter that has torch and transformers, or None."""
    for python in (sys.executable, shutil.which("python3")):
        if python and subprocess.run([python, "-c", "import torch, transformers"], capture_output=True).returncode == 0:
            return python
    return None
