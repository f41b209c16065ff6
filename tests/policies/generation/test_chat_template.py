"""Templates as transformers renders them, and hostile ones within the limits."""

import time

import pytest

from policies.generation.chat_template import TemplateError, render
from tests.policies.families import CHATS, tokenizer_of

TURNS = [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "5"}]


@pytest.mark.parametrize("name", [name for name in CHATS if name != "llama3"])  # it tells today's date there
@pytest.mark.parametrize("answering", [True, False])
def test_a_chat_is_what_transformers_makes_of_it(name: str, answering: bool) -> None:
    tokenizer = tokenizer_of(CHATS[name])
    turns = TURNS[:1] if answering else TURNS
    expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answering)
    variables = tokenizer.special_tokens_map | {"add_generation_prompt": answering}
    assert render(CHATS[name].template, variables, turns) == expected


def test_what_templates_use_is_there() -> None:
    template = (
        "{% for message in messages %}{% generation %}{{ message.content }}{% endgeneration %}{% break %}{% endfor %}"
        "{{ {'a': [1, 'ü']} | tojson }}{{ strftime_now('%d %b %Y') }}{{ tools is none }}{{ bos_token }}"
        "{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}"
    )
    made = render(template, {"bos_token": "<s>"}, TURNS)
    assert made == 'What is 2 + 3?{"a": [1, "ü"]}26 Jul 2024True<s>2'


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "more than 1 s"),
        ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "more than 1 s"),
        ("{{ 9 ** (9 ** 9) }}", "more than 1 s"),
        ("{{ (range(99999) | list * 9999) | join }}", "too much memory"),
        ("{{ 'a' * 10 ** 10 }}", "too much memory"),
        ("{{ '%9999999999d' % 5 }}", "too much memory"),
        ("{{ 'a' * 3000000 }}", "more than 1,048,576 characters"),
        ("{{ messages[0].content.__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{% set _ = messages.append(1) %}", "unsafe"),
        ("{{ raise_exception('no such role') }}", "no such role"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{% for", "TemplateSyntaxError"),
        ("{% include '/etc/passwd' %}", "no loader"),
    ],
)
def test_a_hostile_template_is_bounded_and_the_next_one_is_rendered(template: str, said: str) -> None:
    started = time.process_time()
    with pytest.raises(TemplateError, match=said):
        render(template, {}, TURNS)
    assert time.process_time() - started < 1  # of this process
    assert render("{{ messages[0].role }}", {}, TURNS) == "user"
