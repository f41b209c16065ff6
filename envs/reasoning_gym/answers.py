"""Which answers to the tasks of reasoning-gym are right, where a task's own scorer does not say so by itself.

The scorers give part marks, so that a training run has something to climb: for text around an answer, for a number that
is close, for each cell of a grid, for the beginning of a list. Many give *all* marks to wrong answers as well: to a
``nan`` for any complex number, to a list with words too many, to any text where there is no root. Here an answer is
right or it is not, in one of three ways:

* Most tasks have one right answer. `READERS` says what a text says, strictly and as a whole; an answer is right if it
  says what the gold answer says. A task that is not named there wants the exact text.
* `JUDGED` are tasks where the facts of an entry decide. Of a number that the gold answer does not write out in full, an
  answer is right if it is that number rounded to as many digits as it has, and if these are enough.
* `MANY` are puzzles with many right answers. There the scorer, which replays an answer, is asked for full marks, but
  only about a text that has the form of an answer: the scorers pass over what they do not understand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

FULL_MARKS = 1.0
MAX_MOVES = 1000  # of a cube: the scorer turns it one by one

Reader = Callable[[str], Hashable]

_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)


class _Unreadable(ValueError):
    """A text is no answer to a task of this kind."""


def is_right(task: str, answer: str, gold: str, entry: Mapping[str, Any], score: Callable[[str], float]) -> bool:
    """Whether an answer to an entry of a task is right.

    Args:
        task: its name.
        answer: as a model wrote it, of bounded length.
        gold: a right answer.
        entry: as the task makes it, with the facts in its ``metadata``.
        score: the task's own scorer; asked for `MANY` only. It may raise.
    """
    answer, gold = answer.strip(), gold.strip()
    if answer == gold:
        return True
    try:
        if task in MANY:
            return MANY[task](answer, entry) and score(answer) >= FULL_MARKS
        if task in JUDGED:
            return JUDGED[task](answer, gold, entry)
        reader = READERS.get(task, _text)
        return bool(reader(answer) == reader(gold))
    except Exception:  # whatever a reader or a scorer stumbles over is no right answer
        return False


def says_the_same(task: str, a: str, b: str) -> bool:
    """Whether two answers say the same; those that cannot be read do if their texts are equal."""
    reader = READERS.get(task, _text)
    try:
        return bool(reader(a.strip()) == reader(b.strip()))
    except Exception:  # whatever a reader stumbles over
        return bool(_text(a) == _text(b))


def is_sound(task: str, gold: str, entry: Mapping[str, Any]) -> bool:
    """Whether the gold answer of an entry is right, as far as the entry lets one see."""
    return task != "time_intervals" or _is_true_interval(gold, entry)


# ------------------------------------------------------------------------------------------------ what a text says


def _text(text: str) -> Hashable:
    """The text, whatever the space at the ends of lines."""
    return tuple(line.rstrip() for line in text.strip().split("\n"))


def _caseless(text: str) -> Hashable:
    return " ".join(text.lower().split())


def _letters(text: str) -> Hashable:
    """A word, its letters spaced or not."""
    return "".join(text.lower().split())


def _number(text: str) -> Decimal:
    """A decimal number, as people write it: commas between thousands, a point at the end."""
    text = text.strip()
    if not _NUMBER.fullmatch(text) or not re.search(r"\d", text.partition("e")[0].partition("E")[0]):
        raise _Unreadable(text)
    return Decimal(text.replace(",", ""))


def _amount(text: str) -> Hashable:
    """A number, perhaps with the sign of a currency."""
    return _number(re.sub(r"^([+-]?)[$£€]", r"\1", text.strip()))


def _whole(text: str) -> Hashable:
    """An integer in any base that its prefix tells."""
    if not re.fullmatch(r"[+-]?(?:0x[0-9a-f]+|0b[01]+|0o[0-7]+|[1-9]\d*|0)", text, re.IGNORECASE | re.ASCII):
        raise _Unreadable(text)
    return int(text, 0) if len(text) < 1000 else text


def _date_or_number(text: str) -> Hashable:
    return int(text) if re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII) else _caseless(text)


def _numbers(text: str) -> Hashable:
    """A list of numbers, each in quotation marks or not."""
    listed = re.fullmatch(r"\[(.*)\]", text, re.DOTALL)
    if listed is None:
        raise _Unreadable(text)
    return tuple(_number(re.sub(r"^(['\"])(.*)\1$", r"\2", item.strip())) for item in listed[1].split(","))


def _roots(text: str) -> Hashable:
    return tuple(sorted(_number(root) for root in text.split(",")))


def _factors(text: str) -> Hashable:
    """A product, in any order."""
    factors = re.split(r"\s*[×*x·]\s*", text.strip())
    if not all(re.fullmatch(r"\d{1,30}", factor, re.ASCII) for factor in factors):
        raise _Unreadable(text)
    return tuple(sorted(map(int, factors)))


def _complex(text: str) -> Hashable:
    """``a + bi`` or one of its two parts, in parentheses or not."""
    if re.search(r"[\d.]\s+[\d.]", text):
        raise _Unreadable(text)  # two numbers
    text = text.replace(" ", "").lower().replace("j", "i")
    text = re.sub(r"^\((.*)\)$", r"\1", text)
    number = r"\d+(?:\.\d*)?"
    parts = re.fullmatch(rf"([+-]?{number}(?![\d.]*i))?(?:([+-]?)({number})?(i))?", text, re.ASCII)
    if not text or parts is None or (parts[1] and parts[4] and not parts[2]):
        raise _Unreadable(text)
    imaginary = Decimal(f"{parts[2]}{parts[3] or 1}") if parts[4] else Decimal(0)
    return Decimal(parts[1] or 0), imaginary


def _fraction(text: str) -> Hashable:
    """Two numbers, plain or in LaTeX; whether they have a factor in common is told apart."""
    text = text.strip().strip("$").strip()
    latex = re.fullmatch(r"\\[dt]?frac\s*\{\s*(\d{1,99})\s*\}\s*\{\s*(\d{1,99})\s*\}", text, re.ASCII)
    parts = latex or re.fullmatch(r"(\d{1,99})\s*/\s*(\d{1,99})", text, re.ASCII)
    if parts is None:
        raise _Unreadable(text)
    return int(parts[1]), int(parts[2])


def _point(text: str) -> Hashable:
    """A number, an angle or a pair of coordinates."""
    pair = re.fullmatch(r"\(([^,()]*),([^,()]*)\)", text)
    return (_number(pair[1]), _number(pair[2])) if pair else _number(text.removesuffix("°"))


def _grid(text: str) -> Hashable:
    """Rows of cells with space between them."""
    return tuple(tuple(line.split()) for line in text.strip().split("\n"))


def _numeric_grid(text: str) -> Hashable:
    return tuple(tuple(map(_number, line.split())) for line in text.strip().split("\n"))


def _json(text: str) -> Hashable:
    """Data, however it is spaced; 1 and 1.0 are one number, and true is none."""

    def unknown(name: str) -> None:
        raise _Unreadable(name)

    return _hashable(json.loads(text, parse_int=Decimal, parse_float=Decimal, parse_constant=unknown))


def _hashable(data: Any) -> Hashable:
    match data:
        case dict():
            return "object", frozenset((key, _hashable(value)) for key, value in data.items())
        case list():
            return "array", tuple(map(_hashable, data))
        case bool():
            return "true" if data else "false", None
    return (type(data).__name__, data)


def _sets_of_words(text: str) -> Hashable:
    """Lists of words, the order of neither told apart."""
    return tuple(sorted(tuple(sorted(words)) for words in _lists_of_words(text)))


def _set_of_lists(text: str) -> Hashable:
    """Lists of words, in any order."""
    return tuple(sorted(map(tuple, _lists_of_words(text))))


def _lists_of_words(text: str) -> list[list[str]]:
    lists: list[list[str]] = json.loads(text)
    words = isinstance(lists, list) and all(isinstance(each, list) for each in lists)
    if not words or not all(isinstance(word, str) for each in lists for word in each):
        raise _Unreadable(text)
    return lists


def _words(text: str) -> Hashable:
    return tuple(word.strip() for word in text.split(","))


def _roles(text: str) -> Hashable:
    """Who is what; a person may be named once."""
    told = re.split(r"\s*(?:,\s*and\b|,|;|\band\b|\n)\s*", text.strip().rstrip(".").lower())
    found = [re.fullmatch(r"(\w+) is an? (\w+)", " ".join(part.split())) for part in told]
    roles = {role[1]: role[2] for role in found if role}
    if len(roles) < len(told):
        raise _Unreadable(text)
    return frozenset(roles.items())


def _interval(text: str) -> tuple[bool, Decimal]:
    """Days, a time, or both, in seconds; and whether there are days."""
    text = text.strip()
    parts = re.fullmatch(r"(?:(\d{1,6}) days?,\s*)?(\d{1,3}):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?", text, re.ASCII)
    if parts is None:
        whole = re.fullmatch(r"(\d{1,6})(?: days?)?", text, re.ASCII)
        if whole is None:
            raise _Unreadable(text)
        return True, 86400 * Decimal(whole[1])
    days, hours, minutes, seconds, thousandths = parts.groups()
    clock = 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0)
    return days is not None, 86400 * int(days or 0) + clock + Decimal(f"0.{thousandths or 0}")


READERS: dict[str, Reader] = {
    "arc_agi": _grid,
    "bitwise_arithmetic": _whole,
    "calendar_arithmetic": _date_or_number,
    "codeio": _json,
    "color_cube_rotation": _caseless,
    "complex_arithmetic": _complex,
    "decimal_arithmetic": _number,
    "decimal_chain_sum": _number,
    "dice": _caseless,
    "family_relationships": _caseless,
    "figlet_font": _letters,
    "fraction_simplification": _fraction,
    "game_of_life": _json,
    "group_anagrams": _sets_of_words,
    "gsm_symbolic": _amount,
    "knights_knaves": _roles,
    "letter_jumble": _caseless,
    "manipulate_matrix": _grid,
    "needle_haystack": _letters,
    "number_format": _number,
    "number_sorting": _numbers,
    "palindrome_partitioning": _set_of_lists,
    "path_star": _grid,
    "polynomial_equations": _roots,
    "pool_matrix": _numeric_grid,
    "prime_factorization": _factors,
    "products": _number,
    "rearc": _grid,
    "rectangle_count": _whole,
    "sentence_reordering": _caseless,
    "spell_backward": _caseless,
    "survo": _grid,
    "time_intervals": _interval,
    "tsumego": _caseless,
    "word_sorting": _words,
    "zebra_puzzles": _caseless,
}
"""What an answer says, by task: it is right if it says what the gold answer does."""

# ------------------------------------------------------------------------------------------- judged by the facts


def _is_rounded(text: str, number: Decimal, coarsest: Decimal) -> bool:
    """Whether a text is a number, or is it rounded, to no coarser a unit than is asked for."""
    written = _number(text)
    unit = Decimal(1).scaleb(int(written.as_tuple().exponent))
    return written == number or (unit <= coarsest and abs(written - number) * 2 <= unit)


def _last_place(number: Decimal, digits: int) -> Decimal:
    """The unit of the last of so many significant digits."""
    return Decimal(1).scaleb(number.adjusted() - digits + 1)


def _geometry(answer: str, gold: str, entry: Mapping[str, Any]) -> bool:
    """An angle is asked for to three places, and the gold answer has two."""
    facts = entry["metadata"]
    if facts["task_type"] == "angle_measure":
        return _is_rounded(answer.removesuffix("°"), Decimal(str(facts["angle_ABC_degrees"])), Decimal("0.01"))
    return _point(answer) == _point(gold)


def _probability(answer: str, gold: str, entry: Mapping[str, Any]) -> bool:
    """The exact fraction, or a decimal of four significant digits or more."""
    exact = Fraction(entry["metadata"]["rational"]["numerator"], entry["metadata"]["rational"]["denominator"])
    parts = re.fullmatch(r"(\d{1,50})\s*/\s*(\d{1,50})", answer, re.ASCII)
    if parts:
        return int(parts[2]) > 0 and Fraction(int(parts[1]), int(parts[2])) == exact
    number = Decimal(exact.numerator) / Decimal(exact.denominator)
    return _is_rounded(answer, number, _last_place(number, 4) if number else Decimal(0))


def _power(answer: str, gold: str, entry: Mapping[str, Any]) -> bool:
    number = Decimal(gold)
    return _is_rounded(answer, number, _last_place(number, 3))


def _board(answer: str, gold: str, entry: Mapping[str, Any]) -> bool:
    """One of the boards that the entry lists."""
    return _text(answer) in {_text(board) for board in entry["metadata"]["valid_answers"]}


JUDGED: dict[str, Callable[[str, str, Mapping[str, Any]], bool]] = {
    "advanced_geometry": _geometry,
    "coin_flip": _probability,
    "n_queens": _board,
    "power_function": _power,
}
"""Tasks where the facts of an entry tell whether an answer is right."""

# -------------------------------------------------------------------------------------------- many right answers


def _like(pattern: str) -> Callable[[str, Mapping[str, Any]], bool]:
    """Answers of one form."""
    form = re.compile(pattern, re.ASCII)
    return lambda answer, entry: form.fullmatch(answer) is not None


def _is_mapping(answer: str, entry: Mapping[str, Any]) -> bool:
    """Letters to digits, each letter once."""
    pairs = [re.fullmatch(r"\s*([A-Z])\s*=\s*\d\s*", pair, re.ASCII) for pair in answer.split(",")]
    return all(pairs) and len({pair[1] for pair in pairs if pair}) == len(pairs)


def _is_coloring(answer: str, entry: Mapping[str, Any]) -> bool:
    """A colour for each vertex, and for nothing else."""
    pairs: Sequence[tuple[str, Any]] = json.loads(answer, object_pairs_hook=list)
    vertices = sorted(map(str, entry["metadata"]["puzzle"]["vertices"]))
    return sorted(vertex for vertex, _ in pairs) == vertices and all(type(colour) is int for _, colour in pairs)


def _is_formula(answer: str, entry: Mapping[str, Any]) -> bool:
    """A formula of propositional logic, every parenthesis closed: smaller and smaller ones become a letter."""
    formula, operand = "".join(answer.split()), "¬*[A-Z]"
    chain = rf"{operand}(?:[\u2228∧→↔]{operand})*"
    while (smaller := re.sub(rf"\({chain}\)", "P", formula)) != formula:
        formula = smaller
    return re.fullmatch(chain, formula) is not None


def _is_knights(answer: str, entry: Mapping[str, Any]) -> bool:
    """No, or a list of moves."""
    if answer.lower() == "no":
        return True
    moves = json.loads(answer)
    return isinstance(moves, list) and all(re.fullmatch(r"[wB],[A-Z]\d+,[A-Z]\d+", move, re.ASCII) for move in moves)


MANY: dict[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "cryptarithm": _is_mapping,
    "graph_color": _is_coloring,
    "kakurasu": _like(r"[01]( [01])*(\s*\n\s*[01]( [01])*)*"),
    "knight_swap": _is_knights,
    "palindrome_generation": _like(r"[A-Za-z]+"),
    "propositional_logic": _is_formula,
    "quantum_lock": _like(r"[A-C]((\s*(\u2192|->|,)\s*|\s+|)[A-C])*"),
    "rubiks_cube": _like(rf"[UDLRFB]'?2?(\s+[UDLRFB]'?2?){{0,{MAX_MOVES}}}"),
    "shortest_path": _like(r"(up|down|left|right)(\s+(up|down|left|right))*|infeasible"),
    "sokoban": _like(r"[UDLR]+"),
}
"""Tasks with many right answers, and what tells whether a text has the form of one."""

# ------------------------------------------------------------------------------------------------ faulty entries


def _is_true_interval(gold: str, entry: Mapping[str, Any]) -> bool:
    """Whether the gold answer is the time between the two moments.

    The task loses the time of day and the zone where they follow the name of a weekday in parentheses; it counts
    thousandths with a rounding error, and backwards where the second moment lies past midnight.
    """
    facts = entry["metadata"]
    if re.search(r"day\) \d", entry["question"]):
        return False
    between = datetime.fromisoformat(facts["end_time"]) - datetime.fromisoformat(facts["start_time"])
    seconds = Decimal(between.days * 86400 + between.seconds) + Decimal(between.microseconds) / 1_000_000
    unit: dict[str, int | Decimal] = {
        "D days": 86400,
        "HH:MM": 60,
        "D days, HH:MM": 60,
        "HH:MM:SS.mmm": Decimal("0.001"),
    }
    step = Decimal(unit.get(facts["expected_format"], 1))  # that the answer is rounded down to
    return seconds >= 0 and _interval(gold)[1] == seconds // step * step
