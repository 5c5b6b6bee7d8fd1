"""The paper's claims, and whether the numbers of its repetition bear them out.

A claim has a sentence for each thing that it says, with the share of what was measured
that does as it says. Differences are means over the seeds of those of each seed. One is
told from 0 where it is beyond two standard errors, of one seed where it is not 0.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import itertools
import math
import statistics

from gbt_t5x.studies import repeats, runs
from gbt_t5x.studies.paper import experiments, measured

HOLDS, PART, NOT = "holds", "holds in part", "does not hold here"
MISSING = "not measured"
RISE = 1.05  # of alpha, which starts from 1, to be called one
MEET = 0.1  # of beta1, apart
SYMBOLS = dict(zip(measured.LEARNED, ("base", "α", "β1", "α+β1"), strict=True))
LEARNED = measured.LEARNED[1:]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A sentence with numbers.

    Attributes:
        sentence: what was measured.
        share: of that, what is as the claim says: 0 to 1; None if it says nothing of it.
        missing: whether it says what was not measured.
    """

    sentence: str
    share: float | None = None
    missing: bool = False

    @property
    def verdict(self) -> str:
        """HOLDS, PART from a half on, NOT, or ''."""
        if self.share is None:
            return ""
        return HOLDS if self.share == 1 else PART if self.share >= 0.5 else NOT


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was measured about a claim."""

    evidence: Sequence[Evidence]

    @property
    def verdict(self) -> str:
        """That of its evidence; PART where that differs, or holds and some is missing."""
        found = {e.verdict for e in self.evidence if e.verdict}
        if found == {HOLDS} and any(e.missing for e in self.evidence):
            return PART
        return found.pop() if len(found) == 1 else PART if found else MISSING


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        title: a sentence.
        where: in the paper.
        paper: what the paper has measured; '' of what it has not.
        parts: the figures and tables that show it.
        look: what the results say of it.
        beside: further parts that it takes.
    """

    title: str
    where: str
    paper: str
    parts: Sequence[str]
    look: Callable[[measured.Results], Sequence[Evidence]]
    beside: Sequence[str] = ()

    @property
    def all_parts(self) -> list[str]:
        """The names of all that has to be measured."""
        return [*self.parts, *self.beside]

    def finding(self, results: measured.Results) -> Finding:
        """What the results say; MISSING where a part has none."""
        missing = [part for part in self.all_parts if not results.rows(part)]
        if missing:
            return Finding(
                [Evidence(f"No numbers of {', '.join(missing)}.", missing=True)]
            )
        return Finding(self.look(results))


