"""Files of inference: chunks, what they depend on, and the lines of all of them."""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import glob
import json
import os
import shutil
from typing import Any

from t5x import progress as progress_lib


@dataclasses.dataclass(frozen=True)
class Results:
    """One shard of a task's predictions or scores.

    Attributes:
        output: where the lines go.
        chunk_dir: has a file for each chunk, and the settings that they depend on.
        settings: those, as JSON gives them back.
    """

    output: str
    chunk_dir: str
    settings: Mapping[str, Any]

    @property
    def _stem(self) -> str:
        return os.path.join(self.chunk_dir, os.path.basename(self.output))

    def chunk(self, index: int) -> str:
        return f"{self._stem}-chunk{index:05}"

    def _has_chunks(self) -> bool:
        return bool(glob.glob(f"{glob.escape(self._stem)}-chunk{'[0-9]' * 5}"))

    @property
    def _marker(self) -> str:
        return f"{self.output}.COMPLETED"

    @property
    def _settings_file(self) -> str:
        return f"{self._stem}-settings.json"

    def is_done(self) -> bool:
        """Whether an earlier run wrote the results; says so."""
        if os.path.exists(self._marker):
            progress_lib.say(f"{self.output} is complete; {self._remedy} to redo it")
        return os.path.exists(self._marker)

    @property
    def _remedy(self) -> str:
        kept = f" and {self._stem}-chunk*" if self._has_chunks() else ""
        return f"delete {self._marker}{kept}"

    def check(self) -> None:
        """Raises ValueError if what is there was made with other settings."""
        if os.path.exists(self._marker):
            path, found = self._marker, f"{self.output} is complete"
            remedy = self._remedy
        elif self._has_chunks():
            path, remedy = self._settings_file, "delete the folder"
            found = f"a run that was stopped left chunks in {self.chunk_dir}"
        else:
            return
        text = ""
        if os.path.exists(path):
            with open(path) as f:
                text = f.read()
        before = json.loads(text) if text else self.settings  # T5X writes none
        changed = {
            k: (self.settings.get(k), before.get(k))
            for k in {**self.settings, **before}
            if self.settings.get(k) != before.get(k)
        }
        if changed:
            raise ValueError(
                f"{found}, with other settings (now, then): {changed}; restore those, "
                f"{remedy}, or set INFER_OUTPUT_DIR to another"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process writes the same results meanwhile.

        Raises:
            ValueError: one does, or there are chunks of other settings.
        """
        os.makedirs(self.chunk_dir, exist_ok=True)
        with open(self._settings_file, "a+") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                raise ValueError(
                    f"another process writes {self.output}: wait until it has ended, or "
                    "set INFER_OUTPUT_DIR to another folder"
                ) from e
            except OSError as e:
                progress_lib.say(f"{f.name} cannot be locked ({e}): use one process")
            self.check()
            if not self._has_chunks():
                f.truncate(0)
                f.write(json.dumps(self.settings))
                f.flush()
            yield

    def finish(self, number: int, merge: bool) -> None:
        """Joins so many chunks if `merge`, and marks the results as complete."""
        chunks = [self.chunk(i) for i in range(number)]
        if merge:
            with open(f"{self.output}.tmp", "wb") as merged:
                for path in chunks:
                    with open(path, "rb") as f:
                        shutil.copyfileobj(f, merged)
            os.replace(f"{self.output}.tmp", self.output)
        write_atomically(self._marker, [json.dumps(self.settings)])
        if merge:
            for path in [*chunks, self._settings_file]:
                os.remove(path)
            if not os.listdir(self.chunk_dir):  # another mode's may be there
                os.rmdir(self.chunk_dir)


def write_atomically(path: str, lines: Iterable[str]) -> None:
    """A file that is there is whole."""
    with open(f"{path}.tmp", "w") as f:
        f.writelines(f"{line}\n" for line in lines)
    os.replace(f"{path}.tmp", path)
