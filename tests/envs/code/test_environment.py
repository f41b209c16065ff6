"""The code environment: problems, steps, verdicts that cannot be forged, and a corpus of programs that try."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger

from envs import Problem, State, Step, UnreadableQuestion, check_environment, render
from envs.code.environment import MAX_PROGRAM, RUN, Code, Verdict
from envs.code.program import END, MAX_LINE
from envs.code.sandbox import NoIsolation, Unconfined
from envs.code.sandboxed.harness import decode, encode
from envs.code.tasks import UnreadableTasks, read_tasks, typed_task
from policies.scripted import ScriptedPolicy
from verifiers.table import TableVerifier

ROOT = Path(__file__).parents[3]
_spec = spec_from_file_location("hostile_programs", Path(__file__).with_name("hostile_programs.py"))
assert _spec is not None
assert _spec.loader is not None
hostile = module_from_spec(_spec)
_spec.loader.exec_module(hostile)

ADD = "add(a, b): the sum of two numbers. assert add(1, 2) == 3 assert add(0, 0) == 0"
RIGHT = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def code() -> Code:
    try:
        return Code()
    except NoIsolation as error:
        pytest.skip(str(error))


@pytest.fixture
def add(code: Code) -> Problem:
    """A problem with two visible tests and three hidden ones."""
    return with_hidden(code.read(ADD))


def with_hidden(problem: Problem) -> Problem:
    tests = ["assert add(2, 2) == 4", "assert add(-1, 1) == 0", "assert add('a', 'b') == 'ab'"]
    return Problem(problem.id, problem.question, RIGHT, {**problem.meta, "hidden": tests})


def follow(code: Code, problem: Problem, *texts: str) -> tuple[State, str, float]:
    """The state after some steps, and the status and the reward of the last."""
    state, status, reward = code.initial(problem), "running", 0.0
    for text in texts:
        assert status == "running"
        result = code.step(state, Step(text))
        state, status, reward = result.state, result.status, result.reward
    return state, status, reward


# ------------------------------------------------------------------------------------------------------------- problems


def test_it_conforms(code: Code, add: Problem) -> None:
    check_environment(code, problems=[add], n=1, patience=code.step_timeout)


def test_splits_are_as_large_as_the_kit_wants(code: Code) -> None:
    ids = {
        split: {problem.id for problem in code.problems(split, 12, seed=1)}
        for split in ("train", "calibration", "test")
    }
    assert sum(map(len, ids.values())) == len(set().union(*ids.values())) == 36
    with pytest.raises(ValueError, match="13 problems of 'test' asked for; there are 12"):
        code.problems("test", 13)
    with pytest.raises(ValueError, match="split 'tets' given"):
        code.problems("tets", 1)  # type: ignore[arg-type]


def test_reference_solutions_pass_and_their_slips_mostly_fail(code: Code) -> None:
    problems = code.problems("train", 12)
    slipped = []
    for problem in problems:
        assert problem.answer is not None
        assert code.judge(problem, problem.answer) == code.judge(problem, problem.answer)
        assert code.judge(problem, problem.answer).share == 1
        assert code.check(problem, problem.answer)
        state = code.initial(problem)
        lines: list[str] = []
        while not lines or lines[-1] != END:
            lines.append(min(code.options(state).items(), key=lambda item: item[1])[0])
            state = state.then(Step(lines[-1]))
        if lines != list(code.demonstrate(problem, random.Random(0))):
            slipped.append(code.check(problem, "\n".join(lines)))
    assert len(slipped) >= 8
    assert slipped.count(False) >= len(slipped) - 2


def test_prompts_show_the_visible_tests_and_no_hidden_one(code: Code) -> None:
    for problem in code.problems("test", 12):
        prompt = code.prompt(problem)
        assert all(test in prompt for test in problem.meta["visible"])
        assert not any(test in prompt for test in problem.meta["hidden"])
        compile(prompt, "prompt", "exec")  # comments only


# ---------------------------------------------------------------------------------------------------------------- steps


def test_a_program_is_written_line_by_line(code: Code, add: Problem) -> None:
    state, status, reward = follow(code, add, *RIGHT.splitlines(), END)
    assert (status, reward) == ("terminated", 1.0)
    answer = code.answer(state)
    assert answer is not None
    assert answer.startswith(RIGHT)
    assert code.check(add, answer)
    assert code.first_error(state) is None
    assert state.steps[-1].observation == "# 2 of 2 tests pass"


def test_the_reward_is_the_share_of_visible_tests(code: Code, add: Problem) -> None:
    state, status, reward = follow(code, add, "def add(a, b):", "    return 2 * (a + b) - 3 if a else 0", END)
    assert (status, reward) == ("terminated", 1.0)  # passes what it can see
    answer = code.answer(state)
    assert answer is not None
    assert not code.check(add, answer)
    assert code.first_error(state) == 2
    state, status, reward = follow(code, add, "def add(a, b):", "    return a * b", END)
    assert (status, reward) == ("terminated", 0.5)
    assert state.steps[-1].observation == "# 1 of 2 tests pass; assert add(1, 2) == 3: gave 2"


def test_a_run_is_answered_and_goes_on(code: Code, add: Problem) -> None:
    state, status, _ = follow(code, add, "def add(a, b):", "    return a - b", RUN)
    assert status == "running"
    assert state.steps[-1].observation == "# 1 of 2 tests pass; assert add(1, 2) == 3: gave -1"
    assert render(code, state).endswith("# run\n# 1 of 2 tests pass; assert add(1, 2) == 3: gave -1\n")
    state, status, reward = follow(code, add, "def add(a, b):", "    return a - b", RUN, *RIGHT.splitlines(), END)
    assert (status, reward) == ("terminated", 1.0)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("def add(a, b)", "SyntaxError"),
        ("def sub(a, b):\n    return 1", "there is no function add"),
        ("# add\n", "AttributeError"),
        ("add = 1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit()  # add", "SystemExit"),
        ("import numpy as add", "ModuleNotFoundError"),
    ],
)
def test_a_program_that_does_not_load_is_no_answer(code: Code, add: Problem, program: str, said: str) -> None:
    state, status, reward = follow(code, add, *program.splitlines(), END)
    assert (status, reward) == ("truncated", 0.0)
    assert code.answer(state) is None
    assert said in state.steps[-1].observation
    assert "\n" not in state.steps[-1].observation


@pytest.mark.parametrize(
    "fences", [("```python", "```"), ("", "```", END), ("```py", END), ("```python", "", "```")], ids=repr
)
def test_fences_around_a_program_are_not_part_of_it(code: Code, add: Problem, fences: tuple[str, ...]) -> None:
    state, status, reward = follow(code, add, *fences[:-1], *RIGHT.splitlines(), fences[-1])
    assert (status, reward) == ("terminated", 1.0)
    assert "```" not in (code.answer(state) or "```")


CHAT = {
    "words before": "Here is the function:\n\n```python\n{}\n```",
    "words on lines of their own": "Sure!\nTo add two numbers, we return `a + b`.\n```\n{}\n```",
    "a long paragraph before": "To solve this, note that "
    + "the sum is what counts, and " * 40
    + "\n```python\n{}\n```",
    "tildes": "As follows.\n~~~python\n{}\n~~~",
    "brackets": "[PYTHON]\n{}\n[/PYTHON]",
    "brackets after words": "Answer:\n[python]\n{}\n[/python]",
    "four marks": "````python\n{}\n````",
    "capital letters": "``` Python\n{}\n```",
    "attributes": "```python title='add.py'\n{}\n```",
    "another language first": "Run this:\n```bash\npip install add\n```\nand then\n```python\n{}\n```",
    "an example first": "It is to do this:\n```python\nadd(1, 2)  # 3\n```\nSo:\n```python\n{}\n```",
    "an example of output first": "```\n>>> add(1, 2)\n3\n```\nSo:\n```python\n{}\n```",
    "a heading first": "## Solution\n\n### Code\n\n```py\n{}\n```",
    "a program that ends itself": "{}\nexit()\n# end",
    "tests that end it": "{}\nimport unittest\nunittest.main()\n# end",
    "an indented comment": "def add(a, b):\n    # end\n    # run\n    return a + b\n# end",
    "a method": "class Solution:\n    def add(self, a, b):\n        return a + b\n# end",
    "a method in a fence": (
        "Here:\n```python\nclass Solution(object):\n    def add(self, a, b):\n        return a + b\n```"
    ),
    "a fence in a docstring": (
        "```python\ndef add(a, b):\n    '''Adds.\n    ```\n    add(1, 2)\n    ```\n    '''\n    return a + b\n```"
    ),
    "a fence in the docstring of a program without one": (
        "def add(a, b):\n    '''Adds.\n    ```\n    add(1, 2)\n    ```\n    '''\n    return a + b\n# end"
    ),
    "a block before that it needs": (
        "```python\nimport operator\n```\nand\n```python\ndef add(a, b):\n    return operator.add(a, b)\n```"
    ),
    "a helper of a longer name before": (
        "```python\ndef add_all(x):\n    return sum(x)\n```\n\n```python\ndef add(a, b):\n"
        "    return add_all([a, b])\n```"
    ),
    "the head alone before": "We need:\n```python\ndef add(a, b):\n    ...\n```\nand so\n```python\n{}\n```",
    "a head with a docstring before": (
        '```python\nimport math\n\ndef add(a, b):\n    """Add two numbers."""\n    pass\n```\nSo:\n```python\n{}\n```'
    ),
    "tests before": "```python\nimport unittest\nassert add(1, 2) == 3\n```\nThe code:\n```python\n{}\n```",
    "a constant before that it needs": (
        "```python\nNOUGHT = 0\n```\n```python\ndef add(a, b):\n    return a + b + NOUGHT\n```"
    ),
    "a draft in a thought": "<think>\n```python\ndef add(a, b):\n    return a - b\n```\n</think>\n```python\n{}\n```",
    "a fence behind words": "Here is the code: ```python\n{}\n```",
    "the mark at the end of the last line": "```python\n{}```",
    "a quotation": "> ```python\n> def add(a, b):\n>     return a + b\n> ```",
    "a mark in the first column of a docstring": (
        "~~~python\ndef add(a, b):\n    '''Adds.\n~~~\nadd(1, 2)\n~~~\n    '''\n    return a + b\n~~~"
    ),
    "a version": "```python3.11\n{}\n```",
    "a notebook": "```ipython\n{}\n```",
    "tags": "<answer>\n{}\n</answer>\n# end",
    "tags around a fence": "<code>\n```python\n{}\n```",
    "words before, without a fence": "Sure!\nHere is the function:\n\n{}\n# end",
    "words after, without a fence": "{}\n\nThis function adds two numbers.\n# end",
    "a method of another class": "```python\nclass Adder:\n    def add(self, a, b):\n        return a + b\n```",
    "a lambda": "```python\nadd = lambda a, b: a + b\n```",
    "a session": ">>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3\n# end",
    "a session in a fence": "```pycon\n>>> def add(a, b):\n...     return a + b\n>>> add(1, 2)\n3\n```",
    "a session of IPython": "```python\nIn [1]: def add(a, b):\n   ...:     return a + b\n```",
    "a coroutine": "```python\nasync def add(a, b):\n    return a + b\n```",
    "a coroutine that is run": (
        "```python\nimport asyncio\nasync def add(a, b):\n    await asyncio.sleep(0)\n    return a + b\n"
        "asyncio.run(add(1, 2))\n```"
    ),
    "verbatim": "\\begin{verbatim}\n{}\n\\end{verbatim}",
    "a listing": "\\begin{lstlisting}[language=Python]\n{}\n\\end{lstlisting}",
    "minted": "\\begin{minted}{python}\n{}\n\\end{minted}",
    "the marks of MBPP": "[BEGIN]\n{}\n[DONE]",
    "the last mark of MBPP": "{}\n[DONE]",
    "several tags": "<pre><code>\n{}\n</code></pre>\n# end",
    "an indented program": "    def add(a, b):\n        return a + b\n# end",
    "the name of a file": "```python:add.py\n{}\n```",
    "braces and options": "```{.python .numberLines}\n{}\n```",
    "words that begin as code does": "import the module first\nfrom this we see\nclass of problems\n{}\n# end",
    "a sentence in the fence": "```python\n{}\n\nThis function adds.\n```",
    "commands of a notebook": "```python\n%matplotlib inline\n!pip install numpy\n{}\n```",
    "the mark of an end": "```python\n{}\n```<|im_end|>",
    "the mark of an end without a fence": "{}<|endoftext|>\n# end",
    "a correction": (
        "```python\ndef add(a, b):\n    return a - b\n```\n\nWait, that is wrong. Corrected:\n\n```python\n{}\n```"
    ),
    "a correction of a program that does not load": (
        "```python\ndef add(a, b)\n    return a + b\n```\nOops, the colon.\n```python\n{}\n```"
    ),
    "two corrections": (
        "First try:\n```python\ndef add(a, b):\n    return a\n```\nHowever, this fails.\nSo we need b.\n"
        "```python\ndef add(a, b):\n    return b\n```\nStill a bug.\n```python\n{}\n```"
    ),
    "another way": "```python\ndef add(a, b):\n    return a\n```\n```python\n{}\n```",
    "an example between": (
        "```python\ndef add(a, b):\n    return a\n```\nUsage:\n```python\nadd(1, 2)\n```\nFixed:\n```python\n{}\n```"
    ),
    "a helper behind": (
        "```python\ndef add(a, b):\n    return helper(a, b)\n```\nwith this helper:\n"
        "```python\ndef helper(a, b):\n    return a + b\n```"
    ),
}


@pytest.mark.parametrize("name", CHAT)
def test_programs_are_found_as_models_write_them(code: Code, add: Problem, name: str) -> None:
    lines = CHAT[name].replace("{}", RIGHT.rstrip()).split("\n")
    state, status, reward = follow(code, add, *lines)

    assert (status, reward) == ("terminated", 1.0)
    assert "```" not in (code.answer(state) or "").replace("    ```", "")


WRONG = ["```python", "def add(a, b):", "    return a - b", "```"]


def test_a_block_that_fails_may_be_corrected(code: Code, add: Problem) -> None:
    state, status, _ = follow(code, add, *WRONG)
    assert status == "running"
    assert code.answer(state) is None
    assert code.first_error(state) is None
    result = code.step(state, Step("", finish="answer"))  # the policy has no more to say
    assert (result.status, result.reward) == ("terminated", 0.5)
    state, status, reward = follow(code, add, *WRONG, "", "It subtracts.")
    assert (status, reward) == ("terminated", 0.5)
    assert code.first_error(state) == 5
    assert code.step(state, Step("Wait.")).status == "truncated"
    assert follow(code, add, *WRONG, "This is wrong.", "So:", *WRONG)[1] == "running"
    assert follow(code, add, *WRONG, *["But"] * (code.max_steps - 4))[1] == "truncated"


def test_a_block_that_passes_is_the_last(code: Code, add: Problem) -> None:
    assert follow(code, add, "```python", *RIGHT.splitlines(), "```")[1:] == ("terminated", 1.0)


def test_a_program_in_an_indented_fence(code: Code, add: Problem) -> None:
    lines = ["1. The program:", "   ```python", "   def add(a, b):", "       return a + b", "   ```"]
    assert follow(code, add, *lines)[1:] == ("terminated", 1.0)


def test_words_and_unfinished_fences_are_no_answer(code: Code, add: Problem) -> None:
    lines = ["Here it is:", "```python", "def add(a, b):", "    return a + b"]
    state, status, _ = follow(code, add, *lines)
    assert status == "running"
    assert code.answer(state) is None
    assert code.step(state, Step("", finish="answer")).status == "terminated"  # the policy ended before the fence did
    assert follow(code, add, "add is a function.", END)[1] == "truncated"
    assert follow(code, add, "```python", "x" * (MAX_LINE + 1))[1] == "truncated"
    assert follow(code, add, "```python", "def sub(a, b):", "    return a - b", "```")[1] == "running"
    assert follow(code, add, "```python", "def add(a, b):", "    pass", "```")[1] == "running"
    assert follow(code, add, "<think>", *RIGHT.splitlines(), "</think>", END)[1] == "truncated"


HEADED = {
    "the body": "    return triple(max(numbers))\n# end",
    "the body and a fence": "    return triple(max(numbers))\n```",
    "the body in a fence": "```python\n    return triple(max(numbers))\n```",
    "a comment and the body": "# the largest\n    return triple(max(numbers))\n# end",
    "the function": "def largest(numbers):\n    return 3 * max(numbers)\n# end",
    "the function in a fence": (
        "```python\ndef largest(numbers: List[int]) -> int:\n    return triple(max(numbers))\n```"
    ),
    "words, then the function": "Here it is:\n\n```python\ndef largest(numbers):\n    return triple(max(numbers))\n```",
    "words, then the body": "The body is\n```python\n    return triple(max(numbers))\n```",
    "a method": "class Solution:\n    def largest(self, numbers):\n        return triple(max(numbers))\n# end",
    "the body in the first column": "return triple(max(numbers))\n# end",
    "the body in the first column of a fence": "```python\nif numbers:\n    return triple(max(numbers))\n```\n# end",
    "a first line without its indentation": "top = max(numbers)\n    return triple(top)\n# end",
    "words, then the body without a fence": "Here is the body:\n\n    return triple(max(numbers))\n# end",
    "a session": ">>> def largest(numbers):\n...     return triple(max(numbers))\n# end",
    "words, then a method": (
        "So:\n~~~\nclass Solution:\n    def largest(self, numbers):\n        return 3 * max(numbers)\n~~~"
    ),
}


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("docstring", [True, False])
def test_programs_under_a_head(code: Code, tmp_path: Path, name: str, docstring: bool) -> None:
    head = str(HUMAN_EVAL["prompt"])
    file = tmp_path / "tasks.jsonl"
    file.write_text(rows(HUMAN_EVAL | {"prompt": head if docstring else head.partition('    """')[0]}))
    other = Code(tasks=file)
    (problem,) = other.problems("test", 1)
    state, status, reward = follow(other, problem, *HEADED[name].split("\n"))
    assert (status, reward) == ("terminated", 1.0)
    assert other.check(problem, other.answer(state) or "")


