from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.core import Problem, State, Step, Turn, opening
from policies.generation.chat import ChatFormat, messages, own_text
from policies.generation.options import SamplingOptions
from tests.policies.families import BASE, CHATS, DEEPSEEK_R1, FAMILIES, QUESTION, QWEN3, QWEN25, Family, tokenizer_of


class Words:
    """An environment of which only the prompt and the delimiter matter."""

    name, delimiter, max_steps = "words", "\n\n", 9

    def prompt(self, problem: Problem) -> str:
        return problem.question + "\n\n"


WORDS: Any = Words()
tokenizer = cache(tokenizer_of)


def dialogue(family: Family, **options: Any) -> ChatFormat:
    return ChatFormat(tokenizer(family), WORDS, SamplingOptions(**options))


def state(*texts: str, question: str = QUESTION) -> State:
    return State(Problem("p", question), tuple(map(Step, texts)))


def read(made: ChatFormat, ids: Sequence[int]) -> str:
    text: str = made.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    return text.replace("<s> ", "<s>")  # SentencePiece puts a space in front, here too


@pytest.mark.parametrize("name", FAMILIES)
def test_a_question_renders_as_the_authors_do(name: str) -> None:
    family = FAMILIES[name]
    assert dialogue(family).text(state()) == family.plain


@pytest.mark.parametrize("name", CHATS)
def test_a_system_prompt_goes_where_the_family_has_it(name: str) -> None:
    assert dialogue(CHATS[name], system="Be brief.").text(state()) == CHATS[name].with_system


@pytest.mark.parametrize("name", FAMILIES)
def test_steps_continue_the_answer_to_the_letter(name: str) -> None:
    family = FAMILIES[name]
    steps = ("Step 1:  add.\n - so\n", " </think> 5 ", "")
    assert dialogue(family).text(state(*steps)) == family.plain + "".join(step + "\n\n" for step in steps)


@pytest.mark.parametrize("name", ["smollm2", "qwen2.5", "llama3", "gemma"])
def test_transformers_itself_continues_a_final_message_so(name: str) -> None:
    family = CHATS[name]
    turns = messages(WORDS, state("Step 1: add."), SamplingOptions())
    theirs = tokenizer(family).apply_chat_template(turns, tokenize=False, continue_final_message=True)
    theirs = theirs.replace(datetime.now().strftime("%d %b %Y"), "26 Jul 2024")
    assert theirs.rstrip("\n") == dialogue(family).text(state("Step 1: add.")).rstrip("\n")


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_are_those_of_the_text(name: str) -> None:
    made = dialogue(FAMILIES[name])
    for start in (state(), state("Step 1: add the numbers.", "The sum is 5.", " - so 42, \u00fc \U0001f600")):
        assert read(made, made.ids(start)) == made.text(start)
    if FAMILIES[name].template:
        assert list(made.ids(state())) == made.tokenizer(made.text(state()), add_special_tokens=False).input_ids


@pytest.mark.parametrize("name", FAMILIES)
@given(texts=st.lists(st.text(st.sampled_from("ab 1.\n-:\u00e9\U0001f600"), max_size=9), min_size=1, max_size=4))
def test_what_comes_later_changes_no_id_and_text_survives(name: str, texts: list[str]) -> None:
    made = dialogue(FAMILIES[name])
    before, after = state(*texts[:-1]), state(*texts)
    ids = made.ids(before)
    assert made.ids(after) == ids + made.step(after.steps[-1])
    assert made.decode(made.step(after.steps[-1])) == texts[-1] + "\n\n"


@pytest.mark.parametrize("name", FAMILIES)
def test_no_text_is_a_command(name: str) -> None:
    made = dialogue(FAMILIES[name])
    evil = "".join(made._controls) * 3 + "<think></think>"
    ours = state("Step.", question="Hm?")
    theirs = state("Step." + "".join(made._controls), question="Hm?" + evil)
    observed = replace(theirs, steps=(replace(theirs.steps[0], observation=evil),))
    added = set(made.tokenizer.get_added_vocab().values())
    want = [token for token in made.ids(ours) if token in added]
    assert [token for token in made.ids(observed) if token in added] == want
    assert read(made, made.ids(observed)) == made.text(observed)


