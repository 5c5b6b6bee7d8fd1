"""The comparison of runs, on small TensorBoard files made here."""

import csv
import io

import pytest

from gbt_t5x import tags
from gbt_t5x.studies import compare
from written_runs import write, write_run


@pytest.fixture
def baseline(tmp_path):
    return write_run(
        tmp_path / "baseline", {20: 3.0, 40: 2.75, 60: 2.5}, [0.5, 10.0, 20.0, 8.0]
    )


def write_guided(model_dir, losses, **kwargs):
    hyperparams = {"alpha": [1.0, 1.5, 0.25], "beta1": [0.875, 0.75, 0.5]}
    return write_run(model_dir, losses, [0.25, 5.0, 4.0], hyperparams, **kwargs)


def run(capsys, *arguments):
    """Standard output of the command."""
    compare.main([*map(str, arguments)])
    return capsys.readouterr().out


def error(capsys, *arguments):
    """What the command says as it ends with status 1: one line."""
    with pytest.raises(SystemExit, match="^1$"):
        compare.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_table_compares_the_runs(baseline, tmp_path, capsys):
    guided = write_guided(tmp_path / "guided", {20: 2.75, 40: 2.5, 60: 2.25})
    png = tmp_path / "pictures" / "report.png"
    text = run(capsys, baseline, "--figure", png, guided)
    assert text.splitlines() == [
        "Task docs, loss per target token",
        "                                        baseline      guided",
        "steps                                         60          60",
        "final development loss                    2.5000      2.2500",
        "difference to the baseline                     -     -0.2500",
        "steps to the baseline's final loss            60          40",
        "seconds to the baseline's final loss         6.0         9.0",
        "alpha at step 20                               1      1.0000",
        "alpha at step 60                               1      0.2500",
        "beta1 at step 20                            none      0.8750",
        "beta1 at step 60                            none      0.5000",
        # Without the first summary: 0.1, 0.05 and 0.125 s; 0.2 and 0.25 s.
        "seconds per step                          0.1000      0.2250",
    ]
    assert png.read_bytes().startswith(b"\x89PNG")


def test_table_says_when_the_baselines_loss_is_not_reached(baseline, tmp_path, capsys):
    guided = write_guided(tmp_path / "guided", {20: 2.75, 60: 2.625})
    text = run(capsys, baseline, guided)
    assert "steps to the baseline's final loss            60  not reached" in text
    assert "seconds to the baseline's final loss         6.0  not reached" in text


def test_table_shows_every_learned_hyperparameter(tmp_path, capsys):
    baseline = write_run(tmp_path / "baseline", {20: 2.0}, [1.0, 1.0], beta1=0.9)
    learned = {"epsilon": [1e-6], "beta1": [0.5]}
    guided = write_run(tmp_path / "guided", {20: 2.0}, [1.0], learned)
    text = run(capsys, baseline, guided)
    assert text.splitlines()[6:] == [
        "seconds to the baseline's final loss        20.0           -",
        "beta1 at step 20                             0.9      0.5000",
        "epsilon at step 20                             -    1.00e-06",
        "seconds per step                          1.0000           -",
    ]


def test_two_guided_runs_of_other_lengths_compare(baseline, tmp_path, capsys):
    long = write_guided(tmp_path / "long", {20: 2.75, 60: 2.25})
    short = write_run(tmp_path / "short", {40: 2.5}, [1.0, 2.0], {"alpha": [1.5, 2.0]})
    compare.main([*map(str, (long, short, baseline))])
    out, err = capsys.readouterr()
    assert err == (
        "short was evaluated last at step 40, and long at 60: their final losses do not "
        "compare\n"
    )
    rows = out.splitlines()
    assert [row.split() for row in rows[4:5] + rows[7:10]] == [
        ["difference", "to", "the", "baseline", "-", "-", "+0.2500"],
        ["alpha", "at", "step", "20", "1.0000", "1.5000", "1"],
        ["alpha", "at", "step", "40", "1.5000", "2.0000", "1"],
        ["alpha", "at", "step", "60", "0.2500", "-", "1"],
    ]


def test_a_few_groups_have_rows_and_many_a_range(baseline, tmp_path, capsys):
    few = {f"alpha/layer_{i}": [i / 4] for i in range(1, 3)}
    guided = write_run(tmp_path / "few", {20: 2.0}, [1.0], few)
    assert "alpha/layer_2 at step 20                       1      0.5000" in run(
        capsys, baseline, guided
    )
    many = {f"alpha/layer_{i}": [i / 4] for i in range(1, 11)}
    guided = write_run(tmp_path / "many", {20: 2.0}, [1.0], many)
    text = run(capsys, baseline, guided)
    assert "alpha at step 20, 10 groups" in text
    assert "0.2500 to 2.5000" in text
    assert "layer_2" not in text
    one = write_run(tmp_path / "one", {20: 2.0}, [1.0], {"alpha": [3.0]})
    text = run(capsys, baseline, one, guided)
    assert "alpha at step 20, 10 groups" in text  # the one alpha is no group
    assert "3.0000" in text and "0.2500 to 2.5000" in text
    others = {f"alpha/array_{i}": [i / 4] for i in range(1, 7)}
    six = write_run(tmp_path / "six", {20: 2.0}, [1.0], others)
    assert "alpha at step 20, 10 groups" in run(capsys, baseline, guided, six)


