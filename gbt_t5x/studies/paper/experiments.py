"""What the paper's figures and tables are made of, at the size of two cores.

Figures 1, 2 and E.1, and Tables 1 and 2, are of translation; Figures 3, F.2 and F.3, and
Table 3, of the quickstart's T5. Given here is η̂ times the number of steps, so that it is
the same for other numbers of steps.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math

from gbt_t5x.studies import launch, macros, search, spaces

_GIN = "gbt_t5x/gin"
_NO_DECODING = f"{_GIN}/rivals/losses.gin"
DIRECTIONS = ("de_en", "en_de", "fi_en", "en_fi", "lt_en", "en_lt")
TASKS = ("offline_kind", "offline_module", "offline_questions")
REACH = {"translation": 1.8, "t5": 15.0}  # of the runs that are not tuned


# Pairs to translate -> the bindings of their runs and evaluations.
CORPORA: Mapping[str, Sequence[str]] = {
    "templates": (),
    "catalogues": (
        'CORPUS = "catalogues_"',
        "TASK_FEATURE_LENGTHS = {'inputs': 64, 'targets': 64}",
    ),
}
SEARCHED = "de_en"  # the direction of the paper's Table 2
ELSEWHERE = "beta1"  # its column in other directions


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
        seeds: of every run.
        directions: of Table 1, and of Table 2's shorter searches.
        translation, pretraining, finetuning, trial: steps of a run.
        trials, guided_trials: of a search, and of one for η̂.
        evaluations: of a run, at most.
        columns: of Table 2, what is learned or searched: names, joined by `+`.
        other_trials: of a search in a direction that is not the paper's; none with 0.
    """

    seeds: Sequence[int] = (0, 1, 2)
    directions: Sequence[str] = DIRECTIONS
    translation: int = 600
    pretraining: int = 1500
    finetuning: int = 500
    trial: int = 200
    trials: int = 100
    guided_trials: int = 25
    evaluations: int = 12
    columns: Sequence[str] = ("alpha", "beta1", "alpha+beta1")
    other_trials: int = 12

    def texts(self) -> dict[str, str]:
        """Name -> value, as text."""
        return {
            name: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            for name, value in vars(self).items()
        }


WHOLE = Size()
QUICK = Size((0,), ("de_en", "en_fi"), 80, 160, 80, 40, 3, 3, 4, ("beta1",), 0)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A column of Table 2: runs that learn hyper-parameters, against searches of them.

    Attributes:
        corpus: one of CORPORA.
        learned: names, joined by `+`.
        direction: of translation.
        trials, guided_trials: of the search, and of that for η̂; none with 0.
    """

    corpus: str
    learned: str
    direction: str
    trials: int
    guided_trials: int


def comparisons(corpus: str, size: Size) -> list[Comparison]:
    """The columns of Table 2: the paper's, then those of other directions."""
    found = [
        Comparison(corpus, learned, SEARCHED, size.trials, size.guided_trials)
        for learned in size.columns
    ]
    others = elsewhere(corpus, size.directions) if size.other_trials else []
    return found + [
        Comparison(corpus, ELSEWHERE, direction, size.other_trials, 0)
        for direction in others
    ]


def elsewhere(corpus: str, directions: Sequence[str]) -> list[str]:
    """Those of Table 2 beside the paper's, which the catalogues alone have."""
    return [x for x in directions if x != SEARCHED and corpus == "catalogues"]


@dataclasses.dataclass(frozen=True)
class Setup:
    """A configuration of a figure or table.

    Attributes:
        learned: the hyper-parameters; none without guidance.
        reach: η̂ times the steps.
        beta1: that learning starts from, or that is kept; None for the baseline's.
        rate: `inside` or `outside` of Adafactor's momentum; '' as the baseline has it.
    """

    learned: Sequence[str] = ()
    reach: float = 0.0
    beta1: float | None = None
    rate: str = ""

    def eta(self, steps: int) -> float:
        """η̂, to two digits."""
        return float(f"{self.reach / steps:.1e}")

    def name(self, steps: int) -> str:
        """One part of a path, distinct among those of its model."""
        parts = ["_".join(self.learned) or "baseline"]
        if self.learned:
            parts.append(f"eta_{self.eta(steps):g}")
        if self.beta1 is not None:
            parts.append(f"beta1_{self.beta1:g}")
        if self.rate:
            parts.append(f"rate_{self.rate}")
        return "_".join(parts)


_ALPHA, _BETA1, _BOTH = ("alpha",), ("beta1",), ("alpha", "beta1")
# Figure -> the model that it is of, and what it compares.
FIGURES: Mapping[str, tuple[str, Sequence[Setup]]] = {
    "figure_1": (
        "translation",
        [Setup(), *(Setup(_ALPHA, reach) for reach in (0.18, 0.6, 1.8, 6.0))],
    ),
    "figure_2": (
        "translation",
        [
            Setup(),
            *(Setup(_BETA1, r, b) for r in (1.8, 6.0, 18.0) for b in (0.1, 0.5, 0.9)),
        ],
    ),
    "figure_3": ("t5", [Setup(), *(Setup(_BOTH, reach) for reach in (4.5, 15.0, 45.0))]),
    "figure_F2": (
        "t5",
        [Setup(), *(Setup(_ALPHA, reach, 0.0) for reach in (1.5, 4.5, 15.0))],
    ),
    "figure_F3": (
        "t5",
        [
            Setup(),
            *(Setup(beta1=b) for b in (0.5, 0.9)),
            *(Setup(_BETA1, 15.0, b) for b in (0.1, 0.5, 0.9)),
        ],
    ),
    "why_alpha_rises": (
        "t5",
        [
            *(Setup(_BOTH, 15.0, rate=x) for x in ("inside", "outside")),
            Setup(_ALPHA, 15.0, 0.9),
        ],
    ),
}
PARTS = (*FIGURES, "table_1", "table_2", "table_3")
TABLE_1 = [
    Setup(),
    Setup(_ALPHA, REACH["translation"]),
    Setup(_BETA1, REACH["translation"], 0.9),  # as in Figure 2
    Setup(_BOTH, REACH["translation"]),
]


