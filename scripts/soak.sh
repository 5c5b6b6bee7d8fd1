#!/usr/bin/env bash
# Kills, damages and tires small runs, and checks that nothing is lost in silence.
#
# Command: scripts/soak.sh [arguments of scripts/soak.py]
# Provides: the runs and their logs, in runs/soak or in the folder that SOAK_DIR names,
#   which is emptied first; one with files of anything else is refused.
# Cost: under half an hour on two cores.
set -euo pipefail
runs=$(realpath -m "${SOAK_DIR:-$(dirname "${BASH_SOURCE[0]}")/../runs/soak}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/environment.sh
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 # fewer page faults: shorter steps
exec .venv/bin/python scripts/soak.py "$runs" "$@"
