"""The paper's tables, from the paper's own numbers."""

import csv
import io
import json
import math
import statistics

import pytest

from gbt_t5x.studies import scores, suites

# (task, metric) in the order of the paper's Tables 6 and 7.
COLUMNS = [
    *(("glue_cola", "matthews_corrcoef"), ("glue_sst2", "accuracy")),
    *(("glue_mrpc", "f1"), ("glue_mrpc", "accuracy")),
    *(("glue_stsb", "pearson_corrcoef"), ("glue_stsb", "spearman_corrcoef")),
    *(("glue_qqp", "f1"), ("glue_qqp", "accuracy")),
    *(("glue_mnli_matched", "accuracy"), ("glue_mnli_mismatched", "accuracy")),
    *((f"glue_{task}", "accuracy") for task in ("qnli", "rte", "wnli")),
    *(("squad", "em"), ("squad", "f1")),
    ("super_glue_boolq", "accuracy"),
    *(("super_glue_cb", "mean_3class_f1"), ("super_glue_cb", "accuracy")),
    ("super_glue_copa", "accuracy"),
    *(("super_glue_multirc", "f1"), ("super_glue_multirc", "exact_match")),
    *(("super_glue_record", "f1"), ("super_glue_record", "em")),
    *((f"super_glue_{task}", "accuracy") for task in ("rte", "wic", "wsc_eval")),
]
ROWS = {
    "6 base": """47.9 92.3 90.3 86.7 84.0 84.3 85.6 89.2 83.8 84.5 90.2 67.9 57.7 88.2
        80.1 73.6 98.1 98.7 58.0 18.9 68.5 63.3 64.3 64.6 67.1 67.3""",
    "6 learned": """44.5 92.5 91.7 88.2 84.9 85.3 86.0 89.5 84.6 85.2 90.5 69.0 59.2 88.3
        80.6 73.6 94.6 96.0 61.0 22.6 69.7 63.6 64.5 66.4 67.6 74.0""",
    "7 base": """47.3 92.2 89.9 86.0 83.6 84.0 87.2 90.5 83.8 84.4 89.1 64.8 57.5 88.1
        80.0 73.1 97.9 98.4 56.4 6.4 62.1 63.1 64.1 63.8 66.1 63.5""",
    "7 learned": """43.6 92.5 90.8 87.0 84.6 85.0 87.2 90.5 84.5 85.1 90.3 66.0 57.2 88.2
        80.5 72.7 93.2 93.1 57.2 21.0 69.4 63.3 64.3 65.9 66.7 73.5""",
}
TABLE_3 = {  # met and acc of every task, and the average
    ("GLUE", "6 base"): "47.9 92.3 88.5 84.1 87.4 84.1 90.2 67.9 57.7 77.8",
    ("GLUE", "6 learned"): "44.5 92.6 90.0 85.1 87.7 84.9 90.5 69.0 59.2 78.2",
    ("SuperGLUE", "6 base"): "73.6 98.4 58.0 43.7 63.8 64.6 67.2 67.3 67.1",
    ("SuperGLUE", "6 learned"): "73.6 95.3 61.0 46.0 64.0 66.4 67.6 74.0 68.5",
}
# Where the paper's Table 3 does not follow from its Table 6: (printed there, computed).
DEPARTURES_3 = {
    ("6 base", "STS"): ("84.1", 84.15),
    ("6 base", "MNLI"): ("84.1", 84.15),
    ("6 base", "WiC"): ("67.2", 67.1),
    ("6 learned", "SST"): ("92.6", 92.5),
    ("6 learned", "QQP"): ("87.7", 87.75),
    ("6 learned", "MultiRC"): ("46.0", 46.15),
    ("6 learned", "ReCoRD"): ("64.0", 64.05),
}


def numbers(row):
    return [float(value) for value in ROWS[row].split()]


def write(folder, metrics, prefix="guided_", step=1):
    """Appends an evaluation of (task, metric) -> value, as seqio does."""
    tasks = {}
    for (task, metric), value in metrics.items():
        tasks.setdefault(prefix + task, {"step": step})[metric] = value
    for task, line in tasks.items():
        path = folder / "inference_eval" / f"{task}-metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as f:
            f.write(json.dumps(line) + "\n")
    return str(folder)


