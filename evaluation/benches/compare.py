"""What a training step costs, ours against PyTorch, in turn in one run.

    python compare.py BENCH_BINARY [--rounds 5] [--threads 1] [--device cpu] [--compile] [--embedded] [--only NAME ...] > result.json

BENCH_BINARY is the program that `cargo bench -p evaluation --bench step --no-run` names. Needs torch. Each round runs
every case in a process of its own: ours, eager PyTorch with its default and with its fused optimiser, and, if asked
for, `torch.compile` and ours with the engine that needs no library. On stderr comes a table in Markdown: the medians
over the rounds of the medians over the steps, CPU time of the process with one thread, so that other load on the machine
matters little, wall time with more threads or a GPU; the largest memory; the time from the start to the beginning and to
the end of the first step. A model starts with the same number of trained weights on both sides, and both gather their
batch from the whole data set and read the loss of every step. On a GPU ours runs with CUDA graphs too.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time


def dense(units, activation="relu"):
    return {"dense": {"units": units, "activation": activation}}


def conv(filters, stride=1, activation="relu"):
    return {"conv": {"filters": filters, "stride": stride, "batch_norm": True, "activation": activation}}


def resnet_blocks():
    blocks = [conv(64)]
    for stage, filters in enumerate((64, 128, 256, 512)):
        for index in range(2):
            stride = 2 if stage > 0 and index == 0 else 1
            inner = [conv(filters, stride), conv(filters, activation="linear")]
            blocks.append({"residual": {"activation": "relu", "blocks": inner}})
    return blocks + [{"global_pool": {}}]


SGD = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9}
ADAM = {"name": "adam", "learning_rate": 0.001}
SMALL_CONV = [
    {"conv": {"filters": 16, "activation": "relu"}},
    {"pool": {}},
    {"conv": {"filters": 32, "activation": "relu"}},
    {"global_pool": {}},
]
TRANSFORMER = [dense(128, "linear"), {"transformer": {"heads": 4, "feed_forward": 512, "repeat": 2}}, {"global_pool": {}}]
TRANSFORMER[0]["dense"]["per_position"] = True

# Name: blocks, optimiser, shape of a row, classes, batch, steps of an epoch, epochs.
CASES = {
    "mlp": ([dense(256), dense(128)], SGD, [784], 10, 64, 64, 8),
    "mlp-adam": ([dense(256), dense(128)], ADAM, [784], 10, 64, 64, 8),
    "mlp-1024": ([dense(256), dense(128)], SGD, [784], 10, 1024, 16, 6),
    "tiny": ([dense(16)], ADAM, [8], 4, 64, 64, 24),
    "cnn": (SMALL_CONV, SGD, [1, 28, 28], 10, 64, 32, 4),
    "resnet18": (resnet_blocks(), SGD, [3, 32, 32], 10, 16, 6, 2),
    "lstm": ([{"recurrent": {"units": 128}}], ADAM, [28, 28], 10, 64, 32, 4),
    "transformer": (TRANSFORMER, ADAM, [32, 64], 10, 32, 24, 3),
}


def torch_model(name):
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, inputs, filters, stride):
            super().__init__()
            self.inner = nn.Sequential(
                nn.Conv2d(inputs, filters, 3, stride, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(),
                nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
                nn.BatchNorm2d(filters),
            )
            changes = inputs != filters or stride != 1
            self.shortcut = nn.Conv2d(inputs, filters, 1, stride, bias=False) if changes else nn.Identity()

        def forward(self, x):
            return torch.relu(self.inner(x) + self.shortcut(x))

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(28, 128, batch_first=True)
            self.head = nn.Linear(128, 10)

        def forward(self, x):
            return self.head(self.cell(x)[1][0][0])

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.inputs = nn.Linear(64, 128)
            layer = nn.TransformerEncoderLayer(128, 4, 512, 0.0, "gelu", batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(128, 10)

        def forward(self, x):
            return self.head(self.layers(self.inputs(x)).mean(1))

    if name.startswith("mlp"):
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    if name == "tiny":
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    if name == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 10),
        )
    if name == "resnet18":
        layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        inputs = 64
        for stage, filters in enumerate((64, 128, 256, 512)):
            for index in range(2):
                layers.append(Residual(inputs, filters, 2 if stage > 0 and index == 0 else 1))
                inputs = filters
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return Recurrent() if name == "lstm" else Encoder()


def peak_memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1e3


def run_torch(name, kind, threads, device):
    """One training with PyTorch in this process; the same figures as those of `step`."""
    start = time.monotonic()
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    _, optimizer, row, classes, batch, steps, epochs = CASES[name]
    rows = steps * batch
    inputs = (torch.rand(rows, *row) * 2 - 1).to(device)
    labels = (torch.arange(rows) * 7 % classes).to(device)
    ready = time.monotonic()
    model = torch_model(name).to(device)
    fused = True if kind == "fused" else None
    if optimizer is SGD:
        rule = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=fused)
    else:
        rule = torch.optim.Adam(model.parameters(), lr=0.001, fused=fused)
    function = nn.CrossEntropyLoss()

    def forward(x, y):
        return function(model(x), y)

    if kind == "compiled":
        forward = torch.compile(forward)
    cpu, wall, begin, first = [], [], None, None
    for epoch in range(epochs):
        order = torch.randperm(rows)
        last = None
        for step in range(steps):
            begin = begin or time.monotonic()
            chosen = order[step * batch : (step + 1) * batch].to(device)
            rule.zero_grad()
            loss = forward(inputs[chosen], labels[chosen])
            loss.backward()
            rule.step()
            value = loss.item()
            now = (time.monotonic(), time.process_time())
            first = first or now
            if last is not None and (epoch > 0 or step > 3):
                wall.append(now[0] - last[0])
                cpu.append(now[1] - last[1])
            last = now
    return {
        "engine": f"PyTorch {torch.__version__}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": len(cpu),
        "cpu_us": statistics.median(cpu) * 1e6,
        "wall_us": statistics.median(wall) * 1e6,
        "peak_mb": peak_memory(),
        "loss": value,
        "build_ms": (first[0] - ready) * 1e3,
        "start_ms": (first[0] - start) * 1e3,
        "start_cpu_ms": first[1] * 1e3,
        "begin_ms": (begin - start) * 1e3,
    }


def run(name, kind, options):
    if kind in ("ours", "graphs", "embedded"):
        blocks, optimizer, row, classes, batch, steps, epochs = CASES[name]
        case = {"model": {"blocks": blocks}, "optimizer": optimizer, "row": row, "classes": classes, "batch": batch}
        case |= {"steps": steps, "epochs": epochs, "threads": options.threads, "device": options.device}
        case |= {"embedded": kind == "embedded", "cuda_graphs": kind == "graphs"}
        command = [options.binary, json.dumps(case)]
    else:
        command = [sys.executable, __file__, "--torch", name, kind, str(options.threads), options.device]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def processor():
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names)} logical processors"


TITLES = {
    "ours": "ours",
    "graphs": "ours by CUDA graphs",
    "embedded": "ours without a library",
    "eager": "PyTorch eager",
    "fused": "PyTorch fused",
    "compiled": "`torch.compile`",
}


def table_row(cells):
    return f"| {' | '.join(cells)} |"


def cell(row, kind, measure):
    """A time, and its ratio to ours."""
    if "failed" in row[kind]:
        return f"failed: {row[kind]['failed']}"
    time_us = row[kind][measure]
    text = f"{time_us:.0f} µs" if time_us < 1e4 else f"{time_us / 1e3:.1f} ms"
    if kind == "ours" or "failed" in row["ours"]:
        return text
    return f"{text} ({time_us / row['ours'][measure]:.2f} ×)"


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--torch":
        name, kind, threads, device = sys.argv[2:]
        print(json.dumps(run_torch(name, kind, int(threads), device)))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes a while to start")
    parser.add_argument("--embedded", action="store_true", help="ours with the engine that needs no library, too")
    parser.add_argument("--ours", action="store_true", help="leave PyTorch out")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    if options.device == "cpu":
        print("on the CPU; for a GPU: --device cuda, where PyTorch and ONNX Runtime see one", file=sys.stderr)
    kinds = ["ours"] + ["graphs"] * (options.device == "cuda") + ["embedded"] * options.embedded
    if not options.ours:
        kinds += ["eager", "fused"] + ["compiled"] * options.compile
    measure = "cpu_us" if options.device == "cpu" and options.threads == 1 else "wall_us"
    rows, factors = [], {kind: [] for kind in kinds}
    what = "CPU time" if measure == "cpu_us" else "wall time"
    print(f"{what} of a step, {options.threads} threads, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}\n", file=sys.stderr)
    headings = ["model", "batch", *(TITLES[kind] for kind in kinds), "peak memory", "start until the first step begins", "ends"]
    print(table_row(headings), table_row(["---"] * len(headings)), sep="\n", file=sys.stderr)
    for name in options.only:
        found = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            for kind in kinds:
                found[kind].append(run(name, kind, options))
        row = {"case": name}
        for kind, runs in found.items():
            failed = [one["failed"] for one in runs if "failed" in one]
            if failed:
                row[kind] = {"failed": failed[0]}
                continue
            numbers = [key for key, value in runs[0].items() if isinstance(value, (int, float))]
            row[kind] = runs[0] | {key: statistics.median(one[key] for one in runs) for key in numbers}
            row[kind]["rounds"] = [one[measure] for one in runs]
            if "failed" not in row["ours"]:
                factors[kind].append(row[kind][measure] / row["ours"][measure])
        rows.append(row)
        cells = [cell(row, kind, measure) for kind in kinds]
        shown = [row[kind] for kind in ("ours", "eager") if kind in row and "failed" not in row[kind]]
        cells.append(" / ".join(f"{one['peak_mb']:.0f}" for one in shown) + " MB")
        for moment in ("begin_ms", "start_ms"):
            cells.append(" / ".join(f"{one[moment] / 1e3:.2f}" for one in shown) + " s")
        print(table_row([f"`{name}`", str(CASES[name][4]), *cells]), file=sys.stderr, flush=True)
    means = {kind: math.exp(statistics.fmean(map(math.log, values))) for kind, values in factors.items() if values}
    shown = {TITLES[kind]: f"{mean:.2f}" for kind, mean in means.items() if kind != "ours"}
    print("\ngeometric means of the times, in ours:", shown, file=sys.stderr)
    document = {"processor": processor(), "date": time.strftime("%Y-%m-%d"), "measure": measure}
    document |= {"threads": options.threads, "geometric_means": means, "cases": rows}
    json.dump(document, sys.stdout, indent=1)
    print()


main()
