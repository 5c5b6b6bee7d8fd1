#!/usr/bin/env bash
# jax 0.10.2: of 33 million examples random.choice with weights can draw one in four.
#
# random.choice with p looks up a float32 of uniform(), which has 2**23 values, in the sums of p.
# Of more examples the others have no value that leads to them: of 2**25 with equal weights,
# whatever the seed, no draw is an index that leaves 0, 1, 4 or 5 after division by 8. numpy's
# Generator.choice with the same p draws them all, and so does jax's without p. That takes
# randint, whose documentation calls its bias slight: of 365 million, as many as C4 has
# documents, it draws those of the last quarter 8% less often than the rest, of 1.6 billion
# 31% less often, without a warning. Of 2**28 the quarters are equal, as of any power of 2.
#
# Command: findings/jax_draws_of_many.sh
# Prints, and fails if it changes: of 400,000 draws the share of each remainder by 8, or of each
# quarter of the range.
#   2**22 examples
#     choice with p: 12.5% 12.4% 12.4% 12.6% 12.6% 12.5% 12.5% 12.5%
#     choice: 12.5% 12.5% 12.5% 12.5% 12.5% 12.4% 12.5% 12.5%
#     numpy, with p: 12.4% 12.4% 12.6% 12.5% 12.5% 12.5% 12.5% 12.4%
#   2**25 examples
#     choice with p: 0.0% 0.0% 25.1% 24.9% 0.0% 0.0% 25.0% 25.0%
#     choice: 12.5% 12.5% 12.5% 12.5% 12.5% 12.4% 12.5% 12.5%
#     numpy, with p: 12.5% 12.5% 12.5% 12.5% 12.5% 12.5% 12.5% 12.4%
#   randint of 268,435,456: 25.0% 25.0% 25.1% 24.9%
#   randint of 365,000,000: 25.5% 25.4% 25.5% 23.5%
#   randint of 1,600,000,000: 27.9% 28.0% 25.4% 18.7%
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 \
    numpy==2.4.6 ml-dtypes==0.6.0
cat >"$folder/draws.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

DRAWS = 400_000
key = jax.random.key(0)


def shares(which, number):
    counts = np.bincount(np.asarray(which), minlength=number)
    return " ".join(f"{x:.1%}" for x in counts / DRAWS)


for bits in (22, 25):
    size = 2**bits
    weights = jnp.full((size,), 1 / size)
    with_p = jax.random.choice(key, size, (DRAWS,), p=weights)
    without = jax.random.choice(key, size, (DRAWS,))
    of_numpy = np.random.default_rng(0).choice(size, DRAWS, p=np.asarray(weights))
    print(f"2**{bits} examples")
    print("  choice with p:", shares(with_p % 8, 8))
    print("  choice:", shares(without % 8, 8))
    print("  numpy, with p:", shares(of_numpy % 8, 8))
for size in (2**28, 365_000_000, 1_600_000_000):
    quarters = np.asarray(jax.random.randint(key, (DRAWS,), 0, size)) // (size // 4)
    print(f"randint of {size:,}: {shares(quarters, 4)}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/draws.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
2**22 examples
  choice with p: 12.5% 12.4% 12.4% 12.6% 12.6% 12.5% 12.5% 12.5%
  choice: 12.5% 12.5% 12.5% 12.5% 12.5% 12.4% 12.5% 12.5%
  numpy, with p: 12.4% 12.4% 12.6% 12.5% 12.5% 12.5% 12.5% 12.4%
2**25 examples
  choice with p: 0.0% 0.0% 25.1% 24.9% 0.0% 0.0% 25.0% 25.0%
  choice: 12.5% 12.5% 12.5% 12.5% 12.5% 12.4% 12.5% 12.5%
  numpy, with p: 12.5% 12.5% 12.5% 12.5% 12.5% 12.5% 12.5% 12.4%
randint of 268,435,456: 25.0% 25.0% 25.1% 24.9%
randint of 365,000,000: 25.5% 25.4% 25.5% 23.5%
randint of 1,600,000,000: 27.9% 28.0% 25.4% 18.7%
EXPECTED
