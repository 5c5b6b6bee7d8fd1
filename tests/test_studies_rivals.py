"""Rivals of guidance: their settings, and what is told of runs written here."""

import csv
import re

import gin
import pytest

from gbt_t5x.studies import launch
from gbt_t5x.studies.rivals import __main__ as rivals, candidates, files, plot
import gin_runs
from written_runs import write_run

UNTUNED = ["guided", "next_batch", "recipe"]
STEPS = 200
EACH = [
    (corpus, rival.name)
    for corpus in candidates.CORPORA
    for rival in candidates.rivals(corpus)
]


def rival_of(corpus, name, *bindings):
    found = candidates.rivals(corpus, [f"TRAIN_STEPS = {STEPS}", *bindings])
    return next(rival for rival in found if rival.name == name)


def on_top(variant):
    """The first file, and what follows it on the command line, in order."""
    first, *others = variant.gin_files
    return first, *(f"include {file!r}" for file in others), *variant.bindings


def schedule(rival, setting):
    """The learning rate at some steps, which T5X counts from 0."""
    with gin_runs.arguments(*on_top(rival.variant(setting))) as kwargs:
        name = kwargs["trainer_cls"].__name__
        selector = {
            "ScheduleFreeTrainer": "contrib.ScheduleFreeTrainer",
            "GuidedTrainer": "guided_trainer.GuidedTrainer",
        }.get(name, "trainer.Trainer")
        rate = gin.get_bindings(selector)["learning_rate_fn"]
        assert kwargs["infer_eval_dataset_cfg"] is None
        return [float(rate(step)) for step in (0, 5, 10, 100, 160, 180, 200)]


def test_the_settings():
    for corpus in candidates.CORPORA:
        found = candidates.rivals(corpus)
        assert found[0].name == "t5_default"
        assert [r.name for r in found if r.is_guided] == UNTUNED
        for rival in found:
            assert len(set(rival.settings)) == len(rival.settings)
            assert len(rival.settings) == (1 if rival.is_guided else 16)
            assert len({r.variant(1).name for r in found}) == len(found)


@pytest.mark.parametrize("corpus", candidates.CORPORA)
def test_the_baseline_is_that_of_the_corpus(corpus):
    """But for what is decoded and kept."""
    found = gin_runs.bindings_of(*on_top(rival_of(corpus, "t5_default").variant(1)))
    own = gin_runs.bindings_of(f"gin/{corpus}_baseline.gin", f"TRAIN_STEPS = {STEPS}")
    changed = {name for name in found if found[name] != own.get(name)}
    decodes = own["train_script.train.infer_eval_dataset_cfg"] != "None"
    assert changed == {"utils.SaveCheckpointConfig.keep"} | (
        {"train_script.train.infer_eval_dataset_cfg"} if decodes else set()
    )


# At the steps 0, 5, 10, 100, 160, 180 and 200 of 200, over the peak.
LINEAR = [1.0, 0.975, 0.95, 0.5, 0.2, 0.1, 0.0]
AFTER_10 = [0.0, 0.5, 1.0, 0.5413, 0.1054, 0.0272]
SHAPES = {
    "linear": LINEAR,
    "cosine": [1.0, 0.9985, 0.9938, 0.5, 0.0955, 0.0245],
    "warmup_stable_decay": [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0],
    "adamw": AFTER_10,
    "prodigy": AFTER_10,
    "muon": AFTER_10,
    "schedule_free_adamw": [1.0] * 7,  # its warm-up is the optimizer's
    "constant": [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0],
    "recipe": LINEAR,
}
RECIPE_RATES = {
    "quickstart": "LEARNING_RATE = 0.04",
    "offline_translation": "LEARNING_RATE = 0.01",
}


