#!/usr/bin/env bash
# grain 0.2.16: a filter before MapDataset.mix changes the proportions of the mixture.
#
# An element that MapDataset.filter refuses keeps its place, as None, and is skipped on reading.
# mix gives each data set its share of the places: of two data sets in equal parts, one of which
# a filter halves, a third is from that one, and training sees a mixture that nobody asked for.
# len counts the places too. There is a warning only where more than 90% are skipped.
# IterDataset.mix, of the same data sets after to_iter_dataset, has equal parts, as has
# MapDataset.mix where the filter is applied first, and its results are a source.
#
# Command: findings/grain_filter_then_mix.sh
# Prints, and fails if it changes: of two data sets mixed in equal parts the elements of each,
# where the first has none refused, half of them, and nine of ten.
#   one of 1 kept
#     MapDataset: 1000 and 1000, len 2000
#     IterDataset: 500 and 500
#     a source: 1000 and 1000, len 2000
#   one of 2 kept
#     MapDataset: 500 and 1000, len 2000
#     IterDataset: 500 and 500
#     a source: 500 and 500, len 1000
#   one of 10 kept
#     MapDataset: 100 and 1000, len 2000
#     IterDataset: 500 and 500
#     a source: 100 and 100, len 200
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/mix.py" <<'PYTHON'
import itertools

import grain

READ = 1000  # of what is endless
other = grain.MapDataset.range(1000, 2000)


def share(elements):
    elements = list(elements)
    first = sum(x < 1000 for x in elements)
    return f"{first} and {len(elements) - first}"


def endless(dataset):
    return dataset.repeat().to_iter_dataset()


def filtered(every):
    return grain.MapDataset.range(1000).filter(lambda x: x % every == 0)


for every in (1, 2, 10):
    of_map = grain.MapDataset.mix([filtered(every), other], [0.5, 0.5])
    of_iter = grain.IterDataset.mix([endless(filtered(every)), endless(other)], [0.5, 0.5])
    source = grain.MapDataset.source(list(filtered(every)))
    of_source = grain.MapDataset.mix([source, other], [0.5, 0.5])
    print(f"one of {every} kept")
    print(f"  MapDataset: {share(of_map)}, len {len(of_map)}")
    print(f"  IterDataset: {share(itertools.islice(of_iter, READ))}")
    print(f"  a source: {share(of_source)}, len {len(of_source)}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/mix.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
one of 1 kept
  MapDataset: 1000 and 1000, len 2000
  IterDataset: 500 and 500
  a source: 1000 and 1000, len 2000
one of 2 kept
  MapDataset: 500 and 1000, len 2000
  IterDataset: 500 and 500
  a source: 500 and 500, len 1000
one of 10 kept
  MapDataset: 100 and 1000, len 2000
  IterDataset: 500 and 500
  a source: 100 and 100, len 200
EXPECTED
