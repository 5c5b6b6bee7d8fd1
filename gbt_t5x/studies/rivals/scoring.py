"""Results of rivals: the best settings by budget, and their table.

A budget of N tries the first N settings from the first seed, and takes the one of the
lowest final development loss to all seeds. The target is the final loss that the
baseline, the first setting of t5_default, has from the same seed; a run is there at its
first evaluation at or below it. Seconds are steps times the median seconds of a step,
over all runs of a rival: evaluations and the start do not count.

The best rival of a budget is the unguided one of the lowest mean. Differences are means
over the seeds of those of each seed, with their standard errors.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
import statistics

from gbt_t5x.studies import repeats, runs, tables
from gbt_t5x.studies.rivals import candidates


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run of a setting from a seed.

    Attributes:
        task: the evaluated one; '' if nothing was.
        rival, setting, bindings, is_guided: which; settings count from 1.
        seed: RANDOM_SEED.
        loss: development loss, as far as the run went.
        seconds_per_step: the run's median, or None.
        problem: what went wrong; '' if nothing did.
    """

    task: str
    rival: str
    setting: int
    bindings: str
    is_guided: bool
    seed: int
    loss: runs.Curve
    seconds_per_step: float | None
    problem: str

    @property
    def final_loss(self) -> float:
        """Infinite if the run failed, or its loss is no number."""
        if self.problem or not self.loss:
            return math.inf
        last = runs.last_value(self.loss)
        return last if math.isfinite(last) else math.inf

    @property
    def steps(self) -> int:
        """The last evaluated step."""
        return max(self.loss, default=0)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A rival with a budget, or a guided configuration: a run from every seed."""

    rival: str
    is_guided: bool
    budget: int
    setting: int
    trials: Sequence[Trial]

    @property
    def losses(self) -> list[float]:
        """Final ones, by seed."""
        return [trial.final_loss for trial in self.trials]

    @property
    def mean(self) -> float:
        """Of the final losses; infinite if a run failed."""
        return statistics.fmean(self.losses)


class Results:
    """The trials of a study.

    Attributes:
        seeds: in order; the first is that of the search.
        budgets: in order.
        names: of the rivals, the baseline first.
    """

    def __init__(
        self, trials: Sequence[Trial], budgets: Sequence[int], seeds: Sequence[int]
    ):
        """Looks at them.

        Raises:
            ValueError: the baseline is not there from every seed, or failed.
        """
        self.seeds, self.budgets = [*seeds], sorted(set(budgets))
        self._trials = {(t.rival, t.setting, t.seed): t for t in trials}
        self.names = list(dict.fromkeys(t.rival for t in trials))
        for seed in seeds:
            baseline = self._trials.get((candidates.BASELINE, 1, seed))
            if baseline is None or not math.isfinite(baseline.final_loss):
                what = "is not there" if baseline is None else "failed"
                raise ValueError(
                    f"the first setting of {candidates.BASELINE} {what} from seed "
                    f"{seed}: there is no loss to compare with"
                )

    @property
    def trials(self) -> list[Trial]:
        """All of them."""
        return [*self._trials.values()]

    @property
    def task(self) -> str:
        """The evaluated task."""
        return self.baseline.trials[0].task

    def is_guided(self, name: str) -> bool:
        """Whether a name is that of a guided configuration."""
        return any(t.is_guided for t in self.trials if t.rival == name)

    def best(self, name: str, budget: int) -> int:
        """The setting that the first seed chooses."""
        return best(self.trials, name, budget, self.seeds[0])

    def entry(self, name: str, budget: int) -> Entry:
        """The best setting of a budget, from all seeds.

        Raises:
            ValueError: a run is missing.
        """
        setting = self.best(name, budget)
        missing = [s for s in self.seeds if (name, setting, s) not in self._trials]
        if missing:
            of = (name, setting)
            there = [t.seed for t in self.trials if (t.rival, t.setting) == of]
            raise ValueError(
                f"{name} chose setting {setting} for budget {budget}, which has the "
                f"seeds {', '.join(map(str, there))} and not "
                f"{', '.join(map(str, missing))}"
            )
        trials = [self._trials[name, setting, seed] for seed in self.seeds]
        return Entry(name, self.is_guided(name), budget, setting, trials)

    @functools.cached_property
    def baseline(self) -> Entry:
        """The first setting of t5_default."""
        return self.entry(candidates.BASELINE, 1)

    def of_budget(self, budget: int) -> list[Entry]:
        """All of a budget, with the guided ones, in the order of their means."""
        entries = [self.entry(name, budget) for name in self.names]
        return sorted(entries, key=lambda entry: entry.mean)

    def best_rival(self, budget: int) -> Entry | None:
        """The unguided one of the lowest mean."""
        unguided = [e for e in self.of_budget(budget) if not e.is_guided]
        return unguided[0] if unguided else None

    def seconds_per_step(self, name: str) -> float | None:
        """The median over the runs of a rival."""
        known = [t.seconds_per_step for t in self.trials if t.rival == name]
        times = [seconds for seconds in known if seconds is not None]
        return statistics.median(times) if times else None

    def target(self, seed: int) -> float | None:
        """The baseline's final loss; None from a seed of no interest."""
        trial = self._trials.get((candidates.BASELINE, 1, seed))
        return trial.final_loss if trial else None

    def steps_to_target(self, trial: Trial) -> int | None:
        """The first evaluated step at the target or below it."""
        target = self.target(trial.seed)
        return None if target is None else runs.first_step_at_or_below(trial.loss, target)

    def seconds_to_target(self, trial: Trial) -> float | None:
        """That many steps, in seconds."""
        steps, each = self.steps_to_target(trial), self.seconds_per_step(trial.rival)
        return None if steps is None or each is None else steps * each

    def mean_ratio(self, entry: Entry) -> float | None:
        """The mean of `ratio` over the seeds; None if one does not get there."""
        found = [self.ratio(trial) for trial in entry.trials]
        values = [x for x in found if x is not None]
        return statistics.fmean(values) if len(values) == len(found) else None

    def ratio(self, trial: Trial) -> float | None:
        """Seconds to the target over those of the baseline's full run."""
        seconds = self.seconds_to_target(trial)
        each = self.seconds_per_step(candidates.BASELINE)
        if seconds is None or not each:
            return None
        return seconds / (each * self.baseline.trials[0].steps)


