"""Optimizers of optax in a T5X run, and schedule-free evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib as optax_contrib
import pytest
from t5x import adafactor as t5x_adafactor, trainer as t5x_trainer
from t5x.examples.t5 import network

from gbt_t5x import contrib
from gbt_t5x.optax_optimizer import OptaxOptimizer
from gbt_t5x.optimizers import GuidedOptimizer
import gin_runs
import tiny

TASK = "some_task"


def schedule_free():
    return OptaxOptimizer(optax_contrib.schedule_free_adamw, b1=0.75)


def evaluated(instance):
    """The development loss of two batches."""
    data = tiny.batches(instance)
    found = instance.eval({TASK: [next(data), next(data)]})
    return float(found[TASK]["loss"].value)


def test_schedule_free_is_evaluated_at_the_average():
    """With one learning rate x is the mean of all z, by the method's definition."""
    steps, z = 4, []
    settings = {"eval_names": [TASK], "learning_rate": 0.1}
    with tiny.make_trainer(
        schedule_free(), contrib.ScheduleFreeTrainer, **settings
    ) as instance:
        data = tiny.batches(instance)
        for _ in range(steps):
            instance.train(data, 1).result()
            z.append(jax.device_get(instance.train_state.param_states["z"]))
        found = evaluated(instance)
        trained = jax.device_get(instance.train_state.params)
        instance.compile_eval({TASK: next(tiny.batches(instance))})
        assert evaluated(instance) == pytest.approx(found, rel=1e-6)
        after = jax.device_get(instance.train_state.params)
        assert all(map(np.array_equal, *map(jax.tree.leaves, (trained, after))))
    average = jax.tree.map(lambda *values: np.mean(values, axis=0), *z)
    with tiny.make_trainer(schedule_free(), t5x_trainer.Trainer, **settings) as instance:
        losses = []
        for params in (average, trained):
            instance.train_state = instance.train_state.replace_params(
                jax.tree.map(
                    lambda x, like: jax.device_put(x, like.sharding),
                    jax.tree.unflatten(
                        jax.tree.structure(trained), jax.tree.leaves(params)
                    ),
                    instance.train_state.params,
                )
            )
            losses.append(evaluated(instance))
    assert found == pytest.approx(losses[0], rel=1e-5)
    assert abs(losses[0] - losses[1]) > 1e-3 * losses[0], "the two differ enough to tell"


@pytest.mark.parametrize("other", [OptaxOptimizer(optax.adamw), tiny.guided()])
def test_other_optimizers_have_no_average(other):
    with pytest.raises(TypeError, match="needs an OptaxOptimizer of a schedule-free"):
        with tiny.make_trainer(other, contrib.ScheduleFreeTrainer):
            pass


def test_without_interpolation_there_is_no_average():
    optimizer = OptaxOptimizer(optax_contrib.schedule_free_adamw, b1=0.0)
    with pytest.raises(ValueError, match="OptaxOptimizer.b1=0: .* set it above 0"):
        with tiny.make_trainer(optimizer, contrib.ScheduleFreeTrainer):
            pass


def test_a_schedule_free_run_trains_and_evaluates(tmp_path):
    step, state = gin_runs.train(
        "gin/quickstart_baseline.gin",
        tmp_path,
        "include 'gbt_t5x/gin/rivals/losses.gin'",
        "include 'gbt_t5x/gin/rivals/schedule_free_adamw.gin'",
        "PEAK_RATE = 0.01",
        "WARMUP_STEPS = 1",
    )
    assert step == int(state.step) == 2


def test_embeddings_and_the_output_layer_are_left_to_adam():
    with tiny.make_trainer(
        OptaxOptimizer(contrib.muon),
        t5x_trainer.Trainer,
        network_cls=network.Transformer,
    ) as instance:
        states = instance.train_state.param_states["inner_states"]
        shapes = {
            name: {
                "/".join(str(getattr(key, "key", key)) for key in path)
                for path, _ in jax.tree_util.tree_flatten_with_path(states[name])[0]
                if "mu" in "/".join(map(str, path))
            }
            for name in ("muon", "adam")
        }
    assert all(path.endswith("kernel") for path in shapes["muon"])
    ends = {path.rpartition("/")[2] for path in shapes["adam"]}
    assert ends == {"embedding", "rel_embedding", "scale"}
    kernel = {"kernel": np.ones((2, 3))}
    layers = contrib._hidden_matrices({"logits_dense": kernel, "wi": kernel})
    assert layers["logits_dense"]["kernel"] is None and layers["wi"]["kernel"] is not None


