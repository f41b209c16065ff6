"""The official clients, and request bodies of the shapes that well-known programs send."""

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from envs.core import Turn
from policies.core import Propose
from tests.agent.interface.server.serving import QUESTION, Running, Watched, serving

ASK: Any = {"model": "stepwell/beam-8", "messages": [{"role": "user", "content": QUESTION}]}
KEY = "no key is needed"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(graphs=tmp_path_factory.mktemp("graphs")) as made:
        yield made


@pytest.fixture(scope="module")
def gpt(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(running: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.url.removesuffix("/v1"), api_key=KEY, max_retries=0) as client:
        yield client


# ------------------------------------------------------------------------------------------------- chat completions


def test_a_completion(gpt: openai.OpenAI) -> None:
    reply: Any = gpt.chat.completions.create(**ASK, seed=3)
    (choice,) = reply.choices
    (search,) = reply.stepwell["searches"]
    assert choice.finish_reason == "stop"
    assert choice.message.content == search["answer"]
    assert choice.message.reasoning == choice.message.reasoning_content != ""
    assert 0 < search["confidence"] <= 1
    assert search["strategy"]["name"] == "beam"
    assert search["spent"]["flops"] > 0
    spent = search["spent"]
    assert reply.usage.prompt_tokens == spent["prefilled"] + spent["verifier_tokens"]
    assert reply.usage.prompt_tokens_details.verifier_tokens == spent["verifier_tokens"] > 0
    assert reply.usage.completion_tokens == spent["generated"]
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_stream_says_what_a_whole_reply_says(gpt: openai.OpenAI) -> None:
    whole: Any = gpt.chat.completions.create(**ASK, seed=5)
    chunks: list[Any] = list(
        gpt.chat.completions.create(**ASK, seed=5, stream=True, stream_options={"include_usage": True})
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    said = "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
    assert said.splitlines()[-1] == whole.choices[0].message.reasoning.splitlines()[-1]
    assert deltas[0].role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    *others, last = chunks
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in others)
    assert others[-1].stepwell["searches"][0]["answer"] == whole.choices[0].message.content
    assert len({chunk.id for chunk in chunks}) == 1


def test_choices_are_searches_of_seeds_that_follow_each_other(gpt: openai.OpenAI) -> None:
    ask = ASK | {"model": "stepwell/best-of-n-1"}
    one_by_one: list[Any] = [gpt.chat.completions.create(**ask, seed=seed) for seed in (7, 8, 9)]
    reply: Any = gpt.chat.completions.create(**ask, seed=7, n=3)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert [each.message.content for each in reply.choices] == [each.choices[0].message.content for each in one_by_one]
    assert reply.usage.total_tokens == sum(each.usage.total_tokens for each in one_by_one)
    chunks: list[Any] = list(gpt.chat.completions.create(**ask, seed=7, n=3, stream=True))
    for index, choice in enumerate(reply.choices):
        mine = [each for chunk in chunks for each in chunk.choices if each.index == index]
        assert "".join(each.delta.content or "" for each in mine) == choice.message.content
        assert [each.finish_reason for each in mine if each.finish_reason] == ["stop"]


def test_what_stepwell_takes_besides(gpt: openai.OpenAI) -> None:
    extra = {"strategy": {"name": "dvts", "branch": 2}, "budget": {"samples": 4}, "content": "solution"}
    reply: Any = gpt.chat.completions.create(**ASK, extra_body=extra)
    (search,) = reply.stepwell["searches"]
    assert search["strategy"]["name"] == "dvts"
    assert search["strategy"]["branch"] == 2
    assert search["spent"]["samples"] <= 4.5
    coins = reply.choices[0].message.content.splitlines()
    assert sum(map(int, coins)) == 12
    assert str(len(coins)) == search["answer"]


def test_stop_temperature_and_forms(gpt: openai.OpenAI) -> None:
    coins: Any = gpt.chat.completions.create(**ASK, extra_body={"content": "solution"}, stop=["\n"])
    assert coins.choices[0].message.content.isdecimal()
    greedy: Any = gpt.chat.completions.create(**ASK, temperature=0)
    assert greedy.stepwell["searches"][0]["strategy"]["temperature"] == 0
    filled: Any = gpt.chat.completions.create(**ASK, response_format={"type": "json_object"})
    assert filled.choices[0].message.content == f'{{"answer": "{filled.stepwell["searches"][0]["answer"]}"}}'
    schema: Any = {"type": "object", "properties": {"coins": {"type": "integer"}}, "required": ["coins"]}
    typed: Any = gpt.chat.completions.create(
        **ASK, response_format={"type": "json_schema", "json_schema": {"name": "fewest", "schema": schema}}
    )
    assert typed.choices[0].message.content == f'{{"coins": {typed.stepwell["searches"][0]["answer"]}}}'


def test_effort_and_tokens_are_budgets(gpt: openai.OpenAI) -> None:
    spent = {}
    for effort in ("low", "medium", "high"):
        reply: Any = gpt.chat.completions.create(**ASK | {"model": "toy"}, reasoning_effort=effort)
        spent[effort] = reply.stepwell["searches"][0]["spent"]["samples"]
    assert 1 < spent["low"] < 3 < spent["medium"] < 10 < spent["high"]
    few: Any = gpt.chat.completions.create(**ASK | {"model": "toy"}, max_completion_tokens=20)
    assert few.usage.completion_tokens < 30
    none: Any = gpt.chat.completions.create(**ASK | {"model": "toy"}, max_tokens=1)
    assert none.choices[0].finish_reason == "length"
    assert none.choices[0].message.content == ""
    assert none.stepwell["searches"][0]["abstained"]


def test_abstention_is_said(gpt: openai.OpenAI) -> None:
    reply: Any = gpt.chat.completions.create(
        **ASK | {"model": "stepwell/majority-16"}, temperature=2, extra_body={"abstain_below": 1.0}
    )
    assert reply.choices[0].message.content is None
    assert "below 1" in reply.choices[0].message.refusal
    assert reply.stepwell["searches"][0]["abstained"]


def test_errors_are_those_of_the_client(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'stepwell/beam-16'"):
        gpt.chat.completions.create(**ASK | {"model": "stepwell/beem-16"})
    with pytest.raises(openai.BadRequestError, match="the toy environment reads"):
        gpt.chat.completions.create(**ASK | {"messages": [{"role": "user", "content": "Hello?"}]})


def test_models_are_listed(gpt: openai.OpenAI) -> None:
    names = [model.id for model in gpt.models.list()]
    assert names[0] == "stepwell/auto"
    assert {"toy", "stepwell/beam-16", "stepwell/greedy"} <= set(names)
    assert gpt.models.retrieve("stepwell/beam-5").stepwell["budget"] == {"samples": 5}  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError) as raised:
        gpt.models.retrieve("stepwell/nothing")
    assert raised.value.code == "model_not_found"


# ------------------------------------------------------------------------------------------------------- responses


def test_a_response_streamed_and_whole(gpt: openai.OpenAI) -> None:
    whole: Any = gpt.responses.create(model="stepwell/beam-8", input=QUESTION, extra_body={"seed": 5})
    assert whole.status == "completed"
    assert whole.output_text == whole.stepwell["searches"][0]["answer"]
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    with gpt.responses.stream(model="stepwell/beam-8", input=QUESTION, extra_body={"seed": 5}) as stream:
        events = list(stream)
        final: Any = stream.get_final_response()
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == list(range(len(events)))
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage
    assert final.stepwell["searches"][0]["answer"] == whole.output_text


def test_the_conversation_of_a_response_is_its_input(gpt: openai.OpenAI) -> None:
    turns: Any = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]
    assert gpt.responses.create(model="toy", input=turns).output_text.isdecimal()
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        gpt.responses.create(model="toy", input=turns, previous_response_id="resp_1")


