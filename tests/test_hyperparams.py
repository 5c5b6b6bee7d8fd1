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
