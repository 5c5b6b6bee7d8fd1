"""Sensitivities against the derivatives of whole runs, and the groups that share them."""

import dataclasses
import functools
import inspect
import re

from flax import core, traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import optax.contrib
import pytest
from t5x import adafactor, optimizers as t5x_optimizers

from gbt_t5x import (
    groups as groups_lib,
    hyperparams,
    learnable,
    optax_optimizer,
    optimizers,
)
import tiny

LEARNING_RATE = 0.05
SIZES = {"wide": (4, 6), "flat": (2, 8), "scale": (5,)}
GROUPS = [("matrices", "wide|flat"), ("rest", ".*")]
_SECOND_MOMENTS = re.compile(r"(^|[.\]'])(v|v_row|v_col|nu|nu_decay)\b")
BASES = {
    **tiny.BASES,
    # Keeps a counter, an integer, among its moments.
    "optax_adamw": (
        lambda: optax_optimizer.OptaxOptimizer(optax.adamw, weight_decay=0.01),
        ("alpha", "weight_decay", "epsilon"),
    ),
    "adafactor_beta1": (tiny.BASES["adafactor"][0], ("beta1",)),
}
# T5X's own Adafactor alone has a weight decay that follows the learning rate.
if "weight_decay_rate_lr_exponent" in inspect.signature(adafactor.Adafactor).parameters:
    BASES["adafactor_decay_follows"] = (
        lambda: adafactor.Adafactor(
            beta1=0.5,
            weight_decay_rate=0.01,
            weight_decay_rate_lr_exponent=1.0,
            min_dim_size_to_factor=4,
        ),
        ("alpha", "beta1"),
    )


@pytest.fixture
def float64(monkeypatch):
    """Computes in 64 bits what T5X writes as jnp.float32."""
    monkeypatch.setattr(jnp, "float32", jnp.float64)
    with jax.enable_x64(True):
        yield


def trees(count, size=1.0):
    """Random trees of parameters."""
    rng = np.random.default_rng(count)
    return [
        {k: jnp.asarray(size * rng.normal(size=s)) for k, s in SIZES.items()}
        for _ in range(count)
    ]


def guided(base, groups=None, discount=None, dtype="float32"):
    make_base, names = BASES[base]
    return optimizers.GuidedOptimizer(
        make_base(),
        names,
        0.1,
        groups=groups,
        discount=discount,
        sensitivity_dtype=None if discount is None else dtype,
    )


def _hold(path, x):
    """A second moment is a constant to the step that starts from it."""
    held = _SECOND_MOMENTS.search(jax.tree_util.keystr(path))
    return jax.lax.stop_gradient(x) if held else x


def run(optimizer, gradients, raws):
    """The optimizer after updates by constant gradients, each with its own λ."""

    def update(optimizer, inputs):
        grads, raw = inputs
        state = optimizer.state
        held = jax.tree_util.tree_map_with_path(_hold, state.param_states)
        state = state.replace(hyperparams=raw, param_states=held)
        optimizer = optimizer.replace(state=state)
        return optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE), None

    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    return jax.lax.scan(update, optimizer, (stack(gradients), stack(raws)))[0]


def moved(raw, seed):
    """λ that differs from step to step, and between groups."""
    leaves, treedef = jax.tree.flatten(raw)
    rng = np.random.default_rng(seed)
    return treedef.unflatten([x + 0.3 * rng.normal(size=x.shape) for x in leaves])