# -------------------------------------------------------------------------------------------------------- messages


def test_a_message_streamed_and_whole(claude: anthropic.Anthropic) -> None:
    ask: Any = {**ASK, "max_tokens": 4000, "extra_body": {"seed": 5, "budget": 8}}
    whole: Any = claude.messages.create(**ask)
    assert whole.stop_reason == "end_turn"
    assert whole.content[0].text == whole.stepwell["searches"][0]["answer"]
    with claude.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        final = stream.get_final_message()
    assert final.usage.output_tokens == whole.usage.output_tokens
    thinking: Any = {"type": "enabled", "budget_tokens": 3000}
    with claude.messages.stream(**ask, thinking=thinking) as stream:
        thought = stream.get_final_message()
    assert [block.type for block in thought.content] == ["thinking", "text"]
    assert "leads with" in thought.content[0].thinking  # type: ignore[union-attr]


def test_errors_of_messages(claude: anthropic.Anthropic) -> None:
    image: Any = [{"type": "image", "source": {"type": "url", "url": "http://x"}}]
    with pytest.raises(anthropic.NotFoundError, match="no model 'nothing'"):
        claude.messages.create(**ASK | {"model": "nothing"}, max_tokens=9)
    with pytest.raises(anthropic.BadRequestError, match="type 'image' given; allowed: 'text'"):
        claude.messages.create(**ASK | {"messages": [{"role": "user", "content": image}]}, max_tokens=9)