def test_a_body_under_a_head_may_be_corrected(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(rows(HUMAN_EVAL))
    other = Code(tasks=file)
    (problem,) = other.problems("test", 1)
    first = ["```python", "    return max(numbers)", "```", "Wait, three times that:"]
    second = ["```python", "    return triple(max(numbers))", "```"]
    assert follow(other, problem, *first, *second)[1:] == ("terminated", 1.0)


def test_the_policy_may_end_without_the_mark(code: Code, add: Problem) -> None:
    state, _, _ = follow(code, add, "def add(a, b):")
    result = code.step(state, Step("    return a + b", finish="answer"))
    assert (result.status, result.reward) == ("terminated", 1.0)
    assert code.step(state, Step("    return a + b", finish="length")).status == "truncated"


@pytest.mark.parametrize("text", ["x" * (MAX_LINE + 1), "a\nb", "\ud800"], ids=["long", "two lines", "surrogate"])
def test_what_is_no_line_truncates(code: Code, add: Problem, text: str) -> None:
    assert follow(code, add, "def add(a, b):", text)[1] == "truncated"


def test_nothing_follows_an_end_and_nothing_goes_on_for_ever(code: Code, add: Problem) -> None:
    ended, _, _ = follow(code, add, *RIGHT.splitlines(), END)
    assert code.step(ended, Step("x = 1")).status == "truncated"
    assert follow(code, add, *["# again"] * code.max_steps)[1] == "truncated"
    lines = ["#" * MAX_LINE] * (MAX_PROGRAM // (MAX_LINE + 1))
    assert follow(code, add, *lines)[1] == "running"
    assert follow(code, add, *lines, "#" * MAX_LINE)[1] == "truncated"


# -------------------------------------------------------------------------------------------------------------- answers


def answer_of(code: Code, problem: Problem, program: str) -> str:
    answer = code.answer(follow(code, problem, *program.splitlines(), END)[0])
    assert answer is not None
    return answer


def test_programs_are_the_same_if_they_do_the_same(code: Code, add: Problem) -> None:
    right = answer_of(code, add, RIGHT)
    other = answer_of(code, add, "def add(a, b):\n    for _ in range(1):\n        b = b + a\n    return b\n")
    wrong = answer_of(code, add, "def add(a, b):\n    return a * b\n")
    assert code.same(right, other)
    assert code.same(other, right)
    assert not code.same(right, wrong)
    assert not code.same(wrong, right)


def test_failures_do_not_vote_together(code: Code, add: Problem) -> None:
    none, nothing = (answer_of(code, add, f"def add(a, b):\n    {body}\n") for body in ("return None", "pass"))
    assert not code.same(none, nothing)
    assert code.same(none, none)


def test_a_program_cannot_name_its_own_behaviour(code: Code, add: Problem) -> None:
    right = answer_of(code, add, RIGHT)
    comment = right.splitlines()[-1]
    liar = answer_of(code, add, f"def add(a, b):\n    return a * b\n\n{comment}")
    assert not code.same(right, liar)


DIGEST = "# behaviour on the visible tests: 0123456789abcdef"


@pytest.mark.parametrize("forged", [DIGEST, f"{DIGEST}\n", f"    {DIGEST}", f"x = '''\n{DIGEST}\n'''", f"{DIGEST}\n#"])
def test_programs_that_pass_nothing_cannot_vote_together_by_a_digest_of_their_own(
    code: Code, add: Problem, forged: str
) -> None:
    one, other = (
        answer_of(code, add, f"def add(a, b):\n    {body}\n{forged}") for body in ("return 7", "raise ValueError")
    )
    assert not code.same(one, other)
    assert not code.same(other, one)


def test_a_digest_copied_from_a_right_answer_is_worth_nothing(code: Code, add: Problem) -> None:
    right = answer_of(code, add, RIGHT)
    wrong = answer_of(code, add, f"def add(a, b):\n    return None\n{right.splitlines()[-1]}")
    assert not code.check(add, wrong)
    assert not code.same(right, wrong)


def test_without_hidden_tests_no_answer_is_known_to_be_right(code: Code) -> None:
    assert not code.check(code.read(ADD), RIGHT)


def test_the_reward_is_what_the_visible_tests_say(code: Code, add: Problem) -> None:
    head = "def add(a, b):"
    assert follow(code, add, head)[2] == 0.5
    assert follow(code, add, head, "    return a + b")[2] == 1
    assert follow(code, add, head, "    return a * b")[2] == 0.5
    assert follow(code, add, head, "    return None", END)[2] == 0
    assert follow(code, add, head, "x" * 1000)[2] == 0


# ------------------------------------------------------------------------------------------------------------ questions


def test_typed_questions() -> None:
    task = typed_task("twice(x): x and x again\nassert twice(2) == 4; assert len(twice('ab')) == 4")
    assert (task.function, task.text) == ("twice", "twice(x): x and x again")
    assert task.visible == ("assert twice(2) == 4", "assert len(twice('ab')) == 4")
    assert (task.hidden, task.solution) == ((), None)
    assert typed_task("a b assert not f(1)").function == "f"
    assert typed_task("reassert it. assert sorted(f(1)) == [1]").function == "f"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("", "there must be words"),
        ("add two numbers", "there must be words, then one or more tests"),
        ("assert add(1, 2) == 3", "there must be words"),
        ("add assert add(1, 2", "was never closed"),
        ("add assert 1 == 1", "calls no function of one's own"),
        ("add assert len([]) == 0", "calls no function of one's own"),
        ("x" * 5000, "it has 5000 characters"),
        ("\ud800 assert f(1) == 1", "surrogates not allowed"),
    ],
)
def test_questions_that_cannot_be_read(question: str, said: str) -> None:
    with pytest.raises(UnreadableQuestion, match="cannot read") as error:
        typed_task(question)
    assert said in str(error.value)


