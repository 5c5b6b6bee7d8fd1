#!/usr/bin/env bash
# flax 0.12.8: EarlyStopping whose first value is NaN ends a run that gets better.
#
# flax.training.early_stopping.EarlyStopping takes its first value as the best, whatever it
# is. Nothing is below NaN: of the losses nan, 5, 4, 3, 2, 1 each but the first is no
# improvement, has_improved is False, by which the best checkpoint is kept, and training is
# told to stop. An infinity in that place is replaced. A NaN later on counts as one value that
# is no better. A mean over no examples is such a first value.
#
# Command: findings/flax_early_stopping_nan.sh
# Prints, and fails if it changes: of each value whether it is an improvement, what is the best
# after it, and when EarlyStopping of patience 3 says stop.
#   nan 5 4 3 2 1: better at nan; best nan; stops at 2
#   inf 5 4 3 2 1: better at inf 5 4 3 2 1; best 1; does not stop
#   6 nan 4 3 2 1: better at 6 4 3 2 1; best 1; does not stop
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check flax==0.12.8 optax==0.2.8 \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml-dtypes==0.6.0
cat >"$folder/stopping.py" <<'PYTHON'
from flax.training import early_stopping

NAN, INF = float("nan"), float("inf")


def show(values):
    stopping = early_stopping.EarlyStopping(patience=3)
    better, stop = [], None
    for value in values:
        stopping = stopping.update(value)
        if stopping.has_improved:
            better.append(value)
        if stopping.should_stop and stop is None:
            stop = value
    text = lambda some: " ".join(f"{x:g}" for x in some)
    print(
        f"{text(values)}: better at {text(better)}; best {stopping.best_metric:g}; "
        + ("does not stop" if stop is None else f"stops at {stop:g}")
    )


show([NAN, 5, 4, 3, 2, 1])
show([INF, 5, 4, 3, 2, 1])
show([6, NAN, 4, 3, 2, 1])
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/stopping.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
nan 5 4 3 2 1: better at nan; best nan; stops at 2
inf 5 4 3 2 1: better at inf 5 4 3 2 1; best 1; does not stop
6 nan 4 3 2 1: better at 6 4 3 2 1; best 1; does not stop
EXPECTED
