#!/usr/bin/env python3
"""How good is the front that `steering ask --objectives` finds? Prints the table of steering/README.md.

    objectives.py STEERING [SEEDS [BUDGET]]

STEERING is the program. Problems: ZDT1 and ZDT2 in six dimensions, DTLZ2 with three objectives in six, and a training of a small network
whose loss and time depend on numbers, integers and categories. Each search evaluates BUDGET points one by one (60 unless
given). The figure is the hypervolume of the front up to the reference, as a share of that of the true front (for the training: of
the best front of 200,000 random points), mean over SEEDS (10 unless given) with its standard error. Optuna, if it can be
imported, is measured beside it: NSGA-II, TPE and, where torch is installed, its Gaussian process, all with default settings.
"""
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

steering = sys.argv[1]
seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
budget = int(sys.argv[3]) if len(sys.argv) > 3 else 60
only = sys.argv[4].split(",") if len(sys.argv) > 4 else None

UNIT = {f"x{i}": {"method": "uniform", "dimension": {"low": 0.0, "high": 1.0}} for i in range(6)}
TRAINING = {
    "rate": {"method": "loguniform", "dimension": {"low": 1e-5, "high": 1.0}},
    "width": {"method": "loguniformint", "dimension": {"low": 8, "high": 1024}},
    "depth": {"method": "uniformint", "dimension": {"low": 1, "high": 6}},
    "optimizer": {"method": "categorical", "dimension": {"categories": ["adam", "sgd"]}},
    "dropout": {"method": "uniform", "dimension": {"low": 0.0, "high": 0.7}},
}


def zdt(power):
    def evaluate(p):
        x = [p[f"x{i}"] for i in range(6)]
        g = 1 + 9 * sum(x[1:]) / 5
        return [x[0], g * (1 - (x[0] / g) ** power)]

    return evaluate


def dtlz2(p):
    x = [p[f"x{i}"] * math.pi / 2 for i in range(2)]
    g = 1 + sum((p[f"x{i}"] - 0.5) ** 2 for i in range(2, 6))
    return [g * math.cos(x[0]) * math.cos(x[1]), g * math.cos(x[0]) * math.sin(x[1]), g * math.sin(x[0])]


def training(p):
    rate = math.log10(p["rate"]) - (-3.0 if p["optimizer"] == "adam" else -1.5) + 0.3 * math.log10(p["width"] / 64)
    size = math.log2(p["width"]) * 0.6 + p["depth"] * 0.5
    loss = 0.15 + 0.5 * math.exp(-0.45 * size) + 0.08 * rate**2 + 0.2 * max(0.0, size - 6) * (0.5 - p["dropout"]) ** 2
    loss += 0.02 if p["optimizer"] == "sgd" else 0.0
    seconds = 0.2 + (p["width"] / 256) ** 1.3 * p["depth"] * (1.0 if p["optimizer"] == "sgd" else 1.15)
    return [loss, math.log10(seconds)]


def sphere_octant():
    """1.1^3 less the volume of the unit ball's octant, which no point of the front of DTLZ2 leaves undominated."""
    return 1.1**3 - math.pi / 6


PROBLEMS = {
    "zdt1": (UNIT, zdt(0.5), [1.1, 3.1], 1.1 * 3.1 - 1 / 3),
    "zdt2": (UNIT, zdt(2.0), [1.1, 3.1], 1.1 * 3.1 - 2 / 3),
    "dtlz2": (UNIT, dtlz2, [1.1] * 3, sphere_octant()),
    "training": (TRAINING, training, [0.6, 1.0], None),
}


def hypervolume(points, reference):
    """Of two objectives by a sweep, of more by slices of the last."""
    points = [p for p in points if all(a < r for a, r in zip(p, reference))]
    if len(reference) == 1:
        return reference[0] - min((p[0] for p in points), default=reference[0])
    cuts = sorted({p[-1] for p in points}) + [reference[-1]]
    return sum(
        (high - low) * hypervolume([p[:-1] for p in points if p[-1] <= low], reference[:-1])
        for low, high in zip(cuts, cuts[1:])
    )


