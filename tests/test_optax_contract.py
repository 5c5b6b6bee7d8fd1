"""What docs/hyperparams.md says of every optimizer that the installed optax exports."""

import contextlib
import functools
import inspect
import re
import types
from unittest import mock
import warnings

from flax import core, traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
import pytest

from gbt_t5x import adam, hyperparams, learnable, optax_checks, optimizers
from gbt_t5x.optax_optimizer import OptaxOptimizer
import gin_runs

# Arguments without a default, and one that optax warns about.
REQUIRED = {
    "contrib.dpsgd": {"l2_norm_clip": 1.0, "noise_multiplier": 0.1, "seed": 0},
    "contrib.schedule_free": {"base_optimizer": optax.sgd(0.1)},
    "noisy_sgd": {"key": 0},
}
# First steps that differences can measure, and factored moments.
SIZES = {
    "adafactor": {"min_dim_size_to_factor": 4},
    "contrib.dadapt_adamw": {"estim_lr0": 0.1},
    "contrib.dog": {"init_step": ("heuristic", 0.1)},
    "contrib.prodigy": {"estim_lr0": 0.1},
}
# None and 0 are nothing to learn from, and a smaller epsilon nothing for differences.
STARTS = {
    "momentum": 0.5,
    "eps": 1e-3,
    "weight_decay": 0.01,
    "weight_decay_rate": 0.01,
}
LEARNING_RATES = (0.04, 0.05, 0.06)
SHAPES = {("mlp", "kernel"): (4, 6), ("norm", "scale"): (5,)}
AXES = {
    ("mlp", "kernel"): PartitionSpec("embed", "mlp"),
    ("norm", "scale"): PartitionSpec("embed"),
}


def _exported():
    """Name -> function, of all that takes a learning rate and makes an optimizer."""
    found = {"adam.adamw": adam.adamw, "adam.lamb": adam.lamb}
    for module, prefix in ((optax, ""), (optax.contrib, "contrib.")):
        for name, function in vars(module).items():
            is_part = name.startswith(("_", "scale_by_"))
            if isinstance(function, types.FunctionType) and not is_part:
                if "learning_rate" in inspect.signature(function).parameters:
                    found[prefix + name] = function
    return found


EXPORTED = _exported()


@functools.cache
def make(name):
    """The optimizer, with a start for whatever could be learned."""
    taken = inspect.signature(EXPORTED[name]).parameters
    arguments = {key: value for key, value in STARTS.items() if key in taken}
    arguments |= REQUIRED.get(name, {}) | SIZES.get(name, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return OptaxOptimizer(EXPORTED[name], **arguments)


@functools.cache
def learned(name):
    """What can be learned of it."""
    names = []
    for hyperparam in hyperparams.ACTIVATIONS:
        with contextlib.suppress(ValueError), _unchecked_derivatives():
            learnable.settings(make(name), [hyperparam])
            names.append(hyperparam)
    try:
        learnable.settings(make(name), names)
    except ValueError as error:
        refused = re.findall(r"cannot learn (\w+)", str(error))
        assert refused, error
        return [n for n in names if n not in refused]
    return names


def _unchecked_derivatives():
    """Without the check of `learned`, which compiles a program."""
    return mock.patch.object(optax_checks, "derivative_faults", lambda *_: {})


def _trains(name):
    try:
        make(name)
    except ValueError:
        return False
    return True


TRAINED = [name for name in EXPORTED if _trains(name)]
OPTIMIZERS = pytest.mark.parametrize("name", TRAINED)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _tree(flat):
    return core.freeze(traverse_util.unflatten_dict(flat))


def _random_tree(seed):
    rng = np.random.default_rng(seed)
    return _tree({k: jnp.asarray(rng.normal(size=s), float) for k, s in SHAPES.items()})


def _params():
    return _random_tree(0)


def _gradients(step):
    return _random_tree(1 + step)


def _train(optimizer, steps):
    for step in steps:
        grads, rate = _gradients(step), LEARNING_RATES[step]
        optimizer = optimizer.apply_gradient(grads, learning_rate=rate)
    return optimizer


@functools.cache
def _trained(name):
    """After two steps."""
    return _train(make(name).create(_params()), [0, 1])


def _assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


def _documented():
    """Name -> the rest of its row in docs/hyperparams.md."""
    _, _, table = (
        gin_runs.ROOT.joinpath("docs/hyperparams.md")
        .read_text()
        .partition("| Optimizer | Learned |")
    )
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.M)
    return {
        name: text for names, text in rows for name in re.findall(r"`([\w.]+)`", names)
    }


