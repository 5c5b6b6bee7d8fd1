"""Spaces of settings, and Bayesian optimisation in them by Gaussian-process bandits.

The paper tunes its baselines so (Section 3.1; Frazier, 2018; Golovin et al., 2017). A
space has a scale for each setting, on which settings are drawn and the process sees them:

    linear    the number itself
    log       its logarithm, as alpha is learned
    logit     log(x / (1 - x)), as beta1 is learned
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import io
import math
import statistics
import warnings

from gbt_t5x import checks

INITIAL = 8  # points of a Sobol sequence, before there is a process
_LOWEST = 1e-12  # of the losses that are told apart
_NOISE = 1e-2  # variance of the targets' noise, over their own
_DIGITS = range(4, 18)  # of a setting; as many as its place takes
_PRECISION = 1e-3  # of a place

# Scale -> to it, from it, and the open interval that it takes.
_SCALES = {
    "linear": (lambda x: x, lambda y: y, (-math.inf, math.inf)),
    "log": (math.log, math.exp, (0.0, math.inf)),
    "logit": (lambda x: math.log(x / (1 - x)), lambda y: 1 / (1 + math.exp(-y)), (0, 1)),
}
Values = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting to be found.

    >>> setting = Setting.parse("BETA1", "logit:0.1:0.9")
    >>> str(setting), setting.value(0.5), setting.place(0.9)
    ('logit:0.1:0.9', 0.5, 1.0)

    Attributes:
        name: of a macro, or of a parameter as gin has it.
        scale: one of those above.
        low, high: the closed interval.
    """

    name: str
    scale: str
    low: float
    high: float

    @classmethod
    def parse(cls, name: str, text: str) -> "Setting":
        """The setting of SCALE:LOW:HIGH.

        Raises:
            ValueError: it is none, or its interval does not fit the scale.
        """
        scale, *ends = text.split(":")
        try:
            low, high = map(float, ends)
        except ValueError:
            low = high = math.nan
        lowest, highest = _SCALES.get(scale, (0, 0, (math.nan, math.nan)))[2]
        if not lowest < low < high < highest:
            raise ValueError(
                f"{name}={checks.show(text)} is not SCALE:LOW:HIGH, as log:1e-5:1e-1, "
                "logit:0.1:0.99 or linear:0:5, with LOW < HIGH in what the scale takes"
            )
        return cls(name, scale, low, high)

    def __str__(self) -> str:
        return f"{self.scale}:{self.low:g}:{self.high:g}"

    def value(self, place: float) -> float:
        """The value at a place between 0 and 1 of the interval, rounded."""
        to, back, _ = _SCALES[self.scale]
        low, high = to(self.low), to(self.high)
        exact = value = back(low + place * (high - low))
        for digits in _DIGITS:
            value = min(max(float(f"{exact:.{digits}g}"), self.low), self.high)
            if abs(self.place(value) - place) <= _PRECISION:
                break
        return value

    def place(self, value: float) -> float:
        """The inverse of `value`."""
        to = _SCALES[self.scale][0]
        low, high = to(self.low), to(self.high)
        return (to(value) - low) / (high - low)


def bindings(values: Values) -> list[str]:
    """A point as gin's `NAME = VALUE`."""
    return [f"{name} = {value!r}" for name, value in values.items()]


def suggest(
    space: Sequence[Setting],
    losses: Sequence[tuple[Values, float]],
    pending: Sequence[Values] = (),
    seed: int = 0,
) -> dict[str, float]:
    """The point to try next.

    The first ones are of a scrambled Sobol sequence. Then a Gaussian process (Matérn 5/2,
    a length for each setting) of the logarithms of the losses has the largest expected
    improvement there. A point whose loss is not finite counts as the worst of those that
    are, one that is pending as the mean: so that neither draws further points.

    Args:
        space: at least one setting.
        losses: points and what they gave, >= 0 or not finite, in their order.
        pending: points that are being tried, or whose trial said nothing of them.
        seed: the same arguments give the same point.
    """
    # SciPy and scikit-learn take a second to import.
    from scipy.stats import qmc

    number = len(losses) + len(pending)
    log = lambda loss: math.log(max(loss, _LOWEST))
    finite = [log(loss) for _, loss in losses if math.isfinite(loss)]
    if number < INITIAL or not finite:
        sobol = qmc.Sobol(len(space), rng=seed)
        with warnings.catch_warnings():  # about a number that is no power of 2
            warnings.simplefilter("ignore", UserWarning)
            places = sobol.random(number + 1)[-1]
        return {s.name: s.value(float(p)) for s, p in zip(space, places, strict=True)}

    import bayes_opt
    from sklearn import exceptions
    from sklearn.gaussian_process import kernels

    # Seeded by the number too: else every point is looked for at the same places.
    optimizer = bayes_opt.BayesianOptimization(
        None,
        {setting.name: (0.0, 1.0) for setting in space},
        acquisition_function=bayes_opt.acquisition.ExpectedImprovement(xi=0.0),
        random_state=(seed * 10_007 + number) % 2**32,
        verbose=0,
        allow_duplicate_points=True,
    )
    lengths = [0.3] * len(space), (0.05, 10.0)
    optimizer.set_gp_params(kernel=kernels.Matern(*lengths, nu=2.5), alpha=_NOISE)
    worst, mean = max(finite), statistics.fmean(finite)
    known = [(p, log(x) if math.isfinite(x) else worst) for p, x in losses]
    # bayesian-optimization 3.4 prints, to stdout, of points that are there twice.
    with contextlib.redirect_stdout(io.StringIO()):
        for point, target in [*known, *((point, mean) for point in pending)]:
            places = {s.name: s.place(point[s.name]) for s in space}
            optimizer.register(places, -target)
    with warnings.catch_warnings():  # about a length at its bound
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        found = optimizer.suggest()
    return {s.name: s.value(float(found[s.name])) for s in space}