def front(points):
    """Of two objectives."""
    best, out = math.inf, []
    for p in sorted(points):
        if p[1] < best:
            best = p[1]
            out.append(p)
    return out


def draw(space, rng):
    point = {}
    for name, entry in space.items():
        d = entry["dimension"]
        if entry["method"] == "categorical":
            point[name] = rng.choice(d["categories"])
        elif entry["method"].startswith("log"):
            value = math.exp(rng.uniform(math.log(d["low"]), math.log(d["high"])))
            point[name] = round(value) if entry["method"].endswith("int") else value
        else:
            value = rng.uniform(d["low"], d["high"])
            point[name] = rng.randint(d["low"], d["high"]) if entry["method"].endswith("int") else value
    return point


def ours(sampler):
    def run(space, evaluate, objectives, seed):
        names = ["loss"] + [f"loss{i}" for i in range(1, objectives)]
        points, meta = [], []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "input.json"
            for _ in range(budget):
                path.write_text(json.dumps({"points": points, "meta": meta, "opt_space": space}))
                line = [steering, "ask", "--lib", sampler, "-n", "1", "-i", str(path), "--seed", str(seed)]
                line += ["--objectives", ",".join(f"{name}:min" for name in names)]
                answer = subprocess.run(line, check=True, capture_output=True, text=True).stdout
                for point in json.loads(answer):
                    losses = evaluate(point)
                    points.append([point, losses[0]])
                    meta.append({"losses": dict(zip(names, losses))})
        return [list(entry["losses"].values()) for entry in meta]

    return run


def optuna_run(make):
    def run(space, evaluate, objectives, seed):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)

        def objective(trial):
            point = {}
            for name, entry in space.items():
                d = entry["dimension"]
                if entry["method"] == "categorical":
                    point[name] = trial.suggest_categorical(name, d["categories"])
                elif entry["method"].endswith("int"):
                    point[name] = trial.suggest_int(name, d["low"], d["high"], log=entry["method"].startswith("log"))
                else:
                    point[name] = trial.suggest_float(name, d["low"], d["high"], log=entry["method"].startswith("log"))
            return evaluate(point)

        study = optuna.create_study(directions=["minimize"] * objectives, sampler=make(optuna, seed))
        study.optimize(objective, n_trials=budget)
        return [trial.values for trial in study.trials]

    return run


SEARCHES = {f"`{name}`": ours(name) for name in ("auto", "tpe", "random")}
try:
    import optuna

    import warnings

    warnings.filterwarnings("ignore")
    SEARCHES["optuna-nsga2"] = optuna_run(lambda o, seed: o.samplers.NSGAIISampler(seed=seed))
    SEARCHES["optuna-tpe"] = optuna_run(lambda o, seed: o.samplers.TPESampler(seed=seed))
    import torch

    torch.set_num_threads(1)
    SEARCHES["optuna-gp"] = optuna_run(lambda o, seed: o.samplers.GPSampler(seed=seed))
except ImportError:
    pass

print("| problem | search | hypervolume, share of the best | seeds |\n|---|---|---|---|")
for problem, (space, evaluate, reference, best) in PROBLEMS.items():
    if best is None:
        rng = random.Random(1)
        best = hypervolume(front([evaluate(draw(space, rng)) for _ in range(200_000)]), reference)
    for name, run in SEARCHES.items():
        if only and name.strip("`") not in only:
            continue
        shares = [hypervolume(run(space, evaluate, len(reference), seed), reference) / best for seed in range(seeds)]
        error = statistics.stdev(shares) / math.sqrt(seeds) if seeds > 1 else 0.0
        print(f"| {problem} | {name} | {statistics.mean(shares):.3f} ± {error:.3f} | {seeds} |", flush=True)