def test_what_other_groups_learned_is_not_taken_for_fixed(tmp_path, capsys):
    learned = {"one": {"alpha": [3.0], "beta1": [0.5]}}
    learned["groups"] = {"alpha/encoder": [2.0], "beta1/encoder": [0.25]}
    folders = [
        write_run(tmp_path / name, {20: 2.0}, [1.0], of, beta1=0.9)
        for name, of in learned.items()
    ]
    text = run(capsys, *folders)
    found = {line.split(" at ")[0]: line.split()[-2:] for line in text.splitlines()}
    assert found["alpha"] == ["3.0000", "-"]
    assert found["beta1"] == ["0.5000", "-"]
    assert found["alpha/encoder"] == ["-", "2.0000"]
    assert found["beta1/encoder"] == ["-", "0.2500"]


def test_runs_without_learned_hyperparameters_compare(baseline, tmp_path, capsys):
    other = write_run(tmp_path / "other", {20: 2.0}, [1.0, 2.0])
    text = run(capsys, baseline, other, "--figure", tmp_path / "report.svg")
    assert " at step" not in text
    assert "<svg" in (tmp_path / "report.svg").read_text()


def test_what_a_run_replays_is_not_taken_for_fixed(baseline, tmp_path, capsys):
    guided = write_guided(tmp_path / "guided", {20: 2.75, 60: 2.25})
    replayed = write_run(tmp_path / "replayed", {20: 2.5, 60: 2.25}, [1.0, 8.0, 8.0])
    config = replayed / "config.gin"
    for learned, beta1 in (("None", "replayed"), ("('alpha',)", "none")):
        macros = f"SCHEDULE = 'learned.csv'\nHYPERPARAMS = {learned}\n"
        config.write_text(f"BETA1 = None\n{macros}")
        text = run(capsys, guided, replayed)
        found = {line[:18]: line.split()[-1] for line in text.splitlines()}
        assert found["alpha at step 20  "] == "replayed"
        assert found["beta1 at step 60  "] == beta1
    assert "replayed" in run(capsys, baseline, guided, replayed, "--format", "csv")


def test_markdown_and_csv_hold_the_same_numbers(baseline, tmp_path, capsys):
    guided = write_guided(tmp_path / "guided", {20: 2.75, 40: 2.5, 60: 2.25})
    text = run(capsys, baseline, f"ours={guided}", "--format", "csv")
    header, *rows = csv.reader(io.StringIO(text))
    assert [row[0] for row in rows] == ["baseline", "ours"]
    found = dict(zip(header, rows[1], strict=True))
    assert found["seconds to the baseline's final loss"] == "9.0"
    assert found["learned, at the last step"] == "alpha 0.250, beta1 0.500"
    text = run(capsys, baseline, f"ours={guided}", "--format", "markdown")
    lines = [[c.strip() for c in x.split("|")] for x in text.splitlines() if "|" in x]
    assert ["", "final development loss", "2.5000", "2.2500", ""] in lines


@pytest.fixture
def folders(tmp_path):
    losses = {"baseline": (3.0, 2.0), "heldout": (2.5, 1.8)}
    for name, of_seeds in losses.items():
        for seed, loss in enumerate(of_seeds):
            learned = {} if name == "baseline" else {"alpha": [1.0, 0.5 + seed]}
            curve = {20: 2.25, 40: loss}
            speeds = [1.0, 1.0 / (1 + seed)]
            write_run(tmp_path / name / str(seed), curve, speeds, learned)
    return [tmp_path / name for name in losses]


def test_table_and_picture_are_of_all_seeds(folders, tmp_path, capsys):
    png = tmp_path / "pictures" / "sources.png"
    text = run(capsys, *folders, "--figure", png, "--format", "csv")
    header, *rows = csv.reader(io.StringIO(text))
    deviations = "2.5000 ± 0.7071", "2.1500 ± 0.4950"
    assert [dict(zip(header, row, strict=True)) for row in rows] == [
        {
            "": "baseline",
            "steps": "40",
            "final development loss by seed": "3.0000, 2.0000",
            "mean": deviations[0],
            "difference to the baseline": "-",
            # The mean at step 20 is below that at the end.
            "steps to the baseline's final loss": "20",
            "seconds to the baseline's final loss": "30.0",
            "seconds per step": "1.5000",
            "learned, at the first step": "-",
            "learned, at the last step": "-",
        },
        {
            "": "heldout",
            "steps": "40",
            "final development loss by seed": "2.5000, 1.8000",
            "mean": deviations[1],
            "difference to the baseline": "-0.3500 ± 0.1500",
            "steps to the baseline's final loss": "20",
            "seconds to the baseline's final loss": "30.0",
            "seconds per step": "1.5000",
            "learned, at the first step": "alpha 1.000",
            "learned, at the last step": "alpha 1.000",
        },
    ]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "loss per target token, 2 seeds" in run(capsys, *folders)


