"""The same problems under Optuna and Syne Tune, one evaluation after the other.

    python peers.py KIT OUT.jsonl [--seeds 30] [--methods ...] [--problems ...]

MOBSTER and Hyper-Tune are in Syne Tune up to 0.13 (`syne-tune[gpsearchers]`), the others of Syne Tune in 0.16. Runs that are in
OUT.jsonl already are not repeated.
"""

import argparse
import json
import os
import time
import warnings

import problems


def optuna_run(problem, seed, goal, limit, sampler, pruner):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    samplers = {
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    }
    pruners = {
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=problem.full, reduction_factor=3),
    }
    study = optuna.create_study(sampler=samplers[sampler](), pruner=pruners[pruner](), study_name=f"{problem.name}-{seed}")
    space = optuna_space(problem.space)
    used = 0
    while used < limit:
        trial = study.ask(space)
        point, pruned = dict(trial.params), False
        for epoch in range(1, problem.full + 1):
            used += 1
            loss = problem.loss(point, epoch, seed)
            trial.report(loss, epoch)
            if epoch < problem.full and trial.should_prune():
                pruned = True
                break
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        study.tell(trial, loss)
        if problem.truth(point) <= goal:
            return used, True
    return used, False


def optuna_space(spec):
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space = {}
    for name, entry in spec.items():
        method, d = entry["method"], entry["dimension"]
        if method == "categorical":
            space[name] = CategoricalDistribution(d["categories"])
        elif method == "uniformint":
            space[name] = IntDistribution(d["low"], d["high"])
        elif method in ("uniform", "loguniform"):
            space[name] = FloatDistribution(d["low"], d["high"], log=method == "loguniform")
        elif method == "qloguniform" and float(d["q"]) == 1.0:
            space[name] = IntDistribution(int(d["low"]), int(d["high"]), log=True)
        else:
            raise ValueError(f"{name}: {method}")
    return space


def syne_tune_run(problem, seed, goal, limit, scheduler):
    import datetime
    import logging

    import numpy as np

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")

    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer import baselines
    from syne_tune.optimizer.scheduler import SchedulerDecision

    np.random.seed(seed)
    space = syne_tune_space(problem.space)
    old = scheduler in ("MOBSTER", "HyperTune")
    if old:
        options = {"mode": "min", "resource_attr": "epoch", "search_options": {"debug_log": False}}
    else:
        options = {"time_attr": "epoch", "do_minimize": True}
    made = getattr(baselines, scheduler)(space, metric="loss", max_t=problem.full, random_seed=seed, **options)
    used, number = 0, 0
    while used < limit:
        suggestion = made.suggest(number) if old else made.suggest()
        trial = Trial(trial_id=number, config=suggestion.config, creation_time=datetime.datetime.now())
        number += 1
        made.on_trial_add(trial)
        point = {name: value.item() if hasattr(value, "item") else value for name, value in suggestion.config.items()}
        finished = True
        for epoch in range(1, problem.full + 1):
            used += 1
            result = {"loss": problem.loss(point, epoch, seed), "epoch": epoch}
            if epoch == problem.full:
                made.on_trial_complete(trial, result)
            elif made.on_trial_result(trial, result) != SchedulerDecision.CONTINUE:
                finished = False
                break
        if finished and problem.truth(point) <= goal:
            return used, True
    return used, False


def syne_tune_space(spec):
    from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform

    space = {}
    for name, entry in spec.items():
        method, d = entry["method"], entry["dimension"]
        if method == "categorical":
            space[name] = choice(d["categories"])
        elif method == "uniformint":
            space[name] = randint(d["low"], d["high"])
        elif method == "uniform":
            space[name] = uniform(d["low"], d["high"])
        elif method == "loguniform":
            space[name] = loguniform(d["low"], d["high"])
        elif method == "qloguniform" and float(d["q"]) == 1.0:
            space[name] = lograndint(int(d["low"]), int(d["high"]))
        else:
            raise ValueError(f"{name}: {method}")
    return space


METHODS = {
    "optuna-asha-random": lambda *a: optuna_run(*a, "random", "asha"),
    "optuna-hyperband-random": lambda *a: optuna_run(*a, "random", "hyperband"),
    "optuna-asha-tpe": lambda *a: optuna_run(*a, "tpe", "asha"),
    "optuna-hyperband-tpe": lambda *a: optuna_run(*a, "tpe", "hyperband"),
    "syne-tune-asha": lambda *a: syne_tune_run(*a, "ASHA"),
    "syne-tune-asha-bore": lambda *a: syne_tune_run(*a, "ASHABORE"),
    "syne-tune-asha-cqr": lambda *a: syne_tune_run(*a, "ASHACQR"),
    "syne-tune-bohb": lambda *a: syne_tune_run(*a, "BOHB"),
    "syne-tune-mobster": lambda *a: syne_tune_run(*a, "MOBSTER"),
    "syne-tune-hyper-tune": lambda *a: syne_tune_run(*a, "HyperTune"),
}
# On a table without dimensions a model has nothing to learn.
MODELLESS = ("optuna-asha-random", "optuna-hyperband-random", "syne-tune-asha")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kit")
    parser.add_argument("out")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--methods", default="optuna-asha-random,optuna-asha-tpe,optuna-hyperband-tpe,syne-tune-asha")
    parser.add_argument("--problems", default="")
    options = parser.parse_args()
    done = set()
    if os.path.exists(options.out):
        with open(options.out) as lines:
            done = {(r["problem"], r["method"], r["seed"]) for r in map(json.loads, lines)}
    known = problems.load(options.kit)
    wanted = [problem for name, problem in known.items() if not options.problems or name in options.problems.split(",")]
    with open(options.out, "a") as out:
        for seed in range(options.seeds):
            for method in options.methods.split(","):
                for problem in wanted:
                    if (problem.name, method, seed) in done or (problem.name == "climsim" and method not in MODELLESS):
                        continue
                    start, goal = time.time(), problem.target()
                    used, reached = METHODS[method](problem, seed, goal, problems.BUDGET * problem.full)
                    line = {"problem": problem.name, "method": method, "seed": seed, "goal": goal, "full": problem.full}
                    line |= {"epochs": used, "reached": reached, "seconds": round(time.time() - start, 2)}
                    out.write(json.dumps(line) + "\n")
                    out.flush()
                    problem.cache.clear()


if __name__ == "__main__":
    main()
