#!/usr/bin/env bash
# tensorflow-datasets 4.9.10: the first examples of a split are not those of a slice of it.
#
# A split in several files is read from up to 16 of them in turns, 16 examples of each; a
# slice, "train[:20]", is of the first file's first examples. dataset.take(20) of "train" is
# therefore another 20, beyond the first 16, and also without shuffle_files. Held-out examples
# that were taken, and training on the rest by "train[20:]", share some. With
# ReadConfig(interleave_cycle_length=1) files are read one after the other, and the two agree.
#
# Command: findings/tfds_take_or_slice.sh
# Prints, and fails if it changes:
#   examples in each file: 40 40 40 40
#   train[:20]: 0 of 20 are in train[20:] too
#   train, take(20): 4 of 20 are in train[20:] too
#   train, take(20), interleave_cycle_length=1: 0 of 20 are in train[20:] too
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    tensorflow-datasets==4.9.10 tensorflow-cpu==2.21.0 tensorflow-metadata==1.21.0 \
    etils==1.15.0 numpy==2.4.6 protobuf==7.36.2
mkdir "$folder/numbers"
cat >"$folder/numbers/numbers_builder.py" <<'PYTHON'
import contextlib
import sys

import numpy as np
import tensorflow_datasets as tfds

FILES, EXAMPLES, HELD_OUT = 4, 160, 20


class Numbers(tfds.core.GeneratorBasedBuilder):
    """The numbers 0 to 159, in four files of 40."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"number": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(EXAMPLES):
            yield number, {"number": number}


def main(folder):
    builder = Numbers(data_dir=folder)
    with contextlib.redirect_stdout(sys.stderr):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(num_shards=FILES)
        )
    print("examples in each file:", *builder.info.splits["train"].shard_lengths)
    in_turns = tfds.ReadConfig()
    one_by_one = tfds.ReadConfig(interleave_cycle_length=1)

    def numbers(split, config=in_turns):
        dataset = builder.as_dataset(split=split, read_config=config)
        return [int(x["number"]) for x in tfds.as_numpy(dataset)]

    rest = set(numbers(f"train[{HELD_OUT}:]"))
    for name, held_out in (
        (f"train[:{HELD_OUT}]", numbers(f"train[:{HELD_OUT}]")),
        (f"train, take({HELD_OUT})", numbers("train")[:HELD_OUT]),
        (
            f"train, take({HELD_OUT}), interleave_cycle_length=1",
            numbers("train", one_by_one)[:HELD_OUT],
        ),
    ):
        shared = len(rest.intersection(held_out))
        print(f"{name}: {shared} of {HELD_OUT} are in train[{HELD_OUT}:] too")


if __name__ == "__main__":
    main(sys.argv[1])
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/numbers/numbers_builder.py" \
    "$folder/data" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
examples in each file: 40 40 40 40
train[:20]: 0 of 20 are in train[20:] too
train, take(20): 4 of 20 are in train[20:] too
train, take(20), interleave_cycle_length=1: 0 of 20 are in train[20:] too
EXPECTED
