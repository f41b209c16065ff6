"""The tables of a study. What is the same in all rows stands in the title."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from agent.build import NO_VERIFIER
from agent.interface.terminal.tables import VOID, Column, tables
from agent.interface.text import quantity, visible, wrapped
from agent.study.table import level_order, p_text, points_text, short_labels, versus_name, versus_text

# ------------------------------------------------------------------------------------------------------- the results


def study_view(
    config: Mapping[str, Any],
    summaries: Sequence[Mapping[str, Any]],
    width: int,
    unicode: bool = True,
    holm: bool = False,
) -> Group:
    """The results of a study: for each environment, policy and verifier, accuracy (by level too) and cost of each line.

    Lines without a verifier have tables of their own only if there are several verifiers.

    Args:
        config: of the study.
        summaries: of `agent.study.table.summarize`.
        width: of the terminal.
        unicode: whether it shows more than ASCII.
        holm: add the p-values after Holm's correction.
    """
    names = _Names.of(summaries)
    parts: list[RenderableType] = []
    for environment, policy in dict.fromkeys((each["environment"], each["policy"]) for each in summaries):
        lines = [each for each in summaries if (each["environment"], each["policy"]) == (environment, policy)]
        verifiers = list(dict.fromkeys(line["verifier"] for line in lines))
        blocks = [lines]
        if sum(name != NO_VERIFIER for name in verifiers) > 1:
            blocks = [[line for line in lines if line["verifier"] == name] for name in verifiers]
        for block in blocks:
            verifier = next((line["verifier"] for line in block if line["verifier"] != NO_VERIFIER), NO_VERIFIER)
            setup = f"{names.environment[environment]} {config['split']}; policy {names.policy[policy]},"
            labels, same = _row_labels(block, names)
            title = f"{setup} verifier {names.verifier[verifier]}{same}, {_setting(config)}"
            parts.append(Text(visible(title), style="dim"))
            parts += tables(labels, _measured(config, block, unicode, holm), width, unicode)
    parts += [Text(visible(note), style="dim") for note in (*names.notes, *_legend(summaries, unicode, holm))]
    failed = sum(summary["errors"] for summary in summaries)
    if failed:
        parts.append(
            Text(f"searches that failed and count as wrong: {failed}; the file has their errors", style="yellow")
        )
    return Group(*parts)


@dataclass(frozen=True)
class _Names:
    """What labels are called in the tables, by label, and what they have in common."""

    environment: Mapping[str, str]
    policy: Mapping[str, str]
    verifier: Mapping[str, str]
    strategy: Mapping[str, str]
    notes: Sequence[str]

    @classmethod
    def of(cls, summaries: Sequence[Mapping[str, Any]]) -> _Names:
        found, notes = {}, []
        for axis in ("environment", "policy", "verifier", "strategy"):
            found[axis], told = short_labels(dict.fromkeys(each[axis] for each in summaries))
            notes += [f"everywhere {note}" for note in told]
        return cls(**found, notes=notes)


def _setting(config: Mapping[str, Any]) -> str:
    """What all cells share."""
    seeds = config["seeds"]
    return (
        f"vote {config['vote']['rule']} of {config['vote']['aggregate']}, temperature {config['temperature']:g},"
        f" {config['n']} problems, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
    )


def _row_labels(lines: Sequence[Mapping[str, Any]], names: _Names) -> tuple[list[Column], str]:
    """Strategy and budget as columns, and what is the same in all rows as words for the title."""
    strategies = Column("strategy", [visible(names.strategy[line["strategy"]]) for line in lines], left=True)
    budgets = Column("budget", [visible(line["budget"]) for line in lines])
    if len(set(strategies.cells)) == 1 < len(set(budgets.cells)):
        return [budgets], f", strategy {strategies.cells[0]}"
    if len(set(budgets.cells)) == 1 < len(set(strategies.cells)):
        return [strategies], f", budget {budgets.cells[0]}"
    return [strategies, budgets], ""


def _measured(
    config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], unicode: bool, holm: bool
) -> list[list[Column]]:
    """Accuracy with its difference, accuracy by level, and cost, less the columns in which nothing stands."""
    mark = "±" if unicode else "+-"
    right = [
        Column("right", [_accuracy(line, config["n"]) for line in lines]),
        Column("95 %", [_interval(line) for line in lines]),
    ]
    if any(line["abstained"] for line in lines):
        shares = [line["abstained"] / line["searches"] if line["searches"] else None for line in lines]
        answered = [line["accuracy_answered"] for line in lines]
        right.append(Column("abstains", [VOID if each is None else f"{each:.1%}" for each in shares]))
        right.append(Column("right if\nanswered", [VOID if each is None else f"{each:.1%}" for each in answered]))
    versus = next((versus_name(line) for line in lines if "versus" in line), None)
    if versus is not None:
        header = "\n".join(wrapped(visible(f"versus {versus}"), 22))
        right.append(Column(header, [_difference(line) for line in lines]))
        if holm:
            right.append(Column("p\nHolm", [_p_value(line) for line in lines]))
    found = dict.fromkeys(level for line in lines for level in line["levels"])
    levels = [
        Column(_level_name(level, lines), [_level(line["levels"].get(level), mark) for line in lines])
        for level in sorted(found, key=level_order)
    ]
    return [right, levels, [column for column in _costs(lines) if set(column.cells) - {"0", "0.00", VOID}]]


def _costs(lines: Sequence[Mapping[str, Any]]) -> list[Column]:
    made: list[tuple[str, Callable[[Mapping[str, float]], str]]] = [
        ("samples", lambda cost: f"{cost['samples']:.2f}"),
        ("policy\ntokens", lambda cost: quantity(cost["generated"] + cost["prefilled"])),
        ("verifier\ntokens", lambda cost: quantity(cost["verifier_tokens"])),
        ("FLOP", lambda cost: quantity(cost["policy_flops"] + cost["verifier_flops"])),
        ("FLOP-\nequiv.", lambda cost: quantity(cost["flop_equivalents"]) if cost["flop_equivalents"] else VOID),
        ("seconds", lambda cost: f"{cost['seconds']:.2f}"),
    ]
    return [
        Column(header, [text(line["cost"]) if line["searches"] else VOID for line in lines]) for header, text in made
    ]


def _accuracy(line: Mapping[str, Any], n: int) -> str:
    if not line["n"]:
        return VOID
    return f"{line['accuracy']:.1%}" + (f" of {line['n']}" if line["n"] < n else "")


def _interval(line: Mapping[str, Any]) -> str:
    return "{:.1f} to {:.1f}".format(*(100 * share for share in line["interval"])) if line["n"] else VOID


def _difference(line: Mapping[str, Any]) -> str:
    if "difference" not in line or not line["paired"]:
        return VOID
    return points_text(line["difference"])


def _p_value(line: Mapping[str, Any]) -> str:
    return p_text(line["p_holm"]) if "p_holm" in line and line["paired"] else VOID


def _level_name(level: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """A level, and how many problems it has if that is the same in all lines."""
    counts = {line["levels"][level]["n"] for line in lines if level in line["levels"]}
    name = visible(f"level {level}" if level_order(level)[0] is False else level)
    return f"{name}\nn = {counts.pop()}" if len(counts) == 1 else name


def _level(level: Mapping[str, Any] | None, mark: str) -> str:
    if level is None:
        return VOID
    low, high = level["interval"]
    return f"{level['accuracy']:.0%} {mark}{(high - low) * 50:.0f}"


def _legend(summaries: Sequence[Mapping[str, Any]], unicode: bool, holm: bool) -> list[str]:
    """What the columns mean."""
    notes = []
    compared = [line for line in summaries if "versus" in line and line["paired"]]
    if compared:
        notes.append(versus_text(compared))
        if holm:
            notes.append(f"p Holm: two-sided, corrected for the {len(compared)} comparisons of this report")
    if any(line["levels"] for line in summaries):
        notes.append(f"{'±' if unicode else '+-'} is half the width of the 95 % interval")
    notes.append("what a line cost is the mean per search; seconds are those of a search among others")
    return notes


def votes_view(
    found: Sequence[tuple[str, Mapping[tuple[str, str], float]]],
    silent: Mapping[str, str],
    width: int,
    unicode: bool = True,
) -> Group:
    """Accuracy under every vote.

    Args:
        found: of `agent.study.table.vote_table`: a title and the accuracy by (rule, aggregate), by line of the study.
        silent: of `agent.study.table.uniform_votes`: the environments that are left out, each with why.
        width: of the terminal.
        unicode: whether it shows more than ASCII.
    """
    parts: list[RenderableType] = []
    for title, accuracies in found:
        rules, ways = (list(dict.fromkeys(key[at] for key in accuracies)) for at in (0, 1))
        columns = [Column(rule, [f"{accuracies[rule, how]:.1%}" for how in ways]) for rule in rules]
        parts.append(Text(visible(title), style="dim"))
        parts += tables([Column("scores", ways, left=True)], [columns], width, unicode)
    for environment, why in silent.items():
        parts.append(Text(visible(f"no votes of {environment} to compare: {why}"), style="dim"))
    return Group(*parts)