def differences(run: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """Those of each seed."""
    return [run[seed] - other[seed] for seed in run]


def is_above(values: Sequence[float]) -> bool:
    """Whether differences are told from 0, and positive."""
    return statistics.fmean(values) > 2 * (repeats.standard_error(values) or 0.0)


def is_below(values: Sequence[float]) -> bool:
    """Whether differences are told from 0, and negative."""
    return is_above([-value for value in values])


def _share(parts: Sequence[bool]) -> float:
    return sum(parts) / len(parts)


def _count(parts: Sequence[bool]) -> str:
    return f"{sum(parts)} of {len(parts)}"


def _against(base: measured.Run, some: Sequence[measured.Run]) -> list[list[float]]:
    """Differences of the final loss to a run, of each of some."""
    return [differences(run.last(), base.last()) for run in some]


def _better(base: measured.Run, guided: Sequence[measured.Run]) -> tuple[list[bool], str]:
    """Which runs end below the baseline, and the sentence that says so."""
    better = [is_below(values) for values in _against(base, guided)]
    return better, f"{_count(better)} settings end below the baseline's loss."


def _alphas(guided: Sequence[measured.Run]) -> list[list[float]]:
    """The values of alpha in each run, from every seed."""
    return [[*c.values()] for run in guided for c in run.of("alpha").values()]


def _falls(guided: Sequence[measured.Run]) -> list[bool]:
    """Whether alpha stays below RISE, and ends as near to its lowest, of each run."""
    return [max(x) < RISE and x[-1] < RISE * min(x) for x in _alphas(guided)]


def _falling(what: str, falls: Sequence[bool]) -> str:
    within = f"stays below {RISE}, and ends within {RISE - 1:.0%} of its lowest,"
    return f"{what} {within} in {_count(falls)} runs."


def _ends(cells: Sequence[Sequence[float]]) -> str:
    """The lowest and the highest of some differences."""
    low, high = (repeats.with_error(f(cells, key=statistics.fmean)) for f in (min, max))
    return low if low == high else f"{low} to {high}"


def _range(values: Sequence[float], digits: int = 2) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _alpha_of_translation(results: measured.Results) -> list[Evidence]:
    base, guided = results.compared("figure_1")
    ends = [run.last("alpha") for run in sorted(guided, key=lambda run: run.eta or 0)]
    ordered = [
        [end[seed] for end in ends] == sorted((end[seed] for end in ends), reverse=True)
        for seed in ends[0]
    ]
    falls = _falls(guided)
    return [
        Evidence(_falling("α", falls), _share(falls)),
        Evidence(
            f"The larger η̂, the lower α ends, from {_count(ordered)} seeds. By η̂: "
            f"{_by_eta(guided, 'alpha')}.",
            _share(ordered),
        ),
        Evidence(_better(base, guided)[1]),
        Evidence(
            f"Final losses: baseline {statistics.fmean(base.last().values()):.3f}; by η̂, "
            f"{_by_eta(guided, 'loss')}."
        ),
    ]


def _by_eta(guided: Sequence[measured.Run], quantity: str) -> str:
    """What a quantity ends at, the means over the seeds."""
    mean = lambda run: statistics.fmean(run.last(quantity).values())
    return "; ".join(f"{run.eta:g}: {mean(run):.3f}" for run in guided)


def _meeting(guided: Sequence[measured.Run]) -> list[float]:
    """How far beta1 from several starts is apart at the end, from each seed."""
    ends = [run.last("beta1") for run in guided]
    return [max(e[s] for e in ends) - min(e[s] for e in ends) for s in ends[0]]


def _beta1_of_translation(results: measured.Results) -> list[Evidence]:
    base, guided = results.compared("figure_2")
    etas = sorted({run.eta for run in guided if run.eta})
    apart = {eta: _meeting([r for r in guided if r.eta == eta]) for eta in etas}
    largest = [run for run in guided if run.eta == etas[-1]]
    half = [_at_half(curve) for run in largest for curve in run.of("beta1").values()]
    ends = [value for run in largest for value in run.last("beta1").values()]
    listed = "; ".join(f"{eta:g}: {_range(apart[eta], 3)}" for eta in etas)
    meets = [x < MEET for x in apart[etas[-1]]]
    better, sentence = _better(base, guided)
    return [
        Evidence(
            f"At the largest η̂, β1 from its starts is less than {MEET} apart at the end, "
            f"from {_count(meets)} seeds. By η̂: {listed}.",
            _share(meets),
        ),
        Evidence(
            f"There it is {statistics.fmean(half):.2f} half way, and {_range(ends)} at "
            "the end.",
            _share([max(ends) < statistics.fmean(half)]),
        ),
        Evidence(sentence, _share(better)),
    ]


def _at_half(curve: runs.Curve) -> float:
    return [*curve.values()][len(curve) // 2]


def directions(results: measured.Results, corpus: str) -> list[str]:
    """Those that Table 1 has of a corpus, in the paper's order."""
    there = results.distinct("table_1", "direction", corpus=corpus)
    return [x for x in results.sizes["directions"].split() if x in there]


def _six_directions(results: measured.Results) -> list[Evidence]:
    found = []
    for corpus in results.distinct("table_1", "corpus"):
        there = directions(results, corpus)
        gains: dict[str, list[list[float]]] = {}
        both_against_one = []
        for direction in there:
            of = {"corpus": corpus, "direction": direction}
            bleu = {
                learned: results.by_seed("table_1", "bleu", learned=learned, **of)
                for learned in measured.LEARNED
            }
            for learned in LEARNED:
                gain = differences(bleu[learned], bleu[""])
                gains.setdefault(learned, []).append(gain)
            more = differences(bleu["alpha+beta1"], bleu["beta1"])
            both_against_one.append(f"{direction} {repeats.with_error(more, 1)}")
        left = [x for x in results.sizes["directions"].split() if x not in there]
        if left:
            found.append(
                Evidence(f"{corpus}: no numbers of {', '.join(left)}.", missing=True)
            )
        better = [is_above(cell) for cells in gains.values() for cell in cells]
        means = "; ".join(
            f"{SYMBOLS[learned]} {statistics.fmean(map(statistics.fmean, cells)):+.1f}"
            for learned, cells in gains.items()
        )
        found.append(
            Evidence(
                f"{corpus}: {_count(better)} cells have more BLEU than the baseline; on "
                f"average {means}.",
                _share(better),
            )
        )
        found.append(
            Evidence(
                f"{corpus}: the two together against β1 alone: "
                f"{'; '.join(both_against_one)}."
            )
        )
    return found


def _against_a_search(results: measured.Results) -> list[Evidence]:
    found = []
    corpora = results.distinct("table_2", "corpus", direction=experiments.SEARCHED)
    columns = results.sizes["columns"].split()
    for corpus, learned in itertools.product(corpora, columns):
        which = f"{corpus}, {SYMBOLS[learned]}"
        if learned not in searched(results, corpus):
            found.append(Evidence(f"{which}: no numbers.", missing=True))
            continue
        one = _against_best(results, corpus, learned, experiments.SEARCHED)
        found.append(
            Evidence(
                f"{which}: one guided run has {one.text}, against the best of "
                f"{one.trials:.0f} trials.",
                _share([one.is_better]),
            )
        )
    found += [e for corpus in corpora for e in _elsewhere(results, corpus)]
    return [*found, *(_beside_a_search(results, corpus) for corpus in corpora)]


@dataclasses.dataclass(frozen=True)
class _AgainstBest:
    """A guided run that no search tuned, less the best of a search."""

    text: str
    is_better: bool
    trials: float


def _against_best(
    results: measured.Results, corpus: str, learned: str, direction: str
) -> _AgainstBest:
    which = {"corpus": corpus, "learned": learned, "direction": direction}
    of = functools.partial(results.by_seed, "table_2", **which)
    bleu, loss = (
        differences(of(metric, row="guided"), of(metric, row="base_tuned"))
        for metric in ("bleu", "loss")
    )
    (trials, *_) = of("runs", row="base_tuned").values()
    text = f"{repeats.with_error(bleu, 1)} BLEU, and a loss {repeats.with_error(loss)}"
    return _AgainstBest(text, is_above(bleu), trials)


def _elsewhere(results: measured.Results, corpus: str) -> list[Evidence]:
    """The same in other directions, of shorter searches."""
    there = elsewhere(results, corpus)
    wanted: list[str] = []
    if results.sizes["other_trials"] != "0":
        directions = results.sizes["directions"].split()
        wanted = experiments.elsewhere(corpus, directions)
    left = [direction for direction in wanted if direction not in there]
    which = f"{corpus}, {SYMBOLS[experiments.ELSEWHERE]}"
    found = []
    if left:
        text = f"{which}: no numbers of {', '.join(left)}."
        found.append(Evidence(text, missing=True))
    if there:
        ones = {
            direction: _against_best(results, corpus, experiments.ELSEWHERE, direction)
            for direction in there
        }
        (trials, *_) = (one.trials for one in ones.values())
        listed = "; ".join(f"{direction} {one.text}" for direction, one in ones.items())
        found.append(
            Evidence(
                f"{which}, other directions: one guided run against the best of "
                f"{trials:.0f} trials: {listed}.",
                _share([one.is_better for one in ones.values()]),
            )
        )
    return found


def searched(results: measured.Results, corpus: str) -> list[str]:
    """The columns that Table 2 has of a corpus, in the paper's order and direction."""
    which = {"corpus": corpus, "direction": experiments.SEARCHED}
    there = results.distinct("table_2", "learned", **which)
    return [learned for learned in LEARNED if learned in there]


def elsewhere(results: measured.Results, corpus: str) -> list[str]:
    """The other directions that Table 2 has of a corpus, in the paper's order."""
    there = results.distinct("table_2", "direction", corpus=corpus)
    found = experiments.elsewhere(corpus, results.sizes["directions"].split())
    return [direction for direction in found if direction in there]


def _beside_a_search(results: measured.Results, corpus: str) -> Evidence:
    """What tuning η̂ gives, and what guidance takes."""
    tuned, slower = [], []
    for learned in searched(results, corpus):
        which = {"corpus": corpus, "learned": learned, "direction": experiments.SEARCHED}
        of = functools.partial(results.by_seed, "table_2", **which)
        gain = differences(of("bleu", row="guided_tuned"), of("bleu", row="guided"))
        trials = of("runs", row="guided_tuned")
        tuned.append(f"{SYMBOLS[learned]} {repeats.with_error(gain, 1)}")
        guided, base = (
            statistics.fmean(of("seconds", row=row).values())
            / statistics.fmean(of("runs", row=row).values())
            for row in ("guided_tuned", "base_tuned")
        )
        slower.append(f"{SYMBOLS[learned]} {guided / base:.2f}")
    (number, *_) = trials.values()
    return Evidence(
        f"{corpus}: the best of {number:.0f} η̂ gives {'; '.join(tuned)} BLEU over the "
        "one that no search tuned. Time of a guided run over that of a baseline: "
        f"{'; '.join(slower)}."
    )


def _one_alone_on_t5(results: measured.Results) -> list[Evidence]:
    base, alpha = results.compared("figure_F2")
    falls, (better, sentence) = _falls(alpha), _better(base, alpha)
    of_alpha = _against(base, alpha)
    base, beta1 = results.compared("figure_F3")
    others = [r for r in results.figure("figure_F3") if r.name != base.name]
    alone = _against(base, others)
    both = _against(*results.compared("figure_3"))
    of_alone, of_both = ([*map(statistics.fmean, x)] for x in (alone, both))
    little = max(map(abs, of_alone)) < -min(of_both) / 2
    return [
        Evidence(_falling("α alone", falls), _share(falls)),
        Evidence(
            f"Of α alone, {sentence} Differences: {_ends(of_alpha)}.", 1 - _share(better)
        ),
        Evidence(
            f"β1 alone, learned or fixed, changes the loss by {_ends(alone)}, and both "
            f"together by {_ends(both)}: little is less than half of the best.",
            _share([little]),
        ),
        Evidence(f"β1 from its starts is {_range(_meeting(beta1), 3)} apart at the end."),
    ]


def _both_on_t5(results: measured.Results) -> list[Evidence]:
    base, guided = results.compared("figure_3")
    rises = [max(x) > RISE and x[-1] * RISE < max(x) for x in _alphas(guided)]
    goal = base.last()
    steps = max(next(iter(base.of("loss").values())))
    shares = [
        statistics.fmean(
            (runs.first_step_at_or_below(curve, goal[seed]) or math.inf) / steps
            for seed, curve in run.of("loss").items()
        )
        for run in guided
    ]
    fastest = min(shares)
    reached = (
        f"The baseline's final loss is reached, at best, in {fastest:.2f} of its steps."
        if math.isfinite(fastest)
        else "No setting reaches the baseline's final loss from every seed."
    )
    return [
        Evidence(
            f"α rises, above {RISE}, and then falls in {_count(rises)} runs.",
            _share(rises),
        ),
        Evidence(reached, _share([fastest <= 0.34])),
        Evidence(_better(base, guided)[1]),
    ]


def _finetuned(results: measured.Results) -> list[Evidence]:
    base = results.of_tasks("base")
    gains = {
        task: differences(guided, base[task])
        for task, guided in results.of_tasks("alpha_beta1").items()
    }
    average = [statistics.fmean(of_seed) for of_seed in zip(*gains.values(), strict=True)]
    better = [is_above(gain) for gain in gains.values()]
    listed = ", ".join(f"{task} {repeats.with_error(g, 1)}" for task, g in gains.items())
    return [
        Evidence(
            f"On average {repeats.with_error(average, 1)} after guided pre-training.",
            _share([is_above(average)]),
        ),
        Evidence(f"{_count(better)} tasks are better: {listed}.", _share(better)),
    ]


def _cause(results: measured.Results) -> list[Evidence]:
    found = {
        run.name.rpartition("_")[2]: [max(x) for x in _alphas([run])]
        for run in results.figure("why_alpha_rises")
    }
    names = ("inside", "outside")
    others = [maxima for name, maxima in found.items() if name not in names]
    if len(found) != 3 or len(others) != 1:
        raise ValueError(
            "why_alpha_rises.csv must have three runs, with the rate inside and outside "
            f"of the momentum, and alpha alone: the names end with {', '.join(found)}"
        )
    inside, outside = (found[name] for name in names)
    alone = others[0]
    return [
        Evidence(
            f"With both learned α rises to {_range(inside)} with the rate inside of the "
            "momentum.",
            _share([x > RISE for x in inside]),
        ),
        Evidence(
            f"It rises to {_range(outside)} with the rate outside.",
            1.0 if max(outside) < RISE else 0.5 * (max(outside) < min(inside)),
        ),
        Evidence(f"α alone rises to {_range(alone)} where β1 is fixed at 0.9."),
    ]


CLAIMS = (
    Claim(
        "On translation α alone is driven as low as η̂ allows, the short-horizon bias.",
        "Section 3.1, Figure 1",
        "all runs are; some beat the baseline, if η̂ is tuned for it.",
        ["figure_1"],
        _alpha_of_translation,
    ),
    Claim(
        "On translation β1 falls to one schedule from 0.1, 0.5 and 0.9, if η̂ is large "
        "enough, and every run that learns it beats the baseline.",
        "Section 3.1, Figure 2",
        "all runs do.",
        ["figure_2"],
        _beta1_of_translation,
    ),
    Claim(
        "With one η̂ in all directions, α, β1 and both have more BLEU than the baseline.",
        "Table 1",
        "18 of 18 cells have; on average α +0.92; β1 +1.15; α+β1 +0.93. On German to "
        "English the two together have 0.1 more than β1 alone, on average 0.2 less.",
        ["table_1"],
        _six_directions,
    ),
    Claim(
        "A guided run that no search tuned beats the best baseline of 100 trials.",
        "Table 2, Figure E.1",
        "on German to English, α +0.2, β1 +0.4, α+β1 +0.4 BLEU, of trials that are whole "
        "runs. The best of 100 η̂ gives +0.1, 0.0 and 0.0 over the one of four; a guided "
        "run takes 1.5 times as long.",
        ["table_2"],
        _against_a_search,
    ),
    Claim(
        "On T5 α alone only falls and does not win, and β1 alone changes little.",
        "Section 3.2, Figures F.2 and F.3",
        "of α alone one run, with the lowest η̂, is very slightly better; of β1 alone the "
        "changes are minor.",
        ["figure_F2", "figure_F3"],
        _one_alone_on_t5,
        ["figure_3"],
    ),
    Claim(
        "On T5, with both learned, α rises before it falls, and the baseline's loss is "
        "reached in a third of the steps.",
        "Section 3.2, Figure 3",
        "a third of the steps, and lower losses with several η̂.",
        ["figure_3"],
        _both_on_t5,
    ),
    Claim(
        "Fine-tuning from the guided checkpoint scores higher.",
        "Tables 3, 6 and 7",
        "15 of 18 tasks; on average +0.4 on GLUE and +1.4 on SuperGLUE, of the best of "
        "five runs; of their means (Table 7) +0.3 and +2.5.",
        ["table_3"],
        _finetuned,
    ),
    Claim(
        "Why α rises: T5X's Adafactor has its learning rate inside of the momentum, so "
        "that ∂θ'/∂α has a factor 1 - β1.",
        "Not in the paper",
        "",
        ["why_alpha_rises"],
        _cause,
    ),
)
