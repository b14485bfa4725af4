#!/usr/bin/env bash
# Installs what the tests need into .venv and runs them. Arguments go to pytest, such as -k report or -m slow.
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)"
# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
prepare_environment "$root" requirements-test.txt

cd -- "$root"
exec "$venv_python" -m pytest "$@"
