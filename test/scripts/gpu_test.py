"""scripts/gpu and bench/compare.py on a machine that need not have a GPU: programs and GPU are played by scripts."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "scripts"))
import gpu_machine  # which stands beside scripts/gpu
PROGRAMS = {
    "nvidia-smi": 'echo "Some GPU, 81920, 9.0"',
    "kernels_cuda_conformance_test": 'echo "[  PASSED  ] 12 tests."',
    "moe-run": 'echo "$@" >> "$CALLS"',
    "moe-bench": 'while [ $# -gt 1 ]; do [ "$1" = --json ] && echo "$RECORD" >> "$2"; shift; done',
}
RECORD = {"program": "switchyard", "case": "step a", "device": "Some GPU", "runs": 3, "tokens_per_second": 300.0,
          "ms": {"median": 2.0, "min": 1.5, "max": 2.5}, "peak_bytes": 3 << 30}
PLANS = ["mixtral-tiny", "olmoe-tiny", "tiny", "step-alpaca-1x256x16", "step-alpaca-real-1x16", "step-long-4x4096x1"]


class Machine(unittest.TestCase):
    """A machine with a GPU, programs that do nothing, and plans."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="gpu test ")
        self.addCleanup(self.folder.cleanup)
        self.path = self.folder.name
        for name in PLANS:
            self.write(f"plans/{name}.plan", "")
        for name, body in PROGRAMS.items():
            self.program(name, body)
        # What determinism reads.
        self.metrics = {"step": 1, "loss": 2.5, "aux_loss": 2.0, "grad_norm": 1.0}

    def write(self, name, text):
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def program(self, name, body):
        os.chmod(self.write(f"programs/{name}", f"#!/bin/sh\n{body}\n"), 0o755)

    def start_gpu(self, *options):
        at = lambda name: os.path.join(self.path, name)
        return subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "scripts", "gpu"), "--programs", at("programs"), "--plans", at("plans"),
             "--results", at("results"), "--goldens", at("none"), *options], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PATH": f"{at('programs')}:{os.environ['PATH']}", "CALLS": at("calls"),
                 "RECORD": json.dumps(RECORD)})

    def run_gpu(self, *options):
        job = self.start_gpu(*options)
        output, error = job.communicate()
        return job.returncode, output, error


