"""The T5 network in bfloat16: what stays in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from t5x import adafactor
from t5x.examples.t5 import layers, network

import text_runs
import tiny


@text_runs.embedded_only  # T5X multiplies by a one-hot matrix
def test_gradients_of_an_embedding_are_summed_in_float32():
    """In bfloat16 a sum of ones stops at 256: findings/flax_embed_bfloat16.sh."""
    embed = layers.Embed(
        4, 2, embedding_init=jax.nn.initializers.ones, dtype=jnp.bfloat16
    )
    tokens = jnp.full((1000,), 3)
    variables = embed.init(jax.random.PRNGKey(0), tokens)
    assert embed.apply(variables, tokens).dtype == jnp.bfloat16
    total = lambda v: jnp.sum(embed.apply(v, tokens).astype(jnp.float32))
    found = jax.grad(total)(variables)["params"]["embedding"]
    np.testing.assert_array_equal(found, [[0, 0], [0, 0], [0, 0], [1000, 1000]])


@pytest.mark.parametrize("tied", [False, True])
def test_logits_of_a_bfloat16_network_are_float32(tied):
    model = tiny.make_model(adafactor.Adafactor())
    config = network.T5Config(
        **{
            **vars(model.module.config),
            "dtype": "bfloat16",
            "logits_via_embedding": tied,
        }
    )
    tokens = jnp.ones((2, 4), jnp.int32)
    module = network.Transformer(config)
    run = lambda rng: module.init_with_output(rng, tokens, tokens, tokens)
    logits, variables = jax.eval_shape(run, jax.random.PRNGKey(0))
    assert logits.dtype == jnp.float32 and logits.shape == (2, 4, 64)
    assert {x.dtype for x in jax.tree.leaves(variables["params"])} == {
        jnp.dtype("float32")
    }
