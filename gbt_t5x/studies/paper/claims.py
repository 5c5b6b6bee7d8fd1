"""The paper's claims, and whether the numbers of its repetition bear them out.

Differences are means over the seeds of those of each seed. One is told from 0 where it is
beyond two standard errors, of one seed where it is not 0.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import statistics

from gbt_t5x.studies import repeats, runs
from gbt_t5x.studies.paper import measured

HOLDS, PART, NOT = "holds", "holds in part", "does not hold here"
MISSING = "not measured"
_RISE = 1.05  # of alpha, to be called one
_MEET = 0.1  # of beta1, apart
LEARNED = ("alpha", "beta1", "alpha+beta1")
SYMBOLS = {"": "base", "alpha": "α", "beta1": "β1", "alpha+beta1": "α+β1"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was measured about a claim: the verdict, and sentences with the numbers."""

    verdict: str
    sentences: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        title: a sentence.
        where: in the paper.
        parts: the figures and tables that show it.
        look: what the results say of it.
        beside: further parts that it takes.
    """

    title: str
    where: str
    parts: Sequence[str]
    look: Callable[[measured.Results], Finding]
    beside: Sequence[str] = ()

    @property
    def all_parts(self) -> list[str]:
        """The names of all that has to be measured."""
        return [*self.parts, *self.beside]

    def finding(self, results: measured.Results) -> Finding:
        """What the results say; MISSING where a part has none."""
        missing = [part for part in self.all_parts if not results.rows(part)]
        if missing:
            return Finding(MISSING, [f"No numbers of {', '.join(missing)}."])
        return self.look(results)


def differences(run: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """Those of each seed that both have."""
    return [run[seed] - other[seed] for seed in run if seed in other]


def is_below(values: Sequence[float]) -> bool:
    """Whether differences are told from 0, and negative."""
    return statistics.fmean(values) < -2 * (repeats.error(values) or 0.0)


def _verdict(parts: Sequence[bool]) -> str:
    if all(parts):
        return HOLDS
    return PART if any(parts) else NOT


def _baseline(found: Sequence[measured.Run]) -> measured.Run:
    return next(run for run in found if not run.learned)


def _against(found: Sequence[measured.Run]) -> dict[str, list[float]]:
    """Run -> differences of the final loss to the baseline, of those that learn."""
    base = _baseline(found).last()
    return {r.name: differences(r.last(), base) for r in found if r.learned}


def _only_falls(run: measured.Run, quantity: str = "alpha") -> bool:
    """Whether it is never above its start by a rise, and ends lowest, from each seed."""
    curves = [[*curve.values()] for curve in run.curves[quantity].values()]
    return all(
        max(values) < _RISE * values[0] and values[-1] < _RISE * min(values)
        for values in curves
    )


def _rises_then_falls(run: measured.Run) -> bool:
    curves = [[*curve.values()] for curve in run.curves["alpha"].values()]
    return all(
        max(values) > _RISE * values[0] and values[-1] * _RISE < max(values)
        for values in curves
    )


def _range(values: Sequence[float], digits: int = 2) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _alpha_of_translation(results: measured.Results) -> Finding:
    found = results.figure("figure_1")
    guided = [run for run in found if run.learned]
    ends = {run.name: run.last("alpha") for run in guided}
    ordered = all(
        [ends[run.name][seed] for run in guided]
        == sorted((ends[run.name][seed] for run in guided), reverse=True)
        for seed in ends[guided[0].name]
    )
    falls = [_only_falls(run) for run in guided]
    better = [name for name, of_name in _against(found).items() if is_below(of_name)]
    listed = "; ".join(
        f"{run.eta:g}: {statistics.fmean(ends[run.name].values()):.3f}" for run in guided
    )
    return Finding(
        _verdict([ordered, *falls]),
        [
            f"α at the end, by η̂: {listed}.",
            f"It only falls in {sum(falls)} of {len(falls)} runs"
            + (", and ends the lower the larger η̂, from every seed." if ordered else "."),
            f"{len(better)} of {len(guided)} end below the baseline's loss.",
        ],
    )


def _meeting(guided: Sequence[measured.Run]) -> list[float]:
    """How far beta1 from several starts is apart at the end, from each seed."""
    ends = [run.last("beta1") for run in guided]
    return [max(e[s] for e in ends) - min(e[s] for e in ends) for s in ends[0]]


def _beta1_of_translation(results: measured.Results) -> Finding:
    found = results.figure("figure_2")
    guided = [run for run in found if run.learned]
    etas = sorted({run.eta for run in guided if run.eta})
    apart = {eta: _meeting([r for r in guided if r.eta == eta]) for eta in etas}
    largest = [run for run in guided if run.eta == etas[-1]]
    half = [_at_half(curve) for run in largest for curve in run.curves["beta1"].values()]
    ends = [value for run in largest for value in run.last("beta1").values()]
    meet, fall = max(apart[etas[-1]]) < _MEET, max(ends) < statistics.fmean(half)
    better = [name for name, of_name in _against(found).items() if is_below(of_name)]
    listed = "; ".join(f"{eta:g}: {_range(apart[eta], 3)}" for eta in etas)
    return Finding(
        _verdict([meet, fall, len(better) == len(guided)]),
        [
            f"β1 from 0.1, 0.5 and 0.9 is apart at the end, by η̂: {listed}.",
            f"At the largest η̂ it is {statistics.fmean(half):.2f} half way, and "
            f"{_range(ends)} at the end.",
            f"{len(better)} of {len(guided)} end below the baseline's loss.",
        ],
    )


def _at_half(curve: runs.Curve) -> float:
    return [*curve.values()][len(curve) // 2]


def _six_directions(results: measured.Results) -> Finding:
    rows = results.rows("table_1")
    sentences, verdicts = [], []
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        of = [row for row in rows if row["corpus"] == corpus]
        gains = {
            (direction, learned): statistics.fmean(
                differences(
                    measured.by_seed(of, "bleu", direction=direction, learned=learned),
                    measured.by_seed(of, "bleu", direction=direction, learned=""),
                )
            )
            for direction in dict.fromkeys(row["direction"] for row in of)
            for learned in LEARNED
        }
        better = sum(gain > 0 for gain in gains.values())
        means = "; ".join(
            f"{SYMBOLS[learned]} {statistics.fmean(g):+.1f}"
            for learned in LEARNED
            for g in [[v for (_, x), v in gains.items() if x == learned]]
        )
        sentences.append(
            f"{corpus}: {better} of {len(gains)} cells have more BLEU than the baseline; "
            f"on average {means}."
        )
        verdicts += [better == len(gains)]
        verdicts += [2 * better > len(gains)] if better < len(gains) else []
    return Finding(_verdict(verdicts), sentences)


def _against_a_search(results: measured.Results) -> Finding:
    rows = results.rows("table_2")
    sentences, verdicts = [], []
    for learned in LEARNED:
        of = [row for row in rows if row["learned"] == learned]
        gain = differences(
            measured.by_seed(of, "bleu", row="guided"),
            measured.by_seed(of, "bleu", row="base_tuned"),
        )
        loss = differences(
            measured.by_seed(of, "loss", row="guided"),
            measured.by_seed(of, "loss", row="base_tuned"),
        )
        trials = next(row["runs"] for row in of if row["row"] == "base_tuned")
        mean = statistics.fmean(gain)
        verdicts.append(mean > 0)
        sentences.append(
            f"{SYMBOLS[learned]}: one guided run has {mean:+.1f} BLEU and a loss "
            f"{statistics.fmean(loss):+.4f} against the best of {trials} trials."
        )
    return Finding(_verdict(verdicts), sentences)


def _one_alone_on_t5(results: measured.Results) -> Finding:
    alpha, beta1 = results.figure("figure_F2"), results.figure("figure_F3")
    falls = [_only_falls(run) for run in alpha if run.learned]
    of_alpha = _against(alpha)
    wins = [name for name, of_name in of_alpha.items() if is_below(of_name)]
    base = _baseline(beta1)
    of_beta1 = [
        statistics.fmean(differences(run.last(), base.last()))
        for run in beta1
        if run is not base
    ]
    size = max(map(abs, of_beta1))
    both = [statistics.fmean(v) for v in _against(results.figure("figure_3")).values()]
    little = size < abs(min(both)) / 2
    apart = _meeting([run for run in beta1 if run.learned])
    return Finding(
        _verdict([*falls, not wins, little]),
        [
            f"α alone only falls in {sum(falls)} of {len(falls)} runs; "
            f"{len(wins)} of them end below the baseline's loss.",
            f"β1 alone, learned or fixed, changes the loss by {_range(of_beta1, 4)}, and "
            f"both together by {_range(both, 4)}.",
            f"β1 from 0.1, 0.5 and 0.9 is {_range(apart, 3)} apart at the end.",
        ],
    )


def _both_on_t5(results: measured.Results) -> Finding:
    found = results.figure("figure_3")
    base, guided = _baseline(found), [run for run in found if run.learned]
    rises = [_rises_then_falls(run) for run in guided]
    better = [name for name, of_name in _against(found).items() if is_below(of_name)]
    goal, last = base.last(), max(next(iter(base.curves["loss"].values())))
    shares = {
        run.name: [
            (runs.first_step_at_or_below(curve, goal[seed]) or math.inf) / last
            for seed, curve in run.curves["loss"].items()
        ]
        for run in guided
    }
    fastest = min(statistics.fmean(of_run) for of_run in shares.values())
    reached = f"{fastest:.2f} of its steps" if math.isfinite(fastest) else "not by all"
    return Finding(
        _verdict([*rises, len(better) == len(guided), fastest <= 0.34]),
        [
            f"α rises and then falls in {sum(rises)} of {len(rises)} runs.",
            f"{len(better)} of {len(guided)} end below the baseline's loss.",
            f"The baseline's final loss is reached, at best, after {reached}.",
        ],
    )


def _finetuned(results: measured.Results) -> Finding:
    rows = results.rows("table_3")
    gains: dict[str, list[float]] = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        for metric in dict.fromkeys(row["metric"] for row in of_task):
            chosen = {"task": task, "metric": metric}
            gains.setdefault(task, []).append(
                statistics.fmean(
                    differences(
                        measured.by_seed(
                            rows, "value", pretrained="alpha_beta1", **chosen
                        ),
                        measured.by_seed(rows, "value", pretrained="base", **chosen),
                    )
                )
            )
    of_tasks = {task: statistics.fmean(values) for task, values in gains.items()}
    better = sum(gain > 0 for gain in of_tasks.values())
    mean = statistics.fmean(of_tasks.values())
    listed = ", ".join(f"{task} {gain:+.1f}" for task, gain in of_tasks.items())
    return Finding(
        _verdict([mean > 0, 2 * better > len(of_tasks)]),
        [
            f"{better} of {len(of_tasks)} tasks are better after guided pre-training: "
            f"{listed}; on average {mean:+.1f}."
        ],
    )


def _cause(results: measured.Results) -> Finding:
    inside, outside, alone = (
        [max(curve.values()) for curve in run.curves["alpha"].values()]
        for run in results.figure("why_alpha_rises")
    )
    return Finding(
        _verdict([max(outside) < _RISE < min(inside), max(outside) < min(inside)]),
        [
            f"With both learned α rises to {_range(inside)} with the rate inside of the "
            f"momentum, and to {_range(outside)} with the rate outside.",
            f"α alone rises to {_range(alone)} where β1 is fixed at 0.9.",
        ],
    )


CLAIMS = (
    Claim(
        "On translation α alone is driven as low as η̂ allows, the short-horizon bias.",
        "Section 3.1, Figure 1",
        ["figure_1"],
        _alpha_of_translation,
    ),
    Claim(
        "On translation β1 falls to one schedule from 0.1, 0.5 and 0.9, if η̂ is large "
        "enough, and every run that learns it beats the baseline.",
        "Section 3.1, Figure 2",
        ["figure_2"],
        _beta1_of_translation,
    ),
    Claim(
        "With one η̂ in all directions, α, β1 and both have more BLEU than the baseline.",
        "Table 1",
        ["table_1"],
        _six_directions,
    ),
    Claim(
        "A guided run that nobody tuned beats the best baseline of 100 trials.",
        "Table 2, Figure E.1",
        ["table_2"],
        _against_a_search,
    ),
    Claim(
        "On T5 α alone only falls and does not win, and β1 alone changes little.",
        "Section 3.2, Figures F.2 and F.3",
        ["figure_F2", "figure_F3"],
        _one_alone_on_t5,
        ["figure_3"],
    ),
    Claim(
        "On T5, with both learned, α rises before it falls, and the baseline's loss is "
        "reached in a third of the steps.",
        "Section 3.2, Figure 3",
        ["figure_3"],
        _both_on_t5,
    ),
    Claim(
        "Fine-tuning from the guided checkpoint scores higher.",
        "Tables 3, 6 and 7",
        ["table_3"],
        _finetuned,
    ),
    Claim(
        "Why α rises: T5X's Adafactor has its learning rate inside of the momentum, so "
        "that ∂θ'/∂α has a factor 1 - β1.",
        "Not in the paper",
        ["why_alpha_rises"],
        _cause,
    ),
)
