r"""Answers that no comparison may fall for: too dear, too deep, too long, broken, or code.

`hostile` gives more than 300 of them; those that are code try to make the file `canary`.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from envs.conformance import HOSTILE

_SIZES = (3, 10, 30, 100)


def hostile(canary: Path) -> list[str]:
    """All of them, each once."""
    code = _code(str(canary)), _latex_code(str(canary))
    every = (HOSTILE, _dear(), _deep(), _long(), _broken(), _unicode(), _special(), *code, _random())
    return list(dict.fromkeys(text for family in every for text in family))


def _dear() -> Iterator[str]:
    """Small texts with huge values."""
    for size in _SIZES:
        yield "9^{" * size + "9" + "}" * size
        yield "**".join(["9"] * size)
        yield "5" + "!" * size
        yield "9" * size + "!"
        yield f"{'9' * size}^{{{'9' * size}}}"
        yield rf"\sqrt[{'9' * size}]{{{'7' * size}}}"
        yield rf"\binom{{{'9' * size}}}{{{'4' * size}}}"
        yield rf"\sum_{{k=1}}^{{{'9' * size}}} \frac{{1}}{{k^k}}"
        yield rf"\prod_{{k=1}}^{{{'9' * size}}} (x + k)"
        yield rf"\int_0^{{{size}}} \sin^{{{size}}}(x^{{{size}}}) e^{{x^{size}}} dx"
        yield rf"\lim_{{x \to \infty}} \left(1 + \frac{{1}}{{x}}\right)^{{x^{{{size}}}}}"
        yield f"(x + y + z + 1)^{{{size * 10}}}"
        yield f"{'9' * size} \\bmod {'7' * (size // 2 + 1)}"
        yield f"\\gcd({'9' * size}, {'6' * size})"
        yield f"\\log_{{2}} {'7' * size}!"
        yield "+".join(rf"\sqrt{{{k}}}" for k in range(2, size // 2 + 4))
        yield "".join(rf"(x - {k})" for k in range(size)) + "= 0"
        yield " ".join(rf"\sin(x^{k})" for k in range(min(size, 60)))
        yield rf"x^{{{size * 17}}} - {size} x^{{{size * 11}}} + 1 = 0"
        yield "\\frac{1}{1+" * min(size, 60) + "x" + "}" * min(size, 60)
        yield rf"10^{{-{'9' * size}}}"
        yield f"1e{'9' * size}"
        yield f"10**10**{10 ** min(size, 60)}"
        yield rf"\zeta({'9' * size}) + \Gamma({'9' * size})"
        yield rf"e^{{i \pi \cdot {'9' * size}!}}"
        yield "|" * size + "x" + "|" * size
    for rows in (2, 5, 12):
        body = r" \\ ".join(" & ".join(f"x_{{{i}}}^{j}" for j in range(rows)) for i in range(rows))
        yield rf"\begin{{pmatrix}} {body} \end{{pmatrix}}^{{-1}}"
        yield rf"\det \begin{{pmatrix}} {body} \end{{pmatrix}}"
        yield rf"\begin{{pmatrix}} {body} \end{{pmatrix}}^{{99999}}"


def _deep() -> Iterator[str]:
    """Nesting."""
    pairs = (
        ("(", ")"), ("{", "}"), ("[", "]"), (r"\{", r"\}"), (r"\left(", r"\right)"), (r"\sqrt{", "}"),
        (r"\frac{1}{", "}"), (r"\text{", "}"), (r"\boxed{", "}"), ("-", ""), ("x^{", "}"), ("x_{", "}"),
        (r"\sin(", ")"), ("$", "$"), (r"\(", r"\)"), ("f(", ")"),
    )  # fmt: skip
    for left, right in pairs:
        for depth in (20, 150, 5000):
            yield left * depth + "1" + right * depth
        yield left * 60 + "1"
        yield "1" + (right or left) * 60


def _long() -> Iterator[str]:
    """Megabytes, and what is just short enough to be read."""
    pieces = (
        "9", "x", "(", " ", "x+", r"\frac", r"\boxed{", "{", "}", "$", "a b ", "1,", "#### 1\n", "\\", "é", "=", "^",
    )  # fmt: skip
    for piece in pieces:
        yield piece * (2_000_000 // len(piece))
        yield piece * (999 // len(piece))


def _broken() -> Iterator[str]:
    """LaTeX that no compiler would take."""
    yield from (
        r"\frac", r"\frac{", r"\frac{}{}", r"\frac{1}{0}", r"\frac{0}{0}", r"\frac{1}", r"\frac12345", r"\sqrt",
        r"\sqrt[", r"\sqrt[]{}", r"\left(", r"\right)", r"\left(1,2\right", r"\begin{pmatrix}", r"\end{pmatrix}",
        r"\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}", r"\begin{matrix} \end{bmatrix}",
        r"\begin{nonsense}1\end{nonsense}", r"\text{", r"\text{unclosed", r"\boxed", r"\boxed{", r"\unknowncommand{x}",
        r"\\\\\\\\", r"\{1,2", r"1,2\}", "{}{}{}", "^^^^", "____", "x^^2", "x__2", "^2", "_2", "2^", "2_", "&&&", "%%%",
        "###", "~~~", "$$$", "$1$2$", r"\$", r"\%\%", "1/", "/1", "1//2", "1/0", "0/0", "--1", "+-+-1", "1..2", "...",
        ".", "..", ",", ",,", "1,,2", "(,)", "[,)", "()", "[]", "{}", r"\{\}", "=", "==", "x=", "=x", "x==1", "x=y=z=",
        "<", "<>", "1<", "1<<2", r"\le", r"x \in", r"\in \in", "|", "||", "!", "!!", "5!!", "? : ;", '"', "'", "''",
        "`", r"\ ", r"\,", r"\!\!\!", "\\", r"\pm", r"\pm\pm 1", r"\infty - \infty", r"\infty/\infty",
        r"0 \cdot \infty", "1 +", "* 2", "()()", r"\cup", r"\cup \cup", r"(1,2) \cup", "\\\n", "\t", "\r\n\r\n",
    )  # fmt: skip


def _unicode() -> Iterator[str]:
    yield from (
        "\x00", "1\x002", "\x1b[2J", "\x7f", "\ud800", "1\udfff2", "\u202e21", "\u200b", "1\u200b2", "\ufeff7", "٣٤",
        "४२", "五", "Ⅷ", "①", "𝟚", "𝟝𝟞", "x²³", "½¼", "√√√2", "∞∞", "−−1", "∑∏∫", "π" * 300, "ﷺ" * 50, "ﬀ", "Å",
        "e\u0301" * 200,
        "🙂", "👩‍👩‍👧‍👦", "a\u0300" * 400, "\U0010ffff", "ℝ\\mathbb{R}", "≈≠≤≥", "１２３", "（１，２）",
        "\u2028\u2029", "İ", "ß", "ς", "\u00ad" * 300,
    )  # fmt: skip


def _special() -> Iterator[str]:
    yield from (
        "nan", "NaN", "-nan", "inf", "-inf", "Infinity", "1e400", "-1e400", "1e-400", "0x10", "0b1", "1_000", "None",
        "null", "True", "undefined", "zoo", "oo", "-oo", "I", "E", "S", "N", "Q", "O", r"\text{NaN}", r"\infty",
        r"-\infty", r"i^i", r"\sqrt{-1}", r"\log 0", r"\tan \frac{\pi}{2}", r"0^0", r"\emptyset",
        r"\frac{\infty}{\infty}", r"\arcsin 2", "0" * 900, "0." + "0" * 900 + "1", "-" * 900 + "1", "." * 900,
        "1" + "0" * 900, "1." * 300, "%s%n%x", "{0}{1}", "{question}", "%(a)s",
    )  # fmt: skip


def _random() -> Iterator[str]:
    """What a model might write that has lost its way."""
    rng = random.Random(0)
    pieces = r"\frac \sqrt { } ^ _ x 9 ( ) ! \pi = , \in \cup e / + - \pm \left( \right] & \\ | < \text{ $ ."
    for _ in range(40):
        yield "".join(rng.choices(pieces.split(), k=rng.randint(5, 60)))


def _code(canary: str) -> Iterator[str]:
    """Python, should anything evaluate it: plain, and dressed as mathematics."""
    calls = (
        f"open('{canary}','w')",
        f"__import__('os').system('touch {canary}')",
        f"__import__('pathlib').Path('{canary}').touch()",
        f"__import__('subprocess').run(['touch','{canary}'])",
        f"exec(\"open('{canary}','w')\")",
        f"eval(\"open('{canary}','w')\")",
        f"().__class__.__base__.__subclasses__()[0] or open('{canary}','w')",
        f"[open('{canary}','w') for _ in range(1)]",
        f"(lambda: open('{canary}','w'))()",
        f"sympify(\"open('{canary}','w')\")",
        f"lambdify((), \"open('{canary}','w')\")()",
        f"Function('open')('{canary}','w')",
        f"breakpoint() or open('{canary}','w')",
        "__import__('os')._exit(1)",
        "exit()",
        "quit()",
        "raise SystemExit",
        "while True: pass",
        "import os; os.kill(os.getppid(), 9)",
        "help()",
        "input()",
        "f'{9**9**9}'",
        "globals()",
        "x.__class__",
        "1 if 1 else 2",
        "1; 2",
        "lambda x: x",
    )
    for call in calls:
        yield call
        yield rf"\operatorname{{{call}}}"
        yield rf"\text{{{call}}} + 1"
        yield f"x = {call}"
        yield f"1 + ({call})"


def _latex_code(canary: str) -> Iterator[str]:
    """TeX, should anything run it."""
    yield from (
        rf"\input{{{canary}}}", r"\input{/etc/passwd}", r"\include{/etc/passwd}",
        rf"\immediate\write18{{touch {canary}}}", r"\def\x{\x\x}\x", r"\newcommand{\a}{\a}\a", r"\loop\iftrue\repeat",
        r"\catcode`\$=0", r"\csname end\endcsname", rf"\openout1={canary}", r"\href{javascript:alert(1)}{1}",
        r"\usepackage{shellesc}", r"\directlua{os.exit()}", "$(reboot)", f"`touch {canary}`", f"; touch {canary}",
        f"| touch {canary}", "'; DROP TABLE answers; --", "<script>1</script>", "]]>", "&lt;",
        "${jndi:ldap://localhost/a}", "{{7*7}}", "../../../../etc/passwd", "file:///etc/passwd",
    )  # fmt: skip
