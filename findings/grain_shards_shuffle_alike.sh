#!/usr/bin/env bash
# grain 0.2.16: the hosts of a DataLoader shuffle alike, and a batch has the same neighbours in
# every epoch.
#
# IndexSampler(shuffle=True), for "global shuffle of the dataset", gives each shard a
# consecutive piece of the records, and shuffles every piece with the same seed. Host 1 reads
# at each step the record that is as far into its piece as host 0's is into its own: with 4
# hosts the records i, i + n/4, i + n/2 and i + 3n/4 are read together, in every epoch and
# from every seed, where of a shuffle of all they hardly ever are. Records that stand as far
# apart as the pieces, such as those of equally large files in one order, meet in each batch.
# MapDataset.shuffle before slicing by host, [host::hosts], shuffles all.
#
# Command: findings/grain_shards_shuffle_alike.sh
# Prints, and fails if it changes: how many steps read four records that are n/4 apart, and
# how many different sets of four records there are.
#   seed 0, 4 hosts, 3 epochs
#     IndexSampler: 750 of 750 steps, 250 different ones
#     MapDataset: 0 of 750 steps, 750 different ones
#   seed 1, 4 hosts, 3 epochs
#     IndexSampler: 750 of 750 steps, 250 different ones
#     MapDataset: 0 of 750 steps, 750 different ones
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/shards.py" <<'PYTHON'
import grain

RECORDS, HOSTS, EPOCHS = 1000, 4, 3
PIECE = RECORDS // HOSTS


def of_sampler(host, seed):
    loader = grain.DataLoader(
        data_source=range(RECORDS),
        sampler=grain.samplers.IndexSampler(
            RECORDS,
            shard_options=grain.sharding.ShardOptions(host, HOSTS),
            shuffle=True,
            num_epochs=EPOCHS,
            seed=seed,
        ),
    )
    return list(loader)


def of_dataset(host, seed):
    shuffled = grain.MapDataset.range(RECORDS).seed(seed).shuffle()
    return list(shuffled[host::HOSTS].repeat(EPOCHS))


def text(read, seed):
    steps = list(zip(*(read(host, seed) for host in range(HOSTS)), strict=True))
    together = sum(len({record % PIECE for record in step}) == 1 for step in steps)
    different = len({tuple(sorted(step)) for step in steps})
    each = len({record for step in steps for record in step}) == RECORDS
    assert each, "a record is left out"
    return f"{together} of {len(steps)} steps, {different} different ones"


for seed in (0, 1):
    print(f"seed {seed}, {HOSTS} hosts, {EPOCHS} epochs")
    print(f"  IndexSampler: {text(of_sampler, seed)}")
    print(f"  MapDataset: {text(of_dataset, seed)}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/shards.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
seed 0, 4 hosts, 3 epochs
  IndexSampler: 750 of 750 steps, 250 different ones
  MapDataset: 0 of 750 steps, 750 different ones
seed 1, 4 hosts, 3 epochs
  IndexSampler: 750 of 750 steps, 250 different ones
  MapDataset: 0 of 750 steps, 750 different ones
EXPECTED
