"""Online planning and allocation: what is worth its price is done, and nothing else; replays are what searches do."""

import json
import random
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import agent.planning.plan_file
from agent.interface.cli import main
from agent.interface.tree_view import status_row
from agent.planning.decision import decide, offer
from agent.planning.features import FEATURES, Answer, Evidence
from agent.planning.fit_online import MeanEnd, chosen
from agent.planning.online import OnlineSearch
from agent.planning.plan_file import Action, Calibration, Online, Opening, calibration_of, plan_name
from agent.planning.planner import Planner
from agent.planning.recorded_runs import (
    Arm,
    Recorded,
    Replay,
    Run,
    drawn_distinct,
    read_runs,
    sharing,
    sweep,
    with_reads,
)
from agent.planning.regression import logit
from agent.search.budget import Budget
from agent.search.context import RunContext
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.shared_budget import Allocation, Bid, Offer, Spent, best_offer
from agent.search.solution import Solution
from agent.solver import Solver
from agent.strategies import BestOfN, Dvts, Greedy
from envs.arithmetic import Arithmetic
from envs.core import Problem
from envs.countdown import Countdown
from envs.messages import UsageError
from envs.toy import Toy
from policies.backends.lab import LabPolicy
from policies.core import Propose
from policies.registry import WEIGHTS
from policies.scripted import ScriptedPolicy
from policies.training.jsonl_log import JsonlLog
from verifiers.symbolic import SymbolicVerifier
from verifiers.table import TableVerifier
from verifiers.voting import Vote

TOY = Toy()
PROBLEM = TOY.read("14 with 1 3 7 10")
FLAT = (0.0,) * len(FEATURES)


def constant(p: float) -> tuple[float, ...]:
    """Coefficients that say p whatever the state."""
    return (logit(p), *FLAT[1:])


def fit(*moves: Action, now: float = 0.5, price: float = 0.0, opening: int = 0) -> Online:
    return Online(moves, constant(now), 100.0, 60.0, {16: Opening(opening, price, 16)})


SAMPLE = Action("majority", 2, {}, 80.0, 1.0, 0.3, constant(0.51))
SCORED = Action("best-of-n", 2, {}, 200.0, 1.0, 0.4, constant(0.55))
DVTS = Action("dvts", 4, {"branch": 2}, 400.0, 1.0, 0.5, constant(0.6))


def run(online: Online, n: int = 16, problem: Problem = PROBLEM, **more: Any) -> SearchGraph:
    planner = Planner(n, calibration=Calibration("scripted", "table", "toy", online=online), **more)
    engine = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    (graph,) = engine.run([Task(problem, planner.search, Budget(samples=n), vote=planner.vote)])
    assert "error" not in graph.info, graph.info["error"]
    return graph


# ------------------------------------------------------------------------------------------------------ abstaining


def test_the_planner_gives_up_where_no_action_reaches_what_is_asked_for() -> None:
    hopeless = run(fit(SAMPLE, DVTS, now=0.5), abstain=0.7)  # the best action is expected to reach 0.6
    assert hopeless.info["plan"]["abstained"]
    assert hopeless.info["plan"]["samples"] == SAMPLE.n
    assert "no action is expected to make it right with probability 0.7" in hopeless.info["plan"]["reasons"][-1]
    assert hopeless.info["answer"] is not None  # the best guess
    solution = Solution.of(hopeless)
    assert solution.abstained
    assert solution.to_json()["abstained"]


def test_it_goes_on_where_an_action_may_reach_it_and_abstains_in_the_end() -> None:
    hopeful = run(fit(SAMPLE, DVTS, now=0.5), n=6, abstain=0.55)
    plan = hopeful.info["plan"]
    assert plan["samples"] == 6
    assert plan["abstained"]
    assert "gave up" not in plan["reasons"][-1]


@pytest.mark.parametrize("abstain", [0.0, 0.5])
def test_it_does_not_abstain_where_the_answer_is_as_sure_as_asked_for(abstain: float) -> None:
    sure = run(fit(SAMPLE, now=0.6, price=1.0), abstain=abstain)
    assert not sure.info["plan"].get("abstained")
    assert not Solution.of(sure).abstained


def test_who_does_not_abstain_is_not_asked_what_is_hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("agent.planning.online.hopeless")
    assert run(fit(SAMPLE, DVTS, now=0.5)).info["plan"]["samples"] == 16


