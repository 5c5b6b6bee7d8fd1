"""What a guided run learned, as a schedule, and the gin file that replays it.

The schedule has a row for each summary of the run. Where the run began at step 0 and
learned alpha and beta1 alone, there is a row for its first update too, of what these
started from.
The gin file is for a run that is not guided, after the model and run files.
"""

from collections.abc import Mapping
import contextlib
import os
import re

from etils import epath
import numpy as np

from gbt_t5x import hyperparams, schedule as schedule_lib, tags
from gbt_t5x.studies import runs


def write(
    model_dir: str | os.PathLike,
    csv: str,
    gin: str | None = None,
    steps: int | None = None,
) -> schedule_lib.Schedule:
    """Writes what a guided run learned.

    Args:
        model_dir: its MODEL_DIR.
        csv: the file that is written.
        gin: the gin file, if one is wanted, which names the other.
        steps: the last step of what the gin file replays; by default as it was learned.

    Returns:
        What the CSV file has.

    Raises:
        ValueError: it is no folder of a guided run, there are not so many steps, or both
            files are one.
    """
    if gin and os.path.abspath(csv) == os.path.abspath(gin):
        raise ValueError(f"{csv} is to be the CSV file and the gin file: name two files")
    schedule = read(model_dir)
    texts = {csv: schedule_lib.write(schedule)}
    if gin:
        absolute = csv if "://" in csv else os.path.abspath(csv)
        if steps is not None:
            schedule.stretched(steps)  # checks it
        settings = runs.read_settings(epath.Path(model_dir) / "config.gin")
        texts[gin] = gin_text(schedule, absolute, settings, steps)
    for file, text in texts.items():
        path = epath.Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return schedule


def read(model_dir: str | os.PathLike) -> schedule_lib.Schedule:
    """Reads what a guided run learned.

    Args:
        model_dir: its MODEL_DIR.

    Raises:
        ValueError: it is no folder of a guided run.
    """
    folder = epath.Path(model_dir)
    pattern = f"{tags.HYPERPARAMS}.+|{runs.COMPILATION}"
    curves = runs.read_curves(folder / "train", pattern) if runs.is_run(folder) else {}
    began = min(curves.pop(runs.COMPILATION, ()), default=None)
    curves = {tag.removeprefix(tags.HYPERPARAMS): curve for tag, curve in curves.items()}
    names = [
        name
        for name in hyperparams.ACTIVATIONS
        if any(column.partition("/")[0] == name for column in curves)
    ]
    groups = sorted({column.partition("/")[2] for column in curves})
    columns = {name: [f"{name}/{g}" if g else name for g in groups] for name in names}
    steps = sorted(set.intersection(*map(set, curves.values()))) if curves else []
    if not steps or set(curves) != {c for of_name in columns.values() for c in of_name}:
        found = ", ".join(sorted(curves)[:4]) or f"no {tags.HYPERPARAMS}NAME"
        raise ValueError(
            f"MODEL_DIR={str(model_dir)!r} is no folder of a guided run: its train/ has "
            f"{found} in TensorBoard: give the MODEL_DIR of a run that includes "
            "gbt_t5x/gin/guidance/held_out.gin or adafactor.gin"
        )
    table = {
        name: np.array(
            [[curves[column][step] for column in columns[name]] for step in steps]
        )
        for name in names
    }
    start = _initial(folder / "config.gin")
    if began == 0 and steps[0] > 1 and set(names) <= set(start):
        steps = [1, *steps]
        table = {
            name: np.concatenate([np.full((1, len(groups)), start[name]), values])
            for name, values in table.items()
        }
    return schedule_lib.Schedule(np.array(steps), table, [g for g in groups if g])


def _initial(config: epath.Path) -> dict[str, float]:
    """Name -> what alpha and beta1 start from, if the config.gin of a run says so.

    That is `GuidedOptimizer.initial_alpha`, and BETA1 or the number in its place.
    """
    text = config.read_text() if config.exists() else ""
    bound = re.findall(r"^\S+\.(initial_alpha|beta1|b1|momentum) = (.+)$", text, re.M)
    settings = runs.read_settings(config)
    found = {"alpha": "1.0", "beta1": settings.get("BETA1", "")}
    for name, value in bound:
        if value != "%BETA1":
            found["alpha" if name == "initial_alpha" else "beta1"] = value
    numbers = {}
    for name, value in found.items():
        with contextlib.suppress(ValueError):  # None, or a macro
            numbers[name] = float(value)
    return numbers


def gin_text(
    schedule: schedule_lib.Schedule,
    csv: str,
    settings: Mapping[str, str],
    steps: int | None = None,
) -> str:
    """The gin file that replays a schedule.

    Args:
        schedule: what is replayed.
        csv: path of its file.
        settings: macros of the guided run.
        steps: SCHEDULE_STEPS.

    Raises:
        ValueError: the schedule has groups, and the settings no GROUPS.
    """
    groups = settings.get("GROUPS", "None")
    if (groups == "None") == bool(schedule.groups):
        raise ValueError(
            f"config.gin has GROUPS = {groups}, and TensorBoard the groups "
            f"{', '.join(schedule.groups) or 'None'}: a run that sets GROUPS is needed"
        )
    lines = [
        "# Trains with hyper-parameters that a guided run learned, without guidance.",
        "#",
        "# Include after: the model and run files of that run, not those of guidance.",
        "from __gin__ import dynamic_registration",
        "",
        "include 'gbt_t5x/gin/guidance/replay.gin'",
        "",
        f"SCHEDULE = {csv!r}",
        f"SCHEDULE_STEPS = {steps}",
        f"HYPERPARAMS = {tuple(schedule.table)}",
        f"GROUPS = {groups}",
    ]
    if "adafactor.Adafactor" in settings.get("OPTIMIZER", "") and "BETA1" in settings:
        lines[4:4] = ["", "from t5x import adafactor"]
        lines += [
            "",
            f"BETA1 = {settings['BETA1']}",
            "adafactor.Adafactor.beta1 = %BETA1",
        ]
    return "\n".join(lines) + "\n"
