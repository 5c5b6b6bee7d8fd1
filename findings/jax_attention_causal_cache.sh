#!/usr/bin/env bash
# JAX 0.10.2: causal attention of new tokens on stored ones looks at the first tokens alone.
#
# jax.nn.dot_product_attention takes queries and keys of different lengths. With is_causal=True
# query i sees keys 0 to i, counted from the start of both. The newest token of six, decoded
# with the keys of all, then sees the first of them and nothing else; the last two tokens see
# the first two. Windows of local_window_size are counted likewise. The documentation says that
# causal attention is applied, and not from which ends.
#
# Command: findings/jax_attention_causal_cache.sh
# Prints, and fails if it changes: the keys that each query sees.
#   is_causal
#     all 6 tokens: 0; 0 1; 0 1 2; 0 1 2 3; 0 1 2 3 4; 0 1 2 3 4 5
#     the last 2, of these keys: 0; 0 1
#     the last 1, of these keys: 0
#   local_window_size (2, 0)
#     all 6 tokens: 0; 0 1; 0 1 2; 1 2 3; 2 3 4; 3 4 5
#     the last 2, of these keys: 0; 0 1
#     the last 1, of these keys: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 \
    numpy==2.4.6
cat >"$folder/causal.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

TOKENS = 6


def seen(query, key, **options):
    """Returns the keys that each query has a weight for, read from one-hot values."""
    values = jnp.eye(TOKENS)[None, :, None, :]
    weights = np.asarray(jax.nn.dot_product_attention(query, key, values, **options))
    return "; ".join(
        " ".join(map(str, np.flatnonzero(row > 0).tolist())) for row in weights[0, :, 0]
    )


def main():
    query, key = jax.random.normal(jax.random.key(0), (2, 1, TOKENS, 1, TOKENS))
    for name, options in (
        ("is_causal", {"is_causal": True}),
        ("local_window_size (2, 0)", {"local_window_size": (2, 0)}),
    ):
        print(name)
        print(f"  all {TOKENS} tokens:", seen(query, key, **options))
        for new in (2, 1):
            print(f"  the last {new}, of these keys:", seen(query[:, -new:], key, **options))


if __name__ == "__main__":
    main()
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/causal.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
is_causal
  all 6 tokens: 0; 0 1; 0 1 2; 0 1 2 3; 0 1 2 3 4; 0 1 2 3 4 5
  the last 2, of these keys: 0; 0 1
  the last 1, of these keys: 0
local_window_size (2, 0)
  all 6 tokens: 0; 0 1; 0 1 2; 1 2 3; 2 3 4; 3 4 5
  the last 2, of these keys: 0; 0 1
  the last 1, of these keys: 0
EXPECTED
