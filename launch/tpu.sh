#!/usr/bin/env bash
# Runs on a TPU VM that is there already, with all chips of its one host: v2-8, v3-8, v4-8, v5litepod-8 and the like. Slices of several
# hosts are not supported. The checkout lies in ~/acx_jax there, with its .venv (README, "GPU", with jax[tpu]).
#
#   bash launch/tpu.sh [--dry_run] --name=my-tpu --zone=us-central2-b -- --config=configs/dota.py --workdir=runs/dota
set -euo pipefail

dry_run=false name="" zone=""
while [[ $# -gt 0 && "$1" != "--" ]]; do
  case "$1" in
    --dry_run) dry_run=true ;;
    --name=*) name="${1#--name=}" ;;
    --zone=*) zone="${1#--zone=}" ;;
    *) echo "launch/tpu.sh: unknown option $1; expected --dry_run, --name=TPU, --zone=ZONE, and -- before what acx_jax.main gets" >&2; exit 2 ;;
  esac
  shift
done
if [[ -z "$name" || -z "$zone" || $# -lt 2 ]]; then
  echo "launch/tpu.sh: --name=TPU, --zone=ZONE and, behind --, what acx_jax.main gets are needed" >&2
  exit 2
fi
shift

printf -v run '%q ' .venv/bin/python -m acx_jax.main "$@"
command=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" --worker=0 "--command=cd acx_jax && exec $run")
printf '%q ' "${command[@]}"
echo
if [[ "$dry_run" == false ]]; then
  exec "${command[@]}"
fi
