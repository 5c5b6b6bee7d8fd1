"""Bayesian optimisation: where points lie, what they find, and the store of a search."""

import csv
import json
import math
import re
import types

import pytest

from gbt_t5x.studies import launch, search, spaces
from written_runs import write_run

RATE = spaces.Setting.parse("RATE", "log:0.01:10")
BETA1 = spaces.Setting.parse("BETA1", "logit:0.1:0.99")
LEAST = {"RATE": 0.4, "BETA1": 0.7}


def loss_at(values):
    """Its minimum, 0.2, is at LEAST; above a rate of 5 nothing trains."""
    away = [s.place(values[s.name]) - s.place(LEAST[s.name]) for s in (RATE, BETA1)]
    return (
        math.inf if values["RATE"] > 5 else 0.2 * math.exp(8 * sum(x * x for x in away))
    )


@pytest.mark.parametrize(
    "text",
    [
        *("linear:-2:3", "log:1e-05:0.1", "logit:0.1:0.99"),
        *("logit:0.9:0.99999", "linear:100000:100050"),  # alike in their first digits
    ],
)
def test_a_place_is_that_of_its_value(text):
    setting = spaces.Setting.parse("X", text)
    assert str(setting) == text
    for place in (0.0, 0.3, 0.9, 1.0):
        assert setting.place(setting.value(place)) == pytest.approx(place, abs=1e-3)
    assert (setting.value(0.0), setting.value(1.0)) == (setting.low, setting.high)


def test_the_middle_of_a_scale():
    middles = {"linear:0:4": 2.0, "log:0.01:1": 0.1, "logit:0.1:0.9": 0.5}
    for text, middle in middles.items():
        assert spaces.Setting.parse("X", text).value(0.5) == middle


@pytest.mark.parametrize(
    "text",
    ["", "log", "log:1", "log:0:1", "log:2:1", "log:1:1", "logit:0.1:1", "exp:1:2"]
    + ["log:a:b", "linear:0:inf", "linear:0:1:2", "log:nan:1"],
)
def test_what_is_no_setting(text):
    with pytest.raises(ValueError, match=r"^X=.* is not SCALE:LOW:HIGH, as log:1e-5"):
        spaces.Setting.parse("X", text)


def points_of(number, seed=0, space=(RATE, BETA1)):
    losses = []
    for _ in range(number):
        point = spaces.suggest(space, losses, seed=seed)
        losses.append((point, loss_at(point)))
    return losses


def test_first_points_fill_the_space():
    """One in each eighth of every setting, as a Sobol sequence has."""
    found = [point for point, _ in points_of(spaces.INITIAL)]
    for setting in (RATE, BETA1):
        eighths = {int(8 * setting.place(point[setting.name])) for point in found}
        assert len(eighths) == spaces.INITIAL == 8


def test_the_minimum_is_found_and_again():
    found = points_of(18)
    lowest = min(loss for _, loss in found)
    assert min(loss for _, loss in found[: spaces.INITIAL]) > 0.22 > 0.202 > lowest
    assert points_of(18) == found
    assert points_of(1, seed=1) != found[:1]


def test_points_that_are_tried_at_once_differ():
    known = points_of(10)
    first = spaces.suggest((RATE, BETA1), known)
    second = spaces.suggest((RATE, BETA1), known, [first])
    assert abs(RATE.place(first["RATE"]) - RATE.place(second["RATE"])) > 0.01


def test_where_all_failed_points_go_on_filling_the_space():
    known = [({"RATE": 9.0, "BETA1": 0.5}, math.inf)] * 12
    assert spaces.suggest((RATE, BETA1), known) not in [point for point, _ in known]


def test_a_point_that_is_there_twice_prints_nothing(capfd):
    """As one at a bound is: to stdout goes the table."""
    known = [({"RATE": 9.0, "BETA1": 0.5}, 1.0)] * 12
    spaces.suggest((RATE, BETA1), known)
    assert capfd.readouterr().out == ""


@pytest.fixture
def trained(monkeypatch):
    """Runs are written in place of trained; of those asked for a list is kept."""
    asked = []

    def train(variants, folder, *, seeds, jobs, failures, progress):
        found = {}
        for variant in variants:
            values = dict(b.split(" = ") for b in variant.bindings if "STEPS" not in b)
            loss = loss_at({name: float(x) for name, x in values.items()})
            model_dir = folder / variant.name / str(*seeds)
            if not model_dir.exists():
                asked.append(variant.name)
                write_run(model_dir, {20: 9.0, 40: loss}, [1.0])
                state = json.dumps({"state": "done", "seconds": 5.0})
                (model_dir / "study.json").write_text(state)
            if math.isinf(loss):
                failures[model_dir] = "status 1, the loss is not finite"
            found[variant.name] = [model_dir]
            progress.done(variant.name)
        return found

    monkeypatch.setattr(launch, "train", train)
    return asked


