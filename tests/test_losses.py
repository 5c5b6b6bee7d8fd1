"""T5X's loss, by NumPy: label smoothing, z loss, weights and divisors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from t5x import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 3, 5))
TARGETS = RNG.integers(1, 5, (2, 3))
WEIGHTS = np.array([[1.0, 0.5, 0.0], [2.0, 1.0, 0.25]])


def soft_targets(smoothing):
    return np.where(np.eye(5)[TARGETS] > 0, 1 - smoothing, smoothing / 4)


def loss_of(logits, smoothing=0.0, **settings):
    found = losses.compute_weighted_cross_entropy(
        jnp.asarray(logits, jnp.float32),
        jnp.asarray(TARGETS),
        jnp.asarray(WEIGHTS),
        label_smoothing=smoothing,
        **settings,
    )
    return [float(x) for x in found]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 0.03])
@pytest.mark.parametrize("factor", [None, 8.0])
def test_smoothed_weighted_cross_entropy(smoothing, z_loss, factor):
    """The loss is 0 where the prediction is the smoothed target."""
    log_z = np.log(np.exp(LOGITS).sum(-1))
    p = soft_targets(smoothing)
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-20)), -1)
    cross = -np.sum(p * (LOGITS - log_z[..., None]), -1)
    z = z_loss * log_z**2
    settings = {"z_loss": z_loss, "loss_normalizing_factor": factor}
    loss, z_part, weight = loss_of(LOGITS, smoothing, **settings)
    divisor = factor or 1.0
    expected = np.sum((cross - entropy + z) * WEIGHTS) / divisor
    assert loss == pytest.approx(expected, rel=1e-5)
    assert z_part == pytest.approx(np.sum(z * WEIGHTS) / divisor, rel=1e-5)
    assert weight == WEIGHTS.sum()


def test_the_smoothed_target_has_no_loss():
    loss, *_ = loss_of(np.log(soft_targets(0.1)), 0.1)
    assert loss == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NUM_REAL_TARGET_TOKENS", 4.75), ("NUM_TOTAL_TARGET_TOKENS", 6.0), (3.0, 3.0)],
)
def test_divisors_of_a_batch(name, expected):
    batch = {
        "decoder_target_tokens": jnp.asarray(TARGETS),
        "decoder_loss_weights": jnp.asarray(WEIGHTS),
    }
    divisor, weights = losses.get_loss_normalizing_factor_and_weights(name, batch)
    assert float(divisor) == expected
    np.testing.assert_array_equal(weights, WEIGHTS)


def test_real_tokens_are_those_that_are_no_padding():
    batch = {"decoder_target_tokens": jnp.array([[7, 8, 0], [9, 0, 0]])}
    name = losses.SpecialLossNormalizingFactor.NUM_REAL_TARGET_TOKENS
    divisor, weights = losses.get_loss_normalizing_factor_and_weights(name, batch)
    assert float(divisor) == 3.0
    np.testing.assert_array_equal(weights, [[1, 1, 0], [1, 0, 0]])


def test_z_loss_has_the_gradient_of_its_definition():
    """By its own rule of differentiation, which optimizers see."""
    logits, p = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(soft_targets(0.1))

    def written_out(logits):
        log_z = jax.scipy.special.logsumexp(logits, -1)
        return jnp.sum(log_z + 0.03 * log_z**2 - jnp.sum(p * logits, -1))

    found = jax.grad(lambda x: jnp.sum(losses.cross_entropy_with_logits(x, p, 0.03)[0]))
    np.testing.assert_allclose(
        found(logits), jax.grad(written_out)(logits), rtol=1e-4, atol=1e-6
    )
