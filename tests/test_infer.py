"""Predictions and scores as JSON lines."""

import fcntl
import functools
import pathlib
import re
import shutil
import time

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from t5x import infer as infer_script, utils

import small_tasks
import text_runs

# T5X printed these, of the first three examples.
SCORES = [-19.73697, -24.19299, -20.48672]
PREDICTIONS = ["n-11", "", "n-11"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("run")
    text_runs.train(model_dir, *text_runs.LONGER)
    return model_dir / "checkpoint_60"


def infer(checkpoint, output_dir, mode="predict", **changes):
    arguments = text_runs.common(checkpoint, output_dir)
    arguments |= {"mode": mode, "checkpoint_period": 1}
    infer_script.infer(**arguments | changes)
    paths = sorted(output_dir.glob(f"{text_runs.TASK}-{mode}.jsonl-*-of-?????"))
    return paths[-1]


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory) -> pathlib.Path:
    """The predictions of a run that nothing stopped."""
    return infer(checkpoint, tmp_path_factory.mktemp("whole"))


def test_every_example_has_a_line_in_order(whole):
    assert whole.name == "tiny_texts-predict.jsonl-00000-of-00001"
    lines = text_runs.read_json_lines(whole)
    texts = [text_runs.text_of("test", i) for i in range(11)]
    assert [line["inputs"] for line in lines] == [
        {"inputs_pretokenized": a, "targets_pretokenized": b} for a, b in texts
    ]
    assert {tuple(line) for line in lines} == {("inputs", "prediction")}
    assert [line["prediction"] for line in lines[:3]] == PREDICTIONS
    names = {path.name for path in whole.parent.iterdir()}
    assert names == {
        whole.name,
        f"{whole.name}.COMPLETED",
        "config.gin",
        "model-info.txt",
    }


def test_predictions_are_those_of_the_model(checkpoint, whole):
    """Called on the whole split at once, without padding."""
    model = text_runs.make_model()
    batch, params = whole_split(), text_runs.parameters(checkpoint)
    tokens = jax.jit(model.predict_batch)(params, batch, jax.random.PRNGKey(0))
    vocabulary = seqio.ByteVocabulary(extra_ids=100)
    texts = [vocabulary.decode_tf(row).numpy().decode() for row in np.asarray(tokens)]
    assert [line["prediction"] for line in text_runs.read_json_lines(whole)] == texts


def test_scores_are_those_of_the_model(checkpoint, tmp_path):
    lines = text_runs.read_json_lines(infer(checkpoint, tmp_path, "score"))
    model = text_runs.make_model()
    scores = jax.jit(model.score_batch)(text_runs.parameters(checkpoint), whole_split())
    found = [line["score"] for line in lines]
    assert found == pytest.approx(np.asarray(scores).tolist(), rel=1e-5)
    assert found[:3] == pytest.approx(SCORES, rel=1e-3)  # after 60 steps


def test_predict_with_aux_adds_scores(checkpoint, whole, tmp_path):
    lines = text_runs.read_json_lines(infer(checkpoint, tmp_path, "predict_with_aux"))
    predictions = [x["prediction"] for x in text_runs.read_json_lines(whole)]
    assert [line["prediction"] for line in lines] == predictions
    decode = jax.jit(text_runs.make_model().predict_batch_with_aux)
    _, aux = decode(text_runs.parameters(checkpoint), whole_split())
    found = [line["aux"]["scores"] for line in lines]
    assert found == pytest.approx(np.asarray(aux["scores"]).tolist(), rel=1e-5)
    assert len(set(found)) > 1


@pytest.fixture
def chunks(monkeypatch):
    """Stops at the second of three chunks, once. Lists the chunks that began."""
    begun: list[int] = []
    stopped = []
    fold_in = jax.random.fold_in

    def begin(key, data):
        if not isinstance(data, jax.Array):  # those belong to the network
            begun.append(int(data))
            if begun == [0, 1] and not stopped:
                stopped.append(True)
                raise KeyboardInterrupt
        return fold_in(key, data)

    monkeypatch.setattr(jax.random, "fold_in", begin)
    return begun


def test_a_stopped_run_goes_on_and_writes_the_same_bytes(
    checkpoint, whole, tmp_path, chunks
):
    with pytest.raises(KeyboardInterrupt):
        infer(checkpoint, tmp_path)
    assert chunks == [0, 1]
    (chunk_dir,) = tmp_path.glob("tmp-*")
    while not list(chunk_dir.glob("input.ckpt*")) and not text_runs.EMBEDDED:
        time.sleep(0.01)  # T5X writes in a thread, and this comes last
    assert not (tmp_path / whole.name).exists()
    chunks.clear()
    resumed = infer(checkpoint, tmp_path)
    assert chunks == [1, 2], "the finished chunk is not decoded again"
    assert resumed.read_bytes() == whole.read_bytes()
    assert not chunk_dir.exists()
    chunks.clear()
    infer(checkpoint, tmp_path)
    assert chunks == [], "complete results are left alone"


