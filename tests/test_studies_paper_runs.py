"""The paper's experiments: what is trained, and what is written of it."""

import dataclasses
import fcntl
import json
import math
import os
import re
import shutil

from paper_findings import findings, sentences
import pytest

from gbt_t5x.studies import launch
from gbt_t5x.studies.paper import (
    __main__ as paper,
    claims,
    experiments,
    measured,
)
import gin_runs
from written_runs import write_run


def test_names_of_runs_are_distinct_and_the_same_run_is_shared():
    of_model = {}
    for model, setups in experiments.FIGURES.values():
        names = [experiments.variant(model, s, experiments.WHOLE).name for s in setups]
        assert len(set(names)) == len(names)
        for setup, name in zip(setups, names, strict=True):
            found = experiments.variant(model, setup, experiments.WHOLE)
            assert of_model.setdefault((model, name), found) == found
    shared = [
        ("translation", experiments.variant("translation", s, experiments.WHOLE).name)
        for s in experiments.TABLE_1
    ]
    assert [name in of_model for name in shared] == [True, True, True, False]


def all_variants():
    """Every configuration, once for each size."""
    for size in (experiments.WHOLE, experiments.QUICK):
        for model, setups in experiments.FIGURES.values():
            for setup in setups:
                yield experiments.variant(model, setup, size)
        for corpus in experiments.CORPORA:
            for setup in experiments.TABLE_1:
                yield experiments.variant("translation", setup, size, "en_fi", corpus)
            for column in size.columns:
                for guided in (False, True):
                    learned = column.split("+")
                    yield experiments.untuned(learned, guided, size, corpus)


def on_top(variant):
    first, *others = variant.gin_files
    return first, *(f"include {file!r}" for file in others), *variant.bindings


def values_of(variant):
    return dict(binding.split(" = ", 1) for binding in variant.bindings)


