# Sourced by the launch scripts. `prepare_environment ROOT [FILE...]` makes ROOT/.venv hold requirements.txt (with
# requirements-cuda.txt where an NVIDIA GPU answers) and the further requirement FILEs, and sets `venv_python`.
# `planned_environment ROOT` prints the commands of that, which skip what is there, runs none of them, and sets `venv_python`.
# shellcheck shell=bash

prepare_environment() {
  local root="$1" file
  shift
  venv_python="$root/.venv/bin/python"
  _wait_for_other_launches "$root"
  _make_venv "$root"
  for file in "$(_device_requirements)" "$@"; do
    _install "$root" "$file"
  done
  rm -f "$root/.venv/unfinished"
  exec 9<&- # the lock is for installing, not for the run
}

planned_environment() {
  local root="$1" python
  venv_python="$root/.venv/bin/python"
  python="$(_find_python)"
  printf '%q ' "$python" -m venv "$root/.venv"; echo
  printf '%q ' "$venv_python" -m pip install -qq --disable-pip-version-check --no-compile -r "$root/$(_device_requirements)"; echo
}

_say() { printf '[environment] %s\n' "$*"; }

_fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  (($# == 0)) || printf '       %s\n' "$@" >&2
  exit 1
}

_wait_for_other_launches() {
  exec 9<"$1/requirements.txt"
  command -v flock >/dev/null || return 0
  flock --nonblock 9 && return
  _say "another launch is installing here: waiting for it"
  flock 9
}

# Two files of .venv say how far it is: `unfinished` stands while it is made or installed into, so that what an
# interrupted run left behind is thrown away; FILE.installed holds the checksum of what was installed.
_make_venv() {
  local venv="$1/.venv" python
  if [[ ! -e "$venv/unfinished" ]] && _is_new_enough "$venv/bin/python"; then
    return
  fi
  [[ ! -e "$venv" ]] || _say "the .venv here is half made or broken: starting it over"
  python="$(_find_python)"
  _say "making .venv with $("$python" --version) ($python)"
  rm -rf "$venv"
  mkdir "$venv"
  : >"$venv/unfinished"
  "$python" -m venv "$venv" || _fail "$python -m venv failed; its message stands above."
}

_install() {
  local root="$1" file="$2" stamp="$1/.venv/$2.installed" checksum
  checksum="$(_checksum "$root")"
  if [[ -f "$stamp" && "$(<"$stamp")" == "$checksum" ]]; then
    return
  fi
  _say "installing $file into .venv (1 to 3 minutes the first time, silent unless something is wrong)"
  : >"$root/.venv/unfinished"
  # --no-compile: Python compiles what it imports; compiling all of it here takes as long as installing it.
  "$venv_python" -m pip install -qq --disable-pip-version-check --no-compile -r "$root/$file" ||
    _fail "pip could not install $file; its message stands above." "Once that is mended, run the same command again."
  printf '%s\n' "$checksum" >"$stamp"
  _say "$file is installed, $SECONDS s after the start"
}

_checksum() {
  "$venv_python" -c '
import hashlib, pathlib, sys
files = sorted(pathlib.Path(sys.argv[1]).glob("requirements*.txt"))
print(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest(), sys.version.split()[0])' "$1"
}

_device_requirements() {
  case "$(nvidia-smi --list-gpus 2>/dev/null || true)" in
    "GPU "*) echo requirements-cuda.txt ;;
    *) echo requirements.txt ;;
  esac
}

_is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

_can_make_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Prints a Python that is new enough and can make virtual environments.
_find_python() {
  local candidates=(python3.13 python3.12 python3.11 python3) candidate without_venv=""
  [[ -z "${PYTHON:-}" ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    _is_new_enough "$candidate" || continue
    if _can_make_venv "$candidate"; then
      command -v "$candidate"
      return
    fi
    without_venv="$candidate"
  done
  [[ -z "$without_venv" ]] || _fail "$without_venv cannot make virtual environments: its venv or ensurepip module is missing." \
    "Debian and Ubuntu have it in the package python3-venv, which an administrator can install." \
    "Or name another Python >= 3.11, such as conda's: PYTHON=/path/to/python bash launch/demo.sh"
  _fail "no Python >= 3.11 found (tried ${candidates[*]})." \
    "Name one like this: PYTHON=/path/to/python bash launch/demo.sh"
}
