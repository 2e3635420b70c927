#!/usr/bin/env python3
"""How much `hpo` costs beside the evaluations themselves, next to the raw rate of the machine and to peers.

    orchestration.py HPO DIRECTORY [--points 2000] [--long 20000] [--peers PYTHON]

HPO        the program, built with --release
DIRECTORY  where tasks are made; its file system decides what a commit costs
PYTHON     an interpreter with optuna, for the peers

Needs a C compiler: evaluations are a program that writes `{"loss": 1}` and ends. Prints one JSON object a line:

raw          starts of that program by vfork and exec, so many at a time, and nothing else
hpo          a search with that program; `of_raw` is its rate over the raw one, `cpu_of_raw` the same for processor time
sleep        evaluations of 0.1 s, 16 at a time; `busy` is the share of the slots that work
start        from the start of `hpo run` to the first evaluation; the middle one of nine
long         a search of many points: memory of the manager after a tenth and at the end, then the time that `hpo journal check`
             takes to replay its journal
optuna       random search with a subprocess for each trial and with the journal storage
"""
import argparse, json, os, resource, shutil, subprocess, sys, tempfile, threading, time

PAYLOAD = r"""
#include <fcntl.h>
#include <unistd.h>
int main(void) {
    int file = open("output.json", O_CREAT | O_WRONLY | O_TRUNC, 0644);
    return write(file, "{\"loss\": 1}", 11) == 11 ? 0 : 1;
}
"""
RAW = r"""
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **words) {
    long left = atol(words[1]), slots = atol(words[2]), running = 0;
    (void)count;
    while (left > 0 || running > 0) {
        while (running < slots && left > 0) {
            pid_t child = vfork();
            if (child == 0) { execv(words[3], words + 3); _exit(127); }
            if (child < 0) return 1;
            running++; left--;
        }
        if (wait(0) > 0) running--;
    }
    return 0;
}
"""
# One run of steering gives all points.
STEER = """awk -v n=%NUM_POINTS 'BEGIN { printf "["; for (i = 0; i < n; i++) printf "%s{\\"x\\":%d}", i ? "," : "", i; printf "]" }' > %OUT"""


def say(**fields):
    print(json.dumps({"load": round(os.getloadavg()[0], 1), **fields}), flush=True)


def timed(command, **options):
    """Wall time and processor time of a command with all its children."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, **options)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def search(hpo, room, name, points, slots, command):
    files = os.path.join(room, name + "-files")
    os.makedirs(files)
    task = {"steeringExec": STEER, "evaluationExec": command, "maxPoints": points, "nPointsPerIteration": points,
            "minUnevaluatedPoints": 0, "nParallelEvaluation": slots}
    with open(os.path.join(files, "task.json"), "w") as file:
        json.dump(task, file)
    return [hpo, "run", os.path.join(files, "task.json"), "--taskDir", os.path.join(room, name), "--quiet"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("hpo"), parser.add_argument("directory")
    parser.add_argument("--points", type=int, default=2000), parser.add_argument("--long", type=int, default=20000)
    parser.add_argument("--peers")
    given = parser.parse_args()
    hpo = os.path.realpath(given.hpo)
    room = tempfile.mkdtemp(prefix="orchestration-", dir=given.directory)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        payload, raw = os.path.join(room, "payload"), os.path.join(room, "raw")
        for program, text in ((payload, PAYLOAD), (raw, RAW)):
            subprocess.run(["cc", "-O2", "-x", "c", "-o", program, "-"], input=text.encode(), check=True)
        for slots in (2, 4, 16):
            wall, cpu = timed([raw, str(given.points), str(slots), payload], cwd=room)
            rate, each = given.points / wall, cpu / given.points
            say(what="raw", slots=slots, per_second=round(rate), cpu_ms=round(1e3 * each, 3))
            wall, cpu = timed(search(hpo, room, f"noop-{slots}", given.points, slots, payload), **quiet)
            say(what="hpo", slots=slots, per_second=round(given.points / wall), cpu_ms=round(1e3 * cpu / given.points, 3),
                of_raw=round(given.points / wall / rate, 3), cpu_of_raw=round(each / (cpu / given.points), 3))
        count = 800
        wall, _ = timed(search(hpo, room, "sleep", count, 16, "sh -c 'sleep 0.1; echo {\\\"loss\\\": 1} > output.json'"), **quiet)
        say(what="sleep", slots=16, evaluations=count, busy=round(count * 0.1 / (16 * wall), 4))
        times = []
        for number in range(9):
            mark = os.path.join(room, f"mark-{number}")
            command = search(hpo, room, f"start-{number}", 1, 1, f"date +%s.%N > {mark}; echo '{{\"loss\": 1}}' > output.json")
            begin = time.time()
            subprocess.run(command, check=True, **quiet)
            times.append(float(open(mark).read()) - begin)
        say(what="start", ms=round(1e3 * sorted(times)[4], 1))
        memory = []
        process = subprocess.Popen(search(hpo, room, "long", given.long, 16, payload), **quiet)

        def sample():
            while process.poll() is None:
                try:
                    fields = open(f"/proc/{process.pid}/status").read().split()
                    memory.append((time.time(), int(fields[fields.index("VmRSS:") + 1]) / 1024))
                except (OSError, ValueError):
                    pass
                time.sleep(0.25)

        sampler = threading.Thread(target=sample)
        sampler.start(), process.wait(), sampler.join()
        tenth = memory[len(memory) // 10][1]
        _, cpu = timed([hpo, "journal", "check", os.path.join(room, "long")], **quiet)
        say(what="long", points=given.long, memory_mib_at_a_tenth=round(tenth, 1), memory_mib_at_most=round(max(m for _, m in memory), 1),
            replay_cpu_s=round(cpu, 3))
        if given.peers:
            peers(given, room, payload)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def peers(given, room, payload):
    script = """
import json, subprocess, sys, time, optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
optuna.logging.set_verbosity(optuna.logging.ERROR)
payload, room, count, slots, durable = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "journal"
storage = JournalStorage(JournalFileBackend(f"{room}/optuna-{slots}.log")) if durable else None
study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=1))
def objective(trial):
    trial.suggest_float("x", 0, 1)
    subprocess.run([payload], cwd=room, check=True)
    return 1.0
begin = time.perf_counter()
study.optimize(objective, n_trials=count, n_jobs=slots)
print(json.dumps({"per_second": round(count / (time.perf_counter() - begin)), "version": optuna.__version__}))
"""
    for storage in ("memory", "journal"):
        for slots in (2, 4, 16):
            count = given.points if storage == "memory" else max(given.points // 4, 50)
            words = [given.peers, "-c", script, payload, room, str(count), str(slots), storage]
            found = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            say(what="optuna", storage=storage, slots=slots, **json.loads(found.stdout))


if __name__ == "__main__":
    sys.exit(main())
