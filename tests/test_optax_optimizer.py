"""What OptaxOptimizer takes and refuses, and transformations that are made of others."""

import functools
from typing import NamedTuple

from flax import core, traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import optax.contrib
import pytest

from gbt_t5x import adam, contrib, learnable, optimizers as guided
from gbt_t5x.optax_optimizer import OptaxOptimizer

# Two kernels of one shape and different axes.
AXES = core.freeze(
    {
        "encoder": {
            "wi": {"kernel": PartitionSpec("embed", "mlp")},
            "norm": {"scale": PartitionSpec("embed")},
        },
        "decoder": {"wo": {"kernel": PartitionSpec("mlp", "embed")}},
    }
)


def _params(seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda axes: jnp.asarray(rng.normal(size=(4,) * len(axes)), jnp.float32), AXES
    )


def _by_path(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "a" if "encoder" in jax.tree_util.keystr(path) else "b", params
    )


def _nested(params, label="b"):
    """Of the type of the parameters, which a placeholder has not."""
    return type(params)(
        {
            k: _nested(v, "a" if k == "encoder" else label)
            if hasattr(v, "items")
            else label
            for k, v in params.items()
        }
    )


def _by_rank(params):
    return jax.tree.map(lambda x: "a" if x.ndim == 2 else "b", params)


def _by_name(params):
    """Of parameters of these names only."""
    assert params["encoder"]["wi"]["kernel"].ndim == 2
    return _by_path(params)


def _labelled(labels):
    def two(learning_rate, weight_decay=0.01, momentum=0.9):
        transformations = {
            "a": optax.adamw(learning_rate, weight_decay=weight_decay),
            "b": optax.sgd(learning_rate, momentum=momentum),
        }
        return optax.partition(transformations, labels)

    return two


def _masked(learning_rate):
    return optax.adamw(
        learning_rate, mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
    )


@pytest.mark.parametrize(
    ("transformation", "count"),
    [
        (_labelled(_by_path), 5),  # two moments of two parameters, and a trace of one
        (_labelled(_nested), 5),
        (_labelled(_by_rank), 5),
        (_labelled(_by_name), 5),
        (_masked, 6),
        (optax.contrib.muon, 4),  # one moment of matrices, two of the vector
        (optax.sm3, 3),
    ],
)
def test_axes_follow_the_paths_of_parameters(transformation, count):
    optimizer = OptaxOptimizer(transformation).create(_params())
    axes = optimizer.optimizer_def.derive_logical_axes(optimizer, AXES)
    flat = traverse_util.flatten_dict(axes.state.param_states)
    assert flat.keys() == traverse_util.flatten_dict(optimizer.state.param_states).keys()
    params = traverse_util.flatten_dict(core.unfreeze(AXES))
    found = {path: spec for path, spec in flat.items() if spec is not None}
    for path, spec in found.items():
        assert spec == params[path[-3:]], path
    assert len(found) == count


