#!/usr/bin/env bash
# grain 0.2.16: a run with seed 1 has the orders and random numbers of the run with seed 0.
#
# In epoch e MapDataset.shuffle(seed) has the order that seed + e has in its first: the runs of
# seeds 0, 1 and 2 read the same orders, each an epoch later. So does IndexSampler with
# shuffle=True, whose numbers for RandomMap are, besides, those of seed + position: what
# corrupts the example at one place with seed 1 corrupts the next one with seed 0. The spread
# over a few repeated runs says less than it seems to. MapDataset.seed(seed), whose shuffle
# and random_map are given none, has no such neighbours; with the others seeds that are
# further apart than a run is long have none.
#
# Command: findings/grain_neighbouring_seeds.sh
# Prints, and fails if it changes: what two runs of four epochs share.
#   epochs of seed 1 that seed 0 has too, of 4
#     MapDataset.shuffle(seed): 3
#     MapDataset.seed(seed): 0
#     IndexSampler: 3
#   random numbers of seed 1 that seed 0 has too, of 4000
#     DataLoader: 3999
#     MapDataset.seed(seed): 0
#     DataLoader, seed 1000000: 0
#   those of seed 1 are those of seed 0, one later: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/seeds.py" <<'PYTHON'
import grain

EXAMPLES, EPOCHS, POSITIONS = 1000, 4, 4000
SEEDS, FAR = (0, 1), 1_000_000


class Draw(grain.transforms.RandomMap):
    def random_map(self, element, rng):
        return float(rng.random())


def epochs(order):
    order = list(order)
    return [order[e * EXAMPLES : (e + 1) * EXAMPLES] for e in range(EPOCHS)]


def shared_epochs(one, other):
    return sum(epoch in epochs(one) for epoch in epochs(other))


def shared_numbers(one, other):
    return len({*one} & {*other})


def sampler(seed):
    return grain.samplers.IndexSampler(
        EXAMPLES, shuffle=True, seed=seed, num_epochs=EPOCHS
    )


def keys(seed):
    return [sampler(seed)[i].record_key for i in range(POSITIONS)]


def loaded(seed):
    loader = grain.DataLoader(
        data_source=range(EXAMPLES), sampler=sampler(seed), operations=[Draw()]
    )
    return list(loader)


source = grain.MapDataset.range(EXAMPLES)
shuffled = [source.shuffle(seed=s).repeat(EPOCHS) for s in SEEDS]
seeded = [source.seed(s).shuffle().repeat(EPOCHS) for s in SEEDS]
drawn = [source.seed(s).random_map(Draw()).repeat(EPOCHS) for s in SEEDS]
numbers = [loaded(s) for s in SEEDS]
print(f"epochs of seed 1 that seed 0 has too, of {EPOCHS}")
print("  MapDataset.shuffle(seed):", shared_epochs(*shuffled))
print("  MapDataset.seed(seed):", shared_epochs(*seeded))
print("  IndexSampler:", shared_epochs(*map(keys, SEEDS)))
print(f"random numbers of seed 1 that seed 0 has too, of {POSITIONS}")
print("  DataLoader:", shared_numbers(*numbers))
print("  MapDataset.seed(seed):", shared_numbers(*drawn))
print(f"  DataLoader, seed {FAR}:", shared_numbers(numbers[0], loaded(FAR)))
print("those of seed 1 are those of seed 0, one later:", numbers[1][:-1] == numbers[0][1:])
PYTHON
seen=$("$folder/venv/bin/python" "$folder/seeds.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
epochs of seed 1 that seed 0 has too, of 4
  MapDataset.shuffle(seed): 3
  MapDataset.seed(seed): 0
  IndexSampler: 3
random numbers of seed 1 that seed 0 has too, of 4000
  DataLoader: 3999
  MapDataset.seed(seed): 0
  DataLoader, seed 1000000: 0
those of seed 1 are those of seed 0, one later: True
EXPECTED
