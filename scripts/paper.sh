#!/usr/bin/env bash
# Repeats the paper's experiments with small models, and makes a page of its claims.
#
# Command: scripts/paper.sh [--quick] [options of python -m gbt_t5x.studies.paper]
#   --quick: one seed, few steps: half an hour on two cores. The whole takes a day.
# Provides: runs/paper or, with --quick, runs/paper_quick: the runs, results/*.csv, and
#   paper.html. The vocabularies are in $GBT_T5X_DATA_DIR, data/ unless set; those of other
#   corpora than templates are trained before, as docs/translation.md says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/environment.sh
python=.venv/bin/python
export GBT_T5X_DATA_DIR="${GBT_T5X_DATA_DIR:-data}"
if [[ " $* " == *" --help "* ]]; then
    exec $python -m gbt_t5x.studies.paper --help
fi
pairs=(de fi lt)
[[ " $* " == *" --quick "* ]] && pairs=(de fi)
for pair in "${pairs[@]}"; do
    vocabulary="$GBT_T5X_DATA_DIR/offline_translation/$pair-en.model"
    if [[ ! -e $vocabulary ]]; then
        echo "== vocabulary -> $vocabulary"
        $python scripts/train_vocabulary.py --task="offline_${pair}_en" --sample=20000
    fi
done

$python -m gbt_t5x.studies.paper --jobs 2 "$@"
