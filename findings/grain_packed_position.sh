#!/usr/bin/env bash
# grain 0.2.16: a packed dataset goes on with other tokens than those its checkpoint left.
#
# The position of ConcatThenSplitIterDataset has pairs of numbers, of which (-1, -1) says that
# no example is left over. grain writes positions as JSON, which has no tuples: [-1, -1] is not
# equal to (-1, -1), and is taken for the bounds of a slice, which is empty. Read again from a
# checkpoint, such a position loses the next example, and sequences are of other tokens from
# there on, without an error: here before the first sequence, and behind the first, which ends
# where an example does. The same position that stayed in memory is right, and so are those of
# FirstFitPackIterDataset.
#
# Command: findings/grain_packed_position.sh
# Prints, and fails if it changes: the sequences, and those after 0 and 1 of them.
#   ConcatThenSplitIterDataset: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
#     after 0, in memory: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
#     after 0, from disk: 5 6 7 8 9 10 | 11 12 13 14 15 16 | 17 18 0 0 0 0
#     after 1, in memory: 7 8 9 10 11 12 | 13 14 15 16 17 18
#     after 1, from disk: 11 12 13 14 15 16 | 17 18 0 0 0 0
#   FirstFitPackIterDataset: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
#     after 0, in memory: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
#     after 0, from disk: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
#     after 1, in memory: 7 8 9 10 11 12 | 13 14 15 16 17 18
#     after 1, from disk: 7 8 9 10 11 12 | 13 14 15 16 17 18
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2 \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2
cat >"$folder/position.py" <<'PYTHON'
import sys

import grain
import numpy as np
import orbax.checkpoint as ocp

LENGTHS = (4, 2, 3, 3, 5, 1)  # examples of tokens 1 to 4, 5 and 6, 7 to 9, ...
ENDS = np.cumsum(LENGTHS)
SEQUENCE = 6


def packed(packer, **options):
    examples = grain.MapDataset.range(len(LENGTHS)).map(
        lambda i: {"text": np.arange(ENDS[i] - LENGTHS[i], ENDS[i]) + 1}
    )
    lengths = {"text": SEQUENCE}
    return packer(examples.to_iter_dataset(), length_struct=lengths, **options)


def tokens(iterator):
    return " | ".join(" ".join(map(str, x["text"])) for x in iterator)


def main(folder):
    experimental = grain.experimental
    for packer, options in (
        (experimental.ConcatThenSplitIterDataset, {}),
        (experimental.FirstFitPackIterDataset, {"num_packing_bins": 2}),
    ):
        dataset = packed(packer, **options)
        print(f"{packer.__name__}: {tokens(iter(dataset))}")
        manager = ocp.CheckpointManager(f"{folder}/{packer.__name__}")
        running = iter(dataset)
        for step in (0, 1):
            manager.save(
                step,
                args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(running)),
            )
            manager.wait_until_finished()
            in_memory = iter(dataset)
            in_memory.set_state(running.get_state())
            restored = iter(dataset)
            manager.restore(
                step,
                args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(restored)),
            )
            print(f"  after {step}, in memory: {tokens(in_memory)}")
            print(f"  after {step}, from disk: {tokens(restored)}")
            next(running)


if __name__ == "__main__":
    main(sys.argv[1])
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/position.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
ConcatThenSplitIterDataset: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
  after 0, in memory: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
  after 0, from disk: 5 6 7 8 9 10 | 11 12 13 14 15 16 | 17 18 0 0 0 0
  after 1, in memory: 7 8 9 10 11 12 | 13 14 15 16 17 18
  after 1, from disk: 11 12 13 14 15 16 | 17 18 0 0 0 0
FirstFitPackIterDataset: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
  after 0, in memory: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
  after 0, from disk: 1 2 3 4 5 6 | 7 8 9 10 11 12 | 13 14 15 16 17 18
  after 1, in memory: 7 8 9 10 11 12 | 13 14 15 16 17 18
  after 1, from disk: 7 8 9 10 11 12 | 13 14 15 16 17 18
EXPECTED