def test_a_question_of_the_file_is_known_again_however_it_is_spaced(code: Code) -> None:
    problem = code.problems("test", 1)[0]
    assert code.read("  " + problem.question.replace("\n", " ")) == problem


# ---------------------------------------------------------------------------------------------------------------- files

HUMAN_EVAL = {
    "task_id": "Own/0",
    "prompt": "from typing import List\n\n\ndef triple(number: int) -> int:\n    return number + number + number\n\n\n"
    'def largest(numbers: List[int]) -> int:\n    """ The largest of some numbers, tripled.\n'
    "    >>> largest([1, 3])\n    9\n"
    "    >>> numbers = [1]\n    >>> largest([2])\n    6\n    >>> largest([])\n    Traceback (most recent call last):\n"
    '    ValueError\n    """\n',
    "entry_point": "largest",
    "canonical_solution": "    return triple(max(numbers))\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == triple(2)\n"
    "    for number in range(5):\n        assert abs(candidate([number]) - 3 * number) < 1e-6\n",
}
MBPP = {
    "task_id": 511,
    "text": "Write a function to count the vowels of a text.",
    "code": "import re\r\ndef helper(x):\r\n  return x\r\ndef vowels(s):\r\n  return len(re.findall('[aeiou]', s))",
    "test_list": ["assert math.isclose(vowels('abc'), 1)", "assert vowels('') == 0", "assert vowels('aei') == 3"],
    "test_setup_code": "",
    "test_imports": ["import math"],
    "challenge_test_list": ["assert vowels('A') == 0"],
}


