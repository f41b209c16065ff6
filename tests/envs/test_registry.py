import importlib.metadata
import re
from pathlib import Path

import pytest

from envs import Arithmetic, UnusableEnvironment, check_environment, list_environments, load_environment
from envs.code.sandbox import NoIsolation
from envs.registry import BUILT_IN, ENTRY_POINTS

SOURCE = '''
"""Environments for the tests of the registry."""
from __future__ import annotations
from dataclasses import dataclass
from envs import Arithmetic, Environment


@dataclass
class Small(Arithmetic):
    """Sums for beginners."""

    largest: int = 9
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small_env.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def plugged(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that adds one name that works and three that do not."""
    info = tmp_path / "plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    (tmp_path / "raising_env.py").write_text("raise RuntimeError('no board found')\n")
    lines = [
        "small = small_env:Small",
        "gone = nowhere_env:Gone",
        "raising = raising_env:X",
        "arithmetic = small_env:Small",
    ]
    (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_built_in_by_name_with_options() -> None:
    environment = load_environment("arithmetic", levels=(1, 2))
    assert isinstance(environment, Arithmetic)
    assert environment.levels == (1, 2)


def test_by_module_and_class() -> None:
    assert isinstance(load_environment("envs.arithmetic:Arithmetic"), Arithmetic)


def test_from_a_file(file: Path) -> None:
    only, named = load_environment(str(file), largest=5), load_environment(f"{file}:Small")
    assert type(only) is type(named)  # the file was run once
    assert vars(only) == {"largest": 5}
    file.write_text(SOURCE.replace("largest: int = 9", "largest: int = 10"))
    assert vars(load_environment(str(file))) == {"largest": 10}  # an edited file is run again


def test_from_an_installed_distribution(plugged: None) -> None:
    assert type(load_environment("small")).__name__ == "Small"
    assert type(load_environment("arithmetic")) is Arithmetic  # a plug-in never replaces a built-in name


def test_the_list_says_what_failed_and_why(plugged: None) -> None:
    listed = {(entry.name, entry.source): entry for entry in list_environments()}
    assert (
        listed["arithmetic", "built in"].summary
        == "Expressions and linear equations. Conforms to `Environment`, `Demonstrator` and `StepChecker`."
    )
    assert listed["small", "plugins"].summary == "Sums for beginners."
    assert listed["small", "plugins"].failure is None
    assert "No module named 'nowhere_env'" in (listed["gone", "plugins"].failure or "")
    assert "no board found" in (listed["raising", "plugins"].failure or "")
    assert listed["arithmetic", "plugins"].failure == "the name is taken by: built in"


ASKING = {  # what others make or serve has to be named
    "openenv": "missing a required argument: 'base_url'",
    "prime": "missing a required argument: 'environment'",
}


@pytest.mark.parametrize(("name", "message"), ASKING.items())
def test_an_environment_says_what_it_must_be_told(name: str, message: str) -> None:
    with pytest.raises(UnusableEnvironment, match=message):
        load_environment(name)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in ASKING])
def test_every_built_in_environment_loads_without_options_and_conforms(name: str) -> None:
    try:
        environment = load_environment(name)
    except UnusableEnvironment as error:
        if isinstance(error.__cause__, NoIsolation):
            pytest.skip(str(error))
        raise
    assert environment.name == name
    check_environment(environment, n=3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("arithmetics", "'arithmetics' is not known; did you mean 'arithmetic'?"),
        ("zzz", "Allowed: arithmetic"),
        ("envs.nothing:Arithmetic", "No module named 'envs.nothing'"),
        ("envs.arithmetic:Arithmetics", "there is no 'Arithmetics' in it; did you mean 'Arithmetic'?"),
        (
            "envs.arithmetic:ANSWER_MARK",
            "is a str; allowed: a class with the methods of Environment, or a function annotated to",
        ),
        ("envs.core:State", "is a class, but no environment: it lacks read, prompt"),
        ("fractions:Fraction", "is a class, but no environment: it lacks read, prompt"),
        ("builtins:dict", "is a class, but no environment: it lacks read, prompt"),
        ("no/such/file.py", "there is no file 'no/such/file.py'"),
        ("", "environment '' is not known"),
    ],
)
def test_what_cannot_be_loaded_says_why(spec: str, message: str) -> None:
    with pytest.raises(UnusableEnvironment, match=re.escape(message)):
        load_environment(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 3}, "has no option 'level'; did you mean 'levels'? allowed: levels, wide"),
        ({"zzz": 3}, "has no option 'zzz'; allowed: levels, wide"),
        ({"levels": (7,)}, "cannot be made with levels=(7,): ValueError: levels [7] given; allowed"),
        ({"levels": "x" * 5000}, f"'levels' is '{'x' * 27}...{'x' * 28}'; expected a list, each a whole number"),
        ({"levels": 2}, "environment 'arithmetic': 'levels' is 2; expected a list, each a whole number"),
        ({"levels": ["two"]}, "environment 'arithmetic': 'levels[0]' is 'two'; expected a whole number"),
        ({"wide": "yes"}, "environment 'arithmetic': 'wide' is 'yes'; expected true or false"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UnusableEnvironment, match=re.escape(message)):
        load_environment("arithmetic", **options)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = = 1", "failed to load: SyntaxError"),
        ("import nowhere_module", "No module named 'nowhere_module'"),
        ("x = 1", "holds no environment"),
        (SOURCE + "class Other(Small): ...\n", "holds 2 environments; say which: "),
        (
            "class Half:\n    def read(self): ...\n    def step(self): ...\n",
            "Half lacks prompt, initial, answer, check",
        ),
    ],
)
def test_files_that_do_not_do(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "bad_env.py"
    path.write_text(source)
    with pytest.raises(UnusableEnvironment, match=re.escape(message)):
        load_environment(str(path))


def test_an_environment_whose_attributes_raise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd_env.py"
    path.write_text(SOURCE + "    @property\n    def delimiter(self):\n        raise RuntimeError('no line')\n")
    with pytest.raises(UnusableEnvironment, match="made a Small that fails: RuntimeError: no line"):
        load_environment(str(path))


def test_a_mistyped_path_names_the_nearest_file(file: Path) -> None:
    with pytest.raises(UnusableEnvironment, match=r"did you mean '.*small_env.py'"):
        load_environment(str(file.with_name("smal_env.py")))


def test_a_folder_that_is_named_like_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "dir.py").mkdir()
    with pytest.raises(UnusableEnvironment, match=r"dir\.py' is a folder$"):
        load_environment(str(tmp_path / "dir.py"))


def test_a_name_of_two_plugins_is_not_lost(plugged: None) -> None:
    names = [point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    assert sorted(entry.name for entry in list_environments()) == sorted([*names, *BUILT_IN])
