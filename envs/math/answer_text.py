r"""The text of an answer: unicode for what it means, and LaTeX without what only changes its looks.

`clean` gives plain ASCII LaTeX: superscripts are ``^{...}``, subscripts ``_{...}``, the sign of a root takes the
number that follows it, a fraction is ``\frac``; sizes of brackets, thin spaces, fonts and the dollars of mathematics
are gone. What it means is read by `envs.math.answer_reader`.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

GREEK = frozenset(
    re.findall(
        r"\w+",
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho varrho "
        "sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega",
    )
)

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True)) | dict(
    zip("ᵃᵇᶜᵈᵉᶠᵍʰʲᵏˡᵐᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", "abcdefghjklmoprstuvwxyz", strict=True)
)
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", "0123456789+-=()aehijklmnoprstuvx", strict=True))
_SIGNS = {
    **dict.fromkeys("−–—‐‑‒―﹣－➖", "-"), **dict.fromkeys("⋅·∙•∗⋆×✕✖", r"\cdot "), **dict.fromkeys("÷∕⁄", "/"),
    "∞": r"\infty ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
    "∘": r"\circ ", "⊂": r"\subset ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ",
    "≃": r"\approx ", "≅": r"\approx ", "≡": r"\equiv ", "°": r"\degree ", "º": r"\degree ", "˚": r"\degree ",
    "′": "'", "″": "''", "’": "'", "‘": "'", "“": '"', "”": '"', "⟨": r"\langle ", "⟩": r"\rangle ",
    "〈": r"\langle ", "〉": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
    "∠": r"\angle ", "△": r"\triangle ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "→": r"\to ",
    "⇒": r"\Rightarrow ", "⟹": r"\Rightarrow ", "∴": r"\therefore ",
    "…": r"\ldots ", "⋯": r"\ldots ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "℃": r"\degree C", "℉": r"\degree F", "ℓ": "l", "∣": "|", "∥": r"\|", "∶": ":", "％": r"\%", "¬": r"\neg ",
    "∧": r"\wedge ", "∨": r"\vee ", "µ": r"\mu ", "∖": r"\setminus ", "ƒ": "f", "ı": "i", "✓": "", "✅": "",
    "€": r"\text{euros}", "£": r"\text{pounds sterling}", "¥": r"\text{yen}", "₹": r"\text{rupees}",
    "¢": r"\text{cents}", "₽": r"\text{rubles}", "₩": r"\text{won}", "‰": r"\text{permille}",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ",
}  # fmt: skip
_ROOTS = {"√": "", "∛": "[3]", "∜": "[4]"}
_OVER = {"\u0305": "overline", "\u0304": "overline", "\u0307": "dot"}


def _of_greek() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(GREEK, key=lambda name: (name.startswith("var"), name)):  # \phi goes before \varphi
        capital = name[0].isupper()
        plain = name.removeprefix("var").lower()
        spelt = f"GREEK {'CAPITAL' if capital else 'SMALL'} LETTER {'LAMDA' if plain == 'lambda' else plain.upper()}"
        found.setdefault(unicodedata.lookup(spelt), rf"\{name} ")
    return found | {"ϕ": r"\phi ", "ϑ": r"\theta ", "ϵ": r"\epsilon "}


_SIGNS |= _of_greek()
_RING = re.compile(r"(?<=[\d})])\s?∘")  # else it composes functions
_SQUARED = re.compile("[㌀-㏟㏿]")  # units in one character, such as ㎡
_VULGAR = re.compile(r"([⁰¹²³⁴-⁹]+)[⁄/]([₀-₉]+|[⁰¹²³⁴-⁹]+)")
_ROOT_OF = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|(\\[a-zA-Z]+|[a-zA-Z])|(?=[({\[]))")


def ascii_text(text: str) -> str:
    """The text with every character that means mathematics written in ASCII LaTeX."""
    if text.isascii():
        return text
    out = list[str]()
    index = 0
    text = _VULGAR.sub(_vulgar, _restored(_RING.sub("°", text)))
    while index < len(text):
        char = text[index]
        for table, mark in ((_SUPERSCRIPTS, "^"), (_SUBSCRIPTS, "_")):
            end = index
            while end < len(text) and text[end] in table:
                end += 1
            if end > index:
                if (
                    end < len(text)
                    and text[end] == "√"
                    and mark == "^"
                    and not (index and (text[index - 1].isalnum() or text[index - 1] in ")]}"))
                ):
                    index = _root(text, end + 1, "".join(table[each] for each in text[index:end]), out)
                    break
                out.append(f"{mark}{{{''.join(table[each] for each in text[index:end])}}}")
                index = end
                break
        else:
            index += 1
            if char in _ROOTS:
                index = _root(text, index, char, out)
            elif char in _SIGNS:
                out.append(_SIGNS[char])
            elif char.isascii():
                out.append(char)
            elif unicodedata.category(char) == "Sc":
                out.append(rf"\text{{{unicodedata.name(char).removesuffix(' SIGN').rpartition(' ')[2].lower()}}}")
            elif (parts := unicodedata.decomposition(char)).startswith("<fraction>"):
                value = Fraction(unicodedata.numeric(char)).limit_denominator(1000)
                out.append(rf"\frac{{{value.numerator}}}{{{value.denominator}}}" if "2044" in parts else char)
            elif unicodedata.decimal(char, None) is not None:
                out.append(str(unicodedata.decimal(char)))
            elif unicodedata.category(char) != "Cf":
                out.append(unicodedata.normalize("NFKC", char))
    return "".join(out)


def _decomposed(char: str) -> str:
    return "".join(chr(int(code, 16)) for code in unicodedata.decomposition(char).split()[1:])


def _vulgar(match: re.Match[str]) -> str:
    """Small digits above and below a slash as a fraction, all above it as an exponent."""
    top = "".join(_SUPERSCRIPTS[each] for each in match[1])
    if match[2][0] in _SUPERSCRIPTS:
        return f"^{{{top}/{''.join(_SUPERSCRIPTS[each] for each in match[2])}}}"
    return rf"\frac{{{top}}}{{{''.join(_SUBSCRIPTS[each] for each in match[2])}}}"


def _restored(text: str) -> str:
    """Full-width, bold and other forms of ASCII and Greek characters as such; lines over digits as commands."""
    text = _SQUARED.sub(lambda match: f" {_decomposed(match[0])}", text)
    plain = "".join(
        unicodedata.normalize("NFKC", char)
        if char not in _SUPERSCRIPTS and char not in _SUBSCRIPTS and char not in _SIGNS
        and not unicodedata.decomposition(char).startswith("<fraction>")
        else char
        for char in text
    )  # fmt: skip
    for mark, command in _OVER.items():
        parts = re.split(rf"((?:\d{mark})+)", plain)
        parts[1::2] = [rf"\{command}{{{part.replace(mark, '')}}}" for part in parts[1::2]]
        plain = "".join(parts)
    return plain


def _root(text: str, index: int, sign: str, out: list[str]) -> int:
    match = _ROOT_OF.match(text, index)
    out.append(rf"\sqrt{_ROOTS.get(sign, f'[{sign}]')}")
    if match is None:
        return index
    inside = match[1] or match[2]
    if inside:
        out.append(f"{{{inside}}}")
    elif text[match.end()] == "(":
        end = closing(text, match.end())
        if end is not None:
            out.append(f"{{{ascii_text(text[match.end() + 1 : end])}}}")
            return end + 1
    return match.end()


def closing(text: str, start: int) -> int | None:
    """Where the bracket that opens at `start` closes."""
    pair = {"(": ")", "{": "}", "[": "]"}[text[start]]
    depth = 0
    for index in range(start, len(text)):
        if text[index] == "\\":
            continue
        if index and text[index - 1] == "\\":
            continue
        depth += (text[index] == text[start]) - (text[index] == pair)
        if not depth:
            return index
    return None


# ------------------------------------------------------------------------------------------------------------- LaTeX

_BLANKS = re.compile(r"\s+")
_CLEANING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in (
        (r"\\\\\*|\\(?:cr|tabularnewline)(?![a-zA-Z])", r"\\\\ "),
        (r"\\\\\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm|in)\s*\]", r"\\\\ "),  # a distance between rows
        (r"(?<!\\)((?:\\\\)*)\\[()\[\]]", r"\1 "),  # \( \) \[ \]
        (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?", ""),
        (r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|hline|nonumber|centering)(?![a-zA-Z])", " "),
        (r"\\(?:boxed|fbox|framebox|smash|underbrace|overbrace)(?=\s*\{)", ""),
        (r"(?<=\d)(?:\{,\}|,\\!|\\,|\\;|\\:|\\ |~|(?<=\d)'(?=\d{3}(?!\d)))\s*(?=\d{3}(?!\d))", r"\\thousands "),
        (r"(?<=\d),\s*\\!\s*(?=\d{3}(?!\d))", r"\\thousands "),
        (r"\\!", ""),
        (r"(?<!\\)\\(?:[,;:> ]|\n)|~|&nbsp;"
         r"|\\(?:q?quad|enspace|enskip|(?:neg)?(?:thin|med|thick)space|space)(?![a-zA-Z])"
         r"|\\[hvm]skip ?-?[\d.]* ?(?:pt|em|ex|mm|cm|in|mu)(?![a-zA-Z])", " "),
        (r"</?(?:b|i|strong|em|u|sub|sup|span|p|br|code)\s*/?>", " "),
        (r"\\(?:hspace|vspace|label|tag)\*?\s*\{[^{}]*\}", " "),
        (r"\\[hv]?phantom(?![a-zA-Z])\s*(?:\{[^{}]*\}|\S)", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:mbox|hbox|textbf|textit|textrm|textsf|texttt|textnormal|textsc|emph|underline|mathrm|mathsf|mathtt|mathnormal"
         r"|operatorname\*?|unit)\s*(?=\{)", r"\\text"),
        (r"\\(?:boldsymbol|mathbf|mathit|bm|pmb|mathcal|ensuremath|mathop|bold|textcolor\s*\{[^{}]*\}|color\s*\{[^{}]*\})"
         r"(?![a-zA-Z])", ""),
        (r"\\(le|ge)(?:q|qslant|qq)(?![a-zA-Z])", r"\\\1"),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\neq(?![a-zA-Z])", r"\\ne"),
        (r"<=|=<(?!=)", r"\\le "),
        (r">=|=>", r"\\ge "),
        (r"(?<!\d)!=(?!=)|\\not\s*=", r"\\ne "),
        (r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\cdot "),
        (r"==", "="),
        (r"\+\s*/\s*-|\+-", r"\\pm "),
        (r"~=", r"\\approx "),
        (r"\^\s*\{?\s*(?:\*|\\star|\\ast)\s*\}?(?=\s*=)", "'"),
        (r"\*\*", "^"),
        (r"\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])|\\ast(?![a-zA-Z])|\*", r"\\cdot "),
        (r"\\div(?![a-zA-Z])", "/"),
        (r"\\colon(?![a-zA-Z])", ":"),
        (r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])", "|"),
        (r"\\(?:lbrace)(?![a-zA-Z])", r"\\{"),
        (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
        (r"\\(?:lbrack)(?![a-zA-Z])", "["),
        (r"\\(?:rbrack)(?![a-zA-Z])", "]"),
        (r"\\(?:lparen)(?![a-zA-Z])", "("),
        (r"\\(?:rparen)(?![a-zA-Z])", ")"),
        (r"\\bigcup(?![a-zA-Z])", r"\\cup "),
        (r"\\(?:varnothing|O)(?![a-zA-Z])", r"\\emptyset"),
        (r"\\(?:dots|cdots|dotsc|dotsb|ldotp)(?![a-zA-Z])|\.\.\.+", r"\\ldots "),
        (r"\\(?:simeq|cong|sim|doteq)(?![a-zA-Z])", r"\\approx"),
        (r"\\(?:bf|it|rm|sf|tt|large|Large|LARGE|huge|Huge|small|normalsize|hfill|newline|par|noindent|strut|mathstrut|allowbreak|null"
         r"|bfseries|itshape|boldmath)(?![a-zA-Z])", " "),
        (r"\\(?:nicefrac|sfrac|flatfrac)(?![a-zA-Z])", r"\\frac"),
        (r"^([^{}]*)\\over(?![a-zA-Z])([^{}]*)$|\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}", r"\\frac{\1\3}{\2\4}"),
        (r"(?<=\d)\s*o'clock", r" \\text{o'clock}"),
        (r":=", "="),
        (r"(?<![a-zA-Z\\])([aApP])\s?\.\s?([mM])(?![a-zA-Z])\.?", r"\1\2"),
        (r"(?<=\d)\s*\\mu\s*([mgsL])(?![a-zA-Z^_(])", r" \\text{micro\1}"),
        (r"(?<=\d)\s*([kM]?)\\Omega(?![a-zA-Z_(])\s*(?![\^_(])", r" \\text{\1ohm}"),
        (r"(?<=\d)\s*\^\s*(?:\{\s*o\s*\}|o(?![a-zA-Z]))", r"\\degree "),
        (r"[\[(|]\s*(\\begin\s*\{array\})", r"\1"),
        (r"(\\end\s*\{array\})\s*[\])|]", r"\1"),
        (r"(\d*\.)(\d+)\s*(?:\\text\s*\{\s*)?\(?\s*(?:repeating|recurring)\s*\)?\s*\}?", r"\1\\overline{\2}"),
        (r"(\d+\.)\((\d+)\)", r"\1\\overline{\2}"),
        (r"^([-+]?\d+\.\d+)\((\d+)\)$", r"\1\\overline{\2}"),
        (r"(?<=[.\d])\{(\\(?:overline|bar|dot)\s*\{\d+\})\}", r"\1"),
        (r"(?<![.\d])\\overline\s*\{(\d+)\}\s*(?=_)", r"\1"),
        (r"\\(?:widehat|hat|vec|overrightarrow|overarc|wideparen)(?:\s*\{(\w+)\}|(?![a-zA-Z]))", r"\1"),
        (r"\\mathbb\s*\{?\s*([EP])(?![a-zA-Z])\s*\}?", r"\1"),
        (r"\\Pr(?![a-zA-Z])", "P"),
        (r"\\(?:bar)(?![a-zA-Z])", r"\\overline"),
        (r"\\overline\s*(\d)", r"\\overline{\1}"),
        (r"\\dot\s*(\d)", r"\\dot{\1}"),
        (r"\\ang\s*\{([^{}]*)\}", r"\1\\degree "),
        (r"\\(?:textdegree|degrees?)(?![a-zA-Z])|\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|(?<=[\d}])\s*\\deg(?![a-zA-Z])",
         r"\\degree "),
        (r"\^\s*\\degree", r"\\degree"),
        (r"\\prime(?![a-zA-Z])", "'"),
        (r"\\(?:percent)(?![a-zA-Z])", r"\\%"),
        (r"\bper cent\b", "percent"),
        (r"(?<!\\)%", r"\\%"),
        (r"\\(?:pounds)(?![a-zA-Z])", r"\\text{pounds sterling}"),
        (r"\\(?:euro)(?![a-zA-Z])", r"\\text{euros}"),
        (r"\bRs\.?\s*(?=\d)", "Rs "),
        (r"(?<=\d)\s?/-(?!\d)", ""),  # Rs. 500/-
        (r"(?<=\d)\s*\^\s*\{\s*(?:\\text\s*\{\s*)?(st|nd|rd|th)\s*\}{1,2}", r"\1"),
        (r"\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}", r"\\binom{\1}{\2}"),
        (r"(?<![a-zA-Z\d)}])(?:\{\}\s*)?[\^_]\s*\{?(\w+)\}?\s*C\s*_\s*\{?(\w+)\}?", r"\\binom{\1}{\2}"),
        (r"^\{(\d+)\}\s*C\s*_\s*\{?(\w+)\}?", r"\\binom{\1}{\2}"),
        (r"\(?\s*\\?(?:\\text\s*\{\s*)?\(?[pb]?mod(?![a-zA-Z])\s*\}?\s*\{?\s*(\w+)\s*\}?\s*\)?", r" \\bmod \1"),
        (r"\\(?:begin|end)\s*\{(?:center|align\*?|aligned|equation\*?|gathered|split)\}", " "),
        (r"\\(?:begin)\s*\{(?:[bBvVp]?matrix|smallmatrix)\}", r"\\begin{pmatrix}"),
        (r"\\(?:end)\s*\{(?:[bBvVp]?matrix|smallmatrix)\}", r"\\end{pmatrix}"),
    )
)  # fmt: skip
_AXIS = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|pmb|hat|vec|widehat|overrightarrow)\s*"
    r"(?:\{\s*(?:\\(?:mathbf|hat|vec|bf)\s*)?\{?\s*\\?([ijk])(?:math)?\s*\}?\s*\}|\\([ij])math|\s([ijk])(?![a-zA-Z]))"
)
_SYSTEM = re.compile(
    r"(?:\\left)?\s*\\\{\s*\\begin\s*\{(array|aligned|matrix)\}(?:\s*\{[lcr|\s]*\})?(?P<array>.*)\\end\s*\{\1\}"
    r"(?:\s*\\right\s*\.)?|\\begin\s*\{(d?cases)\}(?P<cases>.*)\\end\s*\{\3\}",
    re.DOTALL,
)
_VALUES = re.compile(r"(?:[a-zA-Z](?:_\w)?\s?=[^=,;&]*[\d})](?=[\s\\]|$)[\s\\]*){2,}")  # x = 1 \quad y = 2
_NEXT_VALUE = re.compile(r"(?<=[\d})])[\s\\]+(?=[a-zA-Z](?:_\w)?\s?=)")
_DETERMINANT = re.compile(r"\\begin\s*\{[vV]matrix\}")
_WRAPPED = re.compile(r"\\text\s*\{([^{}]*)\}", re.DOTALL)
_CURRENCY = re.compile(r"\\\$|(?<![\w}])\$(?=\s?\d[\d,.]*(?:[^$]*$|(?=[^$]*\$\s?\d)))")


@lru_cache(maxsize=1 << 14)
def clean(answer: str) -> str:
    r"""The answer as plain ASCII LaTeX, without what only changes its looks.

    >>> clean(r" $\left( 3,\, \dfrac12 \right)$. ")
    '( 3, \\frac12 )'
    """
    text = ascii_text(_CHOICE_DASH.sub(r"\1: ", answer))
    text = re.sub(r"^\*\*([^*]+)\*\*", r"\1", _BLANKS.sub(" ", text).strip()).strip("*`_").strip()
    text = _PREFIX.sub("", _dollars(text), count=1)
    if _DETERMINANT.search(text):  # a determinant is a number that is not worked out here
        text = text.replace("vmatrix", "determinant").replace("Vmatrix", "determinant")
    text = _AXIS.sub(lambda match: rf"\vec{match[1] or match[2] or match[3]} ", _of_system(text))
    for pattern, replacement in _CLEANING:
        text = pattern.sub(replacement, text)
    text = _BLANKS.sub(" ", text)
    return unwrapped(_NEXT_VALUE.sub(", ", text) if _VALUES.fullmatch(text.strip()) else text)


_CHOICE_DASH = re.compile(r"^\s*(\(?[A-J]\)?)\s+(?:[–—]|-(?=\s[A-Za-z]{4}))\s+(?=\S\S)")
_PREFIX = re.compile(
    r"^\s*(?:\\(?:text|textbf|mathrm|mbox)\s*\{\s*)?(?:\*\*)?(?:the |my |our )?(?:final |correct )?"
    r"(?:answer|ans|solution|result)"
    r"(?:\*\*)?\s*(?::|is\b)\s*:?"
    r"(?:\*\*)?(?:[ ~]*\})?\s*",
    re.IGNORECASE,
)


def _dollars(text: str) -> str:
    r"""Currency as ``\text{dollars}``, and the dollars around mathematics gone."""
    text = text.replace(r"\$", r"\currency ")
    if text.count("$") % 2 or re.match(r"^\$\s?\d[\d,.]*(?:[^$]*[^\d$\s][^$]*)?\$\d", text):
        text = re.sub(r"\$(?=\s?[\d.])", r"\\currency ", text, count=0 if text.count("$") % 2 == 0 else 1)
    return text.replace("$", " ")


def _of_system(text: str) -> str:
    """The equations of a system as a list; conditions are kept, as they make a function of it."""
    match = _SYSTEM.fullmatch(text.strip())
    if match is None:
        return text
    rows = re.split(r"\\\\(?:\s*\[[^\]]*\])?", match["array"] or match["cases"] or "")
    if any("=" not in row or re.search(r"\bif\b|\\text|[<>]", row) for row in rows if row.strip()):
        return text
    return ", ".join(row.replace("&", " ").strip(" ,.;") for row in rows if row.strip())


def unwrapped(text: str) -> str:
    """Without the stars, quotes, braces and full stops around it."""
    while True:
        inner = text.strip().strip("*`_").strip()
        if inner.endswith((".", ",", ";", ":")):
            inner = inner[:-1]
        inner = inner.rstrip("\\").rstrip() if inner.endswith("\\") else inner
        if len(inner) > 1 and inner[0] == inner[-1] == '"':
            inner = inner[1:-1]
        if inner.startswith("{") and not re.search("[,|:]", inner) and closing(inner, 0) == len(inner) - 1:
            inner = inner[1:-1]
        if match := _WRAPPED.fullmatch(inner):
            if match[1] in ("i", "e"):
                return match[1]
            return rf"\words {match[1].strip()}" if re.search("[a-zA-Z]", match[1]) else match[1]
        if inner == text:
            return text
        text = inner
