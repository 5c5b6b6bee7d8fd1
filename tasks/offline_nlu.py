"""Classification and question answering about CPython's source: no download needed.

Three tasks in the formats of GLUE and SQuAD, about the modules, classes and functions
that `cpython_docs` finds:

- `offline_kind`: whether a sentence begins the docstring of a class or of a function.
- `offline_module`: which of eight packages a sentence comes from.
- `offline_questions`: the default or the place of a parameter, asked of a signature and
  docstring as `pydoc` shows them, in SQuAD's format.

`offline_nlu` is their mixture. Examples go to splits by a hash of the sentence, which no
two splits share, and fit INPUT_BYTES and TARGET_BYTES. They differ a little between
versions of Python.
"""

import ast
import collections
from collections.abc import Callable, Iterator
import functools
import itertools
import re
from typing import Any, NamedTuple

import seqio
from t5.data import postprocessors, preprocessors
from t5.evaluation import metrics
import tensorflow as tf

from gbt_t5x.tasks import autograph, cpython_docs, splits

INPUT_BYTES, TARGET_BYTES = 127, 31  # and the end of the sequence: 128 and 32 tokens
KINDS = ("function", "class")
PACKAGES = (
    "asyncio",
    "email",
    "http",
    "importlib",
    "logging",
    "tkinter",
    "unittest",
    "xml",
)
SPLITS = ("train", "guidance", "validation")
_PERCENT = {"guidance": 5, "validation": 12}  # training has the rest
_MAX_SENTENCES = 400  # of one package
_MAX_SAME_ANSWER = 250  # questions

Example = dict[str, Any]


def split_of(sentence: str) -> str:
    """The split of the examples about a sentence."""
    return splits.split_of(sentence, _PERCENT, whole=100)


def _sentences(docstring: str) -> list[str]:
    paragraphs = (" ".join(text.split()) for text in docstring.split("\n\n"))
    return [s for text in paragraphs for s in re.split(r"(?<=[.!?]) ", text) if s]


class _Object(NamedTuple):
    """A documented object, the package that it is in, and its docstring's sentences."""

    package: str
    node: Any
    sentences: list[str]


@functools.cache
def _objects() -> list[_Object]:
    """In an order that mixes the packages. No two begin with the same sentence."""
    objects: dict[str, _Object] = {}
    for path, documented in cpython_docs.sources():
        package = path.split("/")[0].removesuffix(".py")
        for node, docstring in documented:
            node.body = []  # what it documents is listed itself; the rest is let go
            if sentences := _sentences(docstring):
                found = _Object(package, node, sentences)
                objects.setdefault(sentences[0], found)
    return [objects[sentence] for sentence in sorted(objects, key=splits.hash_of)]


def _kinds() -> Iterator[tuple[str, Example]]:
    """(sentence, example) of offline_kind: as many functions as classes."""
    objects = [o for o in _objects() if not isinstance(o.node, ast.Module)]
    labels = [int(isinstance(o.node, ast.ClassDef)) for o in objects]
    left = dict.fromkeys((0, 1), min(sum(labels), len(labels) - sum(labels)))
    for (_, _, (sentence, *_)), label in zip(objects, labels, strict=True):
        left[label] -= 1
        if left[label] >= 0:
            yield sentence, {"sentence": sentence, "label": label}


def _modules() -> Iterator[tuple[str, Example]]:
    """(sentence, example) of offline_module."""
    count: collections.Counter[str] = collections.Counter()
    seen: set[str] = set()
    for package, _, sentences in _objects():
        for sentence in sentences:
            if package in PACKAGES and package not in sentence.lower():
                if sentence not in seen and len(sentence) >= 30:
                    seen.add(sentence)
                    count[package] += 1
                    if count[package] <= _MAX_SENTENCES:
                        label = PACKAGES.index(package)
                        yield sentence, {"sentence": sentence, "label": label}