def test_prodigy_is_that_of_optax():
    params = {"w": np.array([1.0, -2.0], np.float32)}
    updates = []
    for optimizer in (
        optax_contrib.prodigy(0.5, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1),
        contrib.prodigy(0.5, b1=0.8, b2=0.9, eps=1e-6, weight_decay=0.1),
    ):
        state = optimizer.init(params)
        for _ in range(3):
            update, state = optimizer.update(params, state, params)
        updates.append(update["w"])
    assert np.array_equal(*updates) and np.any(updates[0])


def test_muon_is_that_of_optax_and_adamw_of_the_embeddings():
    rng = np.random.default_rng(0)
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)
    params = {"embedding": draw((4, 6)), "kernel": draw((6, 8))}
    settings = {"eps": 1e-3, "weight_decay": 0.05}
    expected = {
        "embedding": optax.adamw(0.1, b1=0.7, b2=0.95, nesterov=True, **settings),
        "kernel": optax_contrib.muon(0.1, beta=0.8, consistent_rms=0.2, **settings),
    }
    optimizer = contrib.muon(0.1, beta=0.8, b1=0.7, b2=0.95, **settings)
    state = optimizer.init(params)
    states = {name: one.init(params[name]) for name, one in expected.items()}
    for _ in range(3):
        grads = jax.tree.map(lambda x: draw(x.shape), params)
        updates, state = optimizer.update(grads, state, params)
        for name, one in expected.items():
            update, states[name] = one.update(grads[name], states[name], params[name])
            np.testing.assert_allclose(updates[name], update, rtol=1e-5, atol=1e-7)


def test_prodigy_warms_up_from_0():
    """Of which optax's is NaN."""
    params = {"w": np.array([1.0, -2.0], np.float32)}
    state = contrib.prodigy(0.0).init(params)
    moved = []
    for rate in (0.0, 0.5, 1.0):
        update, state = contrib.prodigy(rate).update(params, state, params)
        moved.append(np.max(np.abs(update["w"])))
    assert 0 < moved[0] < 1e-12 and 1e-8 < moved[1] < moved[2] < 1e-4


def adafactors(rates):
    """T5X's Adafactor, and ours with the rate inside and outside of the momentum."""
    rng = np.random.default_rng(0)
    params = {
        "dense": {"kernel": rng.normal(size=(256, 192)).astype(np.float32)},
        "zero": {"kernel": np.zeros((3, 4), np.float32)},
        "norm": {"scale": np.ones(7, np.float32)},
    }
    found = []
    for definition in (
        t5x_adafactor.Adafactor(decay_rate=0.8, beta1=0.9),
        OptaxOptimizer(contrib.adafactor, b1=0.9),
        OptaxOptimizer(contrib.adafactor, b1=0.9, rate_in_momentum=False),
    ):
        optimizer = definition.create(jax.tree.map(jnp.asarray, params))
        for step, rate in enumerate(rates):
            rng = np.random.default_rng(step)
            grads = jax.tree.map(
                lambda x, rng=rng: rng.normal(size=x.shape).astype(np.float32), params
            )
            optimizer = optimizer.apply_gradient(grads, learning_rate=rate)
        found.append(jax.tree.map(lambda a, b: a - b, optimizer.target, params))
    return found


def test_adafactor_is_that_of_t5x():
    """With one rate inside and outside are the same."""
    of_t5x, *ours = adafactors([0.02] * 4)
    for found in ours:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-7),
            of_t5x,
            found,
        )


def test_adafactor_with_the_rate_outside_of_the_momentum_has_it_at_once():
    """After steps at rate 0, all of the momentum moves the parameters."""
    inside, outside = adafactors([0.02, 0.0])[1:], adafactors([0.0, 0.02])[1:]
    first = adafactors([0.02])[0]["norm"]["scale"]  # (1 - β1)·η·u_1
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-7)
    close(inside[0]["norm"]["scale"], 1.9 * first)
    close(inside[1]["norm"]["scale"], first)
    of_second = outside[0]["norm"]["scale"]  # (1 - β1)·η·u_2
    close(outside[1]["norm"]["scale"], of_second + 0.9 * first)


def test_the_decay_rate_of_adafactor_is_learned_where_epsilon_allows():
    make = lambda **of: GuidedOptimizer(
        OptaxOptimizer(contrib.adafactor, **of), ["decay_rate"], 0.1
    )
    with pytest.raises(ValueError, match="needs eps >= 1e-18, not 1e-30.* Set eps"):
        make()
    make(eps=1e-16)

    def without_epsilon(learning_rate, decay_rate=0.8):
        return contrib.adafactor(learning_rate, decay_rate=decay_rate)

    with pytest.raises(ValueError, match="learn decay_rate: without_epsilon has no set"):
        GuidedOptimizer(OptaxOptimizer(without_epsilon), ["decay_rate"], 0.1)
