"""How the answer of a probe is read."""

import pytest

from policies.generation.thought_probe import written_answer


@pytest.mark.parametrize(
    ("text", "depth", "answer"),
    [
        ("42", 0, None),  # more may come
        ("42\n", 0, "42"),
        ("\n\n 42 apples\nor so", 0, "42 apples"),
        ("\n", 0, None),
        ("42}", 1, "42"),
        ("42} is", 1, "42"),
        (r"\frac{1}{2}", 1, None),
        (r"\frac{1}{2}}.", 1, r"\frac{1}{2}"),
        (r"\frac{1}{2}" + "\n", 1, r"\frac{1}{2}"),
        ("}", 1, None),
        ("}}}", 0, None),
    ],
)
def test_an_answer_ends_with_its_line_or_with_the_brace_of_the_words(text: str, depth: int, answer: str | None) -> None:
    assert written_answer(text, depth) == answer