def _is_scored(answer: str) -> bool:
    """Whether anything is left without articles and punctuation, as SQuAD scores."""
    return answer not in ("a", "an", "the") and any(map(str.isalnum, answer))


def _questions() -> Iterator[tuple[str, Example]]:
    """(sentence, example) of offline_questions."""
    count: collections.Counter[str] = collections.Counter()
    for _, node, (sentence, *_) in _objects():
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = [a.arg for a in node.args.posonlyargs + node.args.args]
        defaults = map(ast.unparse, node.args.defaults)
        pairs = zip(reversed(names), reversed(list(defaults)), strict=False)
        asked = [(f"default of {name}", default) for name, default in pairs]
        asked += [(f"parameter after {a}", b) for a, b in itertools.pairwise(names)]
        context = f"{node.name}({ast.unparse(node.args)}) {sentence}"
        for question, answer in asked:
            count[answer] += 1
            if count[answer] <= _MAX_SAME_ANSWER and _is_scored(answer):
                yield (
                    sentence,
                    {"context": context, "question": question, "answer": answer},
                )


def _source(
    examples: Callable[[], Iterator[tuple[str, Example]]],
) -> seqio.FunctionDataSource:
    @functools.cache
    def of_split(split: str) -> list[Example]:
        return [
            example for sentence, example in examples() if split_of(sentence) == split
        ]

    def dataset(
        split: str, shuffle_files: bool, seed: int | None = None
    ) -> tf.data.Dataset:
        del shuffle_files, seed  # seqio shuffles the examples
        found = of_split(split)
        columns = {name: [example[name] for example in found] for name in found[0]}
        columns["idx"] = list(range(len(found)))
        return tf.data.Dataset.from_tensor_slices(columns)

    return seqio.FunctionDataSource(dataset, splits=SPLITS)


@seqio.map_over_dataset
def _as_squad(example):
    return {
        "id": tf.strings.as_string(example["idx"]),
        "context": example["context"],
        "question": example["question"],
        "answers": {"text": example["answer"][None]},
    }


def _fit(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Drops the examples that are too long."""
    return dataset.filter(
        lambda example: (
            (tf.strings.length(example["inputs"]) <= INPUT_BYTES)
            & (tf.strings.length(example["targets"]) <= TARGET_BYTES)
        )
    )


def _add_task(
    name: str,
    examples: Callable[[], Iterator[tuple[str, Example]]],
    to_text: list[Callable],
    postprocess_fn: Callable,
    metric_fns: list[Callable],
) -> None:
    feature = seqio.Feature(cpython_docs.VOCABULARY, add_eos=True)
    seqio.TaskRegistry.add(
        name,
        source=_source(examples),
        preprocessors=autograph.off(
            [
                *to_text,
                _fit,
                seqio.preprocessors.tokenize,
                seqio.CacheDatasetPlaceholder(),
                seqio.preprocessors.append_eos_after_trim,
            ]
        ),
        output_features={"inputs": feature, "targets": feature},
        postprocess_fn=postprocess_fn,
        metric_fns=metric_fns,
    )


for _name, _examples, _labels, _metric_fns in (
    (
        "offline_kind",
        _kinds,
        KINDS,
        [metrics.f1_score_with_invalid, metrics.accuracy],
    ),
    ("offline_module", _modules, PACKAGES, [metrics.accuracy]),
):
    _add_task(
        _name,
        _examples,
        [
            functools.partial(
                preprocessors.glue, benchmark_name=_name, label_names=list(_labels)
            )
        ],
        functools.partial(
            postprocessors.string_label_to_class_id, label_classes=list(_labels)
        ),
        _metric_fns,
    )

_add_task(
    "offline_questions",
    _questions,
    [_as_squad, preprocessors.squad],
    postprocessors.qa,
    [metrics.squad],
)

seqio.MixtureRegistry.add(
    "offline_nlu",
    ["offline_kind", "offline_module", "offline_questions"],
    default_rate=1.0,
)
