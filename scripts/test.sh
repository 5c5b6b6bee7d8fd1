#!/usr/bin/env bash
# Checks style and types, and runs the tests; with arguments, those tests alone.
#
# Command: scripts/test.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/environment.sh --dev
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 # fewer page faults: a fifth of the time
python=.venv/bin/python

if (($#)); then
    exec $python -m pytest "$@" # in one process, which starts sooner
fi
echo "== ruff check"
$python -m ruff check --quiet
echo "== ruff format"
$python -m ruff format --check --quiet
echo "== mypy"
$python -m mypy gbt_t5x tasks scripts embedded/t5x
echo "== pytest"
$python -m pytest --numprocesses 2 --dist worksteal --durations=15
