"""A search of the session: in a thread of its own, paused by the first Ctrl-C and ended by the second."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from agent.search.control.handle import SearchHandle
from agent.search.engine import Task
from agent.search.graph import SearchGraph
from agent.search.solution import Solution
from agent.solver import Solver, SolverError

T = TypeVar("T")
PATIENCE = 20.0  # seconds that a command waits for a model that is busy


class SearchRun:
    """One search, or several at once, in a thread.

    Args:
        solver: runs it.
        tasks: what to search.
        paused: it is to begin in a pause.
    """

    def __init__(self, solver: Solver, *tasks: Task, paused: bool = False) -> None:
        self.solver = solver
        self.handles: list[SearchHandle] = [solver.submit(task) for task in tasks]
        if paused:
            for handle in self.handles:
                handle.do("pause", who=user())
        self.solutions: list[Solution] = []
        self.failure: BaseException | None = None
        self._over = threading.Event()
        threading.Thread(target=self._work, name="search", daemon=True).start()

    def _work(self) -> None:
        try:
            for solution in self.solver.run():
                self.solutions.append(solution)
        except BaseException as error:
            self.failure = error  # raised in the main thread, by `solution`
        finally:
            self._over.set()

    @property
    def handle(self) -> SearchHandle:
        """That of the only search."""
        return self.handles[0]

    @property
    def over(self) -> bool:
        """Whether all is over."""
        return self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it has come."""
        return self._over.wait(seconds)

    def watch(self) -> bool:
        """Wait until all is over, or Ctrl-C comes: whether it is over."""
        with interrupts() as received:
            while not self.wait(0.05):
                if received:
                    return False
        return True

    def do(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Steer the search, and wait until that is done, or for a while: ``pending`` is then true."""
        future = self.handle.do(command, arguments, user())
        try:
            return self._await(future)
        except FutureTimeoutError:
            return {"command": command, "pending": True}

    def look(self, function: Callable[[SearchGraph], T]) -> T:
        """What a function makes of the graph, between two replies; of a search that is over, of its graph."""
        if self.over:
            return function(self.solution.graph)
        return self._await(self.handle.look(function))

    def _await(self, future: Future[T]) -> T:
        end = time.monotonic() + PATIENCE
        while True:  # in pieces, so that Ctrl-C is heard
            try:
                return future.result(0.1)
            except FutureTimeoutError:
                if self.over and not future.done():
                    raise
                if time.monotonic() > end:
                    raise

    def end(self) -> None:
        """End all searches with their best answers, and wait for that; a further Ctrl-C gives up the waiting.

        Raises:
            KeyboardInterrupt: Ctrl-C came again; the model is left to itself.
        """
        for handle in self.handles:
            if handle.state != "over":
                handle.do("stop", who=user())
        with interrupts() as received:
            while not self.wait(0.05):
                if received:
                    raise KeyboardInterrupt

    @property
    def solution(self) -> Solution:
        """That of the only search, once it is over.

        Raises:
            SolverError: the policy, the verifier or the environment failed.
            BaseException: the engine failed.
        """
        if self.failure is not None:
            raise self.failure
        solution = self.solutions[0]
        if solution.error is not None:
            raise SolverError(f"the search failed: {solution.error}")
        return solution


def user() -> str:
    """Who sits here, for records."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "a person"


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Within this context Ctrl-C raises nothing, and is noted in the list that this yields. In the main thread only."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def unseen_typing() -> Iterator[None]:
    """Within this context what is typed is not shown, and kept for the next prompt."""
    try:
        import termios

        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
    except (ImportError, OSError, ValueError):  # no terminal: nothing is shown anyway
        yield
        return
    quiet = list(before)
    quiet[3] = (before[3] & ~termios.ECHO) | termios.NOFLSH  # Ctrl-C would drop what was typed before
    try:
        termios.tcsetattr(terminal, termios.TCSANOW, quiet)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
