#!/usr/bin/env bash
# Evaluations as jobs of a real Slurm: a private one of four nodes with two simulated GPUs each, which this starts and ends.
#
#     tests/slurm/check.sh HPO      the directory of `hpo` and `steering`
#
# Searches under ASHA are run without Slurm, and with it as arrays, as pilots and inside an allocation. Meanwhile `sbatch` accepts
# jobs and says that it did not, or does not accept them; a job is started once more, one is cancelled, a runner and a node
# die, the managers are killed and started again. The outcome has to be the same, and no attempt may run twice. In segmented
# searches, where the order of ends decides who is asked when, every proposal has to follow from what was known.
#
# Installs slurm-wlm and munge where this runs as root on Debian; elsewhere, where something is missing, it says so and ends
# without having checked anything.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$(realpath "$1"):$PATH
for program in slurmctld slurmd sbatch munged; do
  if ! command -v "$program" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
  fi
  command -v "$program" >/dev/null || { echo "skipped: \`$program\` is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "skipped: a private Slurm of several nodes needs root"; exit 0; }

room=$(mktemp -d)
cd "$room"
export SLURM_CONF=$room/cluster/slurm.conf
end() {
  for task in arrays pilots many_arrays many_pilots limited thousand; do kill_manager "$task" 2>/dev/null || true; done
  "$here/cluster.sh" down "$room/cluster" >/dev/null 2>&1
  cd /
  rm -rf "$room"
}
trap end EXIT
trap 'exit 143' TERM INT
kill_manager() { kill -9 "$(grep -o '"pid":[0-9]*' "$1/lock" | cut -d: -f2)"; }
timeout 90 "$here/cluster.sh" up "$room/cluster" 4 8 2

fail() { echo "FAILED: $*"; timeout 10 squeue -o "%i %j %T %r %N"; tail -n 30 ./*.log; exit 1; }
until_true() { # seconds, command
  local left=$((10 * $1))
  shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || fail "waited in vain for: $*"
    sleep 0.1
  done
}
space='{"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}'
echo "$space" >space.json
echo '[{"name": "a", "files": ["space.json"]}, {"name": "b", "files": ["space.json"]}]' >segments.json
search() { # directory, attempts that wait, further options
  local directory=$1 waiting=$2
  shift 2
  # A run of steering only when all is evaluated: then the order of ends decides nothing.
  hpo run --taskDir "$directory" --outDS check -q --searchSpaceFile space.json --scheduler asha --maxEpochs 4 \
    --schedule eta=2 --maxPoints 14 --nPointsPerIteration 7 --minUnevaluatedPoints 0 --nParallelEvaluation 7 --seed 1 \
    --evaluationExec "python3 $here/evaluate.py $room/$directory.ledger $waiting" "$@"
}
on_slurm=(--backend slurm --slurmPoll 1s --slurmMemory 50M)
outcome() { hpo show "$1" --json | python3 -c '
import json, sys
for point in json.load(sys.stdin)["points"]:
    print(point["id"], point["status"], point["point"], point.get("loss"))'; }
same() { # directory
  outcome "$1" >"$1.outcome"
  diff local.outcome "$1.outcome" || fail "the outcome of $1 is another"
  once "$1"
}
once() { # directory
  [ -z "$(cut -d' ' -f1,2 "$1.ledger" | sort | uniq -d)" ] || fail "attempts of $1 ran twice: $(sort "$1.ledger")"
}
job_of() { awk -v point="$2" '$1 == point && $2 == 1 {print $4}' "$1.ledger"; }
node_of() { awk -v point="$2" '$1 == point && $2 == 1 {print $5}' "$1.ledger"; }
runs() { [ -n "$(job_of "$1" "$2" 2>/dev/null)" ]; }

search local none >local.log 2>&1 || fail "the search without Slurm"
outcome local >local.outcome
[ "$(wc -l <local.outcome)" = 14 ] || fail "14 points, found $(cat local.outcome)"

# sbatch accepts the first batch and says that it did not; the second it does not accept.
mkdir bin
cat >bin/sbatch <<END
#!/bin/sh
case " \$* " in *" --test-only "* | *" --version "*) exec $(command -v sbatch) "\$@" ;; esac
echo >>"\$COUNT"
case \$(wc -l <"\$COUNT") in
1) $(command -v sbatch) "\$@" >/dev/null && echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2 && exit 1 ;;
2) echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)" >&2 && exit 1 ;;
esac
exec $(command -v sbatch) "\$@"
END
chmod +x bin/sbatch

disturbed() { # directory, attempts that wait, further options
  local directory=$1
  COUNT=$room/$directory.count PATH=$room/bin:$PATH search "$@" "${on_slurm[@]}" >>"$directory.log" 2>&1
}
arrays() { disturbed arrays "2 3 5 6" --gpusPerEvaluation 1 --sbatchOption=--requeue; }
pilots() { disturbed pilots "3 6" --slurmPilots 2 --evaluationsPerGpu 2 --evaluationsPerJob 4 --cpusPerEvaluation 1; }
many_arrays() { disturbed many_arrays none --segmentSpecFile segments.json --evaluationsPerJob 3; }
many_pilots() { disturbed many_pilots none --segmentSpecFile segments.json --slurmPilots 3 --evaluationsPerJob 2; }

# Longer than its job may be: it is asked to end before the time limit, and goes on from what it has saved.
limited() {
  hpo run --taskDir limited -q --searchSpaceFile space.json --maxPoints 1 "${on_slurm[@]}" --slurmTime 2m \
    --maxLostAttempts 1 --maxAttempts 1 --evaluationExec 'while test "$(cat $HPO_CHECKPOINT_DIR/steps 2>/dev/null | wc -c)" -lt 400; do
      printf x >>$HPO_CHECKPOINT_DIR/steps; sleep 0.1; done; echo "{\"loss\": $SLURM_ARRAY_JOB_ID}" >output.json' >limited.log 2>&1
}

begin=$SECONDS
limited &
limited=$!
many_arrays &
segmented=$!
many_pilots &
segmented="$segmented $!"
arrays &
managers=$!
pilots &
managers="$managers $!"
for point in 2 3 5 6; do until_true 60 runs arrays $point; done
scontrol requeue "$(job_of arrays 2)"
scancel "$(job_of arrays 5)"
for point in 3 6; do until_true 60 runs pilots $point; done
# A runner alone is killed; its pilot speaks for it.
kill -9 "$(grep -o '"pid":[0-9]*' pilots/points/3/attempt-1/claim | cut -d: -f2)"
until_true 30 test -e pilots/points/3/attempt-1/result.json
scancel "$(job_of pilots 6)"
for task in arrays pilots; do kill_manager $task; done
for manager in $managers; do wait "$manager" || true; done
arrays &
managers=$!
pilots &
managers="$managers $!"
# The node dies, what runs on it does not.
node=$(node_of arrays 3)
kill -9 "$(cat "cluster/run/slurmd.$node.pid")"
scancel "$(job_of arrays 6)"
for manager in $managers $segmented $limited; do wait "$manager" || fail "a search ended with $?"; done
slurmd -f "$SLURM_CONF" -N "$node"
same arrays
same pilots
for task in many_arrays many_pilots; do
  once $task
  [ "$(outcome $task | grep -c ' done ')" = 28 ] || fail "28 points of $task, found $(outcome $task)"
  steering verify $task >verify.log 2>&1 || fail "the proposals of $task"
done
# A job that this Slurm starts once more may find no GPU in its environment.
[ "$(awk '$6 != "-" {print $6}' arrays.ledger | sort -u | tr '\n' ' ')" = "0 1 " ] || fail "GPUs of arrays: $(cat arrays.ledger)"
left=$(awk '$3 {print $3}' ./*.ledger | xargs -I{} sh -c 'kill -0 {} 2>/dev/null && echo {}' || true)
[ -z "$left" ] || fail "evaluations are left: $left"
until_true 30 sh -c '[ -z "$(squeue -h)" ]'
reasons() { python3 -c '
import glob, json, sys
lines = [json.loads(line.split(" ", 4)[4]) for line in open(sys.argv[1] + "/journal").readlines()[1:]]
print(sorted(event["end"]["reason"] for event in lines if event["event"] == "attempt_ended" and event["end"]["how"] == "lost"))' "$1"; }
grep -q '"how":"stopped"' limited/journal || fail "nothing was interrupted: $(hpo show limited)"
for task in arrays pilots; do
  echo "$task: $(reasons $task)"
  ! grep -q '"how":"failed"' $task/journal || fail "a disturbance counts as a failure of the evaluation: $(grep '"how":"failed"' $task/journal)"
done
echo "arrays and pilots come to the same outcome through every disturbance, in $((SECONDS - begin)) s"

# One line, no sleeps, no ports: the manager inside its own job, on two nodes.
sbatch -Q --wait --nodes=2 --ntasks=4 --cpus-per-task=1 --mem=400M --output=allocation.log --wrap "$(declare -f search)
here=$here room=$room; search allocation none --backend allocation" || fail "the search in an allocation"
same allocation
[ "$(awk '{print $5}' allocation.ledger | sort -u | wc -l)" = 2 ] || fail "one node only: $(cat allocation.ledger)"
echo "inside an allocation, both nodes are used"

# A thousand evaluations, two in a job, are one submission.
mkdir count
cat >count/sbatch <<END
#!/bin/sh
case " \$* " in *" --test-only "* | *" --version "*) ;; *) echo "\$*" >>$room/submissions ;; esac
exec $(command -v sbatch) "\$@"
END
chmod +x count/sbatch
begin=$SECONDS
PATH=$room/count:$PATH hpo run --taskDir thousand -q --searchSpaceFile space.json --sampler random --maxPoints 1000 \
  --nPointsPerIteration 1000 --minUnevaluatedPoints 0 --nParallelEvaluation 1000 --evaluationsPerJob 2 "${on_slurm[@]}" \
  --evaluationExec "echo \$HPO_POINT_ID \$HPO_ATTEMPT >>$room/thousand.ledger; echo '{\"loss\": 1}' >output.json" >thousand.log 2>&1 ||
  fail "a search of a thousand points"
once thousand
[ "$(outcome thousand | grep -c ' done ')" = 1000 ] || fail "1000 points, found $(outcome thousand | grep -c ' done ')"
[ "$(wc -l <submissions)" = 1 ] && grep -q -e '--array=0-499' submissions || fail "one submission, found $(cut -c 1-200 submissions)"
echo "a thousand evaluations are one submission, and take $((SECONDS - begin)) s"

# What Slurm refuses is said in its words, before anything is begun.
code=0
search refused none "${on_slurm[@]}" --slurmPartition nowhere >refused.log 2>&1 || code=$?
[ "$code" = 2 ] && grep -q "invalid partition specified: nowhere" refused.log || fail "the refusal: $(cat refused.log)"
[ ! -e refused ] || fail "a refused task was begun"
echo "a refusal is quoted"
