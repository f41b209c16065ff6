"""Files of recipes: where they are looked for, YAML, what a file may say, and options set on the command line."""

from __future__ import annotations

import glob
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from loguru import logger

from agent.registry import STRATEGY_PARTS
from agent.search.budget import Budget
from envs.messages import UsageError, nearest, short
from envs.plugins import Registry, folders_of
from envs.registry import ENTRY_POINTS, ENVIRONMENTS
from policies.registry import POLICIES
from verifiers.registry import VERIFIERS

LONGEST = 1 << 18  # bytes of a file of YAML
_DEEPEST = 40  # lists and mappings within each other
_MOST = 20_000  # values, each mention of an anchor counted as if it were written out
_DIGITS = 300  # of a number

# --------------------------------------------------------------------------------------------------------------- YAML


class YamlLoader(yaml.SafeLoader):
    """Safe YAML as version 1.2 reads it, in bounded time and memory.

    ``1e-3`` is a number, ``1:30`` is a text and no 90, ``010`` is ten, dates are texts. A key that is given twice and a
    merge key (``<<``) are errors.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - a table of the class, as PyYAML has it
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in ("int", "float", "timestamp", "merge")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def as_mapping(loader: YamlLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Construct a mapping; a key that is given twice, or cannot be a key, is an error with its line."""
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a list or a mapping as a key", key_node.start_mark)
        if key == "<<":
            what = "merge keys (<<) are not read: write the keys out"
            raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {short(key)} is given twice", node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def as_number(loader: YamlLoader, node: yaml.ScalarNode) -> int | float:
    """Construct a number, in decimal, or a whole one in hexadecimal (0x), octal (0o) or binary (0b)."""
    text = loader.construct_scalar(node).replace("_", "").lower()
    if len(text) > _DIGITS:
        what = f"a number of {len(text)} characters; at most {_DIGITS} are read"
        raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
    try:
        if text.lstrip("+-") in (".inf", ".nan"):
            return float(text.replace(".", ""))
        whole = node.tag == "tag:yaml.org,2002:int"
        return int(text, 0 if re.match("[-+]?0[xob]", text) else 10) if whole else float(text)
    except ValueError:
        what = f"{short(text)} is no number"
        raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None


_NUMBERS = {
    "int": r"[-+]?(?:0[xX][0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*)$",
    "float": r"[-+]?(?:(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|\.(?i:inf|nan))$",
}
for _kind, _pattern in _NUMBERS.items():
    YamlLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list("-+.0123456789"))
    YamlLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", as_number)
YamlLoader.add_constructor("tag:yaml.org,2002:map", as_mapping)


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document.

    Raises:
        UsageError: with the line, when the text is not YAML, or too much of it.
    """
    if len(text) > LONGEST:
        raise UsageError(f"{where}: {len(text):,} characters; at most {LONGEST:,} are read")
    try:
        _check_shape(text)
        loader = YamlLoader(text)
        try:
            node = loader.get_single_node()
            _check_size(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{where}{line}: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:  # of a tag, !!int abc
        raise UsageError(f"{where}: a value cannot be read: {error}") from None


def _check_shape(text: str) -> None:
    """Refuse what is nested too deeply or holds too much, before anything else reads it: events do not recurse."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=YamlLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or count > _MOST:
            what = f"more than {_MOST:,} values, or {_DEEPEST} lists and mappings within each other"
            mark: Any = event.start_mark
            raise yaml.constructor.ConstructorError(None, None, what, mark)


