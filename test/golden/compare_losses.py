#!/usr/bin/env python3
"""Compares the losses in a metrics.jsonl with those of another run, step by step.

    compare_losses.py METRICS OTHER --tolerance T [--first-tolerance F] [--steps N]

OTHER is another metrics.jsonl, or EXPECTED.json:KEY, a list of steps in a golden's form: its learning rates are compared
too. Differences are relative; F holds for the first step, T for the others. METRICS must have N steps (default: OTHER's).
Prints each step and exits 1 where one is off.
"""
import argparse
import json
import math
import sys


def read_metrics(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_other(name):
    path, _, key = name.rpartition(":")
    if not path:
        return read_metrics(name)
    with open(path, encoding="utf-8") as file:
        return [{"loss": step["loss"], "learning_rate": step["lr"]} for step in json.load(file)[key]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metrics")
    parser.add_argument("other")
    parser.add_argument("--tolerance", type=float, required=True)
    parser.add_argument("--first-tolerance", type=float)
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    metrics, other = read_metrics(args.metrics), read_other(args.other)
    steps = args.steps or len(other)
    if len(metrics) != steps or len(other) < steps:
        sys.exit(f"{args.metrics} has {len(metrics)} steps, {args.other} {len(other)}; expected {steps}")
    off = []
    for step, (ours, theirs) in enumerate(zip(metrics, other)):
        bound = args.first_tolerance if step == 0 and args.first_tolerance is not None else args.tolerance
        difference = abs(ours["loss"] - theirs["loss"]) / abs(theirs["loss"])
        same_rate = math.isclose(ours["learning_rate"], theirs["learning_rate"], rel_tol=1e-12)
        good = difference <= bound and same_rate  # false for NaN
        print(f"step {step}: loss {ours['loss']:.7f} and {theirs['loss']:.7f} differ by {difference:.1e} (bound {bound:.0e}),"
              f" rates {ours['learning_rate']:.6g} and {theirs['learning_rate']:.6g}{'' if good else '  off'}")
        if not good:
            off.append(step)
    if off:
        sys.exit(f"off in {len(off)} of {steps} steps: {off}")
    print(f"{steps} steps within tolerance")


if __name__ == "__main__":
    main()
