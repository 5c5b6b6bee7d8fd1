#!/usr/bin/env bash
# Trains a small model from several seeds with each source of the guidance gradient, and
# compares development losses and learned schedules.
#
# Command: scripts/compare_sources.sh CORPUS [--gin.NAME=VALUE ...]
#   CORPUS is quickstart, or offline_translation, which needs --gin.DIRECTION.
# Provides: model folders SOURCE/SEED, and `report.png`, in runs/sources/CORPUS or in the
#   folder that SOURCES_DIR names. A run that is done is not repeated.
# Cost: two minutes a run of 1,000 steps of the quickstart, 27 runs.
set -euo pipefail
corpus=${1:?quickstart or offline_translation}
overrides=("${@:2}")
here=$(dirname "${BASH_SOURCE[0]}")
runs=$(realpath -m "${SOURCES_DIR:-$here/../runs/sources}/$corpus")
cd "$here/.."

scripts/environment.sh
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 # fewer page faults: shorter steps
python=.venv/bin/python

setting() { # NAME FILE: its value in gin/FILE, or in the command line, which comes last
    { cat "gin/$2"; printf '%s\n' "${overrides[@]#--gin.}"; } |
        awk -F' *= *' -v name="$1" '$1 == name { value = $2 } END { print value }'
}

# Source, and how it differs from the paper's, which holds out a batch for every step. At
# every fourth step λ moves a quarter as often, so it has a run at four times the η̂ too.
batch_size=$(setting BATCH_SIZE "${corpus}_baseline.gin")
every_4=(--gin.GUIDANCE_BATCH_SIZE=$((batch_size / 4)) --gin.GUIDANCE_PERIOD=4)
rate=$(setting META_LEARNING_RATE "${corpus}_guided.gin")
rate_4=(--gin.META_LEARNING_RATE="$(awk "BEGIN {print 4 * $rate}")")
next=(--gin_file=gin/guidance/next_batch.gin)
train() { # SOURCE SEED [--gin_file=FILE] [--gin.NAME=VALUE]
    local model_dir=$runs/$1/$2 method=guided
    [[ $1 == baseline ]] && method=baseline
    [[ -e $model_dir/done ]] && return
    echo "== $1, seed $2 -> $model_dir"
    rm -rf "$model_dir"
    $python -m t5x.train --gin_file="gin/${corpus}_$method.gin" "${overrides[@]}" \
        "${@:3}" --gin.RANDOM_SEED="$2" --gin.MODEL_DIR="\"$model_dir\""
    touch "$model_dir/done"
}
for seed in 0 1 2; do
    train baseline "$seed"
    train heldout "$seed"
    train next_batch "$seed" "${next[@]}"
    train next_batch_float32 "$seed" "${next[@]}" --gin.SENSITIVITY_DTYPE='"float32"'
    train heldout_quarter_every_4 "$seed" "${every_4[@]}"
    train heldout_quarter_every_4_rate_4 "$seed" "${every_4[@]}" "${rate_4[@]}"
    train heldout_cycle_of_4 "$seed" --gin.GUIDANCE_BATCHES=4
    train heldout_discount "$seed" --gin.DISCOUNT=0.9
    train next_batch_discount "$seed" "${next[@]}" --gin.DISCOUNT=0.9
done

echo "== report: $runs/report.png"
$python -m gbt_t5x.studies.compare "$runs"/*/ --figure "$runs/report.png"