COMMAND = [
    *("base.gin", "--gin.TRAIN_STEPS=40", "--search", "RATE=log:0.01:10"),
    *("--search", "BETA1=logit:0.1:0.99", "--jobs", "2"),
]


def test_a_search_goes_on_and_tells_all(tmp_path, trained, capsys):
    folder = tmp_path / "search"
    command = [*COMMAND, "--folder", str(folder), "--trials"]
    search.main([*command, "3"])
    assert trained == ["001", "002", "003"]
    search.main([*command, "11"])
    assert trained == [f"{i:03d}" for i in range(1, 12)]
    out, err = capsys.readouterr()
    assert "[11/11 trials] 011" in err
    header, *rows = csv.reader((folder / "search.csv").read_text().splitlines())
    assert header == ["trial", "RATE", "BETA1", "loss", "seconds", "problem"]
    values = [dict(zip(("RATE", "BETA1"), map(float, r[1:3]), strict=True)) for r in rows]
    assert json.loads((folder / "search.json").read_text())["points"] == values
    failed = [row for row in rows if row[5]]
    assert 0 < len(failed) < 5
    for row, value in zip(rows, values, strict=True):
        if row in failed:
            assert row[3:] == ["", "5.0", "status 1, the loss is not finite"]
        else:
            assert float(row[3]) == pytest.approx(loss_at(value), rel=1e-6)
    assert f"11 trials, {len(failed)} of which failed; the best 10" in out
    best = [line.split() for line in out.splitlines()[-10:]]
    losses = sorted((float(row[3]), row[0]) for row in rows if row not in failed)
    assert [row[0] for row in best[: len(losses)]] == [number for _, number in losses]
    assert best[0][3] == f"{losses[0][0]:.4f}"
    assert (folder / "search.png").stat().st_size > 10_000


def test_a_point_whose_run_is_not_there_is_tried_again(tmp_path, trained):
    """As after the command was stopped."""
    question = search.Question(["base.gin"], [], [RATE, BETA1])
    before = search.search(question, tmp_path / "a", trials=4, jobs=2)
    assert search.search(question, tmp_path / "b", trials=4, jobs=2)[3].values == (
        before[3].values
    )
    (before[3].model_dir / "study.json").unlink()
    for path in sorted(before[3].model_dir.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    before[3].model_dir.rmdir()
    del trained[:]
    assert search.search(question, tmp_path / "a", trials=4, jobs=2) == before
    assert trained == ["004"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--search", "MORE=log:1:2"], r"its space is .*, of this one .*MORE.*log:1:2"),
        (["--gin.TRAIN_STEPS=50"], r"its bindings is .*= 40.* of this one .*= 50"),
        (["--seed", "1"], "its seed is 0, of this one 1"),
        (["other.gin"], r"its gin_files is \[.base.gin.\], of this one .*other.gin"),
    ],
)
def test_the_store_of_another_search(tmp_path, trained, capsys, change, message):
    folder = str(tmp_path / "search")
    search.main([*COMMAND, "--folder", folder, "--trials", "1"])
    with pytest.raises(SystemExit, match="1"):
        search.main([*COMMAND, *change, "--folder", folder, "--trials", "2"])
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert line.startswith(f"error: {folder} is of another search: ")
    assert line.endswith(": name another --folder, or remove it")
    assert re.search(message, line)
    assert trained == ["001"]