def test_abstaining_needs_a_plan() -> None:
    planner = Planner(8, abstain=0.5, calibration=Calibration("scripted", "table", "toy"))
    (graph,) = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY)).run([Task(PROBLEM, planner.search)])
    assert "'stepwell calibrate' fits one" in graph.info["error"]


# ------------------------------------------------------------------------------------------------------- evidence


def test_features_by_hand() -> None:
    evidence = Evidence(4, 8.0, True, [Answer(3, 1.6, 0.8), Answer(1, 0.4, 0.4)])
    assert evidence.agreement == 0.75
    assert evidence.share == pytest.approx(0.8)
    assert dict(zip(FEATURES, evidence.features, strict=True)) == pytest.approx(
        {
            "constant": 1.0,
            "log samples": 1.6094379,
            "log searched": 2.1972246,
            "scored": 1.0,
            "answered": 1.0,
            "agreement": 0.8472979,  # (3.5 / 5) against (1.5 / 5)
            "lead": 1.2992829,  # 1.65 against 0.45
            "best score": 1.3862944,
            "prior": 0.0,
        }
    )
    assert Evidence().features == (1.0, *FLAT[1:])


# ---------------------------------------------------------------------------------------------------------- ways


def test_the_best_way_is_worth_most_at_its_price() -> None:
    ways = [Offer(0.1, 4, 100.0), Offer(0.12, 8, 200.0), Offer(-0.1, 1, 1.0)]
    assert best_offer(ways, 0.0) == 1
    assert best_offer(ways, 0.0005) == 0  # 0.05 against 0.02
    assert best_offer(ways, 0.001) is None
    assert best_offer([], 0.0) is None


def test_it_begins_with_the_opening_and_stops_when_nothing_is_worth_its_price() -> None:
    graph = run(fit(SAMPLE, SCORED, DVTS, price=1.0))
    plan = graph.info["plan"]
    assert graph[0]["drawn"] == 2
    assert graph.info["spent"]["verifier_calls"] == 0
    assert plan["samples"] == 2
    assert plan["probability"] == 0.5
    begun, stopped = plan["reasons"]
    assert begun == "first: majority, 2 samples (the best first action at a budget of 16)"
    assert stopped.startswith("stopped: ")
    assert stopped.endswith("no further sampling is worth its cost")
    json.dumps(plan)


def test_it_acts_while_something_is_worth_its_price_and_the_budget_allows() -> None:
    free = run(fit(SAMPLE, SCORED, DVTS))
    assert free.info["plan"]["samples"] == 16  # 2, then three times DVTS, then what still fits
    assert [reason.partition(" (")[0] for reason in free.info["plan"]["reasons"][1:-1]] == [
        *["then: dvts branch=2, 4 samples"] * 3,
        "then: best-of-n, 2 samples",
    ]
    assert "; expected gain 10.0 points, at the cost of 4.0 scored samples" in free.info["plan"]["reasons"][1]
    # at 0.02 a scored sample, DVTS (0.1 for 4) is worth 0.02, and more scored samples (0.03 for 2) are not
    dear = run(fit(SAMPLE, replace(SCORED, right=constant(0.53)), DVTS, price=0.02))
    assert dear.info["plan"]["samples"] == 14
    assert run(fit(SAMPLE, replace(DVTS, right=constant(0.5)))).info["plan"]["samples"] == 16
    assert free.info["plan"]["reasons"][-1].endswith("; the budget is spent")
    sure = run(fit(DVTS, now=0.6)).info["plan"]
    assert sure["samples"] == 4
    assert sure["reasons"][-1].endswith("; no further sampling is expected to help")
    short = fit(SAMPLE, SCORED, DVTS)
    short = replace(short, openings={16: replace(short.opening(16)[1], stride=3)})
    assert not any("dvts" in reason for reason in run(short).info["plan"]["reasons"])


def test_a_leading_answer_that_nothing_has_scored_is_drawn_without_a_share() -> None:
    def drawn(*moves: Action) -> str:
        graph = run(fit(*moves, price=1.0), problem=TOY.read("12 with 1 6 10"))
        return "".join(text for text, _ in status_row(graph, 1.0))

    assert re.match(r"leading: \d+  2.0 of 16 samples", drawn(SAMPLE))
    assert re.match(r"leading: \d+ \(\d+%\)  2.0 of 16 samples", drawn(SCORED))


