"""Filters of sentence pairs: by length, and by language identification.

The paper filters WMT19 "slightly by language ID and with length-based heuristics"
(Appendix C.1.2) without numbers; these are ours. Languages are identified by py3langid, a
naive Bayes model of 97 languages that comes with its package.
"""

from collections.abc import Sequence
import functools

import numpy as np
from py3langid import langid

MAX_CHARACTERS = 1000  # of either side
# The longer side may have three times the characters of the shorter, and ten more:
# short phrases differ more in length than sentences do.
MAX_RATIO = 3
RATIO_SLACK = 10
# Of 1,332 messages of a program of 50 characters on average, 0.3% were less probable in
# their own language. Of messages in ten other languages 67% to 99% were.
MIN_PROBABILITY = 0.01


def has_sound_length(a: str, b: str) -> bool:
    """Whether neither text is empty or over-long, and their lengths go together.

    >>> has_sound_length("Guten Tag", "Hello")
    True
    >>> has_sound_length("Guten Tag", " ")
    False
    """
    shorter, longer = sorted((len(a.strip()), len(b.strip())))
    return (
        0 < shorter
        and longer <= MAX_CHARACTERS
        and longer <= MAX_RATIO * shorter + RATIO_SLACK
    )


@functools.cache
def _identifier() -> langid.LanguageIdentifier:
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def may_be(text: str, language: str) -> bool:
    """Whether a text may be in a language. Texts without letters may be in any.

    Args:
        text: a sentence or phrase.
        language: ISO 639-1 code.

    >>> may_be("Die Katze schläft auf dem Sofa.", "de")
    True
    >>> may_be("Die Katze schläft auf dem Sofa.", "en")
    False
    """
    if not any(map(str.isalpha, text)):
        return True
    best, _ = _identifier().classify(text)
    if best == language:
        return True
    return dict(_identifier().rank(text)).get(language, 0) >= MIN_PROBABILITY


def keep(
    a: Sequence[bytes], b: Sequence[bytes], languages: tuple[str, str]
) -> np.ndarray:
    """Which pairs are kept.

    Args:
        a: (n,), UTF-8.
        b: (n,), their translations.
        languages: ISO 639-1 codes of a and b.

    Returns:
        (n,), bool.
    """

    def kept(pair: tuple[bytes, bytes]) -> bool:
        texts = [text.decode(errors="replace") for text in pair]
        return has_sound_length(*texts) and all(map(may_be, texts, languages))

    return np.fromiter(map(kept, zip(a, b, strict=True)), np.bool_, count=len(a))
