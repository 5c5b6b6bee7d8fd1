"""What guidance changes in a training step, and what it leaves alone."""

import jax
import numpy as np
import pytest
from t5x import adafactor, trainer as t5x_trainer

from gbt_t5x import hyperparams, optimizers
import tiny


def opt_state(train_state):
    return train_state._optimizer.state


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_trees_differ(a, b):
    same = jax.tree.map(np.array_equal, a, b)
    assert not all(jax.tree.leaves(same))


def train(*args, num_steps=3, **kwargs):
    with tiny.make_trainer(*args, **kwargs) as trainer:
        return tiny.train(trainer, num_steps)


def test_zero_meta_learning_rate_is_bitwise_the_unguided_trainer():
    stock = adafactor.Adafactor(beta1=0.5, min_dim_size_to_factor=8)
    # Op by op: compiled, XLA rounds differently in programs that it fuses differently.
    with jax.disable_jit():
        state, summaries = train(stock, t5x_trainer.Trainer, num_steps=2)
        guided_state, guided_summaries = train(
            tiny.guided(meta_learning_rate=0.0), num_steps=2
        )
    assert_trees_equal(state.params, guided_state.params)
    assert_trees_equal(state.param_states, guided_state.param_states)
    losses = [s["loss"] for s in summaries]
    assert losses == [s["loss"] for s in guided_summaries]
    assert len(set(losses)) == len(losses), "the model did not move"


def test_guidance_data_changes_the_hyperparameters_and_nothing_else_in_the_step():
    one, _ = train(tiny.guided(), num_steps=1)
    cfg = tiny.dataset_cfg("other_guidance")
    other, _ = train(tiny.guided(), num_steps=1, guidance_dataset_cfg=cfg)
    assert_trees_equal(one.params, other.params)
    assert_trees_equal(one.param_states, other.param_states)
    assert_trees_differ(
        opt_state(one).meta_state["mu"], opt_state(other).meta_state["mu"]
    )
    # Adam's first step has the size of its rate whatever the gradient, up to epsilon.
    one, _ = train(tiny.guided(), num_steps=3)
    other, _ = train(tiny.guided(), num_steps=3, guidance_dataset_cfg=cfg)
    assert_trees_differ(opt_state(one).hyperparams, opt_state(other).hyperparams)
    assert_trees_differ(one.params, other.params)


def test_each_step_uses_the_hyperparameters_that_the_step_before_learned():
    rate = 0.01
    with tiny.make_trainer(tiny.guided(meta_learning_rate=rate)) as trainer:
        data = tiny.batches(trainer)
        for step in range(3):
            raw = jax.device_get(opt_state(trainer.train_state).hyperparams)
            summary = trainer.train(data, 1).result()
            used = {name: float(x) for name, x in hyperparams.values(raw).items()}
            logged = {name: float(summary[f"hyperparams/{name}"].value) for name in used}
            assert logged == pytest.approx(used, rel=1e-6)
            assert float(summary["learning_rate"].value) == pytest.approx(0.01)
            assert float(summary["learning_rate/effective"].value) == pytest.approx(
                0.01 * used["alpha"]
            )
            if step == 0:
                assert used == {"alpha": 1.0, "beta1": 0.5}
                moved = jax.device_get(opt_state(trainer.train_state).hyperparams)
                for name, x in moved.items():
                    # Adam's first step: the rate, against the gradient's sign.
                    sign = np.sign(float(summary[f"hypergradient/{name}"].value))
                    assert x - raw[name] == pytest.approx(-rate * sign, rel=1e-3)


def test_guidance_loss_is_that_of_the_updated_parameters_without_dropout():
    with tiny.make_trainer(tiny.guided(), dropout_rate=0.5) as trainer:
        summary = trainer.train(tiny.batches(trainer), 1).result()
        loss, _ = jax.jit(trainer._model.loss_fn)(
            trainer.train_state.params, trainer._guidance_batches[0], None
        )
    assert float(summary["guidance/loss"].value) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("num_microbatches", [None, 2])
def test_guidance_ignores_the_dropout_key(num_microbatches):
    """With a learning rate of 0 only the key differs: training sees it, guidance not."""
    settings = {"dropout_rate": 0.5, "learning_rate": 0.0, "num_steps": 1}
    settings["num_microbatches"] = num_microbatches
    _, [one] = train(tiny.guided(), seed=1, **settings)
    _, [other] = train(tiny.guided(), seed=2, **settings)
    assert one["loss"] != other["loss"]
    assert one["guidance/loss"] == other["guidance/loss"]


