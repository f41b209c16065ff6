"""Tables fit the terminal, whatever stands in them, and cut nothing that tells rows apart."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import RenderableType

from agent.interface.control.client import Process
from agent.interface.control.ctl_view import list_view
from agent.interface.terminal.console import PlainConsole
from agent.interface.terminal.tables import Column, tables
from agent.interface.text import wrapped

LABELS = ["模型" * 20 + " x", "🚀" * 30, "a_long_label_" * 8, "beam branch=2 template=" + "x" * 80, "e\u0301" * 50]
SEARCHES: list[dict[str, Any]] = [
    {
        "id": "3", "state": "running", "busy": True, "samples": 12.3, "budget": {"samples": 64.0}, "nodes": 1234,
        "seconds": 83.2, "strategy": {"name": "adaptive-consistency"}, "problem": "Find all n below 100. " * 9,
    },
    {
        "id": "14", "state": "paused", "samples": 120.3, "nodes": 41234, "seconds": 4000.0,
        "budget": {"samples": 256, "flops": 1e12, "seconds": 60}, "strategy": {"name": "beam"}, "problem": "1 + 2",
    },
    {"id": "15", "state": "waiting", "problem": "模型" * 40},
]  # fmt: skip


def printed(view: RenderableType, width: int, **ways: Any) -> str:
    out = io.StringIO()
    PlainConsole(file=out, width=width, **ways).print(view)
    text = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    return text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("ways", [{}, {"force_terminal": True, "no_color": True}], ids=["pipe", "no colour"])
def test_the_list_of_searches_is_whole_at_any_width(width: int, ways: dict[str, bool]) -> None:
    process = Process(Path("x"), {"pid": 4012345, "command": "solve"}, SEARCHES)
    text = printed(list_view([process], width), width, **ways)
    for word in (
        *(
            "4012345/3",
            "4012345/14",
            "4012345/15",
            "running",
            "(model busy)",
            "paused",
            "waiting",
            "12.3 of 64 samples",
        ),
        *("1e+12 flops", "60 seconds", "41234", "1 min 23 s", "1 h 06 min", "adaptive-consistency", "solve", "1 + 2"),
        *("Find all n below 100.", "模型模型"),
    ):
        assert word in text


@pytest.mark.parametrize("width", [20, 30, 36, 40, 50, 60, 80])
@pytest.mark.parametrize("label", LABELS, ids=["wide", "emoji", "one word", "long option", "combining"])
def test_labels_of_any_letters_leave_room_for_the_figures(label: str, width: int) -> None:
    labels = [Column("strategy", [label, "b"], left=True), Column("budget", ["4", "16"])]
    figures = [[Column("right", ["1.0%", "2.0%"])], [Column("versus greedy", ["-33.3 (-63.7 to +13.7)"] * 2)]]
    text = "".join(printed(each, width) for each in tables(labels, figures, width))
    assert " ".join(text.split()).count("-33.3 (-63.7 to +13.7)") == 2  # on one line, but where it has none to itself
    assert width < 40 or text.count("-33.3 (-63.7 to +13.7)") == 2
    assert "1.0%" in text
    assert "16" in text


@pytest.mark.parametrize("width", [24, 32, 40, 45, 50, 55])
def test_several_long_labels_leave_room_for_the_figures(width: int) -> None:
    labels = [
        Column("strategy", ["adaptive-consistency", "beam branch=2 chain=1"], left=True),
        Column("cell", ["12", "3"]),
        Column("budget", ["samples=8,tokens=100000", "flops=1e12"]),
        Column("seed", ["0", "1"]),
    ]
    figures = [[Column("right", ["91.7%", "8.3%"]), Column("versus\nbest-of-n", ["+16.7 (-22.0 to +44.9)", "-"])]]
    text = "".join(printed(each, width) for each in tables(labels, figures, width))
    for word in ("91.7%", "8.3%", "tokens=100000", "flops=1e12"):
        assert word in text
    assert "+16.7 (-22.0 to +44.9)" in " ".join(text.split())
    assert "branch=2" in "".join(text.split())


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("one verylongword x", 5, ["one", "veryl", "ongwo", "rd x"]),
        ("数学数学 数", 5, ["数学", "数学", "数"]),
        ("数学", 1, ["数", "学"]),
        ("", 5, []),
    ],
)
def test_texts_are_wrapped_by_columns(text: str, width: int, lines: list[str]) -> None:
    assert wrapped(text, width) == lines
