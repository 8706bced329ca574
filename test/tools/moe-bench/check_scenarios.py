"""Checks what moe-bench --scenarios_config_path made of the shipped scenarios on 1 and 4 ranks.

    check_scenarios.py RESULTS STEPS [--reference FILE]

With --reference, writes a table as the reference plugin has them: its names of columns, and other figures.
"""
import csv
import json
import pathlib
import sys

COLUMNS = ("epoch,framework_config,gradient_accumulation_steps,mem_nvidia_mem_reserved,mem_peak_torch_mem_alloc,"
           "mem_torch_mem_alloc,model_name_or_path,num_gpus,per_device_train_batch_size,torch_dtype,train_loss,"
           "train_runtime,train_samples_per_second,train_steps_per_second,train_tokens_per_second").split(",")
MESHES = [None, "fsdp=4", None, "fsdp=4", "fsdp=2,ep=2", "ep=4"]


def close(a, b):
    return abs(a - b) <= 1e-5 * abs(b)


def check_row(row, folder, steps):
    lines = [json.loads(line) for line in (folder / "output/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == steps, folder
    runtime = sum(line["step_time"] for line in lines)
    tokens = sum(line["step_time"] * line["train_tokens_per_second"] for line in lines)
    ranks = int(row["num_gpus"])
    assert close(float(row["train_runtime"]), runtime), row
    assert close(float(row["train_loss"]), sum(line["loss"] for line in lines) / steps), row
    assert close(float(row["train_steps_per_second"]), steps / runtime), row
    assert close(float(row["train_samples_per_second"]), 16 * ranks * steps / runtime), row
    assert close(float(row["train_tokens_per_second"]), tokens / runtime / ranks), row
    assert int(row["mem_peak_torch_mem_alloc"]) == max(line["peak_memory_bytes"] for line in lines), row
    assert 0 < int(row["mem_torch_mem_alloc"]) < int(row["mem_peak_torch_mem_alloc"]), row
    assert float(row["epoch"]) == float(f"{lines[-1]['epoch']:.6g}"), row
    constant = ("gradient_accumulation_steps", "mem_nvidia_mem_reserved", "model_name_or_path",
                "per_device_train_batch_size", "torch_dtype")
    assert [row[column] for column in constant] == ["16", "", "examples/tiny", "1", "bfloat16"], row
    if ranks == 1:  # real tokens: the 64 records' 3733, in 4 steps of 16
        assert abs(tokens - 3733) < 1e-3, tokens


def main(results, steps, more):
    with open(results / "benchmarks.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS, list(rows[0])
    assert [row["framework_config"] for row in rows] == ["none", "none", "ep1", "ep1", "ep2", "ep4"], rows
    assert [row["num_gpus"] for row in rows] == ["1", "4", "1", "4", "4", "4"], rows
    for i, (row, mesh) in enumerate(zip(rows, MESHES)):
        folder = results / f"exp_{i}"
        check_row(row, folder, steps)
        assert sorted(path.name for path in folder.iterdir()) == ["command.sh", "log", "output", "results.json"]
        assert sorted(path.name for path in (folder / "output").iterdir()) == ["metrics.jsonl", "step.plan"]
        command = (folder / "command.sh").read_text().split()
        assert (command[command.index("--mesh") + 1] if mesh else None) == mesh, command
        assert command[command.index("--ranks") + 1] == row["num_gpus"], command
    # The experts' placement changes where things are computed, and not what.
    losses = [float(row["train_loss"]) for row in rows]
    assert losses[0] == losses[2] and losses[1] == losses[3], losses
    assert all(abs(loss - losses[1]) < 1e-3 for loss in losses[4:]), losses
    if more:
        assert more[0] == "--reference", more
        write_reference(rows, more[1])


def write_reference(rows, path):
    rows[1]["train_tokens_per_second"] = str(2 * float(rows[1]["train_tokens_per_second"]))
    rows[3]["train_loss"] = str(0.8 * float(rows[3]["train_loss"]))
    rows[4]["mem_peak_torch_mem_alloc"] = str(0.5 * float(rows[4]["mem_peak_torch_mem_alloc"]))
    rows[4]["mem_torch_mem_alloc"] = str(2 * float(rows[4]["mem_torch_mem_alloc"]))
    names = {column: column + "_in_bytes" if "torch_mem" in column else column for column in COLUMNS}
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(names.values())
        writer.writerows([row[column] for column in COLUMNS] for row in rows[:5])


main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
