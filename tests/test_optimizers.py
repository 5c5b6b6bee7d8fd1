"""The contract of GuidedOptimizer, for every base and choice of hyper-parameters."""

from flax import core, traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import pytest
from t5x import adafactor, optimizers

from gbt_t5x import (
    hyperparams as hyperparams_lib,
    optax_optimizer,
    optimizers as guided,
)
import tiny

CHOICES = pytest.mark.parametrize("names", [("alpha",), ("beta1",), ("alpha", "beta1")])
BASES = pytest.mark.parametrize("base", tiny.BASES)
LEARNING_RATE = 0.01
NOT_NUMBERS = [None, True, "0.5", [0.5], {}, 10**400, 10**5000, 1j]
META_LEARNING_RATE = 0.05
GROUPS = [("norm", "norm/.*"), ("rest", ".*")]
PARAM_AXES = core.freeze(
    {
        "mlp": {"kernel": PartitionSpec("embed", "mlp")},
        "norm": {"scale": PartitionSpec("embed")},
    }
)


def _base(beta1=0.5):
    return adafactor.Adafactor(beta1=beta1, min_dim_size_to_factor=4)


def _guided(
    names,
    beta1=0.5,
    initial_alpha=1.0,
    meta_learning_rate=META_LEARNING_RATE,
    **kwargs,
):
    return guided.GuidedOptimizer(
        _base(beta1), names, meta_learning_rate, initial_alpha, **kwargs
    )


def _params():
    keys = jax.random.split(jax.random.PRNGKey(0), 2)
    return core.freeze(
        {
            "mlp": {"kernel": jax.random.normal(keys[0], (4, 6))},
            "norm": {"scale": jax.random.normal(keys[1], (6,))},
        }
    )


def _argument(base, name):
    """What a base calls a hyper-parameter."""
    if name == "alpha":
        return name
    own = {
        "adafactor": {"weight_decay": "weight_decay_rate", "epsilon": "epsilon1"},
        "optax_adafactor": {
            "beta1": "momentum",
            "weight_decay": "weight_decay_rate",
            "epsilon": "eps",
        },
        "sgd": {"beta1": "momentum"},
    }
    optax_names = {"beta1": "b1", "beta2": "b2", "epsilon": "eps"}
    return own.get(base, optax_names).get(name, name)


def _gradients(steps=3):
    """Different gradients of different sizes, one tree a step."""
    for step in range(steps):
        key = jax.random.PRNGKey(step + 1)
        yield jax.tree.map(
            lambda x, key=key, size=step + 1: size * jax.random.normal(key, x.shape),
            _params(),
        )


def _hypergradients(names):
    """Of both signs; the first is as small as Adam's ε."""
    for size in (1e-8, 1e-4, 1.0):
        yield {name: jnp.float32(size * (0.3 - i)) for i, name in enumerate(names)}


def _train(optimizer, hypergradients=()):
    """One update for every hypergradient."""
    definition = optimizer.optimizer_def
    for grads, hypergradient in zip(
        _gradients(len(hypergradients)), hypergradients, strict=True
    ):
        optimizer = optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE)
        state, _ = definition.apply_hypergradient(optimizer.state, hypergradient)
        optimizer = optimizer.replace(state=state)
    return optimizer


def _assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


@CHOICES
def test_initial_values_are_alpha_and_the_momentum_of_the_base(names):
    expected = {"alpha": 2.0 if "alpha" in names else 1.0, "beta1": 0.9}
    optimizer = _guided(names, beta1=0.9, initial_alpha=expected["alpha"])
    values = hyperparams_lib.values(optimizer.init_state(_params()).hyperparams)
    assert values.keys() == set(names)
    for name in names:
        # float32 rounds the raw numbers 0.69 and 2.2 by 1e-7 at most.
        np.testing.assert_allclose(values[name], expected[name], rtol=5e-7)