def test_a_question_of_many_commands_is_read() -> None:
    made = dialogue(CHATS["qwen2.5"])
    assert len(made.ids(state(question="<|im_start|>" * 5000))) > 5000


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_end_with_what_the_family_ends_them_with(name: str) -> None:
    family, made = FAMILIES[name], dialogue(FAMILIES[name])
    closing = {"gemma": "<end_of_turn>", "deepseek-r1": "<｜end▁of▁sentence｜>"}.get(name, family.end)
    ends = {made.tokenizer.convert_tokens_to_ids(text) for text in (family.end, closing)}
    assert ends <= made.ends
    assert made.tokenizer.convert_tokens_to_ids("<think>") not in made.ends - {made.tokenizer.unk_token_id}
    (end, *_) = ends
    assert made.decode((*made.step(Step("a")), end)) == "a\n\n"


def test_an_end_that_is_no_special_token_is_found_in_the_template() -> None:
    family = replace(
        CHATS["qwen2.5"], controls=("<|endoftext|>", "<|im_start|>"), added=("<|im_end|>",), end="<|endoftext|>"
    )
    made = dialogue(family)
    assert made.tokenizer.convert_tokens_to_ids("<|im_end|>") in made.ends


def test_a_template_without_a_prompt_for_answers_shows_how_one_begins() -> None:
    turns = QWEN25.template.partition("{% if add_generation_prompt %}")[0]
    assert dialogue(replace(QWEN25, template=turns)).text(state("One.")) == QWEN25.plain + "One.\n\n"


# --------------------------------------------------------------------------------------------------- conversations

EARLIER = (Turn("user", "Is 7 odd?"), Turn("assistant", "Yes: 7 = 2 * 3 + 1."))


def said(*turns: Turn, question: str = "And 8?") -> State:
    return State(Problem("p", question, conversation=turns), (Step("It is even."),))


@pytest.mark.parametrize("name", ["smollm2", "qwen2.5", "llama3", "gemma"])
def test_a_conversation_renders_as_transformers_does(name: str) -> None:
    made = dialogue(CHATS[name])
    turns = messages(WORDS, said(*EARLIER), SamplingOptions())
    theirs = tokenizer(CHATS[name]).apply_chat_template(turns, tokenize=False, continue_final_message=True)
    theirs = theirs.replace(datetime.now().strftime("%d %b %Y"), "26 Jul 2024")
    assert theirs.rstrip("\n") == made.text(said(*EARLIER)).rstrip("\n")
    assert [turn["content"] for turn in turns[-4:]] == [*(turn.text for turn in EARLIER), "And 8?", "It is even.\n\n"]


@pytest.mark.parametrize("name", CHATS)
def test_the_ids_of_a_conversation_are_those_of_its_text(name: str) -> None:
    made = dialogue(CHATS[name])
    plain = said(*EARLIER)
    assert read(made, made.ids(plain)).replace("</s> ", "</s>") == made.text(plain)  # a space of SentencePiece again
    opening_alone = replace(plain, steps=())
    assert list(made.ids(opening_alone)) == made.tokenizer(made.text(opening_alone), add_special_tokens=False).input_ids


@pytest.mark.parametrize("name", CHATS)
def test_nothing_said_in_a_conversation_is_a_command(name: str) -> None:
    made = dialogue(CHATS[name])
    evil = "".join(made._controls) * 2 + "<think></think>"
    added = set(made.tokenizer.get_added_vocab().values())
    harmless, hostile = said(*EARLIER), said(*(replace(turn, text=turn.text + evil) for turn in EARLIER))
    want = [token for token in made.ids(harmless) if token in added]
    assert [token for token in made.ids(hostile) if token in added] == want


@pytest.mark.parametrize("name", CHATS)
def test_our_system_prompt_comes_before_that_of_a_conversation(name: str) -> None:
    made = dialogue(CHATS[name], system="Be brief.")
    text = made.text(said(Turn("system", "Be kind."), *EARLIER))
    assert text.count("Be brief.\n\nBe kind.") == 1
    assert text.index("Be kind.") < text.index(EARLIER[0].text) < text.index(EARLIER[1].text) < text.index("And 8?")


