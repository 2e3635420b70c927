"""CPU time per training step, ours against PyTorch, in turn in one run on one thread.

    python compare.py BENCH_BINARY [--rounds 5] > result.json

Needs torch. BENCH_BINARY is the program that `cargo bench -p evaluation --bench step --no-run` names. Each round runs
ours, eager PyTorch and PyTorch's fused optimiser for every case; the table has the medians over the rounds of the
medians over the steps. CPU time of the process is measured, so that other load on the machine matters little.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

CASES = [
    ("784-256-128-10", "sgd", 64),
    ("784-256-128-10", "adam", 64),
    ("8-16-4", "sgd", 64),
    ("8-16-4", "adam", 64),
]


def torch_step_times(widths, optimizer, batch, epochs, fused):
    widths = [int(width) for width in widths.split("-")]
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    if optimizer == "sgd":
        rule = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=fused or None)
    else:
        rule = torch.optim.Adam(model.parameters(), lr=0.001, fused=fused or None)
    function = nn.CrossEntropyLoss()
    inputs = torch.rand(64 * batch, widths[0]) * 2 - 1
    labels = torch.arange(64 * batch) * 7 % widths[-1]
    times = []
    for _ in range(epochs):
        order = torch.randperm(64 * batch)
        before = None
        for step in range(64):
            rows = order[step * batch : (step + 1) * batch]
            rule.zero_grad()
            loss = function(model(inputs[rows]), labels[rows])
            loss.backward()
            rule.step()
            loss.item()
            now = time.process_time()
            if before is not None:
                times.append(now - before)
            before = now
    return statistics.median(times) * 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for widths, optimizer, batch in CASES:
        found = {"ours": [], "eager": [], "fused": []}
        for _ in range(options.rounds):
            command = [options.binary, widths, optimizer, str(batch), str(options.epochs)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found["ours"].append(json.loads(output)["median_us"])
            found["eager"].append(torch_step_times(widths, optimizer, batch, options.epochs, False))
            found["fused"].append(torch_step_times(widths, optimizer, batch, options.epochs, True))
        medians = {name: statistics.median(values) for name, values in found.items()}
        row = {"model": widths, "optimizer": optimizer, "batch": batch, **medians, "rounds": found}
        rows.append(row)
        print(
            f"{widths} {optimizer:5} ours {medians['ours']:8.1f} µs  eager {medians['eager']:8.1f} µs "
            f"({medians['eager'] / medians['ours']:.2f}x)  fused {medians['fused']:8.1f} µs "
            f"({medians['fused'] / medians['ours']:.2f}x)",
            file=sys.stderr,
        )
    json.dump({"torch": torch.__version__, "cases": rows}, sys.stdout, indent=1)
    print()


main()
