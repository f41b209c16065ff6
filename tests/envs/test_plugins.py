"""One registry for parts of all kinds: names, entry points, modules and files, and nothing called that is no part."""

import re
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.registry import STRATEGY_PARTS, list_strategies, load_strategy
from envs import Toy, list_environments, load_environment
from envs.messages import nearest
from envs.plugins import Listed, Registry, UnusablePart, folders_of
from envs.registry import ENVIRONMENTS
from policies import list_policies, load_policy
from policies.registry import POLICIES
from tests.plugged import install
from verifiers import list_verifiers, load_verifier
from verifiers.registry import VERIFIERS

TOY = Toy()
Load = Callable[..., Any]
KINDS: dict[str, tuple[Registry[Any], Load, Callable[[], list[Listed]], str, str]] = {
    "environment": (ENVIRONMENTS, load_environment, list_environments, "purse", "Purse"),
    "policy": (
        POLICIES,
        lambda spec, **options: load_policy(spec, TOY, **options),
        list_policies,
        "guesser",
        "Guesser",
    ),
    "verifier": (
        VERIFIERS,
        lambda spec, **options: load_verifier(spec, TOY, **options),
        list_verifiers,
        "judge",
        "Judge",
    ),
    "strategy": (STRATEGY_PARTS, load_strategy, list_strategies, "pairs", "Pairs"),
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_in_every_way(kind: str, file: Path) -> None:
    _, load, _, name, member = KINDS[kind]
    for spec in (name, f"others:{member}", f"{file}:{member}"):
        made = load(spec)
        assert (made if isinstance(made, type) else type(made)).__name__ == member, spec


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_holds_one_part_needs_no_name(kind: str, file: Path, tmp_path: Path) -> None:
    _, load, _, _, member = KINDS[kind]
    alone = tmp_path / "alone.py"
    alone.write_text(f"from others import {member}\nclass Own({member}):\n    '''Mine.'''\n")
    made = load(str(alone))
    assert (made if isinstance(made, type) else type(made)).__name__ == "Own"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_installed_is_listed_with_what_failed_and_why(kind: str, file: Path) -> None:
    _, _, entries, name, _ = KINDS[kind]
    listed = {entry.name: entry for entry in entries()}
    assert (listed[name].source, listed[name].failure) == ("others", None)
    assert listed[name].line.endswith("(others)")
    assert "No module named 'nowhere_at_all'" in (listed["gone"].failure or "")
    assert "SystemExit: 3" in (listed["quits"].failure or "")
    assert "does not say what it returns" in (listed["silent"].failure or "")
    assert listed["gone"].line.startswith("cannot be used: ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("others:silent", "is a function that does not say what it returns"),
        ("others:Bystander", "is a class, but no {kind}: it lacks "),
        ("others:CALLED", "is a list; allowed: a class with the methods of"),
        ("others:Nothing", "there is no 'Nothing' in it"),
        ("subprocess:run", "is a function that does not say what it returns"),
        ("os:system", "is a builtin_function_or_method|is a function that does not say what it returns"),
        ("builtins:dict", "is a class, but no {kind}"),
        ("others_quitting:Gone", "importing 'others_quitting' failed: SystemExit: 3"),
        ("nowhere_at_all:Gone", "No module named 'nowhere_at_all'"),
        ("no_such_file.py", "there is no file 'no_such_file.py'"),
    ],
)
def test_nothing_is_called_that_is_no_part(kind: str, spec: str, message: str, file: Path) -> None:
    registry, load, _, _, _ = KINDS[kind]
    assert registry.names_code(spec)
    with pytest.raises(UnusablePart, match=message.format(kind=kind).replace("(", r"\(")):
        load(spec)
    assert "others" not in sys.modules or sys.modules["others"].CALLED == []


def test_the_nearest_match_is_near() -> None:
    commands = ["/vote", "/env", "/more", "/tree"]
    assert nearest("/nope", commands) == ""
    assert nearest("/tre", commands) == "; did you mean '/tree'?"
    assert nearest("mxa", ["majority", "max", "vote"]) == "; did you mean 'max'?"


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_has_the_nearest_and_all_that_are_allowed(kind: str, file: Path) -> None:
    _, load, _, name, _ = KINDS[kind]
    with pytest.raises(
        UnusablePart, match=re.escape(f"{kind} '{name}s' is not known; did you mean '{name}'? Allowed: ")
    ):
        load(f"{name}s")


