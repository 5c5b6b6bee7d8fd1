"""The embedded t5x: what the plugin needs of T5X, for machines that reach only PyPI."""

import setuptools

setuptools.setup(
    name="t5x",
    version="0.0.0+embedded",
    description="A small t5x for one process, with T5X's names, defaults and losses",
    packages=setuptools.find_packages(),
    package_data={"t5x": ["**/*.gin"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "clu",
        "flax",
        "gin-config",
        "jax",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "tqdm",
    ],
)
