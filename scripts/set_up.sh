#!/bin/sh
# The locked environment of a Python version in a folder: scripts/set_up.sh VENV [VERSION...]
#
# Takes the first of the versions (3.11, 3.12, 3.13) that this machine has: on PATH, of pyenv, of uv, which fetches one
# if there is none. PYTHON=/path/to/python decides otherwise; a folder that is there keeps its own.
set -eu

venv=$1
shift
[ $# -gt 0 ] || set -- 3.11 3.12 3.13

version_of() { # nothing if it does not run, as pyenv's shims of versions that are not active, or cannot make a venv
  "$1" -c 'import ensurepip, sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null || true
}

of_uv() {
  if command -v uv > /dev/null; then uv python "$@" 2> /dev/null || true; fi
}

find_python() {
  for version in "$@"; do
    for candidate in "python$version" python3 "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python \
      "$(of_uv find "$version")"; do
      if [ "$(version_of "$candidate")" = "$version" ]; then
        command -v "$candidate"
        return
      fi
    done
  done
  of_uv install "$1" >&2
  of_uv find "$1"
}

if [ -x "$venv/bin/python" ]; then
  python=$venv/bin/python
else
  python=${PYTHON:-$(find_python "$@")}
fi
version=$(version_of "${python:-none}")
case $version in
  3.11) lock=cpu-py311.lock what="every stage; some 400 packages, 7.6 GB, 6 to 9 minutes on 2 cores" ;;
  3.12 | 3.13) lock=cpu-py312.lock what="train, rank, evaluate; the LLM engine for CPUs needs 3.11" ;;
  *)
    echo "Python $* is needed, found ${python:-none}${version:+, which is $version}: make PYTHON=/path/to/python3.11" >&2
    exit 2
    ;;
esac
echo "Setting up $venv with Python $version ($python) and requirements/$lock: $what."
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "requirements/$lock"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
