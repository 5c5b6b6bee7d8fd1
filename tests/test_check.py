"""python -m gbt_t5x.tasks.check, on tasks of each kind, and its errors."""

import json
import re
import subprocess
import sys
import time

import pytest
import seqio
import tensorflow as tf

from gbt_t5x.tasks import check, cpython_docs, survey, translation
import mock_tfds
import small_tasks

# A module of a user's: questions in files of JSON lines.
MODULE = """
import json
import seqio
import tensorflow as tf

def parse(lines):
    def texts(line):
        return tuple(json.loads(line)[k].encode() for k in ("inputs", "targets"))
    def example(line):
        found = tf.numpy_function(texts, [line], (tf.string, tf.string))
        names = ("inputs", "targets")
        return {k: tf.ensure_shape(v, ()) for k, v in zip(names, found)}
    return lines.map(example)

def add(name, **splits):
    seqio.TaskRegistry.add(
        name,
        source=seqio.TextLineDataSource(splits),
        preprocessors=[parse, seqio.preprocessors.tokenize,
                       seqio.preprocessors.append_eos_after_trim],
        output_features={k: seqio.Feature(seqio.ByteVocabulary())
                         for k in ("inputs", "targets")},
        metric_fns=[],
    )

add("lines_apart", train="FOLDER/train.jsonl", guidance="FOLDER/guidance.jsonl")
add("lines_shared", train="FOLDER/*.jsonl", guidance="FOLDER/guidance.jsonl")
add("lines_absent", train="FOLDER/none.jsonl", guidance="FOLDER/guidance.jsonl")
"""
LENGTHS = "--task_feature_lengths={'inputs': 20, 'targets': 8}"


@pytest.fixture(scope="module")
def json_lines(tmp_path_factory):
    """A module of tasks: 40 examples, and 10 of which two are among them."""
    folder = tmp_path_factory.mktemp("user")
    for name, numbers in {"train": range(40), "guidance": range(38, 48)}.items():
        examples = [{"inputs": "a" * i, "targets": f"{i:03}"} for i in numbers]
        lines = "".join(f"{json.dumps(example)}\n" for example in examples)
        (folder / f"{name}.jsonl").write_text(lines)
    (folder / "user_tasks.py").write_text(MODULE.replace("FOLDER", str(folder)))
    sys.path.insert(0, str(folder))
    yield "--module_import=user_tasks"
    sys.path.remove(str(folder))


@pytest.fixture(scope="module", autouse=True)
def mixture():
    for name, count in {"checked_a": 64, "checked_b": 8}.items():
        texts = {s: [f"{name} {s} {i}" for i in range(count)] for s in small_tasks.SPLITS}
        small_tasks.task(name, texts, register=True)
    if "checked_mixture" not in seqio.MixtureRegistry.names():
        rates = [("checked_a", 3), ("checked_b", 1)]
        seqio.MixtureRegistry.add("checked_mixture", rates)


def refused(capsys, *arguments):
    """The one line of an error."""
    with pytest.raises(SystemExit, match="^1$"):
        check.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    return line


def found_by(capsys, *arguments):
    check.main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_what_a_task_of_files_holds(capsys, json_lines):
    check.main(["lines_apart", json_lines, LENGTHS, "--batch_size=2"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "Task lines_apart",
        "inputs ByteVocabulary, 259 ids",
        "train 40 40 40",
        "guidance 10 10 10",
        # 0 to 39 letters and the end; from 20 letters on they are cut.
        "train inputs 20 36 40 40 50.0%",
        "train targets 4 4 4 4 0.0%",
        "guidance inputs 43 47 48 48 100.0%",
        "same text 2 of the 10 examples are among the 40 of training",
        "rows fills 10, a batch needs 2",
        "train inputs (empty)",
        "guidance targets 038",
    ):
        assert line in lines, line
    held_out = next(line for line in lines if line.startswith("held out"))
    assert re.match(r"held out yes: it reads /\S+guidance.jsonl, training /\S+", held_out)


def test_a_span_corruption_task_of_ours(capsys):
    found = found_by(capsys, cpython_docs.TASK, "--examples=100", "--batch_size=4")
    counts = {entry["split"]: entry["examples"] for entry in found["splits"]}
    for split, documents in cpython_docs.paragraphs().items():
        paragraphs = sum(map(len, documents.values()))
        assert counts[split] == {"number": paragraphs, "is_all": True}
    train = found["splits"][0]
    assert train["read"] == 100
    assert train["changed"] == {"span_corruption": [100, train["given"]]}
    assert train["lengths"]["targets"]["median"] == 114
    (guidance,) = found["guidance"]
    assert guidance["held_out"] is None
    assert guidance["same"] == 0
    assert guidance["rows"]["number"] >= 64


def test_a_mixture(capsys):
    check.main(["checked_mixture", "--batch_size=1000"])
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "Mixture checked_mixture",
        "checked_a FunctionDataSource 75.0%",
        "checked_b: guidance 8 8 8",
        "checked_b: guidance not known 0 8 72",
        "checked_a: validation targets checked_a validation 0",
    ):
        assert line in lines, line
    assert "examples repeat at the mixture's rates" in out
    assert max(map(len, out.splitlines())) < 120


