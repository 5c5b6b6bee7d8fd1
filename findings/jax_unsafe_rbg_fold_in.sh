#!/usr/bin/env bash
# jax 0.10.2: with unsafe_rbg keys the order of fold_in does not matter, and twice is not at all.
#
# T5X's hardware random numbers are keys of the kind unsafe_rbg, whose fold_in is an exclusive
# or. A key into which the step is folded, then the layer, is the same as with layer and step
# exchanged, and where step and layer are the same number it is the key one began with. So of
# 12 steps of 12 layers, 144 dropout masks, 67 differ, and one is used 12 times, once at each
# step. With threefry2x32 and rbg all differ. Names that no step has, such as hashes, which
# Flax folds in, do not meet; nor do keys of split.
#
# Command: findings/jax_unsafe_rbg_fold_in.sh
# Prints, and fails if it changes: whether fold_in(fold_in(key, 3), 5) is fold_in(fold_in(key,
# 5), 3), and fold_in(fold_in(key, 3), 3) is key; how many of 144 masks differ, and how often
# one mask is used at most; how many differ where a layer's number is split off.
#   threefry2x32: exchanged False, twice False; 144 masks, 1 use; split 144
#   rbg: exchanged False, twice False; 144 masks, 1 use; split 144
#   unsafe_rbg: exchanged True, twice True; 67 masks, 12 uses; split 144
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 \
    numpy==2.4.6 ml-dtypes==0.6.0
cat >"$folder/fold.py" <<'PYTHON'
import collections

import jax
import numpy as np

STEPS = LAYERS = 12
fold_in = jax.random.fold_in


def mask(key):
    return np.asarray(jax.random.bernoulli(key, 0.9, (512,))).tobytes()


def same(one, other):
    return np.array_equal(jax.random.key_data(one), jax.random.key_data(other))


for kind in ("threefry2x32", "rbg", "unsafe_rbg"):
    key = jax.random.key(0, impl=kind)
    exchanged = same(fold_in(fold_in(key, 3), 5), fold_in(fold_in(key, 5), 3))
    twice = same(fold_in(fold_in(key, 3), 3), key)
    folded, divided = collections.Counter(), set()
    for step in range(STEPS):
        of_step = fold_in(key, step)
        folded.update(mask(fold_in(of_step, layer)) for layer in range(LAYERS))
        divided.update(map(mask, jax.random.split(of_step, LAYERS)))
    most = max(folded.values())
    print(
        f"{kind}: exchanged {exchanged}, twice {twice}; {len(folded)} masks, "
        f"{most} use{'s' if most > 1 else ''}; split {len(divided)}"
    )
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/fold.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
threefry2x32: exchanged False, twice False; 144 masks, 1 use; split 144
rbg: exchanged False, twice False; 144 masks, 1 use; split 144
unsafe_rbg: exchanged True, twice True; 67 masks, 12 uses; split 144
EXPECTED