def test_moves_for_the_same_reason_are_told_once() -> None:
    environment = Countdown()
    single = replace(SAMPLE, n=1, right=(logit(0.5), -0.1, *FLAT[2:]))
    planner = Planner(16, calibration=Calibration("scripted", "symbolic", "countdown", online=fit(single, now=0.1)))
    engine = Engine(environment, ScriptedPolicy(environment), SymbolicVerifier(environment))
    task = Task(environment.read("make 24 from 1 3 4 6"), planner.search, Budget(samples=16), vote=planner.vote)
    (graph,) = engine.run([task])
    assert graph.info["answer"] is None  # there is one way, and the careless player misses it
    begun, went, stopped = graph.info["plan"]["reasons"]
    assert begun.startswith("first: majority, 1 sample (")
    gain = r"expected gain 38\.\d to 3\d\.\d points, at the cost of 0\.8 scored samples"
    assert re.fullmatch(
        rf"then 15 times: majority, 1 sample \(no answer yet, right with probability 0\.10; {gain}\)", went
    )
    assert stopped.endswith("; the budget is spent")


def test_unscored_samples_make_best_of_n_dearer() -> None:
    graph = SearchGraph(TOY, PROBLEM)
    search = OnlineSearch(graph, fit(SAMPLE, SCORED), 16, 1.0, Vote())
    engine = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    costs = []

    def steps(graph: SearchGraph) -> Any:
        search.graph = graph
        yield from search.make(SAMPLE, 2)
        costs.append(offer(search.fit, search, search.evidence(), SCORED).flops)
        yield from search.make(SCORED, 2)
        costs.append(offer(search.fit, search, search.evidence(), SCORED).flops)

    (graph,) = engine.run([Task(PROBLEM, steps)])
    ended = sum(graph.status(node) == "terminated" for node in search.plain[:2])
    assert costs == [200.0 + 60.0 * ended, 200.0]
    evidence = search.evidence()
    assert evidence.plain == 4
    assert evidence.scored
    assert sum(answer.plain for answer in evidence.answers) == sum(g.count for g in graph.tally(Vote()))


def test_what_an_earlier_round_found_keeps_its_vote() -> None:
    graph = run(fit(DVTS))
    alone = [node for node in graph.graph if graph.status(node) == "terminated" and graph.count(node)]
    first = SearchGraph(TOY, PROBLEM)
    engine = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    (first,) = engine.run([Task(PROBLEM, Dvts(4, 2).search)])
    texts = {graph.state(node).texts for node in graph.finished()}
    assert {first.state(node).texts for node in first.finished()} <= texts
    assert len(texts) <= len(alone)


def test_one_sample_leaves_nothing_to_choose() -> None:
    graph = run(fit(DVTS), n=1)
    assert graph.samples() == 1
    assert graph.info["spent"]["verifier_calls"] == 0
    assert texts(graph) == texts(decoded())


def texts(graph: SearchGraph) -> set[tuple[str, ...]]:
    return {graph.state(node).texts for node in graph.finished()}


def decoded() -> SearchGraph:
    graph: SearchGraph
    (graph,) = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY)).run([Task(PROBLEM, Greedy().search)])
    return graph


def test_greedy_decoding_is_a_way_to_begin_and_none_to_go_on() -> None:
    greedy, scored = Action("greedy", 1, {}, 40.0), Action("best-of-n", 1, {"temperature": 0.0}, 100.0)
    for move, calls in ((greedy, 0), (scored, 1)):
        graph = run(fit(move, now=0.9))  # surer of what it has than of anything to come
        assert texts(graph) == texts(decoded())
        assert graph.info["plan"]["samples"] == 1
        assert graph.info["spent"]["verifier_calls"] == calls
    graph = run(fit(greedy, scored, DVTS))
    assert graph.info["plan"]["reasons"][0].startswith("first: greedy, 1 sample (")
    assert not any("greedy" in reason or "temperature" in reason for reason in graph.info["plan"]["reasons"][1:])
    assert graph.info["plan"]["samples"] == 13


def test_what_competes_is_made_as_often_as_it_was_tried() -> None:
    graph = run(fit(SAMPLE, replace(DVTS, repeats=2)))
    assert sum("dvts" in reason for reason in graph.info["plan"]["reasons"]) == 2
    assert graph.info["plan"]["samples"] == 16  # the rest is spent otherwise


