"""What a step of each source of the guidance gradient does."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from t5x import adafactor, trainer as t5x_trainer

from gbt_t5x import optimizers
import processes
import tiny

NAMES = ("alpha", "beta1")
META_LEARNING_RATE = 0.05


def base():
    return adafactor.Adafactor(beta1=0.5, min_dim_size_to_factor=8)


def guided(discount=None, groups=None, dtype="float32"):
    return optimizers.GuidedOptimizer(
        base(),
        NAMES,
        META_LEARNING_RATE,
        groups=groups,
        discount=discount,
        sensitivity_dtype=None if discount is None else dtype,
    )


def next_batch(discount=0.0, groups=None, dtype="float32", **kwargs):
    return tiny.make_trainer(
        guided(discount, groups, dtype), guidance_dataset_cfg=None, **kwargs
    )


def opt_state(trainer):
    return jax.device_get(trainer.train_state._optimizer.state)


def value(summary, name):
    return float(summary[name].value)


@pytest.mark.parametrize("num_microbatches", [None, 4])
def test_next_batch_is_the_derivative_of_the_next_training_loss(num_microbatches):
    """ĝ_t = dL_train(Ω(θ_t, g_t, λ_t), batch t+1)/dλ_t, with the dropout of step t+1."""
    kwargs = {"dropout_rate": 0.2, "num_microbatches": num_microbatches}
    with next_batch(**kwargs) as trainer:
        data = list(itertools.islice(tiny.batches(trainer), 4))
        model = trainer._model

        def grads_of(state, batch):
            return t5x_trainer.accumulate_grads_microbatched(
                model, state, batch, trainer._get_step_rng(state.step), num_microbatches
            )[0]

        @jax.jit
        def definition(state, batch, next_batch):
            optimizer, grads = state._optimizer, grads_of(state, batch)

            def update(raw):
                opt_state = optimizer.state.replace(hyperparams=raw)
                return state.replace(
                    _optimizer=optimizer.replace(state=opt_state).apply_gradient(
                        grads, learning_rate=jnp.float32(0.01)
                    )
                )

            raw = optimizer.state.hyperparams
            next_grads = grads_of(update(raw), next_batch)

            # d(loss) = <∇loss, dθ>; T5X's loss has reverse mode alone.
            def loss(raw):
                products = jax.tree.map(
                    lambda g, x: jnp.sum(g * x), next_grads, update(raw).params
                )
                return sum(jax.tree.leaves(products))

            return jax.grad(loss)(raw)

        before = None
        for batch in data:
            state = jax.tree.map(jnp.copy, trainer.train_state)
            summary = trainer.train(iter([batch]), 1).result()
            if before is None:
                for name in NAMES:
                    assert value(summary, f"hypergradient/{name}") == 0
            else:
                # The λ of the update before stands in the state after it.
                expected = definition(*before, batch)
                for name in NAMES:
                    # float32 sums over the parameters, in another order.
                    assert value(summary, f"hypergradient/{name}") == pytest.approx(
                        float(expected[name]), rel=1e-3
                    ), name
            raw = opt_state(trainer).hyperparams
            used = state.replace(
                _optimizer=state._optimizer.replace(
                    state=state._optimizer.state.replace(hyperparams=raw)
                )
            )
            before = used, batch


@functools.cache
def curves(dtype):
    with next_batch(dtype=dtype) as trainer:
        return tiny.train(trainer, 8)[1]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_fewer_bits_learn_what_float32_learns(dtype):
    for exact, rounded in zip(curves("float32"), curves(dtype), strict=True):
        assert rounded["loss"] == pytest.approx(exact["loss"], rel=1e-4)
        for name in NAMES:
            value = exact[f"hyperparams/{name}"]
            assert rounded[f"hyperparams/{name}"] == pytest.approx(value, rel=1e-2)


def test_next_batch_learns_from_the_second_step_on():
    with next_batch() as trainer:
        data = tiny.batches(trainer)
        raws, counts = [], []
        for _ in range(3):
            trainer.train(data, 1).result()
            state = opt_state(trainer)
            raws.append([float(state.hyperparams[name]) for name in NAMES])
            counts.append(int(state.meta_state["count"]))
    assert counts == [0, 1, 2]
    assert raws[0] == [0.0, 0.0]
    # Adam's first step has the size of its rate.
    assert np.abs(raws[1]) == pytest.approx(META_LEARNING_RATE, rel=1e-3)
    assert raws[2] != raws[1]


def test_next_batch_updates_as_the_unguided_optimizer_until_lambda_moves():
    with next_batch() as trainer:
        one, _ = tiny.train(trainer, 1)
    with tiny.make_trainer(guided()) as trainer:
        held_out, _ = tiny.train(trainer, 1)
    # XLA fuses the two programs differently.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        one.params,
        held_out.params,
    )


def test_held_out_batch_gives_the_same_hypergradient_where_sensitivities_are_kept():
    with tiny.make_trainer(guided(0.0)) as trainer:
        _, summaries = tiny.train(trainer, 3)
    with tiny.make_trainer(guided(None)) as trainer:
        _, expected = tiny.train(trainer, 3)
    for summary, other in zip(summaries, expected, strict=True):
        for name in ("loss", "hypergradient/alpha", "hypergradient/beta1"):
            assert summary[name] == pytest.approx(other[name], rel=1e-3)


def test_a_period_moves_lambda_at_every_such_step_alone():
    kwargs = {"guidance_period": 3, "guidance_batches": 2}
    with tiny.make_trainer(guided(), **kwargs) as trainer:
        data = tiny.batches(trainer)
        trainer.compile_train(next(tiny.batches(trainer)))
        moved, summaries = [], []
        before = opt_state(trainer)
        for _ in range(7):
            summaries.append(trainer.train(data, 1).result())
            state = opt_state(trainer)
            moved.append(
                state.hyperparams["alpha"] != before.hyperparams["alpha"]
                and state.meta_state["count"] == before.meta_state["count"] + 1
            )
            before = state
    assert moved == [False, False, True, False, False, True, False]
    for summary, has_moved in zip(summaries, moved, strict=True):
        for name in ("hypergradient/alpha", "guidance/loss", "guidance/accuracy"):
            assert np.isfinite(value(summary, name)) == has_moved
        assert np.isfinite(value(summary, "hyperparams/alpha"))


def test_a_summary_has_the_mean_over_the_steps_that_moved_lambda():
    def run(steps_of_summaries):
        with tiny.make_trainer(guided(), guidance_period=2) as trainer:
            data = tiny.batches(trainer)
            return [trainer.train(data, n).result() for n in steps_of_summaries]

    *_, second, _, fourth = run([1, 1, 1, 1])
    [together] = run([4])
    for name in ("guidance/loss", "hypergradient/alpha"):
        mean = (value(second, name) + value(fourth, name)) / 2
        assert value(together, name) == pytest.approx(mean, rel=1e-5)


def test_steps_between_are_the_unguided_ones_and_do_not_read_guidance():
    other = tiny.dataset_cfg("other_guidance")
    runs = []
    for cfg in (tiny.dataset_cfg("guidance"), other):
        with tiny.make_trainer(
            guided(), guidance_period=4, guidance_dataset_cfg=cfg, dropout_rate=0.1
        ) as trainer:
            state, guided_steps = tiny.train(trainer, 3)
            runs.append(jax.tree.leaves(state))
    for x, y in zip(*runs, strict=True):
        np.testing.assert_array_equal(x, y)
    with tiny.make_trainer(base(), t5x_trainer.Trainer, dropout_rate=0.1) as trainer:
        _, unguided_steps = tiny.train(trainer, 3)
    # XLA fuses the two programs differently.
    expected = [step["loss"] for step in unguided_steps]
    assert [step["loss"] for step in guided_steps] == pytest.approx(expected, rel=1e-5)


def test_batches_take_turns():
    with tiny.make_trainer(guided(), guidance_period=2, guidance_batches=3) as trainer:
        batches = trainer._guidance_batches
        given = [trainer._inputs({}, step).get("guidance") for step in range(10)]
    assert given[::2] == [None] * 5
    assert [next(i for i, b in enumerate(batches) if b is g) for g in given[1::2]] == [
        0, 1, 2, 0, 1,
    ]  # fmt: skip
    first, second, _ = (np.asarray(b["decoder_target_tokens"]) for b in batches)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("batch_size", [2, 16])
def test_a_guidance_batch_may_have_any_size(batch_size):
    summaries = []
    for num_microbatches in (None, 2):
        cfg = tiny.dataset_cfg("guidance", batch_size)
        with tiny.make_trainer(
            guided(), guidance_dataset_cfg=cfg, num_microbatches=num_microbatches
        ) as trainer:
            summaries.append(tiny.train(trainer, 1)[1][0])
    whole, parts = summaries
    for name in ("guidance/loss", "guidance/accuracy", "hypergradient/alpha"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-3)


GROUPS = [("encoder", "encoder/.*"), ("decoder", "decoder/.*"), ("rest", ".*")]


def test_groups_add_no_arrays_to_what_a_step_takes_and_gives():
    arrays = []
    for groups in (None, [(r"\g<0>", ".*")]):
        with tiny.make_trainer(guided(groups=groups)) as trainer:
            inputs = trainer._inputs(next(tiny.batches(trainer)), 0)
            result = jax.eval_shape(trainer._train_step, trainer.train_state, inputs)
            arrays.append(len(jax.tree.leaves(result)))
            learned = opt_state(trainer).hyperparams["alpha"]
    assert learned.shape == (len(jax.tree.leaves(trainer.train_state.params)),)
    assert arrays[0] == arrays[1]


def test_groups_are_logged_by_name_between_the_steps_that_move_them():
    with tiny.make_trainer(guided(groups=GROUPS), guidance_period=2) as trainer:
        _, (between, moved) = tiny.train(trainer, 2)
    assert between.keys() == moved.keys()
    for group in ("encoder", "decoder", "rest"):
        assert np.isnan(between[f"hypergradient/alpha/{group}"])
        assert np.isfinite(moved[f"hypergradient/alpha/{group}"])


@pytest.mark.parametrize("source", ["held_out", "next_batch"])
def test_groups_are_logged_by_name(source):
    make = (
        next_batch(groups=GROUPS)
        if source == "next_batch"
        else tiny.make_trainer(guided(groups=GROUPS))
    )
    with make as trainer:
        _, summaries = tiny.train(trainer, 3)
    for name in NAMES:
        for group in ("encoder", "decoder", "rest"):
            assert np.isfinite(summaries[-1][f"hyperparams/{name}/{group}"])
            assert summaries[-1][f"hypergradient/{name}/{group}"] != 0
    effective = summaries[-1]["learning_rate/effective/encoder"]
    alpha = summaries[-1]["hyperparams/alpha/encoder"]
    assert effective == pytest.approx(0.01 * alpha, rel=1e-5)


@pytest.mark.parametrize("discount", [0.0, 0.9])
@pytest.mark.parametrize("source", ["held_out", "next_batch"])
def test_every_source_moves_the_hyperparams_and_stays_finite(source, discount):
    make = (
        next_batch(discount, dtype="int8")
        if source == "next_batch"
        else tiny.make_trainer(guided(discount))
    )
    with make as trainer:
        state, _ = tiny.train(trainer, 4)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))
    for x in state._optimizer.state.hyperparams.values():
        assert x != 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny.make_trainer(guided()),
        lambda: tiny.make_trainer(guided(), guidance_period=2),
        lambda: tiny.make_trainer(guided(groups=GROUPS)),
        lambda: next_batch(dtype="int8"),
    ],
    ids=["held_out", "period", "groups", "next_batch"],
)
def test_after_the_first_steps_nothing_is_compiled_or_sent_to_the_device(make):
    with make() as trainer:
        data = list(itertools.islice(tiny.batches(trainer), 6))
        trainer.compile_train(data[0])
        trainer.train(iter(data[:2]), 2, start_step=0).result()
        compiled = []
        jax.monitoring.register_event_duration_secs_listener(
            lambda name, *_, **__: compiled.append(name) if "compile" in name else None
        )
        # All but the uptime, which T5X's trainer sends itself.
        for owner, method in (
            (trainer, "_inputs"),
            (trainer, "_compiled_train_step"),
            (trainer.train_metrics_manager, "write_metrics_summary"),
        ):
            guard = jax.transfer_guard_host_to_device("disallow_explicit")
            setattr(owner, method, guard(getattr(owner, method)))
        trainer.train(iter(data[2:4]), 2, start_step=2).result()
        assert compiled == []


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"guidance_period": 0}, "GUIDANCE_PERIOD=0: must be at least 1"),
        ({"guidance_batches": 0}, "GUIDANCE_BATCHES=0: must be at least 1"),
        ({"num_microbatches": 0}, "NUM_MICROBATCHES=0: must be at least 1"),
        ({"max_skipped": None}, "MAX_SKIPPED=None: must be at least 1"),
        ({"guidance_period": "2"}, "GUIDANCE_PERIOD='2': must be at least 1"),
        ({"guidance_batches": 9}, "holds 4 of 9 batches of 8 rows.*GUIDANCE_BATCHES"),
        ({"guidance_dataset_cfg": None}, "next training batch needs.*set DISCOUNT"),
    ],
)
def test_settings_of_sources_are_checked(kwargs, message):
    with pytest.raises(ValueError, match=message):
        with tiny.make_trainer(guided(), **kwargs):
            pass


def test_the_next_batch_has_no_period():
    with pytest.raises(ValueError, match="guides every step"):
        with next_batch(guidance_period=2):
            pass


def test_guidance_exchanges_gradients_and_scalars_alone():
    """On eight devices, the collectives of the compiled programs."""
    done = processes.run("tests/collectives.py", **processes.devices(8))
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    arrays, scalars = found["unguided"]
    assert arrays > 0
    assert found["next_batch"][0] == arrays
    # The guidance batch has a gradient of its own.
    assert found["held_out"][0] <= 2 * arrays
    for source in ("held_out", "next_batch"):
        assert found[source][1] <= 2 * scalars
