"""Splits by a hash of the text: the same on every machine, whatever else there is."""

from collections.abc import Mapping
import hashlib


def hash_of(text: str) -> int:
    """The first 64 bits of the text's SHA-256, in [0, 2**64)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def split_of(text: str, shares: Mapping[str, int], whole: int) -> str:
    """The split that a text belongs to.

    Args:
        text: what the split follows from.
        shares: split -> how many of `whole` texts it has; "train" has the rest.
        whole: 100 for shares in percent.
    """
    place = hash_of(text) % whole
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"