def test_settings_in_another_order_are_another_search(tmp_path, trained, capsys):
    """Points are drawn by the order."""
    folder, base = str(tmp_path / "search"), ["base.gin", "--gin.TRAIN_STEPS=40"]
    settings = ["--search=RATE=log:0.01:10", "--search=BETA1=logit:0.1:0.9"]
    search.main([*base, *settings, "--folder", folder, "--trials", "1"])
    with pytest.raises(SystemExit, match="1"):
        search.main([*base, *settings[::-1], "--folder", folder, "--trials", "2"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search("its space is .*RATE.*BETA1.*, of this one .*BETA1.*RATE", line)


def test_a_store_knows_what_its_gin_files_said(tmp_path, trained, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gin_file = tmp_path / "base.gin"
    for text in ("RATE = 1.0\n", "RATE = 1.0  # as before\n", "RATE = 2.0\n"):
        gin_file.write_text(text)
        search.macros.digest.cache_clear()
        command = [*COMMAND, "--folder", "search", "--trials", "1"]
        if text == "RATE = 2.0\n":
            with pytest.raises(SystemExit, match="1"):
                search.main(command)
        else:
            search.main(command)
    assert "search is of another search: its gin is " in capsys.readouterr().err


def test_what_cannot_be_searched(tmp_path, trained, capsys):
    question = search.Question(["base.gin"], [], [RATE])
    with pytest.raises(ValueError, match="1 settings and 0 trials: a search needs"):
        search.search(question, tmp_path, trials=0)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="has files, and no search.json of a search"):
        search.search(question, tmp_path, trials=1)
    for text in ("{", "[1]", "{}"):
        (tmp_path / "a" / "search.json").write_text(text)
        with pytest.raises(ValueError, match="search.json is no store of a search: "):
            search.search(question, tmp_path / "a", trials=1)
    for points in (None, 7, [1.0], [{"OTHER": 1.0}], [{"RATE": "1"}], [{"RATE": None}]):
        store = json.dumps(question.as_json() | {"points": points})
        (tmp_path / "a" / "search.json").write_text(store)
        with pytest.raises(ValueError, match="search.json has the point .* of RATE: rem"):
            search.search(question, tmp_path / "a", trials=1)
    with pytest.raises(SystemExit, match="1"):
        search.main([*COMMAND, "--search", "RATE=linear:1:2"])
    assert "--search names RATE more than once" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        search.main([*COMMAND, "--trials", "0"])
    assert "--trials: 0 is not a whole number above 0" in capsys.readouterr().err
    assert not trained


def test_of_trials_at_a_bound_the_best_is_drawn(tmp_path, drawn):
    trials = [
        search.Trial(number, {"RATE": rate}, loss, 1.0, "", tmp_path)
        for number, (rate, loss) in enumerate([(4.0, 1.0), (4.0, 9.0), (2.0, 3.0)], 1)
    ]
    search.draw(trials, [spaces.Setting.parse("RATE", "log:1:4")], tmp_path / "a.png")
    by_trial, by_rate = (axes.lines[0] for axes in drawn[0].axes)
    assert [*by_trial.get_ydata()] == [1.0, 9.0, 3.0]
    assert sorted(by_rate.get_xydata().tolist()) == [[2.0, 3.0], [4.0, 1.0]]


def test_what_fails_wherever_it_is_tried_ends_the_search(tmp_path, monkeypatch):
    """As a macro that the gin file has not."""
    tried = []

    def train(variants, folder, *, seeds, jobs, failures, progress):
        found = {v.name: [folder / v.name / "0"] for v in variants}
        for (model_dir,) in found.values():
            tried.append(model_dir)
            model_dir.mkdir(parents=True, exist_ok=True)
            (model_dir / "study.json").write_text('{"seconds": 1.0}')
            failures[model_dir] = "status 1, error: no macro RATE"
        return found

    monkeypatch.setattr(launch, "train", train)
    question = search.Question(["base.gin"], [], [RATE])
    for times in (1, 2):  # the same command tries them again
        with pytest.raises(ValueError, match="all 2 trials failed, .* no macro RATE"):
            search.search(question, tmp_path / "search", trials=10, jobs=2)
        assert len(tried) == 2 * times


def test_a_trial_that_broke_off_says_nothing_of_its_point(tmp_path, trained, monkeypatch):
    """As one that was killed: the next points may be beside it, and are not it."""
    train = launch.train

    def kill(variants, folder, *, failures, **options):
        found = train(variants, folder, failures=failures, **options)
        for model_dir in found.get("010", []):
            failures[model_dir] = "signal 9 (Killed), no output"
        return found

    monkeypatch.setattr(launch, "train", kill)
    question = search.Question(["base.gin"], [], [RATE, BETA1])
    *found, last = search.search(question, tmp_path / "search", trials=11)
    broken = found[9]
    assert [t.number for t in found if t.is_broken] == [broken.number] == [10]
    assert math.isinf(broken.loss) and broken.problem.startswith("signal 9")
    known = [(t.values, t.loss) for t in found if t is not broken]
    suggested = spaces.suggest(question.space, known, [broken.values])
    assert last.values == suggested != broken.values


def test_a_loss_that_is_not_finite_is_a_failure(tmp_path, monkeypatch):
    run = types.SimpleNamespace(loss={1: 2.0, 2: math.nan}, last_step=2)
    monkeypatch.setattr(search.runs, "read_run", lambda _: run)
    monkeypatch.setattr(search.launch, "seconds", lambda _: 1.0)
    trial = search._trial(0, {"RATE": 1.0}, tmp_path, "")
    assert trial.loss == math.inf and "loss is not finite" in trial.problem
    assert "1 trials, 1 of which failed" in search.table([trial])


def test_points_follow_on_a_loss_of_nothing():
    known = [({"RATE": 9.0, "BETA1": 0.5}, loss) for loss in [1.0, 0.0] * 6]
    assert spaces.suggest((RATE, BETA1), known).keys() == {"RATE", "BETA1"}


def test_where_all_trials_failed(tmp_path, trained):
    rate = spaces.Setting.parse("RATE", "log:6:10")
    question = search.Question(["base.gin"], [], [rate, BETA1])
    found = search.search(question, tmp_path / "search", trials=2)
    with pytest.raises(ValueError, match="all 2 trials failed, the first one by: status"):
        search.best(found)
    search.draw(found, question.space, tmp_path / "search.png")
    assert not (tmp_path / "search.png").exists()
