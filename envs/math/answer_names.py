r"""The names that an answer gives to a value: ``x``, ``f(2)``, ``AB``, ``\angle ABC``, words."""

from __future__ import annotations

import re

from envs.math.answer_algebra import Expr, Sym
from envs.math.answer_formula import FUNCTIONS, Formula, Token, words
from envs.math.answer_text import GREEK
from envs.math.answer_values import Named, Value

_SIMPLE_NAME = re.compile(
    r"(?:[a-zA-Z]|\\[a-zA-Z]+)'*(?:\^\\?\*)?(?:_(?:\w|\{[^{}]*\}|\\[a-zA-Z]+|\{?\\text ?\{?[^{}]*\}?\}?))?'*"
    r"(?:\([^()=]*\)|\[[^\[\]=]*\])?"
)
_LONG_NAME = re.compile(
    r"m?\\(?:angle|triangle|overline|measuredangle|Delta|square) ?\{?[A-Za-z]{1,4}'?\}?|[A-Z]{2,4}'?(?:_\w)?(?:\^2)?"
    r"|\|[^|=<>,]{1,20}\||\[[A-Z]{3,6}\]|\(?(?:[a-zA-Z]|\\[a-z]+)(?:_\w)?(?:,(?:[a-zA-Z]|\\[a-z]+)(?:_\w)?)+\)"
    r"|[a-zA-Z]{2,}\([^()=]{0,30}\)"
    r"|\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{?\d\}?)? ?(?:[A-Z]|\\[a-z]+|\\angle ?[A-Z]+|[a-z]|\([^()=]{1,12}\))"
    r"|[a-zA-Z]\^\{?-1\}?\([^()=]{1,20}\)|[A-Z]{2}(?:[-+][A-Z]{2}){1,4}|\\\|[^=]{1,20}\\\||\|\|[^=]{1,20}\|\|"
    r"|\([a-zA-Z](?:\\circ |\\cdot |[-+/])[a-zA-Z]\)\([^()=]*\)|\\?#\(?[A-Z]\)?|\\sigma(?:_\w)?\^\{?2\}?"
    r"|n\([A-Z]\)|\\mathbb\{E\}\[[^\[\]]*\]|[A-Za-z]\((?:[^()]|\([^()]{0,20}\)){1,40}\)|\\frac\{d[a-z]?\}\{d[a-z]\}"
)
_PART = r"(?:[A-Z]{2,3}|[a-df-hj-wA-W](?:_\w)?|\[[A-Z]{3,4}\])"
_QUOTIENT = re.compile(
    rf"\\frac\{{{_PART}\}}\{{{_PART}\}}|{_PART}(?:/{_PART}|(?::{_PART}){{1,5}})|[A-Z]{{2}}(?:\\cdot ?[A-Z]{{2}})+"
)
_SUM_NAME = re.compile(r"[a-wA-W](?:[-+]?[a-wA-W]){1,5}")


def name_of(tokens: list[Token]) -> str | None:
    """The name that tokens before an equality sign are: empty for one that distinguishes nothing."""
    if not tokens or len(tokens) > 30:
        return None
    if all(token.kind == "text" or (token.kind == "word" and (len(token.text) > 2 or token.text.lower() in _FILL))
           or token.text in ".,:'-#" for token in tokens):  # fmt: skip
        text = " ".join(token.text for token in tokens)
        if not (len(tokens) == 1 and tokens[0].kind == "word" and tokens[0].text.isupper()):
            return "" if not any(word in ("not", "no") for word in text.lower().split()) else None
    if any(token.text in ("\\lim", "\\int", "\\sum", "\\prod", "\\det", "\\dim") for token in tokens):
        return ""
    if tokens[0].text in _OF_VARIABLES and (len(tokens) == 1 or any(token.kind == "word" for token in tokens)):
        return ""
    text = "".join(
        f" {token.text}" if token.kind in ("word", "text") and k and tokens[k - 1].kind == "command" else token.text
        for k, token in enumerate(tokens)
    )
    while "( " in text:
        text = text.replace("( ", "(")
    text = re.sub(r"^\{(\w)\}", r"\1", text)
    if text in ("i", "e", "\\pi", "\\infty"):
        return None
    if _SIMPLE_NAME.fullmatch(text) and text.removeprefix("\\") not in FUNCTIONS:
        head = text.partition("_")[0].partition("(")[0]
        if head.startswith("\\") and head[1:].rstrip("'") not in GREEK:
            return text if _LONG_NAME.fullmatch(text) else None
        return text
    if _LONG_NAME.fullmatch(text) or _QUOTIENT.fullmatch(text):
        return text
    if (
        _SUM_NAME.fullmatch(text)
        and not re.search("[ie]$", text)
        and len(set(re.findall("[a-zA-Z]", text))) == len(re.findall("[a-zA-Z]", text))
    ):
        return text
    if any(token.kind == "text" for token in tokens) and not any(token.kind in ("number", "sci") for token in tokens):
        return ""
    return None


_OF_VARIABLES = frozenset(("\\max", "\\min", "\\sup", "\\arg", "\\deg", "\\Re", "\\Im"))
_FILL = words("of the a an is in to at")


def named(tokens: list[Token], value: Value) -> Value:
    """A value with the name before it; one that has a name keeps it."""
    name = name_of(tokens) or ""
    if isinstance(value, Named):
        return value
    symbol: Expr | None = None
    if len(name) == 1 or name.removeprefix("\\") in GREEK:
        symbol = Sym(name.removeprefix("\\"))
    elif name.startswith("\\frac") or "/" in name:
        symbol = Formula(list(tokens), units=False).whole()
    return Named(name, value, symbol)
