"""Examples in docstrings of modules that pytest does not import by their own name."""

import doctest
import importlib
import pkgutil

import pytest

from gbt_t5x import tasks
import text_runs

MODULES = [
    f"gbt_t5x.tasks.{module.name}" for module in pkgutil.iter_modules(tasks.__path__)
]
if text_runs.EMBEDDED:
    MODULES.append("t5x.decoding")
WITH_EXAMPLES = {
    "gbt_t5x.tasks.pair_filters",
    "gbt_t5x.tasks.translation",
    "t5x.decoding",
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert (result.attempted > 0) == (name in WITH_EXAMPLES)
