#!/usr/bin/env bash
# Installs what is needed into .venv and runs the demo into runs/demo. Arguments go to acx_jax.main, such as
# --config.episodes.shot=1. PYTHON=/path/to/python chooses the Python that .venv is made with.
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)"
# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
prepare_environment "$root"

cd -- "$root"
echo "[demo] running configs/demo.py into runs/demo: about 4 minutes on 2 CPU cores; if interrupted, it goes on where it was"
"$venv_python" -m acx_jax.main --config=configs/demo.py --workdir=runs/demo "$@"
report="$root/runs/demo/report/index.html"
if [[ -f "$report" ]]; then
  echo "[demo] done, $SECONDS s after the start. The report is a page to open in a browser:"
  echo "  $report"
fi
