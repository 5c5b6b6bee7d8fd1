"""The hypergradient against a closed form, finite differences and NumPy, in float64."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from t5x import adafactor, models, partitioning
from t5x import train_state as train_state_lib
from t5x.examples.t5 import network

from gbt_t5x import guidance, hypergradient, hyperparams, optimizers, trainer

LEARNING_RATE = 0.05


@pytest.fixture
def float64(monkeypatch):
    """Computes in 64 bits what T5X writes as jnp.float32: norms, embeddings, Adafactor."""
    monkeypatch.setattr(jnp, "float32", jnp.float64)
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
            return theta - new_momentum, new_momentum

        step = hypergradient.guided_update(
            update, jax.tree.map(jnp.float64, raw), lambda x: (k @ (x - b), "aux")
        )

    alpha, beta1 = np.exp(raw["alpha"]), _sigmoid(raw["beta1"])
    descent = alpha * LEARNING_RATE * grad
    new_momentum = beta1 * momentum + (1 - beta1) * descent
    error = k @ (theta - new_momentum - b)
    # Two orders of 30 float64 operations.
    np.testing.assert_allclose(step.params, theta - new_momentum, rtol=1e-12)
    np.testing.assert_allclose(step.update_aux, new_momentum, rtol=1e-12)
    assert step.guidance_aux == "aux"
    np.testing.assert_allclose(
        step.hypergradient["alpha"], -error @ ((1 - beta1) * descent), rtol=1e-12
    )
    np.testing.assert_allclose(
        step.hypergradient["beta1"],
        -error @ (momentum - descent) * beta1 * (1 - beta1),
        rtol=1e-12,
    )


def _tiny_t5(optimizer_def, dropout_rate):
    config = network.T5Config(
        vocab_size=32,
        dtype=jnp.float64,
        emb_dim=8,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        head_dim=4,
        mlp_dim=16,
        mlp_activations=("gelu", "linear"),
        dropout_rate=dropout_rate,
        logits_via_embedding=True,
    )
    vocabulary = seqio.PassThroughVocabulary(32)
    return models.EncoderDecoderModel(
        network.Transformer(config), vocabulary, vocabulary, optimizer_def, z_loss=1e-4
    )


def _batch(seed):
    rng = np.random.default_rng(seed)
    inputs, targets = rng.integers(1, 32, size=(2, 4, 6))
    targets[0, 4:] = 0  # padding
    return {
        "encoder_input_tokens": jnp.asarray(inputs),
        "decoder_input_tokens": jnp.asarray(np.pad(targets, ((0, 0), (1, 0)))[:, :-1]),
        "decoder_target_tokens": jnp.asarray(targets),
        "decoder_loss_weights": jnp.asarray(targets > 0, jnp.float64),
    }


# Microbatches draw dropout masks of their own, so they are compared without dropout.
@pytest.mark.parametrize(
    ("num_microbatches", "dropout_rate"), [(None, 0.1), (2, 0.0)], ids=["whole", "micro"]
)
def test_hypergradient_matches_finite_differences(
    float64, monkeypatch, num_microbatches, dropout_rate
):
    base = adafactor.Adafactor(beta1=0.9, decay_rate=0.8, min_dim_size_to_factor=4)
    model = _tiny_t5(
        optimizers.GuidedOptimizer(base, ["alpha", "beta1"], meta_learning_rate=0.1),
        dropout_rate,
    )
    shapes = {"encoder_input_tokens": (4, 6), "decoder_input_tokens": (4, 6)}
    train_state = train_state_lib.FlaxOptimTrainState.create(
        model.optimizer_def,
        jax.jit(lambda rng: model.get_initial_variables(rng, shapes))(
            jax.random.PRNGKey(0)
        ),
    )
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    guidance_batch = _batch(0)
    monkeypatch.setattr(guidance, "load_guidance_batch", lambda *_: guidance_batch)
    guided_trainer = trainer.GuidedTrainer(
        model=model,
        train_state=train_state,
        partitioner=partitioner,
        eval_names=[],
        summary_dir=None,
        train_state_axes=partitioner.get_mesh_axes(train_state),
        rng=jax.random.PRNGKey(1),
        learning_rate_fn=lambda step: LEARNING_RATE,
        num_microbatches=num_microbatches,
        guidance_dataset_cfg=types.SimpleNamespace(batch_size=4),
        train_dataset_cfg=None,
    )

    guided_trainer.compile_train(_batch(0))

    def train_step(train_state, batch):
        donated = jax.tree.map(jnp.copy, train_state)
        batches = guided_trainer._with_guidance(batch)
        return guided_trainer._compiled_train_step(donated, batches)

    # Three steps, so that momentum has a direction of its own.
    for seed in (1, 2, 3):
        train_state, _ = train_step(train_state, _batch(seed))
    optimizer = train_state._optimizer
    batch = _batch(4)
    new_state, metrics = train_step(train_state, batch)

    dropout_rng = guided_trainer._get_step_rng(train_state.step)
    grads, _ = jax.jit(jax.grad(model.loss_fn, has_aux=True))(
        train_state.params, batch, dropout_rng
    )

    @jax.jit
    def guidance_loss(raw):
        state = optimizer.state.replace(hyperparams=raw)
        new = optimizer.replace(state=state).apply_gradient(
            grads, learning_rate=LEARNING_RATE
        )
        return model.loss_fn(new.target, guidance_batch, None)[0], new.target

    raw = optimizer.state.hyperparams
    _, new_params = guidance_loss(raw)
    everything = (train_state.params, grads, raw, new_params, new_state.params)
    assert {x.dtype for x in jax.tree.leaves(everything)} == {jnp.dtype("float64")}
    # Sums in another order: float64 roundoff, of the gradient of 20 tokens.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-12),
        new_params,
        new_state.params,
    )
    eps = 1e-4
    for name in raw:
        above, below = (
            float(guidance_loss({**raw, name: raw[name] + shift})[0])
            for shift in (eps, -eps)
        )
        actual = metrics[f"hypergradient/{name}"].value
        assert actual.dtype == jnp.float64
        # A loss near 100: roundoff 1e-14 · 100 / eps; truncation of the order of eps².
        np.testing.assert_allclose(actual, (above - below) / (2 * eps), rtol=1e-6)


def _numpy_adafactor(theta, state, grad, t, rate, beta1, factored):
    """One step by Shazeer and Stern's Algorithms 4 and 5, with T5X's momentum.

    Args:
        theta: parameter, of one or two axes.
        state: dictionary of the moments v (or row, column) and m; changed.
        grad: its gradient.
        t: 1 at the first step.
        rate: the learning rate, α included.
        beta1: momentum, 0 for none.
        factored: whether matrices of at least 4 by 4 keep row and column means.

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
    u /= max(1.0, np.sqrt(np.mean(u**2)))
    descent = rate * max(1e-3, np.sqrt(np.mean(theta**2))) * u
    old_m = state.get("m", 0.0)
    state["m"] = beta1 * old_m + (1 - beta1) * descent
    d_alpha = -(1 - beta1) * descent
    d_beta1 = -(old_m - descent) * beta1 * (1 - beta1)
    return theta - state["m"], {"alpha": d_alpha, "beta1": d_beta1}