@BASES
def test_initial_values_are_the_settings_of_the_base(base):
    make_base, names = tiny.BASES[base]
    definition = guided.GuidedOptimizer(make_base(), names, 0.1, initial_alpha=2.0)
    values = hyperparams_lib.values(definition.init_state(_params()).hyperparams)
    assert values.keys() == set(names)
    settings = vars(make_base().hyper_params) | {"alpha": 2.0}
    for name in names:
        # float32 rounds raw numbers of up to 28, of epsilon, by 2e-6.
        np.testing.assert_allclose(
            values[name], settings[_argument(base, name)], rtol=2e-6
        )


@BASES
def test_without_hypergradients_it_is_the_base_bitwise(base):
    make_base, names = tiny.BASES[base]
    definition = guided.GuidedOptimizer(make_base(), names, 0.1, initial_alpha=2.0)
    optimizer = definition.create(_params())
    raw = optimizer.state.hyperparams
    values = hyperparams_lib.values(raw)  # rounded
    stock = make_base().create(_params())
    settings = {_argument(base, name): values[name] for name in names}
    settings["learning_rate"] = LEARNING_RATE * settings.pop("alpha")
    for grads in _gradients():
        optimizer = optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE)
        stock = stock.apply_gradient(grads, **settings)
    _assert_trees_equal(optimizer.state.hyperparams, raw)
    _assert_trees_equal(optimizer.target, stock.target)
    _assert_trees_equal(optimizer.state.param_states, stock.state.param_states)
    _assert_trees_equal(optimizer.state.step, stock.state.step)
    assert int(optimizer.state.step) == 3


def test_what_is_not_learned_keeps_its_setting():
    for beta1 in (None, 0.9):
        optimizer = _guided(["alpha"], beta1=beta1).create(_params())
        stock = _base(beta1).create(_params())
        for grads in _gradients():
            optimizer = optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE)
            stock = stock.apply_gradient(grads, learning_rate=LEARNING_RATE)
        _assert_trees_equal(optimizer.target, stock.target)


def test_hyperparams_of_the_state_are_those_of_the_update():
    optimizer = _guided(["alpha", "beta1"]).create(_params())
    raw = {"alpha": jnp.log(3.0), "beta1": jnp.log(0.8 / 0.2)}
    optimizer = optimizer.replace(state=optimizer.state.replace(hyperparams=raw))
    stock = _base(beta1=0.8).create(_params())
    for grads in _gradients():
        optimizer = optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE)
        stock = stock.apply_gradient(grads, learning_rate=3 * LEARNING_RATE)
    # Rounding of the two raw numbers, against updates of 0.03.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
        optimizer.target,
        stock.target,
    )


@CHOICES
def test_hypergradients_are_applied_by_adam(names):
    definition = _guided(names)
    state = first_state = definition.init_state(_params())
    adam = optax.adam(META_LEARNING_RATE, b1=0.9, b2=0.999, eps=1e-8)
    raw = state.hyperparams
    adam_state = adam.init(raw)
    for hypergradient in _hypergradients(names):
        state, _ = definition.apply_hypergradient(state, hypergradient)
        updates, adam_state = adam.update(hypergradient, adam_state, raw)
        raw = optax.apply_updates(raw, updates)
    assert state.hyperparams.keys() == set(names)
    for name in names:
        # float32 rounds to 6e-8; each of the steps moves λ by 0.05.
        np.testing.assert_allclose(state.hyperparams[name], raw[name], rtol=1e-6)
    _assert_trees_equal(state.step, first_state.step)
    _assert_trees_equal(state.param_states, first_state.param_states)


@CHOICES
def test_first_hypergradient_moves_lambda_down_it_by_the_meta_learning_rate(names):
    definition = _guided(names)
    before = definition.init_state(_params())
    signs = {"alpha": 1.0, "beta1": -1.0}
    after, _ = definition.apply_hypergradient(
        before, {name: jnp.float32(7 * signs[name]) for name in names}
    )
    for name in names:
        moved = after.hyperparams[name] - before.hyperparams[name]
        np.testing.assert_allclose(moved, -signs[name] * META_LEARNING_RATE, rtol=1e-5)


