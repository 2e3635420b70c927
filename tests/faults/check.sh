#!/usr/bin/env bash
# Faults that need privileges or a tracer: kills of the manager at system calls, a full disk, failing synchronisation, lack of memory.
#
#     tests/faults/check.sh HPO [STEP]      the directory of `hpo`; every STEP-th system call is tried (default 7; 1 tries all)
#
# Needs strace; the parts that need root say so and are left out without it. Ends with an error at the first violation.
set -euo pipefail
PATH=$(realpath "$1"):$PATH
step=${2:-7}
command -v strace >/dev/null || { echo "skipped: \`strace\` is not installed"; exit 0; }
room=$(mktemp -d)
mounted=
trap '[ -z "$mounted" ] || umount "$mounted"; rm -rf "$room"' EXIT
cd "$room"

cat >steer.sh <<'END'
known=$(grep -o '\[{"x":' "$3" | wc -l)
printf '[' >"$4"
i=0
while [ "$i" -lt "$1" ] && [ "$known" -lt "$2" ]; do
  known=$((known + 1))
  [ "$i" -gt 0 ] && printf ',' >>"$4"
  printf '{"x":%d}' "$known" >>"$4"
  i=$((i + 1))
done
printf ']' >>"$4"
END
echo 'echo "$HPO_POINT_ID $HPO_ATTEMPT" >>"$1"; echo "{\"loss\": $HPO_POINT_ID}" >output.json' >evaluate.sh

search() { # directory, further words before hpo
  local directory=$1
  shift
  { # The shell need not tell of every kill.
    "$@" hpo run --quiet --taskDir "$directory" --outDS faults --maxPoints 6 --nParallelEvaluation 2 --nPointsPerIteration 3 \
      --minUnevaluatedPoints 1 --steeringExec 'sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT' \
      --evaluationExec "sh evaluate.sh $room/$directory.ledger" >"$directory.out" 2>"$directory.err"
  } 2>/dev/null
}
whole() { # directory: all points have their loss, and no attempt ran twice
  hpo show "$1" --json >"$1.json"
  [ "$(grep -c '"status": "done"' "$1.json")" -ge 6 ] || { echo "$1: points are lost"; hpo show "$1"; return 1; }
  [ -z "$(sort "$1.ledger" | uniq -d)" ] || { echo "$1: an attempt ran twice:"; sort "$1.ledger" | uniq -d; return 1; }
}

calls="write fdatasync fsync rename openat mkdir unlink clone3 vfork clone"
search plain strace -o plain.trace
whole plain
count() { grep -c "^$1(" plain.trace || true; }