def test_a_few_flops_buy_the_opening_of_a_few_samples() -> None:
    online = replace(
        fit(DVTS, Action("greedy", 1, {}, 40.0), now=0.9), openings={1: Opening(1, 0, 1), 16: Opening(0, 0, 16)}
    )
    planner = Planner(64, calibration=Calibration("scripted", "table", "toy", online=online))
    for flops, begun in (
        (110.0, "greedy, 1 sample"),
        (1600.0, "dvts branch=2, 4 samples"),
    ):  # a scored sample takes 100
        context = RunContext("scripted", verifier="table", budget=Budget(flops=flops))
        graph = SearchGraph(TOY, PROBLEM, context=context)
        next(planner.search(graph))
        assert graph.info["plan"]["reasons"][0].startswith(f"first: {begun} (")


def test_an_opening_saves_flops_but_hardly_loses_accuracy() -> None:
    most, near, poor = Opening(0, 0.0, 16), Opening(0, 0.002, 16), Opening(0, 0.016, 1)

    def end(accuracy: float, cost: float) -> MeanEnd:
        return MeanEnd(accuracy, cost, 0.0, 0.0)

    ends = {most: end(0.44, 4e9), near: end(0.436, 3.5e9), poor: end(0.43, 1e9)}
    assert chosen(ends) is most  # an eighth less is not worth 0.4 points
    assert chosen(ends | {near: end(0.436, 1e9)}) is near  # but three quarters less are; not 1.0
    assert chosen({most: end(0.44, 4e9), poor: end(0.44, 1e9)}) is poor


# --------------------------------------------------------------------------------------------------------- replays


def test_replays_count_as_searches_do(tmp_path: Path) -> None:
    """A search put together of recorded runs leads to the same answer and cost as one that runs them itself."""
    arms = (
        Arm("best-of-n", 8),
        Arm("dvts", 2, 3, {"branch": 2}, parts=True),
        Arm("best-of-n", 1, 1, {"temperature": 0.0}),
    )
    problems = TOY.problems("calibration", 6)
    engine = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    with JsonlLog(tmp_path / "runs.jsonl", {}) as results:
        sweep(engine, arms, problems, results)
        rows = list(results.rows)
        sweep(engine, arms, problems, results)
        assert results.rows == rows  # nothing is run twice
    runs = read_runs(rows, arms, problems, TOY)
    for problem, recorded in zip(problems, runs, strict=True):
        (graph,) = engine.run([Task(problem, BestOfN(8).search, vote=Vote())])
        replay = Replay(recorded, arms, random.Random(0)).make(Action("best-of-n", 8, {}))
        evidence, right = replay.look()
        groups = graph.tally(Vote())
        assert right == bool(graph.correct())
        assert [answer.plain for answer in evidence.answers] == [group.count for group in groups]
        assert [answer.weight for answer in evidence.answers] == pytest.approx([g.weight for g in groups], abs=1e-3)
        assert [answer.best for answer in evidence.answers] == pytest.approx([g.score for g in groups], abs=1e-3)
        assert recorded.pass_at_1 * 8 == sum(g.count for g in groups if TOY.check(problem, g.answer))
        assert replay.flops == pytest.approx(sum(run.flops for run in recorded.runs["best-of-n n=8"]))
        assert not replay.can(Action("greedy", 1, {}))
        (graph,) = engine.run([Task(problem, Greedy().search)])
        replay = Replay(recorded, arms, random.Random(0))
        assert replay.can(Action("greedy", 1, {}))
        twin = replay.copy().make(Action("greedy", 1, {}))
        assert twin.look()[1] == bool(graph.correct())
        assert (twin.spent, twin.flops) == (1, graph.info["spent"]["policy_flops"] or graph.info["spent"]["generated"])
        assert replay.make(Action("best-of-n", 1, {"temperature": 0.0})).look()[0].scored
        assert replay.flops > twin.flops
        assert replay.can(Action("best-of-n", 8, {}))


