"""The parts of scripts/gpu for a machine with several GPUs, N of them: the plan on N ranks, a GPU for each."""

import json
import math
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

from gpu_machine import ROOT, Failure, OutOfTime, Skip, end_session, nccl_version, python_of_peers, same_bits

NCCL_TEST = "nccl_test"
TINY = ROOT / "examples/tiny"
TINY_EXPERTS = 4
BATCH = 16               # records of a step of the toy model, on any number of ranks
STEPS, SAVE_STEPS = 20, 10
EXPERTS = {"mixtral-tiny": 4, "olmoe-tiny": 8, "mixtral": 8, "olmoe": 16}  # of the goldens
# Layers of Mixtral-8x7B's dimensions by the number of GPUs: as many as fit into 80 GB with the activations of 16,384 tokens a GPU,
# ours and the peers'. Activations do not shrink with more GPUs, states do.
LAYERS = {2: 6, 4: 7, 8: 8}
LONG, ALPACA = "long-4x4096x1", "alpaca-1x256x16"
# moe-compile's flags of each step that is timed; batch and accumulation are those of a GPU, as where there is one.
CASES = {
    LONG: ["--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "1", "--max-seq-length", "4096"],
    ALPACA: ["--gradient-accumulation-steps", "16", "--max-seq-length", "256", "--coalesce", "tokens=4096"],
}
REHEARSED_CASES = {  # of the toy model, on the CPU
    LONG: ["--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "1", "--max-seq-length", "64"],
    ALPACA: ["--gradient-accumulation-steps", "16", "--max-seq-length", "16", "--coalesce", "tokens=256"],
}
MEMORY = "76GiB"         # of an 80 GB GPU, what context and NCCL leave
PEER_CASES = "long-4x4096x1,alpaca-16x256x1,alpaca-1x256x16"

# Parts, what they run, and the seconds that each may take where --budget bounds all of them.
PARTS = {"many-collectives": ["moe-run"], "many-goldens": ["moe-run"], "many-training": ["moe-run"],
         "many-steps": ["moe-bench"], "many-peers": ["moe-bench"]}
LIMITS = {"many-collectives": 70, "many-goldens": 100, "many-training": 120, "many-steps": 190, "many-peers": 200}


def shortened(text, most=320):
    """A failure of many; its log has all of it."""
    return text if len(text) <= most else text[:most // 2] + " ... " + text[-most // 2:]


class Checks:
    """The checks of a part: one that fails, or no longer fits, keeps no other from running."""

    def __init__(self):
        self.passed, self.failed, self.left_out = [], [], []

    def attempt(self, name, check, *operands):
        try:
            detail = check(*operands)
            self.passed.append(f"{name} {detail}" if isinstance(detail, str) else name)
        except OutOfTime:
            self.left_out.append(name)
        except Skip as reason:
            self.left_out.append(f"{name} ({reason})")
        except Failure as error:
            self.failed.append(f"{name}: {shortened(str(error))}")
        except Exception as error:  # of what was expected to be in a file
            traceback.print_exc()
            self.failed.append(f"{name}: {type(error).__name__}: {shortened(str(error))}")

    def outcome(self, before=""):
        said = [before + ", ".join(self.passed)] if self.passed else []
        if self.left_out:
            said.append("left out: " + ", ".join(self.left_out))
        said = "; ".join(said)
        if self.failed:
            raise Failure("; ".join(self.failed) + (f" -- {said}" if said else ""))
        if not self.passed:
            raise Skip(said)
        return said


def mesh_of(ranks, experts):
    """The mesh that moe-compile takes by itself: experts over as many ranks as divide them."""
    ep = math.gcd(ranks, experts)
    return ",".join(f"{axis}={size}" for axis, size in (("fsdp", ranks // ep), ("ep", ep)) if size > 1)


def meshes_of(ranks, experts):
    """Name -> mesh: the experts over all ranks, all parameters over all ranks, and both, where they exist."""
    meshes = {"ep": f"ep={ranks}", "fsdp": f"fsdp={ranks}"}
    if ranks >= 4 and ranks % 2 == 0:
        meshes["fsdp-ep"] = f"fsdp=2,ep={ranks // 2}"
    return {name: mesh for name, mesh in meshes.items()
            if "ep=" not in mesh or experts % int(mesh.rpartition("ep=")[2]) == 0}


def golden_cases(machine):
    """Operands of Machine.golden_plan for what is validated on all GPUs, the most telling first."""
    count = len(machine.gpus)
    for folder, length in machine.goldens():
        experts = EXPERTS[folder.name]
        flags = {name: ["--mesh", mesh] for name, mesh in meshes_of(count, experts).items()}
        if folder.parent == ROOT / "test/golden":  # those are quick
            best = ["--mesh", mesh_of(count, experts)]
            # Buffers so small that every exchange overflows; a step that is one program.
            flags["overflow"] = [*best, "--token-exchange-slot-factor", "0.2"]
            flags["fused"] = [*best, "--step-program", "fused", "--coalesce", "2"]
            flags["dp"] = ["--mesh", f"dp={count}"]
        for name, words in flags.items():
            yield folder, length, f"-{count}-{name}", words


def tiny_plan(machine, name, ranks, *flags):
    mesh = ["--mesh", mesh_of(ranks, TINY_EXPERTS)] if ranks > 1 else []
    return machine.plan(f"tiny-{name}-{ranks}", TINY, [
        "--precision", "f32", "--max-seq-length", "256", "--gradient-accumulation-steps", max(BATCH // ranks, 1), *mesh,
        *flags])


def fused_plan(machine, ranks):
    return tiny_plan(machine, "fused", ranks, "--step-program", "fused")


def split_plan(machine, ranks):
    return tiny_plan(machine, "split", ranks, "--step-program", "split")


def overflow_plan(machine, ranks):
    return tiny_plan(machine, "overflow", ranks, "--token-exchange-slot-factor", "0.5")


def layers_of(machine):
    return LAYERS.get(len(machine.gpus), max(LAYERS.values()))


def slice_folder(machine):
    """Mixtral-8x7B's dimensions with layers_of() layers, as a model without weights."""
    if machine.rehearses:
        return TINY
    config = json.loads((ROOT / "bench/models/mixtral-4-layers/config.json").read_text())
    config["num_hidden_layers"] = layers_of(machine)
    folder = machine.results / "slice"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def step_cases(machine):
    """(case, mesh) of each plan whose steps are timed, the most telling first."""
    for name in meshes_of(len(machine.gpus), TINY_EXPERTS if machine.rehearses else 8):
        for case in CASES:
            yield case, name


def step_plan(machine, case, name):
    count = len(machine.gpus)
    mesh = meshes_of(count, TINY_EXPERTS if machine.rehearses else 8)[name]
    flags = [] if machine.args.memory or machine.rehearses else ["--memory", MEMORY]
    if count == 2 and "ep=" in mesh and case == LONG:
        flags += ["--token-exchange-slot-factor", "1.5"]  # at 2, six layers would fill the GPU
    return machine.plan(f"step-{count}-{name}-{case}", slice_folder(machine), [
        "--precision", "bf16", "--router-aux-loss-coef", "0.02", "--step-program", "fused", "--mesh", mesh, *flags,
        *(REHEARSED_CASES if machine.rehearses else CASES)[case]])


def make_plans(machine, parts):
    """Makes the plans that `parts` run; one that cannot be made keeps no other from it."""
    checks, count = Checks(), len(machine.gpus)
    for case in golden_cases(machine) if "many-goldens" in parts else ():
        checks.attempt(case[0].name + case[2], machine.golden_plan, *case)
    if "many-training" in parts:
        for make, ranks in ((fused_plan, 1), (fused_plan, count), (fused_plan, count // 2), (split_plan, count),
                            (overflow_plan, count)):
            checks.attempt(f"{make.__name__} for {ranks}", make, machine, ranks)
    for case, mesh in step_cases(machine) if "many-steps" in parts else ():
        checks.attempt(f"step {case} {mesh}", step_plan, machine, case, mesh)
    if checks.failed:
        raise Failure("; ".join(checks.failed))


def collectives(machine):
    if machine.rehearses:
        raise Skip("ranks on the CPU talk through memory")
    if nccl_version() == 0:
        raise Skip("there is no libnccl.so.2 on the loader's path")
    if NCCL_TEST not in machine.programs:
        raise Skip(f"{NCCL_TEST} was not built")
    count = len(machine.gpus)
    _, output = machine.run("many-collectives", [machine.programs[NCCL_TEST], "--spawn", count], limit=60)
    passed = [line for line in output.splitlines() if "[  PASSED  ]" in line]
    if not passed or "no job of ranks on GPUs" in output:
        raise Failure(f"no test passed, see {machine.results}/many-collectives.log")
    return f"{passed[0].split(']')[1].strip()} on each of {count} ranks"


def goldens(machine):
    checks, count = Checks(), len(machine.gpus)

    def validate(folder, length, suffix, flags):
        plan = machine.golden_plan(folder, length, suffix, flags)
        machine.run(f"many-golden-{folder.name}{suffix}", [
            machine.programs["moe-run"], "validate", "--golden", folder, "--plan", plan, "--ranks", count,
            "--comm-timeout", "30"], limit=60, needed=5)

    for case in golden_cases(machine):
        checks.attempt(f"{case[0].name}{case[2]}", validate, *case)
    return checks.outcome("within tolerance: ")


class Training:
    """Runs of the toy model on N ranks, and what each is compared with."""

    def __init__(self, machine):
        self.machine, self.count = machine, len(machine.gpus)

    def command(self, plan, out, *flags, model=TINY, steps=STEPS, rate="1e-3"):
        shutil.rmtree(out, ignore_errors=True)
        return [self.machine.programs["moe-run"], "train", "--plan", plan, "--model", model, "--data",
                TINY / "alpaca_sample.json", "--tokenizer", TINY / "tokenizer.model", "--output-dir", out, "--max-steps",
                steps, "--save-steps", SAVE_STEPS, "--learning-rate", rate, "--warmup-steps", "4",
                "--comm-timeout", "30", *flags]

    def out(self, name):
        return self.machine.results / f"many-{name}"

    def train(self, name, plan, ranks, *flags, launcher=(), **others):
        command = self.command(plan, self.out(name), *flags, **others)
        self.machine.run(f"many-{name}", [*launcher, *command, *(["--ranks", ranks] if not launcher else [])], limit=60,
                         needed=5)
        return self.out(name)

    def metrics(self, name):
        return self.out(name) / "metrics.jsonl"

    def compare(self, name, other, first="1e-5", others="1e-4", steps=STEPS):
        """Losses of the last `steps` steps."""
        last = self.machine.results / f"many-{name}-expected.jsonl"
        last.write_text("".join(line + "\n" for line in self.metrics(other).read_text().splitlines()[-steps:]))
        _, output = self.machine.run(f"many-{name}", [
            sys.executable, ROOT / "test/golden/compare_losses.py", self.metrics(name), last, "--first-tolerance", first,
            "--tolerance", others], append=True)
        worst = max(float(line.split(" differ by ")[1].split()[0]) for line in output.splitlines() if " differ by " in line)
        return f"(losses differ by {worst:.0e} at most)"

    def repeats(self):
        plan = fused_plan(self.machine, self.count)
        return f"({same_bits([self.train(name, plan, self.count) for name in ('first', 'again')])})"

    def one(self):
        """A step that is one program on N ranks, beside one rank."""
        self.train("one", fused_plan(self.machine, 1), 1)
        return self.compare("first", "one")

    def split(self):
        self.train("split", split_plan(self.machine, self.count), self.count)
        return self.compare("split", "one")

    def resume(self):
        self.train("half", fused_plan(self.machine, self.count // 2), self.count // 2, "--resume-from-checkpoint",
                   self.out("first") / f"checkpoint-{SAVE_STEPS}")
        return f"at {self.count // 2} of {self.count} ranks " + self.compare("half", "first", steps=STEPS - SAVE_STEPS)

    def torchrun(self):
        if not (python := python_of_peers()):
            raise Skip("no python3 here has torch and transformers")
        self.train("torchrun", fused_plan(self.machine, self.count), self.count,
                   launcher=[*torchrun(python, self.count), "--no-python"])
        return f"({same_bits([self.out('first'), self.out('torchrun')])})"

    def adversarial(self):
        """All tokens go to the first two experts: what a router of zeros makes of them."""
        model = self.machine.results / "many-adversarial-model"
        zero_routers(TINY, model)
        still = {"model": model, "rate": "0", "steps": 4}  # so that the router stays as it is
        self.train("adversarial-one", fused_plan(self.machine, 1), 1, **still)
        self.train("adversarial", overflow_plan(self.machine, self.count), self.count, **still)
        steps = [json.loads(line) for line in self.metrics("adversarial").read_text().splitlines()]
        rounds, load = min(step["overflow_rounds"] for step in steps), max(step["expert_load_max_over_mean"] for step in steps)
        if rounds < 1 or load != TINY_EXPERTS / 2:
            raise Failure(f"a step had {rounds} overflow rounds and a load of {load}; expected rounds, and {TINY_EXPERTS / 2}")
        return self.compare("adversarial", "adversarial-one", steps=4) + f", {rounds} rounds a step"

    def lost_rank(self):
        if self.machine.rehearses:
            raise Skip("ranks on the CPU are threads of one process")
        command = self.command(fused_plan(self.machine, self.count), self.out("lost"), "--ranks", self.count, steps=1000000)
        self.machine.seconds_left(20)
        return lose_rank(command, self.count, self.out("lost"), self.machine.results / "many-lost.log")


def training(machine):
    runs, checks = Training(machine), Checks()
    checks.attempt("repeats", runs.repeats)
    checks.attempt("resumed", runs.resume)
    checks.attempt("lost rank", runs.lost_rank)
    checks.attempt("adversarial router", runs.adversarial)
    checks.attempt("one program on ranks and on one rank", runs.one)
    checks.attempt("two programs", runs.split)
    checks.attempt("torchrun", runs.torchrun)
    return checks.outcome()


def torchrun(python, ranks):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [python, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", ranks, "--master-addr", "127.0.0.1",
            "--master-port", port]


def zero_routers(source, target):
    """The checkpoint `source`, with routers whose weights are zero: all scores are equal, and ties go to the lowest indices."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.model"):
        shutil.copyfile(source / name, target / name)
    data = bytearray((source / "model.safetensors").read_bytes())
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    routers = [tensor["data_offsets"] for name, tensor in json.loads(data[8:begin]).items() if name.endswith(".gate.weight")]
    if not routers:
        raise Failure(f"{source} has no routers")
    for first, last in routers:
        data[begin + first:begin + last] = bytes(last - first)
    (target / "model.safetensors").write_bytes(data)


def parent_of(process):
    try:
        return int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def ranks_of(job):
    """Rank -> process, of the children of `job`, as their environment says."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or parent_of(entry.name) != job:
            continue
        try:
            words = dict(word.partition(b"=")[::2] for word in (entry / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if b"RANK" in words:
            found[int(words[b"RANK"])] = int(entry.name)
    return found


def lose_rank(command, count, out, log, patience=45):
    """Kills the last rank of a training run with SIGKILL, once it trains; how the others ended."""
    with open(log, "w", encoding="utf-8") as file:
        job = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
    try:
        end, metrics = time.monotonic() + patience, out / "metrics.jsonl"
        while not metrics.exists() or metrics.read_text().count("\n") < 5:
            if job.poll() is not None or time.monotonic() > end:
                raise Failure(f"the run does not train, see {log}")
            time.sleep(0.02)
        ranks, lost = ranks_of(job.pid), count - 1
        if sorted(ranks) != list(range(count)):
            raise Failure(f"moe-run has the ranks {sorted(ranks)}; expected {count}")
        os.kill(ranks[lost], signal.SIGKILL)
        began = time.monotonic()
        try:
            status = job.wait(30)
        except subprocess.TimeoutExpired:
            raise Failure("the others go on 30 s after a rank was killed") from None
        took = time.monotonic() - began
    finally:
        end_session(job)
    said = log.read_text(encoding="utf-8", errors="replace")
    if status != 5 or f"rank {lost} died" not in said:
        raise Failure(f"the job ended with {status} after {took:.1f} s; expected 5, and the name of rank {lost}; see {log}")
    for rank in range(lost):
        record = json.loads((out / f"failure-rank-{rank}.jsonl").read_text().splitlines()[0])
        if (record["rank"], record["lost_rank"], record["reason"]) != (rank, lost, "died"):
            raise Failure(f"rank {rank} left the record {record}")
    return f"(named, all over in {took:.2f} s with 5)"


def figures_of(machine):
    path = machine.results / "figures-many.jsonl"
    if path not in machine.figures:
        path.unlink(missing_ok=True)
        machine.figures.append(path)
    return path


def steps(machine):
    checks, figures, count = Checks(), figures_of(machine), len(machine.gpus)

    def time_steps(case, mesh):
        machine.run(f"many-step-{case}-{mesh}", [
            machine.programs["moe-bench"], "step", "--plan", step_plan(machine, case, mesh), "--ranks", count, "--name", case,
            "--warmup", "3", "--steps", machine.args.steps, "--json", figures, "--profile",
            machine.results / f"trace-{case}-{mesh}.json"], limit=90, needed=15)

    for case, mesh in step_cases(machine):
        checks.attempt(f"{case} {mesh}", time_steps, case, mesh)
    return checks.outcome()


def peers(machine):
    if not machine.args.peers:
        raise Skip("--peers names none")
    if not (python := python_of_peers()):
        raise Skip("no python3 here has torch and transformers")
    checks, figures, count = Checks(), figures_of(machine), len(machine.gpus)
    scripts, tiny = ROOT / "bench/peers", ["--tiny"] if machine.rehearses else []
    start = torchrun(python, count)

    def run(name, limit, *command):
        machine.run(name, [*start, *command, "--json", figures], limit=limit, needed=20)

    checks.attempt("NCCL", run, "many-peer-collectives", 45, scripts / "torch_collectives.py", *tiny)
    for kind, flags, limit in (("eager", ["--eager"], 80), ("compiled", [], 150)):
        checks.attempt(f"transformers FSDP2 {kind}", run, f"many-peer-{kind}", limit, scripts / "transformers_fsdp.py",
                       "--layers", 2 if machine.rehearses else layers_of(machine), "--cases", PEER_CASES, *flags, *tiny)
    return checks.outcome()


FUNCTIONS = {"many-collectives": collectives, "many-goldens": goldens, "many-training": training, "many-steps": steps,
             "many-peers": peers}
