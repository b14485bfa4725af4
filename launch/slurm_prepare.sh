#!/usr/bin/env bash
# Submits the reading of a data set's videos to SLURM: N jobs that read a part of them each, and one that puts the parts together.
#
#   bash launch/slurm_prepare.sh [--dry_run] [--shards=16] [--sbatch="--cpus-per-task=16 --time=12:00:00"] -- --config=configs/dota.py --workdir=runs/dota
#
# What stands behind -- goes to python -m acx_jax.main, with --stage=prepare. The workdir lies where all machines see it. A job that ends early is
# submitted again by the same command: what has been read is kept.
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)"
dry_run=false
shards=16
sbatch_options="--cpus-per-task=8 --time=24:00:00"
while [[ $# -gt 0 && "$1" != "--" ]]; do
  case "$1" in
    --dry_run) dry_run=true ;;
    --shards=*) shards="${1#--shards=}" ;;
    --sbatch=*) sbatch_options="${1#--sbatch=}" ;;
    *) echo "launch/slurm_prepare.sh: unknown option $1; expected --dry_run, --shards=N or --sbatch=\"...\", and -- before what acx_jax.main gets" >&2; exit 2 ;;
  esac
  shift
done
if [[ ! "$shards" =~ ^[1-9][0-9]*$ ]]; then
  echo "launch/slurm_prepare.sh: --shards=$shards: expected a number from 1" >&2
  exit 2
fi
if [[ $# -eq 0 || ! " $* " =~ " --workdir" ]]; then
  echo "launch/slurm_prepare.sh: give the run behind --, with its --workdir: -- --config=configs/dota.py --workdir=runs/dota" >&2
  exit 2
fi
shift

# One word for any shell of POSIX, which is what runs a --wrap: bash's own %q may write $'...'.
quoted() { printf "'%s' " "${1//\'/\'\\\'\'}"; }

# srun takes the cores of the job for its task only where it is told.
run="cd $(quoted "$root")&& exec srun \${SLURM_CPUS_PER_TASK:+--cpus-per-task=\$SLURM_CPUS_PER_TASK} $(
  for word in "$root/.venv/bin/python" -m acx_jax.main "$@" --stage=prepare; do quoted "$word"; done)"
read -r -a chosen <<<"$sbatch_options"
common=(sbatch --parsable --nodes=1 --ntasks=1 "${chosen[@]}")
reading=("${common[@]}" --job-name=acx_prepare --array="0-$((shards - 1))" --wrap "$run--shard=\$SLURM_ARRAY_TASK_ID/$shards")
merging=("${common[@]}" --job-name=acx_merge --kill-on-invalid-dep=yes --wrap "$run")
printf '%q ' "${reading[@]}"; echo
printf '%q ' "${merging[@]::${#merging[@]}-2}" --dependency=afterok:JOB "${merging[@]: -2}"; echo
if [[ "$dry_run" == false ]]; then
  job="$("${reading[@]}")"
  exec "${merging[@]::${#merging[@]}-2}" --dependency="afterok:${job%%;*}" "${merging[@]: -2}"
fi
