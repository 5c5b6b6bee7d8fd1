#!/usr/bin/env bash
# grain 0.2.16: hosts that share an epoch leave records out, with drop_remainder=False too.
#
# DataLoader gives each shard the number of records divided by the number of shards, rounded
# down. What is left over no shard reads, whether drop_remainder of ShardOptions is True, for
# which there is a warning, or False, its default, for which there is none. An evaluation of
# 11 records on 4 hosts scores 8. With IndexSampler, whose shards are stretches of the records
# that shuffling does not mix, the last ones of each longer stretch are left out, so that
# without shuffling it is the same ones each time. MapDataset sliced by [shard::shards] has
# them all.
#
# Command: findings/grain_shards_lose_records.sh
# Prints, and fails if it changes: the records of each shard, and those that none has.
#   IndexSampler, drop_remainder=False: 0 1, 3 4, 6 7, 9 10; none has 2 5 8
#   IndexSampler, drop_remainder=True: 0 1, 2 3, 4 5, 6 7; none has 8 9 10
#   SequentialSampler, drop_remainder=False: 0 4, 1 5, 2 6, 3 7; none has 8 9 10
#   SequentialSampler, drop_remainder=True: 0 4, 1 5, 2 6, 3 7; none has 8 9 10
#   MapDataset: 0 4 8, 1 5 9, 2 6 10, 3 7; none has no record
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/shards.py" <<'PYTHON'
import grain

RECORDS, SHARDS = 11, 4
SAMPLERS = {
    "IndexSampler": grain.samplers.IndexSampler,
    "SequentialSampler": grain.samplers.SequentialSampler,
}


def loaded(sampler, shard, drop_remainder):
    options = grain.sharding.ShardOptions(shard, SHARDS, drop_remainder)
    epochs = {"num_epochs": 1} if sampler is SAMPLERS["IndexSampler"] else {}
    return grain.DataLoader(
        data_source=range(RECORDS),
        sampler=sampler(RECORDS, shard_options=options, **epochs),
    )


def show(name, shards):
    shards = [[int(x) for x in shard] for shard in shards]
    seen = {x for shard in shards for x in shard}
    missing = [x for x in range(RECORDS) if x not in seen]
    texts = [" ".join(map(str, numbers)) for numbers in [*shards, missing]]
    print(f"{name}: {', '.join(texts[:-1])}; none has {texts[-1] or 'no record'}")


for name, sampler in SAMPLERS.items():
    for drop in (False, True):
        shards = [loaded(sampler, shard, drop) for shard in range(SHARDS)]
        show(f"{name}, drop_remainder={drop}", shards)
records = grain.MapDataset.range(RECORDS)
show("MapDataset", [records[shard::SHARDS] for shard in range(SHARDS)])
PYTHON
seen=$("$folder/venv/bin/python" "$folder/shards.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
IndexSampler, drop_remainder=False: 0 1, 3 4, 6 7, 9 10; none has 2 5 8
IndexSampler, drop_remainder=True: 0 1, 2 3, 4 5, 6 7; none has 8 9 10
SequentialSampler, drop_remainder=False: 0 4, 1 5, 2 6, 3 7; none has 8 9 10
SequentialSampler, drop_remainder=True: 0 4, 1 5, 2 6, 3 7; none has 8 9 10
MapDataset: 0 4 8, 1 5 9, 2 6 10, 3 7; none has no record
EXPECTED