@pytest.mark.parametrize(
    ("groups", "discount"),
    [(None, 0.0), (GROUPS, 0.0), (GROUPS, 0.5)],
    ids=["greedy", "greedy_groups", "discounted_groups"],
)
@pytest.mark.parametrize("base", BASES)
def test_hypergradient_is_the_discounted_derivative_of_the_run(
    float64, base, groups, discount
):
    """ĝ = Σ_t γ^(T-t) d(w·θ_T+1)/dλ_t, gradients held constant.

    So is the second moment that a step starts from.
    """
    params, weights, *gradients = trees(5)
    definition = guided(base, groups, discount)
    greedy, optimizer = guided(base, groups).create(params), definition.create(params)
    raws = [moved(optimizer.state.hyperparams, seed) for seed in range(len(gradients))]

    def loss(raws):
        final = run(greedy, gradients, raws)
        products = jax.tree.map(lambda w, x: jnp.sum(w * x), weights, final.target)
        return sum(jax.tree.leaves(products))

    by_step = jax.jit(jax.grad(loss))(raws)
    expected = jax.tree.map(jnp.zeros_like, by_step[0])
    for derivative in by_step:
        expected = jax.tree.map(lambda z, d: discount * z + d, expected, derivative)
    final = jax.jit(lambda raws: run(optimizer, gradients, raws))(raws)
    found = definition.hypergradient(final.target, final.state, weights)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    # T5X keeps Adafactor's moments in float32.
    rtol = 1e-5 if base.startswith("adafactor") else 1e-10
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, rtol=rtol, atol=1e-9),
        found,
        expected,
    )
    assert any(np.any(abs(x) > 1e-3) for x in jax.tree.leaves(expected))


def test_beta1_follows_from_alpha_where_every_update_is_made():
    """Not where T5X's Adafactor leaves out the updates that are NaN."""
    params = trees(1)[0]
    for skips in (False, True):
        base = adafactor.Adafactor(beta1=0.5)
        object.__setattr__(base.hyper_params, "skip_nan_updates", skips)
        definition = optimizers.GuidedOptimizer(
            base, ["alpha", "beta1"], 0.1, discount=0.0
        )
        kept = definition.init_state(params).sensitivity["params"]
        assert set(kept) == ({"alpha", "beta1"} if skips else {"alpha"})


@pytest.mark.parametrize("base", BASES)
def test_keeping_sensitivities_changes_no_update(base):
    params, *gradients = trees(4)
    raw = guided(base).init_state(params).hyperparams
    plain, sensitive = (
        run(guided(base, discount=discount).create(params), gradients, [raw] * 3)
        for discount in (None, 0.5)
    )
    jax.tree.map(np.testing.assert_array_equal, plain.target, sensitive.target)
    jax.tree.map(
        np.testing.assert_array_equal,
        plain.state.param_states,
        sensitive.state.param_states,
    )


def test_momentum_of_bfloat16_has_a_discounted_derivative():
    params, *gradients = trees(4)
    found = []
    for dtype in (jnp.bfloat16, jnp.float32):
        base = optax_optimizer.OptaxOptimizer(optax.adam, mu_dtype=dtype)
        definition = optimizers.GuidedOptimizer(base, ["alpha"], 0.1, discount=0.9)
        raw = definition.init_state(params).hyperparams
        state = run(definition.create(params), gradients, [raw] * 3).state
        found.append(definition.hypergradient(params, state, gradients[0]))
    close = functools.partial(np.testing.assert_allclose, rtol=0.05)
    jax.tree.map(close, *found)


_ADAFACTOR = lambda: adafactor.Adafactor(beta1=0.5)
_sgd = functools.partial(optax_optimizer.OptaxOptimizer, optax.sgd)


