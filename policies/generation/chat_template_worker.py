"""The process in which chat templates are rendered; `policies.generation.chat_template` runs it as a script.

A template is a program that comes with a model. Here it has what transformers gives to it (an immutable sandbox, loop
controls, ``raise_exception``, ``tojson``), a fixed date, and hard limits of processor time and memory.

A line of standard input is ``[template, variables, messages, limits]`` in JSON; the line that comes back is
``{"text": ...}`` or ``{"error": ...}``. A process that goes over the limit of time dies of it.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

DAY = datetime(2024, 7, 26)  # for templates that tell the date: a state reads the same on every day
LONGEST = 1 << 20  # characters of a rendered chat


class _Generation(Extension):
    """``{% generation %}``, which marks what the assistant says: here it is its content."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """The statements up to ``{% endgeneration %}``."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=8)
def compiled(template: str) -> jinja2.Template:
    """A template with what transformers gives to it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": DAY.strftime}
    return environment.from_string(template)


def limit(seconds: int, memory: int) -> None:
    """Allow this process so many seconds of processor time from now on, and so many bytes of address space."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))


def rendered(template: str, variables: dict[str, Any], messages: list[dict[str, str]]) -> dict[str, str]:
    """The text of a chat, or what is wrong with the template."""
    try:
        text = compiled(template).render(messages=messages, **variables)
    except MemoryError:
        return {"error": "it takes too much memory"}
    except Exception as error:  # of jinja, or whatever the template stumbled over
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    return {"text": text} if len(text) <= LONGEST else {"error": f"it writes more than {LONGEST:,} characters"}


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        template, variables, messages, (seconds, memory) = json.loads(line)
        limit(seconds, memory)
        print(json.dumps(rendered(template, variables, messages)), flush=True)


if __name__ == "__main__":
    main()
