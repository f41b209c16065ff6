"""Work in a thread of its own, so that Ctrl-C is heard while it goes on and never comes in the middle of an import."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """A value that a thread works out.

    An import that an exception cuts short leaves half of a package behind, and torch does not survive that: PyTorch is
    imported, and models are loaded, where Ctrl-C never raises. Who gives up waiting leaves the thread to its work.

    Args:
        work: makes the value.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._over = threading.Event()
        threading.Thread(target=self._run, args=(work,), name="background", daemon=True).start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._values.append(work())
        except BaseException as error:
            self._error = error  # raised where the value is waited for
        finally:
            self._over.set()

    def over(self, seconds: float | None = None) -> bool:
        """Wait until the work is over, at most so many seconds; whether it is."""
        return self._over.wait(seconds)

    def wait(self) -> T:
        """The value, as soon as there is one. KeyboardInterrupt ends the waiting, not the work.

        Raises:
            BaseException: what the work raised.
        """
        while not self.over(0.1):
            pass
        if self._error is not None:
            raise self._error
        return self._values[0]