@pytest.mark.parametrize("name", EXPORTED)
def test_the_table_says_what_can_be_learned(name):
    row = _documented().get(name, "nothing")
    if name in TRAINED:
        found = ", ".join(f"`{hyperparam}`" for hyperparam in learned(name))
        assert row == found, f"docs/hyperparams.md: the row of {name} has to say {found}"
    else:
        with pytest.raises(ValueError, match=name.split(".")[-1]) as error:
            make(name)
        assert row.startswith("refused: "), f"docs/hyperparams.md: {error.value}"


def test_the_table_has_no_other_optimizer():
    assert _documented().keys() == EXPORTED.keys()


@OPTIMIZERS
def test_updates_are_those_of_optax(name):
    arguments = vars(make(name).hyper_params)
    params = _params()
    state = EXPORTED[name](**arguments | {"learning_rate": 1.0}).init(params)
    for step, rate in enumerate(LEARNING_RATES[:2]):
        stock = EXPORTED[name](**arguments | {"learning_rate": rate})
        updates, state = stock.update(_gradients(step), state, params)
        params = optax.apply_updates(params, updates)
    _assert_trees_equal(_trained(name).target, params)
    before = _params()
    moved = jax.tree.map(lambda x, y: bool(jnp.any(x != y)), params, before)
    assert all(jax.tree.leaves(moved))


@OPTIMIZERS
def test_what_is_like_a_parameter_has_its_axes(name):
    optimizer = make(name).create(_params())
    axes = optimizer.optimizer_def.derive_logical_axes(optimizer, _tree(AXES))
    arrays = traverse_util.flatten_dict(optimizer.state.param_states)
    specs = traverse_util.flatten_dict(axes.state.param_states)
    assert arrays.keys() == specs.keys()
    for path, x in arrays.items():
        is_like = x.shape == SHAPES.get(path[-2:])
        assert specs[path] == (AXES[path[-2:]] if is_like else None), path


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """Name -> what was saved of it after two steps, through one checkpoint of all."""
    saved = {name: _trained(name).state_dict() for name in TRAINED}
    path = tmp_path_factory.mktemp("checkpoint") / "state"
    ocp.PyTreeCheckpointer().save(path, core.unfreeze(saved))
    return ocp.PyTreeCheckpointer().restore(path)


@OPTIMIZERS
def test_a_checkpoint_resumes_to_the_bit(name, restored):
    fresh = make(name).create(jax.tree.map(jnp.zeros_like, _params()))
    resumed = fresh.restore_state(jax.tree.map(jnp.asarray, restored[name]))
    _assert_trees_equal(resumed.state, _trained(name).state)
    assert int(resumed.state.step) == 2
    expected, resumed = _train(_trained(name), [2]), _train(resumed, [2])
    _assert_trees_equal(resumed.target, expected.target)
    _assert_trees_equal(resumed.state, expected.state)


@OPTIMIZERS
def test_a_state_that_t5x_restored_keeps_its_dtypes(name):
    """T5X restores numbers as float32, and a compiled step takes one dtype."""
    trained = _trained(name)
    state = trained.state.replace(
        param_states=jax.tree.map(
            lambda x: x if jnp.ndim(x) else jnp.asarray(x, jnp.float32),
            trained.state.param_states,
        )
    )
    after = _train(trained.replace(state=state), [2]).state
    dtypes = lambda state: jax.tree.map(lambda x: x.dtype.name, state.param_states)
    assert dtypes(after) == dtypes(state)


@contextlib.contextmanager
def _float64():
    """With what optax writes as jnp.float32."""
    with jax.enable_x64(True), mock.patch.object(jnp, "float32", jnp.float64):
        yield


@OPTIMIZERS
def test_hypergradients_match_finite_differences(name):
    names = learned(name)
    if not names:
        return
    with _float64(), _unchecked_derivatives():
        definition = optimizers.GuidedOptimizer(
            make(name), names, 0.1, discount=0.0, sensitivity_dtype="float32"
        )
        weights = _random_tree(9)

        @jax.jit
        def step(raw, optimizer, grads, rate):
            state = optimizer.state.replace(hyperparams=raw)
            new = optimizer.replace(state=state).apply_gradient(grads, learning_rate=rate)
            products = jax.tree.map(lambda x, y: jnp.sum(x * y), new.target, weights)
            loss = jax.tree.reduce(jnp.add, products)
            return new, loss, definition.hypergradient(new.target, new.state, weights)

        optimizer = definition.create(_params())
        raw = optimizer.state.hyperparams
        for i, rate in enumerate(LEARNING_RATES):
            before = optimizer, _gradients(i), rate
            optimizer, _, found = step(raw, *before)
        for hyperparam in names:
            above, below = (
                step({**raw, hyperparam: raw[hyperparam] + shift}, *before)[1]
                for shift in (1e-4, -1e-4)
            )
            difference = (above - below) / 2e-4
            np.testing.assert_allclose(found[hyperparam], difference, rtol=1e-5)
