"""Words and numbers as a person reads them: short texts, quantities, durations, what the terminal can show."""

from __future__ import annotations

from rich.console import Console


def unicode_of(console: Console) -> bool:
    """Whether the terminal can show more than ASCII."""
    return console.encoding.lower().startswith("utf")


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
