"""Words and numbers as a person reads them: texts that do nothing to a terminal, quantities, durations.

Models, servers, problems and files are strangers. What they wrote is shown by `visible`, and as JSON by `json_text`.
`agent.interface.terminal.console` applies `visible` once more to all that is printed.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

MESSAGE = 2000  # characters of an error that are shown: a server may answer with megabytes


def visible(text: str) -> str:
    """A text that does nothing to a terminal or a log: what is not a character to be seen becomes its escape.

    Escaped are the control characters of C0 and C1 (ESC, BEL, DEL and carriage returns among them), what changes the
    direction of a text, what has no width, private and unassigned characters, halves of surrogate pairs. Lines stay
    lines; every other blank is a space.
    """
    if text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(each if each.isprintable() or each == "\n" else _escape(each) for each in text)


def _escape(character: str) -> str:
    if character == "\t" or unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode()


def json_text(value: object) -> str:
    """A value as indented JSON whose texts do nothing to a terminal either; read back, it is the same value."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def message(error: BaseException) -> str:
    """What an error says, on one line: with its kind if it is not one of those that are written for people."""
    text = str(error)
    if not isinstance(error, ValueError | OSError | RuntimeError) or isinstance(error, UnicodeError | RecursionError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return brief(visible(text or type(error).__name__), MESSAGE)


def unicode_of(console: Console) -> bool:
    """Whether the terminal can show more than ASCII."""
    return console.encoding.lower().startswith("utf")


def wrapped(text: str, width: int) -> list[str]:
    """A text on lines of at most so many columns of a terminal: broken between words, and inside what is longer."""
    from rich.cells import cell_len, chop_cells

    lines: list[str] = []
    for word in text.split():
        if lines and cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines += chop_cells(word, max(2, width))  # a character may take two columns
    return lines


def brief(text: str, most: int = 100) -> str:
    """A text on one line, cut if it is long: options may hold a template of pages."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def quantity(number: float, unit: str = "") -> str:
    """A count in at most four characters and a prefix: 950, 12.3 k, 4.56 G."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {prefix}{unit}"
    text = f"{number:.0f}" if number == int(number) else f"{number:.3g}"
    return f"{text} {unit}".rstrip()


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.42 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def unicode_dash(unicode: bool) -> str:
    """What stands where there is no number."""
    return "–" if unicode else "-"
