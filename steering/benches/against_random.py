"""Where is a sampler not clearly better than random search? Prints each such problem with the difference and its standard error.

    python3 steering/benches/against_random.py KIT SAMPLER RESULTS...

KIT is the folder of the benchmark kit, RESULTS are files of result lines of SAMPLER with 20 seeds or so; the runs of random search
are those of the kit, one by one: batches make no difference to it. Figures are gains: 0 is random search, 100 the best known configuration.
"""

import sys

kit, sampler, *results = sys.argv[1:]
sys.path.insert(0, kit)

import numpy  # noqa: E402
import score  # noqa: E402

random_runs = f"{kit}/results/peers.jsonl.gz"


def gains(problem, budget, losses):
    """Gain of every seed."""
    of = []
    for seed, loss in losses.items():
        best, _, middle = score.reference(problem, seed, budget)
        of.append(max(100 * (middle - min(loss, score.FAIL)) / max(middle - best, 1e-12), -100))
    return numpy.array(of)


print(f"| evaluations, batch | problem | {sampler} | random | difference | standard error |\n|---|---|---|---|---|---|")
for budget, batch in ((32, 1), (100, 1), (96, 8)):
    ours, _ = score.collect(results, budget, batch)
    theirs, _ = score.collect([random_runs], budget, 1)
    for (name, problem), losses in sorted(ours.items()):
        if name != sampler or ("random", problem) not in theirs:
            continue
        own, other = gains(problem, budget, losses), gains(problem, budget, theirs[("random", problem)])
        difference = own.mean() - other.mean()
        error = (own.var(ddof=1) / len(own) + other.var(ddof=1) / len(other)) ** 0.5
        if difference < 2 * error:
            print(f"| {budget}, {batch} | {problem} | {own.mean():.0f} | {other.mean():.0f} | {difference:.0f} | {error:.0f} |")
