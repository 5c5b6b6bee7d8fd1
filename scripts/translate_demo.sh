#!/usr/bin/env bash
# Trains two small translators, with LAMB and with guided LAMB, and compares them.
#
# Command: scripts/translate_demo.sh [--gin.NAME=VALUE ...], of both trainings
# Provides: vocabulary, model folders `baseline` and `guided` with their evaluations on
#   the test split, and `report.png`, in runs/translate_demo or in the folder that
#   TRANSLATE_DEMO_DIR names. DIRECTION chooses the direction, de_en unless set.
set -euo pipefail
runs=$(realpath -m "${TRANSLATE_DEMO_DIR:-$(dirname "${BASH_SOURCE[0]}")/../runs/translate_demo}")
. "$(dirname "${BASH_SOURCE[0]}")/demo.sh"
export GBT_T5X_DATA_DIR="$runs/data"
direction=${DIRECTION:-de_en}
files=gin/offline_translation

echo "== vocabulary of offline_$direction -> $GBT_T5X_DATA_DIR"
$python scripts/train_vocabulary.py --task="offline_$direction" --overwrite

for run in baseline guided; do
    echo "== $run: ${files}_$run.gin -> $runs/$run (replaced)"
    train "$runs/$run" --gin_file="${files}_$run.gin" "$@" \
        --gin.DIRECTION="\"$direction\""
    checkpoint=$(find "$runs/$run" -maxdepth 1 -name "checkpoint_*" | sort -V | tail -n 1)
    echo "== $run: test split, ${files}_eval.gin -> $runs/$run/test"
    $python -m t5x.eval --gin_file="${files}_eval.gin" \
        --gin.DIRECTION="\"$direction\"" --gin.CHECKPOINT_PATH="\"$checkpoint\"" \
        --gin.EVAL_OUTPUT_DIR="\"$runs/$run/test\""
done

echo "== report: $runs/report.png"
$python -m gbt_t5x.studies.compare "$runs/baseline" "$runs/guided" \
    --figure "$runs/report.png"
echo "== translations of the test split"
$python scripts/translations.py --baseline "$runs/baseline/test" \
    --guided "$runs/guided/test"