def test_each_hyperparam_may_have_its_meta_learning_rate():
    rates = {"alpha": 0.5, "beta1": 0.0}
    definition = _guided(list(rates), meta_learning_rate=rates)
    before = definition.init_state(_params())
    gradient = dict.fromkeys(rates, jnp.float32(-7.0))
    after, _ = definition.apply_hypergradient(before, gradient)
    for name, rate in rates.items():
        moved = after.hyperparams[name] - before.hyperparams[name]
        np.testing.assert_allclose(moved, rate, rtol=1e-5)


@CHOICES
def test_meta_learning_rate_zero_learns_nothing(names):
    optimizer = _guided(names, meta_learning_rate=0.0).create(_params())
    raw = optimizer.state.hyperparams
    trained = _train(optimizer, list(_hypergradients(names)))
    _assert_trees_equal(trained.state.hyperparams, raw)


def test_a_fixed_mean_is_kept_while_the_groups_move():
    definition = _guided(
        ["alpha", "beta1"], initial_alpha=2.0, groups=GROUPS, fixed_mean=["alpha"]
    )
    before = definition.init_state(_params())
    gradient = {"alpha": jnp.array([3.0, -5.0]), "beta1": jnp.array([3.0, 5.0])}
    after, _ = definition.apply_hypergradient(before, gradient)
    moved = {k: after.hyperparams[k] - x for k, x in before.hyperparams.items()}
    step = np.array([META_LEARNING_RATE, META_LEARNING_RATE])
    np.testing.assert_allclose(moved["alpha"], -step * [1, -1], rtol=1e-5)
    np.testing.assert_allclose(moved["beta1"], -step, rtol=1e-5)
    geometric_mean = np.prod(hyperparams_lib.values(after.hyperparams)["alpha"]) ** 0.5
    np.testing.assert_allclose(geometric_mean, 2.0, rtol=1e-6)

    same, _ = definition.apply_hypergradient(before, gradient | {"alpha": jnp.ones(2)})
    np.testing.assert_allclose(same.hyperparams["alpha"], np.log([2.0, 2.0]), rtol=1e-6)


def test_the_fixed_mean_of_one_group_is_refused():
    definition = _guided(["alpha"], groups=[("all", ".*")], fixed_mean=["alpha"])
    with pytest.raises(
        ValueError, match="one λ alone would stay .* GROUPS, of two or mo"
    ):
        definition.init_state(_params())


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("bounds", [None, {"beta1": (0.25, 0.75), "alpha": (0.5, 4.0)}])
def test_at_the_end_of_its_interval_lambda_waits_and_comes_back(groups, bounds):
    """η̂ = 10, by which β1 would be 1 in float32, where its derivative is 0."""
    names = ["alpha", "beta1"]
    definition = _guided(names, meta_learning_rate=10.0, groups=groups, bounds=bounds)
    optimizer = definition.create(_params())
    number = 2 * (len(definition.group_names(_params())) or 1)
    apply = jax.jit(definition.apply_hypergradient)
    ends = {name: (bounds or hyperparams_lib.BOUNDS)[name] for name in names}
    for sign, end in ((-1.0, 1), (1.0, 0), (-1.0, 1)):
        hypergradient = jax.tree.map(
            lambda x, sign=sign: jnp.full_like(x, sign), optimizer.state.hyperparams
        )
        inside = False
        for _ in range(40):
            state, skipped = apply(optimizer.state, hypergradient)
            optimizer = optimizer.replace(state=state)
            assert not skipped
            inside |= int(definition.at_bound(state.hyperparams)) == 0
        assert inside or bounds  # a step of 10 is longer than these
        assert int(definition.at_bound(state.hyperparams)) == number
        for name, value in hyperparams_lib.values(state.hyperparams).items():
            np.testing.assert_allclose(value, ends[name][end], rtol=5e-6)
            low, high = hyperparams_lib.ACTIVATIONS[name].low, 1.0
            assert np.all(value > low) and (name == "alpha" or np.all(value < high))


