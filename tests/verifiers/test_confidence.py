"""Confidence without a model: the papers' equations by hand, and who is refused."""

import math
from dataclasses import replace

import pytest
import torch

from agent.search.engine import Engine, Task
from agent.strategies import BestOfN
from envs.core import Problem, State, Step
from envs.toy import Toy
from policies.core import Propose, Proposed
from policies.generation.confidence import certainty_of
from policies.generation.sampling import certainties
from policies.scripted import ScriptedPolicy
from policies.service import QueuedService
from verifiers.confidence import ConfidenceVerifier, Measure, NotRecorded, group_means
from verifiers.conformance import check_verifier
from verifiers.core import Score, Scored
from verifiers.ensemble import Ensemble
from verifiers.registry import load_verifier

TOY = Toy()
PROBLEM = TOY.read("14 with 1 3 7 10")


def state(*steps: Step, problem: Problem = PROBLEM) -> State:
    return State(problem, steps)


def said(*confidences: float, logprob: float = 0.0) -> Step:
    return Step("1 + 3 = 4", len(confidences), logprob, certainty=tuple((each, each / 10) for each in confidences))


def scores(verifier: ConfidenceVerifier, given: State) -> list[float]:
    verifier.submit(0, Score((given,)))
    ((_, reply),) = verifier.poll()
    if isinstance(reply, Exception):
        raise reply
    return list(reply.scores[0])


def test_a_token_has_the_confidence_and_the_entropy_of_its_distribution() -> None:
    """0.5, 0.25, 0.125, 0.125: of the two likeliest -(log 0.5 + log 0.25) / 2 = 1.5 log 2; a fourth is left."""
    logits = torch.tensor([[0.125, 0.5, 0.125, 0.25]]).log() + 3.0
    ((confidence, entropy),) = certainties(logits, 2)
    assert confidence == pytest.approx(1.5 * math.log(2))
    assert entropy == pytest.approx(1.5 * math.log(2))  # 0.5 * 1 + 0.25 * 2 + 0.25 * 2 bits
    ((whole, exact),) = certainties(logits, 0)
    assert whole == pytest.approx(9 / 4 * math.log(2) - math.log(4))  # self-certainty
    assert exact == pytest.approx(1.75 * math.log(2))
    for top in (1, 2, 3, 4):
        ((confidence, entropy),) = certainties(logits, top)
        assert certainty_of(logits.log_softmax(-1)[0].tolist(), top) == pytest.approx((confidence, entropy), abs=1e-6)
    assert certainties(torch.zeros(1, 8), 0)[0] == pytest.approx((0.0, math.log(8)), abs=1e-6)
    assert certainties(torch.tensor([[1000.0, 0.0]]), 2)[0] == pytest.approx((44.0, 0.0))


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        # groups of 2 after the first step: 10, 6; after the second: 10, 6, 4, 10, 16
        ("group", [6 / 88, 4 / 88]),
        ("bottom", [6 / 88, 4 / 88]),  # a tenth of five groups is one
        ("tail", [6 / 88, 16 / 88]),
        ("mean", [28 / 3 / 88, 60 / 6 / 88]),
        ("entropy", [math.exp(-28 / 30), math.exp(-60 / 60)]),
    ],
)
def test_the_measures_of_a_solution(measure: Measure, expected: list[float]) -> None:
    verifier = ConfidenceVerifier(TOY, measure=measure, window=2)
    assert scores(verifier, state(said(16, 4, 8), said(0, 20, 12))) == pytest.approx(expected, abs=1e-5)


def test_the_lowest_tenth_of_many_groups() -> None:
    values = [float(each) for each in range(20)]
    assert group_means([1.0, 2.0, 4.0], 2) == [1.5, 3.0]
    verifier = ConfidenceVerifier(TOY, measure="bottom", window=1)
    assert scores(verifier, state(said(*values))) == pytest.approx([0.5 / 88], abs=1e-5)  # of 0 and 1


def test_perplexity_needs_no_record() -> None:
    verifier = ConfidenceVerifier(TOY, measure="perplexity")
    assert verifier.top is None
    given = state(Step("a", 2, -1.0), Step("b", 2, -3.0))
    assert scores(verifier, given) == pytest.approx([math.exp(-0.5), math.exp(-1.0)], abs=1e-5)


def test_a_short_solution_is_one_group() -> None:
    verifier = ConfidenceVerifier(TOY, window=100)
    assert scores(verifier, state(said(16, 4, 8), said(0, 20, 12))) == pytest.approx([28 / 3 / 88, 10 / 88], abs=1e-5)


@pytest.mark.parametrize("measure", ["group", "tail", "mean", "entropy", "perplexity"])
def test_it_keeps_the_contract(measure: Measure) -> None:
    steps = (said(16, 4, 8, logprob=-1.5), said(3, logprob=-0.5), said(7, 9, logprob=-2.0))
    other = TOY.read("3 with 1 2")
    given = [state(*steps), state(*steps[:2], problem=other), state(*steps[1:], problem=other)]
    check_verifier(ConfidenceVerifier(TOY, measure=measure, window=2), TOY, given)


def test_the_engine_asks_the_policy_to_record() -> None:
    policy = ScriptedPolicy(TOY)
    engine = Engine(TOY, policy, load_verifier("confidence", TOY, measure="mean"))
    (graph,) = engine.run([Task(PROBLEM, BestOfN(4).search)])
    assert "error" not in graph.info
    node = graph.finished()[0]
    shares = [1 / len(TOY.options(graph.state(each))) for each in graph.path(node)[:-1]]
    assert len(set(shares)) > 1
    assert graph[node]["score"] > 0
    assert "certainty" not in graph[node]
    assert graph.state(node).steps[0].certainty


def test_who_cannot_tell_is_refused() -> None:
    class Silent(QueuedService[Propose, Proposed]):
        name, parameters = "silent", 0

    with pytest.raises(ValueError, match="this policy does not tell; the lab's, hf:, vllm: and openai: policies do"):
        Engine(TOY, Silent(), ConfidenceVerifier(TOY))
    Engine(TOY, Silent(), ConfidenceVerifier(TOY, measure="perplexity"))
    with pytest.raises(ValueError, match="without the log-probabilities of its likeliest tokens"):
        scores(ConfidenceVerifier(TOY), state(replace(said(1), certainty=())))


def test_a_request_without_confidences_fails_alone() -> None:
    verifier = ConfidenceVerifier(TOY)
    verifier.submit(0, Score((state(replace(said(1), certainty=())),)))
    verifier.submit(1, Score((state(said(44)),)))
    replies = dict(verifier.poll())
    assert isinstance(replies[0], NotRecorded)
    assert replies[1] == Scored(((0.5,),))
    assert verifier.poll() == []


def test_an_ensemble_reads_what_its_members_read() -> None:
    one, other = ConfidenceVerifier(TOY, top=5), ConfidenceVerifier(TOY, top=7)
    assert Ensemble([one, ConfidenceVerifier(TOY, measure="perplexity")]).top == 5
    with pytest.raises(ValueError, match=r"members read \[5, 7\] likeliest tokens"):
        Ensemble([one, other])
