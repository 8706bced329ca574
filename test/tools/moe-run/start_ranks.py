#!/usr/bin/env python3
"""Starts a command as the ranks of a job, as torchrun would: by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    start_ranks.py N COMMAND...

Exits with the code of the rank that failed first; the others are then ended.
"""
import os
import socket
import subprocess
import sys
import time


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    size, command = int(sys.argv[1]), sys.argv[2:]
    common = dict(os.environ, WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1",
                  MASTER_PORT=str(free_port()))
    ranks = [subprocess.Popen(command, env=dict(common, RANK=str(rank), LOCAL_RANK=str(rank))) for rank in range(size)]
    try:
        while True:
            codes = [rank.poll() for rank in ranks]
            failed = [code for code in codes if code]
            if failed:
                sys.exit(failed[0])
            if None not in codes:
                return
            time.sleep(0.02)
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
                rank.wait()


if __name__ == "__main__":
    main()
