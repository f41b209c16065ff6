"""The documentation site: every page is in its navigation, and links across the border of docs/ are rewritten."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

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
