#!/usr/bin/env python3
"""How much `hpo` costs beside the evaluations themselves, next to the raw rate of the machine and to peers.

    orchestration.py HPO DIRECTORY [--points 2000] [--long 100000] [--peers PYTHON]

HPO        the program, built with --release
DIRECTORY  where tasks are made; its file system decides what a commit costs
PYTHON     an interpreter with optuna, ray[tune], syne-tune and hyperqueue, for the peers; what it lacks is left out

Needs a C compiler: evaluations are a program that writes `{"loss": 1}` and ends. Prints one JSON object a line:

raw          starts of that program by vfork and exec, so many at a time, and nothing else
hpo          a search with that program; `of_raw` is its rate over the raw one, `cpu_of_raw` the same for processor time
busy         evaluations that sleep for 0.1 s, 16 at a time: the share of the time of all slots that is spent between the first and the
             last line of an evaluation, up to the start of the last one; `raw` is that of the machine, which only starts them
start        from the start of `hpo run` to the first evaluation; the middle one of nine
long         a search of many points: memory of the manager after a tenth and at most, then the time that `hpo journal check`
             takes to replay its journal
peer         the same program started by another tool (`peers.py`)
"""
import argparse, json, os, resource, shutil, subprocess, sys, tempfile, threading, time

NAP = r"""
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
int main(int count, char **words) {
    double begin = now();
    struct timespec nap = {0, 100000000};
    char line[80];
    (void)count;
    nanosleep(&nap, 0);
    int file = open("output.json", O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (write(file, "{\"loss\": 1}", 11) != 11) return 1;
    int times = open(words[1], O_CREAT | O_WRONLY | O_APPEND, 0644);
    int length = snprintf(line, sizeof line, "%.6f %.6f\n", begin, now());
    return write(times, line, length) == length ? 0 : 1;
}
"""
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


def busy(times, slots):
    """Share of the slots' time in evaluations, from the first start to the last, and removes the file of times."""
    with open(times) as file:
        spans = [tuple(map(float, line.split())) for line in file]
    os.remove(times)
    first, last = min(begin for begin, _ in spans), max(begin for begin, _ in spans)
    return round(sum(min(end, last) - begin for begin, end in spans) / (slots * (last - first)), 4)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("hpo"), parser.add_argument("directory")
    parser.add_argument("--points", type=int, default=2000), parser.add_argument("--long", type=int, default=100000)
    parser.add_argument("--peers")
    given = parser.parse_args()
    hpo = os.path.realpath(given.hpo)
    room = tempfile.mkdtemp(prefix="orchestration-", dir=os.path.abspath(given.directory))
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
        count, nap, times = 800, os.path.join(room, "nap"), os.path.join(room, "times")
        subprocess.run(["cc", "-O2", "-x", "c", "-o", nap, "-"], input=NAP.encode(), check=True)
        subprocess.run([raw, str(count), "16", nap, times], cwd=room, check=True)
        of_machine = busy(times, 16)
        subprocess.run(search(hpo, room, "nap-16", count, 16, f"{nap} {times}"), check=True, **quiet)
        say(what="busy", slots=16, evaluations=count, busy=busy(times, 16), raw=of_machine)
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
    script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "peers.py")
    # Those that start an interpreter for an evaluation, or a worker for a slot, are given less to do.
    shares = {"optuna": 1, "optuna-journal": 4, "hyperqueue": 1, "ray-tune": 20, "syne-tune": 50}
    for tool, share in shares.items():
        for slots in (2, 4, 16):
            count = max(given.points // share, 20)
            words = [given.peers, script, tool, str(slots), str(count), room, payload]
            try:
                found = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=300)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                say(what="peer", tool=tool, slots=slots, evaluations=count, left_out=str(error)[-200:])
                continue
            lines = [line for line in found.stdout.decode().splitlines() if line.startswith("{")]
            say(what="peer", tool=tool, slots=slots, evaluations=count, **json.loads(lines[-1]))


if __name__ == "__main__":
    sys.exit(main())