def test_other_seeds_do_not_compare(folders, tmp_path, capsys):
    (tmp_path / "heldout" / "1").rename(tmp_path / "heldout" / "2")
    assert error(capsys, *folders) == (
        f"error: seeds differ: baseline ({folders[0]}) has 0, 1 and heldout "
        f"({folders[1]}) has 0, 2\n"
    )
    assert "seeds differ" in error(capsys, folders[0], folders[1] / "0")


def test_runs_of_other_settings_are_no_seeds(tmp_path, capsys):
    folder = tmp_path / "runs"
    for name, beta1 in {"baseline": None, "guided": 0.9}.items():
        write_run(folder / name, {20: 3.0}, [1.0], beta1=beta1)
        with (folder / name / "config.gin").open("a") as f:
            f.write(f"RANDOM_SEED = {len(name)}\nMODEL_DIR = {name!r}\n")
    assert error(capsys, folder) == (
        f"error: {folder}/baseline and {folder}/guided are no seeds of one "
        "configuration, since BETA1 differ: name each as a DIR of its own\n"
    )


def test_an_unfinished_seed_does_not_compare(folders, capsys):
    write(folders[1] / "1" / "training_eval" / "docs", {60: {tags.LOSS: 1.0}})
    assert "heldout/0 was evaluated last at step 40 and " in error(capsys, *folders)


def test_different_tasks_are_an_error(baseline, tmp_path, capsys):
    guided = write_guided(tmp_path / "guided", {20: 2.0}, task="news")
    message = error(capsys, baseline, guided)
    assert f"{baseline} is evaluated on docs and {guided} on news" in message


def test_seeds_of_different_tasks_are_an_error(tmp_path, capsys):
    for seed, task in enumerate(("docs", "news")):
        write_run(tmp_path / "a" / str(seed), {20: 1.0}, [1.0], task=task)
    message = error(capsys, tmp_path / "a")
    assert "/a/0 is evaluated on docs and " in message and "/a/1 on news" in message


def test_folders_of_one_name_need_labels(baseline, tmp_path, capsys):
    other = write_run(tmp_path / "other" / "baseline", {20: 2.0}, [1.0])
    message = error(capsys, baseline, other)
    assert f"write LABEL=DIR: {baseline} and {other} are both baseline" in message
    assert "      other" in run(capsys, baseline, f"other={other}")


def test_errors_are_one_line(tmp_path, capsys):
    assert "no TensorBoard files in" in error(capsys, tmp_path / "nowhere")
    for arguments in ([], ["x", "--figure", "report.jpg"]):
        with pytest.raises(SystemExit, match="^2$"):
            compare.main(arguments)
        message = capsys.readouterr().err
        assert message.startswith("error: ") and message.count("\n") == 1


def test_runs_of_other_parameters_are_no_seeds(tmp_path, capsys):
    rate = "utils.create_learning_rate_scheduler.base_learning_rate"
    folder = tmp_path / "runs"
    for name in ("0.1", "1.0"):
        write_run(folder / name, {20: 3.0}, [1.0])
        with (folder / name / "config.gin").open("a") as f:
            f.write(f"train.model_dir = {name!r}\n{rate} = \\\n    {name}\n")
            f.write("utils.RestoreCheckpointConfig.path = %INITIAL_CHECKPOINT_PATH\n")
    assert error(capsys, folder) == (
        f"error: {folder}/0.1 and {folder}/1.0 are no seeds of one configuration, since "
        f"{rate} differ: name each as a DIR of its own\n"
    )


def test_seeds_that_were_evaluated_at_other_steps_are_told(tmp_path, capsys):
    """As of a run that was stopped, and went on."""
    for seed, steps in enumerate([(20, 40, 60), (30, 50, 60)]):
        losses = {step: 3.0 - step / 100 for step in steps}
        write_run(tmp_path / "runs" / str(seed), losses, [0.5, 10.0, 20.0, 8.0])
    compare.main([str(tmp_path / "runs")])
    assert capsys.readouterr().err == (
        "runs: a run that was stopped and went on was evaluated at other steps; 1 of up "
        "to 3 are those of all seeds\n"
    )
