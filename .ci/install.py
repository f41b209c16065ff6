"""Create a virtual environment and install Stepwell in it: ``python3 .ci/install.py [FOLDER] [--extras dev]``.

On Linux, PyPI's torch brings gigabytes of CUDA libraries. On a machine without an NVIDIA GPU this script therefore
asks for the CPU build by its exact local version, which no CUDA build can satisfy: first wherever pip is configured
to look, then at PyTorch's own index of CPU builds. A torch that is already in the environment is kept.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "2.13.0"
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
OLDEST = (3, 11)


def has_gpu() -> bool:
    """Whether the NVIDIA driver lists a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    listing = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


def install_torch(python: Path) -> None:
    """Install torch in the environment of `python`, the CPU build where there is no GPU."""
    if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0:
        return
    pip = [str(python), "-m", "pip", "install", "-qq"]
    if platform.system() != "Linux" or has_gpu():  # PyPI's builds for macOS and Windows bring no CUDA
        subprocess.run([*pip, f"torch=={TORCH}"], check=True)
        return
    build = f"torch=={TORCH}+cpu"
    print(f"No NVIDIA GPU here: installing {build} (about 200 MB)", flush=True)
    if subprocess.run([*pip, build], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return
    if subprocess.run([*pip, build, "--index-url", CPU_BUILDS], check=False).returncode != 0:
        sys.exit(
            f"{build} was found neither where pip is configured to look nor at {CPU_BUILDS}.\n"
            f"Install any build of torch in {python.parent.parent} yourself "
            f"({python} -m pip install ...) and run this again: it will be kept."
        )


def main() -> None:
    """Create the environment if need be, then install torch, then Stepwell."""
    parser = argparse.ArgumentParser(description="Install Stepwell in a virtual environment of its own.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / ".venv", help="default: .venv of this checkout")
    parser.add_argument("--extras", default="dev", help="comma-separated extras, or '' for none (default: dev)")
    arguments = parser.parse_args()
    if sys.version_info < OLDEST:
        sys.exit(f"Python {platform.python_version()} given; Stepwell needs {'.'.join(map(str, OLDEST))} or newer")
    folder = arguments.folder.absolute()
    python = folder / ("Scripts/python.exe" if platform.system() == "Windows" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    install_torch(python)
    print("Installing Stepwell and what it needs", flush=True)
    target = f"{ROOT}[{arguments.extras}]" if arguments.extras else str(ROOT)
    subprocess.run([python, "-m", "pip", "install", "-qq", "--editable", target], check=True)
    print(f"Stepwell is installed: {python.parent / 'stepwell'}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed ({error.returncode}): {' '.join(map(str, error.cmd))}")