@pytest.mark.parametrize(
    ("make_base", "names", "discount", "kept"),
    [
        (_ADAFACTOR, ("alpha", "beta1"), 0.0, {"alpha"}),
        (_ADAFACTOR, ("beta1",), 0.0, {"beta1"}),
        (_ADAFACTOR, ("alpha", "beta1"), 0.5, {"alpha", "beta1"}),
        (tiny.BASES["lamb"][0], tiny.ADAM, 0.0, {"beta1", "beta2"}),
        (tiny.BASES["adamw"][0], tiny.ADAM, 0.0, {"beta1", "beta2"}),
        (tiny.BASES["adamw"][0], tiny.ADAM, 0.5, set(tiny.ADAM)),
        (lambda: _sgd(momentum=0.5), ("alpha", "beta1"), 0.0, {"beta1"}),
        # Their steps are not what the state has.
        (lambda: _sgd(), ("alpha",), 0.0, {"alpha"}),
        (lambda: _sgd(momentum=0.5, nesterov=True), ("alpha",), 0.0, {"alpha"}),
        (
            lambda: _sgd(momentum=0.5, accumulator_dtype=jnp.bfloat16),
            ("alpha",),
            0.0,
            {"alpha"},
        ),
        (BASES["optax_adamw"][0], ("alpha", "epsilon"), 0.0, {"alpha", "epsilon"}),
    ],
)
def test_what_follows_from_the_state_is_not_kept(make_base, names, discount, kept):
    definition = optimizers.GuidedOptimizer(make_base(), names, 0.1, discount=discount)
    state = definition.init_state(trees(1)[0])
    assert state.sensitivity["params"].keys() == kept
    assert ("momentum" in state.sensitivity) == (discount > 0)
    has_closed_form = bool({"alpha", "weight_decay"} & (set(names) - kept))
    assert ("rate" in state.sensitivity) == has_closed_form


@pytest.mark.parametrize("discount", [None, 0.0, 0.5])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["all", "groups"])
@pytest.mark.parametrize(
    "make_base",
    [tiny.BASES["lamb"][0], lambda: _sgd(momentum=0.5), lambda: _sgd()],
    ids=["lamb", "momentum", "sgd"],
)
def test_no_part_of_the_state_is_empty(make_base, groups, discount):
    """Else T5X restores nothing: it saves no dictionary that has no array."""
    definition = optimizers.GuidedOptimizer(
        make_base(), ("alpha",), 0.1, groups=groups, discount=discount
    )
    optimizer = definition.create(trees(1)[0])
    for _ in range(2):
        flat = traverse_util.flatten_dict(optimizer.state_dict(), keep_empty_nodes=True)
        assert traverse_util.empty_node not in flat.values()
        arrays = traverse_util.flatten_dict(optimizer.state_dict())
        restored = optimizer.restore_state(traverse_util.unflatten_dict(arrays))
        jax.tree.map(np.testing.assert_array_equal, restored, optimizer)
        optimizer = optimizer.apply_gradient(trees(1)[0], learning_rate=LEARNING_RATE)


@pytest.mark.parametrize("grads_too", [False, True])
def test_lamb_without_a_trust_ratio(float64, grads_too):
    """Where parameters are 0, its step is the rate's, whatever the update's length."""
    params, weights, grads = trees(3)
    zero = {"flat": jnp.zeros(SIZES["flat"])}
    params |= zero
    if grads_too:
        grads |= zero
    definition = guided("lamb", discount=0.0)
    optimizer = definition.create(params)

    def loss(raw):
        state = optimizer.state.replace(hyperparams=raw)
        new = optimizer.replace(state=state).apply_gradient(grads, learning_rate=0.05)
        products = jax.tree.map(lambda w, x: jnp.sum(w * x), weights, new.target)
        return sum(jax.tree.leaves(products)), new

    expected, new = jax.jacfwd(loss, has_aux=True)(optimizer.state.hyperparams)
    found = definition.hypergradient(new.target, new.state, weights)
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, 1e-9, 1e-12), found, expected
    )


@pytest.mark.parametrize("base", ["lamb", "adamw", "sgd"])
def test_moments_without_an_update_say_nothing(base):
    """As at the start of a run, or where parameters alone were restored."""
    params, grads = trees(2)
    definition = guided(base, discount=0.0)
    state = definition.init_state(params)
    for step in (0, 1000):
        state = state.replace(step=jnp.int32(step))
        found = definition.hypergradient(params, state, grads)
        assert found == dict.fromkeys(found, 0.0)


