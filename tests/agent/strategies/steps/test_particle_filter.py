"""Particle filtering: its equations by hand, its two ways to draw again, and what its pooled vote estimates."""

import math
import random
from collections import Counter

import pytest

from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.strategies.steps.particle_filter import ParticleFilter, effective, logit, resample, softmax
from envs.core import Problem
from policies.scripted import ScriptedPolicy
from tests.agent.strategies.test_strategies import Script, Tree, cutting, marked, texts, tree
from verifiers.table import TableVerifier


def test_shares_are_the_odds_of_the_scores() -> None:
    # odds 1, 3 and 4 of 8
    assert softmax([logit(0.5), logit(0.75), logit(0.8)]) == pytest.approx([1 / 8, 3 / 8, 4 / 8])
    assert effective([1 / 8, 3 / 8, 4 / 8]) == pytest.approx(64 / 26)
    assert softmax([-math.inf, 0.0]) == [0.0, 1.0]
    assert math.isfinite(logit(0.0))
    assert math.isfinite(logit(1.0))


def test_systematic_copies_are_the_expected_ones_rounded() -> None:
    """Of 4: 0.5, 1.5 and 2 are expected; a share of nothing is never drawn."""
    seen = set()
    for seed in range(200):
        picked = Counter(resample([1 / 8, 3 / 8, 0.0, 4 / 8], 4, "systematic", random.Random(seed)))
        assert (picked[0], picked[1]) in {(0, 2), (1, 1)}
        assert (picked[2], picked[3]) == (0, 2)
        seen.add((picked[0], picked[1]))
    assert len(seen) == 2


def test_multinomial_draws_are_independent() -> None:
    """The variance of copies is n p (1 - p): 0.9375 for n = 4, p = 3 / 8; that of systematic ones is 0.25."""
    shares, n = [1 / 8, 3 / 8, 0.0, 4 / 8], 4

    def copies(how: str) -> list[int]:
        return [resample(shares, n, how, random.Random(seed)).count(1) for seed in range(2000)]  # type: ignore[arg-type]

    def variance(numbers: list[int]) -> float:
        mean = sum(numbers) / len(numbers)
        return sum((each - mean) ** 2 for each in numbers) / len(numbers)

    for how, expected in (("multinomial", 0.9375), ("systematic", 0.25)):
        drawn = copies(how)
        assert sum(drawn) / len(drawn) == pytest.approx(1.5, abs=0.05)
        assert variance(drawn) == pytest.approx(expected, abs=0.08)


def test_annealing_is_the_formula() -> None:
    """4 particles with odds 99, 1, 1, 1 have an ESS of 102^2 / 9804 = 1.0612, T = 4 / ESS * (1 - 1 / 4) = 2.827."""
    logs = [math.log(99), 0.0, 0.0, 0.0]
    size = 102**2 / (99**2 + 3)
    temperature = 4 / size * 0.75
    flat = 99 ** (1 / temperature)
    method = ParticleFilter(4, anneal=True)
    assert method.shares(logs, 0.25) == pytest.approx([flat / (flat + 3), *[1 / (flat + 3)] * 3])
    assert method.shares(logs, 0.5) == softmax(logs)  # late
    assert method.shares([0.1, 0.0, 0.0, 0.0], 0.25) == softmax([0.1, 0.0, 0.0, 0.0])  # diverse enough
    assert ParticleFilter(4).shares(logs, 0.25) == softmax(logs)


def test_a_particle_of_all_the_weight_has_all_the_copies() -> None:
    graph = tree()
    script = Script(
        {"": "a! b c dx", "b": "e! f! g! h!"},
        {"a!": 0.0, "b": 1.0, "c": 0.0, "e!": 0.9, "f!": 0.5, "g!": 0.75, "h!": 0.5},
    )
    script.drive(graph, ParticleFilter(4).search(graph))
    assert script.drawn() == [[4], [4]]
    assert marked(graph, "pruned") == {"a!", "c"}
    # odds 9, 1, 3 and 1 of 14, in all 0.9 + 0.5 + 0.75 + 0.5 = 2.65
    weights = {graph[node]["text"]: graph[node]["weight"] for node in graph.finished()}
    assert weights == pytest.approx({"e!": 2.65 * 9 / 14, "f!": 2.65 / 14, "g!": 2.65 * 3 / 14, "h!": 2.65 / 14})
    assert graph.tally(ParticleFilter().vote)[0].answer == "e!"