def rows(*given: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, given)) + "\n"


@pytest.mark.parametrize("split", ["test", "calibration"])
def test_the_layouts_of_others(code: Code, tmp_path: Path, split: str) -> None:
    row = HUMAN_EVAL if split == "test" else MBPP
    file = tmp_path / "tasks.jsonl"
    file.write_text(rows(row))
    other = Code(tasks=file)
    (problem,) = other.problems(split, 1)  # type: ignore[arg-type]
    assert problem.answer is not None
    assert other.judge(problem, problem.answer).share == 1
    assert other.check(problem, problem.answer)
    assert not other.check(problem, problem.answer.replace("return", "return 1 +"))
    assert other.read(problem.question) == problem
    lines = other.demonstrate(problem, random.Random(0))
    state, status, reward = follow(other, problem, *lines)
    assert (status, reward) == ("terminated", 1.0)
    assert other.check(problem, other.answer(state) or "")


def test_what_is_visible_in_the_layouts_of_others() -> None:
    task = read_tasks(rows(HUMAN_EVAL), "x")[0]
    assert (task.id, task.function, task.split) == ("Own/0", "largest", "test")
    assert task.visible == ("assert largest([1, 3]) == 9", "assert largest([2]) == 6")
    task = read_tasks(json.dumps([MBPP]), "x")[0]  # an array, as the sanitized set
    assert (task.id, task.function, task.split) == ("511", "vowels", "calibration")
    assert task.visible == ("assert math.isclose(vowels('abc'), 1)",)
    assert task.hidden == (
        *task.visible,
        "assert vowels('') == 0",
        "assert vowels('aei') == 3",
        "assert vowels('A') == 0",
    )
    assert [read_tasks(rows(MBPP | {"task_id": n}), "x")[0].split for n in (10, 11, 510, 600, 601)] == [
        "train", "test", "test", "calibration", "train"
    ]  # fmt: skip


