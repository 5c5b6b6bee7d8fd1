"""What a user would pick in place of guidance, and the settings to tune it by.

A rival has 16 settings. The first is what its documentation, or the corpus's own
configuration, recommends; the first 4 are a coarse search and all 16 a fine one, over the
peak learning rate by factors of 2, then √2, and one setting more. Guided runs have one.

On the corpus's own optimizer, Adafactor or LAMB:

    t5_default: the corpus's own schedule, which for the quickstart is a constant rate.
    constant: after a warm-up; of translation alone, as it is the quickstart's default.
    linear, cosine: falls to 0 by the last step, without warm-up.
    warmup_stable_decay: 5 % of the steps rise, the last 20 % fall.

Adafactor keeps momentum in some settings, and LAMB less of it.

Of optax, with a warm-up of 5 % of the steps:

    adamw, muon: cosine. Muon's updates are as large as AdamW's: one rate does for both.
    prodigy: cosine, from near 1.
    schedule_free_adamw: constant, by its own warm-up, evaluated at its average.

Left out: `mechanize`, which takes no learning rate of the trainer's and, by its own
documentation, is not for LAMB; `momo` and `momo_adam`, whose updates need the loss, which
T5X does not hand to optimizers; `dog`, `dowg`, `cocob` and `dadapt_adamw`, which estimate
the rate as Prodigy does, which came after them.
"""

from collections.abc import Sequence
import dataclasses

from gbt_t5x.studies import launch, macros

CORPORA = ("quickstart", "offline_translation")
BASELINE = "t5_default"
BUDGETS = (1, 4, 16)
_GIN = "gbt_t5x/gin"
_WARMUP, _DECAY = 0.05, 0.2  # of the steps

# Settings in order: the base-2 logarithm of the rate over the first one's, and which of
# two values the second setting has.
_AROUND = (
    *((0, 0), (1, 0), (-1, 0), (0, 1)),
    *((1, 1), (-1, 1), (2, 0), (-2, 0), (2, 1), (-2, 1)),
    *((0.5, 0), (-0.5, 0), (0.5, 1), (-0.5, 1), (1.5, 0), (-1.5, 0)),
)
# For a rate that falls to 0, or one whose first value is careful.
_UPWARD = (
    *((0, 0), (1, 0), (2, 0), (1, 1)),
    *((2, 1), (0, 1), (3, 0), (-1, 0), (3, 1), (-1, 1)),
    *((1.5, 0), (1.5, 1), (0.5, 0), (2.5, 0), (0.5, 1), (2.5, 1)),
)


@dataclasses.dataclass(frozen=True)
class Rival:
    """A configuration and its settings.

    Attributes:
        name: of the tables.
        gin_files: as of `--gin_file`.
        bindings: of all its runs.
        settings: the bindings of each, in order.
        is_guided: whether it is what the others are rivals of.
    """

    name: str
    gin_files: Sequence[str]
    bindings: Sequence[str]
    settings: Sequence[Sequence[str]]
    is_guided: bool = False

    def variant(self, setting: int) -> launch.Variant:
        """The configuration of a setting, counted from 1."""
        bindings = [*self.bindings, *self.settings[setting - 1]]
        return launch.Variant(f"{self.name}_{setting:02d}", self.gin_files, bindings)


