r"""Gold answers written in other ways, and changed into wrong ones: by the kind of answer, without any algebra.

Every function is written against the text of an answer alone; what is right or wrong is known from how it was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?|-?\.\d+")
_PLAIN_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_DIGITS = re.compile(r"(?<![\d_^{\\])\d+(?![\d}])|(?<=\{)\d+(?=\})")


def kind_of(answer: str) -> str:
    """The type of an answer, for the table."""
    if "pmatrix" in answer:
        return "matrix"
    if re.search(r"\\(?:text|mbox)\s*\{", answer):
        return "unit" if re.search(r"\d", answer) else "text"
    if re.search(r"\d_\{?\d", answer):
        return "base"
    if "^\\circ" in answer:
        return "degrees"
    if re.fullmatch(r"\\\$[\d.]+|(?:\\\$)?\d{1,3}(?:,(?:\\!)?\s*\d{3})+", answer):
        return "money or thousands"
    if re.search(r"\\cup|\\in\b|\\infty|^[\[(].*\]$|^\[.*\)$|^\(-\\sqrt", answer.replace(r"\left", "")):
        return "interval"
    if re.match(r"(?:\\left)?\s*\(.*,.*\)$", answer):
        return "tuple"
    if answer.startswith(r"\{") or "," in answer or r"\pm" in answer:
        return "set or list"
    if "=" in answer:
        return "equation"
    if re.fullmatch(r"-?\d+", answer):
        return "integer"
    if _NUMBER.fullmatch(answer):
        return "decimal"
    if re.fullmatch(r"-?\d*\s*\\[dt]?frac\s*(?:\{\d+\}|\d)\s*(?:\{\d+\}|\d)", answer):
        return "fraction"
    if re.search(r"[a-zA-Z]", re.sub(r"\\(?:[dt]?frac|sqrt|pi|left|right|cdot)", "", answer)):
        return "complex" if re.search(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", answer) else "expression"
    return "root or pi"


def rewritings(answer: str) -> list[tuple[str, str]]:
    """(rule, text) for each other way to write the answer that applies to it."""
    return [(rule, text) for rule, text in _rewritings(answer) if text != answer]


def perturbations(answer: str) -> list[tuple[str, str]]:
    """(rule, text) for each wrong answer made of a right one."""
    return [(rule, text) for rule, text in _perturbations(answer) if text != answer]


def _rewritings(answer: str) -> Iterator[tuple[str, str]]:
    yield "dollars", f"${answer}$"
    yield "parentheses", rf"\({answer}\)"
    yield "display", rf"\[ {answer} \]"
    yield "full stop", f"{answer}."
    yield "box", rf"\boxed{{{answer}}}"
    yield "spaces", re.sub(r"([-+=,(){}])", r" \1 ", answer) if "\\" not in answer else f"  {answer} "
    kind = kind_of(answer)
    if kind not in ("equation", "text") and r"\in" not in answer.replace(r"\infty", ""):
        yield "name", f"x = {answer}"
    if r"\frac" in answer:
        yield "dfrac", answer.replace(r"\frac", r"\dfrac")
        yield "tfrac", answer.replace(r"\frac", r"\tfrac")
    if re.search(r"\\sqrt\{\d\}", answer):
        yield "short root", re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", answer)
    for command in re.findall(r"\\(?:text|mbox)", answer)[:1]:
        yield "font", answer.replace(command, r"\textbf" if kind == "text" else r"\mathrm")
        yield "no command", re.sub(r"\\(?:text|mbox)\s*\{([^{}]*)\}", r"\1", answer)
    if kind == "text":
        word = re.sub(r"\\text\s*\{\(?([^{}()]*)\)?\}", r"\1", answer)
        yield "capitals", rf"\text{{{word.upper()}}}"
    if kind == "unit":
        yield "no unit", re.sub(r"\s*\\(?:text|mbox)\s*\{.*", "", answer)
    if kind == "degrees":
        yield "plain degrees", answer.replace("^\\circ", "")
        yield "braced degrees", answer.replace("^\\circ", r"^{\circ}")
        yield "degree sign", answer.replace("^\\circ", "°")
        yield "word degrees", answer.replace("^\\circ", r"\text{ degrees}")
    if kind == "money or thousands":
        digits = re.sub(r"\\[!$]|[,\s]", "", answer)
        yield "digits", digits
        if "." not in digits:
            yield "commas", f"{int(digits):,}"
            yield "braced commas", f"{int(digits):,}".replace(",", "{,}")
            yield "dollar sign", rf"\${int(digits):,}"
            yield "decimal zero", f"{digits}.00"
    if kind == "integer":
        value = int(answer)
        yield "decimal zero", f"{value}.0"
        yield "over one", rf"\frac{{{value}}}{{1}}"
        yield "double over two", f"{2 * value}/2"
        yield "power of ten", rf"{value} \cdot 10^0"
        yield "unit", rf"{value} \text{{ cm}}"
        yield "word unit", f"{value} apples"
        if abs(value) > 999:
            yield "commas", f"{value:,}"
            yield "braced commas", f"{value:,}".replace(",", "{,}")
        if value < 0:
            yield "minus sign", answer.replace("-", "−")
    if kind == "decimal":
        exact = Fraction(answer)
        yield "zeros", answer + "00"
        yield "fraction", rf"\frac{{{exact.numerator}}}{{{exact.denominator}}}"
        yield "power of ten", rf"{float(exact * 1000):.10g} \times 10^{{-3}}"
    for sign, top, bottom in _PLAIN_FRACTION.findall(answer) if kind == "fraction" else ():
        if not re.match(r"\d", answer):
            exact = Fraction(int(sign + top), int(bottom))
            yield "slash", f"{exact}"
            yield "unreduced", rf"\frac{{{3 * exact.numerator}}}{{{3 * exact.denominator}}}"
            yield "sign below", rf"\frac{{{-exact.numerator}}}{{{-exact.denominator}}}"
            yield "decimal", f"{float(exact):.8f}".rstrip("0")
    if kind in ("set or list", "interval", "tuple", "matrix", "equation", "expression", "complex", "root or pi"):
        yield "thin spaces", re.sub(r",\s*", r",\\, ", answer)
    if kind in ("interval", "tuple"):
        bare = answer.replace(r"\left", "").replace(r"\right", "")
        yield "no left and right", bare
        sized = re.sub(r"([\[(])", r"\\left\1", re.sub(r"([\])])", r"\\right\1", bare))
        yield "left and right", sized
    if kind == "set or list" and "pm" not in answer:
        inside = answer.removeprefix(r"\{").removesuffix(r"\}")
        yield "braces", rf"\{{{inside}\}}"
        yield "no braces", inside
        yield "other order", ", ".join(part.strip() for part in reversed(inside.split(",")))
        yield "and", " and ".join(part.strip() for part in inside.split(","))
        yield "or", r" \text{ or } ".join(part.strip() for part in inside.split(","))
    if answer.count(r"\pm") == 1 and kind == "set or list" and not answer.startswith(r"\{"):
        yield "both signs", f"{answer.replace(chr(92) + 'pm', '+')}, {answer.replace(chr(92) + 'pm', '-')}"
        yield "sign", answer.replace(r"\pm", "±")
    if kind == "matrix":
        yield "bmatrix", answer.replace("pmatrix", "bmatrix")
        yield "end of row", answer.replace(r"\end", r"\\ \end")
        yield "fractions", re.sub(r"(-?\d+)/(\d+)", r"\\frac{\1}{\2}", answer)
    if kind == "equation":
        left, _, right = answer.partition("=")
        yield "sides exchanged", f"{right} = {left}"
        yield "all on one side", f"{left} - ({right}) = 0"
    if kind in ("expression", "complex", "root or pi"):
        yield "in parentheses", f"({answer})"
        yield "plus nothing", f"{answer} + 0"
        yield "a half, twice", rf"2 \cdot \frac{{{answer}}}{{2}}"
        if r"\pi" in answer:
            yield "pi", answer.replace(r"\pi", "π")
        terms = re.findall(r"[-+]?[^-+]+", answer.replace(" ", ""))
        if "(" not in answer and "{" not in answer and len(terms) > 1 and "^-" not in answer.replace(" ", ""):
            turned = [term if term[0] in "+-" else f"+{term}" for term in reversed(terms)]
            yield "terms turned", "".join(turned).removeprefix("+")
    root = re.fullmatch(r"(-?)(\d*)\s*\\sqrt\{?(\d+)\}?", answer)
    if root:
        yield "under the root", rf"{root[1]}\sqrt{{{int(root[2] or 1) ** 2 * int(root[3])}}}"
        yield "sqrt()", f"{root[1]}{root[2]}{'*' if root[2] else ''}sqrt({root[3]})"


def _perturbations(answer: str) -> Iterator[tuple[str, str]]:
    kind = kind_of(answer)
    if kind == "text":
        yield "another word", r"\text{Zorro}"
        yield "a number", "7"
        return
    numbers = list(_DIGITS.finditer(answer))
    for index, match in enumerate(numbers):
        changed = f"{answer[: match.start()]}{int(match[0]) + 1}{answer[match.end() :]}"
        if _changes(answer, match):
            yield f"number {min(index, 2) + 1} plus one", changed
    if kind in ("integer", "decimal", "fraction", "root or pi", "degrees") and answer != "0":
        yield "sign", answer[1:] if answer.startswith("-") else f"-{answer}"
    if kind == "integer":
        yield "one more digit", f"{answer}1"
        yield "plus a little", f"{answer}.001"
        yield "power", f"{answer}^7" if answer not in ("0", "1", "-1") else "7"
    if kind == "root or pi":
        yield "plus a little", f"{answer} + 0.001"
    if kind == "fraction" and (plain := _PLAIN_FRACTION.fullmatch(answer)):
        yield "upside down", rf"{plain[1]}\frac{{{plain[3]}}}{{{plain[2]}}}"
        yield "rough decimal", f"{int(plain[1] + plain[2]) / int(plain[3]) * 1.01:.3f}"
    if kind == "interval":
        yield (
            "other end",
            answer.replace("(", "<").replace("[", "(").replace("<", "[") if "in" not in answer else "[-2,7)",
        )
        yield "upper only", re.sub(r"^.*?,", r"(-9,", answer) if r"\cup" not in answer else answer.partition(r"\cup")[0]
    if kind == "tuple":
        inside = re.sub(r"\\left|\\right|[()]", "", answer)
        parts = [part.strip() for part in inside.split(",")]
        yield "one more", f"({inside}, 1)"
        if parts != parts[::-1]:
            yield "other order", f"({', '.join(reversed(parts))})"
        yield "first only", parts[0]
    if kind == "set or list" and r"\pm" not in answer:
        yield "one more", f"{answer.removesuffix(chr(92) + '}')}, 1000" + (r"\}" if answer.endswith(r"\}") else "")
        yield "first only", answer.removeprefix(r"\{").partition(",")[0]
    if r"\pm" in answer:
        yield "one sign", answer.replace(r"\pm", "+")
    if kind == "matrix":
        body = answer.removeprefix(r"\begin{pmatrix}").removesuffix(r"\end{pmatrix}")
        yield "one row more", rf"\begin{{pmatrix}}{body} \\ 1\end{{pmatrix}}"
        rows = body.split(r"\\")
        if rows != rows[::-1]:
            turned = r" \\ ".join(row.strip() for row in reversed(rows))
            if turned.split() != body.split():
                yield "rows turned", rf"\begin{{pmatrix}}{turned}\end{{pmatrix}}"
    if kind == "equation":
        yield "right side only plus one", f"{answer} + 1"
        yield "zero", "0" if not answer.endswith("= 0") else "1"
    if kind in ("expression", "complex"):
        yield "plus one", f"{answer} + 1"
        yield "negated", f"-({answer})"
    if kind == "base":
        yield "another base", re.sub(r"_\{?(\d)\}?", lambda match: f"_{int(match[1]) + 1}", answer)
        yield "no base", answer.partition("_")[0]
    yield "a word", r"\text{none}"
    yield "empty", ""


def _changes(answer: str, match: re.Match[str]) -> bool:
    """Whether the number at a match counts: a denominator under 0, a unit's power and the like do not."""
    before = answer[: match.start()]
    return not re.search(r"\\(?:text|mbox)\s*\{[^}]*\}\s*\^?$", before) and answer != "0"
