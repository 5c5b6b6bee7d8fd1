"""Compares two evaluations of a translation task: BLEU, chrF and some translations.

Command: python scripts/translations.py --baseline DIR --guided DIR [--examples N]

DIR is an EVAL_OUTPUT_DIR of t5x.eval. The numbers and the texts come from the JSON lines
in its inference_eval/.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib

from gbt_t5x.studies import commands

METRICS = {"bleu": "BLEU", "chrf": "chrF"}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluation of one checkpoint.

    Attributes:
        task: name of the task.
        step: of the checkpoint.
        metrics: name -> value.
        sources: texts, in the order of the split.
        references: likewise.
        predictions: likewise.
    """

    task: str
    step: int
    metrics: Mapping[str, float]
    sources: Sequence[str]
    references: Sequence[str]
    predictions: Sequence[str]


def _json_lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read(output_dir: pathlib.Path) -> Evaluation:
    """Reads the newest evaluation of a folder.

    Raises:
        SystemExit: no evaluation, or those of several tasks.
    """
    suffix = "-metrics.jsonl"
    folder = output_dir / "inference_eval"
    files = sorted(folder.glob("*" + suffix))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise SystemExit(f"translations: {folder} must hold one evaluated task: {names}")
    metrics = _json_lines(files[0])[-1]
    task, step = files[0].name.removesuffix(suffix), metrics.pop("step")
    examples = _json_lines(folder / f"{task}-{step:06}.jsonl")
    return Evaluation(
        task=task,
        step=step,
        metrics=metrics,
        sources=[example["input"]["inputs_pretokenized"] for example in examples],
        references=[example["target"] for example in examples],
        predictions=[example["prediction"] for example in examples],
    )


def table(baseline: Evaluation, guided: Evaluation) -> str:
    """The metrics, as aligned text."""
    rows = [("", "baseline", "guided"), ("step", str(baseline.step), str(guided.step))]
    rows += [
        (title, f"{baseline.metrics[name]:.2f}", f"{guided.metrics[name]:.2f}")
        for name, title in METRICS.items()
    ]
    lines = [f"{a:<36}{b:>12}{c:>12}" for a, b, c in rows]
    heading = f"Task {baseline.task}, {len(baseline.sources)} examples by beam search"
    return "\n".join([heading, *lines])


def translations(baseline: Evaluation, guided: Evaluation, count: int) -> str:
    """`count` examples at even distances, each with reference and both predictions."""
    indices = range(0, len(baseline.sources), max(1, len(baseline.sources) // count))
    blocks = []
    for i in indices[:count]:
        texts = {
            "source": baseline.sources[i],
            "reference": baseline.references[i],
            "baseline": baseline.predictions[i],
            "guided": guided.predictions[i],
        }
        blocks.append("\n".join(f"{k:<11}{text}" for k, text in texts.items()))
    return "\n\n".join(blocks)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--guided", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--examples", type=commands.number(int), default=10, metavar="N")
    args = parser.parse_args(argv)

    baseline, guided = read(args.baseline), read(args.guided)
    if (baseline.task, baseline.sources) != (guided.task, guided.sources):
        raise SystemExit(
            f"translations: {args.baseline} and {args.guided} evaluate different "
            f"examples, of {baseline.task} and {guided.task}"
        )
    print(table(baseline, guided))
    print()
    print(translations(baseline, guided, args.examples))


if __name__ == "__main__":
    main()
