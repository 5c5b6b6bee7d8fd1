"""Reads a run: what T5X, this project's or its own, leaves in a MODEL_DIR.

The numbers are those of its TensorBoard files, train/ and training_eval/TASK/, and the
settings those of its config.gin.

    >>> from gbt_t5x.studies import runs
    >>> run = runs.read_run("runs/quickstart/guided")  # doctest: +SKIP
    >>> run.hyperparams["alpha"][20], run.settings["BATCH_SIZE"]  # doctest: +SKIP
    (1.1758, '16')
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import re
import statistics
from typing import Any

from etils import epath
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

from gbt_t5x.tags import EFFECTIVE, HYPERPARAMS, LEARNING_RATE, LOSS

Curve = Mapping[int, float]  # step -> value, in order of steps
Curves = Mapping[str, Curve]

SPEED = "timing/steps_per_second"
COMPILATION = "timing/compilation_seconds"  # at the step that a process begins with
SCHEDULE = "SCHEDULE"  # macro of a run that replays what another learned
_NUMBER = re.compile(r"\d[\d_]*(\.\d*)?(e[+-]?\d+)?")
_KEEP_ALL = {event_accumulator.TENSORS: 0, event_accumulator.SCALARS: 0}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, read.

    Attributes:
        folder: its MODEL_DIR.
        task: the evaluated task or mixture.
        loss: development loss, in nats per target token.
        hyperparams: name -> values that the steps used, of those that the run learned;
            of groups the names are as `alpha/encoder`.
        learning_rate: T5X's schedule, which alpha multiplies; empty if not summarized.
        effective_learning_rate: group -> schedule times alpha, '' without groups; of a
            run that does not learn alpha it is the schedule, of one that replays it
            empty.
        settings: macro -> value, as config.gin writes it; a reference to another macro
            is that macro's value.
        parameters: of functions, as `train.eval_period`, -> value, as config.gin writes
            it.
        seconds_per_step: median over the summaries after the first, or None.
        first_step: that of the checkpoint that it began from, or 0.
        last_step: that of the last summary, or None.
    """

    folder: epath.Path
    task: str
    loss: Curve
    hyperparams: Curves
    learning_rate: Curve
    effective_learning_rate: Curves
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    seconds_per_step: float | None
    first_step: int
    last_step: int | None


def read_curves(folder: str | os.PathLike, tags: str) -> dict[str, Curve]:
    """Reads scalars from all TensorBoard files of a folder.

    A resumed run has several files. Of a step that two of them have, the later counts.

    Args:
        folder: has the files; a bucket's too.
        tags: regular expression that the whole names of the scalars match.

    Returns:
        tag -> curve, of the tags that are there.

    Raises:
        ValueError: no TensorBoard file.
    """
    files = sorted(epath.Path(folder).glob("*.tfevents.*"))
    if not files:
        raise ValueError(f"no TensorBoard files in {folder}")
    written: dict[str, list[tuple[float, int, float]]] = {}
    for file in files:
        accumulator = event_accumulator.EventAccumulator(os.fspath(file), _KEEP_ALL)
        accumulator.Reload()
        found = accumulator.Tags()
        for tag in filter(re.compile(tags).fullmatch, found["tensors"]):
            events: Any = accumulator.Tensors(tag)
            values = [tensor_util.make_ndarray(e.tensor_proto) for e in events]
            written.setdefault(tag, []).extend(
                (e.wall_time, e.step, value.item())
                for e, value in zip(events, values, strict=True)
                if value.ndim == 0 and value.dtype.kind in "fiu"
            )
        for tag in filter(re.compile(tags).fullmatch, found["scalars"]):
            events = accumulator.Scalars(tag)
            values = [(e.wall_time, e.step, float(e.value)) for e in events]
            written.setdefault(tag, []).extend(values)
    curves: dict[str, Curve] = {}
    for tag, of_tag in written.items():
        last = {step: value for _, step, value in sorted(of_tag, key=lambda e: e[0])}
        if last:
            curves[tag] = {step: last[step] for step in sorted(last)}
    return curves


