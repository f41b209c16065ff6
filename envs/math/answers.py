r"""Free-form mathematical answers: finding them in a solution, and telling whether two of them are the same.

An answer is LaTeX or plain text, as models write it. `normalize` gives it one form out of the many ways to write it;
forms, numbers and words are compared right here, exactly. Only what needs algebra (``2\sqrt{5}`` and ``\sqrt{20}``)
goes to math-verify, in a process of its own with hard limits (`Algebra`), because no text of a model can be trusted to
be cheap or harmless. Nothing is ever evaluated in this process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import unicodedata
import weakref
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO

from envs.core import Finish

MAX_ANSWER = 1000  # characters; a longer answer is the same only as itself
MAX_DIGITS = 100  # of a number that is read as one, and its largest power of ten
SIGNIFICANT = 6  # digits from which on a decimal may stand for the number that it is rounded from
CACHED = 1 << 14  # answers read, and pairs compared
START = 120.0  # seconds for loading sympy, on a busy machine
PATIENCE = 10  # times the processor time, by the clock: what a busy machine may need for it
WORKER = Path(__file__).with_name("answers_worker.py")

# -------------------------------------------------------------------------------------------------------- finding

_BRACES = re.compile(r"(\\(?:boxed|fbox)\s*\{)|\\.|([{}])", re.DOTALL)
_MARKED = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)
_SAID = re.compile(r"\b(?:the|final) answer(?: is\b|:)[ \t]*:?", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<!\.)\.(?=\s|$)")


def find_answer(solution: str, finish: Finish = "answer") -> str | None:
    r"""The final answer that a solution states, or None.

    The last ``\boxed{...}`` goes before a line ``#### ...``, and that before "the answer is ..." in the last line.
    Nothing before a ``</think>`` counts.

    Args:
        solution: the text of its steps.
        finish: how its last step ended. Unless the solution is over, ``####`` must have a number after it (it is also
            how headings are written); where the text was cut, only a closed box is sure to be whole.
    """
    thought, _, solution = solution.rpartition("</think>")
    if not thought and "<think>" in solution:
        return None
    boxed = _last_box(solution)
    if boxed or finish == "length":
        return boxed
    if marked := [line for line in _MARKED.findall(solution) if finish == "answer" or _number(_form(line.strip()))]:
        return str(marked[-1]).strip()
    if finish == "step":
        return None
    _, *said = _SAID.split(solution.rstrip().rpartition("\n")[2])
    return _SENTENCE.split(said[-1], maxsplit=1)[0].strip(" \t*") or None if said else None


def _last_box(text: str) -> str | None:
    """What is in the last box that is closed and not empty; one pass, however many are left open."""
    found, opened = None, list[tuple[bool, int]]()
    for match in _BRACES.finditer(text):
        if match[1] or match[2] == "{":
            opened.append((bool(match[1]), match.end()))
        elif match[2] and opened:
            boxed, start = opened.pop()
            if boxed and text[start : match.start()].strip():
                found = start, match.start()
    return text[found[0] : found[1]].strip() if found else None


# ---------------------------------------------------------------------------------------------------- normal form

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "\u2215": "/",
        "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "±": r"\pm ", "\u222a": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "θ": r"\theta ", "∅": r"\emptyset ", "°": "",
        "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}", "€": "", "£": "", "\u2019": "'", "\u200b": "", "\ufeff": "", "\u2044": "/",
    }
)  # fmt: skip
_FUNCTIONS = "arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|exp|gcd|lcm|max|min|mod"
_NO_UNITS = "(?:hundred|thousand|tenth|hundredth|thousandth|million|billion|trillion|dozen)s?|times|plus|minus|squared"
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])", ""),
        (r"\\(?:displaystyle|limits)(?![a-zA-Z])", " "),
        (r"(?<=\d)(?:\{,\}|,\s*\\!|\\[,;: ]|~)\s*(?=\d{3}(?!\d))", ","),  # 10{,}080, 10,\!080 and 10\,080
        (r"(?<!\\)\\[,;:! ]|\\q?quad(?![a-zA-Z])|~", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:mbox|textbf|textit|textrm|textsf|texttt|mathrm|operatorname)\s*(?=\{)", r"\\text"),
        (r"\\(?:boldsymbol|mathbf|mathit|bm)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(le|ge)(?:q|qslant)(?![a-zA-Z])", r"\\\1"),
        (r"\\neq(?![a-zA-Z])", r"\\ne"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"\*\*", "^"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"\\(begin|end)\s*\{(?:b|small|B)matrix\}", r"\\\1{pmatrix}"),
        (r"\\\\\s*(?=\\end\s*\{)", ""),  # the last row of a matrix needs no end
        (r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|\\degrees?(?![a-zA-Z])", ""),
        (r"\\?\$", ""),
        (r"\\%|\s*(?:\\text\s*\{\s*percent\s*\}|(?<![a-zA-Z\\])percent(?![a-zA-Z]))", "%"),
        *(
            (rf"(?<=\d)\s*(?:\\text\s*\{{\s*{word}\s*\}}|{word}(?![a-zA-Z]))", rf"\\cdot 10^{power}")
            for word, power in (("thousand", 3), ("million", 6), ("billion", 9))
        ),
        (rf"\\text\s*\{{\s*({_NO_UNITS})\s*\}}", r" \1"),
        (r",?\s*\\text\s*\{\s*,?\s*(?:and|or)\s*\}|,?\s+(?:and|or)\s+", ","),
        (r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (rf"(?<![a-zA-Z\\])(pi|infty|{_FUNCTIONS})(?![a-zA-Z])", r"\\\1 "),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*(?=\{)", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\w)", r"\1{\2}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
        (r"(?<![\w.}^/])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\w.])", r"\1\\frac{\2}{\3}"),  # 137 1/2
        (r"(?<![\w.}^/])(\d+)\s*/\s*(\d+)(?![\w./^!])", r"\\frac{\1}{\2}"),
        (r"(_|\^)\s*\{\s*(\w)\s*\}", r"\1\2"),
        (r"_(?:\\text)?\s*\{\s*(\d+)\s*\}", r"_\1"),
    )
)
_WRAPPED = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}|\\\((.*)\\\)|\\\[(.*)\\\]|\\text\s*\{([^{}]*)\}", re.DOTALL)
_UNIT = re.compile(
    rf"""(?:
        (?<=[\w}})%])\s*\\text\s*\{{(?!\s*(?:{_NO_UNITS})(?![a-zA-Z]))[^{{}}]*\}}  # 15\text{{ cm}}^2
        |(?:(?<=[\d}})])\s*|(?<=\\pi)\s+)                                       # 15 square cm, 12 apples, 3pi cm
        (?:[cmk]?m|in|ft|mi|k?g|lbs?|oz|mph|sq|hrs?|(?!(?:{_FUNCTIONS}|{_NO_UNITS})(?![a-zA-Z]))[a-zA-Z]{{3,}})
        (?![a-zA-Z\d_])
        (?:\.?[\s/-]+(?:[a-zA-Z]{{2,}}|[mgh])(?![a-zA-Z\d_]))*
        )\.?\s*(?:\^\s*\{{?[23]\}}?)?\s*$""",
    re.ASCII | re.VERBOSE,
)
_SPACE = re.compile(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])|\s+")


def normalize(answer: str) -> str:
    r"""One form out of the many ways to write an answer: without dollars, spaces, sizes, degrees and units.

    >>> normalize(r" $\left( 3,\, \dfrac12 \right)$. ")
    '(3,\\frac{1}{2})'
    """
    text = _unwrap(unicodedata.normalize("NFKC", answer.translate(_UNICODE)))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _unwrap(_UNIT.sub("", text))
    return _SPACE.sub(lambda match: f"{match[1]} " if match[1] else "", text)


def _unwrap(text: str) -> str:
    """Without the dollars, stars, boxes and full stops around it."""
    while True:
        inner = text.strip().strip("$*").rstrip(".,;:").strip()
        if match := _WRAPPED.fullmatch(inner):
            inner = next(group for group in match.groups() if group is not None)
        if inner == text:
            return text
        text = inner


# -------------------------------------------------------------------------------------------------------- numbers

_INTEGER = r"\d{1,3}(?:,\d{3})+|\d+"
_DECIMAL = rf"(?:(?:{_INTEGER})(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)(?:
        (?P<whole>\d+)?\\frac\{{(?P<top>[-+]?{_DECIMAL})\}}\{{(?P<bottom>[-+]?{_DECIMAL})\}}
        |(?P<over>{_DECIMAL})/(?P<under>{_DECIMAL})
        |(?P<decimal>{_DECIMAL})(?:(?:[eE]|(?:\\times|\\cdot|\*)10\^)\{{?(?P<power>[-+]?\d{{1,3}})\}}?)?
        )(?P<percent>%?)""",
    re.ASCII | re.VERBOSE,
)