def test_samples_without_replacement_are_replayed_in_the_order_they_were_drawn(tmp_path: Path) -> None:
    environment = Arithmetic(levels=(3,))
    arms = (Arm("best-of-n", 4), Arm("best-of-n", 6, 2, {"distinct": True, "temperature": 0.5}))
    problems = environment.problems("calibration", 3)
    policy = LabPolicy(WEIGHTS / "arithmetic-s", environment, device="cpu")
    engine = Engine(environment, policy, SymbolicVerifier(environment))
    with JsonlLog(tmp_path / "runs.jsonl", {}) as results:
        sweep(engine, arms, problems, results, seed=5)
        runs = read_runs(results.rows, arms, problems, environment)
    one, whole = sum(each.sample_flops for each in runs), 0.0
    for problem, recorded, drawn in zip(problems, runs, drawn_distinct(runs, arms[1]), strict=True):
        for run, order in enumerate(drawn.orders):
            task = Task(problem, BestOfN(6, 0.5, distinct=True).search, seed=5 + 1 + run)
            (graph,) = engine.run([task])
            ends = [node for node in graph.graph if not graph.children(node)]
            assert len(ends) == 6
            assert [graph.status(node) == "terminated" for node in ends] == [sample is not None for sample in order]
            right = [
                graph.status(node) == "terminated" and environment.check(problem, graph[node]["answer"])
                for node in ends
            ]
            assert right == [sample is not None and sample[0] in recorded.right for sample in order]
        replay = Replay(drawn, arms, random.Random(0)).make(Action("majority", 6, {}))
        assert replay.samples() in [list(order) for order in drawn.orders]
        assert replay.flops == pytest.approx(sum(each.policy_flops for each in recorded.runs[arms[1].name]) / 2)
        parts = [Replay(drawn, arms, random.Random(0)).make(Action("majority", n)).flops for n in (1, 2)]
        assert parts[0] < parts[1] < 2 * parts[0]  # they share what they begin with
        twice = Replay(drawn, arms, random.Random(0)).make(Action("majority", 1, {})).make(Action("majority", 1, {}))
        assert twice.flops == pytest.approx(parts[1])
        assert twice.before(Action("majority", 1, {})) == 2
        whole += replay.flops
        overlap = drawn.overlap
    assert 6**overlap * one == pytest.approx(whole)


def test_a_plan_fitted_to_draws_without_replacement_makes_them_if_the_policy_can() -> None:
    class Drawing(ScriptedPolicy):
        distinct = True

        def __init__(self) -> None:
            super().__init__(TOY)
            self.asked: list[tuple[float, bool]] = []

        def submit(self, ticket: int, request: Propose) -> None:
            self.asked.append((request.temperature, request.distinct))
            super().submit(ticket, request)

    online = replace(fit(Action("greedy", 1, {}, 20.0, 1.0, 0.2), SAMPLE, DVTS), distinct=0.3)
    planner = Planner(16, calibration=Calibration("scripted", "table", "toy", online=online))
    policy = Drawing()
    (graph,) = Engine(TOY, policy, TableVerifier(TOY)).run([Task(PROBLEM, planner.search, Budget(samples=16))])
    assert "error" not in graph.info
    assert policy.asked[0] == (0.0, False)
    assert set(policy.asked[1:]) == {(1.0, False), (0.3, True)}  # DVTS's, and these
    reasons = run(online).info["plan"]["reasons"]
    assert reasons[0] == "samples are drawn with replacement; the plan was fitted to draws without replacement"


def test_a_replay_spends_what_was_recorded() -> None:
    runs = {"best-of-n n=4": [Run((), 4.0, 8.0)], "dvts branch=2 n=2": [Run(((1, 0.5, 1),), 2.0, 3.0)] * 2}
    arms = (Arm("best-of-n", 4), Arm("dvts", 2, 2, {"branch": 2}, parts=True))
    recorded = Recorded("p", "?", frozenset({1}), ((0, 0.2), (0, 0.3), (1, 0.4), None), runs, 1.0, 2.0)
    replay = Replay(recorded, arms, random.Random(0)).make(Action("majority", 4, {}))
    evidence, right = replay.look()
    assert (evidence.plain, evidence.scored, evidence.agreement, right) == (4, False, 0.5, False)
    assert (replay.flops, replay.unscored) == (4.0, 4)
    twin = replay.copy().make(Action("best-of-n", 0, {}))
    assert (twin.flops, twin.look()[1]) == (12.0, False)  # 0.5 against 0.4
    twin.make(Action("dvts", 4, {"branch": 2}))
    assert (twin.flops, twin.look()[1], twin.spent) == (22.0, True, 8)
    assert not twin.can(Action("dvts", 2, {"branch": 2}))
    assert replay.can(Action("dvts", 4, {"branch": 2}))
    assert not replay.can(Action("dvts", 6, {"branch": 2}))
    assert not replay.can(Action("dvts", 2, {"branch": 4}))
    assert not replay.can(Action("majority", 1, {}))
    assert replay.spent == 4


