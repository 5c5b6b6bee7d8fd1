#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: after a rollback no step up to the newest old one is saved.
#
# Of a run with checkpoints up to step 50, step 30 is restored and trained on. Then
# CheckpointManager.save returns False for every step up to 50 and writes nothing, with no
# error, not even the "ValueError: if the checkpoint already exists" at 40; the first
# checkpoint is that of 60. What stops before starts again from latest_step(), 50, with the
# weights of the run that was given up. should_save "depends the previous step and
# SaveDecisionPolicy", and the options say that save_decision_policy "is the sole means of
# determining when a checkpoint should be saved"; a policy, or a should_save_fn, that always
# says yes is not asked. force=True is documented to save "regardless of the result of"
# should_save, and "will not overwrite existing checkpoints": 35 and 45 are saved, 40 and 50
# are errors, and latest_step() is still the old 50. Deleting the newer checkpoints first
# helps.
#
# Command: findings/orbax_save_after_rollback.sh
# Prints, and fails if it changes:
#   saved at 10 to 50 with weights 1; restored 30, trained to weights 2, then:
#   default: saved at [60], skipped [35, 40, 45, 50]
#     stopped at 50: latest step 50, weights 1
#   should_save_fn that says yes: saved at [60], skipped [35, 40, 45, 50], asked of [60]
#     stopped at 50: latest step 50, weights 1
#   policy that says yes: saved at [60], skipped [35, 40, 45, 50], asked of [60]
#     stopped at 50: latest step 50, weights 1
#   force=True: saved at [35, 45, 60], skipped [], errors at [40, 50]
#     stopped at 50: latest step 50, weights 1
#   newer ones deleted: saved at [35, 40, 45, 50, 60], skipped []
#     stopped at 50: latest step 50, weights 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check orbax-checkpoint==0.12.8 \
    jax==0.10.2 jaxlib==0.10.2 tensorstore==0.1.86 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/rollback.py" <<'PYTHON'
import sys
import tempfile

import numpy as np
import orbax.checkpoint as ocp

asked = []


class Always:
    def should_save(self, step, previous_steps, *, context):
        asked.append(step.step)
        return True


def always(step, latest_step):
    asked.append(step)
    return True


def state(weights):
    return {"w": np.full(2, weights, np.float32)}


def opened(folder, options):
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **options)
    return ocp.CheckpointManager(folder, options=options)


def save(manager, steps, weights, force=False):
    """The steps that are saved, and those that are errors."""
    args, saved, errors = ocp.args.StandardSave(state(weights)), [], []
    for step in steps:
        try:
            if manager.save(step, args=args, force=force):
                saved.append(step)
        except ValueError as error:
            assert "already exists" in str(error), error
            errors.append(step)
    return saved, errors


def roll_back(what, delete=False, force=False, **options):
    folder = tempfile.mkdtemp(dir=sys.argv[1])
    with opened(folder, options) as manager:
        save(manager, range(10, 60, 10), 1)
    with opened(folder, options) as manager:
        manager.restore(30, args=ocp.args.StandardRestore(state(0)))
        for step in (40, 50) if delete else ():
            manager.delete(step)
        asked.clear()
        steps = [35, 40, 45, 50]
        saved, errors = save(manager, steps, 2, force)
        with opened(folder, options) as later:  # a process that was stopped at 50
            latest = later.latest_step()
            w = later.restore(latest, args=ocp.args.StandardRestore(state(0)))["w"]
        saved += save(manager, [60], 2, force)[0]
    skipped = [step for step in steps if step not in saved + errors]
    of = f", asked of {asked}" if options else f", errors at {errors}" if force else ""
    assert force or not errors, errors
    print(f"{what}: saved at {saved}, skipped {skipped}{of}")
    print(f"  stopped at 50: latest step {latest}, weights {w[0]:.0f}")


print("saved at 10 to 50 with weights 1; restored 30, trained to weights 2, then:")
roll_back("default")
roll_back("should_save_fn that says yes", should_save_fn=always)
roll_back("policy that says yes", save_decision_policy=Always())
roll_back("force=True", force=True)
roll_back("newer ones deleted", delete=True)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/rollback.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
saved at 10 to 50 with weights 1; restored 30, trained to weights 2, then:
default: saved at [60], skipped [35, 40, 45, 50]
  stopped at 50: latest step 50, weights 1
should_save_fn that says yes: saved at [60], skipped [35, 40, 45, 50], asked of [60]
  stopped at 50: latest step 50, weights 1
policy that says yes: saved at [60], skipped [35, 40, 45, 50], asked of [60]
  stopped at 50: latest step 50, weights 1
force=True: saved at [35, 45, 60], skipped [], errors at [40, 50]
  stopped at 50: latest step 50, weights 1
newer ones deleted: saved at [35, 40, 45, 50, 60], skipped []
  stopped at 50: latest step 50, weights 2
EXPECTED