@BASES
def test_one_compiled_program_takes_every_step_and_equals_no_jit(base):
    make_base, names = tiny.BASES[base]
    definition = guided.GuidedOptimizer(make_base(), names, META_LEARNING_RATE)

    traced = []

    @jax.jit
    def jitted(optimizer, grads, hypergradient):
        traced.append(base)
        optimizer = optimizer.apply_gradient(grads, learning_rate=LEARNING_RATE)
        state, _ = definition.apply_hypergradient(optimizer.state, hypergradient)
        return optimizer.replace(state=state)

    hypergradients = list(_hypergradients(names))
    optimizer = first = definition.create(_params())
    program = jitted.lower(first, next(_gradients()), hypergradients[0]).compile()
    for grads, hypergradient in zip(_gradients(), hypergradients, strict=True):
        # Raises for arguments that it was not compiled for.
        program(optimizer, grads, hypergradient)
        optimizer = jitted(optimizer, grads, hypergradient)
    expected = _train(first, hypergradients)
    assert traced == [base]
    assert jax.tree.structure(optimizer) == jax.tree.structure(first)
    for x, y, z in zip(*map(jax.tree.leaves, (optimizer, expected, first)), strict=True):
        assert x.dtype == y.dtype == z.dtype
        # XLA fuses products and sums: the last bits of float32 differ, over 3 steps.
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


@BASES
def test_state_dict_restores_the_state(base):
    make_base, names = tiny.BASES[base]
    definition = guided.GuidedOptimizer(make_base(), names, META_LEARNING_RATE)
    optimizer = _train(definition.create(_params()), list(_hypergradients(names)))
    saved = optimizer.state_dict()
    assert saved.keys() == {"target", "state"}
    assert saved["state"].keys() == {"step", "param_states", "hyperparams", "meta_state"}
    assert saved["state"]["hyperparams"].keys() == set(names)
    flat = traverse_util.flatten_dict(saved, keep_empty_nodes=True)
    assert traverse_util.empty_node not in flat.values(), "checkpoints lose empty nodes"
    fresh = definition.create(jax.tree.map(jnp.zeros_like, _params()))
    restored = fresh.restore_state(saved)
    assert isinstance(restored.state, guided.GuidedState)
    _assert_trees_equal(restored.target, optimizer.target)
    _assert_trees_equal(restored.state, optimizer.state)
    assert int(restored.state.step) == int(restored.state.meta_state["count"]) == 3


@BASES
def test_state_is_partitioned_like_the_parameters(base):
    make_base, names = tiny.BASES[base]
    definition = guided.GuidedOptimizer(make_base(), names, 0.1)
    optimizer = definition.create(_params())
    axes = definition.derive_logical_axes(optimizer, PARAM_AXES)
    assert core.unfreeze(axes.target) == core.unfreeze(PARAM_AXES)
    shapes = traverse_util.flatten_dict(core.unfreeze(optimizer.state_dict()))
    specs = traverse_util.flatten_dict(core.unfreeze(axes.state_dict()))
    assert shapes.keys() == specs.keys()
    like_params = {(4, 6): PartitionSpec("embed", "mlp"), (6,): PartitionSpec("embed")}
    for path, x in shapes.items():
        factored = path[-1] in ("v_row", "v_col") or {"v_row", "v_col"} & set(path)
        expected = None if factored else like_params.get(x.shape)
        assert specs[path] == expected, path
    moments = {x.shape for path, x in shapes.items() if path[1] == "param_states"}
    assert moments >= {(4, 6), (6,)}


