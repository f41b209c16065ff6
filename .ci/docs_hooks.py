"""What the documentation site adds to docs/: README, CONTRIBUTING, CHANGELOG and LICENSE, which lie at the top.

A link from them into docs/, and one from docs/ to them, is rewritten to where the target lies in the site. All links
are then checked by the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.txt",
}
"""Files at the top of the repository, and their places in the site."""

_LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


def in_site(target: str) -> str:
    """Where a link that is written in a page leads in the site; links between pages of docs/ stay as they are."""
    path = target.removeprefix("../")
    return PAGES.get(path, path.removeprefix("docs/"))


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie at the top of the repository."""
    from properdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite links that cross the border of docs/."""
    return markdown if page.file.src_uri.startswith("api/") else _LINK.sub(lambda link: in_site(link[1]), markdown)