def test_without_examples_a_program_that_loads_is_all_that_is_known(code: Code, tmp_path: Path) -> None:
    head = 'def one():\n    """Gives 1."""\n'
    row = {"task_id": "x", "prompt": head, "entry_point": "one", "canonical_solution": "    return 1\n"}
    file = tmp_path / "tasks.jsonl"
    file.write_text(rows(row | {"test": "def check(candidate):\n    assert candidate() == 1\n"}))
    other = Code(tasks=file)
    (problem,) = other.problems("test", 1)
    first, second = (follow(other, problem, f"    return {n}", END) for n in (1, 2))
    assert first[1:] == second[1:] == ("terminated", 1.0)
    assert not other.same(other.answer(first[0]) or "", other.answer(second[0]) or "")


OURS = {
    "task_id": "one", "split": "test", "prompt": "one(): 1", "entry_point": "one", "solution": "def one(): return 1",
    "visible": ["assert one() == 1"], "hidden": ["assert one() == 1"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one object per problem is wanted"),
        ("{", "not JSON Lines"),
        ("[" * 100_000, "not JSON Lines"),
        ("[]", "one object per problem is wanted"),
        ("3", "one object per problem is wanted"),
        (
            rows({"question": "?", "answer": "!"}),
            "problem 1: it has the keys question, answer; the layouts that are read",
        ),
        (rows(OURS, OURS), "problem 2: the id 'one' is taken"),
        (rows(OURS | {"split": "tset"}), "split 'tset' given; allowed: train, calibration, test"),
        (rows(OURS | {"visible": []}), "visible must be a list of texts, not []"),
        (rows(OURS | {"hidden": "assert one()"}), "hidden must be a list of texts, not 'assert one()'"),
        (rows(OURS | {"entry_point": "one; import os"}), "cannot be the name of a function"),
        (rows({key: value for key, value in OURS.items() if key != "solution"}), "the key 'solution' is missing"),
        (rows(HUMAN_EVAL | {"test": 3}), "test must be a text, not 3"),
        (rows(MBPP | {"code": "x = 1"}), "its first test calls no function that its code defines"),
        (rows(MBPP | {"task_id": "first"}), "task_id 'first' ends in no number"),
        (rows(MBPP | {"task_id": None}), "task_id must be a text, not None"),
        (rows(OURS) + "\n{", "line 3: not JSON Lines"),
        (rows(OURS) + '{"task_id": ' + "9" * 5000 + "}", "line 2: not JSON Lines"),
        (rows(OURS | {"prompt": "\ud800"}), "prompt must be a text"),
        (rows(OURS, OURS | {"task_id": "two", "split": "train"}), "asks what task 'one' of the test split does"),
    ],
)
def test_files_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(UnreadableTasks, match=r"^tasks.jsonl: ") as error:
        read_tasks(text, "tasks.jsonl")
    assert said in str(error.value)


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\ufeff"], ids=repr)
def test_any_character_may_stand_in_a_text(code: Code, tmp_path: Path, end: str) -> None:
    solution = f"def one():\n    return len('a{end}b') // 3\n"
    row = OURS | {"prompt": f"one(): {end} 1", "solution": solution}
    file = tmp_path / "tasks.jsonl"
    file.write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n\r\n", encoding="utf-8")
    other = Code(tasks=file)
    (problem,) = other.problems("test", 1)
    assert problem.answer == solution
    assert other.check(problem, solution)
    compile(other.prompt(problem), "prompt", "exec")
    state, status, reward = follow(other, problem, *other.demonstrate(problem, random.Random(0)))
    assert (status, reward) == ("terminated", 1.0)
    assert other.check(problem, other.answer(state) or "")


