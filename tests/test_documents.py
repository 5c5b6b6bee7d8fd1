"""What the documents name is there."""

import re
import textwrap

import pytest

from gbt_t5x import optimizers
import gin_runs

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/guidance.md",
    "docs/hyperparams.md",
    "docs/implementation.md",
    "docs/paper.md",
    "docs/reliability.md",
    "docs/schedules.md",
    "docs/t5.md",
    "docs/tpu.md",
    "docs/translation.md",
    "docs/tutorial.md",
]
FOLDERS = "gbt_t5x|gin|tasks|scripts|tests|embedded|docs"


def read(document):
    return (gin_runs.ROOT / document).read_text()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document):
    text = read(document)
    paths = set(re.findall(rf"(?<![\w/.])((?:{FOLDERS})/[\w/.]*\w)", text))
    assert paths, "the document names no file: is the pattern right?"
    missing = {path for path in paths if not (gin_runs.ROOT / path).exists()}
    assert not missing


def test_readme_is_short():
    assert len(read("README.md").splitlines()) <= 130


def test_readme_names_the_macros_and_their_defaults():
    bindings = gin_runs.bindings_of("gin/quickstart_guided.gin")
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|.*\| (.*?) \|$", read("README.md"), re.M)
    assert len(rows) >= 6
    for macro, default in rows:
        assert macro in bindings
        if default.startswith("`") and macro != "META_LEARNING_RATE":
            assert bindings[macro] == default.strip("`")


def test_demo_numbers_in_the_readme_are_those_of_the_gin_files():
    bindings = gin_runs.bindings_of("gin/offline_translation_guided.gin")
    steps = re.search(r"^ +step +(\d+) +(\d+)$", read("README.md"), re.M)
    assert steps.groups() == (bindings["TRAIN_STEPS"],) * 2


def test_quickstart_numbers_in_the_readme_are_those_of_the_gin_files():
    bindings = gin_runs.bindings_of("gin/quickstart_guided.gin")
    steps = re.search(r"^ +steps +(\d+) +(\d+) +(\d+)$", read("README.md"), re.M)
    assert steps.groups() == (bindings["TRAIN_STEPS"],) * 3


@pytest.mark.parametrize(
    ("gin_file", "optimizer", "paper"),
    [
        ("t5_small", "Adafactor", "1e-5 for 1M"),
        ("quickstart", "Adafactor", ""),
        ("offline_translation", "LAMB", ""),
        ("wmt19", "LAMB", ""),
    ],
)
def test_the_readme_begins_with_about_the_rates_of_the_gin_files(
    gin_file, optimizer, paper
):
    bindings = gin_runs.bindings_of(f"gin/{gin_file}_guided.gin")
    text = read("README.md")
    rule = re.search(rf"(\d+) / steps for {optimizer}", text)
    reach = float(bindings["META_LEARNING_RATE"]) * int(bindings["TRAIN_STEPS"])
    assert 0.5 <= reach / int(rule.group(1)) <= 2
    assert paper in text and (not paper or reach == int(rule.group(1)))


def test_translation_document_names_macros_of_the_gin_files():
    text = read("docs/translation.md")
    bindings = [
        gin_runs.bindings_of(f"gin/wmt19_{kind}.gin")
        for kind in ("guided", "eval", "infer")
    ]
    macros = set(re.findall(r"`([A-Z0-9]+(?:_[A-Z0-9]+)+)`", text))
    assert len(macros) >= 8
    for macro in macros:
        assert any(macro in found for found in bindings), macro
    training = bindings[0]
    assert float(training["META_LEARNING_RATE"]) == 3e-5
    assert f"checkpoint_{training['TRAIN_STEPS']}" in text


