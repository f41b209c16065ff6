"""A model goes on from what it wrote, blank lines included, and nothing of it is run again."""

from dataclasses import replace

import pytest

from envs.core import Step
from policies.generation.chat import own_text


class Lines:
    """As much of an environment as texts need."""

    delimiter = "\n"


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("import math"), "import math\n"),
        (Step("import math", closing="\n\n\n"), "import math\n\n\n"),
        (Step("import math", thinking="\n"), "\nimport math\n"),
        (Step("# run", observation="# passes", closing="\n\n"), "# run\n\n# passes\n"),
        (Step("First.", closing="\r\n"), "First.\r\n"),
    ],
)
def test_what_was_written_is_what_is_gone_on_from(step: Step, text: str) -> None:
    following = replace(step, text="x", observation="", closing="", thinking="")
    assert own_text(Lines(), (step, following), "") == text + "x\n"  # type: ignore[arg-type]
