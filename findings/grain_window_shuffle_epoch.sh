#!/usr/bin/env bash
# grain 0.2.16: an epoch of WindowShuffleMapDataset has some examples twice and lacks others.
#
# WindowShuffleMapDataset shuffles within windows, without reading more than one example for
# each, and documents "a one-to-one mapping and hence a guarantee that no shuffled indices are
# repeated within a given window". The last window of an epoch is shuffled as if it were whole:
# its places past the end are the first examples again, in place of the last ones. Of 1000
# examples and a window that is larger a third is left out. len says 1000 all the same. Where
# repeat follows, what an epoch lacks the next has twice. The window shuffle of an IterDataset
# has each example once, as has a window that divides their number.
#
# Command: findings/grain_window_shuffle_epoch.sh
# Prints, and fails if it changes: what one epoch reads.
#   1000 examples, windows of 250
#     MapDataset: 1000 read, 1000 of them different, len 1000
#     IterDataset: 1000 read, 1000 of them different
#   1000 examples, windows of 256
#     MapDataset: 1000 read, 979 of them different, len 1000
#     IterDataset: 1000 read, 1000 of them different
#   1000 examples, windows of 600
#     MapDataset: 1000 read, 875 of them different, len 1000
#     IterDataset: 1000 read, 1000 of them different
#   1000 examples, windows of 4096
#     MapDataset: 1000 read, 675 of them different, len 1000
#     IterDataset: 1000 read, 1000 of them different
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/window.py" <<'PYTHON'
import grain

EXAMPLES = 1000


def text(dataset):
    seen = list(dataset)
    return f"{len(seen)} read, {len({*seen})} of them different"


source = grain.MapDataset.range(EXAMPLES)
for window in (250, 256, 600, 4096):
    of_map = grain.experimental.WindowShuffleMapDataset(
        source, window_size=window, seed=0
    )
    of_iter = grain.experimental.WindowShuffleIterDataset(
        source.to_iter_dataset(), window_size=window, seed=0
    )
    print(f"{EXAMPLES} examples, windows of {window}")
    print(f"  MapDataset: {text(of_map)}, len {len(of_map)}")
    print(f"  IterDataset: {text(of_iter)}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/window.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
1000 examples, windows of 250
  MapDataset: 1000 read, 1000 of them different, len 1000
  IterDataset: 1000 read, 1000 of them different
1000 examples, windows of 256
  MapDataset: 1000 read, 979 of them different, len 1000
  IterDataset: 1000 read, 1000 of them different
1000 examples, windows of 600
  MapDataset: 1000 read, 875 of them different, len 1000
  IterDataset: 1000 read, 1000 of them different
1000 examples, windows of 4096
  MapDataset: 1000 read, 675 of them different, len 1000
  IterDataset: 1000 read, 1000 of them different
EXPECTED