def test_evaluations_and_checkpoints_come_at_the_same_steps():
    """T5X takes no checkpoint period that is no multiple of the evaluations' one."""
    found = set()
    for variant in all_variants():
        of = values_of(variant)
        names = ("TRAIN_STEPS", "EVAL_PERIOD", "CHECKPOINT_PERIOD")
        steps, evaluations, checkpoints = (int(of[name]) for name in names)
        assert checkpoints == steps
        assert steps % evaluations == 0, (steps, evaluations)
        found.add((steps, steps // evaluations))
    assert found == {(40, 4), (80, 4), (160, 4), (200, 10), (600, 12), (1500, 12)}


def test_the_learning_rate_of_translation_peaks_alike_in_runs_of_any_length():
    """As in the 600 steps that its gin file has: T5's schedule falls with the warm-up."""
    found = {}
    for of in map(values_of, all_variants()):
        if "WARMUP_STEPS" in of:
            rate, warmup = float(of["LEARNING_RATE"]), int(of["WARMUP_STEPS"])
            assert warmup == int(of["TRAIN_STEPS"]) // 2
            assert rate / math.sqrt(warmup) == pytest.approx(
                0.4 / math.sqrt(300), rel=5e-3
            )
            found[warmup] = rate
    assert found == {20: 0.103, 40: 0.146, 100: 0.231, 300: 0.4}


def test_gin_takes_every_configuration():
    for variant in {v.name + str(v.bindings): v for v in all_variants()}.values():
        found = gin_runs.bindings_of(*on_top(variant))
        learned = "GuidedTrainer" in str(found.get("train_script.train.trainer_cls"))
        assert learned == ("_eta_" in variant.name), variant


def test_a_search_tunes_what_guidance_learns_or_its_rate():
    assert experiments.WHOLE.columns == claims.LEARNED
    for learned in (column.split("+") for column in claims.LEARNED):
        base = experiments.question(learned, False, experiments.WHOLE)
        guided = experiments.question(learned, True, experiments.WHOLE)
        names = {"alpha": "LEARNING_RATE", "beta1": "BETA1"}
        assert [s.name for s in base.space] == [names[name] for name in learned]
        assert [s.name for s in guided.space] == ["META_LEARNING_RATE"]
        for question in (base, guided):  # a value would be there twice
            assert not {s.name for s in question.space} & {*values_of(question)}
        values = {s.name: s.low for s in guided.space}
        found = gin_runs.bindings_of(*on_top(guided.variant(1, values)))
        assert found["optimizers.GuidedOptimizer.meta_learning_rate"] in (
            "0.0001",
            "%META_LEARNING_RATE",
        )


@pytest.fixture
def trained(monkeypatch):
    """Runs and evaluations are written in place of made; of those asked for a list."""
    asked = []

    def check_corpus(bindings, folder):
        of_catalogues = 'CORPUS = "catalogues_"' in bindings
        assert of_catalogues == ("catalogues" in folder.parts)

    def train(variants, folder, *, seeds, jobs, failures=None, progress=None):
        found = {}
        for variant in variants:
            check_corpus(variant.bindings, folder)
            of = values_of(variant)
            learned = eval(of.get("HYPERPARAMS", "()"))
            found[variant.name] = []
            for seed in seeds:
                model_dir = folder / variant.name / str(seed)
                asked.append(model_dir)
                rate = math.log10(float(of.get("META_LEARNING_RATE", "1e-3")))
                curves = {name: [1.0, 0.5 + 0.1 * rate] for name in learned}
                last = int(of["TRAIN_STEPS"])
                losses = {last // 2: 9.0, last: 9.0 + rate}
                write_run(model_dir, losses, [1.0, 1.0], curves)
                state = json.dumps({"state": "done", "seconds": 30.0})
                (model_dir / "study.json").write_text(state)
                for step in (experiments.QUICK.pretraining,):
                    (model_dir / f"checkpoint_{step}").mkdir(exist_ok=True)
                if "INITIAL_CHECKPOINT_PATH" in of:
                    pretrained, task = re.fullmatch(
                        "(base|alpha_beta1)_(.*)", variant.name
                    ).groups()
                    of_model = "baseline" if pretrained == "base" else "alpha_beta1_eta_"
                    checkpoint = of["INITIAL_CHECKPOINT_PATH"]
                    assert f"t5/{of_model}" in checkpoint
                    assert checkpoint.split("/")[-2] == str(seed)
                    assert of["MIXTURE_OR_TASK_NAME"] == f'"{task}"'
                    score(model_dir, task, {"accuracy": 40.0 + seed})
                found[variant.name].append(model_dir)
        return found

    def score(folder, task, values):
        (folder / "inference_eval").mkdir(parents=True, exist_ok=True)
        line = json.dumps({"step": 9, **values})
        (folder / "inference_eval" / f"{task}-metrics.jsonl").write_text(line)

    def evaluate(model_dirs, gin_files, bindings, *, jobs):
        shorter = {"table_2", "en_fi"} <= {*model_dirs[0].parts}
        rows = 3 if shorter else 4
        assert len(model_dirs) == rows, "a table's rows are evaluated at once"
        for model_dir in model_dirs:
            check_corpus(bindings, model_dir)
            if not (model_dir / "test").exists():
                test = model_dir / "test"
                score(test, "offline_de_en", {"bleu": 20.0, "chrf": 30.0})
                (test / "study.json").write_text('{"seconds": 6.0}')
        return [model_dir / "test" for model_dir in model_dirs]

    monkeypatch.setattr(launch, "train", train)
    monkeypatch.setattr(launch, "evaluate", evaluate)
    return asked


def test_every_part_is_trained_and_written(tmp_path, trained, capsys):
    folder = tmp_path / "study"
    paper.main(["--quick", "--folder", str(folder), "--jobs", "2"])
    assert capsys.readouterr().out == f"{folder / 'paper.html'}\n"
    names = {path.stem for path in (folder / "results").glob("*.csv")}
    assert names == {*experiments.PARTS, "figure_E1", "trials", "size"}
    results = measured.Results(folder / "results")
    size = {row["name"]: row["value"] for row in results.rows("size")}
    assert (size["seeds"], size["translation"], size["trials"]) == ("0", "80", "3")
    assert size["hours figure_1"] == f"{30 * 5 / 3600:.2f}"
    for direction in ("de_en", "en_fi"):
        of_direction = f"hours table_1 templates {direction}"
        assert size[of_direction] == f"{(30 + 6) * 4 / 3600:.2f}"
    assert {name.split()[1] for name in size if name.startswith("hours ")} == {
        *experiments.PARTS
    }
    for name, (_, setups) in experiments.FIGURES.items():
        runs = results.figure(name)
        assert len(runs) == len(setups)
        assert [run.learned for run in runs] == ["+".join(s.learned) for s in setups]
    assert len(results.rows("table_1")) == 2 * 4
    assert [r["learned"] for r in results.rows("table_2")] == ["beta1"] * 4
    assert len(results.rows("trials")) == 2 * 3
    assert len(results.rows("table_3")) == 2 * 3
    of_search = [r for r in results.rows("table_2") if r["row"] == "guided_tuned"]
    assert all(
        re.fullmatch(r"META_LEARNING_RATE = [\d.e-]+", r["settings"]) for r in of_search
    )
    assert {r["runs"] for r in of_search} == {3}
    assert {r["seconds"] for r in of_search} == {90.0}
    assert not any(f.verdict == claims.MISSING for f in findings(folder / "results"))


def test_table_2_has_all_columns_of_a_study(tmp_path, trained, monkeypatch):
    size = dataclasses.replace(experiments.QUICK, columns=experiments.WHOLE.columns)
    monkeypatch.setattr(experiments, "QUICK", size)
    paper.main(["--quick", "--folder", str(tmp_path), "--only", "table_2"])
    results = measured.Results(tmp_path / "results")
    assert len(results.rows("table_2")) == 3 * 4
    assert len(results.rows("trials")) == 3 * 2 * 3
    assert results.distinct("table_2", "learned") == ["alpha", "beta1", "alpha+beta1"]


def test_table_2_is_of_each_corpus(tmp_path, trained):
    """Which have runs, columns and sentences of their own; Figure E.1 is of one."""
    command = ["--quick", "--folder", str(tmp_path), "--only", "table_2"]
    paper.main([*command, "--corpora", "catalogues"])
    names = {path.stem for path in (tmp_path / "results").glob("*.csv")}
    assert names == {"table_2", "trials", "size"}
    of_catalogues = [*trained]
    trained.clear()
    paper.main([*command, "--corpora", "templates", "catalogues"])
    assert len(trained) == len(of_catalogues) == 2 * 3 + 4
    assert not {*trained} & {*of_catalogues}
    results = measured.Results(tmp_path / "results")
    for name, rows in (("table_2", 4), ("trials", 2 * 3)):
        corpora = [row["corpus"] for row in results.rows(name)]
        assert corpora == ["catalogues"] * rows + ["templates"] * rows
    assert results.rows("figure_E1")
    found = findings(tmp_path / "results")[3]
    assert [s.split(":")[0] for s in sentences(found)] == [
        "catalogues, β1",
        "templates, β1",
        "catalogues",
        "templates",
    ]
    page = (tmp_path / "paper.html").read_text()
    assert "Table 2: BLEU, catalogues, and" in page
    assert "Table 2: BLEU, templates, and" in page


def test_table_2_has_shorter_searches_in_other_directions(tmp_path, trained, monkeypatch):
    """Of one column, on the catalogues, none for η̂; each is written when it is done."""
    size = dataclasses.replace(experiments.QUICK, other_trials=2)
    monkeypatch.setattr(experiments, "QUICK", size)
    command = ["--quick", "--folder", str(tmp_path), "--only", "table_2", "--corpora"]
    paper.main([*command, "catalogues", "templates"])
    assert len(trained) == 2 * (2 * 3 + 4) + 2 + 3
    results = measured.Results(tmp_path / "results")
    of_rows = ["base", "base_tuned", "guided"]
    for name, names in {"table_2": of_rows, "trials": ["base"] * 2}.items():
        there = [r for r in results.rows(name) if r["direction"] == "en_fi"]
        assert [row["row"] for row in there] == names
        assert {(r["corpus"], r["learned"]) for r in there} == {("catalogues", "beta1")}
    tuned = {"row": "base_tuned", "direction": "en_fi"}
    assert results.by_seed("table_2", "runs", **tuned) == {0: 2}
    settings = results.sizes["settings table_2 catalogues beta1 en_fi"]
    assert 'DIRECTION = "en_fi"' in settings
    assert "BETA1 in logit:0.1:0.99" in settings
    assert "META_LEARNING_RATE in" not in settings
    assert (tmp_path / "table_2" / "catalogues" / "en_fi" / "searches").is_dir()
    trained.clear()
    rows = [r for r in results.rows("table_2") if r["direction"] != "en_fi"]
    measured.write(tmp_path / "results", "table_2", rows)
    paper.main([*command, "catalogues", "templates"])
    assert {path.relative_to(tmp_path).parts[:3] for path in trained} == {
        ("table_2", "catalogues", "en_fi")
    }
    assert len(trained) == 2 + 3


def test_a_search_of_alpha_has_the_rate_of_its_untuned_run_in_the_middle():
    for size in (experiments.WHOLE, experiments.QUICK):
        for corpus in experiments.CORPORA:
            rate, _ = experiments.question(["alpha", "beta1"], False, size, corpus).space
            untuned = values_of(experiments.untuned(["alpha"], False, size, corpus))
            middle = float(untuned["LEARNING_RATE"])
            assert (rate.low, rate.high) == pytest.approx((middle / 10, middle * 10))


def test_trials_of_a_corpus_are_of_it():
    size, corpus = experiments.WHOLE, "catalogues"
    for guided in (False, True):
        bindings = experiments.question(["alpha"], guided, size, corpus).bindings
        assert {*experiments.CORPORA[corpus]} < {*bindings}
        steps = size.trial
        assert {f"TRAIN_STEPS = {steps}", f"WARMUP_STEPS = {steps // 2}"} < {*bindings}
        assert 'DIRECTION = "de_en"' in bindings


def test_results_of_another_size_or_corpus_are_not_mixed(tmp_path, trained, capsys):
    folder = tmp_path / "study"
    command = ["--folder", str(folder), "--only", "table_1"]
    paper.main(["--quick", *command, "--corpora", "catalogues"])
    paper.main(["--quick", *command, "--corpora", "templates", "catalogues"])
    rows = measured.read(folder / "results", "table_1")
    assert [row["corpus"] for row in rows] == ["catalogues"] * 8 + ["templates"] * 8
    with pytest.raises(SystemExit, match="1"):
        paper.main(command)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        f"error: {folder}/results has results of another size, seeds 0, directions de_en "
        "en_fi, translation 80, "
    )
    assert ", and this one has seeds 0 1 2, directions de_en en_de " in error
    with pytest.raises(SystemExit, match="2"):
        paper.main([*command, "--page", str(tmp_path)])
    assert f"{tmp_path} is not FILE.html" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "which", "runs"),
    [
        ("table_1", {"direction": "en_fi"}, 4),
        ("table_2", {"learned": "beta1", "direction": "de_en"}, 2 * 3 + 4),
        ("table_3", {}, 2 + 2 * 3),
        ("figure_F2", {}, 4),
    ],
)
def test_what_the_results_have_is_not_made_again(
    tmp_path, trained, capsys, part, which, runs
):
    folder, other = tmp_path / "study", tmp_path / "other machine"
    paper.main(["--quick", "--folder", str(folder), "--only", part])
    whole = {f.name: f.read_text() for f in (folder / "results").glob("*.csv")}
    rows = measured.read(folder / "results", part)
    left = [row for row in rows if not which.items() <= row.items()]
    shutil.copytree(folder / "results", other / "results")
    measured.write(other / "results", part, left)
    trained.clear()
    paper.main(["--quick", "--folder", str(other), "--only", part])
    assert len(trained) == runs
    there = {f.name: f.read_text() for f in (other / "results").glob("*.csv")}
    assert there.keys() == whole.keys()
    for name in there.keys() - {"size.csv"}:
        assert sorted(there[name].splitlines()) == sorted(whole[name].splitlines())
    capsys.readouterr()
    trained.clear()
    paper.main(["--quick", "--folder", str(other), "--only", part])
    assert not trained
    of_corpus = ["templates"] if which else []
    what = " ".join([part, *of_corpus, *which.values()])
    said = f"{what}: is in {other}/results, and is not made"
    assert said in capsys.readouterr().err


