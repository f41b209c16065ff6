"""The table of a study for spreadsheets and papers: CSV, Markdown, LaTeX.

CSV holds every number, unrounded, one row per line of the table. Markdown and LaTeX are to be read: accuracy with its
interval, the paired difference and what a search costs; what is the same in all rows is told once, above the table.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.build import NO_VERIFIER
from agent.study.table import GROUP, level_order, p_text, points_text, short_labels, versus_name, versus_text

Summaries = Sequence[Mapping[str, Any]]  # of `agent.study.table.summarize`
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def csv_table(config: Mapping[str, Any], summaries: Summaries, holm: bool = False) -> str:
    """Every number of the table, with a header: shares from 0 to 1, costs as means per search; empty where unknown."""
    levels = sorted({level for line in summaries for level in line["levels"]}, key=level_order)
    rows = [_flat(line, levels) for line in summaries]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(line: Mapping[str, Any], levels: Sequence[str]) -> dict[str, Any]:
    known, cost = line["n"] > 0, line["cost"]
    low, high = line["interval"] if known else (None, None)
    row: dict[str, Any] = {key: _label(line[key]) for key in GROUP}
    row |= {key: line[key] for key in ("n", "searches", "correct", "errors", "accuracy")}
    row |= {"low": low, "high": high}
    row |= {key: line[key] for key in ("abstained", "accuracy_answered")}
    difference = line.get("difference", (None, None, None)) if line.get("paired") else (None, None, None)
    row |= {key: _label(line[key]) if key in line else None for key in ("versus", "versus_budget")}
    row |= {key: line.get(key) for key in ("paired", "differing")}
    row |= dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True))
    row |= {key: line.get(key) for key in ("p", "p_holm")}
    row |= cost | {"flops": cost["policy_flops"] + cost["verifier_flops"] if line["searches"] else None}
    for level in levels:
        found = line["levels"].get(level)
        names = (f"level {level}", f"level {level} low", f"level {level} high", f"level {level} n")
        values = (found["accuracy"], *found["interval"], found["n"]) if found else (None,) * 4
        row |= dict(zip(names, values, strict=True))
    return row


def _label(text: str) -> str:
    """A label on one line that no spreadsheet takes for a formula."""
    line = _line(text)
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line


def markdown_table(config: Mapping[str, Any], summaries: Summaries, holm: bool = False) -> str:
    """A table as GitHub and most others read it, under a line that says what it is about."""
    caption, headers, rows = _readable(config, summaries, holm)
    head = [headers, ["---" if text in GROUP else "---:" for text in headers]]
    lines = ["| " + " | ".join(map(_markdown, row)) + " |" for row in (*head, *rows)]
    return f"{_markdown(caption)}\n\n" + "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)


def latex_table(config: Mapping[str, Any], summaries: Summaries, holm: bool = False) -> str:
    r"""A ``tabular`` for ``\usepackage{booktabs}``, under comments that say what it is about: the caption is yours."""
    caption, headers, rows = _readable(config, summaries, holm)
    columns = "".join("l" if text in GROUP else "r" for text in headers)
    body = [" & ".join(map(_latex, row)) + r" \\" for row in rows]
    return "\n".join(
        [
            f"% {caption}",
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_latex, headers)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def _latex(text: str) -> str:
    """A cell with all that LaTeX would take for its own made harmless, and signs of numbers in mathematics."""
    made = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w.=-])([+-])(?=\d)", r"$\1$", made)


FORMATS: dict[str, Callable[[Mapping[str, Any], Summaries, bool], str]] = {
    "csv": csv_table,
    "markdown": markdown_table,
    "latex": latex_table,
}
"""What ``stepwell report --table`` takes."""


def _readable(config: Mapping[str, Any], summaries: Summaries, holm: bool) -> tuple[str, list[str], list[list[str]]]:
    """A caption, the headers and the rows; every text on one line."""
    columns: dict[str, list[str]] = {}
    same = []
    for axis in GROUP:
        short, notes = short_labels(dict.fromkeys(line[axis] for line in summaries))
        cells = [short[line[axis]] for line in summaries]
        if len(set(cells)) > 1 or axis == "strategy":
            columns[axis] = cells
            same += [f"all {note}" for note in notes]
        elif cells[0] != NO_VERIFIER:
            same.append(f"{axis} {cells[0]}")
    whole = all(line["n"] == config["n"] for line in summaries)
    if not whole:
        columns["problems"] = [str(line["n"]) for line in summaries]
    columns["right (%)"] = [_percent(line["accuracy"]) for line in summaries]
    columns["95 %"] = [
        f"{_percent(line['interval'][0])} to {_percent(line['interval'][1])}" if line["n"] else "" for line in summaries
    ]
    if any(line["abstained"] for line in summaries):
        columns["abstains (%)"] = [_percent(_silent(line)) for line in summaries]
        columns["right if answered (%)"] = [_percent(line["accuracy_answered"]) for line in summaries]
    compared = [line for line in summaries if line.get("paired")]
    if compared:
        columns[f"versus {versus_name(compared[0])}"] = [_difference(line) for line in summaries]
        if holm:
            columns["p (Holm)"] = [p_text(line["p_holm"]) if line.get("paired") else "" for line in summaries]
    columns["samples"] = [_rounded(line["cost"]["samples"]) for line in summaries]
    flops = [line["cost"]["policy_flops"] and sum(line["cost"][f"{kind}_flops"] for kind in ("policy", "verifier"))
             for line in summaries]  # fmt: skip
    if any(flops):  # those of a server whose model is not known are not counted
        unit = _unit([value for value in flops if value])
        columns[f"{unit[1]}FLOP"] = ["" if value is None else _rounded(value / unit[0]) for value in flops]
    equivalents = [line["cost"]["flop_equivalents"] for line in summaries]
    if any(equivalents):  # not of files that were made before memory traffic was counted
        unit = _unit([value for value in equivalents if value])
        cells = ["" if value is None else _rounded(value / unit[0]) for value in equivalents]
        columns[f"{unit[1]}FLOP-equivalents"] = cells
    columns = {_line(header): [_line(cell) for cell in cells] for header, cells in columns.items()}
    return _line(_caption(config, same, compared)), list(columns), list(map(list, zip(*columns.values(), strict=True)))


def _caption(config: Mapping[str, Any], same: Sequence[str], compared: Summaries) -> str:
    seeds = config["seeds"]
    parts = [
        *same,
        f"{config['n']} problems of the {config['split']} split",
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}",
        f"temperature {config['temperature']:g}",
        f"vote {config['vote']['rule']} of {config['vote']['aggregate']}",
        "intervals of 95 % (Wilson; seeds of a problem are one cluster)",
        *([versus_text(compared)] if compared else []),
        "costs are means per search",
    ]
    return "; ".join(parts) + "."


def _line(text: str) -> str:
    """A text on one line, without what no reader can see."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _silent(line: Mapping[str, Any]) -> float | None:
    return line["abstained"] / line["searches"] if line["searches"] else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _difference(line: Mapping[str, Any]) -> str:
    if not line.get("paired"):
        return ""
    return points_text(line["difference"])


def _unit(values: Sequence[float]) -> tuple[float, str]:
    """The largest prefix under which no value is below 1, so that a column can be compared by eye."""
    return next(((size, prefix) for size, prefix in _PREFIXES if size <= min(values)), _PREFIXES[-1])


def _rounded(value: float | None) -> str:
    """Three digits, and all those before the point."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"
