#!/usr/bin/env bash
# Sets the checkout up: .ci/bootstrap.sh run|dev
#   a Python 3.11 or later, the system packages that MuJoCo's renderer needs, and a virtual environment in .venv.
# Does nothing when .venv already holds what pyproject.toml and constraints.txt say. PYTHON=... chooses the interpreter.
# pip's own configuration (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, pip.conf) decides where packages come from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

what=${1:-}
case "$what" in
  run) extras=pipelines,data,train,serve,simulation ;;
  dev) extras=dev ;;
  *) echo "usage: .ci/bootstrap.sh run|dev" >&2; exit 2 ;;
esac
started=$SECONDS
say() { echo "set-up: $*"; }
fail() { echo "set-up: $*" >&2; exit 2; }

find_python() {
  local candidate
  # Wheels of everything exist for 3.11 and 3.12; on later versions gym-aloha is installed without dm_control (below).
  for candidate in ${PYTHON:-python3.11 python3.12 python3 python3.13 python3.14}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or later was found (tried ${PYTHON:-python3.11, python3.12, python3, python3.13, python3.14}):" \
    "install one, for example with 'apt-get install python3.11 python3.11-venv', or name one with PYTHON=/path/to/python."
}

has_library() { { PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true; } | grep -q "$1"; }
has_driver() {
  has_library libEGL_nvidia.so && return
  compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null || compgen -G '/usr/lib*/libgallium*.so' >/dev/null ||
    compgen -G '/usr/lib/*/libgallium*.so' >/dev/null || compgen -G '/usr/lib*/dri/swrast_dri.so' >/dev/null
}

# One that the tests of the review page can drive (tests/components/annotate/review/browser.py has the same names).
has_browser() {
  local name
  for name in chromium chromium-browser google-chrome-stable google-chrome; do
    command -v "$name" >/dev/null && return
  done
  return 1
}

# The system packages that are missing, on one line. Only Linux renders through EGL.
missing_packages() {
  local missing=()
  command -v git >/dev/null || missing+=(git)
  "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=("$(basename "$1")-venv")
  if [ "$(uname -s)" = Linux ]; then
    has_library libEGL.so.1 || missing+=(libegl1)
    has_library libOpenGL.so.0 || has_library libGL.so.1 || missing+=(libopengl0)
    has_driver || missing+=(libgl1-mesa-dri)
  fi
  echo "${missing[*]:-}"
}

install_system_packages() {
  local packages=$1 as_root=()
  local line="apt-get install -y --no-install-recommends $packages"
  command -v apt-get >/dev/null ||
    fail "these are missing (named as Debian does): $packages. Install them with this system's package manager, then run again."
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo -n env)
    else
      fail "system packages are missing and this user may not install them. Run: sudo $line"
    fi
  fi
  say "installing system packages: $packages"
  # shellcheck disable=SC2086  # a list of words
  { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $line; } >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; fail "could not install them; the whole output is in $log. By hand: $line"; }
}

# Where an installation stands: the last package that pip looked at, or how many of all are in place.
where_it_stands() {
  local line
  line=$(grep -E '^ *(Collecting|Downloading|Processing|Preparing|Installing) ' "$log" | tail -n 1) || true
  case "$line" in
    "Installing collected"*)
      # pip itself and what it updates lie there from the start, so the count may pass the list's by one or two
      local all present
      all=$(tr ',' '\n' <<<"$line" | wc -l)
      present=$(find .venv/lib -maxdepth 3 -name '*.dist-info' | wc -l)
      echo "$((present < all ? present : all)) of $all packages are in place" ;;
    *) sed 's/^ *//; s/ (from.*//' <<<"$line" | cut -c 1-80 ;;
  esac
}

# Runs a command with its output in the log, and says every 15 s where it stands.
quietly() {
  local label=$1 begun=$SECONDS
  shift
  "$@" >"$log" 2>&1 &
  local child=$!
  trap 'kill "$child" 2>/dev/null || true; exit 130' INT TERM
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    (((SECONDS - begun) % 15)) || say "$label, $((SECONDS - begun)) s: $(where_it_stands)"
  done
  trap - INT TERM
  wait "$child" || { grep -v WARNING "$log" | tail -n 20 >&2; fail "$label failed; the whole output is in $log."; }
}

mkdir -p .venv
log=$PWD/.venv/set-up.log
if command -v flock >/dev/null; then
  exec 9>.venv/.lock
  flock 9 # two makes at once would install over each other
fi

wanted=$(cat pyproject.toml constraints.txt .ci/bootstrap.sh | sha256sum | cut -d ' ' -f 1)
installed() { [ -x .venv/bin/python ] && [ "$(cat ".venv/.set-up-$1" 2>/dev/null)" = "$wanted" ]; }
if installed dev || installed "$what"; then
  exit 0
fi

python=$(find_python)
packages=$(missing_packages "$python")
[ -z "$packages" ] || install_system_packages "$packages"
if [ "$what" = dev ] && ! has_browser; then
  (install_system_packages chromium) || say "going on without a browser: the tests of the review page are skipped"
fi

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  say "creating .venv with $("$python" --version)"
  rm -rf .venv/bin .venv/lib .venv/lib64 .venv/include .venv/pyvenv.cfg .venv/.set-up-* # not the lock and the log
  "$python" -m venv .venv
fi
if [ ! -e /dev/nvidiactl ] && ! .venv/bin/pip config list 2>/dev/null | grep -qE 'index-url|find-links' &&
  ! .venv/bin/python -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
  say "no GPU here, and PyPI's torch brings CUDA (several GB)." \
    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu before make takes the CPU build."
fi
say "installing the Python packages ($extras); some minutes the first time"
quietly "installing" .venv/bin/python -m pip install --progress-bar off -c constraints.txt -e ".[$extras]"
if .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then
  quietly "installing the scenes" .venv/bin/python -m pip install -c constraints.txt --no-deps gym-aloha
else
  quietly "checking" .venv/bin/python -m pip check
fi
echo "$wanted" >".venv/.set-up-$what"
say "ready after $((SECONDS - started)) s"