def test_hours_are_those_of_all_pieces(tmp_path, trained):
    """On one machine and on another, of 4 runs and evaluations each."""
    results = tmp_path / "results"
    paper.main(["--quick", "--folder", str(tmp_path), "--only", "table_1"])
    whole = measured.Results(results).hours("table_1")
    assert whole == pytest.approx(2 * (30 + 6) * 4 / 3600, abs=0.011)
    rows = measured.read(results, "table_1")
    measured.write(results, "table_1", [r for r in rows if r["direction"] == "de_en"])
    paper.main(["--quick", "--folder", str(tmp_path), "--only", "table_1"])
    assert measured.Results(results).hours("table_1") == whole
    (results / "table_1.csv").unlink()
    paper.main(["--quick", "--folder", str(tmp_path), "--only", "table_1"])
    assert measured.Results(results).hours("table_1") == whole


@pytest.mark.parametrize("part", ["table_1", "table_2", "table_3", "figure_1"])
def test_what_could_not_be_written_is_written_by_the_next_start(
    part, tmp_path, trained, monkeypatch
):
    command = ["--quick", "--folder", str(tmp_path), "--only", part]
    write = measured.write
    for name in ("size", "trials", part):

        def full(folder, file, rows, fails=name):
            if file == fails:
                raise OSError(f"no space left for {file}")
            return write(folder, file, rows)

        monkeypatch.setattr(measured, "write", full)
        if name != "trials" or part == "table_2":
            with pytest.raises(SystemExit, match="1"):
                paper.main(command)
    monkeypatch.setattr(measured, "write", write)
    paper.main(command)
    assert measured.read(tmp_path / "results", part)
    trained.clear()
    paper.main(command)
    assert not trained