@pytest.mark.parametrize(
    ("groups", "discount", "dtype"),
    [
        (None, 0.0, "float32"),
        (None, 0.5, "int8"),
        (GROUPS, 0.0, "int8"),
        (GROUPS, 0.5, "bfloat16"),
    ],
)
@pytest.mark.parametrize("base", BASES)
def test_state_is_partitioned_checkpointed_and_stable(base, groups, discount, dtype):
    definition = guided(base, groups, discount, dtype)
    params, *gradients = (core.freeze(tree) for tree in trees(3))
    axes = core.freeze(
        {name: PartitionSpec(*"abc"[: len(shape)]) for name, shape in SIZES.items()}
    )
    optimizer = definition.create(params)
    specs = definition.derive_logical_axes(optimizer, axes).state_dict()
    saved = optimizer.state_dict()
    shapes = traverse_util.flatten_dict(core.unfreeze(saved), keep_empty_nodes=True)
    specs = traverse_util.flatten_dict(core.unfreeze(specs))
    assert shapes.keys() == specs.keys()
    for path, x in shapes.items():
        if path[1] == "sensitivity" and path[2] == "params":
            is_scale = len(path) > 5 and path[5] == "scale"
            assert x.shape == (() if is_scale else SIZES[path[4]])
            assert specs[path] == (axes[path[4]] if x.shape else None), path
        if path[1] in ("hyperparams", "meta_state"):
            assert specs[path] is None
            if groups and path[-1] != "count":
                assert x.shape == (2,)

    traces = []

    @jax.jit
    def step(optimizer, grads):
        traces.append(optimizer)
        return optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE)

    new = optimizer
    for grads in gradients:
        new = step(new, grads)
    assert len(traces) == 1
    for x, y in zip(jax.tree.leaves(optimizer), jax.tree.leaves(new), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
    restored = optimizer.restore_state(new.state_dict())
    jax.tree.map(np.testing.assert_array_equal, restored, new)


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["all", "groups"])
@pytest.mark.parametrize("discount", [0.0, 0.9])
@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
@pytest.mark.parametrize("base", ["lamb", "sgd"])
def test_roundings_do_not_bias_the_trace(base, dtype, discount, groups):
    """The mean of ĝ over many roundings is that of float32, γ = 0.9 included."""
    params, weights, *gradients = trees(8)
    gradients = jax.tree.map(lambda *x: jnp.stack(x), *gradients)
    number = 300

    def update(optimizer, grads):
        return optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE), None

    def at(dtype):
        definition = guided(base, groups, discount, dtype)
        start = definition.create(params)

        def found(step):
            # Roundings depend on the step, and these optimizers do not.
            optimizer = start.replace(state=start.state.replace(step=step))
            final, _ = jax.lax.scan(update, optimizer, gradients)
            return definition.hypergradient(final.target, final.state, weights)

        return found

    kept = guided(base, groups, discount, dtype).init_state(params).sensitivity["params"]
    exact = at("float32")(jnp.int32(0))
    steps = 100 * jnp.arange(number, dtype=jnp.int32)
    rounded = jax.jit(jax.vmap(at(dtype)))(steps)
    for name, expected in exact.items():
        values = np.asarray(rounded[name])
        if name not in kept:
            np.testing.assert_allclose(values - expected, 0, atol=1e-5)
            continue
        error, deviation = np.abs(values.mean(0) - expected), values.std(0)
        assert np.all(deviation > 0)
        assert np.all(error < 4 * deviation / number**0.5 + 1e-6 * np.abs(expected))


def test_groups_with_equal_hyperparams_are_no_groups():
    params, *gradients = trees(4)
    for base in ("adafactor", "lamb"):
        plain, grouped = (
            run(optimizer, gradients, [optimizer.state.hyperparams] * 3).target
            for optimizer in (
                guided(base).create(params),
                guided(base, GROUPS).create(params),
            )
        )
        jax.tree.map(np.testing.assert_array_equal, plain, grouped)


