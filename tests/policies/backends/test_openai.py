"""Policies behind a server: the contract, whatever kind of server it is and whatever fails, and what text becomes."""

import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from loguru import logger

from envs.core import Step, opening
from envs.math.environment import Math
from envs.toy import Toy
from policies.backends.openai import ServedPolicy
from policies.conformance import ask, check_policy
from policies.core import Propose, Proposed
from policies.generation.chat import ChatFormat
from policies.generation.options import SamplingOptions
from policies.servers.http_client import ServerRefused, ServerUnavailable
from tests.policies.families import QWEN25, tokenizer_of
from tests.servers import Dialect, Fault, Faults, Recital, Script, Server, openai_routes

TOY = Toy()
PROBLEMS = TOY.problems("train", 3)
MATH = Math()
QUESTION = MATH.read("What is 2 + 3?")
PROMPT = opening(MATH, MATH.initial(QUESTION))
PLAIN = SamplingOptions(chat=False)
QUICK: dict[str, Any] = {"timeout": 4.0, "patience": 300.0, "pause": 0.01, "longest_pause": 0.1}

Make = Callable[..., ServedPolicy]


@pytest.fixture
def serve() -> Iterator[Make]:
    """Make a server and a policy behind it; both are closed afterwards."""
    opened: list[Any] = []

    def make(
        model: Script | Recital, dialect: Dialect = "vllm", faults: Faults | None = None, **given: Any
    ) -> ServedPolicy:
        own = ("context", "logprobs", "usage", "trims", "decode", "quirk", "owner", "anew", "name")
        ways = {key: given.pop(key) for key in own if key in given}
        server = Server(openai_routes(model, dialect, **ways), faults)
        opened.append(server)
        environment = given.pop("environment", TOY)
        name = ways.get("name", "scripted")
        policy = ServedPolicy(name, environment, given.pop("options", None), base_url=server.url, **QUICK, **given)
        policy.server = server  # type: ignore[attr-defined]
        opened.append(policy)
        return policy

    yield make
    for each in reversed(opened):
        each.stop() if isinstance(each, Server) else each.close()


def whole(policy: ServedPolicy, steps: int | None = None, state: Any = None, seeds: tuple[int, ...] = (1,)) -> Proposed:
    request = Propose((state or policy.environment.initial(QUESTION),), (seeds,), 0.0, steps, "a")
    (reply,) = ask(policy, [request])
    return reply


