"""Verifiers behind a server: their scores are those of the same model here, and they keep the contract."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from envs.core import State, Step
from envs.math.environment import Math
from policies.conformance import ask
from policies.servers.http_client import ServerRefused, ServerUnavailable
from tests.servers import Fault, Faults, Reply, Route, Server, pooling_routes
from verifiers.conformance import check_verifier
from verifiers.core import Score
from verifiers.families import FAMILIES
from verifiers.registry import load_verifier
from verifiers.scoring.tokenization import Texts

MATH = Math()
QUICK: dict[str, Any] = {"timeout": 4.0, "patience": 300.0, "pause": 0.01, "longest_pause": 0.1}
Tiny = Callable[..., Path]
Serve = Callable[..., Any]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Make a server of some routes, and a verifier by name that asks it."""
    opened: list[Any] = []

    def make(routes: dict[str, Route], name: str, faults: Faults | None = None, **options: Any) -> Any:
        server = Server(routes, faults)
        opened.append(server)
        verifier: Any = load_verifier(name, MATH, base_url=server.url, **(QUICK | options))
        opened.append(verifier)
        verifier.server = server
        return verifier

    yield make
    for each in reversed(opened):
        each.stop() if isinstance(each, Server) else each.close()


@pytest.fixture(scope="module")
def outputs(tiny: Tiny) -> Callable[[str], Callable[[list[int]], list[list[float]]]]:
    """What a server computes for a tiny checkpoint of a family: a row of outputs for each token."""

    def of(family: str) -> Callable[[list[int]], list[list[float]]]:
        folder = tiny(family)
        kind = {
            "token-classification": hf.AutoModelForTokenClassification,
            "outcome": hf.AutoModelForSequenceClassification,
            "math-shepherd": hf.AutoModelForCausalLM,
        }[family]
        model = kind.from_pretrained(folder, dtype=torch.float32)
        columns = FAMILIES[family](Texts(folder)).reading.columns

        @torch.inference_mode()
        def rows(ids: list[int]) -> list[list[float]]:
            given = torch.tensor([ids])
            match family:
                case "outcome":
                    found = model.score(model.model(given).last_hidden_state)[0]
                case "math-shepherd":
                    found = model(given).logits[0][:, columns]
                case _:
                    found = model(given).logits[0]
            return list(found.tolist())

        return rows

    return of


def scores(verifier: Any, states: Sequence[State]) -> list[tuple[float, ...]]:
    (reply,) = ask(verifier, [Score(tuple(states), "s")])
    return list(reply.scores)


@pytest.mark.parametrize("family", ["token-classification", "math-shepherd", "outcome"])
def test_scores_are_those_of_the_same_model_here(
    serve: Serve, tiny: Tiny, outputs: Any, solutions: list[State], family: str
) -> None:
    here = load_verifier(f"hf:{tiny(family)}", MATH, family=family, device="cpu")
    served = serve(pooling_routes(outputs(family)), f"pooling:{tiny(family)}", family=family)
    expected = scores(here, solutions)
    found = scores(served, solutions)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=2e-5)
    assert served.name == tiny(family).name


def by_prefix(ids: list[int]) -> list[list[float]]:
    """Outputs that depend on what comes before, to the last bit."""
    return [[sum(ids[: end + 1]) % 7 / 7, sum(ids[: end + 1]) % 5 / 5] for end in range(len(ids))]


def test_the_contract_of_a_reward_model_while_calls_fail(serve: Serve, tiny: Tiny, solutions: list[State]) -> None:
    kinds: list[Fault] = ["500", "503", "429", "reset", "cut", "garbage", "choices"]
    served = serve(pooling_routes(by_prefix), f"pooling:{tiny('token-classification')}", Faults(0.3, kinds=kinds))
    check_verifier(served, MATH, solutions)
    assert served.server.failed


def test_a_text_is_asked_about_once_per_search_and_what_is_run_is_counted(
    serve: Serve, tiny: Tiny, outputs: Any, solutions: list[State]
) -> None:
    served = serve(pooling_routes(outputs("token-classification")), f"pooling:{tiny('token-classification')}")
    state = solutions[0]
    before = served.server.asked["/pooling"]
    first, again = (ask(served, [Score((state, state), "s")])[0] for _ in range(2))
    assert served.server.asked["/pooling"] == before + 1
    assert first.scores == again.scores
    assert again.tokens == 0
    assert first.tokens == len(served.server.bodies[-1]["input"])
    served.cancel("s")
    scores(served, [state])
    assert served.server.asked["/pooling"] == before + 2