def test_one_command_works_in_a_folder(tmp_path, trained, capsys):
    command = ["--quick", "--folder", str(tmp_path), "--only", "figure_1"]
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(SystemExit, match="1"):
        paper.main(command)
    os.close(other)
    assert f"another command works in {tmp_path}, or " in capsys.readouterr().err
    assert not trained


def test_a_figure_of_other_runs_is_refused(tmp_path, trained, capsys):
    command = ["--quick", "--folder", str(tmp_path), "--only", "figure_1"]
    paper.main(command)
    rows = measured.read(tmp_path / "results", "figure_1")
    names = [*dict.fromkeys(row["run"] for row in rows)]
    kept = [row for row in rows if row["run"] != names[-1]]
    file = measured.write(tmp_path / "results", "figure_1", kept)
    trained.clear()
    with pytest.raises(SystemExit, match="1"):
        paper.main(command)
    assert not trained
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {file} has the runs {', '.join(names[:-1])}, and this version makes "
        f"{', '.join(names)}: remove it, and make it again"
    )


def test_a_part_alone(tmp_path, trained):
    folder = tmp_path / "study"
    paper.main(["--quick", "--folder", str(folder), "--only", "figure_F3"])
    assert {path.stem for path in (folder / "results").glob("*")} == {"figure_F3", "size"}
    assert len(trained) == len(experiments.FIGURES["figure_F3"][1])