def best(trials: Sequence[Trial], name: str, budget: int, seed: int) -> int:
    """The setting of the lowest final loss, of the first ones; the earlier of equals.

    Args:
        trials: of any rivals and seeds.
        name: of the rival.
        budget: how many settings.
        seed: that chooses.

    Raises:
        ValueError: fewer settings have a trial; a guided configuration has one.
    """
    found = {t.setting: t for t in trials if t.rival == name and t.seed == seed}
    of_budget = {s: t for s, t in found.items() if s <= budget}
    needed = 1 if any(t.is_guided for t in found.values()) else budget
    if len(of_budget) < needed:
        raise ValueError(
            f"budget {budget} needs {needed} settings of {name} from seed {seed}, and "
            f"there are {len(found)}"
        )
    return min(of_budget, key=lambda s: (of_budget[s].final_loss, s))


def table(results: Results, style: str = "text") -> str:
    """A row for each rival and budget; the guided ones are untuned in every budget.

    Args:
        results: what to show.
        style: one of `tables.STYLES`.
    """
    header = [
        *("runs to tune", "", "setting", "final development loss"),
        *("against t5_default", "against the best rival"),
        *("steps to the target", "seconds to it", "of t5_default's seconds"),
        "seconds per step",
    ]
    rows = []
    for budget in results.budgets:
        rival = results.best_rival(budget)
        for entry in results.of_budget(budget):
            each = results.seconds_per_step(entry.rival)
            rows.append(
                [
                    str(budget),
                    f"{entry.rival}, untuned" if entry.is_guided else entry.rival,
                    str(entry.setting),
                    _loss(entry),
                    _difference(entry, results.baseline),
                    _difference(entry, rival) if rival else "-",
                    _to_target(entry, results.steps_to_target, "{:.0f}"),
                    _to_target(entry, results.seconds_to_target, "{:.1f}"),
                    _to_target(entry, results.ratio, "{:.2f}"),
                    "-" if each is None else f"{each:.4f}",
                ]
            )
    seeds = f"{len(results.seeds)} seed{'s' * (len(results.seeds) > 1)}"
    title = f"Task {results.task}, loss per target token, {seeds}"
    return tables.render(header, rows, style, title=title, left=2)


def _loss(entry: Entry) -> str:
    finite = [x for x in entry.losses if math.isfinite(x)]
    if len(finite) < len(entry.losses):
        return f"failed, {len(entry.losses) - len(finite)} of {len(entry.losses)}"
    return repeats.text(finite)


def _difference(entry: Entry, other: Entry) -> str:
    pairs = zip(entry.losses, other.losses, strict=True)
    differences = [a - b for a, b in pairs]
    is_same = (entry.rival, entry.setting) == (other.rival, other.setting)
    if is_same or not all(map(math.isfinite, differences)):
        return "-"
    return repeats.with_error(differences)


def _to_target(entry: Entry, of: Callable[[Trial], float | None], style: str) -> str:
    """The mean over the seeds, if all get there."""
    found = [of(trial) for trial in entry.trials]
    values = [x for x in found if x is not None]
    if len(values) == len(found):
        return style.format(statistics.fmean(values))
    return f"{len(values)} of {len(found)}" if values else "never"
