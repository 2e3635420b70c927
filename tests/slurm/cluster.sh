#!/usr/bin/env bash
# A private Slurm of several nodes on this machine, as root, without systemd, cgroups or a database.
#
#     cluster.sh up DIR [NODES] [CPUS] [GPUS]     then: export SLURM_CONF=DIR/slurm.conf
#     cluster.sh down DIR
#
# GPUs are character devices that only count: twins of /dev/null.
set -euo pipefail
what=$1
dir=$(mkdir -p "$2" && cd "$2" && pwd)
export SLURM_CONF=$dir/slurm.conf

if [ "$what" = down ]; then
  # Jobs first, so that nobody is left to watch over them.
  timeout 10 scancel --user="$(id -u)" 2>/dev/null || true
  timeout 10 scancel --user="$(id -u)" --full --signal=KILL 2>/dev/null || true
  for _ in $(seq 100); do
    [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break
    sleep 0.1
  done
  pids=()
  for file in "$dir"/run/slurmd.*.pid "$dir"/run/slurmctld.pid "$dir"/run/munged.pid; do
    [ -s "$file" ] && pids+=("$(cat "$file")")
  done
  # Without an init that reaps them, dead daemons stay as zombies.
  live() { for pid in "${pids[@]}"; do [[ $(ps -o stat= -p "$pid") =~ ^[^Z] ]] && echo "$pid"; done || true; }
  kill $(live) 2>/dev/null || true
  for _ in $(seq 100); do
    [ -z "$(live)" ] && break
    sleep 0.1
  done
  left=$(live)
  [ -z "$left" ] || kill -9 $left
  exit 0
fi

nodes=${3:-2} cpus=${4:-4} gpus=${5:-2} port=${SLURM_BASE_PORT:-18000} host=$(hostname -s)
mkdir -p "$dir"/{state,log,spool,run,dev}
chmod 755 "$dir"
[ -s "$dir/munge.key" ] || dd if=/dev/urandom of="$dir/munge.key" bs=1024 count=1 status=none
chmod 400 "$dir/munge.key"
munged --force --key-file="$dir/munge.key" --socket="$dir/run/munge.sock" --pid-file="$dir/run/munged.pid" \
  --log-file="$dir/log/munged.log" --seed-file="$dir/run/munged.seed"
gres=
: >"$dir/gres.conf"
if [ "$gpus" -gt 0 ]; then
  for gpu in $(seq 0 $((gpus - 1))); do
    [ -e "$dir/dev/gpu$gpu" ] || mknod "$dir/dev/gpu$gpu" c 1 3
  done
  gres=Gres=gpu:$gpus
  echo "NodeName=n[1-$nodes] Name=gpu File=$dir/dev/gpu[0-$((gpus - 1))]" >"$dir/gres.conf"
fi
cat >"$dir/slurm.conf" <<END
ClusterName=check
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is started once more waits for the old credential to expire, by default two minutes.
AuthInfo=socket=$dir/run/munge.sock,cred_expire=5
CredType=cred/munge
SlurmctldPort=$port
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=2,bf_continue
GresTypes=gpu
MinJobAge=300
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=5
SlurmctldTimeout=10
MessageTimeout=10
KillWait=2
DefMemPerCPU=50
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=$cpus RealMemory=4000 $gres State=UNKNOWN
PartitionName=main Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=0
PartitionName=high Nodes=n[1-$nodes] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
END
slurmctld -f "$SLURM_CONF"
for node in $(seq "$nodes"); do slurmd -f "$SLURM_CONF" -N "n$node"; done
for _ in $(seq 600); do
  # Nodes that never answered count as idle elsewhere.
  [ "$(sinfo -h -N -p main -o %T 2>/dev/null | grep -c '^idle$')" = "$nodes" ] && exit 0
  sleep 0.1
done
echo "the private Slurm does not come up:" >&2
tail -n 5 "$dir"/log/*.log >&2
exit 1