class Gpu(Machine):
    def test_passes_and_says_what_ran(self):
        status, output, error = self.run_gpu("--only", "conformance,goldens")
        self.assertEqual((status, error), (0, ""), output)
        lines = output.splitlines()
        self.assertEqual(lines[0], "1 x Some GPU")
        self.assertRegex(lines[1], r"^conformance  passed +\d+ s  12 tests$")
        self.assertRegex(lines[2], r"^goldens      passed +\d+ s  within tolerance: mixtral-tiny, olmoe-tiny$")
        self.assertEqual(lines[3], "gpu: 2 passed")
        with open(os.path.join(self.path, "calls"), encoding="utf-8") as file:
            calls = file.read().splitlines()
        self.assertEqual(len(calls), 2)
        self.assertRegex(calls[0], "^validate --golden .*/mixtral-tiny --plan .*/plans/mixtral-tiny.plan$")

    def test_a_part_that_fails_keeps_no_other_from_running(self):
        self.program("kernels_cuda_conformance_test", "echo one; echo two; exit 1")
        status, output, _ = self.run_gpu("--only", "conformance,goldens")
        self.assertEqual(status, 1)
        self.assertRegex(output, r"conformance  FAILED .* kernels_cuda_conformance_test ended with 1 \(.*\): one \| two")
        self.assertRegex(output, r"goldens +passed")
        self.assertIn("gpu: 1 passed, 1 failed", output)

    def test_no_test_is_no_pass(self):
        self.program("kernels_cuda_conformance_test", 'echo "[  PASSED  ] 0 of them"')
        status, output, _ = self.run_gpu("--only", "conformance")
        self.assertEqual(status, 1)
        self.assertIn("no test passed", output)

    def test_skipped_tests_are_no_pass(self):
        self.program("kernels_cuda_conformance_test", 'echo "no CUDA device: why"; echo "[  PASSED  ] 12 tests."')
        status, output, _ = self.run_gpu("--only", "conformance")
        self.assertEqual(status, 1)
        self.assertRegex(output, "conformance  FAILED .* the tests were skipped: no CUDA device: why")

    def test_a_plan_that_is_not_there(self):
        os.remove(os.path.join(self.path, "plans/olmoe-tiny.plan"))
        status, output, _ = self.run_gpu("--only", "goldens")
        self.assertEqual(status, 1)
        self.assertIn("olmoe-tiny.plan: is not there; make plans again with scripts/gpu --make-plans", output)

    def train(self, second):
        metrics, other = json.dumps(self.metrics), json.dumps({**self.metrics, **second})
        self.program("moe-run", f"""while [ "$1" != --output-dir ]; do shift; done
mkdir -p "$2/checkpoint-20" && echo weights > "$2/checkpoint-20/model"
case "$2" in *-1) echo '{metrics}' ;; *) echo '{other}' ;; esac > "$2/metrics.jsonl" """)

    def test_determinism(self):
        self.train({})
        status, output, _ = self.run_gpu("--only", "determinism")
        self.assertEqual(status, 0, output)
        self.assertIn("1 steps and 1 files of the checkpoint, the same bits", output)
        self.train({"grad_norm": 1.0000001})
        status, output, _ = self.run_gpu("--only", "determinism")
        self.assertEqual(status, 1)
        self.assertIn("step 1: grad_norm is 1.0, then 1.0000001", output)

    def test_benchmark_without_peers(self):
        for name in ("python3", "python"):
            self.program(name, "exit 1")
        fake = self.write("lib/torch.py", "raise ImportError('no torch')\n")
        os.environ["PYTHONPATH"] = os.path.dirname(fake)
        self.addCleanup(os.environ.pop, "PYTHONPATH")
        status, output, _ = self.run_gpu("--only", "benchmark")
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"step a +switchyard +2\.000 ms \[1\.500 2\.500\] +300 tokens/s, peak 3\.0 GiB")
        self.assertIn("5 figures in", output)
        self.assertIn("; left out: peers (no python3 here has torch and transformers)", output)

    def test_grouped_gemm(self):
        self.program("moe-bench", PROGRAMS["moe-run"] + "; " + PROGRAMS["moe-bench"])
        status, output, _ = self.run_gpu("--only", "grouped-gemm", "--peers", "")
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"grouped-gemm passed +\d+ s  2 figures in .*/grouped-gemm.jsonl; left out: torch")
        with open(os.path.join(self.path, "calls"), encoding="utf-8") as file:
            calls = file.read().splitlines()
        self.assertRegex(calls[0], "^grouped-gemm .* --model mixtral-8x7b .* --tokens 512 4096 16384 32768 --routing random$")
        self.assertRegex(calls[1], "^grouped-gemm .* --tokens 4096 --routing balanced zipf one-empty one-overfull$")
        self.program("moe-bench", PROGRAMS["moe-bench"] + "; echo wrong results: x; exit 1")
        status, output, _ = self.run_gpu("--only", "grouped-gemm", "--peers", "")
        self.assertEqual(status, 1)
        self.assertRegex(output, r"grouped-gemm FAILED .* moe-bench ended with 1 .*: wrong results: x")

    def test_wrong_uses(self):
        self.assertEqual(self.run_gpu("--only", "golden")[::2],
                         (2, "gpu: there is no part 'golden' (known: conformance, sanitizer, goldens, determinism, ranks, "
                             "benchmark, grouped-gemm, ncu, many-collectives, many-goldens, many-training, many-steps, many-peers, "
                             "many)\n"))
        self.assertEqual(self.run_gpu("--rehearse", "2", "--only", "goldens")[::2],
                         (2, "gpu: --rehearse takes 2 ranks or more, and the parts for several GPUs alone\n"))
        self.assertEqual(self.run_gpu("--peers", "x")[0], 2)
        os.remove(os.path.join(self.path, "programs/moe-bench"))
        status, _, error = self.run_gpu()
        self.assertEqual(status, 1)
        self.assertRegex(error, "^gpu: no moe-bench in .*/programs\n$")
        self.program("nvidia-smi", "exit 9")
        self.assertRegex(self.run_gpu()[2], "^gpu: nvidia-smi finds no GPU; run this where one is")


