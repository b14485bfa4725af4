#!/usr/bin/env bash
# Submits a run to SLURM: one machine and its GPUs, or, for --stage=adapt and --stage=embed, one process a GPU on several machines. It is asked to
# stop two minutes before its time is over, saves, and is queued again until it is done: the workdir goes on where it was.
#
#   bash launch/slurm.sh [--dry_run] [--sbatch="--partition=gpu --gres=gpu:4 --cpus-per-task=16"] -- --config=configs/dota.py --workdir=runs/dota
#   bash launch/slurm.sh --processes=8 --sbatch="--nodes=2 --ntasks-per-node=4 --gres=gpu:4" -- --config=configs/dota.py --workdir=runs/dota --stage=adapt
#
# --gres and not --gpus-per-task: each process takes the GPU of its number on the machine, and has to see all of them.
# What stands behind -- goes to python -m acx_jax.main; --workdir is needed, for the run is to find its own work again.
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)"
dry_run=false
processes=1
sbatch_options="--gres=gpu:1 --cpus-per-task=8 --time=24:00:00"
while [[ $# -gt 0 && "$1" != "--" ]]; do
  case "$1" in
    --dry_run) dry_run=true ;;
    --sbatch=*) sbatch_options="${1#--sbatch=}" ;;
    --processes=*) processes="${1#--processes=}" ;;
    *) echo "launch/slurm.sh: unknown option $1; expected --dry_run, --processes=N or --sbatch=\"...\", and -- before what acx_jax.main gets" >&2; exit 2 ;;
  esac
  shift
done
if [[ $# -eq 0 || ! " $* " =~ " --workdir" ]]; then
  echo "launch/slurm.sh: give the run behind --, with its --workdir: -- --config=configs/dota.py --workdir=runs/dota" >&2
  exit 2
fi
if [[ ! "$processes" =~ ^[1-9][0-9]*$ ]] || [[ "$processes" != 1 && ! " $* " =~ \ --stage=(adapt|embed)\  ]]; then
  echo "launch/slurm.sh: --processes=$processes: expected a number of processes, one a GPU, and behind -- --stage=adapt or --stage=embed, which they run together" >&2
  exit 2
fi
shift
together=()
[[ "$processes" == 1 ]] || together=(--join=auto)

# One word for any shell of POSIX, which is what runs a --wrap: bash's own %q may write $'...'.
quoted() { printf "'%s' " "${1//\'/\'\\\'\'}"; }

# 143 is a run that saved after SIGTERM, which the script then queues again. srun takes the cores of the job for its tasks only where it is told.
run="srun \${SLURM_CPUS_PER_TASK:+--cpus-per-task=\$SLURM_CPUS_PER_TASK} $(for word in "$root/.venv/bin/python" -m acx_jax.main "$@" "${together[@]}"; do quoted "$word"; done)"
script="cd $(quoted "$root")&& { $run; status=\$?; [ \$status -ne 143 ] || scontrol requeue \$SLURM_JOB_ID; exit \$status; }"
read -r -a chosen <<<"$sbatch_options"
command=(sbatch --job-name=acx_jax --nodes=1 "--ntasks=$processes" --requeue --open-mode=append --signal=TERM@120 "${chosen[@]}" --wrap "$script")
printf '%q ' "${command[@]}"
echo
if [[ "$dry_run" == false ]]; then
  exec "${command[@]}"
fi
