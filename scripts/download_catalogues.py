"""Makes translation pairs of the message catalogues in wheels that pip downloads.

Command: python scripts/download_catalogues.py

Writes `train.tsv`, `guidance.tsv`, `validation.tsv` and `test.tsv` for German, Finnish
and Lithuanian with English, where the tasks `catalogues_de_en`, `catalogues_en_de`, ...
read them: `$GBT_T5X_DATA_DIR/catalogues/de-en/`. Nothing is installed. Texts are their
projects', under the licences in their wheels.

A pair is a message as people translated it, without its context and mnemonics, with its
placeholders numbered: `{1}`. Of a plural it is the singular. Dropped are messages with
markup, whose placeholders differ, that are not translated, and repeats. A hash of the
English says which split has a pair, the same one in each language. What is like a text of
a split that is measured on, in either language, is dropped from those it is trained on.

Cost: 160 MB to download, and half a minute.
"""

import argparse
import collections
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple
import unicodedata
import zipfile

# TensorFlow, which tasks import, does nothing here: no log lines about its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from babel.messages import mofile, pofile
from etils import epath
import numpy as np
from sklearn.feature_extraction import text as features
import tqdm

from gbt_t5x.tasks import catalogues, splits

# Wheel -> its SHA-256.
WHEELS = {
    "django-5.2.19-py3-none-any.whl": "5965d974a5218a2b68a11dd1276434707f23886525c23f0598"
    "eccedaf4f4ca00",
    "gramps-6.0.8-py3-none-any.whl": "56f03bcb643320eb9f9892d4c3f8bbe7c4c4d2e4c71e56f598"
    "584af24561ec1c",
    "plone_app_locales-7.0.4-py3-none-any.whl": "de96a5d0dc1fe5ab540fa6f993805c09da80a95"
    "18aa7a309e8cd1f433e3ae6aa",
    "pretix-2026.8.0-py3-none-any.whl": "a78932e698778d873530d67f25a57c28d1c09b1bfb1a22e"
    "c817c00d90397db85",
    "wagtail-8.0.1-py3-none-any.whl": "1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c3"
    "1bf5ec30c98b26c",
    "weblate-5.14.3-py3-none-any.whl": "0bc2c5a49ebc496758e89f08d5ec9d1b226e8aba2cff7744"
    "a18ab9f235dca816",
}
# Of the pairs, in order: what is like a text of one goes from those after it, and from
# training, which has the rest.
SHARES = {"test": 0.06, "validation": 0.03, "guidance": 0.06}
ALIKE = 0.8  # cosine of the TF-IDF of two texts' 3- to 5-grams of letters
LONGEST = 300  # letters

_PLACEHOLDER = re.compile(
    r"%\((?P<named>\w+)\)[-#0+.\d]*[a-z]|\$?\{(?P<braced>[^{}]*)\}|%[-#0+.\d]*[sdifrgxc]\b"
)
_MARKUP = re.compile(r"</?\w[^<>]*>|&#?\w+;|\\[a-z]|\]\(|`")
_IDENTIFIER = re.compile(r"\w*_\w+|[a-z]+([A-Z]\w*)+")


class Message(NamedTuple):
    """A message and its translation, as a catalogue has them."""

    english: str
    other: str