def test_a_reply_that_is_ready_outlives_the_cancelling_of_others(serve: Serve) -> None:
    served = serve(judge_routes(by_length), "openai:")
    for ticket in range(2):  # steps without text are scored at once
        served.submit(ticket, Score((MATH.initial(MATH.read("What is 2 + 3?")).then(Step("")),), str(ticket)))
    served.cancel("0")
    assert [(ticket, reply.scores) for ticket, reply in served.poll()] == [(1, ((0.5,),))]


def test_outputs_at_the_tags_of_steps_alone_are_read_in_order(
    serve: Serve, tiny: Tiny, outputs: Any, solutions: list[State]
) -> None:
    folder = tiny("token-classification")
    tag = Texts(folder).single("\n")
    rows = outputs("token-classification")
    everywhere = serve(pooling_routes(rows), f"pooling:{folder}")
    lines = [
        State(state.problem, tuple(Step(step.text.replace("\n", " ")) for step in state.steps)) for state in solutions
    ]

    def at_tags(ids: list[int]) -> list[list[float]]:
        return [row for id, row in zip(ids, rows(ids), strict=True) if id == tag]

    tagged = scores(serve(pooling_routes(at_tags), f"pooling:{folder}"), lines)
    for found, expected in zip(tagged, scores(everywhere, lines), strict=True):
        assert found == pytest.approx(expected, abs=2e-5)


def test_steps_beyond_the_context_are_nan_and_a_wrong_head_is_an_error(
    serve: Serve, tiny: Tiny, outputs: Any, solutions: list[State]
) -> None:
    folder = tiny("token-classification")
    rows = outputs("token-classification")
    state = solutions[0]
    known = scores(serve(pooling_routes(rows), f"pooling:{folder}"), [state])[0]
    served = serve(pooling_routes(rows), f"pooling:{folder}")
    scores(served, [state])
    length = len(served.server.bodies[-1]["input"])
    short = scores(serve(pooling_routes(rows, context=length - 1), f"pooling:{folder}"), [state])[0]
    assert short[:-1] == pytest.approx(known[:-1], abs=2e-5)
    assert math.isnan(short[-1])
    narrow = serve(pooling_routes(lambda ids: [[0.5] for _ in ids]), f"pooling:{folder}")
    with pytest.raises(ValueError, match="gives 1 outputs per token; 2 are needed"):
        scores(narrow, [state])


# ----------------------------------------------------------------------------------------------------------- judges


def judge_routes(tops: Callable[[str], dict[str, float]]) -> dict[str, Route]:
    def models(body: dict[str, Any]) -> Reply:
        return 200, {"data": [{"id": "org/llm", "owned_by": "vllm"}]}

    def chat(body: dict[str, Any]) -> Reply:
        assert (body["max_tokens"], body["top_logprobs"]) == (1, 20)
        likely = tops(body["messages"][-1]["content"])
        listed = [{"token": token, "logprob": value} for token, value in likely.items()]
        content = [{"token": "Yes", "logprob": -0.1, "top_logprobs": listed}]
        choice = {"message": {"content": "Yes"}, "finish_reason": "length", "logprobs": {"content": content}}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 1}}

    return {"/v1/models": models, "/v1/chat/completions": chat}


def by_length(asked: str) -> dict[str, float]:
    return {"Yes": math.log(0.3 + len(asked) % 7 / 20), " No": math.log(0.2), "no": math.log(0.05)}


def test_the_contract_of_a_judge_while_calls_fail(serve: Serve, solutions: list[State]) -> None:
    kinds: list[Fault] = ["500", "503", "429", "reset", "cut", "garbage", "choices", "usage"]
    served = serve(judge_routes(by_length), "openai:org/llm", Faults(0.3, kinds=kinds))
    check_verifier(served, MATH, solutions)
    assert served.name == "llm-judge"


