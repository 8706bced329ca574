# Runs the tests of the dialects, passes, compiler and tools: files whose RUN lines call the programs.
#
#   %examples   the examples/ folder
#   %golden     the test/golden folder
#   %shared     the golden checkpoints beside the repository; such a test says REQUIRES: shared
#   %mpirun     mpirun with flags for this machine; such a test says REQUIRES: mpi
#   %exits N    before a command: passes if the command ends with exactly this exit status

import os
import lit.formats
import lit.TestRunner

config.name = "switchyard"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.test_source_root = os.path.join(config.source_dir, "test")
config.test_exec_root = config.test_dir
config.excludes = ["Inputs", "kernels", "lit", "runtime", "scripts"]
config.environment["PATH"] = os.pathsep.join(
    [config.tools_dir, config.llvm_tools_dir, os.environ["PATH"]]
)

def quoted(path):
    return f'"{path}"' if " " in path else path


shared = os.path.join(os.path.dirname(config.source_dir), "shared")
if os.path.isdir(os.path.join(shared, "golden")):
    config.available_features.add("shared")
# Sandboxes forbid a process to read another's memory, which Open MPI would do to save a copy.
# env: so that it does not look like a path.
mpirun = f"env {quoted(config.mpirun)} --allow-run-as-root --oversubscribe --mca btl_vader_single_copy_mechanism none"
if config.mpirun:
    config.available_features.add("mpi")
if config.sanitized:
    config.available_features.add("sanitized")


def quote_paths(substitutions):
    """Makes %s, %t and the like safe for a clone whose path has a space in it."""

    def wrapped(*args, **kwargs):
        return [(key, quoted(value) if value.startswith("/") else value)
                for key, value in substitutions(*args, **kwargs)]

    return wrapped


lit.TestRunner.getDefaultSubstitutions = quote_paths(lit.TestRunner.getDefaultSubstitutions)
config.substitutions += [
    ("%shared", quoted(shared)),
    ("%golden", quoted(os.path.join(config.test_source_root, "golden"))),
    ("%examples", quoted(os.path.join(config.source_dir, "examples"))),
    ("%mpirun", mpirun),
    ("%exits", "sh " + quoted(os.path.join(config.test_source_root, "lit", "exits"))),
]
