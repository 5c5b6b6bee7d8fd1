"""The embedded t5x writes to local folders."""

import re
from typing import Any


def check(**paths: Any) -> None:
    """Raises ValueError if a path is that of a bucket: setting=path."""
    for setting, path in paths.items():
        if re.match(r"\w+://", str(path)):
            raise ValueError(
                f"{setting}={path!r}: the embedded t5x writes to local folders. Set it "
                "to one, or install T5X, as README.md shows, for buckets"
            )
