"""Activations: from raw numbers to values, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gbt_t5x import hyperparams

# The two activations of the paper's Table 5, and values over their domains.
EXP = (np.exp, [1e-6, 0.01, 0.5, 1.0, 2.0, 100.0, 1e6])
SIGMOID = (lambda x: 1 / (1 + np.exp(-x)), [1e-6, 0.1, 0.5, 0.9, 0.999, 0.999999])
TABLE = {
    "alpha": EXP,
    "beta1": SIGMOID,
    "beta2": SIGMOID,
    "epsilon": EXP,
    "weight_decay": EXP,
    "decay_rate": SIGMOID,
    "clipping_threshold": EXP,
}
NAMES = list(hyperparams.ACTIVATIONS)
NAMES_AND_VALUES = [(name, value) for name in NAMES for value in TABLE[name][1]]


@pytest.mark.parametrize("name", NAMES)
def test_activation_is_that_of_the_table(name):
    raw = np.linspace(-10, 10, 41)
    with jax.enable_x64(True):
        value = hyperparams.ACTIVATIONS[name].forward(jnp.asarray(raw))
    np.testing.assert_allclose(value, TABLE[name][0](raw), rtol=1e-13)


@pytest.mark.parametrize(("name", "initial_value"), NAMES_AND_VALUES)
def test_raw_number_gives_the_initial_value(name, initial_value):
    bounds = hyperparams.ACTIVATIONS[name].widest
    hyperparam = hyperparams.HyperParam(name, initial_value, bounds)
    assert hyperparam.raw.shape == ()
    assert hyperparam.raw.dtype == jnp.float32
    # Rounding a raw number of up to 14 to float32 moves log(value) by 5e-7 at most.
    np.testing.assert_allclose(hyperparam.value(hyperparam.raw), initial_value, rtol=2e-6)
    assert hyperparams.values({name: hyperparam.raw}) == {
        name: hyperparam.value(hyperparam.raw)
    }


@pytest.mark.parametrize("name", NAMES)
def test_value_gives_the_raw_number_back(name):
    activation = hyperparams.ACTIVATIONS[name]
    raw = np.linspace(-10, 10, 41)
    with jax.enable_x64(True):
        back = [activation.inverse(float(v)) for v in activation.forward(jnp.array(raw))]
    # Near its upper bound the sigmoid keeps raw numbers to 2^-53 e^10 = 2e-12.
    np.testing.assert_allclose(back, raw, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_activation_increases_strictly(name):
    values = hyperparams.ACTIVATIONS[name].forward(jnp.linspace(-10.0, 10.0, 201))
    assert np.all(np.diff(values) > 0)


@pytest.mark.parametrize("name", NAMES)
def test_activation_stays_in_its_domain(name):
    activation = hyperparams.ACTIVATIONS[name]
    values = activation.forward(jnp.array([-15.0, 15.0]))
    assert np.all((activation.low < values) & (values < activation.high))
    # Where float32 has no number left between value and bound, the bound, never NaN.
    values = activation.forward(jnp.array([-1e30, -200.0, 200.0, 1e30]))
    assert np.all((activation.low <= values) & (values <= activation.high))


def test_unknown_name_is_refused_and_the_known_ones_named():
    with pytest.raises(ValueError, match="unknown hyper-parameter 'gamma'") as error:
        hyperparams.HyperParam("gamma", 0.5)
    for name in NAMES:
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "initial_value", "domain"),
    [
        ("alpha", 0.0, r"\(0, inf\)"),
        ("alpha", -1.0, r"\(0, inf\)"),
        ("alpha", float("inf"), r"\(0, inf\)"),
        ("alpha", float("nan"), r"\(0, inf\)"),
        ("beta1", 0.0, r"\(0, 1\)"),
        ("beta1", 1.0, r"\(0, 1\)"),
        ("beta1", -0.1, r"\(0, 1\)"),
        ("beta1", 1.1, r"\(0, 1\)"),
        ("beta1", 1 - 1e-9, r"\(0, 1\)"),  # 1 as a float32
        ("beta1", float("nan"), r"\(0, 1\)"),
    ],
)
def test_value_outside_the_domain_is_refused(name, initial_value, domain):
    message = rf"{name} starts at {initial_value}, outside {domain}"
    with pytest.raises(ValueError, match=message):
        hyperparams.HyperParam(name, initial_value)


NOT_NUMBERS = [None, True, "0.5", [0.5], (0.5,), {}, 10**400, -(10**400), 10**5000, 1j]


@pytest.mark.parametrize("name", ["alpha", "beta1"])
def test_what_is_no_number_is_refused(name):
    for value in NOT_NUMBERS:
        with pytest.raises(ValueError, match=f"{name} starts at .*, outside .*: change"):
            hyperparams.HyperParam(name, value)


@pytest.mark.parametrize("name", [None, 3, ["alpha"], {}])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match="unknown hyper-parameter .*set HYPERPARAMS"):
        hyperparams.HyperParam(name, 0.5)


@pytest.mark.parametrize(
    "bounds",
    [
        (0.5, 0.5), (0.9, 0.1), (0.0, 0.5), (0.5, 1.0), (-1.0, 0.5), (0.5, 2.0),
        (0.5, 1 - 1e-9), (1e-40, 0.5), (float("nan"), 0.5), (0.5, float("inf")),
        (0.9, 0.9 + 1e-12), (0.5,), (0.1, 0.5, 0.9), 0.5, "ab", [], {0.1: 1, 0.5: 2},
        *((0.1, x) for x in NOT_NUMBERS),
    ],
)  # fmt: skip
def test_what_is_no_interval_inside_the_domain_is_refused(bounds):
    with pytest.raises(ValueError, match="the interval of beta1 is .*: set BOUNDS"):
        hyperparams.HyperParam("beta1", 0.5, bounds)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", [0, 1])
def test_values_at_the_ends_of_intervals_have_derivatives(name, end):
    activation = hyperparams.ACTIVATIONS[name]
    widest, default = activation.widest, hyperparams.BOUNDS[name]
    assert widest[0] <= default[0] < default[1] <= widest[1]
    for bounds in (widest, default):
        hyperparam = hyperparams.HyperParam(name, bounds[end], bounds)
        for forward in (hyperparam.value, jax.jit(hyperparam.value)):
            value, derivative = jax.value_and_grad(forward)(hyperparam.raw)
            # float32 keeps 24 digits of 1 - 1e-6, and of raw numbers of up to 69.
            np.testing.assert_allclose(value, bounds[end], rtol=5e-6)
            assert activation.low < value < activation.high
            assert 0 < derivative < np.inf


@pytest.mark.parametrize("name", NAMES)
def test_settings_in_use_are_inside_the_intervals(name):
    in_use = {
        "alpha": [1e-4, 1.0, 1e4],
        "beta1": [0.001, 0.5, 0.9, 0.99, 0.9999],
        "beta2": [0.5, 0.9, 0.98, 0.999, 0.99999],
        "epsilon": [1e-18, 1e-16, 1e-8, 1e-6, 1e-3, 1.0],
        "weight_decay": [1e-8, 1e-6, 1e-4, 0.01, 0.1, 1.0],
        "decay_rate": [0.3, 0.8, 0.99],
        "clipping_threshold": [0.01, 1.0, 100.0],
    }
    for value in in_use[name]:
        hyperparam = hyperparams.HyperParam(name, value)
        assert hyperparam.project(hyperparam.raw) == hyperparam.raw


def test_an_initial_value_outside_its_interval_is_refused():
    hyperparams.HyperParam("beta1", 0.95, (0.95, 0.99))
    message = r"beta1 starts at 0.9, outside its interval \[0.95, 0.99\]: .*set BOUNDS"
    with pytest.raises(ValueError, match=message):
        hyperparams.HyperParam("beta1", 0.9, (0.95, 0.99))


@pytest.mark.parametrize(
    ("steps", "reach", "message"),
    [
        (0, 15.0, "GUIDED_STEPS=0: must be at least 1.*: set GUIDED_STEPS"),
        (0.5, 15.0, "GUIDED_STEPS=0.5: must be at least 1"),
        (100, 0.0, "meta_learning_rate.reach=0.0: must be above 0 and finite"),
        (100, float("inf"), "meta_learning_rate.reach=inf: must be above 0 and finite"),
    ],
)
def test_a_reach_or_steps_that_none_learns_in_is_refused(steps, reach, message):
    assert hyperparams.meta_learning_rate(100) == 0.15
    with pytest.raises(ValueError, match=message):
        hyperparams.meta_learning_rate(steps, reach)
