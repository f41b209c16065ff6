r"""Gold answers written in other ways, and changed into wrong ones: by the kind of answer, without any algebra.

Every function is written against the text of an answer alone; what is right or wrong is known from how it was made.
"""

# ruff: noqa: RUF001
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
    return [(rule, text) for rule, text in [*_rewritings(answer), *_more_rewritings(answer)] if text != answer]


def perturbations(answer: str) -> list[tuple[str, str]]:
    """(rule, text) for each wrong answer made of a right one."""
    return [(rule, text) for rule, text in [*_perturbations(answer), *_more_perturbations(answer)] if text != answer]


def _rewritings(answer: str) -> Iterator[tuple[str, str]]:
    yield "dollars", f"${answer}$"
    yield "parentheses", rf"\({answer}\)"
    yield "display", rf"\[ {answer} \]"
    yield "full stop", f"{answer}."
    yield "box", rf"\boxed{{{answer}}}"
    kind = kind_of(answer)
    spaced = "\\" not in answer and kind != "money or thousands"  # a comma with a space is no thousands separator
    yield "spaces", re.sub(r"([-+=,(){}])", r" \1 ", answer) if spaced else f"  {answer} "
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


# ---------------------------------------------------------------------------------------- as models and people write


NUMERIC = ("integer", "decimal", "fraction", "root or pi")
_TINY = {
    "thin space": r"\,",
    "middle space": r"\;",
    "wide space": r"\:",
    "control space": "\\ ",
    "quad": r"\quad",
    "tie": "~",
}
_SHAPES = {
    "stars": "**{}**", "double dollars": "$${}$$", "display style": r"\displaystyle {}", "braces": "{{{}}}",
    "equals": "= {}", "answer colon": "Answer: {}", "the answer is": "The answer is {}",
    "final answer": "**Final Answer:** {}", "box and full stop": r"$\boxed{{{}}}$.", "zero width": "{}\u200b",
    "no-break space": "{}\u00a0", "soft hyphen": "{}\u00ad", "lines around": "\n{}\n",
    "answer in text": r"\text{{Answer: }} {}", "framed": r"\fbox{{{}}}",
}  # fmt: skip
_NAMES = {
    "sum of letters": "a+b = {}", "total": r"\text{{Total}} = {}", "plain total": "Total = {}",
    "function": "f(2) = {}", "probability": "P(A) = {}", "segment": "AB = {}", "angle": r"\angle ABC = {}",
    "modulus": "|z| = {}", "subscript": r"x_{{\max}} = {}", "volume": "V_{{cone}} = {}", "series": "S_{{10}} = {}",
    "area": "[ABC] = {}", "from the right": "{} = x", "greek": r"\lambda = {}", "sine": r"\sin A = {}",
    "area in words": r"\text{{Area of the circle}} = {}", "prime": "f'(1) = {}", "overline": r"\overline{{AB}} = {}",
    "number of": "n(A) = {}",
}  # fmt: skip


