r"""Verifies checkpoints of this project and of T5X.

python -m gbt_t5x.verify FOLDER...

A FOLDER is that of a run or one checkpoint_STEP, on a local disk. A line a checkpoint
says whether it is whole. With checksums it is compared with them; without, all of it is
read, which does not find every flipped bit, and arrays that are not finite are named.
Exits with 1 if one is damaged or none is there.
"""

import os
import sys
import threading
import time

from gbt_t5x import integrity

_SECONDS_BETWEEN_LINES = 10.0


class _Progress:
    """Counts bytes, and says how many after every ten seconds."""

    def __init__(self, folder: str):
        self._folder = folder
        self._started = self._said = time.monotonic()
        self._size = 0
        self._lock = threading.Lock()

    def __call__(self, size: int) -> None:
        with self._lock:
            self._size += size
            if time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
                self._said = time.monotonic()
                print(f"         {self._folder}  {self}", file=sys.stderr)

    def __str__(self) -> str:
        seconds = time.monotonic() - self._started
        return f"{self._size / 1e6:.1f} MB in {seconds:.1f} s"


def _checkpoints(folder: str) -> list[str]:
    if integrity.is_checkpoint(folder):
        return [folder] if os.path.isdir(folder) else []
    return [os.path.join(folder, f"checkpoint_{s}") for s in integrity.steps(folder)]


def _verify(folder: str) -> bool:
    """Writes a line about a checkpoint. Returns whether it is whole."""
    progress = _Progress(folder)
    report = integrity.check(folder, progress, needs_position=False)
    if report.damage:
        print(f"DAMAGED  {folder}  {report.damage}", flush=True)
        return False
    how = "checksums" if report.has_checksums else "no checksums, all was read"
    bad = report.not_finite
    if bad:
        how += f"; {len(bad)} arrays are not finite, such as {bad[0]}"
    print(f"whole    {folder}  {how}  ({progress})", flush=True)
    return True


def main(folders: list[str]) -> int:
    """Verifies what is in the folders. Returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not folders or folders[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if folders else 2
    status = 0
    for folder in folders:
        found = _checkpoints(folder)
        if not found:
            missing = "holds no checkpoint_STEP folder"
            if "://" in folder:
                missing = "is no folder on a local disk: copy it to one"
            print(f"MISSING  {folder}  {missing}")
        whole = [_verify(path) for path in found]
        if not whole or not all(whole):
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