@dataclass(frozen=True)
class _Number:
    """An exact value; `unit` is that of its last digit where it is a decimal long enough to be an approximation."""

    value: Fraction
    unit: Fraction | None
    percent: bool


def _number(form: str) -> _Number | None:
    match = _NUMBER.fullmatch(form)
    if match is None or len(form) > MAX_DIGITS or abs(int(match["power"] or 0)) > MAX_DIGITS:
        return None
    unit = None
    if digits := match["decimal"]:
        scale = Fraction(10) ** int(match["power"] or 0)
        value = _exact(digits) * scale
        places = len(digits.partition(".")[2])
        if places and len(digits.replace(".", "").lstrip("0")) >= SIGNIFICANT:
            unit = scale / 10**places
    else:
        top, bottom = _exact(match["top"] or match["over"]), _exact(match["bottom"] or match["under"])
        if not bottom:
            return None
        value = int(match["whole"] or 0) + top / bottom
    return _Number(-value if match["sign"] == "-" else value, unit, bool(match["percent"]))


def _exact(digits: str) -> Fraction:
    return Fraction(digits.replace(",", ""))


def _same_number(a: _Number, b: _Number) -> bool:
    """Equal values; or one is the other, rounded or cut; a percentage is also as good as its plain number."""
    if a.percent != b.percent:
        plain, percent = (b, a) if a.percent else (a, b)
        return any(
            _same_number(plain, _Number(percent.value / by, percent.unit and percent.unit / by, False))
            for by in (1, 100)
        )
    if a.value == b.value:
        return True
    if a.unit is None and b.unit is None:
        return False
    rough, fine = (a, b) if b.unit is None or (a.unit is not None and a.unit > b.unit) else (b, a)
    gap = abs(rough.value) - abs(fine.value)
    return rough.value * fine.value > 0 and rough.unit is not None and -rough.unit < gap <= rough.unit / 2


