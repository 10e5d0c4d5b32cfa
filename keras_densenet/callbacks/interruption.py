"""Ctrl-C and SIGTERM: the run is saved, and can go on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Notes a signal, and ends the run where that is safe.

    The first signal is heeded after the step that is being taken: the run is saved, and
    `SystemExit` raised with the exit code that shells give, 128 + the signal's number:
    130 for Ctrl-C, 143 for SIGTERM, by which clusters preempt. A second one ends it at
    once, and what was saved before stays.

    Args:
        save: Called before the end; it says where it saved.
        say: Called with a line to print.
        can_save: Whether `save` saves: of several workers none can alone.
    """

    def __init__(
        self,
        save: Callable[[], None],
        say: Callable[[str], None] = print,
        can_save: bool = True,
    ) -> None:
        self._what = "saving" if can_save else "ending"
        self.received: signal.Signals | None = None
        self._save = save
        self._say = say

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Handle the signals inside; Python lets only the main thread do so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def end_if_asked(self) -> None:
        """Save and end, if a signal has come."""
        if self.received is not None:
            self._save()
            raise SystemExit(128 + self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is not None:
            raise SystemExit(128 + number)
        self.received = signal.Signals(number)
        self._say(
            f"{self.received.name}: {self._what} after this step. Once more: at once."
        )