def test_fields_that_need_not_be_there_may_be_null() -> None:
    row = MBPP | {"test_setup_code": None, "test_imports": None, "challenge_test_list": None, "prompt": None}
    (task,) = read_tasks(rows(row), "x")
    assert (task.setup, len(task.hidden)) == ("", 3)


@pytest.mark.parametrize(
    ("name", "split"),
    [("Mbpp/12", "test"), ("Mbpp/511", "calibration"), ("mbpp_3", "train"), (12, "test"), ("12", "test")],
)
def test_names_of_tasks(name: object, split: str) -> None:
    (task,) = read_tasks(rows(MBPP | {"task_id": name}), "x")
    assert (task.id, task.split) == (str(name), split)
    assert read_tasks(rows(HUMAN_EVAL | {"task_id": 7}), "x")[0].id == "7"


PAIR = MBPP | {
    "task_id": 601,
    "code": (
        "class Pair(object):\n    def __init__(self, a, b):\n        self.a = a\ndef longest(pairs, n):\n    return n\n"
    ),
    "test_list": ["assert longest([Pair(5, 24), Pair(15, 25)], 4) == 4"],
}
TREE = MBPP | {
    "task_id": 367,
    "code": "class Node:\n    pass\ndef balanced(root):\n    return True\n",
    "test_setup_code": "root = Node()",
    "test_list": ["assert balanced(root)"],
}


