#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: JsonSave may write what a dictionary has become after save returned.
#
# CheckpointManager.save returns before the files are written. Arrays are copied first, those
# of NumPy too, so that training may go on in place. A dictionary that args.JsonSave was given
# is read by the thread that writes: of a position in the data, or a count of tokens, that the
# loop keeps in one dictionary and updates, a checkpoint of step 1 may have the value of step
# 2, beside the weights of step 1. Nothing says so; the resumed run skips a batch. How often
# depends on the moment, as a rule in some of the saves. A copy of the dictionary
# (copy.deepcopy), or enable_async_checkpointing=False, has the value of step 1.
#
# Command: findings/orbax_json_saved_later.sh
# Prints, and fails if it changes: what 60 checkpoints of step 1 hold.
#   dictionary: positions some of step 2, weights all of step 1
#   copy of it: positions all of step 1, weights all of step 1
#   not asynchronous: positions all of step 1, weights all of step 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check orbax-checkpoint==0.12.8 \
    jax==0.10.2 jaxlib==0.10.2 tensorstore==0.1.86 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/saved.py" <<'PYTHON'
import copy
import sys

import numpy as np
import orbax.checkpoint as ocp

SAVES = 60


def saved(folder, given=lambda position: position, is_async=True):
    """What checkpoints of step 1 have, of a loop that updates both in place."""
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=is_async)
    positions, weights = [], []
    for number in range(SAVES):
        with ocp.CheckpointManager(f"{folder}/{number}", options=options) as manager:
            position, array = {"step": 1}, np.ones(4)
            args = ocp.args.Composite(
                weights=ocp.args.StandardSave({"w": array}),
                position=ocp.args.JsonSave(given(position)),
            )
            manager.save(1, args=args)
            position["step"] = 2
            array[:] = 2
            manager.wait_until_finished()
            args = ocp.args.Composite(
                weights=ocp.args.StandardRestore(), position=ocp.args.JsonRestore()
            )
            found = manager.restore(1, args=args)
        positions.append(found.position["step"])
        weights.append(float(found.weights["w"][0]))
    return positions, weights


def text(values):
    return "some of step 2" if 2 in values else "all of step 1"


for name, kwargs in {
    "dictionary": {},
    "copy of it": {"given": copy.deepcopy},
    "not asynchronous": {"is_async": False},
}.items():
    positions, weights = saved(f"{sys.argv[1]}/{name.replace(' ', '_')}", **kwargs)
    print(f"{name}: positions {text(positions)}, weights {text(weights)}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/saved.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
dictionary: positions some of step 2, weights all of step 1
copy of it: positions all of step 1, weights all of step 1
not asynchronous: positions all of step 1, weights all of step 1
EXPECTED
