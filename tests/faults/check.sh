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

[ "$(id -u)" = 0 ] || { echo "skipped without root: a disk filled by a payload, lack of memory"; exit 0; }
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