def test_what_parts_share_is_measured_and_paid_once() -> None:
    """Four parts cost 4 each alone, and the whole of them 8: the exponent is 1/2."""
    arms = (Arm("dvts", 2, 4, {"branch": 2}, parts=True), Arm("dvts", 8, 1, {"branch": 2}))
    runs = {arms[0].name: [Run((), 3.0, 1.0)] * 4, arms[1].name: [Run((), 6.0, 2.0)]}
    recorded = Recorded("p", "?", frozenset(), (), runs, 1.0, 1.0)
    assert sharing(arms[0], arms, [recorded]) == pytest.approx(0.5)
    assert sharing(arms[0], arms[:1], [recorded]) == 1.0
    replay = Replay(replace(recorded, sharing={arms[0].name: 0.5}), arms, random.Random(0))
    replay.make(Action("dvts", 2, {"branch": 2}))
    assert (replay.flops, replay.before(Action("dvts", 1, {"branch": 2}))) == (4.0, 2)
    assert replay.make(Action("dvts", 6, {"branch": 2})).flops == pytest.approx(8.0)
    move = replace(DVTS, n=2, flops=4.0, sharing=0.5)
    assert move.flops_after(0) == 4.0
    assert move.flops_after(6) == pytest.approx(8.0 - 4.0 * 3**0.5)
    assert replace(DVTS, n=8, flops=8.0, sharing=0.5).flops_after(0) == 8.0


# -------------------------------------------------------------------------------------------------- memory traffic


def test_each_round_reads_the_weights_anew_and_its_samples_share_them() -> None:
    arms = (
        Arm("best-of-n", 4),
        Arm("best-of-n", 1, 1, {"temperature": 0.0}),
        Arm("dvts", 2, 4, {"branch": 2}, parts=True),
        Arm("dvts", 8, 1, {"branch": 2}),
    )
    reads = [(130.0, 44.0), (100.0, 20.0), (30.0, 20.0), (50.0, 30.0)]  # of policy and verifier
    runs = {arm.name: [Run((), 0.0, 0.0, (), *each)] * arm.repeats for arm, each in zip(arms, reads, strict=True)}
    (recorded,) = with_reads([Recorded("p", "?", frozenset(), (None,) * 4, runs, 0.0, 0.0)], arms)
    # three samples more add 30 % and 120 % of what one reads, three subtrees more 60 %
    shares = {"policy": 0.1, "verifier": 0.4, "dvts branch=2 n=2": 0.2}
    assert recorded.further == pytest.approx(shares)
    assert (recorded.sample_reads, recorded.score_reads) == pytest.approx((100.0, 20.0))
    replay = Replay(recorded, arms, random.Random(0)).make(Action("majority", 2))
    assert replay.reads == pytest.approx(110.0)
    assert replay.copy().make(Action("majority", 2)).reads == pytest.approx(2 * 110.0)
    scored = replay.copy().make(Action("best-of-n", 1))
    assert scored.reads == pytest.approx(110.0 + 100.0 + 20.0 * 1.8)  # one more sample, and the scores of three
    assert scored.cost == pytest.approx(562.5 * scored.reads)
    replay.make(Action("dvts", 4, {"branch": 2}))
    assert replay.reads == pytest.approx(110.0 + 50.0 + 10.0)
    replay.make(Action("dvts", 2, {"branch": 2}))
    assert replay.reads == pytest.approx(170.0 + 50.0)
    greedy = Replay(recorded, arms, random.Random(0))
    assert greedy.copy().make(Action("greedy", 1)).reads == 100.0
    assert greedy.make(Action("best-of-n", 1, {"temperature": 0.0})).reads == 120.0
    with pytest.raises(UsageError, match="need a run of one sample"):
        with_reads([recorded], arms[:1])


DEEP = replace(DVTS, right=constant(0.6), reads=4.0)  # in many rounds, of 400 FLOPs
WIDE = Action("majority", 8, {}, 800.0, 1.0, 0.3, constant(0.6), reads=1.0)  # in one
TRAFFIC: dict[str, Any] = {"currency": "flop-equivalents", "sample_reads": 1.0, "score_reads": 0.5}


def test_a_plan_in_flop_equivalents_draws_at_once_what_a_plan_in_flops_draws_in_rounds() -> None:
    """A scored sample takes 100 FLOPs, or 662.5 FLOP-equivalents."""
    flops = fit(SAMPLE, DEEP, WIDE, price=0.005)
    said = run(flops, n=10).info["plan"]["reasons"]
    assert said[1].startswith("then: dvts branch=2, 4 samples (")
    assert "at the cost of 4.0 scored samples" in said[1]
    said = run(replace(flops, **TRAFFIC), n=10).info["plan"]["reasons"]
    assert said[0] == "costs are in FLOP-equivalents, which charge memory traffic beside FLOPs"
    assert said[2].startswith("then: majority, 8 samples (")
    assert "at the cost of 2.1 scored samples" in said[2]  # (800 + 562.5) / 662.5; DVTS takes 4.0 of them
    assert replace(flops, **TRAFFIC).sample_cost == 662.5