class Ncu(Machine):
    """What ncu --csv --page raw writes: messages, a line of names, a line of units, a line a kernel."""
    NAMES = ["ID", "Process ID", "Kernel Name", "dram__bytes.sum.per_second", "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
             "gpu__time_duration.sum", "lts__throughput.avg.pct_of_peak_sustained_elapsed",
             "sm__pipe_tensor_op_gmma_cycles_active.avg.pct_of_peak_sustained_active",
             "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
             "sm__throughput.avg.pct_of_peak_sustained_elapsed",
             *(f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio"
               for reason in ("barrier", "long_scoreboard", "selected", "wait", "gmma"))]
    KERNELS = [["0", "7", "void switchyard::kernels::cuda::<unnamed>::gemm<switchyard::kernels::cuda::Tile<(int)128>>(Params, int)",
                "2,000,000,000,000", "51.25", "1,234,567", "40.5", "81.5", "0", "82.25", "0.1", "3.25", "1", "0.75", "n/a"],
               ["1", "7", "sizes(const int *)", "10", "0.5", "2500", "n/a", "0", "0", "n/a", "0", "0", "0", "0", "0"]]

    def play(self, body, rows):
        line = lambda cells: ",".join(f'"{cell}"' for cell in cells) + "\n"
        units = ["", "", "", "byte/second", "%", "ns", "%", "%", "%", "%", *["inst"] * 5]
        lines = "".join(map(line, [self.NAMES, units, *rows])) if rows else ""
        self.write("ncu.csv", f"==PROF== Connected to process 7\n{lines}==PROF== Disconnected\n")
        self.program("ncu", f"""echo "$@" >> "$CALLS"
[ "$1" = --query-metrics ] && echo "sm__pipe_tensor_op_gmma_cycles_active  Counter  cycle" && exit 0
while [ "$1" != --log-file ]; do shift; done
cp '{self.path}/ncu.csv' "$2"; {body}""")
        return self.run_gpu("--only", "ncu")

    def test_prints_a_table(self):
        status, output, error = self.play("true", self.KERNELS)
        self.assertEqual((status, error), (0, ""), output)
        rows = [re.split("  +", line) for line in output.splitlines()]
        self.assertEqual(rows[1], ["mixtral-8x7b, 4096 tokens:"])
        self.assertEqual(rows[2], ["kernel", "ms", "tensor %", "SM %", "L2 %", "DRAM %", "DRAM GB/s", "cycles waited for"])
        self.assertEqual(rows[3], ["gemm<Tile<(int)128>>", "1.235", "81.5", "82.2", "40.5", "51.2", "2000.0",
                                   "long_scoreboard 3.2, wait 0.8, barrier 0.1"])
        self.assertEqual(rows[4], ["sizes", "0.003", "0.0", "-", "-", "0.5", "0.0"])
        self.assertEqual(rows[5], ["olmoe-1b-7b, 4096 tokens:"])
        self.assertRegex(output, r"ncu +passed +\d+ s  4 kernels; all that was counted is in .*/ncu-\*\.csv")
        with open(os.path.join(self.path, "calls"), encoding="utf-8") as file:
            calls = file.read().splitlines()
        # Of the metrics only what the GPU has.
        self.assertRegex(calls[1], "^--clock-control none .* --metrics sm__pipe_tensor_op_gmma_cycles_active[a-z_.]* /.*/moe-bench "
                                   "grouped-gemm --model mixtral-8x7b --tokens 4096 --warmup 0 --runs 1$")

    def test_counters_that_users_may_not_read(self):
        status, output, _ = self.play('echo "==ERROR== ERR_NVGPUCTRPERM - no permission"; exit 1', [])
        self.assertEqual(status, 0)
        self.assertIn("skipped", output)
        self.assertIn("does not let its users read the GPU's counters", output)

    def test_no_kernel_is_no_pass(self):
        status, output, _ = self.play("echo ==WARNING== No kernels were profiled; exit 3", [])
        self.assertEqual(status, 1)
        self.assertRegex(output, r"ncu +FAILED .* ncu ended with 3 and counted no kernel .* No kernels were profiled")


