#!/usr/bin/env bash
# Submits a run to SLURM: one machine, its GPUs. It is asked to stop two minutes before its time is over, saves, and is queued again
# until it is done: the workdir goes on where it was.
#
#   bash launch/slurm.sh [--dry_run] [--sbatch="--partition=gpu --gres=gpu:4 --time=12:00:00"] -- --config=configs/dota.py --workdir=runs/dota
#
# What stands behind -- goes to python -m acx_jax.main; --workdir is needed, for the run is to find its own work again.
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)"
dry_run=false
sbatch_options="--gres=gpu:1 --time=24:00:00"
while [[ $# -gt 0 && "$1" != "--" ]]; do
  case "$1" in
    --dry_run) dry_run=true ;;
    --sbatch=*) sbatch_options="${1#--sbatch=}" ;;
    *) echo "launch/slurm.sh: unknown option $1; expected --dry_run or --sbatch=\"...\", and -- before what acx_jax.main gets" >&2; exit 2 ;;
  esac
  shift
done
if [[ $# -eq 0 || ! " $* " =~ " --workdir" ]]; then
  echo "launch/slurm.sh: give the run behind --, with its --workdir: -- --config=configs/dota.py --workdir=runs/dota" >&2
  exit 2
fi
shift

# exec, so that the signal reaches Python; 143 is a run that saved after SIGTERM, which the script then queues again.
printf -v run '%q ' "$root/.venv/bin/python" -m acx_jax.main "$@"
script="cd $(printf '%q' "$root") && { srun $run; status=\$?; [ \$status -ne 143 ] || scontrol requeue \$SLURM_JOB_ID; exit \$status; }"
read -r -a chosen <<<"$sbatch_options"
command=(sbatch --job-name=acx_jax --nodes=1 --ntasks=1 --requeue --open-mode=append --signal=TERM@120 "${chosen[@]}" --wrap "$script")
printf '%q ' "${command[@]}"
echo
if [[ "$dry_run" == false ]]; then
  exec "${command[@]}"
fi