def test_a_judge_is_read_at_yes_and_no(serve: Serve, solutions: list[State]) -> None:
    asked: list[str] = []

    def tops(text: str) -> dict[str, float]:
        asked.append(text)
        return {"Yes": math.log(0.6), " No": math.log(0.2)}

    state = solutions[0]
    (reply,) = ask(serve(judge_routes(tops), "openai:", parameters=10), [Score((state,), "s")])
    assert reply.scores == ((0.75,) * len(state.steps),)
    assert (reply.tokens, reply.flops) == (21 * len(state.steps), 420.0 * len(state.steps))
    assert len(asked) == len(state.steps)
    assert all(state.problem.question in text and state.steps[0].text in text for text in asked)
    silent = serve(judge_routes(lambda text: {"Maybe": -0.1}), "openai:")
    assert all(math.isnan(score) for score in scores(silent, [state])[0])
    with pytest.raises(ValueError, match="gives no likeliest tokens"):
        scores(serve(judge_routes(lambda text: {}), "openai:"), [state])


@pytest.mark.parametrize(
    ("status", "words", "nan"),
    [
        (400, "This model's maximum context length is 40 tokens. However, you requested 50 tokens.", True),
        (500, "Context size has been exceeded.", True),
        (200, "", True),
        (400, "jinja: 'x' is undefined in this context", False),
    ],
)
def test_a_text_that_a_judge_cannot_take_has_no_score_and_other_refusals_are_errors(
    serve: Serve, solutions: list[State], status: int, words: str, nan: bool
) -> None:
    served = serve(judge_routes(by_length), "openai:")
    filtered = {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}], "usage": {}}
    served.server.routes["/v1/chat/completions"] = lambda body: (
        status,
        {"error": {"message": words}} if words else filtered,
    )
    if nan:
        assert all(math.isnan(score) for score in scores(served, solutions[:1])[0])
    else:
        with pytest.raises(ServerRefused, match="jinja"):
            scores(served, solutions[:1])
    steps = len(solutions[0].steps)
    assert served.server.asked["/v1/chat/completions"] <= steps


@pytest.mark.parametrize(
    "entry", [{"data": "x"}, {"data": [["y"]]}, {"data": [[]]}, {"data": [[10**400]]}, {"data": 5}, {}, 5, None]
)
def test_outputs_that_are_none_fail_soon(serve: Serve, tiny: Tiny, solutions: list[State], entry: Any) -> None:
    served = serve(pooling_routes(by_prefix), f"pooling:{tiny('token-classification')}")
    before = served.server.asked["/pooling"]
    served.server.routes["/pooling"] = lambda body: (200, {"data": [entry]})
    with pytest.raises(ServerRefused, match="not what was asked for"):
        scores(served, solutions[:1])
    assert served.server.asked["/pooling"] == before + 4


def test_a_server_that_stays_down_fails_the_search_alone(serve: Serve, solutions: list[State]) -> None:
    served = serve(judge_routes(by_length), "openai:", patience=0.05)
    served.server.stop()
    with pytest.raises(ServerUnavailable, match=r"patience is 0\.05 s"):
        scores(served, solutions[:1])
    served.server.start()
    assert scores(served, solutions[:1])
    with pytest.raises(ValueError, match=r"no option 'timout'; did you mean 'timeout'\?"):
        load_verifier("openai:", MATH, base_url=served.server.url, timout=3)


def test_a_judge_compares_solutions_by_letters(serve: Serve, solutions: list[State]) -> None:
    """Both solutions are in one text, in order; what is said beside the letters does not count."""
    shown: list[str] = []

    def tops(text: str) -> dict[str, float]:
        shown.append(text)
        return {"A": math.log(0.2), " B": math.log(0.6), "Yes": math.log(0.2)}

    same = State(solutions[0].problem, solutions[0].steps[:1])
    served = serve(judge_routes(tops), "openai:", parameters=10)
    assert served.compares
    (reply,) = ask(served, [Score((solutions[0], same), "s", ((0, 1), (1, 0)))])
    assert reply.scores == ((0.25, 0.75), (0.25, 0.75))
    assert reply.flops == 20 * reply.tokens > 0
    first, second = (text.index("Solution A:") < text.index("Solution B:") and text for text in shown)
    assert first != second
    silent = serve(judge_routes(lambda text: {"Maybe": -0.1}), "openai:")
    (unread,) = ask(silent, [Score((solutions[0], same), "s", ((0, 1),))])
    assert all(map(math.isnan, unread.scores[0]))
    with pytest.raises(ValueError, match="1 solutions were to be compared; allowed: 2 to 20"):
        silent.submit(7, Score((same,), "t", ((0,),)))
