"""Signals that ask a run to stop: SIGTERM, as clouds send it, and Ctrl-C."""

from collections.abc import Callable
import os
import signal
import threading
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Which signal asked the run to stop, if one did.

    While entered, the first signal is noted, and a second one ends the process at once.
    Python delivers signals to its main thread: in another thread nothing changes.
    """

    def __init__(self, on_signal: Callable[[], None]):
        """Calls `on_signal` at the first signal."""
        self.received: signal.Signals | None = None
        self._on_signal = on_signal
        self._interrupts = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in _STOPPING}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        for stopping in _STOPPING:
            signal.signal(stopping, signal.SIG_DFL)
        self.received = signal.Signals(number)
        line = f"{self.received.name}: stopping after this step; again ends at once\n"
        os.write(2, line.encode())  # print may be in use where the signal came
        self._on_signal()
        if self._interrupts:
            raise _Interrupted

    def unless_received(self, do: Callable[[], None]) -> None:
        """Calls `do`, which a signal breaks off."""
        try:
            self._interrupts = True
            if not self.received:
                do()
            self._interrupts = False
        except _Interrupted:
            pass
        finally:
            self._interrupts = False


class _Interrupted(BaseException):
    """Raised by the handler of a signal, in the main thread."""
