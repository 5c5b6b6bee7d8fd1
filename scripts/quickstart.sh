#!/usr/bin/env bash
# Trains the same small T5 three times, with T5's settings, with the paper's guidance and by
# the recipe, and compares the runs.
#
# Command: scripts/quickstart.sh [--gin.NAME=VALUE ...], of all trainings
# Provides: model folders `baseline`, `guided` and `recipe`, and `report.png`, in
#   runs/quickstart or in the folder that QUICKSTART_DIR names.
set -euo pipefail
runs=$(realpath -m "${QUICKSTART_DIR:-$(dirname "${BASH_SOURCE[0]}")/../runs/quickstart}")
. "$(dirname "${BASH_SOURCE[0]}")/demo.sh"

for run in baseline guided recipe; do
    echo "== $run: gin/quickstart_$run.gin -> $runs/$run (replaced)"
    train "$runs/$run" --gin_file="gin/quickstart_$run.gin" "$@"
done

echo "== report: $runs/report.png"
$python -m gbt_t5x.studies.compare "$runs/baseline" "$runs/guided" "$runs/recipe" \
    --figure "$runs/report.png"