def _check_size(root: yaml.Node | None) -> None:
    """Refuse anchors that hold themselves, and those that make a short text a long or a deep one."""
    known: dict[int, tuple[int, int]] = {}

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Values in it and lists within each other, every anchor written out."""
        if id(node) not in known:
            known[id(node)] = _MOST, _DEEPEST  # within itself
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = [each for pair in inner for each in pair] if isinstance(node, yaml.MappingNode) else inner
            sizes = [measure(part) for part in parts]
            known[id(node)] = 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
        return known[id(node)]

    size, depth = (0, 0) if root is None else measure(root)
    if root is not None and (size > _MOST or depth > _DEEPEST + 1):
        what = f"more than {_MOST:,} values or {_DEEPEST} levels, once every anchor (&) is written out"
        raise yaml.constructor.ConstructorError(None, None, what, root.start_mark)


# ------------------------------------------------------------------------------------------- what a file may say

_INNER: dict[str, Registry[Any]] = {"large": POLICIES, "members": VERIFIERS, "small": POLICIES}  # options of a part
_PARTS: dict[str, Registry[Any]] = _INNER | {
    "environment": ENVIRONMENTS,
    "environments": ENVIRONMENTS,
    "policies": POLICIES,
    "policy": POLICIES,
    "strategies": STRATEGY_PARTS,
    "strategy": STRATEGY_PARTS,
    "verifier": VERIFIERS,
    "verifiers": VERIFIERS,
}
# options that need the user's own word: programs without a sandbox, which secret is sent to a server, what is run
_HARMLESS = {
    "unsandboxed": (False, None),
    "key_variable": ("OPENAI_API_KEY", None),
    "python": ("", None),
    "folder": ("", None),
}


def refuse_code(config: Mapping[str, Any], where: str, allow: str = "--trust") -> None:
    """Refuse what makes a file run code: it is data, and may name only what is built in or installed.

    Args:
        config: keys of a recipe or of a study.
        where: the file, in errors.
        allow: how this is allowed, in errors.

    Raises:
        UsageError: it names a module or a file as a part, or gives an option that needs the user's own word.
    """
    for key, registry in _PARTS.items():
        given = config.get(key)
        for part in given if isinstance(given, list | tuple) else [given]:
            part = component(part)
            options = part if isinstance(part, Mapping) else {"name": part}
            _refuse_options(options, where, allow)
            name = options.get("name")
            if isinstance(name, str) and registry.names_code(name):
                raise UsageError(
                    f"{where}: {key!r} names {short(name)}, which runs code; a file may name only what is built in or "
                    f"installed. If you trust it, give {allow}, or name it yourself"
                )
            if isinstance(part, Mapping):
                refuse_code({key: part[key] for key in _INNER if key in part}, where, allow)
    _refuse_options(config, where, allow)


def _refuse_options(value: object, where: str, allow: str) -> None:
    """Refuse options that need the user's own word, wherever they stand."""
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        _refuse_options(inner, where, allow)
    for option, harmless in _HARMLESS.items():
        if isinstance(value, Mapping) and value.get(option, harmless[0]) not in harmless:
            given = f"{option}={short(value[option])}"
            raise UsageError(f"{where} has {given}, which a file may not decide. If you trust it, give {allow}")


# --------------------------------------------------------------------------------------------------------- files


def config_folders() -> list[Path]:
    """Where recipes are looked for by name: what ships, what installed environments bring, the working folder.

    In this order: neither a plug-in nor the folder that one stands in replaces a recipe that ships.
    """
    folders = [
        Path(__file__).resolve().parents[2] / "configs",
        Path(__file__).resolve().parents[1] / "_configs",
        *(folder / "configs" for folder in folders_of(ENTRY_POINTS).values()),
        Path.cwd() / "configs",
    ]
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def find_config(name: str, kind: str = "") -> Path:
    """The file of a recipe: a path as it is, a bare name as ``configs/NAME.yaml``.

    Args:
        name: or path, which has a folder or ends in ``.yaml``.
        kind: the folder within ``configs/`` that recipes of a kind have to themselves: ``studies``, ``training``.

    Raises:
        UsageError: naming the recipes there are and the nearest one.
    """
    path = Path(name)
    is_path = path.suffix in (".yaml", ".yml") or path.name != name
    if is_path and path.is_file():
        return path
    folders = [folder / kind for folder in config_folders()]
    pattern = "**/" if kind else ""  # a kind may have folders of its own, recipes to solve with have none
    if not is_path:
        found = [file for folder in folders for file in sorted(folder.glob(f"{pattern}{glob.escape(name)}.yaml"))[:1]]
        for other in found[1:]:
            if not other.samefile(found[0]):
                logger.warning("{0} is not read for {1!r}, as {2} comes first; --config {0} reads it",
                               _shown(other), name, _shown(found[0]))  # fmt: skip
        if found:
            return found[0]
    known = sorted({file.stem for folder in folders for file in folder.glob(f"{pattern}*.yaml")})
    what = f"no file {name!r}" if is_path else f"no recipe {name!r}"
    raise UsageError(f"{what}{nearest(path.stem, known) or ';'} recipes by name: {', '.join(known) or 'none'}")