@pytest.mark.parametrize("name", ["guided_glue_cola", "guided_super_glue_wsc"])
def test_slices_of_tfds(name, capsys, sizeless_tfds, tiny_t5_vocabulary):
    """TFDS's mock data gives the same examples for all slices."""
    with mock_tfds.mock_data():
        found = found_by(capsys, name, "--batch_size=2", "--seconds=20")
    assert found["vocabularies"]["inputs"]["ids"] == tiny_t5_vocabulary.vocab_size
    guidance = found["guidance"][0]
    assert guidance["held_out"] is True
    assert re.fullmatch(
        r"it reads train\[:\d+\], training train\[\d+:\]", guidance["why"]
    )
    assert guidance["same"] == guidance["compared"][0]["number"] == 50


def test_reading_is_bounded(capsys):
    task = small_tasks.task("checked_slow", slow, register=True)
    read = survey.read_split(
        task, "train", small_tasks.LENGTHS, survey.Limits(seconds=0.5)
    )
    assert read.examples == survey.Count(read.examples.number, False)
    assert 1 <= read.read < 20 and 1 <= read.examples.number < 20
    started = time.monotonic()
    hashes, is_all = survey.contents(task, "train", 0.5)
    assert 1 <= len(hashes) < 20 and not is_all
    assert time.monotonic() - started < 5
    read = survey.read_split(
        task, "train", small_tasks.LENGTHS, survey.Limits(3, seconds=0.5)
    )
    assert read.read == read.given == 3


def test_guidance_that_was_not_read_to_its_end_is_not_too_small(capsys):
    small_tasks.task("checked_slow_guidance", slow, register=True)
    arguments = ("--batch_size=400", "--seconds=0.5")
    started = time.monotonic()
    found = found_by(capsys, "checked_slow_guidance", *arguments)
    assert time.monotonic() - started < 30  # all of it takes 100 seconds
    (guidance,) = found["guidance"]
    assert guidance["rows"]["number"] < 400 and not guidance["rows"]["is_all"]
    assert found["problems"] == []


def slow():
    def texts():
        for i in range(1000):
            time.sleep(0.1)
            yield {"text": f"text {i}"}

    spec = {"text": tf.TensorSpec((), tf.string)}
    return tf.data.Dataset.from_generator(texts, output_signature=spec)


def test_data_without_end(capsys):
    def forever():
        return tf.data.Dataset.from_tensors({"text": "again"}).repeat()

    small_tasks.task("checked_endless", forever, register=True)
    found = found_by(capsys, "checked_endless", "--seconds=1", "--batch_size=2")
    assert found["splits"][0]["examples"] is None
    assert 1 < found["splits"][0]["read"] <= 2000
    assert not found["guidance"][0]["compared"][1]["is_all"]
    assert not found["guidance"][0]["rows"]["is_all"]


def test_examples_that_are_dropped(capsys):
    def short(dataset):
        return dataset.filter(lambda x: tf.strings.length(x["text"]) < 7)

    texts = [str(10**i) for i in range(10)]
    small_tasks.task("checked_drops", texts, [short, small_tasks.copied], register=True)
    found = found_by(capsys, "checked_drops", "--next_batch")
    assert found["splits"][0]["changed"] == {"short": [10, 6]}
    assert found["guidance"] == []


