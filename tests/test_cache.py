"""Examples prepared once by seqio_cache_tasks, on Apache Beam."""

import jax
import numpy as np
import pytest
import seqio

import gin_runs
import processes
import text_runs

BINDINGS = (
    f"MIXTURE_OR_TASK_NAME = {text_runs.TASK!r}",
    f"TASK_FEATURE_LENGTHS = {text_runs.LENGTHS!r}",
    "USE_CACHED_TASKS = True",
)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    done = processes.run(
        "seqio.scripts.cache_tasks_main",
        *("--module_import=text_runs", f"--tasks={text_runs.TASK}"),
        *(f"--output_cache_dir={folder}", "--min_shards=2"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(autouse=True)
def unknown_cache(monkeypatch):
    """The task has not looked for its cache yet."""
    monkeypatch.setattr(seqio.TaskRegistry.get(text_runs.TASK), "_cache_dir", None)


@pytest.fixture
def cached(cache_dir, monkeypatch):
    """The cache is known, and the source cannot be read."""
    monkeypatch.setattr(seqio.utils, "_GLOBAL_CACHE_DIRECTORIES", [str(cache_dir)])

    def unreadable(*args, **kwargs):
        raise AssertionError("the source is read")

    source = seqio.TaskRegistry.get(text_runs.TASK).source
    monkeypatch.setattr(source, "get_dataset", unreadable)


def read(split, use_cached):
    task = seqio.get_mixture_or_task(text_runs.TASK)
    dataset = task.get_dataset(text_runs.LENGTHS, split, use_cached, shuffle=False)
    return sorted(
        tuple((k, np.asarray(v).tolist()) for k, v in sorted(example.items()))
        for example in dataset.as_numpy_iterator()
    )


@pytest.fixture(scope="module")
def uncached():
    return {split: read(split, use_cached=False) for split in text_runs.SPLITS}


@pytest.mark.parametrize("split", text_runs.SPLITS)
def test_cache_holds_the_examples(split, uncached, cached):
    examples = read(split, use_cached=True)
    assert len(examples) == text_runs.SPLITS[split]
    assert examples == uncached[split]


def test_guided_training_reads_the_cache(cached, tmp_path):
    step, state = gin_runs.train("gin/quickstart_guided.gin", tmp_path, *BINDINGS)
    assert step == 2
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state.params))


def test_training_without_the_cache_fails(tmp_path):
    message = "is in none of the caches .* set USE_CACHED_TASKS = False"
    with pytest.raises(ValueError, match=message):
        gin_runs.train("gin/quickstart_guided.gin", tmp_path, *BINDINGS)
