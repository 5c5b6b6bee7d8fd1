"""Hypergradients that are not finite, and runs that go on without them."""

import concurrent.futures
import functools

from clu import metrics as clu_metrics
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from t5x import adafactor, models, trainer as t5x_trainer

from gbt_t5x import optimizers, rounding, summaries
from gbt_t5x.studies import launch
import gin_runs
import tiny

GROUPS = [("encoder", "encoder/.*"), ("rest", ".*")]
NAN_GRADIENT, INFINITE_LOSS = 1, 0  # tokens that the data does not begin with


def guided(meta_learning_rate=0.05, **settings):
    base = adafactor.Adafactor(beta1=0.5, min_dim_size_to_factor=8)
    return optimizers.GuidedOptimizer(
        base, ("alpha", "beta1"), meta_learning_rate, **settings
    )


def poison(trainer):
    """Makes the loss of batches that begin with a token of above not finite."""
    loss_fn = trainer._model.loss_fn

    def poisoned(params, batch, *args):
        loss, metrics = loss_fn(params, batch, *args)
        first = batch["encoder_input_tokens"][0, 0]
        loss *= jnp.where(first == NAN_GRADIENT, jnp.nan, 1.0)
        total = metrics["loss"].total + jnp.where(first == INFINITE_LOSS, jnp.inf, 0.0)
        return loss, {**metrics, "loss": metrics["loss"].replace(total=total)}

    trainer._model.loss_fn = poisoned


def beginning_with(batch, token):
    tokens = batch["encoder_input_tokens"]
    return {**batch, "encoder_input_tokens": tokens.at[0, 0].set(token)}


def learned(trainer):
    """λ, and the state of Adam."""
    state = jax.device_get(trainer.train_state._optimizer.state)
    return state.hyperparams, state.meta_state


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_learned_once_more(before, after):
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(after))
    assert after[1]["count"] == before[1]["count"] + 1
    for name, x in before[0].items():
        assert np.all(after[0][name] != x)


@pytest.mark.parametrize(
    ("definition", "period"),
    [(guided(), 1), (guided(discount=0.9, groups=GROUPS), 2)],
    ids=["plain", "discount, groups and period"],
)
def test_a_guidance_batch_that_is_not_finite_leaves_the_hyperparameters(
    definition, period
):
    with tiny.make_trainer(definition, guidance_period=period) as trainer:
        poison(trainer)
        data = tiny.batches(trainer)
        [sound] = trainer._guidance_batches
        trainer.train(data, period).result()
        for token in (NAN_GRADIENT, INFINITE_LOSS):
            trainer._guidance_batches = [beginning_with(sound, token)]
            before = learned(trainer)
            summary = trainer.train(data, period).result()
            assert summary["guidance/skipped"].value == 1
            assert np.isnan(summary["guidance/loss"].value)
            assert_same(before, learned(trainer))
            trainer._guidance_batches = [sound]
            summary = trainer.train(data, period).result()
            assert summary["guidance/skipped"].value == 0
            assert np.isfinite(summary["guidance/loss"].value)
            assert_learned_once_more(before, learned(trainer))
        assert all(map(np.all, map(np.isfinite, jax.tree.leaves(trainer.train_state))))


@pytest.mark.parametrize("dtype", rounding.DTYPES)
def test_a_sensitivity_that_is_not_finite_does_not_last(dtype):
    definition = guided(discount=0.9, groups=GROUPS, sensitivity_dtype=dtype)

    def spoil(path, x, value):
        if "sensitivity" not in jax.tree_util.keystr(path) or x.dtype == jnp.int8:
            return x
        return x.at[..., 0].set(value) if x.ndim else jnp.full_like(x, value)

    with tiny.make_trainer(definition, guidance_dataset_cfg=None) as trainer:
        data = tiny.batches(trainer)
        trainer.train(data, 2).result()
        for value in (np.nan, np.inf, 1e37):
            before = learned(trainer)
            trainer.train_state = jax.tree_util.tree_map_with_path(
                functools.partial(spoil, value=value), trainer.train_state
            )
            summary = trainer.train(data, 1).result()
            assert summary["guidance/skipped"].value == 1
            assert_same(before, learned(trainer))
            summary = trainer.train(data, 1).result()
            assert summary["guidance/skipped"].value == 0
            assert_learned_once_more(before, learned(trainer))
        assert all(map(np.all, map(np.isfinite, jax.tree.leaves(trainer.train_state))))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