@pytest.mark.parametrize(
    ("kind", "spec", "options", "message"),
    [
        (
            "environment",
            "purse",
            {"siz": 1},
            "environment 'purse' has no option 'siz'; did you mean 'size'? allowed: size",
        ),
        ("environment", "purse", {"size": 0}, "environment 'purse': 'size' is 0; expected a whole number, at least 1"),
        ("policy", "guesser", {"eager": 1}, "policy 'guesser': 'eager' is 1; expected true or false"),
        (
            "policy",
            "others:Guesser",
            {"eagr": True},
            "policy 'others:Guesser' has no option 'eagr'; did you mean 'eager'?",
        ),
        ("policy", "served:x", {"depth": 0}, "policy 'served:x': 'depth' is 0; expected a whole number, at least 1"),
        ("policy", "served", {}, "policy 'served' cannot be made with no options: TypeError: missing"),
        ("verifier", "judge", {"strict": "no"}, "verifier 'judge': 'strict' is 'no'; expected true or false"),
        ("verifier", "judge", {"table": 1}, "verifier 'judge' has no option 'table'; allowed: strict"),
    ],
)
def test_options_of_plug_ins_are_checked(
    kind: str, spec: str, options: dict[str, Any], message: str, file: Path
) -> None:
    with pytest.raises(UnusablePart, match=re.escape(message)):
        KINDS[kind][1](spec, **options)


def test_a_plug_in_may_add_a_backend(file: Path) -> None:
    policy = load_policy("served:org/model-1.5b", TOY, depth=3)
    assert (policy.name, vars(policy)["depth"]) == ("org/model-1.5b", 3)
    assert not POLICIES.names_code("served:org/model-1.5b")


def test_a_function_that_says_what_it_makes_is_a_part(file: Path) -> None:
    assert vars(load_environment("others:make_purse", size=5)) == {"size": 5}


def test_names_that_run_code_are_told_from_names_that_do_not(file: Path) -> None:
    for registry in (ENVIRONMENTS, POLICIES, VERIFIERS, STRATEGY_PARTS):
        for code in ("a:b", "a.b:C", "x.py", "x.py:C", "../x.py", "os:system", "a:b:c"):
            assert registry.names_code(code), code
    for name in ("hf:Qwen/Qwen2.5-1.5B", "vllm:x", "openai:qwen2.5:1.5b", "scripted", "some/folder", "gone:model"):
        assert not POLICIES.names_code(name), name
    assert not VERIFIERS.names_code("pooling:Qwen/Qwen2.5-Math-PRM-7B")
    assert VERIFIERS.names_code("hff:Qwen/x")


def test_the_folder_of_a_plug_in_is_found_without_importing_it(file: Path) -> None:
    assert folders_of("stepwell.envs")["purse"] == file.parent
    assert "others" not in sys.modules


def test_a_judge_is_no_policy_and_a_policy_no_judge(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnusablePart, match=r"no policy: it lacks a submit\(\) that takes Propose: its own takes Score"):
        load_policy("others:Judge", TOY)
    with pytest.raises(UnusablePart, match=r"no verifier: it lacks a submit\(\) that takes Score: its own takes Propo"):
        load_verifier("others:Guesser", TOY)
    both = tmp_path / "both.py"
    both.write_text(
        "from policies import ScriptedPolicy\nfrom verifiers import TableVerifier\n"
        "class Mine(ScriptedPolicy):\n    'Proposes.'\nclass Ours(TableVerifier):\n    'Scores.'\n"
    )
    assert type(load_policy(str(both), TOY)).__name__ == "Mine"
    assert type(load_verifier(str(both), TOY)).__name__ == "Ours"


def test_strategies_are_dataclasses(tmp_path: Path) -> None:
    path = tmp_path / "plain.py"
    path.write_text("class Plain:\n    def search(self, graph): ...\n    @classmethod\n    def sized(cls, n): ...\n")
    with pytest.raises(UnusablePart, match="is no dataclass: its fields are its knobs"):
        load_strategy(str(path))
    assert is_dataclass(load_strategy("beam"))
