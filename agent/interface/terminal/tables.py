"""Tables in a terminal of any width.

Nothing that tells rows apart is ever cut: columns that do not fit go into a table of their own below, with the same row
labels; only the labels of rows may take several lines. Where not even one column fits beside the labels, each row is a
list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import ASCII2, SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from agent.interface.text import wrapped

_GAP = 3  # columns between two cells: a space, the box's divider, a space
_EDGES = 2
_LEAST = 12  # columns that the labels of rows get at least
VOID = "-"


@dataclass(frozen=True)
class Column:
    """A column of a table: a header, which may have several lines, and a cell for each row."""

    header: str
    cells: Sequence[str]
    left: bool = False

    @property
    def width(self) -> int:
        """Columns of the terminal that it takes."""
        return max(cell_len(line) for text in (self.header, *self.cells) for line in text.split("\n"))


def tables(
    labels: Sequence[Column], groups: Sequence[Sequence[Column]], width: int, unicode: bool = True
) -> list[RenderableType]:
    """Columns as tables that are `width` wide at most, each with the labels of the rows.

    Args:
        labels: what tells rows apart; the first is wrapped where it must be.
        groups: columns that belong together; a group that does not fit beside the one before begins a table.
        width: of the terminal.
        unicode: draw with box characters; with ASCII otherwise.
    """
    widest = max((column.width for group in groups for column in group), default=0)
    labels = _wrapped(given := labels, width - _EDGES - _GAP - widest)
    fixed = _total(labels)
    if fixed + _GAP + widest > width - _EDGES:
        return [_lists(given, [column for group in groups for column in group], width)]
    made: list[list[Column]] = []
    for group in groups:
        if made and fixed + _GAP + _total([*made[-1], *group]) <= width - _EDGES:
            made[-1] += group
            continue
        made.append([])
        for column in group:
            if made[-1] and fixed + _GAP + _total([*made[-1], column]) > width - _EDGES:
                made.append([])
            made[-1].append(column)
    return [_table([*labels, *columns], unicode) for columns in made if columns]


def _wrapped(labels: Sequence[Column], room: int) -> list[Column]:
    """The labels with lines broken, as far as they take more room than there is: words of the first, then the rest.

    Where that is not enough, they are one column, each label below the other.
    """
    first, *others = labels
    if _LEAST + sum(_GAP + column.width for column in others) > room:
        others = [Column(each.header, [cell.replace(",", ",\n") for cell in each.cells]) for each in others]
    left = max(_LEAST, room - sum(_GAP + column.width for column in others))
    if first.width > left:
        cells = ["\n".join(wrapped(cell, left)) for cell in first.cells]
        first = Column(first.header, cells, first.left)
    if not others or _total([first, *others]) <= room:
        return [first, *others]
    beside = max(_LEAST, room)
    headers, *rows = zip(*((each.header, *each.cells) for each in labels), strict=True)
    cells = ["\n".join(line for cell in row for line in wrapped(cell.replace(",", ", "), beside)) for row in rows]
    return [Column("\n".join(headers), cells, left=True)]


def _lists(labels: Sequence[Column], columns: Sequence[Column], width: int) -> RenderableType:
    """Rows below each other, each with its labels as a heading and its cells as lines."""
    lines: list[str] = []
    for row in range(len(labels[0].cells)):
        heading = ", ".join(f"{each.header} {each.cells[row]}" for each in labels)
        lines += wrapped(heading, width)
        for column in columns:
            said = wrapped(f"{column.header} {column.cells[row]}", width - _EDGES)
            lines += [" " * _EDGES + line for line in said]
    return Text("\n".join(lines))


def table_width(columns: Sequence[Column]) -> int:
    """Columns of the terminal that a table takes."""
    return _EDGES + _total(columns)


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _table(columns: Sequence[Column], unicode: bool) -> Table:
    table = Table(box=SIMPLE_HEAD if unicode else ASCII2, pad_edge=False)
    for column in columns:
        header = Text(column.header)
        table.add_column(header, justify="left" if column.left else "right", min_width=column.width, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table
