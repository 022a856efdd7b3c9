#!/usr/bin/env bash
# slurm-cluster.sh - a real, throw-away, single-machine SLURM cluster.
#
#   slurm-cluster.sh start          start (idempotent) and wait until it takes jobs
#   slurm-cluster.sh stop           cancel jobs, stop every daemon by its own pid
#   slurm-cluster.sh status         daemons, nodes, queue
#   slurm-cluster.sh env            print 'export ...' lines  (eval "$(... env)")
#   slurm-cluster.sh kill-node N    SIGKILL the slurmd of node N and its job steps
#   slurm-cluster.sh start-node N   start that slurmd again (and resume the node)
#   slurm-cluster.sh destroy        stop, then delete the directory
#
# Everything (config, key, sockets, spool, logs, pids) lives in $SLURMLAB_DIR; nothing
# under /etc, /var or /run is read or written.  Root only.  There is no accounting: squeue
# works, sacct does not.  Debian 12 packages (install with --no-install-recommends):
#   munge slurmctld slurmd slurm-client
set -euo pipefail

DIR=${SLURMLAB_DIR:-/tmp/slurm-test-cluster}
NODES=${SLURMLAB_NODES:-2}               # slurmd processes on this machine
CPUS=${SLURMLAB_CPUS:-4}                 # CPUs each node claims (may exceed the real ones)
MEM=${SLURMLAB_MEM:-4000}                # MB each node claims (may exceed the real ones)
PORT=${SLURMLAB_PORT:-17000}             # base: +1 slurmctld, +10+i slurmd
NODE_TIMEOUT=${SLURMLAB_NODE_TIMEOUT:-10} # s without a slurmd answer until NODE_FAIL
HOST=$(hostname -s)

export PATH=/usr/sbin:/sbin:$PATH
export SLURM_CONF=$DIR/etc/slurm.conf
SOCK=$DIR/run/munge.sock

say()  { printf '[slurm-cluster] %s\n' "$*" >&2; }
die()  { say "error: $*"; exit 1; }

OWN=()
if unshare --mount true 2>/dev/null; then
  OWN=(unshare --mount sh -c 'mount -t tmpfs none "$0" && exec "$@"' "$DIR/unseen")
fi