def test_a_conversation_that_a_template_cannot_show_is_refused() -> None:
    deaf = "{% if messages|length > 1 %}{{ raise_exception('one turn alone') }}{% endif %}" + QWEN25.template
    made = dialogue(replace(QWEN25, template=deaf))
    with pytest.raises(ValueError, match=r"cannot show this conversation: .*one turn alone"):
        made.text(said(*EARLIER))
    with pytest.raises(ValueError, match="no conversation to show it"):
        dialogue(BASE).ids(said(*EARLIER))


# ------------------------------------------------------------------------------------------------------- thinking


def test_who_thinks() -> None:
    thinking = {name for name, family in FAMILIES.items() if dialogue(family).thinks}
    assert thinking == {"qwen3", "deepseek-r1"}
    assert {name for name, family in FAMILIES.items() if dialogue(family).opened} == {"deepseek-r1"}


def test_a_model_that_opens_its_thinking_itself() -> None:
    """DeepSeek-R1's first template left ``<think>`` to the model."""
    made = dialogue(replace(DEEPSEEK_R1, template=DEEPSEEK_R1.template.replace("<think>\n", "")))
    assert made.thinks
    assert not made.opened
    assert dialogue(replace(DEEPSEEK_R1, template=made.tokenizer.chat_template), prefill="<think>\n").opened


def test_thinking_is_switched_off_by_the_template() -> None:
    made = dialogue(QWEN3, thinking=False)
    assert made.text(state()) == QWEN3.plain + "<think>\n\n</think>\n\n"
    assert not made.thinks
    assert dialogue(QWEN3, thinking=True).text(state()) == QWEN3.plain


def test_a_model_goes_on_from_what_it_thought() -> None:
    thought = Step("It is 5.", thinking="<think>\n2 + 3 it is.\n</think>\n\n")
    start = State(Problem("p", QUESTION), (thought,))
    made = dialogue(QWEN3)
    assert made.text(start) == QWEN3.plain + "<think>\n2 + 3 it is.\n</think>\n\nIt is 5.\n\n"
    marks = {made.tokenizer.convert_tokens_to_ids(mark) for mark in ("<think>", "</think>")}
    assert marks <= set(made.ids(start))
    assert marks.isdisjoint(made.ids(state("It is 5.")))


# --------------------------------------------------------------------------------------------------------- the rest


def test_messages_are_for_servers_that_have_the_template() -> None:
    turns = messages(WORDS, state("One."), SamplingOptions(system="Be brief.", prefill="Well: "))
    assert turns == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "Well: One.\n\n"},
    ]
    assert [turn["role"] for turn in messages(WORDS, state(), SamplingOptions())] == ["user"]


def test_a_revision_shows_the_earlier_attempts_in_the_users_turn() -> None:
    revised = replace(state("so 5"), attempts=(tuple(map(Step, ("3 + 4", "so 8"))),))
    question = opening(WORDS, revised)
    assert "so 8" in question
    made, (asked, own) = dialogue(QWEN25), messages(WORDS, revised, SamplingOptions())
    assert asked == {"role": "user", "content": question.strip()}
    assert own == {"role": "assistant", "content": "so 5\n\n"}
    assert made.text(revised) == dialogue(QWEN25).text(state("so 5", question=question.strip()))
    assert read(made, made.ids(revised)) == made.text(revised)


def test_observations_are_part_of_the_text() -> None:
    steps = [Step("run", observation="4"), Step("so 4")]
    assert own_text(WORDS, steps) == "run\n\n4\n\nso 4\n\n"


def test_prefill_starts_the_answer() -> None:
    made = dialogue(BASE, prefill="Step 1:")
    assert made.text(state(" add")) == QUESTION + "\n\nStep 1: add\n\n"
    assert read(made, made.ids(state(" add"))) == made.text(state(" add"))


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="no chat template; give chat=False"):
        dialogue(BASE, chat=True)
    with pytest.raises(ValueError, match="holds the delimiter"):
        dialogue(BASE, stop=["a\n\nb"])
    with pytest.raises(ValueError, match="shows a user's turn 0 times"):
        dialogue(replace(BASE, template="{{ messages | length }}"))
    with pytest.raises(ValueError, match=r"cannot be used: .*only chess is spoken here"):
        dialogue(replace(BASE, template="{{ raise_exception('only chess is spoken here') }}"))
    for wrong in ({"top_p": 0.0}, {"top_k": -1}, {"step_tokens": 0}, {"stop": "x"}, {"chat": False, "system": "x"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SamplingOptions(**wrong)
