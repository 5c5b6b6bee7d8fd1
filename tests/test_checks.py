"""Numbers of settings, right and wrong."""

import math

import numpy as np
import pytest

from gbt_t5x import checks


@pytest.mark.parametrize("value", [1, 2**31 - 1, np.int64(3)])
def test_counts_are_accepted(value):
    checks.check_count("MAX_SKIPPED", value)


def test_what_is_no_count_is_refused():
    for value in (0, -1, True, None, "2", 2.0, [2], 2**31, 10**5000, math.nan):
        message = "MAX_SKIPPED=.*: must be at least 1, .*: set MAX_SKIPPED"
        with pytest.raises(ValueError, match=message):
            checks.check_count("MAX_SKIPPED", value)


def test_numbers_are_floats_and_the_rest_is_nan():
    numbers = [2, -0.5, np.float32(0.5), np.int64(3), np.array(0.25), math.inf]
    assert [checks.number(x) for x in numbers] == [2, -0.5, 0.5, 3, 0.25, math.inf]
    for value in (None, True, np.True_, "1", [1], np.ones(1), np.array("a"), 1j, 10**400):
        assert math.isnan(checks.number(value))


def test_values_are_shown_in_one_short_line():
    assert checks.show("a") == "'a'"
    assert len(checks.show("a" * 100)) == 60
    assert checks.show(10**5000) == "a huge int"