# ----------------------------------------------------------------------------------------------------- comparison

_RELATION = re.compile(r"=|\\in(?![a-zA-Z])")
_NAMED = re.compile(r"(?:[a-zA-Z]|\\[a-z]+|[a-zA-Z]\([a-z]\))(?:_\w)?(?:=|\\in(?![a-zA-Z]))")
_LETTERS = re.compile(r"[a-zA-Z][-a-zA-Z',.]*")
_WORD = re.compile(r"[a-zA-Z]{4}")
_CHOICE = re.compile(r"\(([a-zA-Z])\)")
_BASED = re.compile(r"\d[\dA-F]*_\d+", re.ASCII)


def same_answer(a: str, b: str, algebra: Algebra) -> bool:
    """Whether two answers are the same: reflexive and symmetric, and safe with any text.

    Units and degrees do not count, nor the name that a value is given (``x = 5`` is 5), nor capitals.
    """
    if a == b:
        return True
    if max(len(a), len(b)) > MAX_ANSWER:
        return False
    first, second = _form(a), _form(b)
    if bool(_RELATION.search(first)) != bool(_RELATION.search(second)):
        first, second = _value(first), _value(second)
        if bool(_RELATION.search(first)) != bool(_RELATION.search(second)):  # an equation is not its right side
            return False
    if not first or not second:
        return False
    verdict = _compare(first, second)
    return algebra.same(first, second) if verdict is None else verdict


@lru_cache(maxsize=CACHED)
def _form(answer: str) -> str:
    form = normalize(answer)
    choice = _CHOICE.fullmatch(form)
    return choice[1] if choice else form