def test_numbers_are_compared_where_there_is_no_text():
    hashes = [survey._hash({"inputs": tf.constant([i]).numpy()}) for i in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    with_text = [survey._hash({"idx": i, "text": b"a", "label": i}) for i in (1, 2)]
    assert with_text[0] == with_text[1]


def test_unknown_names_and_modules(capsys):
    line = refused(capsys, "guided_glue_kola")
    assert line.startswith("error: no task or mixture 'guided_glue_kola' is registered, ")
    assert "guided_glue_cola" in line and "--module_import=MODULE" in line
    assert "glue_cola_v002" in refused(capsys, "glue_cola_v003"), "those of t5"
    line = refused(capsys, "any", "--module_import=no_such_module")
    assert line == (
        "error: --module_import=no_such_module cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    )


def test_a_missing_guidance_split(capsys):
    line = refused(capsys, "checked_a", "--guidance_split=held_out")
    assert "guidance split 'held_out' is missing from task checked_a, which has " in line
    assert "--guidance_split (GUIDANCE_SPLIT)" in line and "--next_batch" in line
    found = found_by(capsys, "checked_a", "--next_batch", "--guidance_split=held_out")
    assert found["guidance"] == []


def test_guidance_that_a_run_would_refuse(capsys, json_lines):
    """The whole survey is printed too."""
    line = refused(capsys, "lines_shared", json_lines)
    assert "guidance split lines_shared: guidance overlaps the training split" in line
    with pytest.raises(SystemExit, match="^1$"):
        check.main(["lines_apart", json_lines, "--batch_size=10000", "--json"])
    out, err = capsys.readouterr()
    assert re.search(r"error: .* fills \d+ rows of the 10000 .*GUIDANCE_BATCH_SIZE", err)
    assert len(json.loads(out)["problems"]) == 1
    line = refused(capsys, "checked_a", "--guidance_split=train")
    assert "both read 'train'" in line


def test_data_that_is_not_there(
    capsys, json_lines, tiny_t5_vocabulary, tmp_path, monkeypatch
):
    line = refused(capsys, "lines_absent", json_lines)
    assert re.search(r"split 'train' of lines_absent cannot be read: .*none.jsonl", line)
    monkeypatch.setattr(seqio.utils.LazyTfdsLoader, "_MEMOIZED_BUILDERS", {})
    for task in ("guided_glue_rte", "glue_rte_v002"):
        line = refused(capsys, task)
        assert re.match(r"error: data set glue/rte/\d.0.0 of task ", line)
        assert "TFDS_DATA_DIR" in line and "tfds build" in line
    # Other tests put both into the folder of this process.
    documents = seqio.TaskRegistry.get(
        "guided_c4_files_span_corruption"
    ).source._documents
    for split, found in documents.items():
        elsewhere = found._replace(pattern=f"{tmp_path}/{split}*")
        monkeypatch.setitem(documents, split, elsewhere)
    line = refused(capsys, "guided_c4_files_span_corruption")
    assert "no file " in line and "GBT_T5X_DATA_DIR" in line
    vocabulary = translation.vocabulary("wmt19_de_en")
    monkeypatch.setattr(vocabulary, "_sentencepiece_model_file", f"{tmp_path}/none.model")
    monkeypatch.setattr(vocabulary, "_model", None)
    line = refused(capsys, "wmt19_de_en")
    assert "no vocabulary at " in line


def test_a_task_without_a_feature_or_a_length(capsys):
    line = refused(capsys, "checked_a", "--task_feature_lengths={'inputs': 9}")
    assert "'targets' needs a whole number of tokens" in line


@pytest.mark.parametrize(
    "option",
    [
        "--task_feature_lengths=512",
        "--task_feature_lengths={'inputs': 0}",
        "--batch_size=0",
        "--batch_size=a",
        "--seconds=nan",
    ],
)
def test_options_that_make_no_sense(option, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        check.main(["checked_a", option])
    assert capsys.readouterr().err.startswith(f"error: argument {option.split('=')[0]}")


def test_jax_is_not_started(json_lines):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from gbt_t5x.tasks import check\n"
        "check.main(['lines_apart', sys.argv[1]])\n"
        "from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())\n"
    )
    command = [sys.executable, "-c", code, json_lines, *sys.path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
