"""Policies behind a server: the contract, whatever kind of server it is and whatever fails, and what text becomes."""

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from loguru import logger

from envs.math.environment import Math
from envs.toy import Toy
from policies.backends.openai import ServedPolicy
from policies.conformance import ask, check_policy
from policies.core import Propose, Proposed
from policies.generation.chat import Dialogue
from policies.generation.options import SamplingOptions
from policies.models.http_client import ServerRefused, ServerUnavailable
from tests.policies.families import QWEN25, tokenizer_of
from tests.servers import Dialect, Fault, Faults, Recital, Script, Server, openai_routes

TOY = Toy()
PROBLEMS = TOY.problems("train", 3)
MATH = Math()
QUESTION = MATH.read("What is 2 + 3?")
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
        ways = {key: given.pop(key) for key in ("context", "logprobs", "usage", "trims", "decode") if key in given}
        server = Server(openai_routes(model, dialect, **ways), faults)
        opened.append(server)
        environment = given.pop("environment", TOY)
        policy = ServedPolicy(
            "scripted", environment, given.pop("options", None), base_url=server.url, **QUICK, **given
        )
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
    assert set(policy.server.asked) == {"/v1/models", "/v1/completions"}  # type: ignore[attr-defined]


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
    dialogue = Dialogue(tokenizer, TOY, SamplingOptions())
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
def test_a_full_context_cuts_the_solution(serve: Make, steps: int | None) -> None:
    policy = serve(Recital("a b c\n\nd e f\n\n" + "g " * 90), environment=MATH, context=40)
    found = whole(policy, steps).samples[0][0]
    assert [step.text for step in found[:2]] == ["a b c", "d e f"]
    assert found[-1].finish == "length"
    long = MATH.read("x " * 50)
    (reply,) = ask(policy, [Propose((MATH.initial(long),), ((1,),), max_steps=None, scope="a")])
    assert [(step.text, step.finish) for step in reply.samples[0][0]] == [("", "length")]


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


# ------------------------------------------------------------------------------------------------------------ errors


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
