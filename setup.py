"""gbt_t5x: learned optimizer hyper-parameters for T5X."""

import setuptools

CACHE = ["apache-beam", "google-crc32c"]  # seqio's offline cache

setuptools.setup(
    name="gbt_t5x",
    version="0.1.0",
    description="Learns T5X optimizer hyper-parameters while the model trains",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[
        "gbt_t5x",
        "gbt_t5x.studies",
        "gbt_t5x.tasks",
        "gbt_t5x.gin",
        "gbt_t5x.gin.guidance",
        "gbt_t5x.gin.models",
        "gbt_t5x.gin.rivals",
        "gbt_t5x.gin.runs",
    ],
    package_dir={"gbt_t5x.tasks": "tasks"},
    package_data={"": ["*.gin"]},
    python_requires=">=3.11,<3.13",
    install_requires=[
        "babel",
        "bayesian-optimization",
        "clu",
        "etils",
        "flax",
        "gin-config",
        "jax",
        "matplotlib",
        "num2words",
        "optax",
        "py3langid",
        "pycountry",
        "sacrebleu",
        "seqio",
        "t5",
        "t5x",
        "tensorboard",
        "tensorflow-text",
    ],
    extras_require={
        "cache": CACHE,
        "dev": [
            *CACHE,
            "furo",
            "hypothesis",
            "ipykernel",
            "jupytext",
            "mypy",
            "myst-parser",
            "nbclient",
            "pytest",
            "pytest-xdist",
            "ruff",
            "sphinx",
        ],
    },
)