@pytest.mark.parametrize("name", ["alpha", "beta1"])
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_one_number_that_is_not_finite_skips_the_meta_update(groups, name, value):
    """1e20 is finite, but not its square, which Adam keeps."""
    definition = guided(groups=groups)
    state = definition.init_state({"encoder": {"w": jnp.ones(2)}, "v": jnp.ones(3)})
    sound = jax.tree.map(jnp.ones_like, state.hyperparams)
    state, skipped = definition.apply_hypergradient(state, sound)
    assert not skipped
    poisoned = {**sound, name: sound[name].at[..., -1:].set(value) if groups else value}
    poisoned = jax.tree.map(jnp.asarray, poisoned)
    after, skipped = definition.apply_hypergradient(state, poisoned)
    assert skipped
    assert_same(state, after)
    after, skipped = definition.apply_hypergradient(state, sound, {"loss": jnp.nan})
    assert skipped
    assert_same(state, after)


class _Manager:
    """Writes nothing, as late as it is told."""

    def write_metrics_summary(self, metrics, step, num_steps):
        del metrics, num_steps
        future = concurrent.futures.Future()
        future.set_result(step)
        return future


def summary_of(skipped, values):
    """The metrics of steps, merged."""
    metrics = None
    for was_skipped in skipped:
        of_step = summaries.of_meta_update({}, jnp.bool_(bool(was_skipped)))
        if was_skipped is None:  # between the steps of a period
            of_step = jax.tree.map(jnp.zeros_like, of_step)
        for name, x in values.items():
            of_step[f"hyperparams/{name}"] = clu_metrics.LastValue(jnp.asarray(x))
        metrics = (
            of_step if metrics is None else t5x_trainer.merge_metrics(metrics, of_step)
        )
    return metrics


@pytest.mark.parametrize(
    ("of_summaries", "total", "fails_at"),
    [
        ([[1, 1, 1, 1, 0]], 4, None),
        ([[0, 1, 1], [0, 1, 1, None], [None, None], [1, None], [1]], 1, 5),
        ([[1, 1, 1, 1]], 4, 1),
        ([[1, 0, 1], [1, 1, 0], [1, 1, 1]], 3, None),
    ],
)
def test_so_many_in_a_row_end_the_run(of_summaries, total, fails_at):
    manager = summaries.GuidedMetricsManager(_Manager(), [], max_skipped=4)
    values = {"alpha": 1.25, "beta1": [0.25, 0.5]}
    for step, skipped in enumerate(of_summaries, 1):
        metrics = summary_of(skipped, values)
        future = manager.write_metrics_summary(metrics, step, len(skipped))
        if step != fails_at:
            assert future.result() == step
            continue
        message = (
            rf"step {step}: each of the last 4 .*MAX_SKIPPED=4.*alpha 1.25, "
            "beta1 0.25 to 0.5"
        )
        with pytest.raises(ValueError, match=message) as raised:
            future.result()
        assert launch.is_divergence(str(raised.value))
    assert metrics["guidance/skipped"].compute() == total
    assert fails_at in (None, step)


def test_the_next_summary_raises_what_nobody_read():
    """T5X reads the futures of summaries when it saves, and a run may never save."""
    manager = summaries.GuidedMetricsManager(_Manager(), [], max_skipped=4)
    metrics = summary_of([True] * 4, {"alpha": 1.25})
    manager.write_metrics_summary(metrics, 4, 4)
    with pytest.raises(ValueError, match="step 4: each of the last 4"):
        manager.write_metrics_summary(metrics, 8, 4)


def test_the_run_ends_with_the_error_and_without_another_checkpoint(
    tmp_path, monkeypatch
):
    loss_fn = models.EncoderDecoderModel.loss_fn

    def without_guidance(self, params, batch, dropout_rng):
        loss, metrics = loss_fn(self, params, batch, dropout_rng)
        return loss * (jnp.nan if dropout_rng is None else 1.0), metrics

    monkeypatch.setattr(models.EncoderDecoderModel, "loss_fn", without_guidance)
    message = r"step 4: each of the last 4 .*MAX_SKIPPED=3.*alpha 1, beta1 0.9\."
    with pytest.raises(ValueError, match=message):
        gin_runs.train(
            "gin/quickstart_guided.gin",
            tmp_path,
            "TRAIN_STEPS = 6",
            "STATS_PERIOD = 2",
            "MAX_SKIPPED = 3",
            gin_runs.TINY_NETWORK,
        )
    assert {p.name for p in tmp_path.glob("checkpoint_*")} == {
        "checkpoint_0",
        "checkpoint_2",
    }


def test_guidance_that_is_never_finite_leaves_the_run_of_the_unguided_optimizer():
    base = adafactor.Adafactor(beta1=0.5, min_dim_size_to_factor=8)
    with tiny.make_trainer(base, t5x_trainer.Trainer) as trainer:
        expected, _ = tiny.train(trainer, 3)
    with tiny.make_trainer(guided()) as trainer:
        poison(trainer)
        trainer._guidance_batches = [
            beginning_with(batch, NAN_GRADIENT) for batch in trainer._guidance_batches
        ]
        state, of_steps = tiny.train(trainer, 3)
    assert [s["guidance/skipped"] for s in of_steps] == [1, 1, 1]
    # XLA fuses the two programs differently.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        state.params,
        expected.params,
    )
