"""Schedules, and the optimizer that follows them."""

from flax import core
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import pytest
from t5x import adafactor, trainer as t5x_trainer

from gbt_t5x import (
    adam,
    hyperparams,
    learnable,
    optax_optimizer,
    optimizers,
    replay,
    schedule as schedule_lib,
)
import tiny

GROUPS = [("stack", "(en|de)coder/.*"), ("rest", ".*")]
NEXT_BATCH = {"guidance_dataset_cfg": None}
STEPS = 12


@pytest.fixture
def file(tmp_path):
    """Writes a schedule: its path."""

    def write(schedule):
        path = tmp_path / "schedule.csv"
        is_text = isinstance(schedule, str)
        path.write_text(schedule if is_text else schedule_lib.write(schedule))
        return path

    return write


def of_constants(values, steps=(1,), groups=()):
    table = {k: np.full((len(steps), max(len(groups), 1)), v) for k, v in values.items()}
    return schedule_lib.Schedule(np.array(steps), table, groups)


def learned(summaries):
    """The schedule of a run that wrote a summary a step."""
    table: dict[str, list] = {}
    for summary in summaries:
        for name, value in summary.items():
            if name.startswith("hyperparams/"):
                table.setdefault(name.removeprefix("hyperparams/"), []).append(value)
    groups = sorted({name.partition("/")[2] for name in table})
    names = dict.fromkeys(name.partition("/")[0] for name in table)
    of = lambda name: [table[f"{name}/{g}" if g else name] for g in groups]
    return schedule_lib.Schedule(
        np.arange(1, len(summaries) + 1),
        {name: np.array(of(name)).T for name in names},
        [g for g in groups if g],
    )


def of_adafactor(**settings):
    return adafactor.Adafactor(beta1=0.5, min_dim_size_to_factor=8, **settings)


def of_lamb():
    return optax_optimizer.OptaxOptimizer(adam.lamb, b1=0.5)