class SeveralGpus(Machine):
    """The same machine with two GPUs, and what it then runs on both."""

    def setUp(self):
        super().setUp()
        self.program("nvidia-smi", 'echo "Some GPU, 81920, 9.0"; echo "Some GPU, 81920, 9.0"')
        for golden in ("mixtral-tiny", "olmoe-tiny"):
            for mesh in ("ep", "fsdp", "overflow", "fused", "dp"):
                self.write(f"plans/{golden}-2-{mesh}.plan", "")
        for mesh in ("ep", "fsdp"):
            for case in ("long-4x4096x1", "alpaca-1x256x16"):
                self.write(f"plans/step-2-{mesh}-{case}.plan", "")

    def test_passes_and_says_what_ran(self):
        status, output, error = self.run_gpu("--only", "many-goldens,many-steps")
        self.assertEqual((status, error), (0, ""), output)
        lines = output.splitlines()
        self.assertEqual(lines[0], "2 x Some GPU")
        self.assertRegex(lines[1], r"^many-goldens passed +\d+ s  within tolerance: mixtral-tiny-2-ep, mixtral-tiny-2-fsdp, ")
        self.assertRegex(lines[2], r"^many-steps +passed +\d+ s  long-4x4096x1 ep, alpaca-1x256x16 ep, long-4x4096x1 fsdp, ")
        self.assertEqual(lines[-1], "gpu: 2 passed")
        with open(os.path.join(self.path, "calls"), encoding="utf-8") as file:
            calls = file.read().splitlines()
        self.assertEqual(len(calls), 10)
        self.assertRegex(calls[2], "/mixtral-tiny --plan .*/plans/mixtral-tiny-2-overflow.plan --ranks 2 ")

    def test_a_part_that_fails_keeps_no_other_from_running(self):
        self.program("moe-run", 'case "$5" in *olmoe-tiny-2-ep*) echo one; exit 4 ;; esac')
        os.remove(os.path.join(self.path, "plans/mixtral-tiny-2-dp.plan"))
        status, output, _ = self.run_gpu("--only", "many-goldens,many-steps")
        self.assertEqual(status, 1)
        self.assertRegex(output, r"many-goldens FAILED .* s  mixtral-tiny-2-dp: .*/mixtral-tiny-2-dp.plan: is not there; .*; "
                                 r"olmoe-tiny-2-ep: moe-run ended with 4 .*: one -- within tolerance: mixtral-tiny-2-ep")
        self.assertIn("gpu: 1 passed, 1 failed", output)

    def test_what_no_longer_fits_is_left_out(self):
        status, output, _ = self.run_gpu("--only", "many-goldens,many-steps", "--budget", "2")
        self.assertEqual(status, 0)
        self.assertRegex(output, r"many-goldens skipped +0 s  left out: mixtral-tiny-2-ep, ")
        self.assertRegex(output, r"many-steps +skipped +0 s  left out: long-4x4096x1 ep, alpaca-1x256x16 ep, ")
        self.assertIn("gpu: 2 skipped", output)
        status, output, _ = self.run_gpu("--only", "goldens,benchmark", "--budget", "0.5", "--peers", "")
        self.assertEqual(status, 0)
        self.assertRegex(output, r"goldens +skipped +0 s  no time for it: 0 s are left\n")
        self.assertRegex(output, r"benchmark +skipped +0 s  left out: grouped-gemm, layers, ")

    def test_one_gpu_is_too_few(self):
        self.program("nvidia-smi", PROGRAMS["nvidia-smi"])
        status, output, _ = self.run_gpu("--only", "many-steps")
        self.assertEqual(status, 0)
        self.assertRegex(output, "many-steps +skipped +0 s  there is one GPU")

    def test_ranks_are_left_to_the_parts_for_several(self):
        status, output, _ = self.run_gpu("--only", "ranks")
        self.assertEqual(status, 0)
        self.assertRegex(output, "ranks +skipped +0 s  there are several GPUs: ")


def expect_end(test, process):
    for _ in range(100):  # until it is no process any more, or nobody has waited for it yet
        try:
            with open(f"/proc/{process}/stat", encoding="utf-8") as file:
                if file.read().rpartition(")")[2].split()[0] in "ZX":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    test.fail(f"process {process} goes on")


