"""A package of ours that is not ours is named at the first import, with the file that was found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envs.import_guard import ROOMS, ROOT


def run(code: str, *path: Path, options: tuple[str, ...] = ("-P",)) -> str:
    """What a fresh Python says, with these folders first on its path."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=False, env=variables, cwd=path[0]
    )
    return done.stdout + done.stderr


def plant(folder: Path, room: str, distribution: str = "") -> Path:
    """Put a package of the same name in a folder, as another distribution would."""
    file = folder / room / "__init__.py"
    file.parent.mkdir(parents=True)
    file.write_text('"""Something else."""\n')
    if distribution:
        info = folder / f"{distribution}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n")
        (info / "top_level.txt").write_text(f"{room}\n")
        (info / "RECORD").write_text(f"{room}/__init__.py,,\n")
    return file


def test_nothing_is_said_when_all_is_well(tmp_path: Path) -> None:
    assert run("import agent, envs, policies, verifiers; print('fine')", tmp_path, ROOT) == "fine\n"


@pytest.mark.parametrize("room", ROOMS)
def test_the_first_import_names_the_shadow(tmp_path: Path, room: str) -> None:
    file = plant(tmp_path, room, "other-things")
    for first in ROOMS:
        if first != room:
            said = run(f"import {first}", tmp_path, ROOT).splitlines()[-1]
            assert said.startswith(f"ImportError: Stepwell's package '{room}' is shadowed: Python finds {file} ")
            assert "(of the distribution 'other-things')" in said
            assert "virtual environment of its own, or uninstall the other (pip uninstall other-things)" in said


def test_a_folder_that_no_distribution_owns(tmp_path: Path) -> None:
    plant(tmp_path, "envs")
    said = run("from policies.core import Policy", tmp_path, ROOT)
    assert "Rename it, or start Python in another folder" in said


def test_a_package_installed_over_ours(tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    assert run("import agent; print('fine')", tmp_path) == "fine\n"
    (tmp_path / "verifiers" / "__init__.py").write_text('"""Something else."""\n')
    said = run("import agent", tmp_path)
    assert f"another file was installed over {tmp_path / 'verifiers' / '__init__.py'}" in said


def test_a_missing_package(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "envs", tmp_path / "envs")
    # Without site-packages, or an editable installation of this very checkout would be found instead.
    assert "Stepwell's package 'agent' is missing" in run("import envs", tmp_path, options=("-P", "-S"))