def _more_rewritings(answer: str) -> Iterator[tuple[str, str]]:
    kind = kind_of(answer)
    for rule, blank in _TINY.items():
        yield rule, answer + blank
        yield f"{rule} before", blank + " " + answer
    for rule, shape in _SHAPES.items():
        yield rule, shape.format(answer)
    if kind in NUMERIC:
        for rule, shape in _NAMES.items():
            yield rule, shape.format(answer)
        yield "in parentheses", f"({answer})"
        yield "text unit", rf"{answer} \text{{ cm}}"
        yield "roman unit", rf"{answer}\ \mathrm{{km}}"
        yield "square unit", rf"{answer} \text{{ cm}}^2"
        yield "units", rf"{answer}\text{{ units}}"
        yield "bold", rf"\mathbf{{{answer}}}"
    if kind == "integer":
        value = int(answer)
        for unit in (
            "L",
            "mL",
            "kg",
            "m",
            "hours",
            "dollars",
            "%",
            "mph",
            "square feet",
            "cm^3",
            "people",
            "(dollars)",
            "miles per hour",
            "km/h",
        ):
            yield f"unit {unit}", f"{value} {unit}".replace(" %", r"\%")
        for sign in ("°", "¢", "€", "°C"):
            yield f"sign {sign}", f"{value}{sign}"
        for sign in ("$", r"\$", "£", "¥", "₹", "Rs. "):
            yield f"sign {sign} before", f"{sign}{value}" if value >= 0 else f"-{sign}{-value}"
        yield "computation", f"{value - 1} + 1 = {value}"
        yield "product", rf"{value} \cdot 1 = {value}"
        yield "approximately", f"≈ {value}"
        yield "latex approximately", rf"\approx {value}"
        yield "sentence", f"She has {value} eggs" if value >= 0 else f"The total is {value}"
        yield "text", rf"\text{{{value}}}"
        yield "bold text", rf"\textbf{{{value}}}"
        yield "full width", "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in answer)
        yield "decimal zeros", f"{value}.00"
        yield "plus sign", f"+{value}" if value >= 0 else answer.replace("-", "\u2011")
        yield "scientific", rf"{value / 10} \times 10^1" if abs(value) < 10**9 else f"{value}.0"
        yield "in per cent", f"{value} percent"
        yield "choice", rf"\textbf{{(B)}}\ {value}"
        yield "left right", rf"\left({value}\right)"
        yield "over ten", rf"\dfrac{{{10 * value}}}{{10}}"
        yield "times one hundred", rf"\frac{{{value}00}}{{100}}"
    if kind == "fraction" and (plain := _PLAIN_FRACTION.fullmatch(answer)):
        top, bottom = int(plain[1] + plain[2]), int(plain[3])
        yield "and its decimal", f"{answer} = {top / bottom:.4g}" if bottom != 1 else answer
        yield "approximately its decimal", rf"{answer} \approx {top / bottom:.2f}"
        yield "as division", f"{top} ÷ {bottom}"
        yield "fraction slash", f"{top}\u2044{bottom}"
        yield "power minus one", rf"{top} \cdot {bottom}^{{-1}}"
        yield "sum", rf"\frac{{{top - 1}}}{{{bottom}}} + \frac{{1}}{{{bottom}}}"
        yield "six digits", f"{top / bottom:.6f}" if abs(top / bottom) >= 0.1 and bottom not in (1,) else answer
        yield "in parts", f"({top})/({bottom})"
    if kind == "root or pi":
        yield "root sign", re.sub(r"\\sqrt\{?(\d+)\}?", "√\\1", answer) if "frac" not in answer else answer
        yield "pi sign", answer.replace(r"\pi", "π")
        yield "times", re.sub(r"(?<=\d)\s*(?=\\(?:sqrt|pi))", r" \\cdot ", answer)
        yield "star", re.sub(r"(?<=\d)\s*(?=\\(?:sqrt|pi))", "*", answer)
        yield (
            "power one half",
            re.sub(r"\\sqrt\{?(\d+)\}?", r"\1^{1/2}", answer)
            if "frac" not in answer and not re.search(r"\d\s*\\sqrt", answer)
            else answer,
        )
    if kind == "tuple":
        inside = re.sub(r"\\left|\\right", "", answer).strip()[1:-1]
        letters = ["(x, y)", "(x, y, z)", "(a, b, c, d)"][len(inside.split(",")) - 2]
        yield "names", f"{letters} = {answer}"
        yield "angle brackets", rf"\langle {inside} \rangle"
        yield "unicode brackets", f"⟨{inside}⟩"
        yield "column", rf"\begin{{pmatrix}} {inside.replace(',', chr(92) * 2)} \end{{pmatrix}}"
        yield (
            "assignments",
            ", ".join(f"{letter} = {part.strip()}" for letter, part in zip("abcd", inside.split(","), strict=False)),
        )
    if kind == "matrix":
        yield "distance", answer.replace(r"\\", r"\\[6pt]")
        yield "short distance", answer.replace(r"\\", r"\\[2pt]")
        yield "vmatrix", answer.replace("pmatrix", "Bmatrix")
        if "&" not in answer:
            body = answer.removeprefix(r"\begin{pmatrix}").removesuffix(r"\end{pmatrix}")
            yield "array", rf"\begin{{array}}{{c}}{body}\end{{array}}"
            yield "as a tuple", f"({body.replace(chr(92) * 2, ', ')})"
    if kind == "base":
        digits, _, base = answer.replace("{", "").replace("}", "").partition("_")
        word = {"5": "five", "6": "six", "8": "eight", "9": "nine"}[base]
        yield "base in words", rf"{digits}_{{\text{{{word}}}}}"
        yield "base named", rf"{digits}_{{\text{{base }}{base}}}"
        yield "plain base", f"{digits} base {base}"
        yield "in parentheses", f"({digits})_{base}"
        yield "subscript sign", digits + "".join(chr(0x2080 + int(digit)) for digit in base)
    if kind == "complex":
        yield "star i", re.sub(r"(\d)i", r"\1*i", answer)
        yield "dot i", re.sub(r"(\d)i", r"\1 \\cdot i", answer)
        yield "roman i", re.sub(r"(\d)i", r"\1\\mathrm{i}", answer)
        yield "j", re.sub(r"(\d)i", r"\1j", answer)
        yield "name z", f"z = {answer}"
    if kind == "text":
        word = re.sub(r"\\text\s*\{\(?([^{}()]*)\)?\}", r"\1", answer)
        yield "quotes", f'"{word}"'
        yield "bold word", rf"\textbf{{{word}}}"
        if len(word) == 1:
            yield "choice with text", rf"\text{{({word}) }}12"
            yield "choice with a full stop", f"{word}. some words"
            yield "option", f"Option {word}"
    if kind == "degrees":
        yield "ang", rf"\ang{{{answer.replace('^' + chr(92) + 'circ', '')}}}"
        yield "textdegree", answer.replace("^\\circ", r"\textdegree")
    if kind == "expression" and "^" in answer:
        powers = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
        yield "superscripts", re.sub(r"\^(\d)", lambda match: match[1].translate(powers), answer)
        yield "stars for powers", answer.replace("^", "**")
    if kind in ("interval", "set or list") and "pm" not in answer:
        yield "no blanks", answer.replace(", ", ",") if not re.search(r",\s*\d{3}", answer) else answer
    if kind == "interval" and r"\cup" in answer:
        yield "union sign", answer.replace(r"\cup", "∪")
        yield "letter U", answer.replace(r"\cup", "U")
        yield "bigcup", answer.replace(r"\cup", r"\bigcup")
        yield "or", answer.replace(r"\cup", r"\text{ or }")
    if r"\pm" in answer:
        yield "ascii sign", answer.replace(r"\pm", "+/-")
    if r"\infty" in answer:
        yield "infinity sign", answer.replace(r"\infty", "∞")
        yield "infinity in letters", answer.replace(r"\infty", "infinity")


