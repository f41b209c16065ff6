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
MAY_IMPORT = {room: set(ROOMS[: place + 1]) for place, room in enumerate(ROOMS)}  # itself, and all to its left
MOST_FILES = 15  # of one folder, its ``__init__`` not counted
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
        if target in ROOMS and target not in MAY_IMPORT[room]:
            allowed = ", ".join(sorted(MAY_IMPORT[room]))
            raise AssertionError(f"{file}:{line} imports {module}; {room} may import only {allowed}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_a_door(path: Path) -> None:
    """The command line and the session use all the rest; nothing else uses them."""
    if "agent/interface" not in str(path.relative_to(ROOT)):
        doors = [f"{line}: {module}" for line, module in imports(path) if module.startswith("agent.interface")]
        assert not doors


def test_files_import_each_other_in_no_circle() -> None:
    """Imports that run when a file is imported; those inside functions, and those for types alone, do not count."""
    modules = {_module(path): path for path in FILES}
    reach = {name: {target for target in _at_import(path) if target in modules} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in sorted(reach[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(modules):
        visit(name, ())


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _at_import(path: Path) -> Iterator[str]:
    """What a file imports while it is imported, as modules; of a package, its ``__init__`` too, but not one's own."""
    pending = list(ast.parse(path.read_text(encoding="utf-8")).body)
    own = _module(path)
    while pending:
        node = pending.pop()
        match node:
            case ast.ImportFrom(module=str() as module, names=names):
                for target in (module, *(f"{module}.{alias.name}" for alias in names)):
                    if not own.startswith(f"{target}.") and target != own:
                        yield target
            case ast.Import(names):
                yield from (alias.name for alias in names if not own.startswith(f"{alias.name}."))
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.If() | ast.Try() | ast.With():
                pending += [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_has_a_dozen_files_or_so(room: str) -> None:
    for folder in {path.parent for path in FILES if path.relative_to(ROOT).parts[0] == room}:
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)} has {len(files)} files"


def test_tests_lie_where_what_they_test_lies() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folder = path.parent.relative_to(ROOT / "tests")
        assert (ROOT / folder).is_dir(), f"{path.relative_to(ROOT)} tests a folder that is not there"


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
    for file in ("core", "service", "registry", "conformance"):
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
    """No eval, exec, pickle, torch.load, and no code of a checkpoint: transformers is told so, and never asks."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=("eval" | "exec" | "__import__") as name)):
                raise AssertionError(f"{path.name}:{node.lineno} calls {name}")
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                raise AssertionError(f"{path.name}:{node.lineno} calls torch.load; use safetensors")
            case ast.keyword(arg="trust_remote_code", value=ast.Constant(value=False)):
                pass
            case ast.keyword(arg="trust_remote_code"):
                raise AssertionError(f"{path.name}: trust_remote_code is not False")
            case ast.Call(func=ast.Attribute(value=kind, attr="from_pretrained"), keywords=given):
                if isinstance(kind, ast.Name) and not kind.id.startswith("Auto") and kind.id[0].isupper():
                    continue  # a class of transformers itself: it does not look for another one
                said = {keyword.arg for keyword in given}
                assert "trust_remote_code" in said, f"{path.name}:{node.lineno} lets transformers ask to run code"
            case ast.Constant(value="trust_remote_code"):
                raise AssertionError(f"{path.name}:{node.lineno} names trust_remote_code in a mapping")
    assert not {"pickle", "dill", "cloudpickle", "shelve"} & {module for _, module in imports(path)}