def _value(form: str) -> str:
    r"""What ``x=`` or ``x\in`` says of x, in each part of a list; the last side of a chain."""
    named = _NAMED.match(form)
    if named is None:
        return form
    value = form[named.end() :].replace("," + named[0], ",")
    return value if "," in value else value.rpartition("=")[2]


def _compare(a: str, b: str) -> bool | None:
    """The verdict on two normal forms, or None where it takes algebra."""
    if a == b:
        return True
    numbers = _number(a), _number(b)
    if numbers[0] is not None and numbers[1] is not None:
        return _same_number(numbers[0], numbers[1])
    letters = [bool(_LETTERS.fullmatch(form)) for form in (a, b)]
    if all(letters) and a.casefold() == b.casefold():
        return True
    if any(spelt and _WORD.search(form) for spelt, form in zip(letters, (a, b), strict=True)):
        return False
    return False if _BASED.fullmatch(a) or _BASED.fullmatch(b) else None


# -------------------------------------------------------------------------------------------------------- algebra


class Algebra:
    """math-verify in a process of its own; a verdict that it does not reach within the limits is "not the same".

    The process starts at once, so that it is ready when it is needed, and again should it die. Verdicts are kept. Any
    thread may ask.

    Args:
        seconds: of processor time that one comparison may take, so that a busy machine changes no verdict.
        memory: bytes of address space that one comparison may take.

    Raises:
        ModuleNotFoundError: when math-verify is not installed.
    """

    def __init__(self, seconds: float = 1.0, memory: int = 1 << 30) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ModuleNotFoundError(
                "comparing mathematical answers needs math-verify: pip install 'stepwell[math]'", name="math_verify"
            )
        self.seconds = seconds
        self.memory = memory
        self._lock = threading.Lock()
        self._worker: _Worker | None = _Worker()
        self._verdict = lru_cache(maxsize=CACHED)(self._ask)

    def same(self, a: str, b: str) -> bool:
        """Whether two normal forms are the same mathematical object."""
        return self._verdict(*sorted((a, b)))

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._worker.process.pid if self._worker is not None else None

    @property
    def asked(self) -> int:
        """How many comparisons the process was asked for."""
        return self._verdict.cache_info().misses

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._worker is not None:
                self._worker.stop()
            self._worker = None

    def _ask(self, a: str, b: str) -> bool:
        patience = PATIENCE * self.seconds
        question = json.dumps([a, b, self.seconds, patience, self.memory])
        with self._lock:
            for _ in range(2):  # something else may have ended the process: then once more, in a new one
                if self._worker is None or self._worker.owner != os.getpid():  # a fork has no share in it
                    self._worker = _Worker()
                reply: object = None
                try:
                    reply = self._worker.ask(question, 2 * patience)
                finally:  # also when interrupted: a late reply must not become the next one
                    if not isinstance(reply, bool):
                        self._worker.stop()
                        self._worker = None
                if isinstance(reply, bool):
                    return reply
        return False


class _Worker:
    """A running `answers_worker`: one line of JSON in, one line out."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._loaded = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        # -P: neither this folder nor the current one may hide a module. A group of its own: Ctrl-C is not for it.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            process_group=0,
        )
        self.stop = weakref.finalize(self, _stop, self.process, self._errors, self.owner)

    def ask(self, question: str, seconds: float) -> object:
        """The reply to a question, or None if there is none in time; raises RuntimeError if it did not start."""
        if not self._loaded and self._reply(START) != "ready":
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
            raise RuntimeError(f"the process that compares answers did not start: {said or 'no reply'}")
        self._loaded = True
        try:
            self._pipe(self.process.stdin).write(question.encode() + b"\n")
        except BrokenPipeError:
            return None
        return self._reply(seconds)

    def _reply(self, seconds: float) -> object:
        source = self._pipe(self.process.stdout)
        ready = select.select([source], [], [], seconds)[0]
        line = source.readline() if ready else b""
        return json.loads(line) if line.endswith(b"\n") else None

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None  # as asked for above
        return pipe


def _stop(process: subprocess.Popen[bytes], errors: IO[bytes], owner: int) -> None:
    if owner == os.getpid():
        process.kill()
        process.communicate()  # closes the pipes and waits
        errors.close()
