#!/usr/bin/env bash
# Pre-trains two small T5s, with and without guidance, fine-tunes both on three tasks, and
# prints their scores.
#
# Command: scripts/finetune_demo.sh [--gin.NAME=VALUE ...], of all fine-tunings
# Provides: model folders `pretrained/baseline` and `pretrained/guided`, a folder
#   `finetuned/baseline/TASK/REPEAT` a fine-tuning, and `report.png` of the pre-training, in
#   runs/finetune_demo or in the folder that FINETUNE_DEMO_DIR names. REPEATS sets how
#   often each task is fine-tuned, with other seeds; 1 unless set.
set -euo pipefail
runs=$(realpath -m "${FINETUNE_DEMO_DIR:-$(dirname "${BASH_SOURCE[0]}")/../runs/finetune_demo}")
if [[ ! ${REPEATS:=1} =~ ^[1-9][0-9]*$ ]]; then
    echo "finetune_demo.sh: REPEATS is $REPEATS, which is no number of 1 or more" >&2
    exit 2
fi
. "$(dirname "${BASH_SOURCE[0]}")/demo.sh"
pretraining=1000 # steps
finetuning=500

for run in baseline guided; do
    echo "== $run: gin/quickstart_$run.gin -> $runs/pretrained/$run (replaced)"
    train "$runs/pretrained/$run" --gin_file="gin/quickstart_$run.gin" \
        --gin.TRAIN_STEPS=$pretraining
done

for task in offline_kind offline_module offline_questions; do
    for run in baseline guided; do
        for ((repeat = 0; repeat < REPEATS; repeat++)); do
            folder="$runs/finetuned/$run/$task/$repeat"
            echo "== $task after $run: gin/quickstart_finetune_baseline.gin -> $folder"
            train "$folder" --gin_file=gin/quickstart_finetune_baseline.gin \
                --gin.TRAIN_STEPS=$((pretraining + finetuning)) --gin.RANDOM_SEED="$repeat" \
                --gin.INITIAL_CHECKPOINT_PATH="\"$runs/pretrained/$run/checkpoint_$pretraining\"" \
                --gin.MIXTURE_OR_TASK_NAME="\"$task\"" "$@"
        done
    done
done

for folder in "$runs"/finetuned/*/*/*; do # what another start left
    repeat=$(basename "$folder")
    if [[ ! $repeat =~ ^[0-9]+$ ]] || ((repeat >= REPEATS)); then rm -rf "${folder:?}"; fi
done

echo "== pre-training: $runs/report.png"
$python -m gbt_t5x.studies.compare "$runs/pretrained/baseline" \
    "$runs/pretrained/guided" --figure "$runs/report.png"
echo "== scores after fine-tuning"
$python -m gbt_t5x.studies.scores "$runs/finetuned/baseline" "$runs/finetuned/guided" --table 7
