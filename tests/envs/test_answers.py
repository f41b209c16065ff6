r"""Answers as mathematics: a table by hand, the gold answers of MATH-500 rewritten and perturbed, hostile texts."""

import itertools
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from envs.answers import Algebra, find_answer, normalize, same_answer
from envs.checks import HOSTILE

ROOT = Path(__file__).resolve().parents[2]
MATH_500 = Path(os.environ.get("STEPWELL_DATA", ROOT.parent / "shared" / "data")) / "math500.jsonl"
PATIENT = Algebra(seconds=6.0)  # so that a busy machine changes no count
HASTY = Algebra()

# ------------------------------------------------------------------------------------------------------- by hand

SAME = [
    ("1/2", r"\frac{1}{2}"),
    (r"\dfrac12", "0.5"),
    (r"1\frac{4}{5}", "1.8"),
    ("10,080", r"10,\!080"),
    ("1e3", "1000"),
    ("50%", r"50\%"),
    (r"$\boxed{7}$.", "7"),
    ("90^\\circ", "90 degrees"),
    (r"15\mbox{ cm}^2", "15"),
    (r"\$18.90", "18.9"),
    ("x = 5", "5"),
    (r"x \in [-2,7]", "[-2, 7]"),
    (r"\text{(C)}", "C"),
    (r"\text{Evelyn}", "evelyn"),
    (r"2\sqrt{5}", r"\sqrt{20}"),
    (r"x^2 + 2x + 1", "(x+1)^2"),
    (r"\frac{\sqrt3}{3}", r"\frac{1}{\sqrt{3}}"),
    (r"\left(-\infty, 2\right)", r"(-\infty,2)"),
    (r"(0,9)\cup(9,36)", "(0, 9) \u222a (9, 36)"),
    (r"1 \pm \sqrt{19}", r"1 + \sqrt{19}, 1 - \sqrt{19}"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    (r"\begin{pmatrix} 1/2 \\ 3 \end{pmatrix}", r"\begin{bmatrix}\frac12\\3\end{bmatrix}"),
    ("y = 2x + 3", "2x + 3"),
    ("3.141593", r"3.14159265"),
    ("6 - 5i", "-5i + 6"),
]
DIFFERENT = [
    ("1/2", "1/3"),
    ("5", "-5"),
    ("12", "1.2"),
    ("0.33", "1/3"),
    ("(0,1]", "[0,1]"),
    ("(1,2)", "(2,1)"),
    (r"2\sqrt{5}", r"2\sqrt{6}"),
    ("x^2", "x^3"),
    (r"\text{even}", r"\text{odd}"),
    ("A", "B"),
    ("52_8", "52_9"),
    (r"\{1, 2\}", r"\{1, 3\}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    ("y = 2x + 3", "y = 2x - 3"),
    ("6 - 5i", "6 + 5i"),
    ("", "0"),
    ("nan", "nan nan"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_the_same(a: str, b: str) -> None:
    assert same_answer(a, b, PATIENT)
    assert same_answer(b, a, PATIENT)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_not_the_same(a: str, b: str) -> None:
    assert not same_answer(a, b, PATIENT)
    assert not same_answer(b, a, PATIENT)


def test_one_form_of_many_ways_to_write() -> None:
    assert normalize(r" $\left( 3,\, \dfrac12 \right)$. ") == r"(3,\frac{1}{2})"


# ------------------------------------------------------------------------------------------------------- MATH-500

_FRACTION = re.compile(r"(?<!\d)(-?)\\d?frac\{(\d+)\}\{(\d+)\}")
_PAIR = re.compile(r"(\\left)?([(\[])(.*?),(.*?)(\\right)?([)\]])")
_INTEGER = re.compile(r"-?\d+")


def _changed(new: str, old: str) -> str | None:
    return None if new == old else new


def _decimal(gold: str) -> str | None:
    match = _FRACTION.fullmatch(gold)
    if match is None:
        return None
    value = Fraction(int(match[2]), int(match[3]))
    exact = 10**6 % value.denominator == 0
    return f"{match[1]}{float(value)}" if exact else None


def _reversed_list(gold: str) -> str | None:
    parts = gold.split(",")
    plain = len(parts) > 1 and all(_INTEGER.fullmatch(part.strip()) for part in parts) and ", " in gold + " "
    return ", ".join(part.strip() for part in reversed(parts)) if plain and len(parts[-1].strip()) < 3 else None


def _squared_in(gold: str) -> str | None:
    match = re.fullmatch(r"(\d+) ?\\sqrt\{?(\d+)\}?", gold)
    return rf"\sqrt{{{int(match[1]) ** 2 * int(match[2])}}}" if match else None


def _reordered(gold: str) -> str | None:
    match = re.fullmatch(r"([\w^]+(?:\\sqrt\{\d+\})?) ?([-+]) ?([\w^]+(?:\\(?:sqrt\{\d+\}|pi))?)", gold)
    return f"{match[2].strip('+')}{match[3]} + {match[1]}" if match else None


REWRITINGS: dict[str, Callable[[str], str | None]] = {
    "in dollars, with a full stop": lambda gold: f"${gold}$.",
    "in a box": lambda gold: rf"\boxed{{{gold}}}",
    "with a name": lambda gold: f"x = {gold}" if not re.search(r"=|\\in|\\text", gold) else None,
    "`\\dfrac` for `\\frac`": lambda gold: _changed(re.sub(r"\\d?frac", r"\\dfrac", gold), gold),
    "fractions with a slash": lambda gold: _changed(_FRACTION.sub(r"\1\2/\3", gold), gold),
    "fractions as decimals": _decimal,
    "whole numbers as decimals": lambda gold: f"{gold}.0" if _INTEGER.fullmatch(gold) else None,
    "thousands": lambda gold: f"{int(gold):,}" if _INTEGER.fullmatch(gold) and len(gold) > 3 else None,
    "with a unit": lambda gold: rf"{gold}\text{{ units}}" if _INTEGER.fullmatch(gold) else None,
    "without degrees": lambda gold: _changed(gold.replace(r"^\circ", ""), gold),
    "degrees in words": lambda gold: _changed(gold.replace(r"^\circ", " degrees"), gold),
    "without `\\left` and `\\right`": lambda gold: _changed(re.sub(r"\\(left|right) ?", "", gold), gold),
    "with `\\left` and `\\right`": lambda gold: (
        _changed(_PAIR.sub(r"\\left\2\3,\4\\right\6", gold), gold) if r"\left" not in gold else None
    ),
    "Unicode for commands": lambda gold: _changed(
        gold.replace(r"\cup", "\u222a").replace(r"\infty", "∞").replace(r"\pi", "π").replace(r"\pm", "±"), gold
    ),
    "lists in another order": _reversed_list,
    "`bmatrix` for `pmatrix`": lambda gold: _changed(gold.replace("pmatrix", "bmatrix"), gold),
    "text without `\\text`": lambda gold: _changed(re.sub(r"\\text\{\(?(\w+)\)?\}", r"\1", gold), gold),
    "factors drawn into the root": _squared_in,
    "terms in another order": _reordered,
}


def _last_digit(gold: str) -> str | None:
    """The last digit that is not an exponent or the base of a number, raised by one."""
    found = list(
        re.finditer(r"(?<![_^\d{])(?<!\^\{)\d+", re.sub(r"\^\{?\d+|_\{?\d+|\}\^2", lambda m: "#" * len(m[0]), gold))
    )
    if not found:
        return None
    start, end = found[-1].span()
    return f"{gold[:start]}{int(gold[start:end]) + 1}{gold[end:]}"


def _negated(gold: str) -> str | None:
    plain = re.fullmatch(r"-?(\d[\d.]*|\\d?frac\{\d+\}\{\d+\}|\d*\\sqrt\{?\d+\}?)", gold) and gold != "0"
    return (gold[1:] if gold.startswith("-") else f"-{gold}") if plain else None


def _swapped(gold: str) -> str | None:
    match = _PAIR.fullmatch(gold)
    return None if match is None or "," in match[4] else f"({match[4]}, {match[3]})"


PERTURBATIONS: dict[str, Callable[[str], str | None]] = {
    "a number one higher": _last_digit,
    "the other sign": _negated,
    "ten times as much": lambda gold: f"{gold}0" if _INTEGER.fullmatch(gold) and gold != "0" else None,
    "one term more": lambda gold: f"{gold} + 1" if re.fullmatch(r"[\w^+ {}\\-]*[a-z]\w*[\w^+ {}\\-]*", gold) else None,
    "components swapped": _swapped,
    "open for closed": lambda gold: _changed(gold.replace("]", ")"), gold) if _PAIR.search(gold) else None,
    "one element more": lambda gold: (
        f"{gold}, 77" if re.fullmatch(r"[-\d, ]+", gold) and not re.search(r",\d{3}", gold) else None
    ),
    "another word": lambda gold: r"\text{another}" if gold.startswith(r"\text{") else None,
}


@pytest.fixture(scope="module")
def golds() -> list[str]:
    if not MATH_500.is_file():
        pytest.skip(f"there is no {MATH_500.name} in STEPWELL_DATA or beside the repository")
    lines = MATH_500.read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == 500
    return answers


def test_math_500(golds: list[str]) -> None:
    """Each gold answer equals itself and its rewritings and none of its perturbations, as docs/math.md counts them."""
    page = (ROOT / "docs" / "math.md").read_text(encoding="utf-8").splitlines()
    assert all(same_answer(gold, f" {gold} ", PATIENT) for gold in golds)
    missing = []
    for kind, changes in (("same", REWRITINGS), ("different", PERTURBATIONS)):
        for name, change in changes.items():
            pairs = [(gold, new) for gold in golds if (new := change(gold)) is not None]
            wrong = [pair for pair in pairs if same_answer(*pair, PATIENT) != (kind == "same")]
            line = f"| {name} | {kind} | {len(pairs)} | {len(pairs) - len(wrong)} |"
            if line not in page:
                missing.append((line, wrong))
    assert not missing, "\n".join(f"{line} {wrong}" for line, wrong in missing)


def test_the_worked_solutions_of_math_500_state_the_gold_answer(golds: list[str]) -> None:
    rows = [json.loads(line) for line in MATH_500.read_text(encoding="utf-8").splitlines()]
    assert [find_answer(row["solution"]) for row in rows] == golds


# -------------------------------------------------------------------------------------------------------- hostile


def hostile() -> list[str]:
    """More than 300 texts that are made to run, to run long, to fill the memory or to break a parser."""
    made = [text for text in HOSTILE if text.strip()]
    heights = (3, 4, 6, 9, 20)
    made += ["^".join([base] * height) for base, height in itertools.product(("9", "99", "x"), heights)]
    made += ["^{".join([base] * height) + "}" * (height - 1) for base, height in itertools.product("29", heights)]
    made += ["**".join([base] * height) for base, height in itertools.product(("9", "7.5"), heights)]
    made += [f"{n}{'!' * marks}" for n, marks in itertools.product((10, 999, 10**6, 10**9), (1, 2, 3, 9))]
    made += [rf"\binom{{{n}}}{{{n // 2}}}" for n in (10**3, 10**6, 10**9)]
    nests = (10, 100, 400)
    made += [f"{a * n}1{b * n}" for a, b in ("()", "[]", "{}", (r"\left(", r"\right)")) for n in nests]
    made += [f"{head * n}1{'}' * n}" for head in (r"\sqrt{", r"\frac{1}{", "x^{", r"\text{", r"\boxed{") for n in nests]
    made += [rf"\{name}^{{{n}}} x" for name in ("sin", "cos", "log") for n in (1, 10**3, 10**9)]
    made += [rf"(x+1)^{{{n}}}" for n in (30, 10**3, 10**6)] + [f"x^{{{n}}} - 1" for n in (100, 10**6, 10**12)]
    made += [rf"\{big}_{{k=1}}^{{{n}}} \frac{{1}}{{k}}" for big in ("sum", "prod") for n in (10**3, 10**9, r"\infty")]
    made += [rf"\int_0^{{{n}}} {f}" for n in (1, r"\infty") for f in (r"e^{-x^2} dx", r"\sin(x^x) dx", "x^{x^x} dx")]
    made += [rf"\lim_{{x \to {at}}} \frac{{\sin(x^{n})}}{{x}}" for at in (0, r"\infty") for n in (1, 50, 999)]
    made += [f"{digit * n}" for digit in "19" for n in (101, 999, 5000, 10**6)]
    made += [f"0.{digit * n}" for digit in "39" for n in (101, 999)] + ["1e" + "9" * n for n in (2, 3, 4, 9, 900)]
    made += [f"1/{'0' * n}" for n in (1, 9, 900)] + ["0/0", "0^0", "0^{-1}", r"\frac{1}{0}", r"\log(0)", "1/(1-1)"]
    code = ("import os; os.system('touch {}')", "open('{}','w')", "().__class__.__mro__[1].__subclasses__()")
    wraps = ("{}", r"\text{{{}}}", "$ {} $", 'exec("{}")', "lambda: {}", "[{} for x in [1]]", "Symbol('x').{}", "`{}`")
    made += [wrap.format(line.format("owned")) for line in code for wrap in wraps]
    made += ["__import__('os').fork()", "exit()", "quit()", r"\input{/etc/passwd}", r"\write18{ls}", r"\def\x{\x\x}\x"]
    made += [word for name in ("nan", "inf", "infinity", "NaN", "-inf") for word in (name, rf"\{name}", f"{name}+1")]
    made += [rf"\{name}{{" for name in ("frac", "sqrt", "begin", "text", "left", "right", "end", "boxed", "not", "u")]
    made += [rf"\begin{{{name}}}1&" for name in ("pmatrix", "cases", "align", "array", "nothing", "pmatrix}{")]
    made += [
        text * 300 for text in ("\\", "$", "{", "}", "^", "_", "&", "%", "#", "!", "-", "+", "=", "|", ",", ".", "<")
    ]
    made += [character * n for character in "\ufdfa\u0301\u202e\U0001d7d8\ufb03\u1e9b\x00\ud800" for n in (1, 50, 999)]
    made += ["+".join(f"x_{i}" for i in range(n)) for n in (50, 150)] + [",".join("12345"[:n]) * 80 for n in (2, 5)]
    made += ["1" + f"{sign}1" * 400 for sign in "+-*/^"] + [f"|{'|' * n}x" for n in (9, 500)]
    rng = random.Random(0)
    pieces = [
        r"\frac",
        r"\sqrt",
        "{",
        "}",
        "^",
        "_",
        "x",
        "9",
        "(",
        ")",
        "!",
        r"\pi",
        "=",
        ",",
        r"\in",
        r"\cup",
        "e",
        "/",
    ]
    made += ["".join(rng.choices(pieces, k=rng.randint(5, 60))) for _ in range(40)]
    made += [text * 10**5 for text in (r"\boxed{", "9^", "#### ", "the answer is ", "( ", "x+")]
    return list(dict.fromkeys(made))


def test_hostile_answers_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None runs, kills or lasts. The process that compares has its clock; what is timed here is all that is outside."""
    monkeypatch.chdir(tmp_path)
    texts = hostile()
    assert len(texts) >= 300
    assert 1.5 * HASTY.seconds < 2
    process = HASTY._worker
    slow = []
    for text in texts:
        started = time.process_time()
        find_answer(text)
        find_answer(rf"So \boxed{{{text}}}")
        same_answer(text, r"2\sqrt{5}", HASTY)
        assert same_answer(text, text, HASTY)
        if time.process_time() - started > 0.4:
            slow.append((text[:40], time.process_time() - started))
    assert not slow
    assert HASTY._worker is process  # it never had to be started again
    assert not list(tmp_path.iterdir())
    assert same_answer(r"\sqrt{20}", r"2\sqrt{5}", HASTY)


def test_a_verdict_that_is_not_reached_is_no_and_the_next_is_right() -> None:
    algebra = Algebra(seconds=0.01)
    assert not algebra.same(r"(x+1)^{3000}", r"(1+x)^{2999}(x+1)")
    algebra.seconds = 6.0
    assert algebra.same("x+1", "1+x")
    assert algebra._worker is not None
    algebra._worker.process.kill()
    assert algebra.same("x+2", "2+x")
    algebra.close()
    assert algebra.same("x+3", "3+x")
    algebra.close()


def test_without_math_verify_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'stepwell\[math\]'"):
        Algebra()


def test_algebra_stays_out_of_this_process() -> None:
    assert not {"math_verify", "latex2sympy2_extended"} & set(sys.modules)