def of_paper(row, tmp_path):
    folder = tmp_path / row
    write(folder, dict(zip(COLUMNS, numbers(row), strict=True)))
    return scores.read_model(str(folder))


def rows(runs, table, suite):
    """heading -> the first run's value."""
    return {heading: cells[0] for heading, cells in scores.make_table(runs, table)[suite]}


@pytest.mark.parametrize("table", ["6", "7"])
@pytest.mark.parametrize("model", ["base", "learned"])
def test_metrics_stand_where_the_paper_has_them(table, model, tmp_path):
    run = of_paper(f"{table} {model}", tmp_path)
    printed = [
        value
        for suite in ("GLUE", "SQuAD", "SuperGLUE")
        for heading, value in rows([run], table, suite).items()
        if heading != "average"
    ]
    assert printed == [*numbers(f"{table} {model}")]


@pytest.mark.parametrize(
    ("row", "glue", "super_glue"),
    [("6 base", "77.8", "67.1"), ("6 learned", "78.2", "68.5")],
)
def test_averages_of_table_6(row, glue, super_glue, tmp_path):
    """To the last digit, from its rows."""
    run = of_paper(row, tmp_path)
    text = scores.format_table([run], "6", "csv")
    printed = [line[-1] for line in csv.reader(io.StringIO(text)) if line[2] == "average"]
    assert printed == [glue, super_glue]


@pytest.mark.parametrize(
    ("row", "suite", "printed_in_paper", "computed"),
    [
        # The paper's 79.8 and 80.1 are near the eight tasks without WNLI: see below.
        ("7 base", "GLUE", "79.8", 77.2889),
        ("7 learned", "GLUE", "80.1", 77.4389),
        ("7 base", "SuperGLUE", "64.8", 64.8625),
        ("7 learned", "SuperGLUE", "67.3", 67.2688),
    ],
)
def test_averages_of_table_7(row, suite, printed_in_paper, computed, tmp_path):
    """One of the paper's four follows from its rows, and three do not."""
    average = rows([of_paper(row, tmp_path)], "7", suite)["average"]
    assert average == pytest.approx(computed, abs=1e-4)
    follows = f"{average:.1f}" == printed_in_paper
    assert follows is ((row, suite) == ("7 learned", "SuperGLUE"))


@pytest.mark.parametrize(
    ("row", "without"), [("7 base", 79.7625), ("7 learned", 79.9688)]
)
def test_glue_of_table_7_without_wnli(row, without, tmp_path):
    run = of_paper(row, tmp_path)
    tasks = [
        scores._of_task(run, task, max)
        for task in suites.SUITES["GLUE"]
        if task.name != "WNLI"
    ]
    assert statistics.fmean(tasks) == pytest.approx(without, abs=1e-4)


@pytest.mark.parametrize("suite", ["GLUE", "SuperGLUE"])
@pytest.mark.parametrize("row", ["6 base", "6 learned"])
def test_table_3_follows_from_table_6(row, suite, tmp_path):
    """But for seven values, four of which end in a 5 that the paper rounds down."""
    run = of_paper(row, tmp_path)
    for (heading, value), printed in zip(
        rows([run], "3", suite).items(), TABLE_3[suite, row].split(), strict=True
    ):
        if (row, heading) in DEPARTURES_3:
            in_paper, computed = DEPARTURES_3[row, heading]
            assert (printed, value) == (in_paper, pytest.approx(computed)), heading
            assert printed != f"{round(value + 1e-9, 1):.1f}", heading
        else:
            assert f"{value:.1f}" == printed, heading


def test_what_cannot_be_in_tables_6_and_7():
    """A mean above the maximum, and an exact match above F1: SQuAD's are swapped."""
    means, maxima = (
        dict(zip(COLUMNS, numbers(f"{t} base"), strict=True)) for t in ("7", "6")
    )
    above = {key for key in COLUMNS if means[key] > maxima[key]}
    assert above == {("glue_qqp", "f1"), ("glue_qqp", "accuracy")}
    assert maxima["squad", "em"] > maxima["squad", "f1"]


