"""SHA-256 of every file of a checkpoint, kept beside them.

A checkpoint_STEP folder has a file SHA256SUMS, with a line for each of its other files as
sha256sum writes it: `sha256sum -c SHA256SUMS` there needs nothing of this project.
"""

from collections.abc import Callable
import concurrent.futures
import hashlib
import os
import re

FILE = "SHA256SUMS"
_TEMPORARY = FILE + ".tmp"
_BLOCK = 1 << 20  # bytes read at once
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")

Progress = Callable[[int], None]  # called with the number of bytes done since last


def files(folder: str) -> list[str]:
    """The files of a folder that sums are for, relative to it and sorted."""
    found = [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    ]
    return sorted(set(found) - {FILE, _TEMPORARY})


def _digest(path: str, progress: Progress) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while block := f.read(_BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()


def write(folder: str) -> None:
    """Writes the sums of a folder's files, all or none."""
    lines = [
        f"{_digest(os.path.join(folder, name), lambda _: None)}  {name}\n"
        for name in files(folder)
    ]
    temporary = os.path.join(folder, _TEMPORARY)
    with open(temporary, "w", encoding="utf-8") as f:
        f.writelines(lines)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, os.path.join(folder, FILE))


def damage(folder: str, progress: Progress = lambda _: None) -> str | None:
    """What differs from the sums, or None. Files that have no sum are not looked at.

    Args:
        folder: has a file of sums.
        progress: called with numbers of bytes read.
    """
    with open(os.path.join(folder, FILE), "rb") as f:
        text = f.read().decode("utf-8", errors="replace")
    matches = [_LINE.fullmatch(line) for line in text.split("\n")[:-1]]
    sums = {m[2]: m[1] for m in matches if m}
    if not sums or len(sums) < len(matches) or not text.endswith("\n"):
        return f"{FILE} is no list of checksums"

    def differs(name: str) -> str | None:
        try:
            digest = _digest(os.path.join(folder, name), progress)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as e:
            return f"{name} cannot be read: {e}"
        return None if digest == sums[name] else f"{name} differs from its checksum"

    # hashlib lets other threads run.
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = [difference for difference in pool.map(differs, sums) if difference]
    more = f", and {len(found) - 1} files more" if len(found) > 1 else ""
    return found[0] + more if found else None