@pytest.mark.parametrize("factored", [True, False], ids=["factored", "full"])
@pytest.mark.parametrize(
    ("names", "base_beta1"),
    [(["alpha"], None), (["alpha"], 0.9), (["beta1"], 0.9), (["alpha", "beta1"], 0.9)],
    ids=["alpha_without_momentum", "alpha", "beta1", "both"],
)
def test_update_and_hypergradient_match_a_numpy_adafactor(
    float64, names, base_beta1, factored
):
    rng = np.random.default_rng(0)
    # The last is smaller than the least parameter scale, 1e-3.
    sizes = {"wide": (4, 6), "tall": (6, 4), "flat": (2, 8), "scale": (5,), "small": (5,)}
    theta = {name: rng.normal(size=shape) for name, shape in sizes.items()}
    theta["small"] *= 1e-4
    moments = {name: {} for name in sizes}
    base = adafactor.Adafactor(
        beta1=base_beta1, factored=factored, min_dim_size_to_factor=4
    )
    optimizer = optimizers.GuidedOptimizer(base, names, meta_learning_rate=0.1).create(
        jax.tree.map(jnp.asarray, theta)
    )
    # Gradients that grow are clipped; those that shrink are not.
    for t, grad_size in enumerate([1.0, 3.0, 0.3, 2.0], start=1):
        grads = {k: grad_size * rng.normal(size=x.shape) for k, x in theta.items()}
        weights = {k: rng.normal(size=x.shape) for k, x in theta.items()}
        raw = {name: rng.normal() for name in names}

        def update(raw, optimizer=optimizer, grads=grads):
            state = optimizer.state.replace(hyperparams=raw)
            new = optimizer.replace(state=state).apply_gradient(
                jax.tree.map(jnp.asarray, grads), learning_rate=LEARNING_RATE
            )
            return new.target, new

        step = hypergradient.guided_update(
            update,
            jax.tree.map(jnp.float64, raw),
            # L_H = Σ weights·θ', whose gradient is the weights.
            lambda _, weights=weights: (jax.tree.map(jnp.asarray, weights), None),
        )
        optimizer = step.update_aux

        rate = LEARNING_RATE * np.exp(raw.get("alpha", 0.0))
        beta1 = _sigmoid(raw["beta1"]) if "beta1" in raw else base_beta1 or 0.0
        expected = dict.fromkeys(names, 0.0)
        for k, x in theta.items():
            theta[k], derivatives = _numpy_adafactor(
                x, moments[k], grads[k], t, rate, beta1, factored
            )
            for name in names:
                expected[name] += np.sum(weights[k] * derivatives[name])
        # T5X keeps momentum, of 0.1, in float32 between the steps.
        for k in theta:
            assert step.params[k].dtype == jnp.float64
            np.testing.assert_allclose(step.params[k], theta[k], atol=1e-7)
        for name in names:
            assert step.hypergradient[name].dtype == jnp.float64
            np.testing.assert_allclose(
                step.hypergradient[name], expected[name], rtol=1e-6
            )


@pytest.mark.parametrize("grad_size", [0.0, 1.0])
@pytest.mark.parametrize("param_size", [0.0, 1.0])
@pytest.mark.parametrize("factored", [True, False], ids=["factored", "full"])
def test_hypergradient_is_finite_at_zero(grad_size, param_size, factored):
    base = adafactor.Adafactor(beta1=0.9, factored=factored, min_dim_size_to_factor=4)
    params = {"kernel": jnp.full((4, 6), param_size), "scale": jnp.full((6,), param_size)}
    optimizer = optimizers.GuidedOptimizer(base, ["alpha", "beta1"], 0.1).create(params)
    grads = jax.tree.map(lambda x: jnp.full_like(x, grad_size), params)

    def update(raw):
        state = optimizer.state.replace(hyperparams=raw)
        new = optimizer.replace(state=state).apply_gradient(grads, learning_rate=0.01)
        return new.target, None

    ones = jax.tree.map(jnp.ones_like, params)
    step = hypergradient.guided_update(
        update, optimizer.state.hyperparams, lambda _: (ones, None)
    )
    for value in step.hypergradient.values():
        assert np.isfinite(value)
        assert (value == 0.0) == (grad_size == 0.0)
