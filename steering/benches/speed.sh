#!/bin/sh
# How long does one ask take, from the start of the process to its end? Prints the table of steering/README.md.
#
#     steering/benches/speed.sh HISTORIES...
#
# HISTORIES are steering inputs of rising length. RUNS is the number of runs, of which the fastest and the median count.
set -eu

python=${PYTHON:-python3}
cd "$(dirname "$0")/../.."
cargo build --release --quiet --package steering
steering=$(cargo metadata --format-version 1 --no-deps |
    "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release/steering

exec "$python" - "$steering" "${RUNS:-15}" "$@" <<'PYTHON'
import json
import os
import resource
import subprocess
import sys
import time

steering, runs, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
print("| points | sampler | fastest, ms | median, ms | memory, MB |\n|---|---|---|---|---|")
for path in files:
    with open(path) as file:
        points = len(json.load(file)["points"])
    for sampler in ("random", "sobol", "tpe", "gp", "auto"):
        times, memory = [], 0
        for _ in range(runs):
            begin = time.perf_counter()
            child = subprocess.Popen([steering, "ask", "--lib", sampler, "-n", "1", "-i", path], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            times.append(1000 * (time.perf_counter() - begin))
            memory = max(memory, usage.ru_maxrss / 1024)
            assert status == 0, (sampler, path)
        times.sort()
        print(f"| {points:,} | {sampler} | {times[0]:.1f} | {times[len(times) // 2]:.1f} | {memory:.0f} |", flush=True)
PYTHON