def test_table_of_hyperparams_is_that_of_the_code():
    from gbt_t5x import hyperparams, learnable

    rows = re.findall(
        r"^\| `(\w+)` \| (\(.*?\)) \| (.*) \|$", read("docs/hyperparams.md"), re.M
    )
    assert [name for name, _, _ in rows] == list(hyperparams.ACTIVATIONS)
    for name, domain, settings in rows:
        activation = hyperparams.ACTIVATIONS[name]
        assert domain == f"({activation.low:g}, {activation.high:g})".replace("inf", "∞")
        ends = re.match(r"\[(.*?), (.*?)\] \|", settings).groups()
        below_1 = lambda end: end.startswith("1 - ")
        assert hyperparams.BOUNDS[name] == tuple(
            1 - float(end[4:]) if below_1(end) else float(end) for end in ends
        )
        named = set(re.findall(r"`(\w+)`", settings))
        assert named == set(learnable._SETTINGS.get(name, ()))


def model_of_gin_after(document, sentence, include, gin_file):
    """The model of a document's indented gin that follows a sentence, and of a file.

    Without a file, the gin is one of its own.
    """
    _, _, rest = read(document).partition(sentence)
    block = re.match(r"\n\n((?:    .*\n|\n)+)", rest).group(1)
    header = f"from __gin__ import dynamic_registration\ninclude {include!r}\n"
    gin_file.write_text((header if include else "") + textwrap.dedent(block))
    with gin_runs.arguments(str(gin_file)) as kwargs:
        return kwargs["model"]


def test_gin_of_the_documents_works(tmp_path):
    optimizer_def = model_of_gin_after(
        "docs/hyperparams.md",
        "After the model and the run file:",
        "gin/quickstart_baseline.gin",
        tmp_path / "adamw.gin",
    ).optimizer_def
    names = [hyperparam.name for hyperparam in optimizer_def._learned]
    assert names == ["alpha", "beta1", "weight_decay"]
    assert optimizer_def.hyper_params.weight_decay == 0.01

    decode_fn = model_of_gin_after(
        "docs/translation.md",
        "instead, in a gin file that includes the others:",
        "gin/offline_translation_infer.gin",
        tmp_path / "sample_translation_infer.gin",
    ).decode_fn
    assert decode_fn.__name__ == "temperature_sample"


def test_public_checkpoints_are_fine_tuned_as_documented(tmp_path):
    """The gin file of docs/t5.md: T5 1.1, whose logits have weights of their own."""
    model = model_of_gin_after(
        "docs/t5.md",
        "A gin file for them:",
        None,
        tmp_path / "public_finetune_t5_1_1.gin",
    )
    assert isinstance(model.optimizer_def, optimizers.GuidedOptimizer)
    assert not model.module.config.logits_via_embedding
    assert model._loss_normalizing_factor == 233_472


def test_sizes_of_guidance_are_those_of_the_code():
    from gbt_t5x.tasks import c4, super_glue, wmt19

    assert f"the first {wmt19.GUIDANCE_PAIRS:,} pairs" in read("docs/translation.md")
    t5 = read("docs/t5.md")
    assert f"first {c4.GUIDANCE_DOCUMENTS:,} documents of the training data" in t5
    _, guidance = super_glue.TRAIN_EXAMPLES["wsc"]
    assert f"{guidance} of WSC's 554" in t5


def test_tables_that_do_not_follow_are_listed():
    import test_studies_scores

    text = read("docs/implementation.md")
    for printed, _ in test_studies_scores.DEPARTURES_3.values():
        assert printed in text
    for number in ("79.8", "80.1", "64.8", "77.3", "77.4"):
        assert number in text


def test_only_documented_t5x_internals_are_used():
    """Private names of T5X and seqio that the plugin reads are in the table."""
    text = read("docs/implementation.md")

    def definitions(source):
        pattern = r"(?:def|class) (_\w+)|^(_\w+) =|self\.(_\w+) = "
        return {name for names in re.findall(pattern, source) for name in names if name}

    own = {"_WithoutDropout", "_GUIDANCE_METRICS", "_replace"}  # the last of NamedTuple
    own |= definitions((gin_runs.ROOT / "gbt_t5x/wrapper.py").read_text())
    for path in (gin_runs.ROOT / "gbt_t5x").glob("*.py"):
        source = path.read_text()
        defined = definitions(source)
        used = set(re.findall(r"[\w)]\.(_[a-z]\w+)", source))
        for name in used - defined - own:
            assert name in text, f"{name} in {path.name}"
