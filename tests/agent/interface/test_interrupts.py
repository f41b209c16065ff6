"""Ctrl-C waits for the end of an import."""

import importlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.interface.terminal.interrupts import BetweenImports

ONCE = "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(0.1)\ndone = True\n"
TWICE = "import signal, time\nfor _ in range(2):\n    signal.raise_signal(signal.SIGINT)\ntime.sleep(60)\n"


def _import_and_wait(name: str) -> None:
    importlib.import_module(name)
    time.sleep(60)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, BetweenImports())
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("inner", [False, True], ids=["itself", "what it imports"])
def test_an_import_ends_before_ctrl_c_is_heard(inner: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "interrupted.py").write_text("import within\ndone = True\n" if inner else ONCE)
    (tmp_path / "within.py").write_text(ONCE)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(KeyboardInterrupt):
            _import_and_wait("interrupted")
        assert sys.modules["interrupted"].done
    finally:
        for name in ("interrupted", "within"):
            sys.modules.pop(name, None)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text(TWICE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module("hangs")


def test_elsewhere_ctrl_c_is_heard_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