def test_a_dtype_may_be_jaxs(checkpoint, whole, tmp_path):
    cfg = utils.RestoreCheckpointConfig(
        path=str(checkpoint), mode="specific", dtype=jnp.float32
    )
    found = infer(checkpoint, tmp_path, restore_checkpoint_cfg=cfg)
    assert found.read_bytes() == whole.read_bytes()


def test_shards_cover_all_examples_once(checkpoint, whole, tmp_path):
    lines = []
    for shard in range(2):
        path = infer(checkpoint, tmp_path, shard_id=shard, num_shards=2)
        assert path.name.endswith(f"-0000{shard}-of-00002")
        lines += text_runs.read_json_lines(path)
    key = lambda line: line["inputs"]["targets_pretokenized"]
    assert sorted(lines, key=key) == text_runs.read_json_lines(whole)


@text_runs.embedded_only
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "decode"}, "infer.mode='decode': must be one of"),
        ({"shard_id": 2, "num_shards": 2}, "infer.shard_id=2 must be from 0"),
        (
            {"dataset_cfg": text_runs.dataset_cfg("dev")},
            r"tiny_texts has the splits \['guidance', .*'validation'\], not 'dev'",
        ),
        (
            {"dataset_cfg": text_runs.dataset_cfg("test", task_feature_lengths=None)},
            "set TASK_FEATURE_LENGTHS",
        ),
        (
            {
                "restore_checkpoint_cfg": utils.RestoreCheckpointConfig(
                    path="/none/checkpoint_1", mode="specific"
                )
            },
            "no checkpoint at /none/checkpoint_1",
        ),
        (
            {"model": text_runs.make_model("network.T5Config.emb_dim = 24")},
            r"/scale has shape \(16,\) .*and \(24,\) .*bind network.T5Config",
        ),
        (
            {"model": text_runs.make_model("seqio.ByteVocabulary.extra_ids = 10")},
            "set VOCABULARY to the task's",
        ),
        (
            {"output_vocab_feature_name": "target"},
            "output_vocab_feature_name='target': task tiny_texts has inputs, targets",
        ),
    ],
)
def test_wrong_settings_are_refused(checkpoint, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        infer(checkpoint, tmp_path, **changes)


@text_runs.embedded_only
def test_chunks_of_other_settings_are_refused(checkpoint, tmp_path, chunks):
    with pytest.raises(KeyboardInterrupt):
        infer(checkpoint, tmp_path)
    with pytest.raises(ValueError, match=r"'infer.checkpoint_period': \(2, 1\)"):
        infer(checkpoint, tmp_path, checkpoint_period=2)


@text_runs.embedded_only
def test_results_of_other_settings_are_refused_and_stay(checkpoint, whole, tmp_path):
    folder = shutil.copytree(whole.parent, tmp_path / "done")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        ValueError,
        match=r"00001 is complete, .*'infer.checkpoint_period': \(2, 1\).*delete \S+ED,",
    ):
        infer(checkpoint, folder, checkpoint_period=2)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    (folder / f"{whole.name}.COMPLETED").write_text("")  # as T5X does
    assert (
        infer(checkpoint, folder, checkpoint_period=2).read_bytes() == files[whole.name]
    )