@pytest.mark.parametrize(("corpus", "name"), EACH)
def test_every_rival_is_whole(corpus, name):
    rival = rival_of(corpus, name)
    rates = schedule(rival, len(rival.settings))
    if name in SHAPES:
        variant = rival.variant(len(rival.settings))
        rates_given = (b for b in variant.bindings if b.startswith("PEAK_RATE"))
        rate = next(rates_given, RECIPE_RATES[corpus])
        expected = [x * float(rate.partition("= ")[2]) for x in SHAPES[name]]
        assert rates[: len(expected)] == pytest.approx(expected, abs=2e-4 * max(rates))


def test_macros_of_guidance_are_of_the_guided_alone():
    given = "META_LEARNING_RATE = 0.5"
    assert given not in rival_of("quickstart", "cosine", given).variant(1).bindings
    assert rival_of("quickstart", "recipe", given).variant(1).bindings[-1] == given
    of_recipe = "LEARNING_RATE = 0.03"
    for name in ("guided", "next_batch", "cosine"):
        found = rival_of("quickstart", name, of_recipe, "N = 1").variant(1).bindings
        assert of_recipe not in found
        assert "N = 1" in found, "a macro of neither is refused by its run"
    assert of_recipe in rival_of("quickstart", "recipe", of_recipe).variant(1).bindings


