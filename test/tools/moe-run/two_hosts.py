#!/usr/bin/env python3
"""Trains on two "hosts", network namespaces with an Ethernet cable between them, by one mpirun.

    two_hosts.py MOE_RUN EXAMPLE FOLDER MPIRUN...

FOLDER is emptied; MPIRUN... is the command that stands before -n. What four ranks on two hosts train must be what four threads
train, to the bit. Prints "skipped: " and why, and exits 77, where namespaces cannot be made.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
RANKS = 4
SUBNET = "10.77.13"

# In namespaces of its own, which go with it: two more, joined by a pair of interfaces.
SETUP = f"""
set -e
mount -t tmpfs none /run
mkdir /run/netns
ip netns add host1
ip netns add host2
ip link add cable1 type veth peer name cable2
for host in 1 2; do
  ip link set cable$host netns host$host
  ip -n host$host addr add {SUBNET}.$host/24 dev cable$host
  ip -n host$host link set lo up
  ip -n host$host link set cable$host up
done
"""

# mpirun calls this in place of ssh: a host's address and a command line.
AGENT = """#!/bin/sh
host=${1##*.}
shift
exec ip netns exec host$host unshare --uts sh -c 'hostname "$0"; exec sh -c "$*"' host$host "$@"
"""


def in_namespaces(script):
    return ["unshare", "--net", "--mount", "--uts", "sh", "-c", SETUP + script]


def reason_to_skip():
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "ip or unshare is not installed (iproute2, util-linux)"
    made = subprocess.run(in_namespaces(f"ip netns exec host1 ping -c 1 -W 2 {SUBNET}.2 || true"), capture_output=True,
                          text=True, check=False)
    if made.returncode:
        return f"network namespaces cannot be made: {(made.stderr.strip() or 'no reason given').splitlines()[-1]}"
    return None


def train(moe_run, example, out):
    return [moe_run, "train", "--model", example, "--data", f"{example}/alpaca_sample.json", "--output-dir", str(out),
            "--max-seq-length", "96", "--gradient-accumulation-steps", "2", "--mesh", "fsdp=2,ep=2", "--max-steps", "3",
            "--save-steps", "3", "--comm-timeout", "60"]


def main():
    moe_run, example, folder, *mpirun = sys.argv[1:]
    folder = pathlib.Path(folder)
    reason = reason_to_skip()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scratch = tempfile.TemporaryDirectory()  # Open MPI takes a space in the agent's path for the end of it
    agent = pathlib.Path(scratch.name) / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    subprocess.run(train(moe_run, example, folder / "threads") + ["--ranks", str(RANKS)], check=True,
                   stderr=subprocess.DEVNULL)

    command = mpirun + ["--mca", "plm_rsh_agent", str(agent), "--mca", "oob_tcp_if_include", f"{SUBNET}.0/24", "--mca",
                        "btl_tcp_if_include", f"{SUBNET}.0/24", "--mca", "btl", "tcp,self", "--host",
                        f"{SUBNET}.1:2,{SUBNET}.2:2", "-n", str(RANKS), "sh", "-c",
                        f'hostname > "{folder}/host-$OMPI_COMM_WORLD_RANK"; exec "$@"', "sh"]
    command += train(moe_run, example, folder / "hosts")
    script = 'hostname host1; exec ip netns exec host1 "$0" "$@"'
    run = subprocess.run(in_namespaces(script) + command, capture_output=True, text=True, check=False, timeout=240,
                         env=os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})
    assert run.returncode == 0, run.stderr
    hosts = [(folder / f"host-{rank}").read_text().strip() for rank in range(RANKS)]
    assert hosts == ["host1", "host1", "host2", "host2"], hosts
    assert f"{RANKS} ranks (mpi)" in run.stderr, run.stderr
    compare = pathlib.Path(__file__).parent / "same_run.py"
    subprocess.run([sys.executable, str(compare), str(folder / "threads"), str(folder / "hosts")], check=True)


if __name__ == "__main__":
    main()