@text_runs.embedded_only
def test_settings_that_made_no_chunk_may_be_corrected(
    checkpoint, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(utils, "get_infer_fn", lambda *_: list)  # fails when used
        with pytest.raises(TypeError):
            infer(checkpoint, tmp_path, checkpoint_period=2)
    (settings,) = tmp_path.glob("tmp-*/*-settings.json")
    settings.write_text(settings.read_text()[:9])
    assert infer(checkpoint, tmp_path).read_bytes() == whole.read_bytes()


@text_runs.embedded_only
def test_a_second_process_writes_nothing(checkpoint, whole, tmp_path, chunks):
    with pytest.raises(KeyboardInterrupt):
        infer(checkpoint, tmp_path)
    (settings,) = tmp_path.glob("tmp-*/*-settings.json")
    with open(settings) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process writes .*00000-of-00001"):
            infer(checkpoint, tmp_path)
        assert chunks == [0, 1]
    assert infer(checkpoint, tmp_path).read_bytes() == whole.read_bytes()


@text_runs.embedded_only
def test_a_mixture_of_which_a_task_lacks_the_split_is_refused(checkpoint, tmp_path):
    other = small_tasks.task("no_test_split", ["a"], register=True).name
    assert "test" not in seqio.get_mixture_or_task(other).splits
    cfg = text_runs.dataset_cfg(
        "test", mixture_or_task_name=seqio.Mixture("m", [text_runs.TASK, other], 1.0)
    )
    with pytest.raises(ValueError, match="task no_test_split has the splits"):
        infer(checkpoint, tmp_path, dataset_cfg=cfg)


IMPORTS = ["from __gin__ import dynamic_registration", "from t5x import decoding"]
IMPORTS.append("from t5x import utils")


def stopped(checkpoint, output_dir, *bindings):
    """A run by gin, which `chunks` stops once."""
    settings = text_runs.common(checkpoint, output_dir)
    output = f"INFER_OUTPUT_DIR = {str(output_dir)!r}"
    gin.parse_config([*IMPORTS, output, "decoding.beam_search.alpha = %ALPHA", *bindings])
    try:
        infer_script.infer(mode="predict", checkpoint_period=1, **settings)
    finally:
        gin.clear_config()


@text_runs.embedded_only
def test_chunks_of_another_decoder_are_refused(checkpoint, tmp_path, chunks):
    first = tmp_path / "first"
    with pytest.raises(KeyboardInterrupt):
        stopped(checkpoint, first, "ALPHA = 0.6")
    for bindings, message in [
        (["ALPHA = 1.0"], "{'ALPHA': ('1.0', '0.6')}"),
        (["ALPHA = 0.6", "BEAMS = 2"], "{'BEAMS': ('2', None)}"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            stopped(checkpoint, first, *bindings)
    moved = first.rename(tmp_path / "moved")
    # Whose whole path is compared, however it is spelled.
    path = "'run/checkpoint_60'"
    spelled = (
        f"CHECKPOINT_PATH = {path}",
        f"utils.RestoreCheckpointConfig.path = {path}",
    )
    stopped(checkpoint, moved, "ALPHA = 0.6", *spelled)
    assert chunks == [0, 1, 1, 2]


@text_runs.embedded_only
def test_modes_share_a_folder(checkpoint, whole, tmp_path, capfd):
    settings = text_runs.common(checkpoint, tmp_path)
    unmerged = functools.partial(
        infer_script.infer,
        mode="predict",
        checkpoint_period=1,
        merge_chunked_results=False,
        **settings,
    )
    unmerged()
    scores = infer(checkpoint, tmp_path, "score")
    assert len(text_runs.read_json_lines(scores)) == 11
    (chunk_dir,) = tmp_path.glob("tmp-*")
    chunks = sorted(chunk_dir.glob("*-chunk*"))
    assert [path.name for path in chunks] == [
        f"{whole.name}-chunk{i:05}" for i in range(3)
    ]
    assert b"".join(path.read_bytes() for path in chunks) == whole.read_bytes()
    capfd.readouterr()
    unmerged()
    marker = f"{whole.name}.COMPLETED"
    said = rf"delete \S+/{marker} and \S+/{whole.name}-chunk\* to redo it"
    assert re.search(said, capfd.readouterr().err)
    (tmp_path / marker).unlink()
    with pytest.raises(ValueError, match=r"'infer.checkpoint_period': \(2, 1\)"):
        infer(checkpoint, tmp_path, checkpoint_period=2)


def test_examples_without_texts_are_scored(checkpoint, tmp_path):
    steps = [
        small_tasks.copied,
        functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
        seqio.preprocessors.append_eos_after_trim,
    ]
    texts = ["a", "bc", "d"]
    task = small_tasks.task("tokens", texts, preprocessors=steps, register=True).name
    cfg = text_runs.dataset_cfg("validation", mixture_or_task_name=task)
    settings = text_runs.common(checkpoint, tmp_path) | {"dataset_cfg": cfg}
    infer_script.infer(mode="score", checkpoint_period=1, **settings)
    lines = text_runs.read_json_lines(tmp_path / "tokens-score.jsonl-00000-of-00001")
    assert len(lines) == 3 and all(line["score"] < 0 for line in lines)


def whole_split():
    cfg = text_runs.dataset_cfg("test", batch_size=11)
    ds = utils.get_dataset(cfg, 0, 1, seqio.EncDecFeatureConverter, num_epochs=1)
    return next(ds.as_numpy_iterator())