def read_run(folder: str | os.PathLike) -> Run:
    """Reads a run.

    Args:
        folder: its MODEL_DIR.

    Raises:
        ValueError: the folder is no run, or one that was not evaluated or on several
            tasks.
    """
    path = epath.Path(folder)
    if not is_run(path):
        what = "holds no run" if path.is_dir() else "is no folder"
        raise ValueError(
            f"{folder} {what}: no TensorBoard files in {path / 'train'}: name a MODEL_DIR"
        )
    names = f"{SPEED}|{COMPILATION}|{LEARNING_RATE}|{EFFECTIVE}(/.*)?|{HYPERPARAMS}.*"
    train = read_curves(path / "train", names)
    evaluations = path / "training_eval"
    found = sorted(evaluations.iterdir()) if evaluations.is_dir() else []
    tasks = [task for task in found if task.is_dir()]
    if len(tasks) != 1:
        listed = ", ".join(task.name for task in tasks) or "none"
        raise ValueError(f"{evaluations} must hold one evaluated task: {listed}")
    loss = read_curves(tasks[0], LOSS).get(LOSS)
    if not loss:
        raise ValueError(f"no {LOSS} in {tasks[0]}: was the run evaluated?")
    learning_rate = train.get(LEARNING_RATE, {})
    effective = {
        tag.removeprefix(EFFECTIVE).removeprefix("/"): curve
        for tag, curve in sorted(train.items())
        if tag.startswith(EFFECTIVE)
    }
    settings = read_settings(path / "config.gin")
    factor = settings.get("LOSS_NORMALIZING_FACTOR", "")
    if _NUMBER.fullmatch(factor):  # T5X has divided the loss by it
        loss = {step: float(factor) * value for step, value in loss.items()}
    if not effective and learning_rate and SCHEDULE not in settings:
        effective = {"": learning_rate}
    # The first summary has the start of the input pipeline in it.
    speeds = list(train.get(SPEED, {}).values())[1:]
    return Run(
        folder=path,
        task=tasks[0].name,
        loss=loss,
        hyperparams={
            tag.removeprefix(HYPERPARAMS): curve
            for tag, curve in sorted(train.items())
            if tag.startswith(HYPERPARAMS)
        },
        learning_rate=learning_rate,
        effective_learning_rate=effective,
        settings=settings,
        parameters=_bound(path / "config.gin", r"[\w/]+(?:\.\w+)+"),
        seconds_per_step=statistics.median(1 / s for s in speeds) if speeds else None,
        first_step=min(train.get(COMPILATION, ()), default=0),
        last_step=max(train.get(SPEED, ()), default=None),
    )


def read_finished_run(folder: str | os.PathLike) -> Run:
    """Reads a run that was evaluated at its last step.

    T5X ends without that evaluation where a run is started again that was killed in it.

    Raises:
        ValueError: as `read_run`; it was not.
    """
    run = read_run(folder)
    evaluated = last_step(run.loss)
    if run.last_step is not None and evaluated < run.last_step:
        raise ValueError(
            f"{folder} was trained to step {run.last_step}, and its last evaluation, of "
            f"step {evaluated}, is older: remove the folder, and run this again"
        )
    return run


def read_seeds(folder: str | os.PathLike) -> list[Run]:
    """Reads a run, or a run for every seed.

    Args:
        folder: a MODEL_DIR, or a folder that holds one for every seed, and no folders
            besides.

    Returns:
        The runs, in the order of the numbers in their folders' names.

    Raises:
        ValueError: as `read_run`, of any of them; there is none.
    """
    path = epath.Path(folder)
    if is_run(path) or not path.is_dir():
        return [read_run(path)]
    seeds = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if not any(map(is_run, seeds)):
        return [read_run(path)]  # which says what is missing
    return [read_run(seed) for seed in sorted(seeds, key=_in_order)]


def is_run(folder: str | os.PathLike) -> bool:
    """Whether a folder is a MODEL_DIR that was trained in."""
    train = epath.Path(folder) / "train"
    return train.is_dir() and any(train.glob("*.tfevents.*"))


def read_settings(file: str | os.PathLike) -> dict[str, str]:
    """Reads the macros of a config.gin.

    Returns:
        macro -> value, as text; none if there is no file.
    """
    joined = _bound(file, r"[\w/]+")

    def resolve(value: str, seen: frozenset[str] = frozenset()) -> str:
        name = value.removeprefix("%")
        if name == value or name in seen or name not in joined:
            return value
        return resolve(joined[name], seen | {name})

    return {name: resolve(value) for name, value in joined.items()}


def _bound(file: str | os.PathLike, names: str) -> dict[str, str]:
    """What a config.gin binds names of a form to, as text; nothing if it is not there."""
    path = epath.Path(file)
    if not path.exists():
        return {}
    bindings = re.findall(
        rf"^({names}) = (.*(?:\n[ \t]+\S.*)*)", path.read_text(), re.MULTILINE
    )
    return {
        name: re.sub(r"\s*\n\s*", " ", value.removeprefix("\\").strip())
        for name, value in bindings
    }


def first_step_at_or_below(curve: Curve, level: float) -> int | None:
    """The first step where a curve is at a level or under it, or None.

    >>> first_step_at_or_below({10: 3.0, 20: 2.0, 30: 2.5}, 2.5)
    20
    """
    return next((step for step, value in curve.items() if value <= level), None)


def last_step(curve: Curve) -> int:
    """The step that a curve ends at."""
    return [*curve][-1]


def last_value(curve: Curve) -> float:
    """What a curve ends with.

    >>> last_value({10: 3.0, 20: 2.0})
    2.0
    """
    return curve[last_step(curve)]


def mean(curves: Sequence[Curve]) -> Curve:
    """The mean of curves, at the steps that all of them have.

    >>> mean([{10: 3.0, 20: 1.0}, {10: 5.0, 20: 2.0, 30: 1.0}])
    {10: 4.0, 20: 1.5}
    """
    shared = [step for step in curves[0] if all(step in curve for curve in curves)]
    return {step: statistics.fmean(curve[step] for curve in curves) for step in shared}


def mean_of_each(several: Sequence[Curves]) -> dict[str, Curve]:
    """The means of the curves that all have, by name."""
    names = [name for name in several[0] if all(name in curves for curves in several)]
    return {name: mean([curves[name] for curves in several]) for name in names}


def _in_order(path: epath.Path) -> list[tuple[bool, int, str]]:
    """Numbers in a name count as numbers: seed_10 comes after seed_9."""
    parts = re.split(r"(\d+)", path.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