# The harness must notice what it is there for: without the directories of attempts, which hold claims, attempts are repeated.
planted=
for number in $(seq 1 "$(count write)"); do
  search planted strace -o /dev/null -e trace=write -e "inject=write:signal=KILL:when=$number" || true
  rm -rf planted/points/* 2>/dev/null || : # an attempt may be writing
  search planted || true
  whole planted >/dev/null 2>&1 || { planted=noticed; break; }
  # Its last processes may still be writing.
  until rm -rf planted planted.* 2>/dev/null; do :; done
done
[ -n "$planted" ] || { echo "a planted fault was not noticed"; exit 1; }
echo "a planted fault (claims that vanish) is noticed"

kills=0 offset=0
for call in $calls; do
  for number in $(seq $((offset % step + 1)) "$step" "$(count "$call")"); do
    search kill strace -o /dev/null -e "trace=$call" -e "inject=$call:signal=KILL:when=$number" || kills=$((kills + 1))
    search kill || { echo "kill at $call $number: the search does not go on"; cat kill.err; exit 1; }
    whole kill || { echo "kill at $call $number"; exit 1; }
    rm -rf kill kill.*
  done
  offset=$((offset + 1))
done
echo "kills of the manager at $kills system calls: nothing lost, nothing doubled"

# A runner, alone, killed at its system calls while it saves a checkpoint: what it did is taken in or repeated, never both.
cat >keep.sh <<'END'
echo "$HPO_POINT_ID $HPO_ATTEMPT" >>"$1"
# A checkpoint that is there is whole: the same line throughout.
if [ -e state ]; then
  [ "$(sort -u state | wc -l)" = 1 ] && [ "$(wc -l <state)" = 2000 ] || { echo broken >>"$1.broken"; exit 1; }
  [ "$(head -n 1 state)" = 2 ] && { echo '{"loss": 2}' >output.json; exit 0; }
fi
next=$(($(head -n 1 state 2>/dev/null || echo 0) + 1))
yes "$next" | head -n 2000 >state
exit 1
END
hpo run --quiet --taskDir keep --outDS faults --maxPoints 1 --nParallelEvaluation 1 --nPointsPerIteration 1 --minUnevaluatedPoints 0 \
  --maxAttempts 9 --checkPointToSave state --steeringExec 'sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT' \
  --evaluationExec "sh keep.sh $room/keep.ledger" >keep.out 2>keep.err
# As it was when the second attempt was to begin, with one generation of checkpoints.
intent=$(grep -n '"event":"intent","point":"1","attempt":2' keep/journal | head -n 1 | cut -d: -f1)
head -n "$intent" keep/journal >journal.cut && mv journal.cut keep/journal
rm -rf keep/points/1/attempt-3 keep/checkpoints/1/saved-2.*
find keep/points/1/attempt-2 -mindepth 1 -maxdepth 1 ! -name order.json -exec rm -rf {} +
cp -a keep begun
again() { rm -rf keep keep.ledger* && cp -a begun keep; }
again
strace -o alone.trace hpo runner "$room/keep/points/1/attempt-2"
kills=0 offset=0
for call in write fsync rename openat mkdir unlink link linkat clone3 vfork; do
  for number in $(seq $((offset % step + 1)) "$step" "$(grep -c "^$call(" alone.trace || true)"); do
    again
    { strace -o /dev/null -e "trace=$call" -e "inject=$call:signal=KILL:when=$number" \
      hpo runner "$room/keep/points/1/attempt-2" || kills=$((kills + 1)); } 2>/dev/null
    hpo run --quiet --taskDir keep >keep.out 2>keep.err || { echo "runner killed at $call $number"; cat keep.err; exit 1; }
    hpo show keep --json >keep.json
    grep -q '"status": "done"' keep.json || { echo "runner killed at $call $number: the point is lost"; cat keep.json; exit 1; }
    [ -z "$(sort keep.ledger | uniq -d)" ] || { echo "runner killed at $call $number: an attempt ran twice"; cat keep.ledger; exit 1; }
    [ ! -e keep.ledger.broken ] || { echo "runner killed at $call $number: a part of a checkpoint was loaded"; exit 1; }
  done
  offset=$((offset + 1))
done
echo "kills of a runner at $kills system calls, with a checkpoint to save: no attempt twice, no part of a checkpoint loaded"

# The journal cannot be synchronised: the manager stops, the next one goes on.
syncs=$(count fdatasync)
failed=0
for number in $(seq 1 "$syncs"); do
  code=0
  search sync strace -o sync.trace -e trace=fdatasync -e "inject=fdatasync:error=EIO:when=$number" || code=$?
  # How many results share a commit differs from run to run, so the last commits may not come.
  grep -q INJECTED sync.trace || { rm -rf sync sync.*; continue; }
  [ "$code" = 3 ] || { echo "failed synchronisation $number: exit code $code, expected 3"; cat sync.err; exit 1; }
  grep -q 'cannot be written' sync.err || { cat sync.err; exit 1; }
  search sync && whole sync || { echo "failed synchronisation $number"; exit 1; }
  failed=$((failed + 1))
  rm -rf sync sync.*
done
echo "failed synchronisation at $failed commits: the manager stops at once, the next one loses nothing"

# No room for the journal, then room again: the manager waits and goes on by itself.
search room strace -o /dev/null -P "$room/room/journal" -e trace=write -e inject=write:error=ENOSPC:when=4 || {
  echo "a full disk ends the search"
  cat room.err
  exit 1
}
grep -q 'no space left for the journal' room.err && whole room
echo "a journal without room: the search waits and goes on"

# Too few descriptors for all slots: fewer evaluations at a time, and all of them.
(ulimit -n 24 && hpo run --quiet --taskDir few --outDS faults --maxPoints 30 --nParallelEvaluation 30 --nPointsPerIteration 30 \
  --steeringExec 'sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT' \
  --evaluationExec "sh evaluate.sh $room/few.ledger" >few.out 2>few.err) || { echo "few descriptors end the search"; cat few.err; exit 1; }
whole few
echo "too few descriptors for all slots: the search takes longer"

[ "$(id -u)" = 0 ] || { echo "skipped without root: another user's task, lack of threads and memory, a disk filled by a payload"; exit 0; }
# Another user, who first may have no more processes than one.
as_nobody() { setpriv --reuid=nobody --clear-groups env HOME=/ "$@"; }
chmod 755 "$room"
mkdir -m 777 others
if as_nobody hpo --version >/dev/null 2>&1; then
  few() { # limit of processes
    (cd others && as_nobody prlimit --nproc="$1" hpo run --quiet --taskDir few --outDS faults --maxPoints 2 --nParallelEvaluation 2 \
      --nPointsPerIteration 2 --minUnevaluatedPoints 0 --steeringExec "sh $room/steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT" \
      --evaluationExec "sh $room/evaluate.sh $room/others/ledger") >few.out 2>few.err
  }
  code=0
  few 1 || code=$?
  [ "$code" = 3 ] && grep -q 'Resource temporarily unavailable' few.err || { echo "without threads: exit code $code"; cat few.err; exit 1; }
  few 500 || { echo "with threads again"; cat few.err; exit 1; }
  [ "$(sort -u others/ledger | wc -l)$(wc -l <others/ledger)" = 22 ] || { echo "without threads: lost or doubled"; cat others/ledger; exit 1; }
  echo "no thread to be had: the manager says so, the next one goes on"
  # A task of root that was left open to all: others may look at it, and not run it.
  chmod -R a+rwX plain
  code=0
  (cd others && as_nobody hpo run --taskDir ../plain) >foreign.out 2>foreign.err || code=$?
  [ "$code" = 3 ] && grep -q 'must belong to the user who runs it, found the owner 0' foreign.err ||
    { echo "a task of another user: exit code $code"; cat foreign.err; exit 1; }
  (cd others && as_nobody hpo show ../plain >/dev/null) || { echo "a task of another user cannot be looked at"; exit 1; }
  echo "a task of another user is shown, and not run"
else
  echo "skipped: another user cannot start \`hpo\` here"
fi
if mkdir small && mount -t tmpfs -o size=24m tmpfs small 2>/dev/null; then
  mounted=$room/small
  cat >fill.sh <<END
echo "\$HPO_POINT_ID \$HPO_ATTEMPT" >>$room/small/task.ledger
if [ "\$HPO_POINT_ID" = 2 ] && [ "\$HPO_ATTEMPT" = 1 ]; then
  head -c 100000000 /dev/zero >$room/small/filled || { (sleep 3; rm -f $room/small/filled) >/dev/null 2>&1 & exit 1; }
fi
echo '{"loss": 1}' >output.json
END
  (while [ ! -e small/filled ]; do sleep 0.2; done; sleep 3; rm -f small/filled) &
  hpo run --quiet --taskDir small/task --outDS faults --maxPoints 4 --nParallelEvaluation 2 --nPointsPerIteration 4 --maxAttempts 1 \
    --steeringExec "sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT" --evaluationExec "sh fill.sh" >fill.out 2>fill.err ||
    { cat fill.err; exit 1; }
  wait
  hpo show small/task --json >fill.json
  [ "$(grep -c '"status": "done"' fill.json)" -ge 4 ] || { echo "a full disk costs points"; cat fill.json; exit 1; }
  grep -q 'the disk is full' fill.json || { echo "the full disk is not told"; cat fill.json; exit 1; }
  umount small
  echo "a disk filled by a payload: its attempt is lost and repeated, the others go on"
  mount -t tmpfs -o size=24m,nr_inodes=400 tmpfs small
  cat >inodes.sh <<END
if [ "\$HPO_POINT_ID" = 2 ] && [ "\$HPO_ATTEMPT" = 1 ]; then
  mkdir $room/small/many && seq -f $room/small/many/%g 400 | xargs touch 2>/dev/null
  (sleep 2; rm -rf $room/small/many) >/dev/null 2>&1 &
  sleep 3
  exit 1
fi
echo '{"loss": 1}' >output.json
END
  hpo run --quiet --taskDir small/inodes --outDS faults --maxPoints 4 --nParallelEvaluation 2 --nPointsPerIteration 4 --maxAttempts 2 \
    --steeringExec "sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT" --evaluationExec "sh inodes.sh" >inodes.out 2>inodes.err ||
    { cat inodes.err; exit 1; }
  hpo show small/inodes --json >inodes.json
  [ "$(grep -c '"status": "done"' inodes.json)" -ge 4 ] || { echo "a lack of inodes costs points"; cat inodes.json; exit 1; }
  echo "all inodes taken by a payload: the search goes on"
  umount small
  mounted=
else
  echo "skipped: no tmpfs can be mounted here"
fi
# A group of version 2 where it has the memory controller, one of version 1 where that has it.
v2=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
if grep -qw memory "$v2/cgroup.controllers" 2>/dev/null; then
  echo +memory >"$v2/cgroup.subtree_control" 2>/dev/null || true
  group=$v2/hpo-faults-$$ limit=memory.max
else
  group=/sys/fs/cgroup/memory/hpo-faults-$$ limit=memory.limit_in_bytes
fi
if mkdir "$group" 2>/dev/null && echo 33554432 >"$group/$limit" 2>/dev/null; then
  cat >eat.sh <<END
if [ "\$HPO_POINT_ID" = 2 ]; then echo \$\$ >$group/cgroup.procs; exec tail -n 1 /dev/zero; fi
echo '{"loss": 1}' >output.json
END
  hpo run --quiet --taskDir memory --outDS faults --maxPoints 3 --nParallelEvaluation 3 --nPointsPerIteration 3 --maxAttempts 1 \
    --steeringExec "sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT" --evaluationExec "sh eat.sh" >memory.out 2>memory.err ||
    { cat memory.err; exit 1; }
  rmdir "$group"
  hpo show memory --point 2 | grep -q 'SIGKILL), which the kernel sends where memory runs out' || { hpo show memory --point 2; exit 1; }
  echo "a payload killed for lack of memory: it fails alone, with its reason"
else
  rmdir "$group" 2>/dev/null || true
  echo "skipped: no group with a limit of memory can be made here"
fi
