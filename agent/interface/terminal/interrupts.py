"""Ctrl-C that cuts no import short."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

_OFTEN = 0.02  # seconds between two looks at whether the import is over


class BetweenImports:
    """A handler of SIGINT: KeyboardInterrupt is raised once the main thread is not in the middle of an import.

    Half an import is worse than none: the next import of PyTorch after it crashes Python. Commands import at many
    places, so it is the interrupt that waits. A second Ctrl-C does not wait, as what is imported may hang.
    """

    def __init__(self) -> None:
        self._held: threading.Thread | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, or see to it that the signal comes again after the import."""
        if self._held is None and _importing(frame):
            self._held = threading.Thread(target=self._hold, args=(number,), name="interrupt", daemon=True)
            self._held.start()
            return
        self._held = None
        raise KeyboardInterrupt

    def _hold(self, number: int) -> None:
        main = threading.main_thread().ident or 0
        pause = threading.Event()
        while _importing(sys._current_frames().get(main)):
            pause.wait(_OFTEN)
        if self._held is threading.current_thread():  # no second Ctrl-C came before
            self._held = None
            signal.pthread_kill(main, number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False
