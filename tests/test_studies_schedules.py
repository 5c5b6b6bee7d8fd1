"""What a guided run learned, exported and replayed by gin files."""

import functools
import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from gbt_t5x import replay, schedule as schedule_lib
from gbt_t5x.studies import exports, runs, schedules
import gin_runs
from written_runs import write

BASELINE = "gin/quickstart_baseline.gin"
ADAFACTOR = "include 'gbt_t5x/gin/guidance/adafactor.gin'"
NEXT_BATCH = "include 'gbt_t5x/gin/guidance/next_batch.gin'"
LAMB = """
from gbt_t5x import adam
from gbt_t5x import optax_optimizer
OPTIMIZER = @optax_optimizer.OptaxOptimizer()
optax_optimizer.OptaxOptimizer:
  transformation = @adam.lamb
  b1 = 0.9
  weight_decay = 0.01
"""
# Before the guidance, the guidance, and its settings.
RUNS = {
    "adafactor_next_batch": ("", ADAFACTOR, NEXT_BATCH),
    "lamb": (
        LAMB,
        "include 'gbt_t5x/gin/guidance/held_out.gin'",
        "HYPERPARAMS = ('beta1', 'alpha', 'weight_decay')",
    ),
    "groups": (
        "",
        ADAFACTOR,
        "GROUPS = ((r'stack_\\1', '(en|de)coder/.*'), ('the_rest_of_them', '.*'))",
    ),
}
SETTINGS = (
    "TRAIN_STEPS = 8",
    "EVAL_PERIOD = 4",
    "CHECKPOINT_PERIOD = 4",
    "DROPOUT_RATE = 0.1",
    "train_script.train.infer_eval_dataset_cfg = None",
)


def train(folder, name, *lines, settings=SETTINGS):
    """Trains by a user's gin file: the MODEL_DIR."""
    gin_file = folder / f"{name}.gin"
    header = "from __gin__ import dynamic_registration"
    includes = [f"include {file!r}" for file in (BASELINE, "tests/tiny_network.gin")]
    gin_file.write_text("\n".join([header, *includes, *lines, ""]))
    gin_runs.train(str(gin_file), folder / name, *settings)
    return folder / name


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """Trains a guided run, once: its folder."""

    @functools.cache
    def run(name, *settings):
        folder = tmp_path_factory.mktemp(name)
        before, *guidance = RUNS[name]
        lines = (before, *guidance, "META_LEARNING_RATE = 0.05")
        return train(folder, "guided", *lines, settings=(*SETTINGS, *settings))

    return run


def export(model_dir, folder, *options):
    """The CSV and gin files of the command."""
    csv, gin_file = folder / "learned.csv", folder / "learned.gin"
    schedules.main([str(model_dir), f"--csv={csv}", f"--gin={gin_file}", *options])
    return csv, gin_file


def losses(model_dir):
    return runs.read_curves(model_dir / "train", "loss")["loss"]


def checkpoint(model_dir, step):
    tree = ocp.PyTreeCheckpointer().restore(model_dir / f"checkpoint_{step}" / "state")
    return {"/".join(k): v for k, v in ocp.tree.to_flat_dict(tree).items()}


@pytest.mark.parametrize("name", RUNS)
def test_the_exported_gin_file_repeats_the_run(name, guided, tmp_path):
    model_dir = guided(name)
    _, gin_file = export(model_dir, tmp_path)
    before = RUNS[name][0]
    replayed = train(tmp_path, "replayed", before, f"include {str(gin_file)!r}")
    expected, found = losses(model_dir), losses(replayed)
    assert list(expected) == list(found) == list(range(1, 9))
    # XLA fuses the two programs differently: the last bit of float32, 6e-8 to 1.2e-7.
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=2.4e-7)
    alphas = runs.read_curves(model_dir / "train", "hyperparams/alpha.*")
    assert all(abs(curve[8] - 1) > 0.1 for curve in alphas.values())
    assert not runs.read_curves(replayed / "train", "hyper.*")

    plain = train(tmp_path, "plain", before, *["BETA1 = 0.9"] * (not before))
    arrays = checkpoint(replayed, 8)
    if name != "groups":
        assert arrays.keys() == checkpoint(plain, 8).keys()
    assert not any("hyperparams" in key or "meta_state" in key for key in arrays)

    # A run that was stopped goes on in the schedule.
    stopped = tmp_path / "stopped"
    shutil.copytree(replayed / "checkpoint_4", stopped / "checkpoint_4")
    train(tmp_path, "stopped", before, f"include {str(gin_file)!r}")
    assert losses(stopped) == {step: found[step] for step in (5, 6, 7, 8)}
    for key, array in checkpoint(stopped, 8).items():
        np.testing.assert_array_equal(array, arrays[key], err_msg=key)


