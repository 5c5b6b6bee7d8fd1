"""The lines that the embedded t5x writes while it trains."""

from clu import values
import pytest

progress = pytest.importorskip(
    "t5x.progress", reason="T5X itself logs metrics in its own way"
)


def test_a_line_has_the_loss_and_the_hyperparams_or_the_range_of_their_groups():
    numbers = {
        "loss_per_nonpadding_target_token": 2.25,
        "loss": 100.0,
        "hyperparams/beta1": 0.9,
        "hyperparams/alpha/decoder": 1.5,
        "hyperparams/alpha/encoder": 0.25,
        "hypergradient/alpha/decoder": 7.0,
    }
    summary = {name: values.Scalar(x) for name, x in numbers.items()}
    assert progress._describe(summary) == "loss 2.2500  alpha 0.25 to 1.5  beta1 0.9"
