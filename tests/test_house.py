"""Rules of the house that no linter knows."""

import ast
import importlib
import importlib.util
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("envs", "policies", "verifiers", "agent")
MAY_IMPORT = {
    "envs": {"envs"},
    "policies": {"envs", "policies"},
    "verifiers": {"envs", "verifiers"},
    "agent": set(ROOMS),
}
EXCEPTIONS = {
    (
        "verifiers/training/train.py",
        "policies",
    ): "the labels of a verifier are rollouts of a policy, asked for by `Propose`",
}
# public for the other files of the rooms, not for the doors
HELPERS = {"ask", "check_options", "knobs_of", "nearest", "option_types", "strategy_name"}
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str() as module):
                yield node.lineno, module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    file = str(path.relative_to(ROOT))
    room = path.relative_to(ROOT).parts[0]
    for line, module in imports(path):
        target = module.partition(".")[0]
        if target in ROOMS and target not in MAY_IMPORT[room] and (file, target) not in EXCEPTIONS:
            allowed = ", ".join(sorted(MAY_IMPORT[room]))
            raise AssertionError(f"{file}:{line} imports {module}; {room} may import only {allowed}")


def test_exceptions_are_needed() -> None:
    used = {(str(path.relative_to(ROOT)), module.partition(".")[0]) for path in FILES for _, module in imports(path)}
    assert {key for key in EXCEPTIONS if (ROOT / key[0]).exists()} <= used


def _order(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("room", ROOMS)
def test_the_door_of_a_room_is_complete_and_sorted(room: str) -> None:
    """What a room's ``__init__`` imports is what it lists, and its contracts, registry and checks are all listed."""
    module = importlib.import_module(room)
    listed: list[str] = list(getattr(module, "__all__", []))
    assert listed == sorted(set(listed), key=_order)
    for name in listed:
        assert getattr(module, name) is not None  # lazy names resolve
    imported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ROOMS
        for alias in node.names
    }
    assert imported <= set(listed)
    for file in ("core", "registry", "conformance"):
        if importlib.util.find_spec(f"{room}.{file}") is not None:
            source = importlib.import_module(f"{room}.{file}")
            own = {
                name
                for name, member in vars(source).items()
                if not name.startswith("_")
                and getattr(member, "__module__", None) == source.__name__
                and (inspect.isclass(member) or inspect.isfunction(member))
            }
            assert own - set(listed) <= HELPERS, f"{room}.{file} has public names that {room} does not list"


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_says_whose_it_is_and_guards_against_shadows(room: str) -> None:
    source = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    assert "Stepwell" in (ast.get_docstring(ast.parse(source)) or "")
    assert 'runpy.run_path(str(Path(__file__).parents[1] / "envs" / "import_guard.py"))' in source


def test_the_rooms_are_imported_without_torch_or_transformers() -> None:
    heavy = ("torch", "transformers")
    code = f"import sys, {', '.join(ROOMS)}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_a_model_wrote_can_run(path: Path) -> None:
    """No eval, exec, pickle, torch.load or trust_remote_code."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=("eval" | "exec" | "__import__") as name)):
                raise AssertionError(f"{path.name}:{node.lineno} calls {name}")
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                raise AssertionError(f"{path.name}:{node.lineno} calls torch.load; use safetensors")
            case ast.keyword(arg="trust_remote_code"):
                raise AssertionError(f"{path.name}: trust_remote_code")
    assert not {"pickle", "dill", "cloudpickle", "shelve"} & {module for _, module in imports(path)}
