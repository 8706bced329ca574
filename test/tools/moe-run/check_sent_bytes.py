#!/usr/bin/env python3
"""Compares the bytes that ranks sent in each step, of one pass, with those that a plan foresees.

    check_sent_bytes.py INSPECTED METRICS      the output of `moe-plan inspect`, and a metrics.jsonl
"""
import json
import re
import sys

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def foreseen(path):
    """The least and the most bytes of a step of one pass, and whether rows are exchanged in it."""
    with open(path, encoding="utf-8") as file:
        step = file.read().split("step of one pass")[1].split("\n\n")[0]
    least = most = 0
    for line in step.splitlines():
        kind, sent, _, worst, unit = re.search(
            r"(\w+) +\d+ +[\d.]+ [KMG]?i?B +([\d,]+)( +<= ([\d.]+) (\w+))?$", line).groups()
        if kind.startswith("token_"):
            # Three digits of the worst case are printed.
            most += float(worst) * UNITS[unit] * 1.005
        else:
            least += int(sent.replace(",", ""))
    return least, least + most, most > 0


def main():
    least, most, exchanges = foreseen(sys.argv[1])
    with open(sys.argv[2], encoding="utf-8") as file:
        sent = [json.loads(line)["sent_bytes"] for line in file]
    assert sent and least > 0, (sent, least)
    for each in sent:
        assert least < each <= most if exchanges else each == least, (each, least, most)
    print(f"{len(sent)} steps sent what was foreseen")


if __name__ == "__main__":
    main()