@pytest.fixture
def repeats(tmp_path):
    """Three repeats of two tasks of the user's own, one with two metrics."""
    values = [(10.0, 20.0, 40.0), (14.0, 22.0, 50.0), (12.0, 30.0, 30.0)]
    for i, (em, f1, accuracy) in enumerate(values):
        metrics = {("a", "em"): em, ("a", "f1"): f1, ("b", "accuracy"): accuracy}
        write(tmp_path / "model" / str(i), metrics, prefix="offline_")
    return scores.read_model(str(tmp_path / "model"))


def test_maximum_mean_and_deviation_of_repeats(repeats):
    found = {table: list(rows([repeats], table, "other").values()) for table in "67"}
    # The task a is (em + f1) / 2: 22 of the maxima, 18 of the means.
    assert found["6"] == [14.0, 30.0, 50.0, (22 + 50) / 2]
    assert found["7"] == [12.0, 24.0, 40.0, (18 + 40) / 2]
    # em: deviations -2, 2, 0 from 12; f1: -4, -2, 6 from 24; accuracy: 0, 10, -10.
    # Averages of the repeats: (15 + 40)/2 = 27.5, (18 + 50)/2 = 34, (21 + 30)/2 = 25.5,
    # that is -1.5, 5, -3.5 from 29.
    expected = [(8 / 2) ** 0.5, (56 / 2) ** 0.5, (200 / 2) ** 0.5, (39.5 / 2) ** 0.5]
    deviations = rows([repeats], "std", "other")
    assert list(deviations.values()) == pytest.approx(expected)
    assert set(rows([repeats], "repeats", "other").values()) == {3.0}


def test_one_repeat_has_no_deviation(tmp_path):
    run = of_paper("6 base", tmp_path)
    assert set(rows([run], "std", "GLUE").values()) == {None}


def test_last_step_counts_or_the_best(tmp_path):
    for step, value in ((5, 60.0), (10, 80.0), (15, 70.0)):
        write(tmp_path, {("b", "accuracy"): value}, step=step)
    assert scores.read_model(str(tmp_path)).values == {("guided_b", "accuracy"): [70.0]}
    best = scores.read_model(str(tmp_path), best=True)
    assert best.values == {("guided_b", "accuracy"): [80.0]}


def test_a_step_with_a_nan_is_never_the_best(tmp_path):
    for step, value in ((5, math.nan), (10, 80.0), (15, 70.0)):
        write(tmp_path, {("b", "accuracy"): value}, step=step)
    best = scores.read_model(str(tmp_path), best=True)
    assert best.values == {("guided_b", "accuracy"): [80.0]}


@pytest.mark.parametrize("values", [(math.nan, 1.0), (1.0, math.nan)])
def test_a_nan_of_a_repeat_is_one_of_the_table(values, tmp_path):
    for i, value in enumerate(values):
        metrics = {("b", "matthews_corrcoef"): value}
        write(tmp_path / str(i), metrics, prefix="offline_")
    run = scores.read_model(str(tmp_path))
    for table in "67":
        assert all(map(math.isnan, rows([run], table, "other").values()))


def test_one_task_by_two_names_is_no_repeat(tmp_path):
    write(tmp_path, {("glue_cola_v002", "matthews_corrcoef"): 60.0}, prefix="")
    write(tmp_path, {("glue_cola", "matthews_corrcoef"): 40.0})
    with pytest.raises(
        ValueError, match="are of one run, and not repeats of .*cola: remo"
    ):
        scores.read_model(str(tmp_path))


def test_evaluations_of_one_run_are_no_repeats(tmp_path):
    write(tmp_path / "0", {("b", "accuracy"): 60.0})
    write(tmp_path / "0" / "test", {("b", "accuracy"): 70.0})
    names = [
        f"{tmp_path}/{x}inference_eval/guided_b-metrics.jsonl" for x in ("0/", "0/test/")
    ]
    message = (
        f"{names[0]} and {names[1]} are of one run, and not repeats of guided_b: name"
    )
    with pytest.raises(ValueError, match=message):
        scores.read_model(str(tmp_path))
    assert scores.read_model(str(tmp_path / "0" / "test")).values