def rivals(corpus: str, bindings: Sequence[str] = ()) -> list[Rival]:
    """All of a corpus, the baseline first.

    Args:
        corpus: one of CORPORA.
        bindings: of all of them, as `NAME = VALUE`; the macros of guidance are those of
            the guided runs alone.

    Raises:
        ValueError: TRAIN_STEPS is no number of at least 10.
    """
    baseline, guided, recipe = (
        f"{_GIN}/{corpus}_{method}.gin" for method in ("baseline", "guided", "recipe")
    )
    unguided = macros.of_both(bindings, guided, baseline)
    unguided = macros.of_both(unguided, recipe, baseline)
    steps = macros.read([guided], bindings)["TRAIN_STEPS"]
    if not isinstance(steps, int) or steps < 10:
        raise ValueError(f"TRAIN_STEPS={steps} must be a number of at least 10")
    warmup, decay = round(_WARMUP * steps) or 1, round(_DECAY * steps)

    def rival(name, files, settings, more=()):
        files = [baseline, *_own("losses", *files)]
        return Rival(name, files, [*unguided, *more], settings)

    after = [f"WARMUP_STEPS = {warmup}", f"DECAY_STEPS = {steps - warmup}"]
    stable = [
        f"WARMUP_STEPS = {warmup}",
        f"DECAY_STEPS = {decay}",
        f"DECAY_START = {steps - decay}",
    ]
    if corpus == "quickstart":
        default = "utils.create_learning_rate_scheduler.base_learning_rate", 1.0
        peak, grid, momentum = 0.01, _UPWARD, ("BETA1", "None", "0.9")
    else:
        default = "LEARNING_RATE", 0.4
        peak, grid, momentum = 0.02, _AROUND, ("BETA1", "0.9", "0.7")
    rate = "PEAK_RATE"
    found = [rival(BASELINE, [], _settings(*default, _AROUND, *momentum))]
    if corpus != "quickstart":
        constant = _settings(rate, peak, _AROUND, *momentum)
        found.append(rival("constant", ["constant"], constant, after[:1]))
    own = _settings(rate, peak, grid, *momentum)
    found += [
        rival("linear", ["linear"], own),
        rival("cosine", ["cosine"], own),
        rival("warmup_stable_decay", ["warmup_stable_decay"], own, stable),
        rival(
            "adamw",
            ["warmup_cosine", "adamw"],
            _settings(rate, 1e-3, _UPWARD, "BETA2", "0.999", "0.95"),
            after,
        ),
        rival(
            "schedule_free_adamw",
            ["schedule_free_adamw"],
            _settings(rate, 2.5e-3, _UPWARD, "AVERAGING", "0.9", "0.98"),
            after[:1],
        ),
        rival(
            "prodigy",
            ["warmup_cosine", "prodigy"],
            _settings(rate, 1.0, _AROUND, "BETA2", "0.999", "0.99"),
            after,
        ),
        rival(
            "muon",
            ["warmup_cosine", "muon"],
            _settings(rate, 1e-3, _UPWARD, "MOMENTUM", "0.95", "0.9"),
            after,
        ),
    ]
    _check_own(found, bindings)
    return [*found, *_guided(guided, recipe, bindings)]


def _check_own(found: Sequence[Rival], bindings: Sequence[str]) -> None:
    """Raises ValueError for a binding of what a rival's settings or schedule bind."""
    own = {
        macros.name_of(b)
        for rival in found
        for b in (*rival.bindings, *(b for s in rival.settings for b in s))
        if b not in bindings
    }
    for name in map(macros.name_of, bindings):
        if name in own:
            raise ValueError(
                f"--gin.{name}: rivals have a {name} of their own, by their settings: "
                "leave it out"
            )


def _guided(guided: str, recipe: str, bindings: Sequence[str]) -> list[Rival]:
    def one(name, bindings, *files):
        return Rival(name, [*files, *_own("losses")], bindings, [()], is_guided=True)

    own = macros.of_both(bindings, recipe, guided)
    return [
        one("guided", own, guided),
        one("next_batch", own, guided, f"{_GIN}/guidance/next_batch.gin"),
        one("recipe", bindings, recipe),
    ]


def _own(*names: str) -> list[str]:
    return [f"{_GIN}/rivals/{name}.gin" for name in names]


def _settings(
    rate: str, first: float, grid: Sequence[tuple[float, int]], second: str, *values: str
) -> list[tuple[str, ...]]:
    """The bindings of each setting: a rate, and one of two values.

    >>> _settings("RATE", 0.01, [(0, 0), (0.5, 1)], "BETA1", "None", "0.9")
    [('RATE = 0.01', 'BETA1 = None'), ('RATE = 0.0141', 'BETA1 = 0.9')]
    """
    return [
        (f"{rate} = {float(f'{first * 2**power:.3g}')}", f"{second} = {values[which]}")
        for power, which in grid
    ]