@CHOICES
def test_logical_axes_are_the_parameters_and_lambda_is_replicated(names):
    definition = _guided(names)
    param_axes = PARAM_AXES
    optimizer = definition.create(_params())
    axes = definition.derive_logical_axes(optimizer, param_axes)
    assert isinstance(axes, optimizers.Optimizer)
    assert core.unfreeze(axes.target) == core.unfreeze(param_axes)
    assert isinstance(axes.state, guided.GuidedState)
    assert axes.state.step is None
    assert axes.state.hyperparams == dict.fromkeys(names)
    nothing = dict.fromkeys(names)
    assert axes.state.meta_state == {"count": None, "mu": nothing, "nu": nothing}
    for path in (("mlp", "kernel"), ("norm", "scale")):
        moments = axes.state.param_states[path[0]][path[1]]
        assert moments.m == param_axes[path[0]][path[1]]
        assert moments.v_row is moments.v_col is None
    # The second moment of the matrix is factored, that of the vector is not.
    assert axes.state.param_states["mlp"]["kernel"].v is None
    assert axes.state.param_states["norm"]["scale"].v == PartitionSpec("embed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ["gamma"]}, "unknown hyper-parameter 'gamma'"),
        ({"names": ["alpha", "alpha"]}, "at least one hyper-parameter, each once"),
        ({"names": []}, "at least one hyper-parameter, each once"),
        ({"names": "alpha"}, "hyperparams='alpha': give a list"),
        ({"meta_learning_rate": -0.1}, "meta_learning_rate=-0.1: must be >= 0"),
        ({"meta_learning_rate": float("nan")}, "meta_learning_rate=nan: must be >= 0"),
        ({"meta_learning_rate": float("inf")}, "meta_learning_rate=inf: .* finite"),
        ({"names": ["beta1"], "initial_alpha": 2.0}, "alpha is not learned"),
        ({"names": None}, "hyperparams=None: give a list"),
        ({"names": [["alpha"]]}, "give a list that names .*: set HYPERPARAMS"),
        ({"names": {"alpha": 1}}, "give a list that names .*: set HYPERPARAMS"),
        *(
            ({"meta_learning_rate": x}, "meta_learning_rate=.*: set META_LEARNING_RATE")
            for x in NOT_NUMBERS
        ),
        *(
            (
                {"meta_learning_rate": x},
                "name each of alpha, beta1: set META_LEARNING_RATE",
            )
            for x in ({"alpha": 0.1}, {"alpha": 0.1, "beta1": 0.1, "beta2": 0.1})
        ),
        (
            {"meta_learning_rate": {"alpha": 0.1, "beta1": -1}},
            "meta_learning_rate=-1: must be >= 0",
        ),
        ({"meta_learning_rate": 1e39}, "must be >= 0 and finite as a float32"),
        *(({"initial_alpha": x}, "alpha starts at .*initial_alpha") for x in NOT_NUMBERS),
        ({"names": ["beta1"], "initial_alpha": "1"}, "alpha is not learned"),
        *(
            ({"discount": x}, "discount=.*: set DISCOUNT")
            for x in [*NOT_NUMBERS[1:], -0.1, -1e-60, 1.0, 1 - 1e-9, float("nan")]
        ),
        *(
            ({"bounds": x}, "set BOUNDS")
            for x in [
                3,
                "alpha",
                [("alpha", (0.5, 2.0))],
                {"gamma": (0.5, 2.0)},
                {"beta2": (0.5, 0.75)},
                {3: (0.5, 2.0)},
                {"alpha": 3},
                {"alpha": (2.0, 0.5)},
                {"alpha": (2.0, 4.0)},
                {"alpha": ("a", "b")},
            ]
        ),
        *(
            ({"groups": GROUPS, "fixed_mean": x}, "names of those .*: set FIXED_MEAN")
            for x in [None, "alpha", 3, {"alpha": 1.0}, ["gamma"], [["alpha"]]]
        ),
        ({"fixed_mean": ["alpha"]}, "one λ alone would stay .*: set GROUPS"),
        ({"beta1": None}, "cannot learn beta1: the beta1 of Adafactor is None: set it"),
        ({"names": ["beta2"]}, "cannot learn beta2: Adafactor has none"),
        ({"names": ["decay_rate"]}, "epsilon1 >= 1e-18, not 1e-30"),
        ({"beta1": 0.0}, r"beta1 starts at 0.0, outside \(0, 1\): change the beta1 of"),
        # The embedded Adafactor refuses it by itself.
        ({"beta1": 1.0}, r"beta1=1.0: must|beta1 starts at 1.0, outside \(0, 1\)"),
        ({"initial_alpha": 0.0}, r"alpha starts at 0.0, outside \(0, inf\)"),
    ],
)
def test_unusable_settings_are_refused_at_construction(changes, message):
    with pytest.raises(ValueError, match=message):
        _guided(**{"names": ["alpha", "beta1"], **changes})


