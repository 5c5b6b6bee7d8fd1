"""λ is moved by any transformation of optax, Adam's by default."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from t5x import adafactor

from gbt_t5x import optimizers
from gbt_t5x.studies import runs
import gin_runs
import tiny

NAMES = ("alpha", "beta1")
RATES = {"alpha": 0.25, "beta1": 0.125}
PARAMS = {"a": {"kernel": np.ones((2, 3), np.float32)}, "b": np.ones(3, np.float32)}
GROUPS = [("a", "a/.*"), ("rest", ".*")]
TRANSFORMATIONS = {
    "gradient_descent": optax.identity(),
    "momentum": optax.trace(0.5),
    "lion": optax.scale_by_lion(),
    "decayed": optax.chain(
        optax.clip(1.0), optax.scale_by_adam(), optax.add_decayed_weights(0.5)
    ),
    "scheduled": optax.chain(
        optax.scale_by_adam(), optax.scale_by_schedule(lambda step: 1 / (1 + step))
    ),
    "noisy": optax.add_noise(eta=0.01, gamma=0.5, key=0),
}


def guided(transformation, **settings):
    base = adafactor.Adafactor(beta1=0.5, min_dim_size_to_factor=8)
    return optimizers.GuidedOptimizer(
        base, NAMES, RATES, meta_optimizer=transformation, **settings
    )


def hypergradients(shape=()):
    rng = np.random.default_rng(0)
    for _ in range(3):  # odd: by Lion λ is not where it was
        yield {name: rng.normal(size=shape).astype(np.float32) for name in NAMES}


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["one", "groups"])
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_lambda_moves_against_the_direction_by_the_meta_learning_rate(name, groups):
    transformation = TRANSFORMATIONS[name]
    definition = guided(transformation, groups=groups)
    state = definition.init_state(PARAMS)
    raw = state.hyperparams
    own = transformation.init(raw)
    for gradient in hypergradients((2,) if groups else ()):
        state, skipped = definition.apply_hypergradient(state, gradient)
        assert not skipped
        direction, own = transformation.update(gradient, own, raw)
        raw = {k: x - RATES[k] * direction[k] for k, x in raw.items()}
    for k, x in raw.items():
        np.testing.assert_allclose(state.hyperparams[k], x, rtol=1e-6)
        assert np.all(x != definition.init_state(PARAMS).hyperparams[k])


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_checkpoint_goes_on_as_if_it_had_not_been_saved(name, tmp_path):
    definition = guided(TRANSFORMATIONS[name])
    first, *others = hypergradients()
    optimizer = definition.create(PARAMS)
    state, _ = definition.apply_hypergradient(optimizer.state, first)
    saved = optimizer.replace(state=state).state_dict()
    assert saved["state"]["meta_state"], "T5X loses what has no array"
    restored = definition.create(PARAMS).restore_state(saved).state
    for gradient in others:
        state, _ = definition.apply_hypergradient(state, gradient)
        restored, _ = definition.apply_hypergradient(restored, gradient)
    jax.tree.map(np.testing.assert_array_equal, state, restored)


def test_what_is_no_information_is_not_counted():
    definition = guided(optax.trace(0.5))
    state = definition.init_state(PARAMS)
    nothing = dict.fromkeys(NAMES, jnp.zeros(()))
    after, skipped = definition.apply_hypergradient(state, nothing)
    assert not skipped
    jax.tree.map(np.testing.assert_array_equal, state, after)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "transformation",
    [
        optax.trace(0.5),
        # Of these the direction is finite, or λ at its bound is.
        optax.identity(),
        optax.scale_by_sign(),
        optax.chain(optax.clip(1.0), optax.scale_by_adam()),
        optax.chain(optax.zero_nans(), optax.scale_by_adam()),
    ],
)
def test_a_hypergradient_that_is_not_finite_moves_nothing(transformation, wrong):
    definition = guided(transformation)
    state = definition.init_state(PARAMS)
    gradient = {"alpha": jnp.float32(wrong), "beta1": jnp.float32(1.0)}
    after, skipped = definition.apply_hypergradient(state, gradient)
    assert skipped
    jax.tree.map(np.testing.assert_array_equal, state, after)


def test_it_is_trained_with():
    definition = guided(optax.scale_by_lion())
    with tiny.make_trainer(definition) as trainer:
        state = tiny.train(trainer, 3)[0]._optimizer.state
    # Lion moves by the sign: each of the updates by η̂.
    for name, rate in RATES.items():
        moved = state.hyperparams[name] - definition.init_state(PARAMS).hyperparams[name]
        assert float(moved) / rate == pytest.approx(round(float(moved) / rate), abs=1e-5)
        assert abs(round(float(moved) / rate)) in (1, 3)
    assert list(state.meta_state) == ["count", "mu"]


@pytest.mark.parametrize(
    ("transformation", "message"),
    [
        (optax.scale_by_adam, "must be an optax transformation"),
        (0.1, "=0.1: must be an optax transformation"),
        (optax.adam(1e-2), "its updates descend"),
        (optax.contrib.momo(), "cannot update λ with its hypergradient alone .TypeError"),
        (
            optax.GradientTransformation(lambda raw: {}, lambda g, s, p: (g["alpha"], s)),
            "of λ, .* it makes",
        ),
    ],
)
def test_what_cannot_move_lambda_is_an_error(transformation, message):
    with pytest.raises(ValueError, match=f"{message}.*set META_OPTIMIZER"):
        guided(transformation)


def decayed():
    """For gin, whose references have no positional arguments."""
    return TRANSFORMATIONS["decayed"]


def test_how_a_run_is_guided_may_change_when_it_is_restarted(tmp_path):
    train = functools.partial(
        gin_runs.train, "gin/quickstart_guided.gin", tmp_path, gin_runs.TINY_NETWORK
    )
    _, state = train("TRAIN_STEPS = 2")
    saved = jax.device_get(state._optimizer.state.hyperparams)
    _, state = train(
        "TRAIN_STEPS = 6",
        "META_LEARNING_RATE = {'alpha': 0.0, 'beta1': 1e-2}",
        "GUIDANCE_PERIOD = 2",
        "GUIDANCE_BATCHES = 2",
    )
    after = jax.device_get(state._optimizer.state)
    assert after.meta_state["count"] == 2 + 2
    assert after.hyperparams["alpha"] == saved["alpha"]
    curves = runs.read_curves(tmp_path / "train", "hyperparams/.*")
    assert len({curves["hyperparams/alpha"][step] for step in (3, 4, 5, 6)}) == 1
    beta1 = [curves["hyperparams/beta1"][step] for step in (3, 4, 5, 6)]
    assert beta1[0] == beta1[1] != beta1[2] == beta1[3]


def test_a_run_goes_on_exactly_from_its_checkpoint(tmp_path):
    gin_file = tmp_path / "own.gin"
    gin_file.write_text(
        "from __gin__ import dynamic_registration\n"
        "import test_meta_optimizer\n"
        "include 'gin/quickstart_guided.gin'\n"
        f"{gin_runs.TINY_NETWORK}\n"
        "META_OPTIMIZER = @test_meta_optimizer.decayed()\n"
    )

    def train(folder, steps):
        _, state = gin_runs.train(
            str(gin_file), tmp_path / folder, f"TRAIN_STEPS = {steps}", "EVAL_PERIOD = 1"
        )
        return jax.device_get(state._optimizer.state)

    whole = train("whole", 4)
    train("in_two", 2)
    resumed = train("in_two", 4)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    assert whole.meta_state["1"]["count"] == 4
    assert np.all(whole.meta_state["1"]["mu"]["alpha"] != 0)
    with pytest.raises(ValueError, match="meta_state"):  # by Adam
        gin_runs.train(
            "gin/quickstart_guided.gin", tmp_path / "in_two", gin_runs.TINY_NETWORK
        )
