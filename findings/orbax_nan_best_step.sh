#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: one checkpoint with a metric of NaN has the best one deleted.
#
# CheckpointManagerOptions has best_fn, so that max_to_keep "will be kept based on their
# quality", and best_mode "min" or "max". The steps are sorted by the metric as it is, and
# nothing is less or more than NaN: steps before a NaN are not compared with those after it.
# Of accuracies 0.1, 0.9, NaN, 0.3 two are kept, NaN and 0.3, and best_step() is that of 0.3;
# the checkpoint of 0.9 is gone, with no error. Of losses that end in NaN, as when training
# diverges, the diverged state is best_step(), and of max_to_keep=1 the only one. With NaN
# taken for infinity by best_fn the best step stays.
#
# Command: findings/orbax_nan_best_step.sh
# Prints, and fails if it changes:
#   accuracy [0.1, 0.9, 0.5, 0.3], keeps 2: [0.9, 0.5], best 0.9
#   accuracy [0.1, 0.9, nan, 0.3], keeps 2: [nan, 0.3], best 0.3
#   accuracy [0.1, 0.9, nan, 0.3, 0.2], keeps 2: [0.3, 0.2], best 0.3
#   loss [3.0, 1.0, 2.0, nan], keeps 1: [nan], best nan
#   loss, NaN as infinity, [3.0, 1.0, 2.0, nan], keeps 1: [1.0], best 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check orbax-checkpoint==0.12.8 \
    jax==0.10.2 jaxlib==0.10.2 tensorstore==0.1.86 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/best.py" <<'PYTHON'
import math
import sys
import tempfile

import numpy as np
import orbax.checkpoint as ocp

nan = math.nan


def train(what, values, keep, mode, metric):
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, best_fn=metric, best_mode=mode
    )
    folder = tempfile.mkdtemp(dir=sys.argv[1])
    with ocp.CheckpointManager(folder, options=options) as manager:
        for step, value in enumerate(values):
            state = ocp.args.StandardSave({"w": np.zeros(2)})
            manager.save(step, args=state, metrics={"value": value})
            manager.wait_until_finished()
        kept = [values[step] for step in manager.all_steps()]
        best = values[manager.best_step()]
    print(f"{what} {values}, keeps {keep}: {kept}, best {best}")


def plain(metrics):
    return metrics["value"]


def guarded(metrics):
    return math.inf if math.isnan(metrics["value"]) else metrics["value"]


train("accuracy", [0.1, 0.9, 0.5, 0.3], 2, "max", plain)
train("accuracy", [0.1, 0.9, nan, 0.3], 2, "max", plain)
train("accuracy", [0.1, 0.9, nan, 0.3, 0.2], 2, "max", plain)
train("loss", [3.0, 1.0, 2.0, nan], 1, "min", plain)
train("loss, NaN as infinity,", [3.0, 1.0, 2.0, nan], 1, "min", guarded)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/best.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
accuracy [0.1, 0.9, 0.5, 0.3], keeps 2: [0.9, 0.5], best 0.9
accuracy [0.1, 0.9, nan, 0.3], keeps 2: [nan, 0.3], best 0.3
accuracy [0.1, 0.9, nan, 0.3, 0.2], keeps 2: [0.3, 0.2], best 0.3
loss [3.0, 1.0, 2.0, nan], keeps 1: [nan], best nan
loss, NaN as infinity, [3.0, 1.0, 2.0, nan], keeps 1: [1.0], best 1.0
EXPECTED