def wheels(folder: pathlib.Path, pinned: Mapping[str, str]) -> list[pathlib.Path]:
    """Downloads the wheels that are not in the folder.

    Args:
        folder: has them afterwards.
        pinned: file name -> SHA-256.

    Raises:
        ValueError: pip failed, or a wheel is not the one that is pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in tqdm.tqdm(pinned.items(), desc="wheels", mininterval=1):
        file = folder / name
        if not file.exists():
            package, version, *_ = name.split("-")
            command = ["-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary=:all:", f"--dest={folder}"]
            done = subprocess.run(
                [sys.executable, *command, f"{package}=={version}"],
                capture_output=True,
                text=True,
            )
            if done.returncode or not file.exists():
                errors = [x for x in done.stderr.splitlines() if x.startswith("ERROR")]
                raise ValueError(
                    f"pip did not download {name}: "
                    f"{errors[-1] if errors else 'another file came'}"
                )
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != digest:
            raise ValueError(
                f"{file} has SHA-256 {found}, and {digest} is pinned: delete it, and it "
                "is downloaded again"
            )
    return [folder / name for name in pinned]


def messages(wheel: pathlib.Path, language: str) -> list[Message]:
    """What a wheel has in a language, as it is there.

    Raises:
        ValueError: it has no catalogue in that language.
    """
    found = []
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if f"/{language}/LC_MESSAGES/" in n]
        if not names:
            raise ValueError(f"{wheel} has no catalogue in the language {language!r}")
        for name in sorted(names):
            if name.endswith(".po"):
                # Babel takes gettext's own placeholder in one of the two dates alone.
                data = archive.read(name).replace(
                    b"YEAR-MO-DA HO:MI +ZONE", b"2000-01-01 00:00+0000"
                )
                with contextlib.redirect_stdout(io.StringIO()):  # of odd comments
                    catalogue = pofile.read_po(io.BytesIO(data))
            elif name.endswith(".mo") and f"{name[:-3]}.po" not in names:
                catalogue = mofile.read_mo(io.BytesIO(archive.read(name)))
            else:
                continue
            for message in catalogue:
                english, other = (
                    x if isinstance(x, str) else x[0] if x else ""
                    for x in (message.id, message.string)
                )
                for comment in message.auto_comments:  # Plone's messages have names
                    if default := re.fullmatch(r'Default: "(.*)"', comment, re.DOTALL):
                        english = default[1]
                if english and other and not message.fuzzy:
                    found.append(Message(english, other))
    return found


def clean(message: Message) -> Message | str:
    """The message as a pair of sentences, or why it is none."""
    numbers: dict[str, str] = {}

    def number(match: re.Match) -> str:
        name = match["named"] or match["braced"] or f"no name, {match[0]}"
        return numbers.setdefault(name, f"{{{len(numbers) + 1}}}")

    texts = []
    for text in message:
        if _MARKUP.search(text):
            return "markup"
        text = unicodedata.normalize("NFC", text.replace("%%", "%"))
        text = re.sub(r"(?<![\w_])_(?=\w)", "", text)  # a menu's mnemonic
        texts.append(" ".join(_PLACEHOLDER.sub(number, text).split()))
    english, other = texts
    found = [sorted(re.findall(r"\{\d+\}", text)) for text in texts]
    if found[0] != found[1]:
        return "other placeholders"
    if english.casefold() == other.casefold() or _IDENTIFIER.fullmatch(english):
        return "not translated"
    if not all(any(map(str.isalpha, re.sub(r"\{\d+\}", "", text))) for text in texts):
        return "no words"
    if max(map(len, texts)) > LONGEST:
        return "too long"
    return Message(english, other)


def _key(text: str) -> str:
    """What two texts share that differ in case, numbers and punctuation alone."""
    return " ".join(re.findall(r"[^\W\d_]+", text.casefold()))


def _hash(text: str) -> float:
    """In [0, 1), by the text alone."""
    return splits.hash_of(_key(text)) / 2**64


def split_of(english: str) -> str:
    """The split that a message belongs to, by its words."""
    place = _hash(english)
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    return "train"


def divide(pairs: Sequence[Message]) -> tuple[dict[str, list[Message]], int]:
    """Split -> pairs in random order, none alike in two; and how many were dropped."""
    of_split: dict[str, list[Message]] = {split: [] for split in (*SHARES, "train")}
    for pair in sorted(pairs, key=lambda pair: (_hash(pair.english), pair)):
        of_split[split_of(pair.english)].append(pair)
    dropped = 0
    measured: list[Message] = []
    for split, found in of_split.items():
        drops = alike(found, measured)
        kept = [pair for pair, drop in zip(found, drops, strict=True) if not drop]
        dropped += len(found) - len(kept)
        of_split[split] = kept
        measured += kept
    return of_split, dropped


def alike(pairs: Sequence[Message], others: Sequence[Message]) -> np.ndarray:
    """Of each pair whether a text of it is like one of the others': (pairs,), bool."""
    found = np.zeros(len(pairs), bool)
    if not pairs or not others:
        return found
    for side in range(2):
        texts, known = ([_key(pair[side]) for pair in x] for x in (pairs, others))
        grams = features.TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True
        ).fit([*known, *texts])
        index = grams.transform(known).T.tocsc()
        for start in range(0, len(texts), 1024):
            near = grams.transform(texts[start : start + 1024]) @ index
            found[start : start + 1024] |= near.max(axis=1).toarray().ravel() >= ALIKE
    return found


def corpus(files: Sequence[pathlib.Path], language: str) -> Iterator[str]:
    """Writes a language's files. Yields what to print of them."""
    reasons: collections.Counter[str] = collections.Counter()
    pairs: dict[tuple[str, str], Message] = {}
    for file in tqdm.tqdm(files, desc=language, mininterval=1):
        for message in messages(file, language):
            pair = clean(message)
            if isinstance(pair, str):
                reasons[pair] += 1
            elif (key := (_key(pair.english), _key(pair.other))) in pairs:
                reasons["repeats"] += 1
            else:
                pairs[key] = pair
    of_split, reasons["like others"] = divide(list(pairs.values()))
    folder = epath.Path(catalogues.folder(language))  # a bucket's too
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in of_split.items():
        new = folder / f"{split}.tsv.new"
        new.write_text("".join(f"{x.other}\t{x.english}\n" for x in found), "utf-8")
        new.replace(folder / f"{split}.tsv")  # whole, or not there
        words = sum(len(pair.english.split()) for pair in found)
        yield f"{folder / split}.tsv: {len(found):,} pairs, {words:,} English words"
    yield f"  dropped: {', '.join(f'{n:,} {reason}' for reason, n in reasons.items())}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--wheels",
        type=pathlib.Path,
        metavar="FOLDER",
        help="where the wheels are, or are put and stay; by default nowhere",
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            files = wheels(args.wheels or pathlib.Path(temporary), WHEELS)
            for language in catalogues.LANGUAGES:
                for line in corpus(files, language):
                    print(line)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise SystemExit(f"download_catalogues: {error}") from error


if __name__ == "__main__":
    main()
