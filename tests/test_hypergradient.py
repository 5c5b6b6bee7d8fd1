"""The hypergradient against a closed form, finite differences and NumPy, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from t5x import adafactor
from t5x.examples.t5 import network

from gbt_t5x import hypergradient, hyperparams, optimizers
import tiny

LEARNING_RATE = 0.05


@pytest.fixture
def float64(monkeypatch):
    """Computes in 64 bits what T5X writes as jnp.float32: norms, embeddings, Adafactor.

    T5Config read its default when it was imported.
    """
    monkeypatch.setattr(jnp, "float32", jnp.float64)
    config = functools.partial(network.T5Config, dtype=jnp.float64)
    monkeypatch.setattr(network, "T5Config", config)
    with jax.enable_x64(True):
        yield


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_hypergradient_matches_a_closed_form_on_a_quadratic():
    """L = ½(θ - a)ᵀH(θ - a), guidance ½(θ - b)ᵀK(θ - b), gradient descent with momentum.

    m' = β1·m + (1 - β1)·α·lr·g and θ' = θ - m', so that with e = ∇L_H(θ') = K(θ' - b)

        dL_H/d raw α  = -eᵀ(1 - β1)·lr·g · α
        dL_H/d raw β1 = -eᵀ(m - α·lr·g) · β1(1 - β1)
    """
    rng = np.random.default_rng(0)
    theta, momentum, a, b = rng.normal(size=(4, 5))
    h, k = (x @ x.T for x in rng.normal(size=(2, 5, 5)))
    grad = h @ (theta - a)
    raw = {"alpha": 0.7, "beta1": 1.3}

    with jax.enable_x64(True):

        def update(raw):
            values = hyperparams.values(raw)
            step = values["alpha"] * LEARNING_RATE * grad
            new_momentum = values["beta1"] * momentum + (1 - values["beta1"]) * step
            return theta - new_momentum

        raw_arrays = jax.tree.map(jnp.float64, raw)
        new_theta = update(raw_arrays)
        sensitivities = {
            name: np.asarray(
                hypergradient.sensitivity(lambda x, _: update(x), raw_arrays, name)
            )
            for name in raw
        }

    alpha, beta1 = np.exp(raw["alpha"]), _sigmoid(raw["beta1"])
    descent = alpha * LEARNING_RATE * grad
    new_momentum = beta1 * momentum + (1 - beta1) * descent
    error = k @ (theta - new_momentum - b)
    # Two orders of 30 float64 operations.
    np.testing.assert_allclose(new_theta, theta - new_momentum, rtol=1e-12)
    np.testing.assert_allclose(
        error @ sensitivities["alpha"], -error @ ((1 - beta1) * descent), rtol=1e-12
    )
    np.testing.assert_allclose(
        error @ sensitivities["beta1"],
        -error @ (momentum - descent) * beta1 * (1 - beta1),
        rtol=1e-12,
    )


def test_hypergradient_matches_finite_differences(float64):
    definition = tiny.guided(beta1=0.9, meta_learning_rate=0.1)
    with tiny.make_t5_trainer(
        definition, dropout_rate=0.1, learning_rate=LEARNING_RATE
    ) as trainer:
        data = tiny.batches(trainer)
        batch = next(data)
        trainer.compile_train(batch)
        state = trainer.train_state
        # Three steps, so that momentum has a direction of its own.
        for _ in range(4):
            before, batch = jax.tree.map(jnp.copy, state), next(data)
            state, metrics = trainer._compiled_train_step(
                state, trainer._inputs(batch, 0)
            )
    optimizer, model = before._optimizer, trainer._model
    grads, _ = jax.jit(jax.grad(model.loss_fn, has_aux=True))(
        before.params, batch, trainer._get_step_rng(before.step)
    )

    @jax.jit
    def guidance_loss(raw):
        state = optimizer.state.replace(hyperparams=raw)
        new = optimizer.replace(state=state).apply_gradient(
            grads, learning_rate=LEARNING_RATE
        )
        return model.loss_fn(new.target, trainer._guidance_batches[0], None)[
            0
        ], new.target

    raw = optimizer.state.hyperparams
    _, params = guidance_loss(raw)
    arrays = jax.tree.leaves((before.params, grads, raw, params, state.params))
    assert {x.dtype for x in arrays} == {np.dtype("float64")}
    # The same sums in another order, in float64.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-10), params, state.params
    )
    eps = 1e-4
    for name in raw:
        above, below = (
            guidance_loss({**raw, name: raw[name] + shift})[0] for shift in (eps, -eps)
        )
        # Of a loss near 600, roundoff is 1e-13 / eps; truncation is of the order eps².
        np.testing.assert_allclose(
            metrics[f"hypergradient/{name}"].compute(),
            (above - below) / (2 * eps),
            rtol=1e-6,
        )


def _numpy_adafactor(
    theta, state, grad, t, rate, beta1, factored, scaled=True, clipping=1.0
):
    """One step by Shazeer and Stern's Algorithms 4 and 5, with T5X's momentum.

    Args:
        theta: parameter, of one or two axes.
        state: dictionary of the moments v (or row, column) and m; changed.
        grad: its gradient.
        t: 1 at the first step.
        rate: the learning rate, α included.
        beta1: momentum, 0 for none.
        factored: whether matrices of at least 4 by 4 keep row and column means.
        scaled: whether the rate is of parameters whose root mean square is 1.
        clipping: largest root mean square of an update before the rate.

    Returns:
        θ', and its derivatives with respect to raw α and raw β1.
    """
    decay = 1 - t**-0.8

    def average(name, new):
        state[name] = decay * state.get(name, 0.0) + (1 - decay) * new
        return state[name]

    square = grad**2 + 1e-30
    if factored and theta.ndim == 2 and min(theta.shape) >= 4:
        row, column = average("row", square.mean(1)), average("column", square.mean(0))
        v = np.outer(row, column) / row.mean()
    else:
        v = average("v", square)
    u = grad / np.sqrt(v)
    u /= max(1.0, np.sqrt(np.mean(u**2)) / clipping)
    descent = rate * (max(1e-3, np.sqrt(np.mean(theta**2))) if scaled else 1.0) * u
    old_m = state.get("m", 0.0)
    state["m"] = beta1 * old_m + (1 - beta1) * descent
    d_alpha = -(1 - beta1) * descent
    d_beta1 = -(old_m - descent) * beta1 * (1 - beta1)
    return theta - state["m"], {"alpha": d_alpha, "beta1": d_beta1}


@pytest.mark.parametrize("factored", [True, False], ids=["factored", "full"])
@pytest.mark.parametrize(
    ("names", "base_beta1", "changes"),
    [
        (["alpha"], None, {}),
        (["alpha"], 0.9, {}),
        (["beta1"], 0.9, {}),
        (["alpha", "beta1"], 0.9, {}),
        (["alpha", "beta1"], 0.9, {"multiply_by_parameter_scale": False}),
        (["alpha", "beta1"], 0.9, {"clipping_threshold": None}),
        (["alpha", "beta1"], 0.9, {"clipping_threshold": 0.5}),
    ],
    ids=[
        *("alpha_without_momentum", "alpha", "beta1", "both"),
        *("unscaled", "unclipped", "clipped_more"),
    ],
)
def test_update_and_hypergradient_match_a_numpy_adafactor(
    float64, names, base_beta1, changes, factored
):
    rng = np.random.default_rng(0)
    # The last is smaller than the least parameter scale, 1e-3.
    sizes = {"wide": (4, 6), "tall": (6, 4), "flat": (2, 8), "scale": (5,), "small": (5,)}
    theta = {name: rng.normal(size=shape) for name, shape in sizes.items()}
    theta["small"] *= 1e-4
    moments = {name: {} for name in sizes}
    base = adafactor.Adafactor(
        beta1=base_beta1, factored=factored, min_dim_size_to_factor=4, **changes
    )
    scaled = changes.get("multiply_by_parameter_scale", True)
    clipping = changes.get("clipping_threshold", 1.0) or np.inf
    definition = optimizers.GuidedOptimizer(
        base, names, 0.1, discount=0.0, sensitivity_dtype="float32"
    )
    optimizer = definition.create(jax.tree.map(jnp.asarray, theta))
    # Gradients that grow are clipped; those that shrink are not.
    for t, grad_size in enumerate([1.0, 3.0, 0.3, 2.0], start=1):
        grads = {k: grad_size * rng.normal(size=x.shape) for k, x in theta.items()}
        weights = {k: rng.normal(size=x.shape) for k, x in theta.items()}
        raw = {name: rng.normal() for name in names}

        state = optimizer.state.replace(hyperparams=jax.tree.map(jnp.float64, raw))
        optimizer = optimizer.replace(state=state).apply_gradient(
            jax.tree.map(jnp.asarray, grads), learning_rate=LEARNING_RATE
        )
        # L_H = Σ weights·θ', whose gradient is the weights.
        found = definition.hypergradient(
            optimizer.target, optimizer.state, jax.tree.map(jnp.asarray, weights)
        )

        rate = LEARNING_RATE * np.exp(raw.get("alpha", 0.0))
        beta1 = _sigmoid(raw["beta1"]) if "beta1" in raw else base_beta1 or 0.0
        expected = dict.fromkeys(names, 0.0)
        for k, x in theta.items():
            theta[k], derivatives = _numpy_adafactor(
                x, moments[k], grads[k], t, rate, beta1, factored, scaled, clipping
            )
            for name in names:
                expected[name] += np.sum(weights[k] * derivatives[name])
        # T5X keeps momentum, a tenth of a parameter, in float32 between the steps.
        for k, x in theta.items():
            new = optimizer.target[k]
            assert new.dtype == np.float64
            np.testing.assert_allclose(new, x, atol=1e-7 * np.abs(x).max())
        for name in names:
            assert found[name].dtype == np.float64
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def _hypergradient(optimizer, grads, weights, raw):
    """∇_λ of L_H = Σ weights·θ', and L_H as a function of λ."""

    definition, params = optimizer.optimizer_def, optimizer.target

    def update(raw):
        state = optimizer.state.replace(hyperparams=raw)
        state = definition.with_sensitivity(state, params)
        return optimizer.replace(state=state).apply_gradient(
            grads, learning_rate=LEARNING_RATE
        )

    def guidance_loss(raw):
        products = jax.tree.map(lambda w, x: jnp.sum(w * x), weights, update(raw).target)
        return sum(jax.tree.leaves(products))

    new = update(raw)
    found = definition.hypergradient(new.target, new.state, weights)
    return found, guidance_loss


@pytest.mark.parametrize("grad_size", [0.0, 1.0])
@pytest.mark.parametrize("param_size", [0.0, 1.0])
@pytest.mark.parametrize("factored", [True, False], ids=["factored", "full"])
def test_hypergradient_is_finite_at_zero(grad_size, param_size, factored):
    base = adafactor.Adafactor(beta1=0.9, factored=factored, min_dim_size_to_factor=4)
    params = {"kernel": jnp.full((4, 6), param_size), "scale": jnp.full((6,), param_size)}
    optimizer = optimizers.GuidedOptimizer(base, ["alpha", "beta1"], 0.1).create(params)
    grads = jax.tree.map(lambda x: jnp.full_like(x, grad_size), params)
    ones = jax.tree.map(jnp.ones_like, params)
    found, _ = _hypergradient(optimizer, grads, ones, optimizer.state.hyperparams)
    assert found.keys() == {"alpha", "beta1"}
    for value in found.values():
        assert np.isfinite(value)
        assert (value == 0.0) == (grad_size == 0.0)


@pytest.mark.parametrize("base", tiny.BASES)
def test_every_hyperparam_matches_finite_differences(float64, base):
    make_base, names = tiny.BASES[base]
    rng = np.random.default_rng(0)
    sizes = {"wide": (4, 6), "flat": (2, 8), "scale": (5,)}

    def tree(size=1.0):
        return {k: jnp.asarray(size * rng.normal(size=s)) for k, s in sizes.items()}

    optimizer = optimizers.GuidedOptimizer(make_base(), names, 0.1).create(tree())
    raw = optimizer.state.hyperparams
    for grad_size in (1.0, 0.3, 3.0):  # Adafactor clips what grows
        grads = tree(grad_size)
        before, weights = optimizer, tree()
        optimizer = optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE)
    found, guidance_loss = _hypergradient(before, grads, weights, raw)
    assert found.keys() == set(names)
    eps = 1e-5
    for name in names:
        above, below = (
            guidance_loss({**raw, name: raw[name] + shift}) for shift in (eps, -eps)
        )
        difference = (above - below) / (2 * eps)
        assert found[name].dtype == np.float64
        # Of a loss near 5, roundoff is 1e-15 / eps. ε of Adafactor is far below g².
        assert abs(difference) > 1e-5 or (name == "epsilon" and "adafactor" in base)
        np.testing.assert_allclose(found[name], difference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("grad_size", [0.0, 1e-15, 1.0])
@pytest.mark.parametrize("param_size", [0.0, 1.0])
@pytest.mark.parametrize("base", tiny.BASES)
def test_every_hypergradient_is_finite_at_zero(base, param_size, grad_size):
    make_base, names = tiny.BASES[base]
    params = {"kernel": jnp.full((4, 6), param_size), "scale": jnp.full((6,), param_size)}
    optimizer = optimizers.GuidedOptimizer(make_base(), names, 0.1).create(params)
    grads = jax.tree.map(lambda x: jnp.full_like(x, grad_size), params)
    weights = jax.tree.map(jnp.ones_like, params)
    for _ in range(2):
        found, _ = _hypergradient(optimizer, grads, weights, optimizer.state.hyperparams)
        assert all(np.isfinite(value) for value in found.values()), found
        optimizer = optimizer.apply_gradient(grads, learning_rate=0.01)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(optimizer.target))
    if grad_size == 1.0:
        assert found["alpha"] != 0.0
