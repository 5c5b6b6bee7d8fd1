"""Settings that a run would ignore or refuse late, found once gin files are read.

Gin files import this module. From then on gin hands every configuration of t5x to
`check` before it is used.
"""

from collections.abc import Iterator, Mapping
import difflib
import os
import pathlib
import re
from typing import Any

from absl import flags
import gin
import t5x

from gbt_t5x import checks, gin as gin_files

Config = Mapping[tuple[str, str], Mapping[str, Any]]  # (scope, selector) -> parameters

_RATE, _SCHEDULE = "META_LEARNING_RATE", "SCHEDULE"
_COUNTS = ("GUIDANCE_BATCH_SIZE", "GUIDANCE_BATCHES", "GUIDANCE_PERIOD", "MAX_SKIPPED")
_GUIDED, _REPLAY = ("GuidedOptimizer", "GuidedTrainer"), "ReplayedOptimizer"
_DEFAULT_SCHEDULE = "create_learning_rate_scheduler"
_MICROBATCHES = "NUM_MICROBATCHES"
_OPTIONAL_COUNT = "EVALUATOR_NUM_EXAMPLES"  # None for all


def check(config: Config) -> None:
    """A finalize hook of gin.

    Raises:
        ValueError: a macro is set that nothing refers to, or stands for itself;
            guidance, a replay, a schedule, microbatches or arguments of an optax function
            are configured and not used; a number of guidance's rows, batches or steps is
            below 1, or its period longer than the run.
    """
    packages = {selector.partition(".")[0] for _, selector in config}
    if not packages.isdisjoint(("t5x", "gbt_t5x")):
        _check_macros(config)
        _check_guidance(config)
        _check_optimizer(config)
        _check_next_batch(config)
        _check_learning_rate(config)
        _check_transformation(config)
        _check_counts(config)


gin.config.register_finalize_hook(check)


def _check_macros(config: Config) -> None:
    """Raises ValueError if a macro that the user set has no effect.

    A macro of the command line is one that nothing refers to. In a file it is also one
    whose name no gin file of t5x or of this project knows: those of known names may lose
    their references to bindings that override them.
    """
    macros = {scope for scope, selector in config if selector == "gin.macro"}
    used = {
        "/".join(ref.scopes)
        for ref in gin.config.iterate_references(_reached(config))
        if ref.configurable.selector == "gin.macro"
    }
    unused = macros - used
    parts = {_part(selector) for _, selector in config}
    if _SCHEDULE in unused and _REPLAY not in parts:
        raise ValueError(
            f"{_SCHEDULE} is set, and the run does not replay it: include "
            "'gbt_t5x/gin/guidance/replay.gin' after its model and run files"
        )
    if _RATE in unused and parts.isdisjoint(_GUIDED):
        raise ValueError(
            f"{_RATE} is set, and the run is not guided: include "
            "'gbt_t5x/gin/guidance/adafactor.gin' or 'gbt_t5x/gin/guidance/held_out.gin' "
            "after its model and run files"
        )
    if _MICROBATCHES in unused and not parts.isdisjoint(_GUIDED):
        if _value(config, config[(_MICROBATCHES, "gin.macro")].get("value")) is not None:
            raise ValueError(
                f"{_MICROBATCHES} is set, and nothing refers to it: set "
                "trainer.Trainer.num_microbatches, which guidance takes too"
            )
    in_files = unused - _of_command_line()
    if in_files:
        known = set().union(*map(_names, _gin_files()))
        unused -= in_files & known
    if not unused:
        return
    near = {
        name: difflib.get_close_matches(name, used & macros or macros, n=2)
        for name in sorted(unused)
    }
    offers = "; ".join(
        f"{name}, near {' and '.join(others)}" if others else name
        for name, others in near.items()
    )
    raise ValueError(
        f"nothing refers to these macros: {offers}. Correct the name, include the gin "
        "file that uses it, or remove it"
    )


def _reached(config: Config) -> Config:
    """What is not in a scope that nothing is called in, nor a part of guidance unused.

    As the guidance data of a run that the next training batch guides.
    """
    references = [*gin.config.iterate_references(config)]
    scopes = {scope for ref in references for scope in ref.scopes}
    used = {ref.configurable.selector for ref in references}
    return {
        (scope, selector): parameters
        for (scope, selector), parameters in config.items()
        if selector == "gin.macro"
        or (
            scopes.issuperset(scope.split("/") if scope else ())
            and (selector in used or not _part(selector))
        )
    }


def _of_command_line() -> set[str]:
    """Macros that --gin.NAME=VALUE sets."""
    if "gin_bindings" not in flags.FLAGS or not flags.FLAGS.is_parsed():
        return set()
    bindings = flags.FLAGS["gin_bindings"].value or ()
    return {binding.partition("=")[0].strip() for binding in bindings}


def _gin_files() -> Iterator[pathlib.Path]:
    """Those of t5x, and those of this project."""
    for package in (t5x, gin_files):
        for folder, _, names in os.walk(package.__path__[0], followlinks=True):
            yield from (
                pathlib.Path(folder, name) for name in names if name.endswith(".gin")
            )


def _names(gin_file: pathlib.Path) -> set[str]:
    """The macros that it sets."""
    text = gin_file.read_text(encoding="utf-8")
    return set(re.findall(r"^(\w+)\s*=", text, re.MULTILINE))