class Run(unittest.TestCase):
    def test_ends_what_takes_too_long_and_all_that_it_started(self):
        with tempfile.TemporaryDirectory() as folder:
            machine = gpu_machine.Machine(argparse.Namespace(results=folder, rehearse=2, budget=0, make_plans="", plans=""))
            with self.assertRaisesRegex(gpu_machine.Failure, r"^sh was ended after 0 s \(.*/log.log\)$"):
                machine.run("log", ["sh", "-c", "sleep 600 & echo child $!; wait"], limit=0.3)
            with open(os.path.join(folder, "log.log"), encoding="utf-8") as file:
                text = file.read()
        self.assertRegex(text, r"^\$ sh -c .*\nchild \d+\nended after \d+\.\d s\n$")
        expect_end(self, int(text.split("\nchild ")[1].split()[0]))


class Signals(Machine):
    def test_sigterm_ends_what_runs(self):
        # exec: so that the process of the program is the one that its number names.
        self.program("kernels_cuda_conformance_test", 'echo $$ > "$CALLS.running"; exec sleep 600')
        job = self.start_gpu("--only", "conformance")
        running = os.path.join(self.path, "calls.running")
        while job.poll() is None and not (os.path.exists(running) and os.path.getsize(running) > 0):
            time.sleep(0.05)
        job.terminate()
        job.communicate(timeout=20)
        self.assertEqual(job.returncode, 128 + 15)
        with open(running, encoding="utf-8") as file:
            expect_end(self, int(file.read()))


class Sanitizer(Machine):
    """compute-sanitizer is played by a script that says what racecheck does of a kernel."""

    def sanitize(self, kernel, more=""):
        self.program("compute-sanitizer", f"""
[ "$2" = racecheck ] || exit 0
echo "[  PASSED  ] 2 tests."
echo "========= Error: Race reported between Read access at {kernel}+0x40"
echo "{more}"
exit 9""")
        return self.run_gpu("--only", "sanitizer")[:2]

    def test_hazards_of_cublas_are_not_ours(self):
        status, output = self.sanitize("nvjet_sm90_tst_64x8")
        self.assertRegex(output, "sanitizer +passed +[0-9]+ s  memcheck and racecheck clean")
        self.assertEqual(status, 0)

    def test_ours_are(self):
        status, output = self.sanitize("void switchyard::kernels::cuda::attention")
        self.assertRegex(output, "sanitizer +FAILED +[0-9]+ s  racecheck ended with 9, see .*sanitizer-racecheck-0.log")
        self.assertEqual(status, 1)

    def test_so_is_what_fails_beside_those_of_cublas(self):
        self.assertEqual(self.sanitize("nvjet_sm90_tst_64x8", "[  FAILED  ] A.B")[0], 1)