# ------------------------------------------------------------------------------------- shapes of well-known programs

OPEN_WEBUI: dict[str, Any] = {  # a chat of a browser: all of it each time, and parameters as the user set them
    "stream": True,
    "model": "toy",
    "messages": [{"role": "user", "content": QUESTION}],
    "stream_options": {"include_usage": True},
    "temperature": 0.8,
    "top_p": 1,
    "seed": 42,
    "max_tokens": 4096,
    "stop": ["</end>"],
    "frequency_penalty": 0,
}
LANGCHAIN: dict[str, Any] = {  # ChatOpenAI, invoked
    "messages": [{"content": QUESTION, "role": "user"}],
    "model": "toy",
    "n": 1,
    "stream": False,
    "temperature": 0.7,
}
LANGCHAIN_STREAM = LANGCHAIN | {"stream": True, "stream_options": {"include_usage": True}}
LANGCHAIN_TYPED = LANGCHAIN | {  # with_structured_output
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "Fewest",
            "description": "Coins.",
            "strict": True,
            "schema": {
                "title": "Fewest",
                "description": "Coins.",
                "type": "object",
                "properties": {"coins": {"title": "Coins", "type": "integer"}},
                "required": ["coins"],
                "additionalProperties": False,
            },
        },
    }
}
LITELLM: dict[str, Any] = {  # a proxy that hands on what it got
    "model": "toy",
    "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
    "max_completion_tokens": 2048,
    "user": "ada",
    "metadata": {"team": "coins"},
    "parallel_tool_calls": None,
}


@pytest.mark.parametrize(
    "body",
    [OPEN_WEBUI, LANGCHAIN, LANGCHAIN_STREAM, LANGCHAIN_TYPED, LITELLM],
    ids=["open-webui", "langchain", "langchain-stream", "langchain-typed", "litellm"],
)
def test_shapes_of_programs_are_understood(running: Running, body: dict[str, Any]) -> None:
    reply = running.post(**body)
    assert reply.status_code == 200, reply.text
    if body.get("stream"):
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert '"usage":{"prompt_tokens"' in reply.text
        assert reply.text.endswith("data: [DONE]\n\n")
    else:
        assert reply.json()["choices"][0]["message"]["content"]


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi", "reasoning_content": "1.0 samples", "refusal": None, "annotations": []},
    {"role": "user", "content": QUESTION},
]


class Converser(Watched):
    """A policy that is shown conversations."""

    converses = True

    def submit(self, ticket: int, request: Propose) -> None:
        self.shown = request.states[0].problem.conversation
        super().submit(ticket, request)


def test_a_conversation_goes_to_a_policy_that_can_be_shown_it() -> None:
    policy = Converser()
    with serving(policy=policy) as running:
        assert running.post(messages=CONVERSATION).status_code == 200
        assert policy.shown == (Turn("system", "Be brief."), Turn("user", "Hello"), Turn("assistant", "Hi"))


def test_a_conversation_is_refused_by_another_policy_or_cut_and_said(running: Running) -> None:
    refused = running.post(messages=CONVERSATION)
    assert refused.status_code == 400
    assert "--last-turn-only" in refused.json()["error"]["message"]
    with serving(last_turn_only=True) as cutting:
        reply = cutting.post(messages=CONVERSATION)
        assert "reads the last turn only" in reply.json()["stepwell"]["searches"][0]["notes"][0]


def test_a_graph_can_be_had_by_its_link_and_by_no_other(running: Running) -> None:
    from agent.search.graph import SearchGraph
    from envs.toy import Toy
    from tests.agent.interface.server.serving import CLIENT

    (search,) = running.post().json()["stepwell"]["searches"]
    host = running.url.removesuffix("/v1")
    reply = CLIENT.get(host + search["graph"])
    assert SearchGraph.from_json(reply.json(), Toy()).choice().answer == search["answer"]
    page = CLIENT.get(host + search["page"])
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Content-Security-Policy" in page.text
    assert QUESTION in page.text
    for other in ("0" * 32 + "-0", "..%2f..%2fetc%2fpasswd", "x"):
        for path in (f"{host}/v1/searches/{other}/graph.json", f"{host}/v1/searches/{other}"):
            refused = CLIENT.get(path)
            assert refused.status_code == 404
            assert refused.json()["error"]["code"] is None  # the model is there