def test_scoring_what_has_no_scores_reads_keys_and_values_alone() -> None:
    class Drawn:
        unscored = 2

        def before(self, action: Action) -> float:
            return 0.0

        def can(self, action: Action) -> bool:
            return True

    online = replace(fit(SAMPLE, SCORED), **TRAFFIC)
    made = [offer(online, Drawn(), Evidence(2), replace(action, reads=3.0)) for action in (SAMPLE, SCORED)]
    assert [(each.flops, each.reads) for each in made] == [(80.0, 3.0), (320.0, 4.0)]
    assert [each.cost("flop-equivalents") for each in made] == [80 + 3 * 562.5, 320 + 4 * 562.5]
    assert [each.cost("flops") for each in made] == [80.0, 320.0]
    # the rule of live searches and of replays goes by the currency of the plan
    flops = fit(DEEP, WIDE)
    chosen = [
        decide(plan, Drawn(), Evidence(2), 8, 0.005 / plan.sample_cost) for plan in (flops, replace(flops, **TRAFFIC))
    ]
    assert chosen == [DEEP, WIDE]


def test_a_budget_in_flops_limits_flops_whatever_the_plan_is_priced_in() -> None:
    openings = {1: Opening(1, 0, 1), 16: Opening(0, 0, 16)}
    online = replace(fit(DVTS, Action("greedy", 1, {}, 40.0)), openings=openings, **TRAFFIC)
    planner = Planner(64, calibration=Calibration("scripted", "table", "toy", online=online))
    context = RunContext("scripted", verifier="table", budget=Budget(flops=1600.0))  # 16 samples of 100 FLOPs
    graph = SearchGraph(TOY, PROBLEM, context=context)
    next(planner.search(graph))
    priced, first = graph.info["plan"]["reasons"]
    assert priced.endswith("beside FLOPs; the budget limits FLOPs alone")
    assert first.startswith("first: dvts branch=2, 4 samples (")
    # and where a total in FLOPs is shared, FLOPs have the price
    bids = [Bid((Offer(0.3, 4, 10.0, reads=1000.0),)), Bid((Offer(0.1, 4, 10.0),))]
    assert Allocation(Budget(flops=12.0)).decide(bids, Spent(0.0, 0.0)) == [0, None]


@pytest.mark.parametrize("part", ["policy", "verifier"])
def test_a_sweep_whose_memory_traffic_is_not_known_ends_at_its_first_run(tmp_path: Path, part: str) -> None:
    policy = ScriptedPolicy(TOY, parameters=0 if part == "policy" else 1000)
    engine = Engine(TOY, policy, TableVerifier(TOY, parameters=0 if part == "verifier" else 1000))
    with JsonlLog(tmp_path / "runs.jsonl", {}) as results:
        with pytest.raises(UsageError, match=f"the memory traffic of this {part} is not known"):
            sweep(engine, (Arm("best-of-n", 2),), TOY.problems("calibration", 4), results, currency="flop-equivalents")
        assert not results.rows


# ------------------------------------------------------------------------------------------------------- allocation


def test_a_budget_goes_where_it_gains_most() -> None:
    allocation = Allocation(Budget(samples=10))
    bids = [
        Bid((Offer(0.1, 4, 100.0),)),
        Bid((Offer(0.4, 4, 100.0), Offer(0.5, 8, 200.0))),
        Bid((Offer(0.3, 4, 100.0),)),
    ]
    # at the first price some bid is worth: 0.1 a sample falls to 0.08, and only the second takes that
    assert allocation.decide(bids, Spent(0.0, 0.0)) == [None, 0, None]
    assert allocation.price == pytest.approx(0.1)
    assert allocation.decide(bids[::2], Spent(4.0, 100.0)) == [None, 0]
    assert allocation.price == pytest.approx(0.075)
    assert allocation.decide(bids[:1], Spent(8.0, 200.0)) == [None]  # 2 samples are left
    assert Allocation(Budget(flops=1e9)).decide([Bid((Offer(-0.1, 4, 100.0),))], Spent(0.0, 0.0)) == [None]
    # where FLOPs are short, they have the price
    cheap = [Bid((Offer(0.1, 4, 10.0),)), Bid((Offer(0.3, 4, 1000.0),))]
    assert Allocation(Budget(flops=1e9)).decide(cheap, Spent(0.0, 0.0)) == [0, None]
    assert Allocation(Budget(samples=9)).decide(cheap, Spent(0.0, 0.0)) == [None, 0]
    for wrong in (Budget(), Budget(seconds=3), Budget(samples=3, tokens=5)):
        with pytest.raises(ValueError, match="allowed: samples, flops"):
            Allocation(wrong)