# --- process bookkeeping: a pid file each, checked against a tag in its environment
alive() {  # alive NAME
  local f=$DIR/run/$1.pid pid
  [[ -s $f ]] || return 1
  pid=$(<"$f")
  [[ -r /proc/$pid/environ ]] &&
    { tr '\0' '\n' <"/proc/$pid/environ" | grep -qxF "SLURMLAB_TAG=$DIR:$1"; } 2>/dev/null
}
spawn() {  # spawn NAME CMD...   detached, own session, pid recorded
  local name=$1; shift
  alive "$name" && return 0
  SLURMLAB_TAG=$DIR:$name setsid --fork bash -c 'echo $$ >"$1"; shift; exec "$@"' _ \
    "$DIR/run/$name.pid" "$@" >>"$DIR/log/$name.out" 2>&1 </dev/null
}
reap() {   # reap NAME [SIGNAL]   signal one pid, wait, KILL after 15 s
  local name=$1 sig=${2:-TERM} pid i
  if alive "$name"; then
    pid=$(<"$DIR/run/$name.pid")
    kill -"$sig" "$pid" 2>/dev/null || true
    for ((i = 0; i < 150; i++)); do alive "$name" || break; sleep 0.1; done
    if alive "$name"; then say "$name ignored SIG$sig, killing"; kill -KILL "$pid" || true; sleep 0.2; fi
  fi
  rm -f "$DIR/run/$name.pid"
}
wait_for() { # wait_for SECONDS WHAT CMD...   (each try should itself be bounded)
  local what=$2 limit=$1 end=$((SECONDS + $1)); shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { tail -n 5 "$DIR"/log/* >&2 || true
                           die "$what not ready after ${limit}s (logs in $DIR/log)"; }
    sleep 0.1
  done
}

# --- files ---------------------------------------------------------------------
write_files() {
  umask 022
  mkdir -p "$DIR"/{bin,etc,run,log,state,spool,unseen}
  chmod 755 "$DIR" "$DIR"/{etc,run,log,state,spool,unseen}
  if [[ ! -s $DIR/etc/munge.key ]]; then
    (umask 077; head -c 1024 /dev/urandom >"$DIR/etc/munge.key")
  fi
  # snakemake's slurm-jobstep drops every SLURM_* variable, SLURM_CONF among them,
  # before it calls srun inside a job; this wrapper (first in PATH) puts it back
  printf '#!/bin/sh\nSLURM_CONF=%s exec /usr/bin/srun "$@"\n' "$SLURM_CONF" >"$DIR/bin/srun"
  chmod 755 "$DIR/bin/srun"
  local i
  {
    cat <<CONF
ClusterName=lab
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$((PORT + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$SOCK
CredType=cred/munge
SlurmctldPidFile=$DIR/run/slurmctld.own.pid
SlurmdPidFile=$DIR/run/slurmd-%n.own.pid
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
# no cgroups, no systemd, no MPI: nothing beyond plain processes
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
# a job that is seen to use more memory than it asked for is killed
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
PropagateResourceLimits=NONE
# CPUs and memory are counted (so jobs queue), and may exceed the machine's own
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=100
# short tempers, for tests
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
MinJobAge=${SLURMLAB_MINJOBAGE:-300}
MaxJobCount=50000
MaxArraySize=10001
KillWait=5
CompleteWait=0
SlurmdTimeout=$NODE_TIMEOUT
SlurmctldTimeout=30
InactiveLimit=0
ReturnToService=2
JobRequeue=0
CONF
    for ((i = 1; i <= NODES; i++)); do
      echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + 10 + i)) CPUs=$CPUS RealMemory=$MEM State=UNKNOWN"
    done
    echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
    # too short for any job of the workflow
    echo "PartitionName=short Nodes=ALL Default=NO MaxTime=5 State=UP"
  } >"$DIR/etc/slurm.conf"
  # read only by cgroup plugins, none of which is configured
  echo "CgroupAutomount=no" >"$DIR/etc/cgroup.conf"
}

# --- daemons -------------------------------------------------------------------
munge_ok()     { munge -S "$SOCK" -n | unmunge -S "$SOCK"; }
nodes_ok()     { [[ $(timeout 5 sinfo -h -N -p main -t idle,alloc,mixed,comp -o %N 2>/dev/null | sort -u | wc -l) == "$NODES" ]]; }

start_munged() {
  alive munged && munge_ok >/dev/null 2>&1 && return 0
  rm -f "$SOCK" "$SOCK.lock"
  spawn munged munged --foreground --force --key-file="$DIR/etc/munge.key" \
    --socket="$SOCK" --pid-file="$DIR/run/munged.own.pid" \
    --log-file="$DIR/log/munged.log" --seed-file="$DIR/run/munge.seed" --num-threads=4
  wait_for 10 munged munge_ok
}
start_node() { # start_node n1
  mkdir -p "$DIR/spool/$1"
  # nodes have an empty directory of their own in the place of $DIR/unseen, if the machine lets them
  spawn "slurmd-$1" "${OWN[@]}" slurmd -D -N "$1" -f "$SLURM_CONF"
}
start() {
  [[ $(id -u) == 0 ]] || die "must be root"
  local need=(munged munge slurmctld slurmd sbatch scontrol) c i
  for c in "${need[@]}"; do command -v "$c" >/dev/null || die "$c not installed"; done
  write_files
  start_munged
  spawn slurmctld slurmctld -D -f "$SLURM_CONF"
  wait_for 30 slurmctld timeout 5 scontrol ping
  for ((i = 1; i <= NODES; i++)); do start_node "n$i"; done
  wait_for 30 nodes nodes_ok
  wait_for 20 "a test job" timeout 10 srun -n1 --mem=10 -t1 true
  say "up: $(sinfo -h -o '%P %D nodes %T, %c cpus each' | head -1) - eval \"\$($0 env)\""
}
stop() {
  [[ -d $DIR/run ]] || return 0
  local f n
  if alive slurmctld; then
    timeout 10 scancel -u root >/dev/null 2>&1 || true
    for ((n = 0; n < 50; n++)); do
      [[ -z $(timeout 5 squeue -h -t R,CG -o %i 2>/dev/null) ]] && break; sleep 0.1; done
  fi
  for f in "$DIR"/run/slurmd-*.pid; do
    [[ -e $f && $f != *.own.pid ]] || continue
    n=${f##*/}; n=${n%.pid}; kill_steps "${n#slurmd-}"; reap "$n"
  done
  for n in slurmctld munged; do reap "$n"; done
}
# the slurmstepd of one node: setproctitle overwrites their environment, but each
# keeps its slurmd's log file (which is in $DIR) open
steps_of() { # steps_of n1
  local d f
  for d in /proc/[0-9]*; do
    [[ $(readlink "$d/exe" 2>/dev/null) == */slurmstepd* ]] || continue
    for f in "$d"/fd/*; do
      [[ $(readlink "$f" 2>/dev/null) == "$DIR/log/slurmd-$1.log" ]] && { echo "${d##*/}"; break; }
    done
  done
  return 0
}
descendants() { local c; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do echo "$c"; descendants "$c"; done; }
kill_steps() { # kill_steps n1: the step daemons and all they started
  local s all=()
  for s in $(steps_of "$1"); do all+=("$s" $(descendants "$s")); done
  ((${#all[@]})) && kill -KILL "${all[@]}" 2>/dev/null
  return 0
}
kill_node() { reap "slurmd-$1" KILL; kill_steps "$1"; }
status() {
  local f n
  for f in "$DIR"/run/*.pid; do
    [[ -e $f && $f != *.own.pid ]] || continue
    n=${f##*/}; n=${n%.pid}
    alive "$n" && say "$n running, pid $(<"$f")" || say "$n dead"
  done
  sinfo -N -l; squeue
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
  status) status ;;
  env) echo "export SLURM_CONF=$SLURM_CONF PATH=$DIR/bin:\$PATH" ;;
  kill-node) kill_node "$2" ;;
  start-node) start_node "$2"; scontrol update nodename="$2" state=resume 2>/dev/null || true ;;
  destroy) stop; rm -rf "$DIR" ;;
  *) sed -n '2,/^set -/p' "$0" | sed '$d'; exit 2 ;;
esac
