"""Plants each violation that scripts/check-structure knows and reads what it says about it."""

import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "check-structure")
CLEAN = {"LICENSE": "Apache License\n", "README.md": "# Name\n"}


def check(files):
    """Exit status and output of the checker over a tree made of these files (path -> text)."""
    with tempfile.TemporaryDirectory(prefix="structure test ") as root:
        for path, text in {**CLEAN, **files}.items():
            if text is None:
                continue
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        run = subprocess.run([sys.executable, SCRIPT, "--root", root], capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr


class CheckStructure(unittest.TestCase):
    def accepts(self, files):
        status, output = check(files)
        self.assertEqual(status, 0, output)

    def refuses(self, files, *texts):
        status, output = check(files)
        self.assertEqual(status, 1, output)
        for text in texts:
            self.assertIn(text, output)
        self.assertIn("check-structure: 1 violations", output)

    def test_clean_tree(self):
        self.accepts({"runtime/core/A.cpp": '#include "runtime/core/A.h"\n#include <vector>\n',
                      "runtime/core/A.h": "#pragma once\n"})

    def test_landmarks(self):
        self.refuses({"LICENSE": None}, "LICENSE: is missing; add it")
        self.refuses({"README.md": None}, "README.md: is missing; add it")
        self.refuses({"LICENSE": "All rights reserved\n"}, "restore the text of Apache-2.0")
        self.refuses({"dialects/moe/MoeOps.td": ""}, "dialects/moe: has ops but no README.md")

    def test_signatures_include_only_the_standard_library(self):
        self.accepts({"kernels/signatures/a.h": "#include <cstdint>\n"})
        self.refuses({"kernels/signatures/a.h": "#include <fmt/format.h>\n"},
                     "kernels/signatures/a.h:1: kernels/signatures/ must not include fmt/format.h; it may",
                     "move what both need down")
        self.refuses({"kernels/signatures/a.h": '\n#include "kernels/cpu/B.h"\n'}, "kernels/signatures/a.h:2:")

    def test_each_folder_includes_only_what_it_may(self):
        allowed = [("kernels/cpu", "kernels/signatures/a.h"), ("runtime/plan", "kernels/signatures/a.h"),
                   ("dialects/moe", "mlir/IR/OpBase.h"), ("passes", "dialects/moe/Moe.h"),
                   ("passes", "kernels/signatures/a.h"), ("compiler/emit", "runtime/plan/Plan.h"),
                   ("compiler/emit", "passes/Passes.h"), ("tools", "compiler/emit/Emit.h")]
        forbidden = [("kernels/cpu", "runtime/core/Status.h"), ("kernels/cpu", "mlir/IR/OpBase.h"),
                     ("runtime/plan", "dialects/moe/Moe.h"), ("runtime/plan", "llvm/ADT/SmallVector.h"),
                     ("runtime/plan", "compiler/emit/Emit.h"), ("dialects/moe", "passes/Passes.h"),
                     ("dialects/moe", "runtime/core/Status.h"), ("passes", "kernels/cpu/Kernels.h"),
                     ("passes", "runtime/core/Status.h"), ("compiler/emit", "runtime/executor/Executor.h"),
                     ("compiler/emit", "kernels/cpu/Kernels.h")]
        for folder, target in allowed:
            with self.subTest(folder=folder, target=target):
                self.accepts({f"{folder}/A.cpp": f'#include "{target}"\n'})
        for folder, target in forbidden:
            with self.subTest(folder=folder, target=target):
                self.refuses({f"{folder}/A.cpp": f'#include "{target}"\n'}, f"must not include {target}")

    def test_tablegen_includes(self):
        self.refuses({"dialects/a/A.td": 'include "passes/Passes.td"\n'}, "dialects/ must not include passes/Passes.td")

    def test_relative_includes(self):
        text = "by its path from the repository's root"
        self.refuses({"runtime/core/A.cpp": '#include "B.h"\n', "runtime/core/B.h": ""}, text)
        self.refuses({"runtime/core/A.cpp": '#include "../core/B.h"\n'}, text)

    def test_file_sizes(self):
        self.accepts({"runtime/core/A.cpp": "//\n" * 600, "dialects/a/A.td": "//\n" * 400})
        self.refuses({"runtime/core/A.cpp": "//\n" * 601}, "has 601 lines, at most 600 are allowed")
        self.refuses({"runtime/core/A.h": "//\n" * 601}, "has 601 lines, at most 600 are allowed")
        self.refuses({"dialects/a/A.td": "//\n" * 401}, "has 401 lines, at most 400 are allowed")

    def test_function_sizes(self):
        def source(head, lines):
            return f"namespace a {{\n{head} {{\n" + "  if (x) { y(); }\n" * (lines - 2) + "}\n} // namespace a\n"

        heads = ["void f(int x)", "Status A::run(std::vector<int> x = {}) const", "A::A() : a_{1}, b_(2)",
                 "template <typename T, typename U = void> auto f(T x) -> decltype(x)", "TEST(Suite, Name)",
                 "bool A::operator==(const A &other) const"]
        for head in heads:
            with self.subTest(head=head):
                self.accepts({"runtime/core/A.cpp": source(head, 80)})
                self.refuses({"runtime/core/A.cpp": source(head, 81)}, "A.cpp:2: ", "() has 81 lines, at most 80",
                             "split it into steps with names")

    def test_what_is_no_function_may_be_long(self):
        rows = "  f(1),\n" * 100
        self.accepts({"runtime/core/A.cpp": f"const int table[] = {{\n{rows}}};\n"
                                            f"class A : public B<int(int)> {{\n" + "  int f();\n" * 100 + "};\n"
                                            "const char *s = \"{ (\"; // { (\n"
                                            "/* void f() {\n" + "\n" * 100 + "} */\n"
                                            "const int million = 1'000'000;\nvoid g() {}\n"})

    def test_depth(self):
        self.accepts({"test/a/b/c/d.txt": ""})
        self.accepts({"test/a/b/Inputs/model/config.json": ""})
        self.refuses({"test/a/b/c/d/Inputs/x/a.txt": ""}, "folders deep")
        self.refuses({"test/a/b/c/d/e.txt": ""}, "is 5 folders deep, at most 4 are allowed")

    def test_generated_files(self):
        for path in ["runtime/plan/plan_generated.h", "dialects/moe/Ops.h.inc", "build/release/x.txt",
                     "compile_commands.json", "test/__pycache__/x.txt", "step.plan"]:
            with self.subTest(path=path):
                self.refuses({path: ""}, f"{path}: looks generated", "remove it from git")
        self.refuses({"docs/ops.md": "<!-- Autogenerated by mlir-tblgen; don't manually edit -->\n"},
                     "docs/ops.md: says that it is generated")

    def test_using_namespace(self):
        self.refuses({"runtime/core/A.h": "\nusing namespace std;\n"}, "A.h:2: 'using namespace' in a header")
        self.accepts({"runtime/core/A.h": "// never write using namespace std\n",
                      "runtime/core/A.cpp": "using namespace std;\n"})

    def test_unfinished(self):
        self.refuses({"runtime/core/A.cpp": "int a; // TODO: more\n"}, "A.cpp:1: says TODO; finish it")

    def test_passes(self):
        text = 'def FuseAll : Pass<"fuse-all", "::mlir::ModuleOp"> {}\n'
        both = {"passes/Passes.td": text, "passes/FuseAll.cpp": "", "test/passes/fuse-all.mlir": ""}
        self.accepts(both)
        self.refuses({**both, "passes/FuseAll.cpp": None}, "pass fuse-all has no passes/FuseAll.cpp")
        self.refuses({**both, "test/passes/fuse-all.mlir": None}, "has no test/passes/fuse-all.mlir")

    def test_only_what_git_sees_is_checked(self):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**CLEAN, ".gitignore": "/build/\n", "build/x.o": ""}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            subprocess.run(["git", "-C", root, "init", "-q"], check=True)
            run = subprocess.run([sys.executable, SCRIPT, "--root", root], capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stdout)


if __name__ == "__main__":
    unittest.main()
