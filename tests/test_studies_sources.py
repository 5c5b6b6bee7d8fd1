"""The variants of the guidance gradient's sources, and what is printed of them."""

import pytest

from gbt_t5x.studies import launch, macros, sources
import gin_runs
from written_runs import write_run

NAMES = [
    "baseline",
    "heldout",
    "next_batch",
    "next_batch_float32",
    "heldout_quarter_every_4",
    "heldout_quarter_every_4_rate_4",
    "heldout_cycle_of_4",
    "heldout_discount",
    "next_batch_discount",
]


def bindings_of(variant):
    """Of all files and bindings, as T5X's command line combines them."""
    first, *others = variant.gin_files
    includes = [f"include {file!r}" for file in others]
    return gin_runs.bindings_of(first, *includes, *variant.bindings)


@pytest.mark.parametrize("corpus", sources.CORPORA)
def test_a_source_differs_by_its_settings_alone(corpus):
    variants = {variant.name: variant for variant in sources.variants(corpus)}
    assert list(variants) == NAMES
    heldout = bindings_of(variants["heldout"])
    rate = 4 * float(heldout["META_LEARNING_RATE"])
    quarter = int(heldout["BATCH_SIZE"]) // 4
    next_batch = {
        "DISCOUNT": "0.0",
        "guided_trainer.GuidedTrainer.guidance_dataset_cfg": "None",
        "next_batch/guided_trainer.GuidedTrainer.guidance_dataset_cfg": "None",
    }
    every_4 = {"GUIDANCE_BATCH_SIZE": f"{quarter}", "GUIDANCE_PERIOD": "4"}
    expected = {
        "next_batch": next_batch,
        "next_batch_float32": next_batch | {"SENSITIVITY_DTYPE": "'float32'"},
        "heldout_quarter_every_4": every_4,
        "heldout_quarter_every_4_rate_4": every_4 | {"META_LEARNING_RATE": f"{rate:g}"},
        "heldout_cycle_of_4": {"GUIDANCE_BATCHES": "4"},
        "heldout_discount": {"DISCOUNT": "0.9"},
        "next_batch_discount": next_batch | {"DISCOUNT": "0.9"},
    }
    for name, differs in expected.items():
        found = bindings_of(variants[name])
        assert dict(found.items() - heldout.items()) == differs, name
    assert "META_LEARNING_RATE" not in bindings_of(variants["baseline"])


def test_settings_of_the_command_line_count():
    given = ["BATCH_SIZE = 8", "META_LEARNING_RATE = 0.5", "TRAIN_STEPS = 9"]
    variants = {v.name: v for v in sources.variants("quickstart", given)}
    assert variants["baseline"].bindings == ["BATCH_SIZE = 8", "TRAIN_STEPS = 9"]
    assert variants["heldout_quarter_every_4_rate_4"].bindings == [
        *given,
        "GUIDANCE_BATCH_SIZE = 2",
        "GUIDANCE_PERIOD = 4",
        "META_LEARNING_RATE = 2",
    ]


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("BATCH_SIZE = 6", "BATCH_SIZE=6 must be divisible by 4"),
        ("META_LEARNING_RATE = {'alpha': 1}", "META_LEARNING_RATE=.* must be one number"),
    ],
)
def test_settings_without_a_quarter_or_four_times_are_errors(binding, message):
    with pytest.raises(ValueError, match=message):
        sources.variants("quickstart", [binding])


def test_the_study_is_trained_and_reported(tmp_path, monkeypatch, capsys):
    def train(variants, folder, *, seeds, jobs):
        assert (seeds, jobs) == ([4, 5], 2)
        trained = {}
        for number, variant in enumerate(variants):
            assert "TRAIN_STEPS = 40" in variant.bindings
            learned = {"alpha": [1.0, number / 4]} if number else {}
            losses = {20: 4.0, 40: 3.0 - number / 8}
            trained[variant.name] = [
                write_run(folder / variant.name / str(seed), losses, [1.0, 1.0], learned)
                for seed in seeds
            ]
        return trained

    monkeypatch.setattr(launch, "train", train)
    write_run(tmp_path / "baseline" / "0", {20: 4.0}, [1.0])  # a seed of another time
    command = f"quickstart --folder {tmp_path} --gin.TRAIN_STEPS=40 --seeds 4 5 --jobs 2"
    sources.main(command.split())
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[-9:]]
    assert rows == NAMES
    assert (tmp_path / "report.png").exists()


def test_macros_are_those_of_gin():
    found = macros.read(["gbt_t5x/gin/wmt19_guided.gin"], ["A = %B", "B = [1, %A]"])
    expected = gin_runs.bindings_of("gin/wmt19_guided.gin")
    for name in ("BATCH_SIZE", "META_LEARNING_RATE", "TRAIN_STEPS", "HYPERPARAMS"):
        assert repr(found[name]) == repr(eval(expected[name])), name
    assert found["GUIDANCE_BATCH_SIZE"] == found["BATCH_SIZE"]
    assert found["MODEL_DIR"] == "%gin.REQUIRED"


def test_what_is_no_gin_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no gin file gbt_t5x/gin/absent.gin"):
        macros.read(["gbt_t5x/gin/absent.gin"])
    (tmp_path / "a.gin").write_text("A = [1,\n")
    with pytest.raises(ValueError, match=r"a.gin is no gin"):
        macros.read([str(tmp_path / "a.gin")])