NAMES = ("alpha", "beta1")
RUNS = {
    "adafactor_next_batch": (of_adafactor, NAMES, None, 0.0, NEXT_BATCH),
    "adafactor_six": (tiny.BASES["adafactor"][0], tiny.BASES["adafactor"][1], None)
    + (None, {}),
    "lamb": (of_lamb, NAMES, None, None, {}),
    "lamb_next_batch_groups": (of_lamb, tiny.ADAM[:2], GROUPS, 0.0, NEXT_BATCH),
    "adafactor_groups": (of_adafactor, NAMES, GROUPS, None, {}),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_replay_repeats_the_guided_run(run, file):
    """On T5X's own trainer, from the same seeds."""
    make_base, names, groups, discount, kwargs = RUNS[run]
    guided = optimizers.GuidedOptimizer(
        make_base(), names, 0.05, groups=groups, discount=discount
    )
    with tiny.make_trainer(guided, dropout_rate=0.1, **kwargs) as instance:
        _, expected = tiny.train(instance, STEPS)
    definition = replay.ReplayedOptimizer(
        make_base(), file(learned(expected)), groups=groups
    )
    with tiny.make_trainer(definition, t5x_trainer.Trainer, dropout_rate=0.1) as instance:
        state, found = tiny.train(instance, STEPS)
    # XLA fuses the two programs differently: the last bit of float32, 6e-8 to 1.2e-7.
    for name in ("loss", "accuracy", "learning_rate"):
        values = [[summary[name] for summary in run] for run in (expected, found)]
        np.testing.assert_allclose(*values, rtol=2.4e-7)
    moved = [
        summary["hyperparams/alpha" + "/rest" * bool(groups)] for summary in expected
    ]
    assert len(set(moved)) > STEPS / 2


def grads_of(params, steps=4):
    rng = np.random.default_rng(0)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    return [jax.tree.map(draw, params) for _ in range(steps)]


PARAMS = core.freeze(
    {
        "encoder": {"kernel": jnp.linspace(-1.0, 1.0, 24).reshape(4, 6)},
        "scale": jnp.linspace(0.5, 1.0, 6),
    }
)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


def updated(optimizer, gradients, **settings):
    for grads in gradients:
        optimizer = optimizer.apply_gradient(grads, **{"learning_rate": 0.01} | settings)
    return optimizer


@pytest.mark.parametrize("steps", [(1,), (2, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("base", tiny.BASES)
def test_a_constant_schedule_is_the_base_with_those_settings_bitwise(base, steps, file):
    make_base, names = tiny.BASES[base]
    constants = {
        "alpha": 0.3,
        "beta1": 0.7,
        "beta2": 0.9,
        "epsilon": 1e-4,
        "weight_decay": 0.1,
        "decay_rate": 0.6,
        "clipping_threshold": 1.1,
    }
    values = {name: np.float32(constants[name]) for name in names}
    definition = replay.ReplayedOptimizer(make_base(), file(of_constants(values, steps)))
    stock = make_base()
    settings = {s: values[name] for name, s in learnable.settings(stock, names).items()}
    settings["learning_rate"] = np.float32(0.01) * values["alpha"]
    gradients = grads_of(PARAMS)
    stock = updated(stock.create(PARAMS), gradients, **settings)
    assert_equal(
        jax.tree.leaves(updated(definition.create(PARAMS), gradients)),
        jax.tree.leaves(stock),
    )


@pytest.mark.parametrize("groups", [None, [("coder", "encoder/.*"), ("rest", ".*")]])
@pytest.mark.parametrize("base", tiny.BASES)
def test_op_by_op_a_replay_is_the_guided_run_bitwise(base, groups, file):
    make_base, names = tiny.BASES[base]
    guided = optimizers.GuidedOptimizer(make_base(), names, 0.1, groups=groups)
    optimizer = guided.create(PARAMS)
    # Where decay_rate is learned, Adafactor is not given an array of zeros.
    gradients = [grads.copy({"scale": jnp.zeros(6)}) for grads in grads_of(PARAMS)]
    used = []
    for grads in gradients:
        values = hyperparams.values(optimizer.state.hyperparams)
        used.append({name: np.atleast_1d(value) for name, value in values.items()})
        optimizer = optimizer.apply_gradient(grads, learning_rate=0.01)
        hypergradient = jax.tree.map(
            lambda x: jnp.arange(x.size).reshape(x.shape) - 0.5,
            optimizer.state.hyperparams,
        )
        state, _ = guided.apply_hypergradient(optimizer.state, hypergradient)
        optimizer = optimizer.replace(state=state)
    schedule = schedule_lib.Schedule(
        np.arange(1, len(gradients) + 1),
        {name: np.stack([of_step[name] for of_step in used]) for name in names},
        guided.group_names(PARAMS),
    )
    definition = replay.ReplayedOptimizer(make_base(), file(schedule), groups=groups)
    replayed = updated(definition.create(PARAMS), gradients)
    assert_equal(replayed.target, optimizer.target)
    assert_equal(replayed.state.param_states, optimizer.state.param_states)


@pytest.mark.parametrize("base", tiny.BASES)
def test_the_state_is_that_of_the_base(base, file):
    make_base, names = tiny.BASES[base]
    path = file(of_constants(dict.fromkeys(names, 0.5)))
    definition = replay.ReplayedOptimizer(make_base(), path)
    optimizer, stock = definition.create(PARAMS), make_base().create(PARAMS)
    assert_equal(optimizer.state, stock.state)
    assert_equal(optimizer.state_dict(), stock.state_dict())
    axes = core.freeze(
        {
            "encoder": {"kernel": PartitionSpec("embed", "mlp")},
            "scale": PartitionSpec("embed"),
        }
    )
    found, expected = (
        definition.derive_logical_axes(optimizer.replace(optimizer_def=definition), axes)
        for definition, optimizer in (
            (definition, optimizer),
            (stock.optimizer_def, stock),
        )
    )
    assert core.unfreeze(found.state_dict()) == core.unfreeze(expected.state_dict())
    assert found.optimizer_def is definition


def test_a_replay_goes_on_in_the_schedule_where_it_stopped(file):
    table = np.array([[1.0], [0.1], [3.0], [0.5]])
    schedule = schedule_lib.Schedule(
        np.arange(1, 5), {"alpha": table, "beta1": table / 4}
    )
    definition = replay.ReplayedOptimizer(of_adafactor(), file(schedule))
    gradients = grads_of(PARAMS)
    saved = updated(definition.create(PARAMS), gradients[:2]).state_dict()
    fresh = definition.create(jax.tree.map(jnp.zeros_like, PARAMS))
    resumed = updated(fresh.restore_state(saved), gradients[2:])
    assert_equal(resumed, updated(definition.create(PARAMS), gradients))
    assert int(resumed.state.step) == 4


def test_a_replay_costs_what_the_base_costs(file):
    """One program for every step, no call to the host, and the base's FLOPs."""
    path = file(of_constants({"alpha": 0.5, "beta1": 0.5}, range(1, 100)))
    programs, traced = {}, []
    for name, definition in (
        ("base", of_adafactor()),
        ("replay", replay.ReplayedOptimizer(of_adafactor(), path)),
    ):
        params = {"kernel": jnp.ones((128, 256))}

        @jax.jit
        def update(optimizer, grads, name=name):
            traced.append(name)
            return optimizer.apply_gradient(grads, learning_rate=0.01)

        optimizer = definition.create(params)
        lowered = update.lower(optimizer, params)
        assert "callback" not in lowered.as_text()
        programs[name] = lowered.compile()
        traced.clear()
        for _ in range(3):
            optimizer = update(optimizer, params)
        assert len(traced) <= 1
    flops = {name: p.cost_analysis()["flops"] for name, p in programs.items()}
    assert flops["replay"] < 1.001 * flops["base"]
    memory = {name: p.memory_analysis() for name, p in programs.items()}
    sizes = [m.temp_size_in_bytes + m.argument_size_in_bytes for m in memory.values()]
    assert sizes[1] - sizes[0] < 0.01 * sizes[0]


def values(schedule, step):
    found = jax.jit(schedule.values)(step)
    return {name: np.asarray(value) for name, value in found.items()}


def test_rows_are_read_to_the_bit_and_raw_numbers_interpolated():
    steps = np.array([3, 7, 8])
    table = {
        "alpha": np.array([[0.3], [2.4], [1.7]], np.float32),
        "beta1": np.array([[0.9], [0.2], [0.999]], np.float32),
        "epsilon": np.array([[1e-17], [1e-3], [1e-3]], np.float32),
    }
    schedule = schedule_lib.Schedule(steps, table)
    row = {0: 0, 1: 0, 3: 0, 7: 1, 8: 2, 9: 2, 2**31 - 1: 2}
    for step, i in row.items():
        for name, value in values(schedule, step).items():
            assert value == table[name][i, 0], (name, step)
    found = values(schedule, 4)
    assert found["alpha"] == pytest.approx(0.3 * 8**0.25, rel=1e-6)
    logit = 0.75 * np.log(9) + 0.25 * np.log(0.25)
    assert found["beta1"] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-6)
    # λ of -39 is rounded by 2e-6.
    assert found["epsilon"] == pytest.approx(10**-13.5, rel=1e-5)


def test_steps_that_no_float32_has_are_found():
    first = 2**24 + 1
    steps = np.array([first, first + 1, first + 5])
    schedule = schedule_lib.Schedule(steps, {"alpha": np.array([[1.0], [2.0], [32.0]])})
    found = [float(values(schedule, first + i)["alpha"]) for i in range(6)]
    assert found == pytest.approx([1, 2, 4, 8, 16, 32], rel=1e-6)


@pytest.mark.parametrize("last", [4, 11, 20, 101, 10**6])
def test_a_stretched_schedule_has_its_shape(last):
    rng = np.random.default_rng(0)
    table = {"alpha": rng.uniform(0.5, 2.0, (11, 1))}
    schedule = schedule_lib.Schedule(np.arange(1, 12), table)
    stretched = schedule.stretched(last)
    for i in np.unique(np.linspace(0, last - 1, 40).astype(int)):
        place = i / (last - 1) * 10
        expected = np.exp(np.interp(place, range(11), np.log(table["alpha"][:, 0])))
        found = values(stretched, int(1 + i))["alpha"]
        assert found == pytest.approx(expected, rel=1e-5), i
    for step, row in ((0, 0), (1, 0), (last, -1), (last + 5, -1)):
        assert values(stretched, step)["alpha"] == np.float32(table["alpha"][row, 0])
    same = schedule.stretched(11)
    np.testing.assert_array_equal(same.steps, schedule.steps)


def test_a_file_holds_every_float32_to_the_bit(file):
    rng = np.random.default_rng(1)
    exponents = rng.uniform(-30, 30, (50, 2))
    table = {
        "weight_decay": np.float32(10**exponents),
        "beta1": np.float32(rng.uniform(1e-6, 1 - 1e-6, (50, 2))),
    }
    steps = np.cumsum(rng.integers(1, 10**6, 50))
    schedule = schedule_lib.read(
        file(schedule_lib.Schedule(steps, table, ("layer.0", "rest")))
    )
    np.testing.assert_array_equal(schedule.steps, steps)
    assert list(schedule.table) == list(table) and schedule.groups == ["layer.0", "rest"]
    for name, expected in table.items():
        np.testing.assert_array_equal(schedule.table[name].astype(np.float32), expected)


NONE = "is no schedule: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NONE + "it has 0 lines"),
        ("step,alpha\n", NONE + "it has 1 lines"),
        (
            "include 'a.gin'\nBATCH_SIZE = 4\n",
            NONE + "its first line is \"include 'a.gin'",
        ),
        ("step\n1\n", NONE + "its first line is 'step'"),
        ("step,alpha,alpha\n1,1,1\n", NONE + "its first line is 'step,alpha,alpha'"),
        ("step,gamma\n1,1\n", NONE + "'gamma' is none of alpha, beta1"),
        ("step,alpha,alpha/a\n1,1,1\n", NONE + ".* not the same groups"),
        ("step,alpha/\n1,1\n", NONE + ".* not the same groups"),
        ("step,alpha,beta1/\n1,1,.5\n", NONE + ".* not the same groups"),
        ("step,alpha/a,beta1/b\n1,1,.5\n", NONE + ".* not the same groups"),
        ("step,alpha\n1,1\n2\n", NONE + "2 columns, and 1 in '2'"),
        ("step,alpha\n1,one\n", NONE + "'1,one' are not numbers"),
        ("step,alpha\n1.5,1\n", NONE + "1.5 is no number of a step"),
        ("step,alpha\nnan,1\n", NONE + "nan is no number of a step"),
        ("step,alpha\n0,1\n", NONE + "0 is no number of a step"),
        ("step,alpha\n2,1\n2,1\n", NONE + "step 2 comes after step 2"),
        ("step,alpha\n1,0\n", NONE + r"alpha is 0, outside \(0, inf\)"),
        ("step,alpha\n1,nan\n", NONE + "alpha is nan, outside"),
        ("step,alpha\n1,1e300\n", NONE + "alpha is 1e.300, outside"),
        ("step,beta1\n1,0.999999999\n", NONE + r"beta1 is .*, outside \(0, 1\)"),
    ],
)
def test_what_is_no_schedule_is_refused(text, message, file):
    with pytest.raises(ValueError, match=f"SCHEDULE='.*' {message}.*: set SCHEDULE"):
        replay.ReplayedOptimizer(of_adafactor(), file(text))


@pytest.mark.parametrize("path", ["/nowhere/schedule.csv", "/", "", None, 3, __file__])
def test_what_cannot_be_read_is_refused(path):
    with pytest.raises(ValueError, match="SCHEDULE='.*' .*: set SCHEDULE"):
        replay.ReplayedOptimizer(of_adafactor(), path)


TWO = "step,alpha,beta1\n1,1,.5\n5,2,.5\n"
OF_GROUPS = "step,alpha/rest,alpha/stack\n1,1,1\n"


@pytest.mark.parametrize(
    ("text", "kwargs", "message"),
    [
        (
            TWO,
            {"hyperparams": ["alpha"]},
            "is of alpha, beta1, and HYPERPARAMS=.'alpha'.",
        ),
        (TWO, {"hyperparams": "alpha"}, "is of alpha, beta1, and HYPERPARAMS='alpha'"),
        (TWO, {"hyperparams": 3}, "is of alpha, beta1, and HYPERPARAMS=3"),
        (
            TWO,
            {"base": adafactor.Adafactor()},
            "is of .*, which OPTIMIZER .*beta1 of Adafactor is None",
        ),
        (
            TWO.replace("beta1", "beta2"),
            {},
            "is of alpha, beta2, which OPTIMIZER cannot follow: .*Adafactor has none",
        ),
        (
            TWO,
            {"base": optax_optimizer.OptaxOptimizer(optax.adam)},
            "is of alpha, beta1, which OPTIMIZER cannot follow: .* adam: .*OPTIMIZER",
        ),
        (TWO, {"groups": GROUPS}, "has no groups, and GROUPS=.*: set GROUPS"),
        (OF_GROUPS, {}, r"has 2 groups \(rest, stack\), and GROUPS=None: set GROUPS"),
        (
            OF_GROUPS,
            {"groups": [("all", ".*")]},
            r"2 groups \(rest, stack\), and GROUPS .* 1 groups \(all\): set GROUPS",
        ),
        (OF_GROUPS, {"groups": [("rest", "(")]}, "^groups: .* no regular expression"),
        (TWO, {"steps": 1}, "SCHEDULE_STEPS=1: the schedule begins at step 1"),
        (TWO, {"steps": 0}, "SCHEDULE_STEPS=0: must be at least 1"),
        (TWO, {"steps": 2.5}, "SCHEDULE_STEPS=2.5: must be .* a whole number"),
        (TWO, {"base": None}, "ReplayedOptimizer.base=None: .*: set OPTIMIZER"),
        (TWO, {"base": tiny.guided()}, "must be an unguided optimizer: set OPTIMIZER"),
    ],
)
def test_a_schedule_of_something_else_is_refused(text, kwargs, message, file):
    with pytest.raises(ValueError, match=message):
        replay.ReplayedOptimizer(
            **{"base": of_adafactor(), "schedule": file(text)} | kwargs
        ).create(PARAMS)


def test_a_replayed_optimizer_is_not_guided(file):
    definition = replay.ReplayedOptimizer(of_adafactor(), file(TWO))
    with pytest.raises(ValueError, match="must be an unguided optimizer"):
        optimizers.GuidedOptimizer(definition, ["alpha"], 0.1)