DOUBT = (logit(0.2), 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
HOPEFUL = Online(
    (Action("majority", 2, {}, 20.0, 1.0, 0.2, DOUBT), replace(DVTS, right=constant(0.7))),
    (logit(0.05), 0.3, 0.3, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0),
    100.0,
    60.0,
    {16: Opening(0, 0.0, 16)},
)


def share(total: Budget, shuffle: int | None = None, n: int = 12) -> list[Any]:
    policy, verifier = ScriptedPolicy(TOY, shuffle=shuffle), TableVerifier(TOY, shuffle=shuffle)
    planner = Planner(16, calibration=Calibration("scripted", "table", "toy", online=HOPEFUL))
    solver = Solver(TOY, policy, verifier, planner)
    problems = TOY.problems("test", n)
    solved = sorted(solver.solve_many(problems, total=total), key=lambda each: each.problem.id)
    assert len(solved) == n
    return [(each.problem.id, each.answer, each.graph.generated, each.graph.info["plan"]["samples"]) for each in solved]


def test_problems_share_a_total_and_the_order_of_replies_changes_nothing() -> None:
    shared = share(Budget(samples=60))
    assert shared == share(Budget(samples=60), shuffle=1)
    spent = [samples for *_, samples in shared]
    assert 50 <= sum(spent) <= 66
    assert len(set(spent)) > 1
    assert sum(samples for *_, samples in share(Budget(samples=10))) <= 10
    none = share(Budget(samples=1))
    assert all(answer is None and not samples for _, answer, _, samples in none)


def test_a_total_is_refused_where_nobody_can_share_it() -> None:
    solver = Solver(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    for strategy, why in (("beam", "use strategy auto"), ("auto", "'stepwell calibrate' fits one")):
        with pytest.raises(UsageError, match=why):
            list(solver.solve_many([PROBLEM], strategy, total=Budget(samples=4)))
    planner = Planner(16, calibration=Calibration("scripted", "table", "toy", online=HOPEFUL))
    with pytest.raises(UsageError, match="allowed: samples, flops"):
        list(
            Solver(TOY, ScriptedPolicy(TOY), TableVerifier(TOY), planner).solve_many([PROBLEM], total=Budget(seconds=1))
        )
    # and a bid that nobody can answer is an error
    bidding: Sequence[SearchGraph] = list(
        Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY)).run([Task(PROBLEM, replace(planner, auction=True).search)])
    )
    assert "none to share" in bidding[0].info["error"]


def test_eval_shares_a_total_and_writes_whole_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(agent.planning.plan_file, "PLANS", (tmp_path,))
    calibration_of.cache_clear()
    Calibration("scripted", "table", "toy", online=HOPEFUL).save(tmp_path / plan_name("toy", "scripted", "table"))
    out = tmp_path / "results.sqlite"
    words = ["eval", "--env", "toy", "-n", "10", "--strategy", "auto", "--budget", "16", "--out", str(out), "--json"]
    assert main([*words, "--total-budget", "40"]) == 0
    (summary,) = json.loads(capsys.readouterr().out)["results"]
    assert summary["n"] == 10
    assert 30 <= 10 * summary["cost"]["samples"] <= 44
    assert main([*words, "--total-budget", "40"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == [summary]
    # another total is another configuration, and a cell that was cut is run again as a whole
    assert main([*words, "--total-budget", "50"]) == 2
    assert "total_budget" in capsys.readouterr().err
    file = sqlite3.connect(out)
    for table in ("results", "candidates", "votes", "graphs"):
        file.execute(f"DELETE FROM {table} WHERE problem > 7")
    file.commit()
    file.close()
    assert main([*words, "--total-budget", "40"]) == 0
    (again,) = json.loads(capsys.readouterr().out)["results"]
    for each in (summary, again):
        del each["cost"]["seconds"]
    assert again == summary
    words[words.index("auto")] = "beam"
    out.unlink()
    assert main([*words, "--total-budget", "40"]) == 2
    assert "use strategy auto" in capsys.readouterr().err
    calibration_of.cache_clear()
