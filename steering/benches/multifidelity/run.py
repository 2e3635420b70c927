"""Epochs of training until a fully trained configuration is as good as what random search finds in its whole budget.

    python steering/benches/multifidelity/run.py KIT STEERING OUT.jsonl [--seeds 30] [--methods ...] [--problems ...]

Evaluations are made one by one; a configuration that goes on is charged the epochs beyond those it had. The target of a
problem is the median over the seeds of the best true loss of random search after BUDGET full trainings. A run ends when it has
reached the target, or used the epochs of that random search. Runs that are in OUT.jsonl already are not repeated.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time

import numpy as np

import peers
import problems

BUDGET = 100


def target(problem, seeds=100):
    """The median of what random search finds, and the best that is known of it."""
    from hpokit.space import Space

    space = Space(problem.space)
    best = []
    for seed in range(seeds):
        rng = np.random.default_rng(1_000 + seed)
        seen = [(problem.loss(p, problem.full, seed), problem.truth(p)) for p in (space.sample(rng) for _ in range(BUDGET))]
        # Some of the real trainings diverged.
        best.append(min(pair for pair in seen if pair[0] == pair[0])[1])
    return float(np.median(best))


def steering(problem, seed, goal, limit, binary, scheduler, sampler, extra=()):
    """Epochs until the goal, and whether it was reached; one call of the program for each point."""
    points, used, trained = [], 0, {}
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "in.json")
        while used < limit:
            with open(path, "w") as file:
                json.dump({"points": points, "opt_space": problem.space}, file)
            command = [binary, "ask", "--lib", sampler, "--seed", str(seed), "-n", "1", "-i", path]
            if scheduler:
                command += ["--scheduler", scheduler, "--max-epochs", str(problem.full), *extra]
            done = subprocess.run(command, capture_output=True, check=True)
            new = json.loads(done.stdout)
            if not new:
                return used, False
            point = new[0]
            epochs = point.get("hpo.epochs", problem.full)
            configuration = point.get("hpo.c", len(points))
            used += epochs - trained.get(configuration, 0)
            trained[configuration] = epochs
            points.append([point, problem.loss(point, epochs, seed)])
            if epochs == problem.full and problem.truth(point) <= goal:
                return used, True
    return used, False


METHODS = {
    "random": lambda *a, binary: steering(*a, binary, None, "random"),
    "tpe": lambda *a, binary: steering(*a, binary, None, "tpe"),
    "asha+random": lambda *a, binary: steering(*a, binary, "asha", "random"),
    "hyperband+random": lambda *a, binary: steering(*a, binary, "hyperband", "random"),
    "synchronous+random": lambda *a, binary: steering(*a, binary, "synchronous", "random"),
    "asha+tpe": lambda *a, binary: steering(*a, binary, "asha", "tpe"),
    "asha+gp": lambda *a, binary: steering(*a, binary, "asha", "gp"),
    "asha+auto": lambda *a, binary: steering(*a, binary, "asha", "auto"),
    "hyperband+tpe": lambda *a, binary: steering(*a, binary, "hyperband", "tpe"),
    **{name: (lambda *a, binary, run=run: run(*a)) for name, run in peers.METHODS.items()},
}
# On a table without dimensions a model has nothing to learn.
MODELLESS = ("random", "asha+random", "hyperband+random", "synchronous+random", "syne-tune-asha", "optuna-asha-random", "optuna-hyperband-random")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kit")
    parser.add_argument("binary")
    parser.add_argument("out")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", default="random,asha+random,asha+tpe")
    parser.add_argument("--problems", default="")
    options = parser.parse_args()
    done = set()
    if os.path.exists(options.out):
        with open(options.out) as lines:
            done = {(r["problem"], r["method"], r["seed"]) for r in map(json.loads, lines)}
    available = problems.load(options.kit)
    names = [name for name in available if not options.problems or name in options.problems.split(",")]
    goals = {name: target(available[name]) for name in names}
    with open(options.out, "a") as out:
        for seed in range(options.first_seed, options.seeds):
            for method in options.methods.split(","):
                for name in names:
                    problem = available[name]
                    if (name, method, seed) in done or (name == "climsim" and method not in MODELLESS):
                        continue
                    start = time.time()
                    # Random search itself is let run on, so that its median is not cut off.
                    limit = BUDGET * problem.full * (4 if method == "random" else 1)
                    used, reached = METHODS[method](problem, seed, goals[name], limit, binary=options.binary)
                    line = {"problem": name, "method": method, "seed": seed, "goal": goals[name], "full": problem.full}
                    line |= {"epochs": used, "reached": reached, "seconds": round(time.time() - start, 2)}
                    out.write(json.dumps(line) + "\n")
                    out.flush()


if __name__ == "__main__":
    main()
