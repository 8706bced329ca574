"""Runs the shell scripts where that is quick: options, messages, exit codes, and what format finds."""

import os
import shutil
import subprocess
import tempfile
import unittest

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")


def run(script, *arguments, path=None, environment=None):
    run_ = subprocess.run([path or os.path.join(SCRIPTS, script), *arguments], capture_output=True, text=True,
                          env={**os.environ, **(environment or {})})
    return run_.returncode, run_.stdout, run_.stderr


class Scripts(unittest.TestCase):
    def test_unknown_options_are_refused(self):
        for script in ["setup", "test", "format", "tidy", "docs", "quickstart", "gpu"]:
            with self.subTest(script=script):
                status, output, error = run(script, "--no-such-option")
                self.assertEqual((status, output), (2, ""))
                self.assertIn(f"{script}: unknown option '--no-such-option'", error)

    def test_options_that_need_a_value(self):
        self.assertIn("test: --filter needs a value", run("test", "--filter")[2])
        self.assertIn("tidy: --since needs a commit", run("tidy", "--since")[2])

    def test_help(self):
        for script in ["setup", "test", "format", "tidy", "docs", "quickstart", "gpu"]:
            with self.subTest(script=script):
                status, output, _ = run(script, "--help")
                self.assertEqual(status, 0)
                self.assertIn(f"scripts/{script}", output)

    def test_setup_names_what_is_missing(self):
        with tempfile.TemporaryDirectory() as folder:
            fake = os.path.join(folder, "dpkg-query")
            with open(fake, "w", encoding="utf-8") as file:
                file.write('#!/bin/sh\ncase "$*" in *ninja-build*|*ccache*) exit 1 ;; esac\nprintf installed\n')
            os.chmod(fake, 0o755)
            status, output, _ = run("setup", "--check", environment={"PATH": f"{folder}:{os.environ['PATH']}"})
        self.assertEqual((status, output), (1, "setup: missing: ninja-build ccache\n"))

    def test_format(self):
        with tempfile.TemporaryDirectory(prefix="format test ") as root:
            os.makedirs(os.path.join(root, "scripts"))
            script = shutil.copy(os.path.join(SCRIPTS, "format"), os.path.join(root, "scripts", "format"))
            shutil.copy(os.path.join(SCRIPTS, "..", ".clang-format"), root)
            subprocess.run(["git", "-C", root, "init", "-q"], check=True)
            self.assertEqual(run("format", "--check", path=script)[:2], (0, "format: no C++ files\n"))
            with open(os.path.join(root, "a b.cpp"), "w", encoding="utf-8") as file:
                file.write("int  x ;\n")
            status, _, error = run("format", "--check", path=script)
            self.assertEqual(status, 1)
            self.assertIn("format: not formatted: a b.cpp", error)
            self.assertEqual(run("format", path=script)[:2], (0, "format: 1 files formatted\n"))
            self.assertEqual(run("format", "--check", path=script)[:2], (0, "format: 1 files are formatted\n"))


if __name__ == "__main__":
    unittest.main()
