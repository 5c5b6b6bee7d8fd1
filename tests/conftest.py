"""The environment of the tests, set before JAX and TensorFlow are imported."""

import atexit
import fcntl
import gc
from importlib import metadata
import os
import pathlib
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Tests compile much and run little: what shortens programs does not pay.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
if metadata.version("jaxlib").startswith("0.10."):  # later ones do not know it
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

# Tasks read it when they are imported. The processes of xdist inherit that of the first.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["GBT_T5X_DATA_DIR"] = tempfile.mkdtemp(prefix="gbt_t5x_tests_")
    atexit.register(shutil.rmtree, os.environ["GBT_T5X_DATA_DIR"], ignore_errors=True)
# What one process has compiled, no other compiles again.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["GBT_T5X_DATA_DIR"] + "/xla"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

from absl import logging
import pytest
import tensorflow as tf

# Small pipelines, started often: to optimize them takes longer than to run them.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# Traced programs are many live objects, which the default looks at often: 7% of the time.
gc.set_threshold(50_000, 20, 100)

# Helpers, which doctest would import again.
collect_ignore = [
    "gin_runs.py",
    "mock_tfds.py",
    "paper_memory.py",
    "processes.py",
    "saved_run.py",
    "text_runs.py",
    "tiny.py",
    "tiny_network.py",
    "written_runs.py",
]


# The longest ones, with which no process should be left at the end.
_FIRST = ("test_benchmark.py", "test_tutorial.py", "test_t5_runs.py", "test_installed.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _FIRST)


@pytest.fixture(autouse=True)
def _verbosity():
    """What a command hushes in its process, the next test hears again."""
    before = logging.get_verbosity()
    yield
    logging.set_verbosity(before)


@pytest.fixture(scope="session")
def data_dir():
    """What all processes share. Locks keep them from writing the same file."""
    return pathlib.Path(os.environ["GBT_T5X_DATA_DIR"])


@pytest.fixture(scope="session")
def offline_vocabularies(data_dir):
    """Trains the vocabularies of the six offline tasks, once for all processes."""
    import train_vocabulary

    with open(data_dir / "offline.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for language in ("de", "fi", "lt"):
            if not (data_dir / f"offline_translation/{language}-en.model").exists():
                train_vocabulary.main([f"--task=offline_{language}_en", "--sample=20000"])


@pytest.fixture(scope="session")
def _sentencepiece_model(tmp_path_factory):
    """A small model of T5's kind: padding 0, end 1, unknown 2, any byte."""
    import sentencepiece

    prefix = tmp_path_factory.mktemp("sentencepiece") / "tiny"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"word{i} and letters {i * i}" for i in range(200)]),
        model_prefix=str(prefix),
        vocab_size=320,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return f"{prefix}.model"


@pytest.fixture
def tiny_t5_vocabulary(_sentencepiece_model, monkeypatch):
    """Stands for T5's vocabulary, which is in a bucket."""
    from gbt_t5x.tasks import text_to_text

    vocabulary = text_to_text.VOCABULARY
    monkeypatch.setattr(vocabulary, "_sentencepiece_model_file", _sentencepiece_model)
    monkeypatch.setattr(vocabulary, "_extra_ids", 100)
    monkeypatch.setattr(vocabulary, "_model", None)
    return vocabulary


@pytest.fixture
def sizeless_tfds(monkeypatch):
    """Lets seqio read tfds.testing.mock_data, which has no sizes of splits."""
    import seqio

    source = seqio.TfdsDataSource
    monkeypatch.setattr(source, "list_shards", lambda self, split: ["0"])
    monkeypatch.setattr(source, "num_input_examples", lambda self, split: 10**6)
    monkeypatch.setattr(seqio.utils.LazyTfdsLoader, "_MEMOIZED_BUILDERS", {})


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    from matplotlib import figure

    found = []
    save = figure.Figure.savefig

    def keep(self, *args, **kwargs):
        found.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", keep)
    return found
