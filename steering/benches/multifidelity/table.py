"""Prints the table of steering/README.md from result lines: python table.py OUT.jsonl..."""

import gzip
import json
import statistics
import sys

runs = {}
for path in sys.argv[1:]:
    with (gzip.open if path.endswith(".gz") else open)(path, "rt") as lines:
        for run in map(json.loads, lines):
            # A run that did not reach the goal used more than it was let.
            epochs = run["epochs"] if run["reached"] else float("inf")
            runs.setdefault(run["method"], {}).setdefault(run["problem"], []).append((epochs, run["full"]))
problems = sorted({problem for method in runs.values() for problem in method})
print("| method | " + " | ".join(problems) + " |\n| --- |" + " ---: |" * len(problems))
for method, by_problem in runs.items():
    cells = []
    for problem in problems:
        found = by_problem.get(problem, [])
        if not found:
            cells.append("")
            continue
        median = statistics.median(epochs for epochs, _ in found)
        factor = 100 * found[0][1] / median
        cells.append(f"{median:.0f} ({factor:.1f}×, {len(found)})" if factor else f"not reached ({len(found)})")
    print(f"| {method} | " + " | ".join(cells) + " |")
