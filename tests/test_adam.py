"""Moments whose decays change, against optax and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gbt_t5x import adam

PARAMS = {"kernel": (4, 6), "scale": (5,), "zero": (3,)}


def _trees(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {k: rng.normal(size=shape) for k, shape in PARAMS.items()}


def _train(make_transformation, settings, gradients):
    """Rebuilds the transformation with other settings at every step."""
    (params,) = _trees(1, seed=1)
    params = jax.tree.map(jnp.asarray, {**params, "zero": np.zeros(3)})
    state = make_transformation(**settings[0]).init(params)
    for arguments, grads in zip(settings, gradients, strict=True):
        transformation = make_transformation(**arguments)
        updates, state = transformation.update(
            jax.tree.map(jnp.asarray, grads), state, params
        )
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("ours", "theirs"), [(adam.adamw, optax.adamw), (adam.lamb, optax.lamb)]
)
def test_with_constant_decays_it_is_optax(ours, theirs):
    with jax.enable_x64(True):
        for settings in (
            {"learning_rate": 0.1},  # the same defaults
            {
                "learning_rate": 0.1,
                "b1": 0.7,
                "b2": 0.8,
                "eps": 1e-3,
                "weight_decay": 0.1,
            },
        ):
            gradients = list(_trees(5))
            expected = _train(theirs, [settings] * 5, gradients)
            trained = _train(ours, [settings] * 5, gradients)
            for name in PARAMS:
                np.testing.assert_allclose(trained[name], expected[name], rtol=1e-12)


def _numpy_lamb(settings, gradients):
    """Algorithm 2 of You et al. with φ the identity and β of each step."""
    (params,) = _trees(1, seed=1)
    params["zero"] = np.zeros(3)
    # Weights of the gradients so far in m and v: those of step t last.
    weights_m, weights_v = [], []
    seen = []
    for hp, grads in zip(settings, gradients, strict=True):
        seen.append(grads)
        weights_m = [w * hp["b1"] for w in weights_m] + [1 - hp["b1"]]
        weights_v = [w * hp["b2"] for w in weights_v] + [1 - hp["b2"]]
        for k in PARAMS:
            past = [g[k] for g in seen]
            m = np.average(past, axis=0, weights=weights_m)
            v = np.average(np.square(past), axis=0, weights=weights_v)
            r = m / (np.sqrt(v) + hp["eps"]) + hp["weight_decay"] * params[k]
            norm, r_norm = np.linalg.norm(params[k]), np.linalg.norm(r)
            trust = norm / r_norm if norm and r_norm else 1.0
            params[k] = params[k] - hp["learning_rate"] * trust * r
    return params


def test_lamb_with_moving_decays_matches_numpy():
    """Bias-corrected moments are averages of the gradients: their weights sum to 1."""
    rng = np.random.default_rng(2)
    settings = [
        {
            "learning_rate": 0.1 * rng.uniform(),
            "b1": rng.uniform(0.1, 0.99),
            "b2": rng.uniform(0.1, 0.99),
            "eps": 1e-3 * rng.uniform(),
            "weight_decay": 0.1 * rng.uniform(),
        }
        for _ in range(6)
    ]
    gradients = list(_trees(6))
    expected = _numpy_lamb(settings, gradients)
    with jax.enable_x64(True):
        trained = _train(adam.lamb, settings, gradients)
    for name in PARAMS:
        assert np.abs(expected[name]).min() > 1e-4
        np.testing.assert_allclose(trained[name], expected[name], rtol=1e-11)


def test_optax_bias_correction_is_wrong_when_decays_move():
    """Why this module is there: a constant gradient has to give a mean of itself."""
    grads = {"w": jnp.full(3, 2.0)}
    for scale_by_adam, equal in (
        (adam.scale_by_adam, True),
        (optax.scale_by_adam, False),
    ):
        state = scale_by_adam().init(grads)
        for b1 in (0.9, 0.5):
            update, state = scale_by_adam(b1=b1, b2=0.5, eps=0.0).update(grads, state)
        assert np.allclose(update["w"], 1.0, rtol=1e-6) == equal