def test_without_drawing_again_every_particle_goes_on() -> None:
    graph = tree()
    script = Script({"": "a b", "a": "c!", "b": "d!"}, {"a": 0.9, "b": 0.1, "c!": 0.5, "d!": 0.75})
    script.drive(graph, ParticleFilter(2, ess=0.0).search(graph))
    assert texts(graph, graph.finished()) == ["a c!", "b d!"]
    assert [graph[node]["weight"] for node in graph.finished()] == pytest.approx([1.25 / 4, 3.75 / 4])


def test_a_finished_particle_is_drawn_again_and_draws_nothing() -> None:
    graph = tree()
    script = Script({"": "a! b", "b": "c! d!"}, {"a!": 1.0, "b": 0.0, "c!": 0.5, "d!": 0.5})
    script.drive(graph, ParticleFilter(2).search(graph))
    assert script.drawn() == [[2]]
    assert texts(graph, graph.finished()) == ["a!"]
    assert graph[graph.finished()[0]]["weight"] == pytest.approx(2.0)


def test_what_fails_weighs_nothing() -> None:
    graph = tree()
    Script({"": "ax bx"}, {}).drive(graph, ParticleFilter(2).search(graph))
    assert graph.finished() == []


def test_a_particle_that_ended_and_is_cut_is_not_drawn_again() -> None:
    """Odds 1 and 1, so that nothing is drawn again; then a! is cut, and c has odds 1 / 9."""
    graph = tree()
    script = Script({"": "a! b", "b": "c", "b c": "d!"}, {"a!": 0.5, "b": 0.5, "c": 0.1, "d!": 0.5})
    script.drive(graph, cutting(graph, ParticleFilter(2).search(graph), 2, "a!"))
    assert script.drawn() == [[2], [1], [2]]
    assert texts(graph, graph.finished()) == ["b c d!"]


SCORES = {("a",): 0.8, ("b",): 0.3, ("a", "c!"): 0.4, ("a", "d!"): 0.6, ("b", "c!"): 0.5, ("b", "d!"): 0.75}
STEPS = {"": {"a": 1.0, "b": 3.0}, "a": {"c!": 1.0, "d!": 1.0}, "b": {"c!": 2.0, "d!": 1.0}}


def _shares(method: ParticleFilter, runs: int) -> float:
    """The mean share of the vote of the answer c!."""
    environment = Tree()
    policy = ScriptedPolicy(environment, lambda state: STEPS[" ".join(state.texts)])
    engine = Engine(environment, policy, TableVerifier(environment, lambda state: SCORES[state.texts]))
    total = 0.0
    tasks = [Task(Problem(str(run), str(run)), method.search) for run in range(runs)]
    for graph in engine.run(tasks):
        groups = {group.answer: group.weight for group in graph.tally(method.vote)}
        total += groups.get("c!", 0.0) / sum(groups.values())
    return total / runs


@pytest.mark.parametrize(
    "method",
    [
        ParticleFilter(64, exact=True),
        ParticleFilter(64, exact=True, resampling="multinomial", ess=0.9),
        ParticleFilter(64, exact=True, ess=0.0),
        ParticleFilter(64, exact=True, anneal=True),
    ],
    ids=["systematic", "multinomial", "never", "annealed"],
)
def test_the_exact_vote_is_that_of_the_target_however_it_is_drawn(method: ParticleFilter) -> None:
    """P(x) w(x): a c! 1/8 * 2/3, a d! 1/8 * 3/2, b c! 1/2 * 1, b d! 1/4 * 3."""
    c, d = 1 / 8 * 2 / 3 + 1 / 2, 1 / 8 * 3 / 2 + 3 / 4
    assert _shares(method, 60) == pytest.approx(c / (c + d), abs=0.03)


def test_the_paper_multiplies_the_weights_of_all_steps() -> None:
    """Each path also has the odds of its first step: 4 for a, 3/7 for b."""
    c, d = 4 * 1 / 8 * 2 / 3 + 3 / 7 * 1 / 2, 4 * 1 / 8 * 3 / 2 + 3 / 7 * 3 / 4
    assert _shares(ParticleFilter(64), 60) == pytest.approx(c / (c + d), abs=0.03)


def test_weights_are_saved() -> None:
    graph = tree()
    script = Script({"": "a! b!"}, {"a!": 0.9, "b!": 0.5})
    script.drive(graph, ParticleFilter(2).search(graph))
    graph.info["environment"] = "tree"
    again = SearchGraph.from_json(graph.to_json(), Tree())
    assert [again[node]["weight"] for node in again.finished()] == [graph[n]["weight"] for n in graph.finished()]
