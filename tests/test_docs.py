"""The documentation site: its navigation, links across the border of docs/, and the tests that a page names."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.envs.math.answer_pairs import DIFFERENT, SAME

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / ".ci" / "docs_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages(entries: list[Any]) -> list[str]:
    """The pages that a navigation names, from top to bottom."""
    found: list[str] = []
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += pages(value) if isinstance(value, list) else [value]
    return found


def test_every_page_is_in_the_navigation_once(hooks: ModuleType) -> None:
    told = pages(yaml.safe_load((ROOT / ".ci" / "docs.yml").read_text(encoding="utf-8"))["nav"])
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(told) == sorted([*written, *(page for page in hooks.PAGES.values() if page.endswith(".md"))])


def test_every_door_has_an_api_page() -> None:
    for door in ("agent", "envs", "policies", "verifiers"):
        assert f"\n::: {door}\n" in (ROOT / "docs" / "api" / f"{door}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("written", "leads_to"),
    [
        ("docs/lab.md", "lab.md"),
        ("../CONTRIBUTING.md", "contributing.md"),
        ("CHANGELOG.md", "changelog.md"),
        ("../README.md", "index.md"),
        ("LICENSE", "license.txt"),
        ("lab.md", "lab.md"),
        ("https://example.org/docs/x.md", "https://example.org/docs/x.md"),
    ],
)
def test_links_lead_where_the_site_has_their_target(hooks: ModuleType, written: str, leads_to: str) -> None:
    assert hooks.in_site(written) == leads_to


def test_continuous_integration_builds_the_site_with_warnings_as_errors() -> None:
    assert 'properdocs" build --strict' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


FAULTS = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in FAULTS.splitlines() if re.match(r"\| [A-Z]\d+ \|", line)]


@cache
def functions_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef))


def is_there(name: str) -> bool:
    """Whether there is a file or, for `path::name`, a test in it."""
    path, _, test = name.partition("::")
    return (ROOT / path).is_file() and (not test or test in functions_in(path))


def test_every_fault_has_a_number_a_file_and_a_test() -> None:
    assert len(ROWS) > 100
    assert {len(row) for row in ROWS} == {5}
    assert len({number for number, *_ in ROWS}) == len(ROWS)
    for number, _, _, files, tests in ROWS:
        assert re.findall(r"`([\w./-]+)`", files), number
        assert re.findall(r"`tests/[\w./]+::test_\w+`", tests), number


def test_the_page_of_faults_names_files_and_tests_that_there_are() -> None:
    files = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[3])]
    tests = re.findall(r"tests/[\w./]+::\w+", FAULTS)
    assert len(tests) > len(ROWS)
    assert [name for name in dict.fromkeys([*files, *tests]) if not is_there(name)] == []


def test_the_page_of_faults_names_kinds_of_pairs_that_there_are() -> None:
    kinds = [kind for row in ROWS for told in re.findall(r"\(([^()]+)\)$", row[4]) for kind in told.split(", ")]
    assert len(kinds) > 10
    assert set(kinds) <= {*SAME, *DIFFERENT}


def test_a_wrong_name_is_noticed() -> None:
    assert not is_there("tests/test_docs.py::test_that_there_is_not")
    assert not is_there("tests/test_there_is_none.py::test_a")
    assert not is_there("docs/there_is_none.md")
    assert is_there("tests/test_docs.py::test_a_wrong_name_is_noticed")
