#!/usr/bin/env python3
"""A random search by another tool, every evaluation of which starts the same program as those of `hpo`.

    peers.py TOOL SLOTS COUNT ROOM PROGRAM [ARGUMENT...]

TOOL  optuna (in memory), optuna-journal, ray-tune, syne-tune, hyperqueue

Prints one JSON object. The clock runs from the start of the first evaluation, so what the tool takes to come up is not counted.
"""
import json, os, subprocess, sys, time

TOOL, SLOTS, COUNT, ROOM, PROGRAM = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:]
FIRST = os.path.join(ROOM, f"first-{TOOL}-{SLOTS}")


def evaluate():
    if not os.path.exists(FIRST):
        with open(FIRST, "a") as file:
            file.write(f"{time.time()}\n")
    subprocess.run(PROGRAM, cwd=ROOM, check=True)
    return 1.0


def optuna():
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(f"{ROOM}/optuna-{SLOTS}.log")) if TOOL == "optuna-journal" else None
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=1))

    def objective(trial):
        trial.suggest_float("x", 0, 1)
        return evaluate()

    study.optimize(objective, n_trials=COUNT, n_jobs=SLOTS)
    return optuna.__version__


def ray_tune():
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    import ray
    from ray import tune
    ray.init(num_cpus=SLOTS, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    trainable = tune.with_resources(lambda point: {"loss": evaluate()}, {"cpu": 1})
    config = tune.TuneConfig(num_samples=COUNT, metric="loss", mode="min", reuse_actors=True, max_concurrent_trials=SLOTS)
    tuner = tune.Tuner(trainable, param_space={"x": tune.uniform(0, 1)}, tune_config=config,
                       run_config=tune.RunConfig(storage_path=os.path.join(ROOM, "ray"), verbose=0))
    found = tuner.fit()
    assert len(found) == COUNT and not found.errors
    return ray.__version__


def syne_tune():
    import logging
    logging.disable(logging.CRITICAL)
    os.environ["SYNETUNE_FOLDER"] = os.path.join(ROOM, "syne")
    script = os.path.join(ROOM, "syne.py")
    with open(script, "w") as file:
        file.write(f"""
import argparse, os, subprocess, time
if not os.path.exists({FIRST!r}):
    with open({FIRST!r}, "a") as file:
        file.write(f"{{time.time()}}\\n")
from syne_tune import Reporter
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.parse_known_args()
subprocess.run({PROGRAM!r}, cwd={ROOM!r}, check=True)
Reporter()(loss=1.0)
""")
    import importlib.metadata
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import uniform
    from syne_tune.optimizer.baselines import RandomSearch
    scheduler = RandomSearch(config_space={"x": uniform(0, 1)}, metrics=["loss"], do_minimize=True)
    tuner = Tuner(trial_backend=LocalBackend(entry_point=script), scheduler=scheduler, n_workers=SLOTS, sleep_time=0.05,
                  stop_criterion=StoppingCriterion(max_num_trials_finished=COUNT), suffix_tuner_name=True,
                  print_update_interval=1e9, results_update_interval=1e9)
    tuner.run()
    return importlib.metadata.version("syne-tune")


def hyperqueue():
    import importlib.metadata
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=SLOTS))
        client = cluster.client()
        with open(FIRST, "a") as file:
            file.write(f"{time.time()}\n")
        job = Job(max_fails=0)
        for _ in range(COUNT):
            job.program(PROGRAM, cwd=ROOM, stdout=None, stderr=None)
        client.wait_for_jobs([client.submit(job)])
        say(importlib.metadata.version("hyperqueue"))
    return None


def say(version):
    end = time.time()
    with open(FIRST) as file:
        begin = min(float(line) for line in file)
    print(json.dumps({"per_second": round(COUNT / (end - begin), 1), "version": version}), flush=True)


TOOLS = {"optuna": optuna, "optuna-journal": optuna, "ray-tune": ray_tune, "syne-tune": syne_tune, "hyperqueue": hyperqueue}
version = TOOLS[TOOL]()
if version is not None:
    say(version)
# Without waiting for what a tool leaves running to come to its end by itself.
sys.stdout.flush()
if TOOL == "ray-tune":
    import ray
    ray.shutdown()
os._exit(0)