@pytest.mark.parametrize(
    "base", [None, "adafactor", adafactor.Adafactor, 3, optax.sgd(0.1), [_base()]]
)
def test_what_is_no_optimizer_is_refused(base):
    with pytest.raises(ValueError, match="GuidedOptimizer.base=.*: set OPTIMIZER"):
        guided.GuidedOptimizer(base, ["alpha"], 0.1)


class _OfOneRate(adafactor.Adafactor):
    """As T5X's OptaxWrapper does, it leaves the trainer's learning rate out."""

    def apply_gradient(self, hyper_params, params, state, grads):
        return super().apply_gradient(self.hyper_params, params, state, grads)


def test_alpha_is_not_learned_where_it_moves_nothing():
    base = _OfOneRate(learning_rate=0.1)
    with pytest.raises(ValueError, match="cannot learn alpha: _OfOneRate does not"):
        guided.GuidedOptimizer(base, ["alpha"], 0.1)
    assert guided.GuidedOptimizer(_base(), ["alpha"], 0.1).hyperparams == ["alpha"]


class _OfNames(adafactor.Adafactor):
    """As T5X's Adafactor with an HParamMap, it takes parameters of certain names."""

    def init_state(self, params):
        if "kernel" in params:
            raise KeyError("No factor rule found for parameter: kernel")
        return super().init_state(params)


def test_an_optimizer_may_take_parameters_of_certain_names_alone():
    assert guided.GuidedOptimizer(_OfNames(), ["alpha"], 0.1).hyperparams == ["alpha"]


def test_epsilon_of_adafactor_is_not_learned_where_the_derivative_overflows():
    base = adafactor.Adafactor(epsilon1=1e-10)
    bounds = {"epsilon": (1e-28, 1e-3)}
    with pytest.raises(ValueError, match="epsilon begins at 1e-28: .* set BOUNDS"):
        guided.GuidedOptimizer(base, ["epsilon"], 0.1, bounds=bounds)
    bounds = {"epsilon": (1e-12, 1e-3)}
    guided.GuidedOptimizer(base, ["epsilon"], 0.1, bounds=bounds)
    of_adam = optax_optimizer.OptaxOptimizer(optax.adam, eps=1e-10)
    bounds = {"epsilon": (1e-28, 1e-3)}
    guided.GuidedOptimizer(of_adam, ["epsilon"], 0.1, bounds=bounds)


def test_an_optimizer_of_several_rates_is_refused():
    several = _base()
    several.hyper_params = [several.hyper_params]  # as T5X's MultiOptimizer has them
    with pytest.raises(ValueError, match="must be an unguided optimizer"):
        guided.GuidedOptimizer(several, ["alpha"], 0.1)


def test_a_guided_optimizer_is_not_guided_again():
    with pytest.raises(ValueError, match="must be an unguided optimizer"):
        guided.GuidedOptimizer(_guided(["alpha"]), ["alpha"], 0.1)
