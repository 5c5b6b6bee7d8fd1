"""Runs of the same settings from several seeds, as one.

Means are over the seeds, at the steps that all of them have. Times are steps times the
median seconds of a step: evaluations and the start do not count.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
import re
import statistics

from gbt_t5x.studies import commands, runs

_Curve = runs.Curve  # names that the field `runs` does not hide
_Curves = runs.Curves
# Macros, and parameters, in which seeds of one configuration differ.
_OF_A_SEED = re.compile(
    rf"MODEL_DIR|\w*SEED|INITIAL_CHECKPOINT_PATH|{runs.SCHEDULE}"
    r"|.*\.(model_dir|\w*seed|path|schedule)"
)


@dataclasses.dataclass(frozen=True)
class Seeds:
    """Runs that differ by their seeds alone; one is enough.

    Attributes:
        label: of the tables and figures.
        runs: at least one, all evaluated on one task and trained for as many steps.

    Raises:
        ValueError: their tasks, last steps or settings differ.
    """

    label: str
    runs: Sequence[runs.Run]

    def __post_init__(self) -> None:
        first = self.runs[0]
        for run in self.runs[1:]:
            ends = [runs.last_step(r.loss) for r in (first, run)]
            if ends[0] != ends[1]:
                raise ValueError(
                    f"{first.folder} was evaluated last at step {ends[0]} and "
                    f"{run.folder} at step {ends[1]}: seeds of one comparison train for "
                    "as many steps"
                )
            _check_task(first, run)
            _check_settings(first, run)
        most = max(len(run.loss) for run in self.runs)
        if len(self.loss) < most:
            commands.say(
                f"{self.label}: a run that was stopped and went on was evaluated at "
                f"other steps; {len(self.loss)} of up to {most} are those of all seeds"
            )

    @property
    def task(self) -> str:
        """The evaluated task."""
        return self.runs[0].task

    @functools.cached_property
    def loss(self) -> _Curve:
        """Development loss, the mean over the seeds."""
        return runs.mean([run.loss for run in self.runs])

    @property
    def last_step(self) -> int:
        """The last step that was evaluated."""
        return runs.last_step(self.loss)

    @property
    def final_losses(self) -> list[float]:
        """Development loss of each seed at the last step."""
        return [run.loss[self.last_step] for run in self.runs]

    @functools.cached_property
    def hyperparams(self) -> _Curves:
        """Name -> values, the mean over the seeds; of those that every seed learned."""
        return runs.mean_of_each([run.hyperparams for run in self.runs])

    @functools.cached_property
    def effective_learning_rate(self) -> _Curves:
        """Group -> schedule times alpha, the mean over the seeds."""
        return runs.mean_of_each([run.effective_learning_rate for run in self.runs])

    @property
    def seconds_per_step(self) -> float | None:
        """The median over the seeds, or None."""
        known = [run.seconds_per_step for run in self.runs]
        times = [seconds for seconds in known if seconds is not None]
        return statistics.median(times) if times else None

    def steps_to(self, level: float) -> int | None:
        """The first evaluated step where the mean loss is at a level or under it."""
        return runs.first_step_at_or_below(self.loss, level)

    def seconds_to(self, level: float) -> float | None:
        """The steps that the run took itself up to `steps_to`, times their seconds."""
        step, each = self.steps_to(level), self.seconds_per_step
        if step is None or each is None:
            return None
        return (step - self.runs[0].first_step) * each

    @property
    def is_replayed(self) -> bool:
        """Whether hyper-parameters are those of a schedule, which is not summarized."""
        return runs.SCHEDULE in self.runs[0].settings

    def fixed(self, name: str) -> float | str | None:
        """A hyper-parameter that no group learned: 1, its macro, `replayed`, or None.

        Args:
            name: as `alpha` or `alpha/encoder`.
        """
        kind = name.partition("/")[0]
        if any(other.partition("/")[0] == kind for other in self.hyperparams):
            return None  # other groups learned it
        settings = self.runs[0].settings
        if self.is_replayed:
            replayed = settings.get("HYPERPARAMS", "None")
            if replayed == "None" or f"'{kind}" in replayed:
                return "replayed"
        if kind == "alpha":
            return 1.0
        text = settings.get(kind.upper())
        try:
            return float(text) if text is not None else None
        except ValueError:
            return text


def read(label: str, folder: str | os.PathLike) -> Seeds:
    """Reads a run, or a folder with a run for every seed.

    Raises:
        ValueError: as `runs.read_seeds` and `Seeds`.
    """
    return Seeds(label, runs.read_seeds(folder))


def read_trained(
    trained: Mapping[str, Sequence[str | os.PathLike]],
) -> list[Seeds]:
    """Reads what `launch.train` returns, label -> the MODEL_DIRs of the seeds.

    Raises:
        ValueError: as `runs.read_finished_run` and `Seeds`.
    """
    return [
        Seeds(label, [*map(runs.read_finished_run, model_dirs)])
        for label, model_dirs in trained.items()
    ]


def check(compared: Sequence[Seeds]) -> None:
    """Raises ValueError, which names both, unless the first compares with all others."""
    first = compared[0]
    names = [run.folder.name for run in first.runs]
    for other in compared[1:]:
        folders = [entry.runs[0].folder for entry in (first, other)]
        _check_task(first.runs[0], other.runs[0])
        others = [run.folder.name for run in other.runs]
        if len(names) != len(others) or (len(names) > 1 and names != others):
            raise ValueError(
                f"seeds differ: {first.label} ({folders[0].parent}) has "
                f"{', '.join(names)} and {other.label} ({folders[1].parent}) has "
                f"{', '.join(others)}"
            )


def _check_settings(one: runs.Run, other: runs.Run) -> None:
    """Raises ValueError if settings differ; what a run does not tell is not compared."""
    if not (one.settings and other.settings):
        return
    first, second = ({**run.settings, **run.parameters} for run in (one, other))
    names = [
        name
        for name in {**first, **second}
        if first.get(name) != second.get(name) and not _OF_A_SEED.fullmatch(name)
    ]
    if names:
        raise ValueError(
            f"{one.folder} and {other.folder} are no seeds of one configuration, since "
            f"{', '.join(names)} differ: name each as a DIR of its own"
        )


def _check_task(one: runs.Run, other: runs.Run) -> None:
    if one.task != other.task:
        raise ValueError(
            f"{one.folder} is evaluated on {one.task} and {other.folder} on "
            f"{other.task}: their losses do not compare"
        )
