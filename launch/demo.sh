#!/usr/bin/env bash
# Installs what is needed into .venv and runs the demo into runs/demo. Settings go to acx_jax.main.
#
#   bash launch/demo.sh [--dry_run] [--stage=NAME] [--config.episodes.shot=1 ...]
#
# PYTHON=/path/to/python chooses the Python that .venv is made with.
set -euo pipefail

dry_run=false
run=(-m acx_jax.main --config=configs/demo.py --workdir=runs/demo)
for argument in "$@"; do
  case "$argument" in
    --dry_run) dry_run=true ;;
    --config.?*=* | --stage=?*) run+=("$argument") ;;
    *) echo "launch/demo.sh: unknown option $argument; expected --dry_run, --stage=NAME or --config.KEY=VALUE" >&2; exit 2 ;;
  esac
done
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)"
# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
if [[ "$dry_run" == true ]]; then
  planned_environment "$root"
  printf '%q ' cd -- "$root"; echo
  printf '%q ' "$venv_python" "${run[@]}"; echo
  exit
fi
prepare_environment "$root"

cd -- "$root"
echo "[demo] running configs/demo.py into runs/demo: about 4 minutes on 2 CPU cores; if interrupted, it goes on where it was"
"$venv_python" "${run[@]}"
report="$root/runs/demo/report/index.html"
if [[ -f "$report" ]]; then
  echo "[demo] done, $SECONDS s after the start. The report is a page to open in a browser:"
  echo "  $report"
fi