class Compare(unittest.TestCase):
    def compare(self, *records, options=()):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write("".join(json.dumps({**RECORD, **record}) + "\n" for record in records))
            file.flush()
            run = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "compare.py"), *options, file.name],
                                 capture_output=True, text=True)
        return run.returncode, run.stdout.splitlines()

    def test_ratios(self):
        theirs = {"program": "transformers", "tokens_per_second": 100.0}
        gemm = {"case": "layer b"}
        status, lines = self.compare(
            {"case": "step alpaca-1x256x16"}, gemm, {"case": "step alpaca-1x256x16", **theirs},
            {**gemm, "program": "torch", "ms": {"median": 1.0, "min": 1, "max": 1}, "runs": 1},
            {"case": "step alpaca-16x256x1", **theirs, "tokens_per_second": 240.0}, {"case": "step other", **theirs})
        self.assertEqual(status, 0)
        self.assertEqual(lines[0], "Some GPU")
        self.assertEqual([line.split()[:3] for line in lines[2:]],
                         [["step", "alpaca-1x256x16", "switchyard"], ["step", "alpaca-1x256x16", "transformers"],
                          ["step", "alpaca-16x256x1", "transformers"], ["layer", "b", "switchyard"],
                          ["layer", "b", "torch"], ["step", "other", "transformers"]])
        self.assertEqual([line.split()[-1] for line in lines[3:5] + lines[6:7]], ["3.00x", "1.25x", "0.50x"])
        self.assertTrue(lines[7].endswith("GiB"), lines[7])

    def test_products(self):
        """A line each: beside the peer's, in terms of a dense product and of what the weights alone take."""
        case = "grouped_gemm 1,2,3,4,2 down random forward"
        times = lambda ms: {"ms": {"median": ms, "min": ms, "max": ms}, "runs": 1, "tflops": 2.0}
        ours = {"case": case, **times(2.0), "error": 0.0021, "weight_bytes": 4000000, "group_sizes": [1, 2]}
        theirs = {"case": case, "program": "torch", **times(3.0), "group_sizes": [1, 2]}
        machine = [{"case": "grouped_gemm 1,2,3,4,2 down dense", **times(1.8)},
                   {"case": "copy", **times(1.0), "gb_per_second": 4.0, "tokens_per_second": None}]
        del machine[1]["tflops"]
        status, lines = self.compare(ours, theirs, *machine)
        self.assertEqual(status, 0)
        rows = [re.split("  +", line) for line in lines if line]
        self.assertEqual(rows[2][:4], ["copy", "switchyard", "1.000 ms", "4 GB/s, peak 3.0 GiB"])
        self.assertEqual(rows[4], ["1,2,3,4,2 down random forward", "2.000 ms", "2", "2.1e-03", "0.90", "50%", "3.000 ms", "1.50x"])
        self.assertEqual(rows[5], ["1,2,3,4,2 down dense", "1.800 ms", "2"])
        self.assertEqual(self.compare(ours, {**theirs, "group_sizes": [2, 1]})[0], 1)

    def test_many_ranks(self):
        """Those of as many ranks are compared, with the fastest of our meshes; what traces say is a table of its own."""
        two, theirs = {"ranks": 2, "mesh": "ep=2"}, {"program": "transformers fsdp", "tokens_per_second": 100.0, "mesh": "fsdp=2"}
        trace = {"communication_ms": 30.0, "profiled_step_ms": 200.0, "exposed_ms": 10.0, "collectives": {
            "all_gather": {"calls": 3, "bytes": 4000000, "ms": 20.0, "bus_gb_per_second": 75.0}}}
        status, lines = self.compare(
            {}, {**two, **trace}, {**two, "mesh": "fsdp=2", "tokens_per_second": 150.0, "ms": {"median": 4.0, "min": 4, "max": 4}},
            {**two, **theirs}, {**two, **theirs, "ranks": 4},
            {"case": "collective all_gather-x", "program": "nccl", "ranks": 2, "bytes": 3000000, "bus_gb_per_second": 150.0,
             "tokens_per_second": None})
        self.assertEqual(status, 0)
        rows = [" ".join(line.split()) for line in lines]
        self.assertEqual([row.split(" 2.000")[0] for row in rows[2:4]], ["step a switchyard", "step a on 2 ranks switchyard ep=2"])
        self.assertRegex(rows[4], r"^step a on 2 ranks switchyard fsdp=2 4.000 ms .*GiB$")
        self.assertRegex(rows[5], r"^step a on 2 ranks transformers fsdp fsdp=2 .* 3\.00x$")
        self.assertRegex(rows[6], r"^step a on 4 ranks transformers fsdp .*GiB$")
        self.assertRegex(rows[7], r"^collective all_gather-x on 2 ranks nccl 2\.000 ms \[1\.500 2\.500\] 3\.0 MB sent, 150\.0 GB/s, peak ")
        self.assertEqual(rows[10], "step a on 2 ranks switchyard ep=2 all 30.000 of 200.000 ms, exposed 10.000 ms (5.0%)")
        self.assertEqual(rows[11], "all_gather 3 calls, 4.0 MB sent, 20.000 ms 75.0 GB/s 0.50")

    def test_markdown(self):
        status, lines = self.compare({}, options=["--markdown"])
        self.assertEqual(status, 0)
        self.assertEqual(lines[:4], ["Some GPU", "", "| case | program | time [min max] | rate, memory | ours is faster by |",
                                     "| --- | --- | --- | --- | --- |"])
        self.assertEqual(lines[4], "| step a | switchyard | 2.000 ms [1.500 2.500] | 300 tokens/s, peak 3.0 GiB |  |")

    def test_other_devices_are_not_compared(self):
        status, _ = self.compare({}, {"device": "Other GPU", "program": "torch"})
        self.assertEqual(status, 1)


if __name__ == "__main__":
    unittest.main()
