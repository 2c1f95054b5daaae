#!/bin/sh
# Make .venv ready: torch, kilter with all extras, and the dependency groups named as arguments.
#
#   sh scripts/setup.sh all test        what `make demo` and `make test` need
#   sh scripts/setup.sh dev docs        on top of it, what `make lint types docs` need
#
# PYTHON               the interpreter to use; otherwise the newest of python3.14 … python3.11, python3
# KILTER_TORCH_INDEX   the package index torch comes from; empty means the one pip is configured with
#
# Safe to interrupt and to run again: a stamp is written last, and keyed on this file and pyproject.toml.
set -eu
cd "$(dirname "$0")/.."

torch="torch==2.13.0"
cpu_index="https://download.pytorch.org/whl/cpu"
stamp=".venv/.ready-$(echo "$@" | tr ' ' '-')"
key=$(cat pyproject.toml scripts/setup.sh | cksum)
say() { printf 'kilter setup: %s\n' "$*"; }

if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && .venv/bin/python -c "" 2>/dev/null; then exit 0; fi

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    say "no Python 3.11 or newer found${PYTHON:+ at PYTHON=$PYTHON}." >&2
    say "Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2
    exit 1
}

# Answers within five seconds or not at all; a name server that hangs counts as no.
cpu_index_answers() {
    .venv/bin/python - "$cpu_index/torch/" <<'PY'
import os, sys, threading, urllib.request

def ask():
    try:
        urllib.request.urlopen(sys.argv[1], timeout=4).read(1)
    except OSError:
        os._exit(1)
    os._exit(0)

threading.Thread(target=ask, daemon=True).start()
threading.Event().wait(5)
os._exit(1)
PY
}

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

# Before anything else may ask for it: what plain `torch` resolves to on Linux brings gigabytes of CUDA.
install_torch() {
    if .venv/bin/python -c "import torch" 2>/dev/null; then return; fi
    if [ -n "${KILTER_TORCH_INDEX+set}" ]; then
        index=$KILTER_TORCH_INDEX
        reason="KILTER_TORCH_INDEX"
    elif cpu_index_answers; then
        index=$cpu_index
        reason="PyTorch's own CPU index answers"
    else
        index=""
        reason="PyTorch's own CPU index does not answer"
        heavy=yes
    fi
    say "$torch from ${index:-the index pip is configured with} ($reason)"
    if [ -n "${heavy-}" ] && [ "$(uname)" = Linux ]; then
        say "On Linux that may be the build with CUDA, several gigabytes. Without a GPU, stop here and name an index"
        say "that has CPU builds: KILTER_TORCH_INDEX=<index> make setup, or try again when $cpu_index answers."
    fi
    if [ -n "$index" ]; then
        pip install "$torch" --index-url "$index"
    else
        pip install "$torch"
    fi
}

if ! { new_enough .venv/bin/python && pip --version >/dev/null 2>&1; }; then
    python=$(find_python)
    say "creating .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
fi
pip install --quiet --upgrade "pip>=25.1" # the first that knows dependency groups
install_torch
for group in "$@"; do
    say "installing $group"
    if [ "$group" = all ]; then
        pip install --editable ".[all]"
    else
        pip install --group "$group"
    fi
done
echo "$key" >"$stamp"
say "ready"
