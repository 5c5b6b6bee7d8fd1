"""constraints.txt and constraints_dev.txt, as scripts/pin.sh makes them."""

from importlib import metadata
import tomllib

from packaging import requirements, utils, version
import pytest

import gin_runs

TRAIN, DEV = "constraints.txt", "constraints_dev.txt"


def pins(python, *lists):
    """Name -> `==version`, of the packages that a version of Python gets."""
    found = {}
    for file in lists:
        for line in (gin_runs.ROOT / file).read_text().splitlines():
            if line.startswith("#"):
                continue
            pin = requirements.Requirement(line)
            if pin.marker is None or pin.marker.evaluate({"python_full_version": python}):
                name = utils.canonicalize_name(pin.name)
                assert name not in found, f"{line} and {found[name]}"
                found[name] = str(pin.specifier)
    return found


def asked_for(extra):
    """The packages that this project itself names."""
    embedded = tomllib.loads((gin_runs.ROOT / "embedded/pyproject.toml").read_text())
    lines = [*metadata.requires("gbt_t5x"), *embedded["project"]["dependencies"]]
    parsed = map(requirements.Requirement, lines)
    named = {
        r.name for r in parsed if not r.marker or r.marker.evaluate({"extra": extra})
    }
    return {utils.canonicalize_name(name) for name in named} - {"t5x"}


@pytest.mark.parametrize("python", ["3.11.0", "3.11.7", "3.12.0", "3.12.11"])
def test_each_python_has_one_version_of_each_package(python):
    train, dev = pins(python, TRAIN), pins(python, TRAIN, DEV)
    for found in (train, dev):
        assert all(pin.startswith("==") for pin in found.values())
    assert asked_for("") <= train.keys()
    assert asked_for("dev") <= dev.keys()
    assert "pytest" not in train
    # TensorFlow and seqio are there once, and not as nightly builds.
    assert not train.keys() & {"tensorflow", "seqio-nightly", "tfds-nightly", "t5x"}


def test_a_newer_python_has_a_newer_jax():
    older, newer = (
        version.Version(pins(python, TRAIN)["jax"].removeprefix("=="))
        for python in ("3.11.7", "3.12.11")
    )
    assert older < newer