def test_repeats_that_end_at_other_steps_are_told(tmp_path, capsys):
    for step in (10, 20):
        write(tmp_path / str(step), {("b", "accuracy"): 60.0}, step=step)
    scores.read_model(f"a={tmp_path}", best=True)
    assert not capsys.readouterr().err
    scores.read_model(f"a={tmp_path}")
    assert capsys.readouterr().err == "a: the last steps of guided_b are 10, 20\n"


def test_average_needs_every_task(tmp_path, capsys):
    folder = write(tmp_path / "some", {("glue_cola", "matthews_corrcoef"): 40.0})
    scores.main(["--table", "6", "--", folder])
    out, err = capsys.readouterr()
    lines = [line.split("|") for line in out.splitlines() if line.startswith("| GLUE")]
    found = {heading.strip(): value.strip() for _, _, heading, value, _ in lines}
    assert found["CoLA corr"] == "40.0"
    assert found["SST acc"] == found["MNLI mm acc"] == found["average"] == "-"
    assert "some has no average of GLUE: it lacks SST acc, MRPC F1" in err
    assert "SuperGLUE" not in out


def test_names_of_t5s_own_tasks(tmp_path):
    metrics = {
        ("glue_cola_v002", "matthews_corrcoef"): 1.0,
        ("glue_mnli_mismatched_v002", "accuracy"): 2.0,
        ("super_glue_wsc_v102_simple_eval", "accuracy"): 3.0,
        ("squad_v010_allanswers", "em"): 4.0,
    }
    run = scores.read_model(write(tmp_path, metrics, prefix=""))
    assert rows([run], "6", "GLUE")["CoLA corr"] == 1.0
    assert rows([run], "6", "GLUE")["MNLI mm acc"] == 2.0
    assert rows([run], "6", "SuperGLUE")["WSC acc"] == 3.0
    assert rows([run], "6", "SQuAD")["SQuAD EM"] == 4.0


def test_tables_know_the_registered_tasks():
    import seqio

    from gbt_t5x.tasks import glue, squad, super_glue  # noqa: F401

    of_tables = {
        metric.task
        for tasks in suites.SUITES.values()
        for task in tasks
        for metric in task.metrics
    }
    with_metrics = {
        name
        for name in seqio.TaskRegistry.names()
        if name.startswith(("guided_glue", "guided_super_glue", "guided_squad"))
        and seqio.TaskRegistry.get(name).metric_fns
    }
    assert of_tables == with_metrics


def test_formats_hold_the_same_numbers(tmp_path):
    runs = [of_paper(row, tmp_path) for row in ("6 base", "6 learned")]
    markdown, text, latex = (
        scores.format_table(runs, "6", style) for style in ("markdown", "csv", "latex")
    )
    expected = [line[1:] for line in csv.reader(io.StringIO(text))]
    assert expected[0] == ["suite", "metric", "6 base", "6 learned"]
    assert len(expected) == 1 + len(COLUMNS) + 2
    in_markdown = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
        if line.startswith("|") and "---" not in line
    ]
    in_latex = [
        [cell.strip() for cell in line.replace("\\\\", "").split("&")]
        for line in latex.splitlines()
        if "&" in line
    ]
    assert in_markdown == in_latex == expected
    assert len({len(line) for line in markdown.splitlines() if "|" in line}) == 1
    assert latex.count("\\begin{tabular}{llrr}") == 1


def test_latex_is_escaped(repeats):
    assert "offline\\_a em" in scores.format_table([repeats], "6", "latex")


def test_labels(tmp_path, capsys):
    folder = write(tmp_path / "a", {("b", "accuracy"): 1.0})
    assert scores.read_model(folder).label == "a"
    assert scores.read_model(f"base={folder}").label == "base"
    with pytest.raises(SystemExit, match="1"):
        scores.main([folder, folder])
    assert "not distinct: write LABEL=DIR" in capsys.readouterr().err


def test_what_is_no_evaluation(tmp_path):
    with pytest.raises(ValueError, match="no folder .*absent"):
        scores.read_model(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="no metrics of evaluations in"):
        scores.read_model(str(tmp_path))
    (tmp_path / "t-metrics.jsonl").write_text('{"step": 1, "em": 2.0}\n{"step": 2, "e\n')
    with pytest.raises(ValueError, match="line 2: not metrics of a step"):
        scores.read_model(str(tmp_path))
    (tmp_path / "t-metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        scores.read_model(str(tmp_path))
