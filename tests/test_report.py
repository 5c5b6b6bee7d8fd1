"""The comparison of two runs, on small TensorBoard files made here."""

from clu import metric_writers
import pytest

import report


def write(folder, scalars):
    """Writes one TensorBoard file. `scalars`: step -> tag -> value."""
    writer = metric_writers.SummaryWriter(str(folder))
    for step, values in scalars.items():
        writer.write_scalars(step, values)
    writer.close()


def write_run(
    model_dir, losses, steps_per_second, hyperparams=None, task="docs", beta1=None
):
    """Writes what a run writes, summarized every 20 steps."""
    train = {
        20 * (i + 1): {"timing/steps_per_second": speed}
        for i, speed in enumerate(steps_per_second)
    }
    for name, values in (hyperparams or {}).items():
        for step, value in zip(train, values, strict=True):
            train[step][f"hyperparams/{name}"] = value
    write(model_dir / "train", train)
    (model_dir / "config.gin").write_text(f"# Macros:\nBATCH_SIZE = 4\nBETA1 = {beta1}\n")
    write(
        model_dir / "training_eval" / task,
        {step: {report.LOSS: loss, "accuracy": 0.5} for step, loss in losses.items()},
    )
    return model_dir


@pytest.fixture
def baseline(tmp_path):
    return write_run(
        tmp_path / "baseline", {20: 3.0, 40: 2.75, 60: 2.5}, [0.5, 10.0, 20.0, 8.0]
    )


def write_guided(model_dir, losses, **kwargs):
    hyperparams = {"alpha": [1.0, 1.5, 0.25], "beta1": [0.875, 0.75, 0.5]}
    return write_run(model_dir, losses, [0.25, 5.0, 4.0], hyperparams, **kwargs)


def run_report(baseline, guided, capsys):
    png = baseline.parent / "pictures" / "report.png"
    report.main(["--baseline", str(baseline), "--guided", str(guided), "--png", str(png)])
    return capsys.readouterr().out, png


def test_table_compares_the_runs(baseline, tmp_path, capsys):
    guided = write_guided(tmp_path / "guided", {20: 2.75, 40: 2.5, 60: 2.25})
    text, png = run_report(baseline, guided, capsys)
    assert text.splitlines() == [
        "Task docs, loss per target token",
        "                                        baseline      guided",
        "steps                                         60          60",
        "final development loss                    2.5000      2.2500",
        "steps to the baseline's final loss            60          40",
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
    text, _ = run_report(baseline, guided, capsys)
    assert "steps to the baseline's final loss            60 not reached" in text


def test_table_shows_every_learned_hyperparameter(tmp_path, capsys):
    baseline = write_run(tmp_path / "baseline", {20: 2.0}, [1.0, 1.0], beta1=0.9)
    learned = {"epsilon": [1e-6], "beta1": [0.5]}
    guided = write_run(tmp_path / "guided", {20: 2.0}, [1.0], learned)
    text, _ = run_report(baseline, guided, capsys)
    assert text.splitlines()[5:] == [
        "beta1 at step 20                             0.9      0.5000",
        "epsilon at step 20                             -    1.00e-06",
        "seconds per step                          1.0000           -",
    ]


def test_curves_of_a_resumed_run_take_the_later_file(tmp_path):
    write(tmp_path, {10: {"x": 1.0, "y": 5.0}, 20: {"x": 2.0}, 30: {"x": 3.0}})
    write(tmp_path, {20: {"x": 4.0}, 40: {"x": 6.0}})
    curves = report.read_curves(tmp_path, "x|y|z")
    assert curves == {"x": {10: 1.0, 20: 4.0, 30: 3.0, 40: 6.0}, "y": {10: 5.0}}
    assert list(curves["x"]) == [10, 20, 30, 40]


def test_curves_keep_every_step(tmp_path):
    # TensorBoard's own default keeps ten.
    write(tmp_path, {step: {"x": float(step)} for step in range(500)})
    assert list(report.read_curves(tmp_path, "x")["x"]) == list(range(500))


def test_a_folder_without_files_is_an_error(baseline, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"no TensorBoard files in .*nowhere.train"):
        run_report(baseline, tmp_path / "nowhere", capsys)


def test_a_run_that_was_not_evaluated_is_an_error(baseline, tmp_path, capsys):
    write(tmp_path / "guided" / "train", {20: {"hyperparams/alpha": 1.0}})
    with pytest.raises(SystemExit, match="must hold one evaluated task: none"):
        run_report(baseline, tmp_path / "guided", capsys)


def test_different_tasks_are_an_error(baseline, tmp_path, capsys):
    guided = write_guided(tmp_path / "guided", {20: 2.0}, task="news")
    with pytest.raises(SystemExit, match="docs and news"):
        run_report(baseline, guided, capsys)


def test_a_run_that_learned_nothing_is_not_guided(baseline, capsys):
    with pytest.raises(SystemExit, match="learned no hyper-parameter"):
        run_report(baseline, baseline, capsys)