def test_results_of_other_settings_are_refused(tmp_path, trained, capsys, monkeypatch):
    """As those of another commit, whose learning rate or space was another."""
    command = ["--quick", "--folder", str(tmp_path), "--only"]
    paper.main([*command, "table_2", "figure_1", "table_1", "table_3"])
    size = measured.Results(tmp_path / "results").sizes
    assert size["settings table_2 templates beta1 de_en"] == (
        "gbt_t5x/gin/offline_translation_baseline.gin; gbt_t5x/gin/rivals/losses.gin; "
        "TRAIN_STEPS = 40; EVAL_PERIOD = 10; CHECKPOINT_PERIOD = 40; "
        'DIRECTION = "de_en"; WARMUP_STEPS = 20; LEARNING_RATE = 0.103; '
        "gbt_t5x/gin/offline_translation_guided.gin; HYPERPARAMS = ('beta1',); "
        "META_LEARNING_RATE = 0.045; BETA1 in logit:0.1:0.99; "
        "META_LEARNING_RATE in log:0.0001:0.1"
    )
    trained.clear()
    capsys.readouterr()

    def refused(part):
        with pytest.raises(SystemExit, match="1"):
            paper.main([*command, part])
        assert not trained
        return capsys.readouterr().err.splitlines()[-1]

    of = f"error: {tmp_path}/results has"
    end = ": name another --folder"
    question = experiments.question

    def other(*args):
        found = question(*args)
        space = [dataclasses.replace(s, high=0.5) for s in found.space]
        return dataclasses.replace(found, space=space)

    with monkeypatch.context() as patch:
        patch.setattr(experiments, "question", other)
        assert refused("table_2") == (
            f"{of} table_2 templates beta1 de_en of BETA1 in logit:0.1:0.99; "
            "META_LEARNING_RATE in log:0.0001:0.1, and this version makes it of BETA1 in "
            f"logit:0.1:0.5; META_LEARNING_RATE in log:0.0001:0.5{end}"
        )
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "_learning_rate", lambda steps: 0.5)
        for part, name in {"figure_1": "", "table_1": " templates de_en"}.items():
            assert refused(part) == (
                f"{of} {part}{name} of LEARNING_RATE = 0.146, and this version makes it "
                f"of LEARNING_RATE = 0.5{end}"
            )
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "_common", lambda *args: [])
        assert re.search(
            "table_3 of TRAIN_STEPS = 160; .* of nothing else: ", refused("table_3")
        )
    sizes = [r for r in measured.read(tmp_path / "results", "size")]
    kept = [row for row in sizes if row["name"] != "settings figure_1"]
    measured.write(tmp_path / "results", "size", kept)
    assert refused("figure_1").startswith(
        f"{of} figure_1 of nothing else, and this version makes it of gbt_t5x/gin/offline"
    )