# (rival, setting) -> from each of two seeds, the losses at the steps 20 and 40.
LOSSES = {
    ("t5_default", 1): [(3.5, 3.0), (3.5, 3.1)],
    ("t5_default", 2): [(3.5, 3.2), (3.5, 3.2)],
    ("cosine", 1): [None, (3.5, 3.4)],
    ("cosine", 2): [(2.95, 2.8), (3.5, 3.0)],
    ("muon", 1): [(4.0, 3.3), (4.0, 3.5)],
    ("muon", 2): [(4.0, 3.4), (4.0, 3.2)],
    ("recipe", 1): [(2.9, 2.7), (2.9, 2.8)],
}
SPEEDS = {"t5_default": 10.0, "cosine": 8.0, "muon": 5.0, "recipe": 5.0}
COMMAND = "quickstart --only cosine muon recipe --seeds 4 5 --budgets 1 2".split()


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Runs are written in place of trained; of those asked for a list is kept."""
    asked = []

    def train(variants, folder, *, seeds, jobs, failures):
        trained = {}
        for variant in variants:
            name, _, setting = variant.name.rpartition("_")
            trained[variant.name] = []
            for seed in seeds:
                asked.append(f"{variant.name}/{seed}")
                model_dir = folder / variant.name / str(seed)
                losses = LOSSES[name, int(setting)][seed - 4]
                if losses:
                    speeds = [1.0, SPEEDS[name]]
                    write_run(model_dir, dict(zip((20, 40), losses, strict=True)), speeds)
                else:
                    failures[model_dir] = "status 1, the loss is not finite"
                trained[variant.name].append(model_dir)
        return trained

    monkeypatch.setattr(launch, "train", train)
    return tmp_path / "study", asked


def rows_of(text):
    return list(csv.reader(text.splitlines()))[1:]


def test_the_study_is_trained_and_told(study, capsys):
    folder, asked = study
    rivals.main([*COMMAND, "--folder", str(folder), "--format", "csv"])
    assert asked == [
        *("t5_default_01/4", "cosine_01/4", "muon_01/4", "recipe_01/4"),
        *("t5_default_02/4", "cosine_02/4", "muon_02/4"),
        *("t5_default_01/5", "cosine_01/5", "muon_01/5", "recipe_01/5", "cosine_02/5"),
    ], "the second settings of two were worse from the first seed"
    recipe = ["recipe, untuned", "1", "2.7500 ± 0.0707", "-0.3000 ± 0.0000"]
    soon = ["20", "4.0", "1.00", "0.2000"]
    own = ["t5_default", "1", "3.0500 ± 0.0707", "-"]
    late = ["40", "4.0", "1.00", "0.1000"]
    muon = ["muon", "1", "3.4000 ± 0.1414", "+0.3500 ± 0.0500"]
    never = ["never", "never", "never", "0.2000"]
    assert rows_of(capsys.readouterr().out) == [
        ["1", *recipe, "-0.3000 ± 0.0000", *soon],
        ["1", *own, "-", *late],
        ["1", *muon, "+0.3500 ± 0.0500", *never],
        ["1", "cosine", "1", "failed, 1 of 2", "-", "-", *never[:3], "0.1250"],
        ["2", *recipe, "-0.1500 ± 0.0500", *soon],
        # 20 and 40 steps of 1 / 8 s, of the baseline's 40 of 1 / 10 s.
        *[
            ["2", "cosine", "2", "2.9000 ± 0.1414", "-0.1500 ± 0.0500", "-"]
            + ["30", "3.8", "0.94", "0.1250"]
        ],
        ["2", *own, "+0.1500 ± 0.0500", *late],
        ["2", *muon, "+0.5000 ± 0.0000", *never],
    ]
    assert (folder / "rivals.png").exists()


def test_a_file_tells_the_same(study, tmp_path, capsys):
    folder, asked = study
    file = tmp_path / "out" / "all.csv"
    rivals.main([*COMMAND, "--folder", str(folder), "--csv", str(file)])
    table = capsys.readouterr().out
    del asked[:]
    again, figure = tmp_path / "again.csv", tmp_path / "again.svg"
    source = ["quickstart", "--from", str(file)]
    rivals.main([*source, "--csv", str(again), "--figure", str(figure)])
    assert capsys.readouterr().out == table and not asked
    assert figure.exists()
    for path in (file, files.curves_path(file)):
        assert (
            path.read_text()
            == (again.parent / path.name.replace("all", "again")).read_text()
        )
    rivals.main([*source, "--only", "cosine", "--budgets", "2", "--format", "csv"])
    assert [row[1] for row in rows_of(capsys.readouterr().out)] == [
        "cosine",
        "t5_default",
    ]
    with file.open() as f:
        row = next(
            r for r in csv.DictReader(f) if r["rival"] == "cosine" and r["budgets"] == "2"
        )
    assert {key: row[key] for key in ("setting", "seed", "final_loss", "target")} == {
        "setting": "2",
        "seed": "4",
        "final_loss": "2.8",
        "target": "3",
    }
    assert (row["steps_to_target"], row["seconds_to_target"]) == ("20", "2.5")
    with file.open() as f:
        failed = next(r for r in csv.DictReader(f) if r["problem"])
    assert (failed["rival"], failed["final_loss"]) == ("cosine", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--budgets 1 16", "has the budgets 1, 2, and asked is for 1, 16"),
        ("--seeds 4 9", "has the seeds 4, 5, and asked is for 4, 9"),
        ("--seeds 5 4", "budget 2 needs 2 settings of t5_default from seed 5, .* are 1"),
        ("--only adamw", "has the rivals t5_default, .*recipe, and asked is for adamw"),
    ],
)
def test_what_a_file_has_not_is_an_error(arguments, message, study, tmp_path, capsys):
    folder, _ = study
    rivals.main([*COMMAND, "--folder", str(folder)])
    with pytest.raises(SystemExit):
        rivals.main(
            ["quickstart", "--from", str(folder / "rivals.csv"), *arguments.split()]
        )
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--only cosin", "--only cosin: the rivals here are t5_default, linear, "),
        ("--budgets 0", "--budgets: 0 is not a whole number above 0"),
        ("--jobs 0", "--jobs: 0 is not a whole number above 0"),
        ("--seeds 0 -1", "--seeds: -1 is not a whole number above -1"),
        ("--from a.csv --list", "--from takes what was trained, as it is: not with "),
        ("--from a.csv --gin.TRAIN_STEPS=50", "--from takes what was trained, as it"),
        ("--budgets 17", "--budgets 17: a rival has 16 settings"),
        ("--gin.TRAIN_STEPS=5", "TRAIN_STEPS=5 must be a number of at least 10"),
        ("--from absent.csv", "absent.csv"),
        ("--gin.PEAK_RATE=1.0", "--gin.PEAK_RATE: rivals have a PEAK_RATE of their own"),
        ("--gin.BETA1=0.5", "--gin.BETA1: rivals have a BETA1 of their own"),
    ],
)
def test_impossible_studies_are_errors(arguments, message, study, capsys):
    with pytest.raises(SystemExit):
        rivals.main(["quickstart", *arguments.split()])
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_folder_of_another_study_is_an_error(study, capsys):
    folder, asked = study
    (folder / "heldout" / "0").mkdir(parents=True)
    (folder / "heldout" / "0" / "study.json").write_text("{}")
    with pytest.raises(SystemExit):
        rivals.main([*COMMAND, "--folder", str(folder)])
    assert "has the runs heldout, of another study, and those of this one are t5_def" in (
        capsys.readouterr().err
    )
    assert not asked


def test_a_csv_file_of_something_else_is_an_error(tmp_path):
    file = tmp_path / "other.csv"
    file.write_text("step,loss\n1,2\n")
    with pytest.raises(ValueError, match="has the columns step,loss, and this study wri"):
        files.read(file)


def test_csv_files_that_are_not_whole_are_errors(study, tmp_path, capsys):
    folder, _ = study
    rivals.main([*COMMAND, "--folder", str(folder)])
    file = folder / "rivals.csv"
    of_curves = files.curves_path(file)
    head, first, *others = of_curves.read_text().splitlines(keepends=True)
    rows = file.read_text().splitlines(keepends=True)
    seconds = rows[1].rsplit(",", 2)[1]
    assert float(seconds) > 0
    for path, text, message in [
        (
            file,
            "".join([*rows, rows[-1]]),
            f"{file} has two rows of cosine 2 from seed 5",
        ),
        (
            file,
            "".join([rows[0], rows[1].replace(f",{seconds},", ",0,"), *rows[2:]]),
            f"{file} has 0 seconds a step of t5_default 1 from seed 4",
        ),
        (
            file,
            "".join(row for row in rows if ",t5_default,0,1," not in row),
            "the first setting of t5_default is not there from seed 4",
        ),
        (file, rows[0], f"{file} has no rows below its head"),
        (
            file,
            "".join([*rows, "docs,cosine\n"]),
            f"has in line {len(rows) + 1} not the ",
        ),
        (of_curves, head + "cosine,1,4,x,2.5\n", f"{of_curves} is no CSV file of losses"),
        (of_curves, "".join([head, first]), "they are of two studies"),
        (
            of_curves,
            "".join([head, first, *others[:-1]]),
            "cosine 2 from seed 5 end at step 40 with loss 3, and ",
        ),
    ]:
        before = path.read_text()
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(message)):
            files.read(file)
        path.write_text(before)
    assert files.read(file).names
    of_curves.unlink()
    with pytest.raises(ValueError, match=f"{file} needs {of_curves}, the losses of its"):
        files.read(file)


def test_a_rival_has_one_colour_in_all_figures():
    for corpus in candidates.CORPORA:
        names = [rival.name for rival in candidates.rivals(corpus)]
        assert set(names) <= set(plot._ORDER)


def test_a_baseline_that_failed_is_an_error(study, monkeypatch, capsys):
    folder, _ = study
    monkeypatch.setitem(LOSSES, ("t5_default", 1), [(3.0, 3.0), (3.0, float("nan"))])
    with pytest.raises(SystemExit):
        rivals.main([*COMMAND, "--folder", str(folder)])
    assert "the first setting of t5_default failed from seed 5" in capsys.readouterr().err


def test_the_settings_are_listed(capsys):
    rivals.main(["quickstart", "--list", "--only", "cosine", "--format", "csv"])
    rows = rows_of(capsys.readouterr().out)
    assert ["cosine", "3", "PEAK_RATE = 0.04, BETA1 = None"] in rows
    assert len(rows) == 32