def _shown(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def read_config(name: str | None, kind: str = "", trust: bool = False) -> tuple[dict[str, Any], str]:
    """The keys of a recipe file and what to call it in errors; nothing, for no name. `kind` is as in `find_config`.

    Args:
        name: or path.
        kind: as in `find_config`.
        trust: let the file name modules and files, whose code then runs.

    Raises:
        UsageError: when the file is not found, cannot be read, is no mapping, or would run code (`refuse_code`).
    """
    if name is None:
        return {}, "recipe"
    path = find_config(name, kind)
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST * 4 + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected keys and values, found {type(content).__name__}")
    if not trust:
        refuse_code(content, str(path))
    return content, str(path)


def as_solving(mapping: Mapping[str, Any], trust: bool = False) -> dict[str, Any]:
    """A recipe of training whose ``solving: NAME`` says that what it does not say itself is as that recipe solves.

    Environment, policy and temperature are taken from there, so that a model learns from what it will have to judge.

    Raises:
        UsageError: as `read_config`.
    """
    own = dict(mapping)
    solving, _ = read_config(own.pop("solving", None), trust=trust)
    return {key: solving[key] for key in ("environment", "policy", "temperature") if key in solving} | own


def override(mapping: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Apply ``key.inner=value`` assignments, values in YAML, and return the result; `mapping` is unchanged.

    A component in its short form keeps its name: ``strategy: beam`` and ``strategy.branch=2`` make
    ``{name: beam, branch: 2}``. A new name for a component (``strategy=mcts``) drops the options of the old one.

    Raises:
        UsageError: when an assignment has no ``=`` or no key.
    """
    result = dict(mapping)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise UsageError(f"cannot read {assignment!r}; expected KEY=VALUE, e.g. strategy.branch=2")
        put(result, path, parse_yaml(text, f"--set {key.strip()}"))
    return result


def put(mapping: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value within mappings; those on the way are copied, and short forms (a name, a number of samples) kept."""
    for part in path[:-1]:
        below = mapping.get(part)
        short = "name" if isinstance(below, str) else Budget.short_form if isinstance(below, int | float) else None
        mapping[part] = dict(below) if isinstance(below, Mapping) else {} if short is None else {short: below}
        mapping = mapping[part]
    mapping[path[-1]] = value


_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def split_words(text: str) -> list[str]:
    """Words as people type them, separated by blanks or commas, but for those within brackets or quotes."""
    words: list[str] = []
    word, depth, quote = "", 0, ""
    for character in text:
        if quote or character in "\"'":
            quote = "" if character == quote else quote or character
        elif not quote:
            depth = max(0, depth + _BRACKETS.get(character, 0))
            if not depth and (character.isspace() or character == ","):
                words, word = [*words, word], ""
                continue
        word += character
    return [each for each in [*words, word] if each]


def unquoted(text: str) -> str:
    """A text without the quotes around all of it, as in a shell."""
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]
    return text[1:-1] if quoted else text


def is_setting(word: str) -> bool:
    """Whether a word begins as an option and its value do: ``branch=2``."""
    return _SETTING.match(word) is not None


_SETTING = re.compile(r"[\w.]+=")
_NAME = re.compile(r"[\w-]+")


def component(value: Any) -> Any:
    """``beam branch=2`` as the mapping that it stands for; whatever else as it is, paths with blanks among it."""
    if not isinstance(value, str):
        return value
    name, *words = split_words(value) or [""]
    if not words or not _NAME.fullmatch(name) or not all(map(is_setting, words)):
        return value
    return {"name": name, **parse_options(words, name)}


def parse_options(words: Iterable[str], name: str) -> dict[str, Any]:
    """Read ``OPTION=VALUE`` words, values in YAML: ``branch=2``, ``levels=[2,3]``; `name` is whose they are.

    Raises:
        UsageError: when a word is none.
    """
    options: dict[str, Any] = {}
    given: set[str] = set()
    for word in words:
        option, equals, value = word.partition("=")
        if not equals or not option:
            raise UsageError(f"cannot read {word!r} after {name!r}; expected OPTION=VALUE, e.g. branch=2")
        if option in given:
            raise UsageError(f"{name}: {option!r} is given twice")
        given.add(option)
        put(options, option.split("."), parse_yaml(value, f"{name} {option}"))
    return options


def default_config(environment: str | None) -> str:
    """The recipe to start from when none is named: the environment's own, if there is one."""
    return environment if environment is not None and has_recipe(environment) else "arithmetic"


def has_recipe(environment: str) -> bool:
    """Whether an environment has a recipe of its own name."""
    name = Path(environment).name == environment
    return name and any((folder / f"{environment}.yaml").is_file() for folder in config_folders())
