#!/bin/sh
# How long does one ask take, from the start of the process to its end, here and in Python? Prints the table of steering/README.md.
#
#     steering/benches/speed.sh KIT [PYTHON:PEER,PEER…]...
#
# KIT is the folder of a benchmark kit with `peer_steering.py`, which makes each Python library a command that reads a history, asks
# for points and writes them, as `steering` does. A PYTHON is the interpreter of an environment in which these PEERs are installed.
# HPO_STEERING names the program to be measured, else it is built. RUNS is the number of runs of ours, of which the fastest counts, as
# it does of three runs of a peer. CPU seconds (user and system) stand beside those of the clock, by which the ratios are: on a busy machine
# they say more.
set -eu

kit=$1
shift
python=${PYTHON:-python3}
cd "$(dirname "$0")/../.."
if [ -z "${HPO_STEERING:-}" ]; then
    cargo build --release --quiet --package steering
    HPO_STEERING=$(cargo metadata --format-version 1 --no-deps |
        "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release/steering
fi

exec "$python" - "$HPO_STEERING" "${RUNS:-15}" "$kit" "$@" <<'PYTHON'
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time

steering, runs, kit, peers = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
OURS = ("random", "sobol", "tpe", "gp", "auto", "turbo", "cmaes", "evolution")
# What a peer does in the same way here.
SAME = {"random": "random", "optuna-tpe": "tpe", "hyperopt-tpe": "tpe", "optuna-gp": "gp", "skopt-gp": "gp", "optuna-cmaes": "cmaes"}
# Seconds after which a peer has given up; longer histories are then left out.
LIMIT = 100

SPACE = {
    "rate": {"method": "loguniform", "dimension": {"low": 1e-5, "high": 0.1}},
    "decay": {"method": "loguniform", "dimension": {"low": 1e-7, "high": 0.01}},
    "momentum": {"method": "uniform", "dimension": {"low": 0.0, "high": 1.0}},
    "dropout": {"method": "uniform", "dimension": {"low": 0.0, "high": 0.6}},
    "layers": {"method": "uniformint", "dimension": {"low": 1, "high": 8}},
    "units": {"method": "uniformint", "dimension": {"low": 16, "high": 1024}},
    "batch": {"method": "categorical", "dimension": {"categories": [16, 32, 64, 128]}},
    "optimizer": {"method": "categorical", "dimension": {"categories": ["sgd", "adam", "rmsprop"]}},
    "activation": {"method": "categorical", "dimension": {"categories": ["relu", "tanh", "gelu"]}},
    "schedule": {"method": "categorical", "dimension": {"categories": ["constant", "cosine"]}},
}


def history(count):
    """Random points with a noisy bowl for a loss."""
    source = random.Random(count)
    points = []
    for _ in range(count):
        point = {}
        for key, dimension in SPACE.items():
            of = dimension["dimension"]
            if dimension["method"] == "categorical":
                point[key] = source.choice(of["categories"])
            elif dimension["method"] == "uniformint":
                point[key] = source.randint(of["low"], of["high"])
            elif dimension["method"] == "uniform":
                point[key] = source.uniform(of["low"], of["high"])
            else:
                point[key] = math.exp(source.uniform(math.log(of["low"]), math.log(of["high"])))
        loss = (math.log10(point["rate"]) + 3) ** 2 + 0.1 * abs(point["layers"] - 4) + point["dropout"]
        points.append([point, loss + source.gauss(0, 0.1)])
    return points


def measure(command, times):
    """Least clock and CPU milliseconds and most memory of some runs, or nothing if one fails or is too slow."""
    clock, cpu, memory = math.inf, math.inf, 0
    for _ in range(times):
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        timer = subprocess.Popen(["sh", "-c", f"sleep {LIMIT}; kill {child.pid}"], start_new_session=True)
        _, status, usage = os.wait4(child.pid, 0)
        os.killpg(timer.pid, 9)
        timer.wait()
        if status != 0:
            return None
        clock = min(clock, 1000 * (time.perf_counter() - begin))
        cpu = min(cpu, 1000 * (usage.ru_utime + usage.ru_stime))
        memory = max(memory, usage.ru_maxrss / 1024)
    return clock, cpu, memory


print("| points | sampler | clock, ms | CPU, ms | memory, MB | clock against ours |\n|---|---|---|---|---|---|")
slow = set()
with tempfile.TemporaryDirectory() as folder:
    infile, outfile = os.path.join(folder, "in.json"), os.path.join(folder, "out.json")
    for count in (100, 1_000, 10_000):
        with open(infile, "w") as file:
            json.dump({"points": history(count), "opt_space": SPACE}, file)
        ours = {}
        for sampler in OURS:
            found = measure([steering, "ask", "--lib", sampler, "-n", "1", "-i", infile, "-o", outfile], runs)
            assert found, (sampler, count)
            ours[sampler] = found
            print(f"| {count:,} | `{sampler}` | {found[0]:.1f} | {found[1]:.1f} | {found[2]:.0f} | |", flush=True)
        for group in peers:
            interpreter, names = group.rsplit(":", 1)
            for peer in names.split(","):
                if peer in slow:
                    continue
                line = [interpreter, "-W", "ignore", os.path.join(kit, "peer_steering.py"), peer, "1", str(count + 100), infile, outfile]
                found = measure(line, 3)
                if found is None:
                    slow.add(peer)
                    print(f"| {count:,} | {peer} | | | | failed, or over {LIMIT} s |", flush=True)
                    continue
                ratio = found[0] / ours[SAME[peer]][0] if peer in SAME else 0
                against = f"{ratio:.0f} × `{SAME[peer]}`" if ratio else ""
                print(f"| {count:,} | {peer} | {found[0]:.0f} | {found[1]:.0f} | {found[2]:.0f} | {against} |", flush=True)
PYTHON