def test_groups_have_hyperparams_of_their_own():
    params, grads = trees(2)
    optimizer = guided("sgd", GROUPS).create(params)
    raw = optimizer.state.hyperparams
    assert raw.keys() == {"alpha", "beta1"}
    assert optimizer.optimizer_def.group_names(params) == ["matrices", "rest"]
    assert raw["alpha"].shape == (2,)
    raw = {**raw, "alpha": jnp.log(jnp.array([2.0, 0.5]))}
    new = run(optimizer, [grads], [raw]).target
    for name, factor in {"wide": 2.0, "flat": 2.0, "scale": 0.5}.items():
        # float32 of 3 rounded operations.
        np.testing.assert_allclose(
            new[name],
            params[name] - factor * LEARNING_RATE * grads[name],
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_group_for_every_layer_or_every_parameter():
    params = {
        "encoder": {f"layers_{i}": {"wi": {"kernel": i}} for i in range(3)},
        "norm": {"scale": 3},
    }
    layers = groups_lib.Groups([(r"encoder_\1", r"encoder/layers_(\d+)/.*"), ("x", ".*")])
    assert list(layers.split(params)) == ["encoder_0", "encoder_1", "encoder_2", "x"]
    every = groups_lib.Groups([(r"\g<0>", ".*")])
    assert "encoder.layers_1.wi.kernel" in every.split(params)
    assert every.merge(every.split(params), like=params) == params
    frozen = core.freeze(params)
    assert every.merge(every.split(frozen), like=frozen) == frozen


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([("a", "wide")], r"no group matches the parameter (flat|scale): add"),
        ([("a", "wide"), ("b", "wid"), ("c", ".*")], "group 'b' is empty: 'wid' matches"),
        ([("a", "(")], r"'\(' is no regular expression"),
        ([], "groups is empty"),
        ("wide", "groups is empty or no list, 'wide': set GROUPS"),
        (3, "groups is empty or no list, 3: set GROUPS"),
        ({"a": ".*"}, "groups is empty or no list"),
        (["ab"], "'ab' is no pair of a name and an expression: change GROUPS"),
        ([("a", ".*", "b")], "is no pair"),
        ([("a", 3)], "is no pair"),
        ([(None, ".*")], "is no pair"),
        ([("", ".*")], "is no pair"),
        ([("a", "x{99999999999}")], "is no regular expression"),
        ([("a", "(" * 5000 + ")" * 5000)], "is no regular expression"),
        ([(r"\1", ".*")], "does not go with '.*', .*: change GROUPS"),
        ([(r"\g<x>", ".*")], "does not go with"),
        ([(r"\1", "(x?).*")], "is empty for the parameter"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        guided("sgd", groups).init_state(trees(1)[0])


@pytest.mark.parametrize(
    ("discount", "dtype", "message"),
    [
        (
            0.0,
            "int4",
            "sensitivity_dtype='int4': must be None or one of float32, bfloat16",
        ),
        (0.0, 8, "sensitivity_dtype=8: must be None .* set SENSITIVITY_DTYPE"),
        (None, "int8", "keeps no sensitivities: set SENSITIVITY_DTYPE = None"),
    ],
)
def test_a_dtype_that_no_sensitivity_has_is_refused(discount, dtype, message):
    with pytest.raises(ValueError, match=message):
        optimizers.GuidedOptimizer(
            adafactor.Adafactor(beta1=0.5),
            ["alpha"],
            0.1,
            discount=discount,
            sensitivity_dtype=dtype,
        )


@pytest.mark.parametrize("follows", [False, True])
def test_beta1_is_not_derived_from_a_decay_that_follows_the_rate(follows):
    """As T5X's Adafactor can have it: alpha moves the decay too."""
    base = adafactor.Adafactor(beta1=0.5)
    if follows:
        field = ("weight_decay_rate_lr_exponent", float, dataclasses.field(default=1.0))
        settings = dataclasses.make_dataclass(
            "Following", [field], bases=(type(base.hyper_params),), frozen=True
        )
        given = vars(base.hyper_params) | {"weight_decay_rate_lr_exponent": 1.0}
        base.hyper_params = settings(**given)
    names = ("alpha", "beta1")
    definition = optimizers.GuidedOptimizer(base, names, 0.1, discount=0.0)
    kept = definition.init_state({"w": jnp.ones((4, 4))}).sensitivity["params"]
    assert set(kept) == (set(names) if follows else {"alpha"})


class OwnOptimizer(t5x_optimizers.OptimizerDef):
    """A user's, of which nothing is known."""

    def init_state(self, params):
        return t5x_optimizers.OptimizerState(jnp.asarray(0), {})

    def apply_gradient(self, hyper_params, params, state, grads):
        rate = hyper_params.learning_rate
        params = jax.tree.map(lambda x, g: x - rate * g, params, grads)
        return params, state.replace(step=state.step + 1)


@pytest.mark.parametrize("groups", [None, [("all", ".*")]])
@pytest.mark.parametrize(
    ("base", "state"),
    [
        (optax_optimizer.OptaxOptimizer(optax.sm3), "ScaleBySM3State"),
        (
            optax_optimizer.OptaxOptimizer(optax.contrib.schedule_free_adamw),
            "ScheduleFreeState",
        ),
        (OwnOptimizer(adafactor.Adafactor().hyper_params), "OwnOptimizer"),
    ],
)
def test_momentum_that_is_not_known_is_not_carried(base, state, groups):
    params = {"w": jnp.ones((4, 4))}
    make = functools.partial(
        optimizers.GuidedOptimizer, base, ["alpha"], 0.1, groups=groups
    )
    make(discount=0.0).init_state(params)
    with pytest.raises(ValueError, match=f"what {state} of .* not known: set DISCOUNT"):
        make(discount=0.5).init_state(params)


def partitioned(learning_rate, momentum):
    parts = {part: optax.sgd(learning_rate, momentum) for part in ("a", "b")}
    return optax.partition(parts, lambda params: {k: "ab"[k == "flat"] for k in params})


def masked(learning_rate, momentum):
    return optax.masked(optax.sgd(learning_rate, momentum), lambda params: True)


@pytest.mark.parametrize("transformation", [partitioned, masked, optax.sgd])
def test_one_group_has_the_hypergradient_of_none(transformation):
    """Also of momentum in a state that is no chain."""
    base = optax_optimizer.OptaxOptimizer(transformation, momentum=0.75)
    params, *gradients, at_end = trees(5)
    found = []
    for groups in (None, [("all", ".*")]):
        definition = optimizers.GuidedOptimizer(
            base,
            ["alpha", "beta1"],
            0.1,
            groups=groups,
            discount=0.5,
            sensitivity_dtype="float32",
        )
        optimizer = definition.create(params)
        raws = [moved(optimizer.state.hyperparams, seed) for seed in range(3)]
        optimizer = run(
            optimizer,
            gradients,
            [jax.tree.map(jnp.ravel, r) if groups else r for r in raws],
        )
        state = optimizer.state
        found.append(definition.hypergradient(optimizer.target, state, at_end))
    for name, of_none in found[0].items():
        assert of_none != 0
        np.testing.assert_allclose(found[1][name], [of_none], rtol=1e-5)


def test_a_parameter_named_as_momentum_is_none():
    base = optax_optimizer.OptaxOptimizer(optax.adamw)
    params = {"m": jnp.ones(3), "w": {"mu": jnp.ones(2)}}
    found = learnable.momentum(base.init_state(params).param_states)
    assert sorted(found) == ["0.mu.m", "0.mu.w.mu"]


@pytest.mark.parametrize("discount", [-0.1, 1.0, float("nan")])
def test_a_discount_outside_its_range_is_refused(discount):
    with pytest.raises(ValueError, match="discount=.*set DISCOUNT"):
        guided("sgd", discount=discount)


def test_without_information_nothing_is_learned_or_counted():
    definition = guided("sgd")
    state = definition.init_state(trees(1)[0])
    zeros = jax.tree.map(jnp.zeros_like, state.hyperparams)
    after, _ = definition.apply_hypergradient(state, zeros)
    jax.tree.map(np.testing.assert_array_equal, state, after)
    assert set(hyperparams.values(state.hyperparams)) == {"alpha", "beta1"}
