"""Installs both components and packs them, and uses the copies away from the source tree.

CTest says by the environment where the build is (BUILD_DIR, HAS_COMPILER) and which cmake and cpack made it.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import unittest

BUILD = os.environ["BUILD_DIR"]
HAS_COMPILER = os.environ["HAS_COMPILER"] == "ON"
RUNTIME = {"moe-bench", "moe-plan", "moe-run"}
COMPILER = {"moe-compile", "moe-opt", "moe-translate"}
COMPONENTS = ["runtime", "compiler"] if HAS_COMPILER else ["runtime"]
needs_compiler = unittest.skipUnless(HAS_COMPILER, "this build has no compiler")


def run(*command, cwd):
    """Runs it with nothing of this environment that could lead a program back to the build."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True,
                            env={"PATH": os.environ["PATH"], "TMPDIR": cwd, "LC_ALL": "C"})
    return result.returncode, result.stdout, result.stderr


def files_below(folder):
    return {os.path.relpath(os.path.join(path, name), folder)
            for path, _, names in os.walk(folder) for name in names}


class Installed(unittest.TestCase):
    """Each test has an empty folder, with a space in its name, to work in."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="install test ")
        self.addCleanup(folder.cleanup)
        self.root = folder.name

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def check(self, *command):
        status, output, error = run(*command, cwd=self.root)
        self.assertEqual(status, 0, f"{command}\n{output}{error}")
        return output

    def install(self, prefix, *components):
        for component in components:
            self.check(os.environ["CMAKE"], "--install", BUILD, "--prefix", self.path(prefix), "--component", component)

    def train(self, prefix, output, *more):
        tiny = self.path(prefix, "share", "switchyard", "examples", "tiny")
        return run(self.path(prefix, "bin", "moe-run"), "train", "--model", tiny, "--data",
                   os.path.join(tiny, "alpaca_sample.json"), "--output-dir", output, "--max-steps", "2",
                   "--ranks", "2", *more, cwd=self.root)

    def check_trained(self, result, output):
        self.assertEqual(result[0], 0, result[2])
        with open(self.path(output, "metrics.jsonl"), encoding="utf-8") as lines:
            self.assertEqual([json.loads(line)["step"] for line in lines], [1, 2])
        self.assertTrue(os.path.isdir(self.path(output, "checkpoint-2")))

    def compile(self, prefix, plan):
        self.check(self.path(prefix, "bin", "moe-compile"),
                   self.path(prefix, "share", "switchyard", "examples", "tiny"), "-o", plan, "--ranks", "2",
                   "--gradient-accumulation-steps", "2", "--max-seq-length", "128")


    def check_links(self, prefix):
        """Every page that a page of the documentation links to came along."""
        for page in glob.glob(glob.escape(self.path(prefix)) + "/share/doc/**/*.md", recursive=True):
            with open(page, encoding="utf-8") as text:
                for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text.read()):
                    self.assertTrue(os.path.exists(os.path.join(os.path.dirname(page), target)), f"{page}: {target}")


class Components(Installed):
    def test_what_each_holds(self):
        for component in COMPONENTS:
            self.install(component, component)
            self.check_links(component)
        runtime = files_below(self.path("runtime"))
        self.assertEqual({name for name in runtime if name.startswith("bin")}, {f"bin/{name}" for name in RUNTIME})
        for name in ["share/doc/switchyard-runtime/copyright", "share/doc/switchyard-runtime/guide.md",
                     "share/switchyard/examples/tiny/config.json"]:
            self.assertIn(name, runtime)
        self.assertEqual([name for name in runtime if "__pycache__" in name or "/adding-" in name], [])
        if HAS_COMPILER:
            compiler = files_below(self.path("compiler"))
            self.assertEqual({n for n in compiler if n.startswith("bin")}, {f"bin/{name}" for name in COMPILER})
            self.assertIn("share/doc/switchyard-compiler/copyright", compiler)
            self.assertEqual(runtime & compiler, set(), "two packages can't have the same file")

    @needs_compiler
    def test_both(self):
        self.install("first place", *COMPONENTS)
        os.rename(self.path("first place"), self.path("another place"))  # nothing knows where it was installed
        self.compile("another place", "step.plan")
        self.check_trained(self.train("another place", "given", "--plan", "step.plan"), "given")
        self.assertIn("2 ranks", self.check(self.path("another place", "bin", "moe-plan"), "inspect", "step.plan"))
        self.check_trained(self.train("another place", "compiled", "--max-seq-length", "128"), "compiled")
        self.check(self.path("another place", "bin", "moe-run"), "export", "--checkpoint", "compiled/checkpoint-2",
                   "--output-dir", "model")
        self.check(self.path("another place", "bin", "moe-translate"), "--import-hf", "model", "-o", "model.mlir")
        self.assertIn("moe.grouped_gemm",
                      self.check(self.path("another place", "bin", "moe-opt"), "--lower-experts", "model.mlir"))

    @needs_compiler
    def test_matrix(self):
        self.install("both", *COMPONENTS)
        with open(self.path("one.yaml"), "w", encoding="utf-8") as scenarios:
            scenarios.write("scenarios: [{name: one, arguments: {model_name_or_path: [examples/tiny], max_steps: 1,\n"
                            "  training_data_path: examples/tiny/alpaca_sample.json, max_seq_length: 128,\n"
                            "  per_device_train_batch_size: 1, gradient_accumulation_steps: 2}}]\n")
        status, output, error = run(self.path("both", "bin", "moe-bench"), "--scenarios_config_path",
                                    self.path("one.yaml"), "--num_gpus_matrix", "2", "--results_output_path",
                                    self.path("results"), cwd=self.path("both", "share", "switchyard"))
        self.assertEqual(status, 0, output + error)
        with open(self.path("results", "benchmarks.csv"), encoding="utf-8") as table:
            self.assertEqual(len(table.readlines()), 2)

    def test_runtime_alone(self):
        self.install("alone", "runtime")
        status, output, error = self.train("alone", "out")
        self.assertEqual((status, output), (2, ""))
        self.assertEqual(error, f"moe-run: error: no --plan was given and there is no {self.path('alone', 'bin')}"
                         "/moe-compile to make one; install the package switchyard-compiler beside this one, or "
                         "compile a plan where the compiler is and pass it by --plan\n")
        self.assertFalse(os.path.exists(self.path("out")))

    @needs_compiler
    def test_runtime_alone_with_a_plan(self):
        self.install("both", *COMPONENTS)
        self.compile("both", "step.plan")
        shutil.rmtree(self.path("both"))
        self.install("alone", "runtime")
        self.check_trained(self.train("alone", "out", "--plan", "step.plan"), "out")


class Packed(Installed):
    def pack(self, generator):
        # How well it is compressed is not what is tested.
        self.check(os.environ["CPACK"], "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-G", generator,
                   "-B", self.path("packages"), "-D", "CPACK_DEBIAN_COMPRESSION_TYPE=none")
        return sorted(path for path in glob.glob(glob.escape(self.path("packages")) + "/switchyard*")
                      if not path.endswith(".sha256"))

    def check_copy(self, prefix):
        if HAS_COMPILER:
            self.check_trained(self.train(prefix, "out", "--max-seq-length", "128"), "out")
        else:
            self.assertIn("switchyard-compiler", self.train(prefix, "out")[2])


class Archives(Packed):
    def test_unpack_into_one_folder(self):
        archives = self.pack("TGZ")
        self.assertEqual(len(archives), len(COMPONENTS), archives)
        for path in archives:
            with tarfile.open(path) as archive:
                archive.extractall(self.path("unpacked"))
        folder, = os.listdir(self.path("unpacked"))
        self.assertRegex(folder, r"^switchyard-[0-9.]+-linux-\w+$")
        self.assertEqual([os.path.basename(path) for path in archives],
                         [f"{folder}-{component}.tar.gz" for component in sorted(COMPONENTS)])
        self.check_copy(os.path.join("unpacked", folder))


@unittest.skipUnless(shutil.which("dpkg-shlibdeps"), "dpkg-shlibdeps is not there; Debian's package dpkg-dev has it")
class DebianPackages(Packed):
    def test_names_and_dependencies(self):
        packages = self.pack("DEB")
        architecture = self.check("dpkg", "--print-architecture").strip()
        version = self.check("dpkg-deb", "--field", packages[0], "Version").strip()
        self.assertEqual([os.path.basename(path) for path in packages],
                         [f"switchyard-{component}_{version}_{architecture}.deb" for component in sorted(COMPONENTS)])
        depends = {}
        for path in packages:
            self.check("dpkg-deb", "--extract", path, self.path("root"))
            name = self.check("dpkg-deb", "--field", path, "Package").strip()
            depends[name] = self.check("dpkg-deb", "--field", path, "Depends")
            self.assertEqual(self.check("dpkg-deb", "--field", path, "Maintainer"),
                             "Switchyard maintainers <maintainers@switchyard.invalid>\n")
        self.assertEqual(os.listdir(self.path("root")), ["usr"])
        self.assertIn("libdnnl", depends["switchyard-runtime"])
        self.assertNotIn("mlir", depends["switchyard-runtime"])
        if HAS_COMPILER:
            self.assertIn("libmlir-22", depends["switchyard-compiler"])
            self.assertIn(f"switchyard-compiler (= {version})",
                          self.check("dpkg-deb", "--field", packages[-1], "Recommends"))
        self.check_copy(os.path.join("root", "usr"))


if __name__ == "__main__":
    unittest.main()