def _check_guidance(config: Config) -> None:
    """Raises ValueError if a part of guidance, or its replay, is set up and not used.

    With η̂ = 0 T5X's own trainer computes the same (`gin/guidance/frozen.gin`).
    """
    used_parts = _used_parts(config)
    unused = {_part(selector) for _, selector in config} - used_parts - {""}
    rates = [
        _value(config, parameters["meta_learning_rate"])
        for (_, selector), parameters in config.items()
        if "meta_learning_rate" in parameters and _part(selector)
    ]
    learns = any(
        any(rate.values()) if isinstance(rate, Mapping) else rate != 0 for rate in rates
    )
    if _REPLAY in used_parts and unused.intersection(_GUIDED):
        raise ValueError(
            "gin/guidance/replay.gin trains without guidance, and guidance is configured "
            "too: include it, or the gin file of gbt_t5x.studies.schedules, after the "
            "model and run files alone"
        )
    if unused & {_GUIDED[0], _REPLAY} or (unused and (learns or not rates)):
        raise ValueError(
            f"guidance is configured, and {' and '.join(sorted(unused))} not used: a "
            "file after those of gin/guidance took its place. Include "
            "'gbt_t5x/gin/guidance/...' after the model and run files"
        )


def _check_optimizer(config: Config) -> None:
    """Raises ValueError if the model of a guided run has an optimizer that is not."""
    used_parts = _used_parts(config)
    is_wrapped = not used_parts.isdisjoint((_GUIDED[0], _REPLAY))
    for (_, selector), parameters in config.items():
        made_by = _value(config, parameters.get("optimizer_def"))
        optimizer = getattr(made_by, "configurable", None)
        if optimizer and is_wrapped and not _part(optimizer.selector):
            name = f"{'.'.join(selector.split('.')[-2:])}.optimizer_def"
            part = "optimizers.GuidedOptimizer"
            if _REPLAY in used_parts:
                part = "replay.ReplayedOptimizer"
            raise ValueError(
                f"{name} is @{optimizer.selector}, and gin/guidance sets that of "
                f"models.EncoderDecoderModel alone: set {name} = @{part}() after it, of "
                "gbt_t5x"
            )


def _check_next_batch(config: Config) -> None:
    """Raises ValueError if a run by the next batch is given guidance data too."""
    for scope, selector in config:
        data = config.get(("", selector), {}).get("guidance_dataset_cfg")
        if scope == "next_batch" and _part(selector) and data is not None:
            raise ValueError(
                "a file after gin/guidance/next_batch.gin gives guidance data: include "
                "'gbt_t5x/gin/guidance/next_batch.gin' last"
            )


def _check_learning_rate(config: Config) -> None:
    """Raises ValueError if T5X's trainer has a schedule of its own, and is not used."""
    schedules = {
        selector.rpartition(".")[2]: _value(config, parameters["learning_rate_fn"])
        for (_, selector), parameters in config.items()
        if "learning_rate_fn" in parameters
    }
    own, guided = (
        getattr(schedules.get(name), "selector", "") for name in ("Trainer", _GUIDED[1])
    )
    is_default = lambda selector: selector.endswith(_DEFAULT_SCHEDULE)
    if own and is_default(guided) and not is_default(own):
        raise ValueError(
            f"trainer.Trainer.learning_rate_fn is @{own}, which guidance does not use: "
            f"set LEARNING_RATE_FN = @{own}() after the files of gin/guidance"
        )


def _check_transformation(config: Config) -> None:
    """Raises ValueError for settings of the function that OptaxOptimizer calls."""
    for parameters in config.values():
        made_by = parameters.get("transformation")
        if not isinstance(made_by, gin.config.ConfigurableReference):
            continue
        selector = made_by.configurable.selector
        own = {
            name for (_, of), more in config.items() if of == selector for name in more
        }
        if own:
            raise ValueError(
                f"{selector} has {', '.join(sorted(own))} in gin, which OptaxOptimizer "
                "does not take: set "
                f"{', '.join(f'OptaxOptimizer.{name}' for name in sorted(own))}"
            )


def _check_counts(config: Config) -> None:
    """Raises ValueError for counts that GuidedTrainer or seqio would refuse later.

    And for a period of guidance that is longer than the run, which would learn nothing.
    """

    def of(macro: str, default: Any) -> Any:
        return _value(config, config.get((macro, "gin.macro"), {}).get("value", default))

    for macro in (*_COUNTS, _OPTIONAL_COUNT):
        value = of(macro, 1)
        is_optional = value is None and macro == _OPTIONAL_COUNT
        is_called = isinstance(value, gin.config.ConfigurableReference)
        if not (is_optional or is_called or value is gin.REQUIRED):
            checks.check_count(macro, value)
    period, steps = of("GUIDANCE_PERIOD", 1), of("TRAIN_STEPS", None)
    if isinstance(steps, int) and isinstance(period, int) and 1 <= steps < period:
        raise ValueError(
            f"GUIDANCE_PERIOD={period}: none of TRAIN_STEPS={steps} would learn: set "
            "GUIDANCE_PERIOD"
        )


def _used_parts(config: Config) -> set[str]:
    """The parts of guidance that something refers to; '' of all others."""
    references = gin.config.iterate_references(config)
    return {_part(ref.configurable.selector) for ref in references}


def _part(selector: str) -> str:
    """Which part of guidance a selector names, if any; its module may have an alias."""
    name = selector.rpartition(".")[2]
    is_part = name in (*_GUIDED, _REPLAY) and selector.startswith("gbt_t5x.")
    return name if is_part else ""


def _value(config: Config, value: Any) -> Any:
    """What a macro stands for; other values as they are.

    Raises:
        ValueError: it stands for itself.
    """
    seen = set()
    while isinstance(value, gin.config.ConfigurableReference):
        if value.configurable.selector != "gin.macro":
            return value
        if value.config_key in seen:
            raise ValueError(f"the macro {value} stands for itself: set it to a value")
        seen.add(value.config_key)
        value = config.get(value.config_key, {}).get("value")
    return value