def test_summaries_of_several_steps_are_interpolated(guided, tmp_path):
    """The first is preceded by what the run began with: alpha 1 and BETA1."""
    model_dir = guided("adafactor_next_batch", "STATS_PERIOD = 4")
    csv, gin_file = export(model_dir, tmp_path)
    rows = csv.read_text().splitlines()
    assert rows[:2] == ["step,alpha,beta1", "1,1.0,0.9"]
    assert [row.split(",")[0] for row in rows[2:]] == ["4", "8"]
    replayed = train(
        tmp_path,
        "replayed",
        f"include {str(gin_file)!r}",
        settings=(*SETTINGS, "STATS_PERIOD = 4"),
    )
    expected, found = losses(model_dir), losses(replayed)
    # λ moves on nearly a straight line.
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-5)


def test_the_rows_are_the_numbers_of_tensorboard(guided, tmp_path):
    csv, gin_file = export(guided("groups"), tmp_path)
    schedule = schedule_lib.read(csv)
    assert schedule.groups == ["stack_de", "stack_en", "the_rest_of_them"]
    curves = runs.read_curves(guided("groups") / "train", "hyperparams/.*")
    assert list(schedule.table) == ["alpha", "beta1"]
    for name, values in schedule.table.items():
        for group, column in zip(schedule.groups, values.T, strict=True):
            curve = curves[f"hyperparams/{name}/{group}"]
            assert dict(zip(schedule.steps, np.float32(column), strict=True)) == curve


def replayed_optimizer(gin_file, *lines):
    with gin_runs.arguments(str(gin_file), *lines) as kwargs:
        assert kwargs["trainer_cls"].__name__ == "Trainer"
        return kwargs["model"].optimizer_def


def test_a_stretched_schedule_is_exported(guided, tmp_path):
    _, gin_file = export(guided("adafactor_next_batch"), tmp_path, "--steps=80")
    user = tmp_path / "user.gin"
    user.write_text(f"include {BASELINE!r}\ninclude {str(gin_file)!r}\n")
    definition = replayed_optimizer(user)
    assert isinstance(definition, replay.ReplayedOptimizer)
    assert definition.hyper_params.beta1 == 0.9
    assert definition._schedule.steps[[0, -1]].tolist() == [1, 80]
    longer = replayed_optimizer(user, "SCHEDULE_STEPS = %TRAIN_STEPS")
    assert longer._schedule.steps[-1] == 1500


def test_every_macro_of_the_exported_file_is_used(guided, tmp_path):
    _, gin_file = export(guided("groups"), tmp_path)
    user = tmp_path / "user.gin"
    user.write_text(f"include {BASELINE!r}\ninclude {str(gin_file)!r}\n")
    bindings = gin_runs.bindings_of(str(user))
    values = " ".join(bindings.values())
    for macro in ("SCHEDULE", "SCHEDULE_STEPS", "HYPERPARAMS", "GROUPS", "BETA1"):
        assert macro in bindings and f"%{macro}" in values
    guided_bindings = gin_runs.bindings_of(
        "gin/quickstart_guided.gin", f"GROUPS = {bindings['GROUPS']}"
    )
    assert guided_bindings["GROUPS"] == bindings["GROUPS"]