_LETTERS = ("ab", "abc", "xyz", "x", "rs", "h", "t", "mn", "xy")
_WORDS = (
    "cubed",
    "halves",
    "thirds",
    "eighths",
    "squared",
    "hundred",
    "thousand",
    "million",
    "dozen",
    "infinity",
    "factorial",
    "lakh",
    "theta",
)


def _more_perturbations(answer: str) -> Iterator[tuple[str, str]]:
    kind = kind_of(answer)
    if kind in ("integer", "fraction", "root or pi", "decimal") and answer != "0":
        for letters in _LETTERS:
            yield f"letters {letters}", answer + letters
            yield f"letters {letters} first", letters + answer if kind == "root or pi" else f"{letters} \\cdot {answer}"
        yield "times ten", rf"{answer} \cdot 10"
        yield "a half", rf"\frac{{{answer}}}{{2}}"
        yield "times i", f"{answer}i"
        yield "not", f"not {answer}"
        yield "negative", f"negative {answer}" if not answer.startswith("-") else answer[1:]
        yield "plus a tiny number", rf"{answer} + 10^{{-20}}"
        yield "times pi", rf"{answer}\pi"
        yield "and one", f"{answer} and 1"
        yield "or one", rf"{answer} \text{{ or }} 1" if answer != "1" else "1 or 2"
        yield "pair", f"({answer}, 1)"
        yield "open interval", f"({answer}, \\infty)"
        yield "set", rf"\{{{answer}, 0\}}"
        yield "both signs", rf"\pm {answer}"
        yield "equation", f"x^2 = {answer}"
        yield "inequality", f"x > {answer}"
        yield "false computation", f"{answer} = 1 + {answer}"
        yield "percent of it", rf"{answer}00\%" if kind == "integer" else f"{answer} + 1"
        yield "or anything", rf"{answer} \text{{ or anything}}"
        yield "at least", f"at least {answer}"
        yield "square root", rf"\sqrt{{{answer}}}" if answer not in ("1",) else "2"
    if kind == "integer":
        value = int(answer)
        for word in _WORDS:
            if not (word in ("cubed", "squared", "factorial") and value in (-1, 0, 1, 2)) and value:
                yield f"word {word}", f"{value} {word}"
        yield "minus one", str(value - 1)
        yield "half more", f"{value}.5"
        yield "ten times", f"{value}0" if value else "10"
        yield "superscript", f"{value}³" if abs(value) > 1 else "5³"
        yield "subscript base", f"{value}₉" if abs(value) > 8 else "17"
        yield "range", f"{value} to {value + 5}"
        yield "out of", f"{value} out of {value + 7}"
        yield "hours and minutes", f"{value} hours 30 minutes"
        yield "dollars and cents", f"{value} dollars and 50 cents"
        yield "factorial", f"{value}!" if value > 2 else "7!"
        yield "list with hundreds", f"{value}, 100"
        yield "split digits", f"{answer[:-1]} {answer[-1]}" if len(answer.lstrip("-")) > 1 else "1 1"
        yield "split thousands", f"{answer[:-3]}, {answer[-3:]}" if len(answer.lstrip("-")) > 3 else "2, 100"
        yield (
            "reversed",
            answer[::-1]
            if answer != answer[::-1] and not answer.startswith("-") and answer[-1] != "0"
            else str(value + 3),
        )
        yield "negated", str(-value) if value else "3"
        yield "ratio", f"{value}:{value + 1}"
        yield "nested box", rf"\boxed{{7 \boxed{{{value}}}}}" if value else "8"
        yield "root of it", f"√{value}" if value > 1 else "√7"
        yield "a word before", f"minus {value}" if value > 0 else str(value - 7)
        yield "another unit behind", f"{value} times"
    if kind == "tuple":
        inside = re.sub(r"\\left|\\right", "", answer).strip()[1:-1]
        parts = [part.strip() for part in inside.split(",")]
        if parts != parts[::-1]:
            yield "turned, bare", ", ".join(reversed(parts))
            yield "turned, braces", rf"\{{{', '.join(reversed(parts))}\}}"
        yield "set of the parts", rf"\{{{', '.join(parts)}\}}"
        yield "closed", f"[{inside}]" if len(parts) == 2 else f"[{parts[0]}, 7]"
    if kind == "set or list" and r"\pm" not in answer:
        parts = [part.strip() for part in answer.removeprefix(r"\{").removesuffix(r"\}").split(",")]
        yield "as a tuple", f"({', '.join(parts)})"
        yield "digits together", "".join(parts)
    if kind == "interval" and r"\cup" not in answer:
        ends = re.sub(r"\\left|\\right|x\s*\\in", "", answer).strip()[1:-1]
        yield "set of the ends", rf"\{{{ends}\}}"
        yield "list of the ends", ends
    if kind == "complex":
        yield (
            "conjugate",
            answer.replace("+", "#").replace("-", "+").replace("#", "-", 1)
            if not answer.startswith("-")
            else answer[1:],
        )
        yield "without i", answer.replace("i", "")
        yield "k for i", answer.replace("i", "k")
    if kind in ("expression", "equation"):
        yield "times m", f"({answer})m" if kind == "expression" else f"{answer}m"
        yield "plus a tiny number", rf"{answer} + 10^{{-20}}"
        yield "letter more", f"{answer} + q"
    if kind == "base":
        yield "in base ten", str(int(answer.partition("_")[0], int(answer.partition("_")[2].strip("{}"))))
        yield (
            "reversed digits",
            f"{answer.partition('_')[0][::-1]}_{answer.partition('_')[2]}" if answer[:1] != "2" or True else answer,
        )
    if kind == "text":
        word = re.sub(r"\\text\s*\{\(?([^{}()]*)\)?\}", r"\1", answer)
        if len(word) > 1:
            yield "anagram", rf"\text{{{word[1:] + word[0]}}}"
            yield "not it", rf"\text{{not {word}}}"
        else:
            yield "next letter", rf"\text{{({chr(ord(word) + 1)})}}"
            yield "next letter with text", rf"\text{{({chr(ord(word) + 1)}) }}{word}"
    if kind == "matrix":
        yield "negated", answer.replace("-", "") if "-" in answer else answer.replace("1", "2")
        body = answer.removeprefix(r"\begin{pmatrix}").removesuffix(r"\end{pmatrix}")
        if "&" not in answer:
            yield "transposed", rf"\begin{{pmatrix}}{body.replace(chr(92) * 2, '&')}\end{{pmatrix}}"
            yield "as a set", rf"\{{{body.replace(chr(92) * 2, ',')}\}}"
    if kind == "unit":
        yield "another unit", re.sub(r"\\(?:text|mbox)\s*\{[^{}]*\}(?:\^2)?", r"\\text{ hours}", answer)