# ------------------------------------------------------------------------------------------------------ the contract


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llamacpp", "ollama"])
def test_the_contract_in_chats(serve: Make, dialect: Dialect) -> None:
    policy = serve(Script(TOY, PROBLEMS), dialect)
    check_policy(policy, TOY, PROBLEMS)
    assert set(policy.server.asked) == {"/v1/models", "/v1/chat/completions"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp", "other"])
def test_the_contract_on_plain_text(serve: Make, dialect: Dialect) -> None:
    policy = serve(Script(TOY, PROBLEMS), dialect, options=PLAIN)
    check_policy(policy, TOY, PROBLEMS)
    asked = {"/v1/models", "/v1/completions"} | ({"/api/version"} if dialect == "other" else set())  # is it Ollama?
    assert set(policy.server.asked) == asked  # type: ignore[attr-defined]


def test_the_contract_while_three_calls_in_ten_fail(serve: Make) -> None:
    kinds = [kind for kind in get_args(Fault) if kind != "hang"]  # tests/agent/search/test_server_faults.py has those
    policy = serve(Script(TOY, PROBLEMS), faults=Faults(0.3, kinds=kinds))
    check_policy(policy, TOY, PROBLEMS)
    assert len(policy.server.failed) > 4  # type: ignore[attr-defined]


def test_the_contract_on_token_ids(serve: Make, tmp_path: Any) -> None:
    tokenizer = tokenizer_of(QWEN25)
    tokenizer.save_pretrained(tmp_path)
    asked: list[str] = []

    def decode(ids: list[int]) -> str:
        asked.append(tokenizer.decode(ids))
        return asked[-1]

    script = Script(TOY, PROBLEMS, marker="<|im_start|>assistant\n")
    policy = serve(script, tokenizer=str(tmp_path), decode=decode)
    check_policy(policy, TOY, PROBLEMS)
    dialogue = ChatFormat(tokenizer, TOY, SamplingOptions())
    assert dialogue.text(TOY.initial(PROBLEMS[0])) in asked
    assert set(policy.server.asked) == {"/v1/models", "/v1/completions"}  # type: ignore[attr-defined]
    assert all(set(dialogue.ends) == set(body["stop_token_ids"]) for body in policy.server.bodies)  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------- from text to steps

SOLUTION = "First add.\n\n2 + 3 = 5\n\nSo the answer is \\boxed{5}."


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llamacpp", "ollama"])
@pytest.mark.parametrize("steps", [None, 3])
def test_steps_are_cut_at_the_delimiter_and_the_end_is_told_from_it(
    serve: Make, dialect: Dialect, steps: int | None
) -> None:
    policy = serve(Recital(SOLUTION), dialect, environment=MATH)
    reply = whole(policy, steps)
    assert [(step.text, step.finish) for step in reply.samples[0][0]] == [
        ("First add.", "step"),
        ("2 + 3 = 5", "step"),
        ("So the answer is \\boxed{5}.", "answer"),
    ]
    assert [step.tokens for step in reply.samples[0][0]] == [3, 6, 6]  # with the delimiter, or the end
    assert [step.logprob for step in reply.samples[0][0]] == [-1.5, -3.0, -2.75]
    assert reply.usage.generated == 15


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llamacpp", "ollama"])
@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("chat", [None, False])
def test_a_model_that_ends_its_lines_with_carriage_returns_has_steps(
    serve: Make, dialect: Dialect, steps: int | None, chat: bool | None
) -> None:
    if dialect == "ollama" and chat is False:
        pytest.skip("refused")
    text = SOLUTION.replace("\n", "\r\n")
    policy = serve(Recital(text, PROMPT), dialect, environment=MATH, options=SamplingOptions(chat=chat))
    steps_of = whole(policy, steps).samples[0][0]
    assert [step.text for step in steps_of] == SOLUTION.split("\n\n")
    assert [step.tokens for step in steps_of] == [3, 6, 6]


def test_a_model_goes_on_from_its_own_line_ends_and_is_stopped_at_them(serve: Make) -> None:
    policy = serve(Recital(SOLUTION.replace("\n", "\r\n")), environment=MATH)
    state = MATH.initial(QUESTION)
    for text in SOLUTION.split("\n\n"):
        ((step,),) = whole(policy, 1, state).samples[0]
        assert step.text == text
        state = MATH.step(state, step).state
    bodies = policy.server.bodies  # type: ignore[attr-defined]
    assert [body["messages"][1:] for body in bodies] == [
        [],
        [{"role": "assistant", "content": "First add.\r\n\r\n"}],
        [{"role": "assistant", "content": "First add.\r\n\r\n2 + 3 = 5\r\n\r\n"}],
    ]
    assert [body["stop"] for body in bodies] == [["\n\n"], ["\n\n", "\r\n\r\n"], ["\n\n", "\r\n\r\n"]]
    assert [step.tokens for step in state.steps] == [15, 6, 6]  # at first the server was not to stop there


def test_each_request_is_for_one_step_and_says_what_it_says_everywhere(serve: Make) -> None:
    options = SamplingOptions(top_p=0.9, top_k=7, step_tokens=50, system="Be brief.", thinking=False)
    policy = serve(Recital(SOLUTION), environment=MATH, options=options, parameters=10)
    reply = whole(policy, 3, seeds=(2**63 + 5,))
    bodies = policy.server.bodies  # type: ignore[attr-defined]
    assert [body["messages"][2:] for body in bodies] == [
        [],
        [{"role": "assistant", "content": "First add.\n\n"}],
        [{"role": "assistant", "content": "First add.\n\n2 + 3 = 5\n\n"}],
    ]
    assert bodies[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert bodies[0]["seed"] == 5
    assert len({body["seed"] for body in bodies}) == 3
    for body in bodies:
        assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (0.0, 0.9, 7, 50)
        assert (body["stop"], body["min_p"], body["repetition_penalty"]) == (["\n\n"], 0.0, 1.0)
        assert body["chat_template_kwargs"]["enable_thinking"] is False
    assert reply.usage.prefilled == 3  # all but a token of each prompt was cached
    assert reply.usage.flops == 20.0 * (reply.usage.prefilled + reply.usage.generated)


def test_without_top_k_a_server_is_told_to_take_all_tokens(serve: Make) -> None:
    policy = serve(Recital(SOLUTION), environment=MATH)
    whole(policy)
    (body,) = policy.server.bodies  # type: ignore[attr-defined]
    assert (body["top_k"], body["top_p"]) == (-1, 1.0)
    assert "stop" not in body


def test_stop_strings_end_the_solution_and_stay_in_it(serve: Make) -> None:
    text = "One.\n\nTwo <end>Three.\n\n"
    for steps in (None, 5):
        policy = serve(Recital(text), environment=MATH, options=SamplingOptions(stop=["<end>"]))
        found = whole(policy, steps).samples[0][0]
        assert [(step.text, step.finish) for step in found] == [("One.", "step"), ("Two <end>", "answer")]


@pytest.mark.parametrize("steps", [None, 5])
def test_thinking_is_kept_apart_and_its_delimiters_end_nothing(serve: Make, steps: int | None) -> None:
    thought = "<think>\nHm.\n\nNo, wait.\n\n</think>\n\n"
    policy = serve(Recital(thought + SOLUTION), environment=MATH)
    reply = whole(policy, steps)
    found = reply.samples[0][0]
    assert [step.text for step in found] == ["First add.", "2 + 3 = 5", "So the answer is \\boxed{5}."]
    assert [step.thinking for step in found] == [thought, "", ""]
    assert reply.usage.generated == sum(step.tokens for step in found) >= 24


def test_a_prompt_that_opens_the_thinking_begins_in_its_middle(serve: Make) -> None:
    thought = "Hm.\n\n</think>\n\n"
    options = SamplingOptions(prefill="<think>\n")
    policy = serve(Recital("<think>\n" + thought + SOLUTION), environment=MATH, options=options)
    for steps in (None, 5):
        assert [step.thinking for step in whole(policy, steps).samples[0][0]] == [thought, "", ""]


def test_a_step_or_a_solution_that_is_too_long_is_cut(serve: Make) -> None:
    text = "a b c\n\n" + "d " * 30 + "\n\nThe answer is \\boxed{5}."
    for steps in (None, 5):
        policy = serve(Recital(text), environment=MATH, options=SamplingOptions(step_tokens=10))
        found = whole(policy, steps).samples[0][0]
        assert [(step.text, step.finish) for step in found] == [("a b c", "step"), ("d d d d d d d d d d", "length")]
        policy = serve(Recital(text), environment=MATH, options=SamplingOptions(solution_tokens=8))
        found = whole(policy, steps).samples[0][0]
        assert [(step.text, step.finish) for step in found] == [("a b c", "step"), ("d d d d", "length")]
        assert sum(step.tokens for step in found) == 8


@pytest.mark.parametrize("steps", [None, 5])
def test_a_sample_is_cut_at_its_most_tokens(serve: Make, steps: int | None) -> None:
    policy = serve(Recital("a b c\n\n" + "d " * 30), environment=MATH)
    start = policy.environment.initial(QUESTION)
    for state, texts in ((start, ["a b c", "d d d d"]), (start.then(Step("a b c", 4)), ["d d d d d d d d"])):
        (reply,) = ask(policy, [Propose((state,), ((1,),), 0.0, steps, "a", tokens=8)])
        assert [step.text for step in reply.samples[0][0]] == texts
        assert reply.samples[0][0][-1].finish == "length"
        assert reply.usage.generated == 8


@pytest.mark.parametrize("steps", [None, 5])
def test_a_full_context_cuts_the_solution(serve: Make, steps: int | None) -> None:
    policy = serve(Recital("a b c\n\nd e f\n\n" + "g " * 90), environment=MATH, context=40)
    found = whole(policy, steps).samples[0][0]
    assert [step.text for step in found[:2]] == ["a b c", "d e f"]
    assert found[-1].finish == "length"
    assert sum(step.tokens for step in found) <= 40


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
def test_a_problem_that_does_not_fit_is_an_error_with_the_words_of_the_server(serve: Make, dialect: Dialect) -> None:
    policy = serve(Recital(SOLUTION), dialect, environment=MATH, context=40)
    with pytest.raises(ServerRefused, match="maximum context length is 40 tokens"):
        whole(policy, state=MATH.initial(MATH.read("x " * 50)))
    assert policy.server.asked["/v1/chat/completions"] == 2  # type: ignore[attr-defined]


def test_a_template_that_trims_is_found_out(serve: Make) -> None:
    policy = serve(Recital(SOLUTION), environment=MATH, trims=True)
    with pytest.raises(ValueError, match=r"drops space at the end .* give the model's tokenizer"):
        whole(policy, 3)


def test_what_a_server_does_not_count_is_counted_as_far_as_it_can_be_and_said(serve: Make) -> None:
    told = whole(serve(Recital(SOLUTION), environment=MATH), 3)
    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    for ways in ({"logprobs": False}, {"usage": False}, {"logprobs": False, "usage": False}):
        policy = serve(Recital(SOLUTION), environment=MATH, **ways)
        reply = whole(policy, 3)
        assert [step.text for step in reply.samples[0][0]] == [step.text for step in told.samples[0][0]]
        assert (reply.usage.generated, reply.usage.prefilled) == (
            3 if len(ways) == 2 else told.usage.generated, 0 if "usage" in ways else told.usage.prefilled
        )  # fmt: skip
        if "logprobs" in ways:
            assert {step.logprob for step in reply.samples[0][0]} == {0.0}
    logger.remove(sink)
    assert [line.count("leaves counts of tokens out") for line in said] == [1, 1]


# ------------------------------------------------------------------------------------------------ odd final answers

Quirk = Callable[[dict[str, Any]], Any]
FIRST = [("First add.", "step"), ("2 + 3 = 5", "step")]
LAST = "So the answer is \\boxed{5}."


def changed(**fields: Any) -> Quirk:
    """Put other fields into the choice of a reply."""

    def quirk(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0] |= fields
        return reply

    return quirk


def in_parts(*kinds: str) -> Quirk:
    """Give the content of a message as a list of parts."""

    def quirk(reply: dict[str, Any]) -> dict[str, Any]:
        message = reply["choices"][0]["message"]
        message["content"] = [{"type": kind, kind: "Hm."} for kind in kinds] + [
            {"type": "text", "text": message["content"]}
        ]
        return reply

    return quirk


def asked_in_chats(policy: ServedPolicy) -> int:
    return int(policy.server.asked["/v1/chat/completions"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("reason", ["content_filter", "abort", "error", "tool_calls", "a\x1b[2J", None, {"type": "x"}])
def test_a_reason_that_is_no_end_ends_the_sample_at_once_and_is_said(
    serve: Make, reason: Any, steps: int | None
) -> None:
    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    policy = serve(Recital(SOLUTION), environment=MATH, quirk=changed(finish_reason=reason, stop_reason=None))
    found = whole(policy, steps).samples[0][0]
    logger.remove(sink)
    assert found[-1].finish == "length"
    assert asked_in_chats(policy) == 1
    assert [line.count("ended a reply for the reason") for line in said] == [1]
    assert "\x1b" not in said[0]


@pytest.mark.parametrize("reason", ["eos_token", "eos", "end_turn", "EOS_TOKEN"])
def test_other_words_for_the_end_of_the_model_are_its_end(serve: Make, reason: str) -> None:
    policy = serve(Recital(SOLUTION), "llamacpp", environment=MATH, quirk=changed(finish_reason=reason))
    assert [(step.text, step.finish) for step in whole(policy).samples[0][0]] == [*FIRST, (LAST, "answer")]
    assert asked_in_chats(policy) == 1


@pytest.mark.parametrize(
    "quirk",
    [
        in_parts(),
        lambda reply: reply | {"choices": reply["choices"] * 2},
        lambda reply: reply | {"error": None},
        changed(logprobs={"content": None}),
        changed(logprobs={}),
    ],
)
def test_what_servers_add_or_leave_out_changes_no_text(serve: Make, quirk: Quirk) -> None:
    policy = serve(Recital(SOLUTION), environment=MATH, quirk=quirk)
    assert [(step.text, step.finish) for step in whole(policy).samples[0][0]] == [*FIRST, (LAST, "answer")]
    assert asked_in_chats(policy) == 1


def test_thinking_and_refusals_among_the_parts_of_a_message_are_told_apart(serve: Make) -> None:
    policy = serve(Recital(SOLUTION), environment=MATH, quirk=in_parts("thinking"))
    found = whole(policy).samples[0][0]
    assert (found[0].thinking.strip(), found[0].text) == ("<think>Hm.</think>", "First add.")
    no = changed(message={"content": None, "refusal": "I cannot help."})
    policy = serve(Recital(SOLUTION), environment=MATH, quirk=no)
    assert [step.text for step in whole(policy).samples[0][0]] == ["I cannot help."]


def test_a_log_probability_that_is_not_told_counts_as_0(serve: Make) -> None:
    def quirk(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["logprobs"]["content"][0]["logprob"] = None
        return reply

    found = whole(serve(Recital(SOLUTION), environment=MATH, quirk=quirk)).samples[0][0]
    assert [step.logprob for step in found] == [-1.0, -3.0, -2.75]


@pytest.mark.parametrize(
    ("quirk", "words", "calls"),
    [
        (lambda reply: {"error": {"message": "the model is broken", "code": 400}}, "400: the model is broken", 1),
        (lambda reply: {"error": "the model is broken"}, "200: the model is broken", 1),
        (lambda reply: {"object": "error", "message": "the model is broken", "code": 404}, "404: the model", 1),
        (lambda reply: reply | {"error": {"message": "the model is broken"}}, "200: the model is broken", 1),
        (changed(error={"message": "the model is broken"}), "the model is broken", 4),
        (changed(message={"content": 5}), "its text is a int", 4),
        (changed(message={"content": [5]}), "AttributeError", 4),
        (changed(logprobs={"tokens": [5], "token_logprobs": [0.0]}), "expected str instance, int found", 4),
        (lambda reply: {"choices": []}, "no choices", 4),
        (lambda reply: {"message": "model not loaded"}, "model not loaded", 4),
        (lambda reply: {}, "no list of choices", 4),
    ],
)
def test_what_is_no_answer_fails_soon_with_the_words_of_the_server(
    serve: Make, quirk: Quirk, words: str, calls: int
) -> None:
    policy = serve(Recital(SOLUTION), environment=MATH, quirk=quirk)
    with pytest.raises(ServerRefused, match=words):
        whole(policy)
    assert asked_in_chats(policy) == calls


def test_an_error_in_a_reply_may_pass_if_it_says_so(serve: Make) -> None:
    left = [1, 2, 3]

    def quirk(reply: dict[str, Any]) -> dict[str, Any]:
        return {"error": {"message": "busy", "code": left.pop() and 503}} if left else reply

    policy = serve(Recital(SOLUTION), environment=MATH, quirk=quirk)
    assert len(whole(policy).samples[0][0]) == 3
    assert asked_in_chats(policy) == 4


# ------------------------------------------------------------------------------------------------- room and counts

FULL = {
    "vllm": (400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."),
    "llamacpp": (500, "Context size has been exceeded."),
    "llamacpp_new": (400, "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it"),
    "tgi": (422, "`inputs` tokens + `max_new_tokens` must be <= 1024. Given: 900 `inputs` tokens and 500 more"),
    "openai": (400, "max_tokens is too large: 512. This model supports at most 12 completion tokens"),
    "in_200": (200, "the prompt is too long: 5000 tokens > 4096 maximum"),
}


@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("server", FULL)
def test_where_there_is_no_room_less_is_asked_for_and_a_problem_that_never_fits_is_an_error(
    serve: Make, server: str, steps: int | None
) -> None:
    status, words = FULL[server]
    most: list[int] = []

    def routes(limit: int) -> ServedPolicy:
        policy = serve(Recital(SOLUTION), "llamacpp", environment=MATH)
        route = policy.server.routes["/v1/chat/completions"]  # type: ignore[attr-defined]

        def chat(body: dict[str, Any]) -> Any:
            most.append(body["max_tokens"])
            return route(body) if body["max_tokens"] <= limit else (status, {"error": {"message": words}})

        policy.server.routes["/v1/chat/completions"] = chat  # type: ignore[attr-defined]
        return policy

    found = whole(routes(400), steps)
    assert [step.text for step in found.samples[0][0]] == [*(text for text, _ in FIRST), LAST]
    assert most[1] == 1
    assert most[2] == most[0] * 3 // 4
    assert found.usage.generated == sum(step.tokens for step in found.samples[0][0])
    assert found.usage.generated == 15 + most.count(1)  # each of those that only tried took a token
    most.clear()
    with pytest.raises(ServerRefused, match=re.escape(words[:20])):
        whole(routes(0), steps)
    assert len(most) == 2


def test_a_refusal_of_another_kind_is_an_error_though_it_speaks_of_a_context(serve: Make) -> None:
    words = "jinja: 'strftime_now' is undefined in this context"
    policy = serve(Recital(SOLUTION), environment=MATH, quirk=lambda reply: (400, {"error": {"message": words}}))
    with pytest.raises(ServerRefused, match="strftime_now"):
        whole(policy)
    assert asked_in_chats(policy) == 1


def test_a_prompt_that_is_known_to_be_too_long_is_an_error_that_names_the_problem(serve: Make, tmp_path: Any) -> None:
    tokenizer_of(QWEN25).save_pretrained(tmp_path)
    policy = serve(Recital(SOLUTION), environment=MATH, tokenizer=str(tmp_path), context=20)
    with pytest.raises(ValueError, match=f"the prompt of {QUESTION.id} has no room in the context of 'scripted'"):
        whole(policy, seeds=(1, 2))
    assert policy.poll() == []


@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("claimed", [400_000_000, 10**18, 10**300])
def test_counts_that_cannot_be_are_bounded_by_what_was_asked_for(serve: Make, claimed: int, steps: int | None) -> None:
    def quirk(reply: dict[str, Any]) -> dict[str, Any]:
        reply["usage"] = {"prompt_tokens": claimed, "completion_tokens": claimed}
        del reply["choices"][0]["logprobs"]
        return reply

    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    policy = serve(Recital(SOLUTION), environment=MATH, quirk=quirk, parameters=7)
    tracemalloc.start()
    reply = whole(policy, steps)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    logger.remove(sink)
    assert peak < 4 << 20
    assert [line.count("more tokens than there can be") for line in said] == [1]
    found = reply.samples[0][0]
    if steps is None:
        assert [step.text for step in found] == [*(text for text, _ in FIRST), LAST]
    assert reply.usage.generated <= policy.options.solution_tokens
    assert reply.usage.prefilled <= 4096 * 3
    assert sum(step.tokens for step in found) == reply.usage.generated


def test_tokens_without_text_are_charged_and_not_laid_out(serve: Make) -> None:
    def quirk(reply: dict[str, Any]) -> dict[str, Any]:
        reply["usage"]["completion_tokens"] = 3000  # it thought, and does not show it
        del reply["choices"][0]["logprobs"]
        return reply

    found = whole(serve(Recital(SOLUTION), environment=MATH, quirk=quirk)).samples[0][0]
    assert sum(step.tokens for step in found) == 3000
    assert [(step.text, step.finish) for step in found] == [*FIRST, (LAST, "answer")]


# ------------------------------------------------------------------------------------------------------------ Ollama


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("hf.co/Qwen/Qwen2.5-1.5B-Instruct-GGUF:Q4_K_M", "Qwen"),
        ("alice/my-solver", "alice"),
        ("vllm/tuned:latest", "vllm"),
        ("qwen2.5:7b", "library"),
    ],
)
def test_ollama_is_known_whoever_made_the_model(serve: Make, name: str, owner: str) -> None:
    policy = serve(Recital(SOLUTION), "ollama", environment=MATH, name=name, owner=owner)
    assert len(whole(policy, 3).samples[0][0]) == 3
    with pytest.raises(ValueError, match="Ollama puts every prompt into the model's template"):
        serve(Recital(SOLUTION), "ollama", environment=MATH, name=name, owner=owner, options=PLAIN)


@pytest.mark.parametrize("ways", [{}, {"usage": False, "logprobs": False}])
@pytest.mark.parametrize("text", ["First add the numbers.\n\n2 + 3 = 5", "Let us first add both numbers up\n"])
def test_a_server_that_begins_anew_is_found_out_by_the_second_reply(serve: Make, text: str, ways: Any) -> None:
    policy = serve(Recital(text), "ollama", environment=MATH, anew=True, **ways)
    with pytest.raises(ValueError, match="begins anew each time"):
        whole(policy, 64)
    assert asked_in_chats(policy) == 3


@pytest.mark.parametrize(("step", "calls"), [("Add.", 6), ("So:", 8), ("Step 1", 5), ("Hm", 10)])
def test_a_server_that_begins_anew_with_a_short_step_is_found_out_too(serve: Make, step: str, calls: int) -> None:
    policy = serve(Recital(f"{step}\n\n2 + 3 = 5"), "ollama", environment=MATH, anew=True)
    with pytest.raises(ValueError, match="begins anew each time"):
        whole(policy, 64)
    assert asked_in_chats(policy) == calls


def test_a_server_that_begins_anew_is_found_out_step_by_step_too(serve: Make) -> None:
    policy = serve(Recital("First add the numbers.\n\n2 + 3 = 5"), "ollama", environment=MATH, anew=True)
    first = whole(policy, 1).samples[0][0][0]
    with pytest.raises(ValueError, match="begins anew each time"):
        whole(policy, 1, MATH.initial(QUESTION).then(first))


@pytest.mark.parametrize("step", ["Go on.", "Now let us go on with the next of them.", "ab ab ab ab ab ab ab ab ab ab"])
def test_a_model_that_repeats_itself_is_none_that_begins_anew(serve: Make, step: str) -> None:
    policy = serve(Recital(f"{step}\n\n" * 9 + LAST), "ollama", environment=MATH)
    reply = whole(policy, 12)
    assert [each.text for each in reply.samples[0][0]] == [step] * 9 + [LAST]
    assert reply.usage.generated == sum(each.tokens for each in reply.samples[0][0])
    doubted = asked_in_chats(policy) - 10
    assert doubted == 1


# ------------------------------------------------------------------------------------------------------------ errors


def test_of_many_models_an_error_names_the_nearest_and_some(serve: Make) -> None:
    server = serve(Script(TOY, PROBLEMS)).server  # type: ignore[attr-defined]
    many = [{"id": f"org/model-{i}\x1b[2J", "owned_by": "vllm"} for i in range(100_000)]
    server.routes["/v1/models"] = lambda body: (200, {"data": many})
    with pytest.raises(ValueError, match=r"has no model 'model-77777'.*model-77777.* and 99980 more") as caught:
        ServedPolicy("model-77777", TOY, base_url=server.url)
    assert len(str(caught.value)) < 2000
    assert "\x1b" not in str(caught.value)
    with pytest.raises(ValueError, match="which model"):
        ServedPolicy("", TOY, base_url=server.url)
    server.routes["/v1/models"] = lambda body: (200, {"data": [{"name": "x"}]})
    with pytest.raises(ValueError, match="is no list of models"):
        ServedPolicy("", TOY, base_url=server.url)


def test_a_wrong_model_is_refused_with_what_there_is(serve: Make) -> None:
    server = serve(Script(TOY, PROBLEMS)).server  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"has no model 'scribted'; did you mean 'scripted'\?.*there are: scripted"):
        ServedPolicy("scribted", TOY, base_url=server.url)
    policy = ServedPolicy("", TOY, base_url=server.url)
    assert policy.name == "scripted"
    policy.close()
    with pytest.raises(ValueError, match=r"server 'vlm'; did you mean 'vllm'\?"):
        ServedPolicy("scripted", TOY, base_url=server.url, server="vlm")


def test_what_a_server_cannot_do_is_refused(serve: Make, tmp_path: Any) -> None:
    script = Script(TOY, PROBLEMS)
    with pytest.raises(ValueError, match=r"it is not known whether .* goes on with an assistant's message"):
        serve(script, "other")
    with pytest.raises(ValueError, match="Ollama puts every prompt into the model's template"):
        serve(script, "ollama", options=PLAIN)
    with pytest.raises(ValueError, match="top_k is 5, and this server takes none"):
        serve(script, "ollama", options=SamplingOptions(top_k=5))
    with pytest.raises(ValueError, match="does not say which stop string it met"):
        serve(script, "llamacpp", options=SamplingOptions(stop=["####"]))


def test_no_server_is_an_error_at_once(serve: Make) -> None:
    policy = serve(Script(TOY, PROBLEMS))
    policy.server.stop()  # type: ignore[attr-defined]
    with pytest.raises(ServerUnavailable, match="is the server running there"):
        ServedPolicy("scripted", TOY, base_url=policy.server.url)  # type: ignore[attr-defined]


def test_a_reply_that_is_ready_outlives_the_cancelling_of_others(serve: Make) -> None:
    policy = serve(Script(TOY, PROBLEMS))
    for ticket in range(2):  # without samples they are ready at once
        policy.submit(ticket, Propose((TOY.initial(PROBLEMS[0]),), ((),), scope=str(ticket)))
    policy.cancel("0")
    assert policy.poll() == [(1, Proposed(((),)))]


def test_a_request_that_fails_is_answered_by_its_error(serve: Make) -> None:
    policy = serve(Script(TOY, PROBLEMS[:1]))
    requests = [Propose((TOY.initial(problem),), ((1, 2),), scope=problem.id) for problem in PROBLEMS[:2]]
    with pytest.raises(ServerRefused, match="StopIteration"):  # the script knows no such problem
        ask(policy, requests)
    policy.close()
    assert policy.poll() == []
    ask(policy, requests[:1])


# ------------------------------------------------------------------------------------------------------- confidence


def test_how_sure_a_model_is_comes_from_the_likeliest_tokens(serve: Make) -> None:
    policy = serve(Recital(SOLUTION), environment=MATH)
    policy.record_confidence(2)
    (steps,) = whole(policy).samples[0]
    assert policy.server.bodies[-1]["top_logprobs"] == 2  # type: ignore[attr-defined]
    for step in steps:
        assert len(step.certainty) == step.tokens
        assert all(confidence > 0.5 for confidence, _ in step.certainty)  # the mean of -log p and -log p + 1
    mean = sum(confidence for step in steps for confidence, _ in step.certainty) / sum(step.tokens for step in steps)
    total = sum(step.logprob for step in steps)
    assert mean == pytest.approx(0.5 - total / sum(step.tokens for step in steps))


def test_a_server_that_does_not_tell_the_likeliest_tokens_is_refused(serve: Make) -> None:
    policy = serve(Recital(SOLUTION), environment=MATH, logprobs=False)
    policy.record_confidence(2)
    with pytest.raises(ValueError, match="tells no log-probabilities of the likeliest tokens of scripted"):
        whole(policy)
    for top, given in ((0, "the whole vocabulary"), (21, "the 21 likeliest tokens")):
        with pytest.raises(ValueError, match=f"servers tell the 20 likeliest tokens; {given} of 'scripted' were"):
            policy.record_confidence(top)


# -------------------------------------------------------------------------------------------------- thinking budgets


def test_a_server_that_bounds_the_thinking_is_told_the_budget(serve: Make) -> None:
    options = SamplingOptions(thinking_tokens=30)
    for dialect, name in (("vllm", "thinking_token_budget"), ("llamacpp", "thinking_budget_tokens")):
        policy = serve(Recital(SOLUTION), dialect, environment=MATH, options=options)
        whole(policy)
        assert all(body[name] == 30 for body in policy.server.bodies)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="this server takes no thinking budget: give the model's tokenizer"):
        serve(Recital(SOLUTION), "ollama", environment=MATH, options=options)
    with pytest.raises(ValueError, match="thinking_least is kept where the prompts are made here"):
        serve(Recital(SOLUTION), environment=MATH, options=SamplingOptions(thinking_least=3))
    with pytest.raises(ValueError, match="a server is not asked in the middle of a thought; run the model by hf:"):
        serve(Recital(SOLUTION), environment=MATH, options=SamplingOptions(thinking_probe=3))
