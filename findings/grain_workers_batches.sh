#!/usr/bin/env bash
# grain 0.2.16: the number of worker processes changes what is in a batch, and how many there are.
#
# An operation of grain.DataLoader, Batch among them, runs in each worker on the worker's own
# records, every worker_count-th of them. Of 12 records in batches of 4 there are three
# batches without workers; with two there are four, of which two are halves, and with four no
# batch is larger than 3. With drop_remainder=True two workers drop 4 of 12 records, and four
# workers have no batch at all: where no worker has batch_size records, training ends at once,
# without an error. The order of single records is the same for every number of workers, and
# so are the batches of MapDataset.batch.
#
# Command: findings/grain_workers_batches.sh
# Prints, and fails if it changes: the batches of 12 records.
#   0 workers
#     records: 0 1 2 3 4 5 6 7 8 9 10 11
#     batches, drop_remainder=False: 0 1 2 3 | 4 5 6 7 | 8 9 10 11
#     batches, drop_remainder=True: 0 1 2 3 | 4 5 6 7 | 8 9 10 11
#   2 workers
#     records: 0 1 2 3 4 5 6 7 8 9 10 11
#     batches, drop_remainder=False: 0 2 4 6 | 1 3 5 7 | 8 10 | 9 11
#     batches, drop_remainder=True: 0 2 4 6 | 1 3 5 7
#   4 workers
#     records: 0 1 2 3 4 5 6 7 8 9 10 11
#     batches, drop_remainder=False: 0 4 8 | 1 5 9 | 2 6 10 | 3 7 11
#     batches, drop_remainder=True: none
#   MapDataset, 2 workers: 0 1 2 3 | 4 5 6 7 | 8 9 10 11
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/workers.py" <<'PYTHON'
import grain

RECORDS, SIZE = 12, 4


def loader(workers, *operations):
    return grain.DataLoader(
        data_source=range(RECORDS),
        sampler=grain.samplers.SequentialSampler(RECORDS),
        operations=operations,
        worker_count=workers,
    )


def text(batches):
    return " | ".join(" ".join(map(str, batch)) for batch in batches) or "none"


def main():
    for workers in (0, 2, 4):
        print(f"{workers} workers")
        print("  records:", *loader(workers))
        for drop in (False, True):
            batches = loader(workers, grain.transforms.Batch(SIZE, drop_remainder=drop))
            print(f"  batches, drop_remainder={drop}: {text(batches)}")
    batches = grain.MapDataset.range(RECORDS).batch(SIZE).to_iter_dataset()
    options = grain.MultiprocessingOptions(num_workers=2)
    print("MapDataset, 2 workers:", text(batches.mp_prefetch(options)))


if __name__ == "__main__":
    main()
PYTHON
seen=$("$folder/venv/bin/python" "$folder/workers.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
0 workers
  records: 0 1 2 3 4 5 6 7 8 9 10 11
  batches, drop_remainder=False: 0 1 2 3 | 4 5 6 7 | 8 9 10 11
  batches, drop_remainder=True: 0 1 2 3 | 4 5 6 7 | 8 9 10 11
2 workers
  records: 0 1 2 3 4 5 6 7 8 9 10 11
  batches, drop_remainder=False: 0 2 4 6 | 1 3 5 7 | 8 10 | 9 11
  batches, drop_remainder=True: 0 2 4 6 | 1 3 5 7
4 workers
  records: 0 1 2 3 4 5 6 7 8 9 10 11
  batches, drop_remainder=False: 0 4 8 | 1 5 9 | 2 6 10 | 3 7 11
  batches, drop_remainder=True: none
MapDataset, 2 workers: 0 1 2 3 | 4 5 6 7 | 8 9 10 11
EXPECTED
