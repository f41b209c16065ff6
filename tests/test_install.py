"""The installer never asks for a CUDA build on a machine without a GPU, and never silently gives up."""

import importlib.util
import platform
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "install.py"
PYTHON = Path("venv/bin/python")


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("installer", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    return module


def record(monkeypatch: pytest.MonkeyPatch, *codes: int) -> list[list[str]]:
    """Answer each command with the next exit status, and note it."""
    commands: list[list[str]] = []
    statuses = iter(codes)

    def run(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append([str(word) for word in command])
        return subprocess.CompletedProcess(command, next(statuses), "GPU 0: something")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.mark.parametrize("codes", [(1, 0), (1, 1, 0)], ids=["configured index", "index of CPU builds"])
def test_without_a_gpu_only_the_cpu_build_will_do(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, codes: tuple[int, ...]
) -> None:
    monkeypatch.setattr(installer, "has_gpu", lambda: False)
    commands = record(monkeypatch, *codes)
    installer.install_torch(PYTHON)
    wanted = [word for command in commands[1:] for word in command if word.startswith("torch")]
    assert wanted == [f"torch=={installer.TORCH}+cpu"] * (len(codes) - 1)
    assert (commands[-1][-1] == installer.CPU_BUILDS) == (len(codes) == 3)


def test_a_build_that_is_not_found_is_said_plainly(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "has_gpu", lambda: False)
    record(monkeypatch, 1, 1, 1)
    with pytest.raises(SystemExit, match="was found neither"):
        installer.install_torch(PYTHON)


def test_a_torch_that_is_there_is_kept(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = record(monkeypatch, 0)
    installer.install_torch(PYTHON)
    assert len(commands) == 1


def test_with_a_gpu_the_usual_build(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer.shutil, "which", lambda name: f"/usr/bin/{name}")
    commands = record(monkeypatch, 1, 0, 0)
    installer.install_torch(PYTHON)
    assert commands[1] == ["/usr/bin/nvidia-smi", "-L"]
    assert commands[2][-1] == f"torch=={installer.TORCH}"


def test_a_driver_without_a_gpu_is_no_gpu(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer.shutil, "which", lambda name: f"/usr/bin/{name}")
    record(monkeypatch, 9)
    assert not installer.has_gpu()