def steps(model: str, size: Size) -> int:
    """Of a run of a model."""
    return size.pretraining if model == "t5" else size.translation


def variant(
    model: str,
    setup: Setup,
    size: Size,
    direction: str = "de_en",
    corpus: str = "templates",
) -> launch.Variant:
    """The runs of a setup.

    Args:
        model: `translation` or `t5`.
        setup: what is learned.
        size: how long.
        direction: of translation.
        corpus: of translation, one of CORPORA.
    """
    number = steps(model, size)
    bindings = _common(number, size.evaluations)
    if model == "t5":
        files, kind = [], "quickstart"
    else:
        files, kind = [_NO_DECODING], "offline_translation"
        bindings += [f'DIRECTION = "{direction}"', *CORPORA[corpus]]
        bindings += [
            f"WARMUP_STEPS = {_warmup(number)}",
            f"LEARNING_RATE = {_learning_rate(number)}",
        ]
    files = [f"{_GIN}/{kind}_{'guided' if setup.learned else 'baseline'}.gin", *files]
    if setup.rate:
        # Guidance comes after the optimizer that it guides.
        files = [
            f"{_GIN}/quickstart_baseline.gin",
            f"{_GIN}/rivals/adafactor.gin",
            f"{_GIN}/guidance/held_out.gin",
        ]
        bindings.append(f"RATE_IN_MOMENTUM = {setup.rate == 'inside'}")
    if setup.learned:
        bindings += _guided(setup.learned, setup.eta(number))
    if setup.beta1 is not None:
        bindings.append(f"BETA1 = {setup.beta1 or None}")
    return launch.Variant(setup.name(number), files, bindings)


def _common(steps: int, evaluations: int) -> list[str]:
    # As many as fit, of the same number of steps.
    number = next(n for n in range(evaluations, 0, -1) if steps % n == 0)
    return [
        f"TRAIN_STEPS = {steps}",
        f"EVAL_PERIOD = {steps // number}",
        f"CHECKPOINT_PERIOD = {steps}",
    ]


def _warmup(steps: int) -> int:
    """Of translation, in steps."""
    return steps // 2


def _learning_rate(steps: int) -> float:
    """Of translation, to three digits.

    T5's schedule peaks at the rate over the root of the warm-up: here, for any number of
    steps, where it does in the 600 of `offline_translation_baseline.gin`.
    """
    return float(f"{0.4 * math.sqrt(_warmup(steps) / 300):.3g}")


def _guided(learned: Sequence[str], eta: float) -> list[str]:
    return [f"HYPERPARAMS = {(*learned,)!r}", f"META_LEARNING_RATE = {eta!r}"]


def untuned(
    learned: Sequence[str],
    guided: bool,
    size: Size,
    corpus: str = "templates",
    direction: str = SEARCHED,
) -> launch.Variant:
    """A row of Table 2 that has one run: as Table 1 has it, in the steps of a trial."""
    setup = Setup(learned, REACH["translation"]) if guided else Setup()
    of_trial = dataclasses.replace(size, translation=size.trial)
    return variant("translation", setup, of_trial, direction, corpus)


def question(
    learned: Sequence[str],
    guided: bool,
    size: Size,
    corpus: str = "templates",
    direction: str = SEARCHED,
) -> search.Question:
    """A search of Table 2: over the hyper-parameters, or over η̂ that learns them."""
    of_trial = dataclasses.replace(size, evaluations=1)
    run = untuned(learned, guided, of_trial, corpus, direction)
    rate = _learning_rate(size.trial)
    of_baseline = {  # in place of learning: alpha is a factor on the learning rate
        "alpha": spaces.Setting("LEARNING_RATE", "log", 0.1 * rate, 10 * rate),
        "beta1": spaces.Setting("BETA1", "logit", 0.1, 0.99),
    }
    of_learning = [spaces.Setting("META_LEARNING_RATE", "log", 1e-4, 1e-1)]
    space = of_learning if guided else [of_baseline[name] for name in learned]
    names = {setting.name for setting in space}
    bindings = [b for b in run.bindings if macros.name_of(b) not in names]
    return search.Question(run.gin_files, bindings, space, size.seeds[0])


def finetuning(pretrained: str, task: str, checkpoint: str, size: Size) -> launch.Variant:
    """A run of Table 3, from a checkpoint of what was pre-trained."""
    last = size.pretraining + size.finetuning
    return launch.Variant(
        f"{pretrained}_{task}",
        [f"{_GIN}/quickstart_finetune_baseline.gin"],
        [
            f"TRAIN_STEPS = {last}",
            f"EVAL_PERIOD = {size.finetuning}",
            f"CHECKPOINT_PERIOD = {size.finetuning}",
            f'MIXTURE_OR_TASK_NAME = "{task}"',
            f'INITIAL_CHECKPOINT_PATH = "{checkpoint}"',
        ],
    )


def evaluation(direction: str, corpus: str) -> tuple[list[str], list[str]]:
    """The gin files and bindings that decode a test split."""
    files = [f"{_GIN}/offline_translation_eval.gin"]
    return files, [f'DIRECTION = "{direction}"', *CORPORA[corpus]]
