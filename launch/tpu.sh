#!/usr/bin/env bash
# Runs on a TPU VM that is there already, with all chips of its first host: v2-8, v3-8, v4-8, v5litepod-8 and the like; with --all_hosts, for
# --stage=adapt and --stage=embed, of all hosts of a slice, which must see the workdir under the same path. The checkout lies in ~/acx_jax there, with its
# .venv (README, "GPU", with jax[tpu]).
#
#   bash launch/tpu.sh [--dry_run] --name=my-tpu --zone=us-central2-b -- --config=configs/dota.py --workdir=runs/dota
#   bash launch/tpu.sh --all_hosts --name=my-slice --zone=us-central2-b -- --config=configs/dota.py --workdir=/shared/dota --stage=adapt
set -euo pipefail

dry_run=false name="" zone="" worker=0
while [[ $# -gt 0 && "$1" != "--" ]]; do
  case "$1" in
    --dry_run) dry_run=true ;;
    --all_hosts) worker=all ;;
    --name=*) name="${1#--name=}" ;;
    --zone=*) zone="${1#--zone=}" ;;
    *) echo "launch/tpu.sh: unknown option $1; expected --dry_run, --all_hosts, --name=TPU, --zone=ZONE, and -- before what acx_jax.main gets" >&2; exit 2 ;;
  esac
  shift
done
if [[ -z "$name" || -z "$zone" || $# -lt 2 ]]; then
  echo "launch/tpu.sh: --name=TPU, --zone=ZONE and, behind --, what acx_jax.main gets are needed" >&2
  exit 2
fi
if [[ "$worker" == all && ! " $* " =~ \ --stage=(adapt|embed)\  ]]; then
  echo "launch/tpu.sh: --all_hosts: behind -- expected --stage=adapt or --stage=embed, which several hosts run together" >&2
  exit 2
fi
shift
together=()
[[ "$worker" == 0 ]] || together=(--join=auto)

printf -v run '%q ' .venv/bin/python -m acx_jax.main "$@" "${together[@]}"
command=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" "--worker=$worker" "--command=cd acx_jax && exec $run")
printf '%q ' "${command[@]}"
echo
if [[ "$dry_run" == false ]]; then
  exec "${command[@]}"
fi