def test_tasks_that_no_program_can_pass_are_left_out_and_named(code: Code, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    own = TREE | {"task_id": 1, "text": "Of another tree.", "test_setup_code": "class Node:\n    pass\nroot = None"}
    file.write_text(rows(MBPP | {"task_id": 2}, PAIR, TREE, own))
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING", format="{message}")
    try:
        other = Code(tasks=file)
    finally:
        logger.remove(sink)
    assert {problem.id for problem in other.problems("train", 2)} == {"code/2", "code/1"}
    with pytest.raises(ValueError, match="1 problems of 'test' asked for; there are 0"):
        other.problems("test", 1)
    assert "601 (its tests use 'Pair' of the solution, and can only call 'longest')" in said[0]
    assert "367 (its tests use 'Node' of the solution, and can only call 'balanced')" in said[0]


def test_two_tasks_may_ask_the_same(code: Code, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(rows(OURS, OURS | {"task_id": "two", "prompt": "one():  1"}))
    other = Code(tasks=file)
    assert {problem.id for problem in other.problems("test", 2)} == {"code/one", "code/two"}
    assert other.read("one(): 1 assert one() == 1").id == "code/one"


def test_a_head_with_faulty_indentation_has_no_examples() -> None:
    prompt = "def largest(x):\n  '''\n  >>> largest(1)\n1\n '''\n   pass\n"
    assert read_tasks(rows(HUMAN_EVAL | {"prompt": prompt}), "x")[0].visible == ()


def test_seconds_must_make_sense() -> None:
    with pytest.raises(ValueError, match="seconds=0 given"):
        Code(seconds=0)


# ------------------------------------------------------------------------------------------------------------- the wire

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner)
    | st.frozensets(st.integers()) | st.sets(st.text()),
    max_leaves=8,
)  # fmt: skip


@given(plain)
@settings(max_examples=200)
def test_plain_data_crosses_unchanged(value: object) -> None:
    found = decode(json.loads(json.dumps(encode(value))))
    assert _in_order(found) == _in_order(value)


def _in_order(value: object) -> str:
    """Like repr, which tells types apart and calls NaN equal, but sets written in order."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({sorted(map(repr, value))})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({[_in_order(each) for each in value]})"
    if isinstance(value, dict):
        return f"dict({[(repr(key), _in_order(each)) for key, each in value.items()]})"
    return repr(value)


def test_what_crosses_is_plain_whatever_it_was() -> None:
    class Same(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert type(decode(json.loads(json.dumps(encode(Same(3)))))) is int
    assert list(decode(encode(iter([1, (2,)])))) == [1, (2,)]
    assert decode(encode(3 + 4j)) == 3 + 4j
    with pytest.raises(TypeError, match="a object is no plain data"):
        encode(object())


def test_values_of_all_kinds_are_returned_and_passed(code: Code) -> None:
    value = {"a": [1, 2.5, (None, True)], 3: {frozenset({1}), b"x"}, "big": 10**30, "nan": [float("inf")]}
    problem = code.read(f"f(x): x. assert f({value!r}) == {value!r}".replace("[inf]", "[float('inf')]"))
    assert code.judge(problem, "def f(x):\n    return x\n").passed == (True,)
    assert code.judge(problem, "def f(x):\n    return repr(x)\n").passed == (False,)


# ----------------------------------------------------------------------------------------------------- hostile programs


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, socket.socket]]:
    """A folder with a secret, and a server that nobody should reach."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text("the password")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield folder, server


def attack(code: Code, name: str, outside: tuple[Path, socket.socket], tag: str) -> Verdict:
    folder, server = outside
    port: int = server.getsockname()[1]
    source = hostile.hostile_program(name, str(folder / "secret"), str(folder / "marker"), port, os.getpid())
    # the tag is the name of the function, which is in the arguments of every process of the run
    tests = ("assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(20, 22) == 42")
    program = f"{source}\n{tag} = add\n"
    return code._judge(program, tag, "", tuple(test.replace("add", tag) for test in tests))