def fails(capsys, *arguments):
    """The one line that the command writes."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        schedules.main(list(map(os.fspath, arguments)))
    assert stopped.value.code == 1
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_what_cannot_be_exported_is_one_line(guided, tmp_path, capsys):
    csv, gin_file = f"--csv={tmp_path}/a.csv", f"--gin={tmp_path}/a.gin"
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "a_file"):
        (tmp_path / "a_file").write_text("")
        assert "is no folder of a guided run" in fails(capsys, folder, csv)
    model_dir = guided("adafactor_next_batch")
    same = fails(capsys, model_dir, csv, f"--gin={tmp_path}/b/../a.csv")
    assert "is to be the CSV file and the gin file: name two" in same
    assert "add --gin FILE" in fails(capsys, model_dir, csv, "--steps=80")
    message = fails(capsys, model_dir, csv, gin_file, "--steps=1")
    assert "SCHEDULE_STEPS=1: the schedule begins at step 1" in message
    plain = train(tmp_path, "plain", settings=(*SETTINGS, "TRAIN_STEPS = 4"))
    assert "has no hyperparams/NAME" in fails(capsys, plain, csv)
    copied = tmp_path / "copied"
    shutil.copytree(guided("groups") / "train", copied / "train")
    assert "config.gin has GROUPS = None" in fails(capsys, copied, csv, gin_file)
    assert not (tmp_path / "a.csv").exists() and not (tmp_path / "a.gin").exists()
    schedules.main([str(copied), csv])  # which takes no config.gin
    assert (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("began", "steps", "names", "config", "known"),
    [
        (0, [20, 40], ["alpha", "beta1"], "BETA1 = 0.8", {"alpha": 1.0, "beta1": 0.8}),
        (
            0,
            [20, 40],
            ["alpha", "beta1"],
            "BETA1 = 0.9\noptimizers.GuidedOptimizer.initial_alpha = 0.25\n"
            "optax_optimizer.OptaxOptimizer.b1 = 0.7",
            {"alpha": 0.25, "beta1": 0.7},
        ),
        (
            0,
            [20, 40],
            ["alpha", "beta1"],
            "BETA1 = 0.9\nadafactor.Adafactor.beta1 = %BETA1",
            {"alpha": 1.0, "beta1": 0.9},
        ),
        (0, [20, 40], ["alpha"], "optimizers.GuidedOptimizer.initial_alpha = %START", {}),
        (0, [20, 30, 50], ["alpha"], "", {"alpha": 1.0}),
        (0, [1, 2], ["alpha"], "", {}),
        (0, [20], ["alpha"], "", {"alpha": 1.0}),
        (0, [100, 150], ["alpha"], "", {"alpha": 1.0}),
        (1500, [1520, 1540], ["alpha"], "", {}),  # from a checkpoint
        (100, [120, 240, 360], ["alpha"], "", {}),
        (None, [20, 40], ["alpha"], "", {}),  # the file that says it is lost
        (0, [20, 40], ["alpha", "beta1"], "BETA1 = None", {}),
        (0, [20, 40], ["alpha", "beta1"], "", {}),
        (0, [20, 40], ["alpha", "epsilon"], "", {}),
    ],
)
def test_the_first_update_has_a_row_where_it_is_known(
    began, steps, names, config, known, tmp_path
):
    scalars = {} if began is None else {began: {"timing/compilation_seconds": 1.0}}
    scalars |= {step: {f"hyperparams/{name}": 0.5 for name in names} for step in steps}
    write(tmp_path / "train", scalars)
    (tmp_path / "config.gin").write_text(config)
    found = exports.read(tmp_path)
    assert [*found.steps] == [1] * bool(known) + steps
    assert {name: found.table[name][0, 0] for name in known} == known
    assert all(found.table[name][-1, 0] == 0.5 for name in names)


def test_a_replay_of_another_optimizer_is_refused(guided, tmp_path):
    _, gin_file = export(guided("lamb"), tmp_path)
    user = tmp_path / "user.gin"
    user.write_text(f"include {BASELINE!r}\ninclude {str(gin_file)!r}\n")
    with pytest.raises(ValueError, match="weight_decay.*which OPTIMIZER cannot follow"):
        replayed_optimizer(user)