def test_labelled_transformations_update_as_in_optax():
    two = _labelled(_by_path)
    optimizer, params = OptaxOptimizer(two).create(_params()), _params()
    state = two(0.1).init(params)
    for seed in (1, 2):
        optimizer = optimizer.apply_gradient(_params(seed), learning_rate=0.1)
        updates, state = two(0.1).update(_params(seed), state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(np.testing.assert_array_equal, optimizer.target, params)


@pytest.mark.parametrize("labels", [_by_path, _by_name])
def test_settings_of_a_part_can_be_learned(labels):
    """The weight decay moves nothing that is not labelled, and is not refused."""
    base = OptaxOptimizer(_labelled(labels))
    definition = guided.GuidedOptimizer(
        base, ["alpha", "weight_decay", "beta1"], 0.1, discount=0.0
    )
    optimizer = definition.create(_params())
    for seed in (1, 2):
        optimizer = optimizer.apply_gradient(_params(seed), learning_rate=0.1)
    found = definition.hypergradient(optimizer.target, optimizer.state, _params(3))
    assert all(np.isfinite(x) and x != 0 for x in found.values())


class _Keyed(NamedTuple):
    key: jax.Array


def _with_raw_key(learning_rate):
    def update(grads, state, params=None):
        key, of_step = jax.random.split(state.key)
        noise = learning_rate * jax.random.normal(of_step)
        return jax.tree.map(lambda g: noise * g, grads), _Keyed(key)

    init = lambda _: _Keyed(jax.random.PRNGKey(2**31 + 3))
    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize(
    ("transformation", "arguments"),
    [
        (optax.noisy_sgd, {"key": jax.random.key(3)}),
        (optax.noisy_sgd, {"key": jax.random.key(3, impl="rbg")}),
        (_with_raw_key, {}),
    ],
)
def test_keys_survive_a_restoration_as_float32(transformation, arguments):
    """T5X restores whole states so. A float32 has 24 bits, a number of a key 32."""
    optimizer = OptaxOptimizer(transformation, **arguments).create(_params())
    optimizer = optimizer.apply_gradient(_params(1), learning_rate=0.1)
    restored = jax.tree.map(lambda x: x.astype(jnp.float32), optimizer)
    step = jax.jit(lambda o: o.apply_gradient(_params(2), learning_rate=0.1))
    expected, new = step(optimizer), step(restored)
    jax.tree.map(np.testing.assert_array_equal, new, expected)
    dtypes = [jax.tree.map(lambda x: x.dtype, o) for o in (restored, new)]
    assert dtypes[0] == dtypes[1]  # a step that was compiled for one takes the other


def test_arrays_without_elements_are_not_kept():
    optimizer = OptaxOptimizer(optax.contrib.galore, rank=2).create(_params())
    for _ in range(2):
        assert all(x.size for x in jax.tree.leaves(optimizer.state.param_states))
        optimizer = optimizer.apply_gradient(_params(1), learning_rate=0.1)


def test_a_missing_array_is_an_error():
    optimizer = OptaxOptimizer(optax.sgd, momentum=0.9).create(_params())
    del optimizer.state.param_states["0"]["trace"]["decoder"]["wo"]["kernel"]
    with pytest.raises(KeyError, match="kernel"):
        optimizer.apply_gradient(_params(1), learning_rate=0.1)


class _State(NamedTuple):
    rate: jax.Array


def _keeps_its_first_rate(learning_rate):
    def update(grads, state, params=None):
        return jax.tree.map(lambda g: -state.rate * g, grads), state

    return optax.GradientTransformation(
        lambda _: _State(jnp.asarray(learning_rate)), update
    )


def _wants_the_loss_of_these(learning_rate):
    def init(params):
        return params["encoder"]["wi"]

    def update(grads, state, params=None, *, value):
        return grads, state

    return optax.GradientTransformationExtraArgs(init, update)


def _decides_by_its_rate(learning_rate):
    return optax.sgd(learning_rate) if learning_rate < 1 else optax.adam(learning_rate)


def _sums(learning_rate):
    sums = lambda grads, state, params=None: (jax.tree.map(jnp.sum, grads), state)
    return optax.GradientTransformation(lambda _: optax.EmptyState(), sums)


def _keyword_arguments(learning_rate, **arguments):
    return optax.sgd(learning_rate, **arguments)


@pytest.mark.parametrize(
    ("transformation", "arguments", "message"),
    [
        ("adamw", {}, "transformation='adamw': must be a function"),
        (optax.sgd(0.1), {}, "must be a function .* without parentheses"),
        (optax.clip, {}, "learning_rate of clip"),
        (optax.sgd, {"learning_rate": 0.1}, "learning_rate of sgd"),
        (optax.sgd, {"b3": 0.1}, r"OptaxOptimizer\.b3: sgd has no such argument"),
        (optax.adamw, {"weight_decy": 0.1}, "no such argument; it has weight_decay"),
        (optax.contrib.dpsgd, {}, "dpsgd needs .*: set OptaxOptimizer"),
        (optax.adamw, {"b1": "0.9"}, r"OptaxOptimizer\.b1='0.9': must be a number"),
        (optax.sgd, {"momentum": [0.9]}, r"momentum=\[0.9\]: must be a number"),
        (optax.adamw, {"eps": None}, "cannot use adamw: .* it fails, TypeError"),
        (
            adam.lamb,
            {"b1": None},
            "TypeError.* OptaxOptimizer.b1 is None: set it to a num",
        ),
        (optax.adamw, {"b1": True}, "b1=True: must be a number"),
        (optax.adamw, {"b1": 1.0}, r"b1=1.0: must be in \[0, 1\)"),
        (optax.adamw, {"b2": -0.1}, r"b2=-0.1: must be in \[0, 1\)"),
        (optax.adamw, {"eps": float("nan")}, "eps=nan: must not be NaN"),
        (
            optax.adafactor,
            {"weight_decay_rate": -0.1},
            "weight_decay_rate=-0.1: must be >= 0",
        ),
        (optax.adamw, {"eps": float("inf")}, "eps=inf: must be >= 0 and finite"),
        (optax.sgd, {"nesterov": "False"}, "nesterov='False': must be True or False"),
        (optax.adamw, {"mu_dtype": "float33"}, "adamw does not take .* TypeError"),
        (lambda learning_rate: None, {}, "gives None, which is no"),
        (optax.rprop, {}, "rprop: its state is made of the first learning rate"),
        (_keeps_its_first_rate, {}, "its state is made of the first learning rate"),
        (optax.lbfgs, {}, "lbfgs: .* 'value', 'grad', and 'value_fn'"),
        (_decides_by_its_rate, {}, "TracerBoolConversionError"),
        (_sums, {}, "its updates are not like the gradients"),
    ],
)
def test_what_cannot_train_is_refused_at_construction(transformation, arguments, message):
    with pytest.raises(ValueError, match=message):
        OptaxOptimizer(transformation, **arguments)


def test_what_wants_parameters_of_certain_names_is_tried_on_them():
    definition = OptaxOptimizer(_wants_the_loss_of_these)
    with pytest.raises(ValueError, match="missing .* 'value'"):
        definition.create(_params())


def test_arguments_may_be_keyword_arguments_masks_and_arrays():
    OptaxOptimizer(_keyword_arguments, momentum=0.9)
    OptaxOptimizer(optax.lars, weight_decay_mask=lambda params: params)
    OptaxOptimizer(optax.sgd, momentum=np.float32(0.9))
    OptaxOptimizer(optax.adafactor, clipping_threshold=None, momentum=None)
    OptaxOptimizer(optax.adamw, b1=jnp.asarray(0.9), eps=0)


@pytest.mark.parametrize(
    ("base", "names", "message"),
    [
        (OptaxOptimizer(optax.lamb), ["beta1"], "beta1 of lamb: it corrects the bias"),
        (OptaxOptimizer(optax.adan), ["beta2"], "beta2 of adan: it corrects the bias"),
        (
            OptaxOptimizer(optax.adamw),
            ["beta1", "beta2"],
            "cannot learn beta1 of adamw.*; cannot learn beta2 of adamw",
        ),
        (
            OptaxOptimizer(optax.lion),
            ["beta1", "beta2"],
            "beta1 of lion: its update is a step function of b1.*beta2 of lion",
        ),
        (
            OptaxOptimizer(optax.contrib.madgrad),
            ["alpha"],
            "alpha of madgrad: the derivative by learning_rate is not finite",
        ),
        (OptaxOptimizer(optax.sgd), ["beta1"], "the momentum of sgd is None: set it"),
        (OptaxOptimizer(optax.sgd), ["epsilon"], "cannot learn epsilon: sgd has none"),
        (OptaxOptimizer(adam.lamb), ["weight_decay"], "weight_decay starts at 0.0"),
    ],
)
def test_what_optax_cannot_learn_is_refused(base, names, message):
    with pytest.raises(ValueError, match=message):
        guided.GuidedOptimizer(base, names, 0.1)


def test_a_function_that_wraps_another_is_called_itself():
    @functools.wraps(optax.sgd)
    def clipped(learning_rate, **arguments):
        return optax.chain(optax.clip(0.5), optax.sgd(learning_rate, **arguments))

    definition = OptaxOptimizer(clipped, momentum=0.5)
    optimizer = definition.create({"w": jnp.zeros(3)})
    optimizer = optimizer.apply_gradient({"w": jnp.full(3, 100.0)}, learning_rate=1.0)
    np.testing.assert_array_equal(optimizer.target["w"], np.full(3, -0.5))
    learned = guided.GuidedOptimizer(definition, ["alpha"], 1e-3)
    assert learned._sensitivities.closed == []


def test_arguments_that_choose_the_program_cannot_be_learned():
    def chooses(learning_rate, momentum=0.9):
        return optax.sgd(learning_rate, momentum=momentum if momentum > 0 else None)

    with pytest.raises(ValueError, match="beta1 of chooses: it cannot be differentiated"):
        learnable.settings(OptaxOptimizer(chooses), ["beta1"])


@pytest.mark.parametrize("is_guided", [False, True])
@pytest.mark.parametrize(
    ("transformation", "arguments"),
    [
        (adam.adamw, {}),
        (adam.lamb, {}),
        (contrib.adafactor, {}),
        (optax.sgd, {"momentum": 0.9}),
    ],
)
def test_a_state_of_bfloat16_keeps_its_types(transformation, arguments, is_guided):
    """Else the compiled step does not take what it gave."""
    definition = OptaxOptimizer(transformation, **arguments)
    if is_guided:
        definition = guided.GuidedOptimizer(definition, ["alpha", "beta1"], 0.1)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), _params())
    optimizer = definition.create(params)
    new = jax.eval_shape(
        lambda optimizer: optimizer.apply_gradient(
            params, learning_rate=jnp.float32(0.1)
        ),
        optimizer,
    )
    types = [jax.tree.map(lambda x: x.dtype, of) for of in (optimizer, new)]
    assert types[0] == types[1]
    assert jnp.bfloat16 in jax.tree.leaves(types[0].state.param_states)