def processes(tag: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if tag.encode() in line:
            found.append(line.decode(errors="replace"))
    return found


@pytest.mark.parametrize("name", hostile.NAMES)
def test_hostile_programs_are_contained(
    name: str, code: Code, outside: tuple[Path, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWELL_SECRET", "the password")
    folder, server = outside
    quick = Code(seconds=3)
    tag = f"add_{os.urandom(8).hex()}"
    verdicts = [attack(quick, name, outside, tag) for _ in range(2 if name == "what an earlier run left" else 1)]
    for verdict in verdicts:
        assert len(verdict.passed) == 3
        assert not all(verdict.passed), f"{name!r} broke out or faked its result"
        assert verdict.passed[2] is False
    assert sorted(path.name for path in folder.iterdir()) == ["secret"]
    assert (folder / "secret").read_text() == "the password"
    with pytest.raises(BlockingIOError):
        server.accept()
    patience = time.monotonic() + 10
    while processes(tag) and time.monotonic() < patience:
        time.sleep(0.02)
    assert processes(tag) == []


def test_the_corpus_has_teeth(outside: tuple[Path, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without isolation the same attacks succeed, and the test above would say so."""
    monkeypatch.setattr("envs.code.environment.find_isolation", lambda unsandboxed: Unconfined())
    code = Code(unsandboxed=True)
    folder, server = outside
    for name in (
        "a secret",
        "a path upwards",
        "a symbolic link",
        "the users of the machine",
        "a connection",
        "a marker outside",
    ):
        assert all(attack(code, name, outside, "add").passed), name
    assert (folder / "marker").read_text() == "here"
    (folder / "marker").unlink()
    server.accept()[0].close()


def test_a_program_that_dies_fails_the_tests_that_are_left(code: Code, add: Problem) -> None:
    program = "import os\ndef add(a, b):\n    return a + b if a else os._exit(0)\n"
    verdict = code.judge(add, program)
    assert verdict == Verdict(True, (True, False), verdict.note, verdict.behaviour)
    assert verdict.note == "assert add(0, 0) == 0: gave the program ended or was stopped"


def test_a_program_that_hangs_keeps_what_it_passed(add: Problem, code: Code) -> None:
    program = "import time\ndef add(a, b):\n    return a + b if a else time.sleep(600)\n"
    verdict = Code(seconds=3).judge(add, program)
    assert verdict.passed == (True, False)
    assert verdict.note == "assert add(0, 0) == 0: did not end in time"


# ------------------------------------------------------------------------------------------------ with the other rooms


def test_it_is_solved_by_the_fakes(code: Code) -> None:
    from agent.search.budget import Budget
    from agent.solver import Solver

    problem = code.problems("train", 1, seed=2)[0]
    solver = Solver(code, ScriptedPolicy(code), TableVerifier(code))
    solution = solver.solve(problem, "best-of-n", Budget(samples=8))
    assert solution.answer is not None
    assert code.check(problem, solution.answer)


def test_it_is_solved_on_the_command_line(code: Code) -> None:
    question = code.problems("train", 1, seed=2)[0].question
    command = [sys.executable, "-m", "agent.interface.cli", "solve", question, "--config", "code"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "✓ right" in done.stdout
    assert "bubblewrap" in done.stderr  # which isolation is in force is said at start


def test_it_is_solved_in_the_session(code: Code) -> None:
    question = " ".join(code.problems("train", 1, seed=2)[0].question.split())
    command = [sys.executable, "-m", "agent.interface.cli", "--config", "code"]
    done = subprocess.run(command, input=question, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "def " in done.stdout
    assert "✓ right" in done.stdout


def test_the_prompt_may_be_of_a_template() -> None:
    asked = Code(template="Write it.\n{question}\nOnly code.\n", unsandboxed=True)
    problem = asked.read("add(a, b): the sum of two numbers. assert add(1, 2) == 3")
    assert asked.prompt(problem) == f"Write it.\n{problem.question}\nOnly code.\n"
    with pytest.raises(ValueError, match=r"it must hold \{question\} once"):
        Code(template="Write it.", unsandboxed=True)


@pytest.mark.parametrize(
    ("docstring", "tests"),
    [
        (">>> f(1)\n    2\n\n    f(3) == 4", ["f(1) == 2"]),  # a session is enough
        ("f(1) == 2\n    f(3)==4", ["f(1) == 2", "f(3) == 4"]),
        ("f([1, (2)]) ➞ [3]", ["f([1, (2)]) == [3]"]),
        ("f('a)') => 'b'", ["f('a)') == 'b'"]),
        ("* f(1) -> 2.", ["f(1) == 2.0"]),
        ("Ex 1: f(1) returns true", ["f(1) == True"]),
        ("f(1)   # returns 'db'", ["f(1) == 'db'"]),
        ("f(1) should return 2 since it is more", ["f(1) == 2"]),
        ("f(1) = 2 # a comment", ["f(1) == 2"]),
        ("f(5) ->19 - 5 - 6 = 8", []),  # the literal goes on
        ("f(1) == g(2)", []),
        ("f(a) == 2", []),
        ("f(1) > 2", []),
        ("of(1) == 2, x.f(1) == 2", []),
        ("f(1, 2", []),
        ("f(1) is not 2", []),
        ("f(1) == trueish", []),
        ("Input: [4, 2]\n    Output: [2, 1]\n    Explanation: two", ["f([4, 2]) == [2, 1]"]),
        ("Input: x\n    Output: 1", []),
        ("f(" * 3000, []),
    ],
)
def test_examples_of_a_docstring_are_visible_tests(docstring: str, tests: list[str]) -> None:
    row = {
        "task_id": "HumanEval/900",
        "prompt": f'def f(x):\n    """\n    {docstring}\n    """\n',
        "entry_point": "f",
        "canonical_solution": "    return x\n",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
    }
    (task,) = read_tasks(json.dumps(row), "a file")
    assert list(task.visible) == [f"assert {test}" for test in tests]