def test_microbatches_equal_the_full_batch():
    state, summaries = train(tiny.guided())
    micro_state, micro_summaries = train(tiny.guided(), num_microbatches=4)
    names = ["loss", "guidance/loss", "hypergradient/alpha", "hypergradient/beta1"]
    names += ["hyperparams/alpha", "hyperparams/beta1", "accuracy", "guidance/accuracy"]
    for full, micro in zip(summaries, micro_summaries, strict=True):
        for name in names:
            # float32 sums in another order; hypergradients are differences of sums.
            assert micro[name] == pytest.approx(full[name], rel=1e-3), name
        assert micro["loss"] == pytest.approx(full["loss"], rel=1e-5)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, micro_state.params, state.params)
    assert_trees_differ(micro_state.params, train(tiny.guided(), num_steps=2)[0].params)


@pytest.mark.parametrize(
    ("parts", "guidance_batch_size", "rows"),
    [(None, 8, {8}), (4, 8, {2}), (2, 16, {4}), (2, 2, {4, 2})],
)
def test_microbatches_are_no_larger_than_those_of_training(
    parts, guidance_batch_size, rows, monkeypatch
):
    found = set()
    with tiny.make_trainer(
        tiny.guided(),
        guidance_dataset_cfg=tiny.dataset_cfg("guidance", guidance_batch_size),
        num_microbatches=parts,
    ) as trainer:
        loss_fn = trainer._model.loss_fn

        def recorded(params, batch, *args):
            found.add(len(batch["decoder_target_tokens"]))
            return loss_fn(params, batch, *args)

        monkeypatch.setattr(trainer._model, "loss_fn", recorded)
        inputs = trainer._inputs(next(tiny.batches(trainer)), 0)
        jax.eval_shape(trainer._train_step, trainer.train_state, inputs)
    assert found == rows


def test_how_many_are_at_a_bound_is_logged():
    base = adafactor.Adafactor(beta1=0.5, min_dim_size_to_factor=8)
    bounds = {"alpha": (0.999, 1.001)}
    names = ("alpha", "beta1")
    definition = optimizers.GuidedOptimizer(base, names, 0.5, bounds=bounds)
    summaries = train(definition, num_steps=2)[1]
    assert [s["guidance/at_bound"] for s in summaries] == [0, 1]


@pytest.mark.parametrize("names", [("alpha",), ("beta1",), ("alpha", "beta1")])
def test_logs_every_hyperparameter_at_every_step(names):
    _, summaries = train(tiny.guided(names), num_steps=2)
    for summary in summaries:
        logged = {n.split("/")[1] for n in summary if n.startswith("hyperparams/")}
        assert logged == set(names)
        for name in names:
            assert np.isfinite(summary[f"hypergradient/{name}"])
            assert summary[f"hypergradient/{name}"] != 0
        for name in ("guidance/loss", "guidance/accuracy"):
            assert np.isfinite(summary[name])
        alpha = summary["hyperparams/alpha"] if "alpha" in names else 1.0
        effective = pytest.approx(summary["learning_rate"] * alpha)
        assert summary["learning_rate/effective"] == effective
        for name in ("loss", "accuracy", "timing/steps_per_second", "learning_rate"):
            assert np.isfinite(summary[name])


def test_guidance_batch_lies_on_the_mesh_like_a_training_batch():
    with tiny.make_trainer(tiny.guided()) as trainer:
        batch = next(tiny.batches(trainer))
        held_out = trainer._guidance_batches[0]
        assert {k: x.shape for k, x in held_out.items()} == {
            k: x.shape for k, x in batch.items()
        }
        for name, x in held_out.items():
            assert isinstance(x, jax.Array)
            assert x.sharding.is_equivalent_to(batch[name].sharding, x.ndim)


def test_stock_trainer_keeps_the_hyperparameters():
    state, _ = train(tiny.guided(), t5x_trainer.Trainer)
    assert_trees_equal(
        jax.device_get(opt_state(state).hyperparams),
        {"alpha": np.float32(0.0), "beta1": np.float32(0.0)},
    )


def test_a_trainer_that_is_refused_writes_nothing(tmp_path):
    refused = tiny.make_trainer(
        tiny.guided(groups=[("all", ".*")]), guidance_period=0, summary_dir=str(tmp_path)
    )
    with pytest.raises(ValueError, match="GUIDANCE_PERIOD"), refused:
        pass
    assert not (tmp_path / "groups.json").exists()


def test_needs_a_guided_optimizer():
    with pytest.raises(
        TypeError, match="GuidedTrainer needs a GuidedOptimizer, not a Ada"
    ):
        train(adafactor.Adafactor(beta1=0.5))
