"""The planner and its calibration: probe, judge, choose, spend; and that what was fitted is what comes back."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import agent.planning.plan_file
from agent.planning.fit import calibrate
from agent.planning.fit_settings import PROBES
from agent.planning.fit_table import absolute_bins, probe_of, quantile_bins
from agent.planning.plan_file import (
    Action,
    Calibration,
    Choice,
    Difficulty,
    Online,
    Opening,
    ProbeSummary,
    calibration_of,
    papers_rule,
    plan_name,
    summarize,
)
from agent.planning.planner import METHODS, Planner
from agent.planning.prior import TextPrior, text_features
from agent.planning.recorded_runs import Arm, sweep
from agent.planning.regression import fit_logistic
from agent.planning.table_planner import TablePlanner
from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.strategies import STRATEGIES
from envs.core import Problem, State
from envs.messages import UsageError
from envs.toy import Toy
from policies.core import Propose
from policies.scripted import ScriptedPolicy
from policies.training.jsonl_log import JsonlLog
from verifiers.table import TableVerifier
from verifiers.voting import Vote

TOY = Toy()
PROBLEM = TOY.read("14 with 1 3 7 10")
DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)


def plans(choice: Choice, **more: Any) -> Calibration:
    """For the fakes: the same choice whatever the difficulty."""
    return Calibration("scripted", "table", "toy", table={each: {16: choice} for each in DIFFICULTIES}, **more)


MODES: dict[str, type[Planner] | type[TablePlanner]] = {"online": Planner, "table": TablePlanner}


def run(
    planner: Planner | TablePlanner, problem: Problem = PROBLEM, policy: Any = None, verifier: Any = None
) -> SearchGraph:
    engine = Engine(TOY, policy or ScriptedPolicy(TOY), verifier or TableVerifier(TOY))
    (graph,) = engine.run([Task(problem, planner.search, Budget(samples=planner.n), vote=planner.vote)])
    return graph


# ----------------------------------------------------------------------------------------------------------- plan


@pytest.mark.parametrize("n", [1, 4, 16, 64])
def test_the_probe_is_charged_and_its_samples_stay_candidates(n: int) -> None:
    graph = run(Planner(n, calibration=plans(Choice("beam", {"branch": 4}))))
    plan = graph.info["plan"]
    size = {1: 1, 4: 1, 16: 4, 64: 8}[n]
    assert plan["probe"]["samples"] == size
    # the samples that Best-of-N would draw first are all there, and those that finished vote
    alone = run(TablePlanner(size, probe=1.0))
    assert alone.samples() == size or len({len(alone.path(node)) for node in alone.finished()}) > 1
    texts = {graph.state(node).texts: graph.count(node) for node in graph.finished()}
    for node in alone.finished():
        assert texts[alone.state(node).texts] >= alone.count(node)
    assert graph.generated == graph.info["spent"]["generated"]
    assert graph.samples() <= 1.1 * n + 1


@pytest.mark.parametrize("method", ["beam", "dvts", "mcts", "lookahead", "best-of-n", "majority"])
def test_whatever_is_chosen_spends_the_budget_with_the_probe(method: str) -> None:
    """On a problem with many solutions, none of which leads by far."""
    wide = ScriptedPolicy(TOY, lambda state: dict.fromkeys(TOY.options(state), 1.0))
    vague = TableVerifier(TOY, lambda state: 0.3)
    many = TOY.read("20 with 1 2 3 4 5 6 7 8 9 10")
    graph = run(Planner(32, calibration=plans(Choice(method))), many, wide, vague)
    assert graph.info["plan"]["strategy"] == method
    least = 0.75 if method == "dvts" else 0.85  # subtrees that end early leave their share
    assert least * 32 <= graph.samples() <= 1.1 * 32 + 2


def test_a_plan_says_why_in_words() -> None:
    graph = run(Planner(16, calibration=plans(Choice("dvts", {"branch": 2}))))
    plan = json.loads(json.dumps(graph.info["plan"]))
    assert plan["strategy"] == "dvts"
    assert plan["knobs"] == {"branch": 2}
    assert plan["budget"] == 16
    assert plan["difficulty"] in DIFFICULTIES
    assert 0 <= plan["pass_at_1"] <= 1
    assert set(plan["probe"]) == {"samples", "agreement", "score", "lead", "best"}
    probed, judged, chosen = plan["reasons"]
    assert probed.startswith("4 of 16 samples probed: ")
    assert judged == f"estimated pass@1 {plan['pass_at_1']:.2f}: {plan['difficulty']}"
    assert chosen == (
        f"dvts for the other 12: fitted best for {plan['difficulty']} problems at a budget of 16 "
        "with this policy and verifier"
    )


@pytest.mark.parametrize(("estimate", "difficulty"), [(0.9, "easy"), (0.3, "medium"), (0.05, "hard")])
def test_difficulty_is_absolute_pass_at_1(estimate: float, difficulty: Difficulty) -> None:
    intercept = math.log(estimate / (1 - estimate))
    fitted = plans(Choice("beam"), pass_at_1={4: (intercept, 0.0, 0.0)})
    plan = run(Planner(16, calibration=fitted)).info["plan"]
    assert plan["difficulty"] == difficulty
    assert plan["pass_at_1"] == pytest.approx(estimate, abs=1e-4)


def test_the_planners_vote_and_temperature_are_the_strategys(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Mapping[str, Any]] = []
    beam = STRATEGIES["beam"]

    class Spy:
        @staticmethod
        def sized(n: int, **knobs: Any) -> Any:
            seen.append({"n": n} | knobs)
            return beam.sized(n, **knobs)

    monkeypatch.setitem(STRATEGIES, "beam", Spy)
    vote = Vote("max", "min")
    run(Planner(8, temperature=0.7, vote=vote, calibration=plans(Choice("beam", {"branch": 2}))))
    assert seen == [{"n": 6, "branch": 2, "temperature": 0.7, "vote": vote}]


# ------------------------------------------------------------------------------------------------------ early ends


def test_it_stops_when_the_vote_cannot_change() -> None:
    """One coin: everybody agrees, with the highest scores; 5 of 8 decide."""
    same = TOY.read("3 with 1")
    graph = run(TablePlanner(8, probe=0.75, calibration=plans(Choice("beam"))), same)
    assert graph.samples() == 6
    assert graph.info["plan"]["reasons"][-1] == "the leading answer is ahead by more than the 2 votes still to come"
    assert graph.info["plan"]["strategy"] == "best-of-n"
    # 4 votes to come could draw level
    assert run(TablePlanner(8, probe=0.5, calibration=plans(Choice("beam"))), same).info["plan"]["strategy"] == "beam"
    graph = run(Planner(30, calibration=plans(Choice("best-of-n"))), same)
    assert graph.samples() == 16  # 8 probed, 8 more, 14 left
    assert graph.info["plan"]["reasons"][-1].startswith("stopped after 16 samples: the leading answer is ahead")
    # by the best single score, any sample may still change it
    assert run(Planner(30, vote=Vote("max"), calibration=plans(Choice("best-of-n"))), same).samples() == 30


def test_it_stops_when_it_is_confident() -> None:
    sure = plans(Choice("beam"), confidence=(50.0, 0.0, 0.0))
    graph = run(Planner(16, calibration=sure))
    assert graph[graph.root]["drawn"] == 4
    assert len(graph.info["plan"]["reasons"]) == 3
    assert "right with an estimated probability of 1.000" in graph.info["plan"]["reasons"][-1]
    unsure = replace(sure, confidence=(0.0, 0.0, 0.0))
    assert run(Planner(16, calibration=unsure))[0]["drawn"] == 4 + 12  # the probe and the first round of a beam
    assert run(TablePlanner(16, confident=0.4, calibration=unsure))[0]["drawn"] == 4


def test_it_does_not_stop_without_an_answer() -> None:
    class Lost(ScriptedPolicy):
        def _step(self, state: State, *rest: Any) -> Any:
            return replace(super()._step(state, *rest), text="99")

    graph = run(Planner(8, calibration=plans(Choice("beam"), confidence=(50.0, 0.0, 0.0))), policy=Lost(TOY))
    assert graph.info["answer"] is None
    assert graph.info["plan"]["probe"]["agreement"] == 0.0
    assert graph.samples() > 2


# ---------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        (0, ("best-of-n", "beam", "beam")),
        (30_000, ("best-of-n", "beam", "beam")),
        (3_000_000_000, ("best-of-n", "beam", "beam")),
        (7_000_000_000, ("dvts", "dvts", "beam")),
        (32_000_000_000, ("dvts", "dvts", "beam")),
        (72_000_000_000, ("best-of-n", "best-of-n", "best-of-n")),
    ],
)
def test_the_papers_rules(parameters: int, names: tuple[str, ...]) -> None:
    chosen = [papers_rule(difficulty, parameters) for difficulty in DIFFICULTIES]
    assert tuple(choice.strategy for choice, _ in chosen) == names
    for choice, why in chosen:
        assert choice.strategy in STRATEGIES
        assert "Liu et al. 2025" in why
    bare = Calibration("p", "v", "e")
    assert [bare.choose(difficulty, 16, parameters) for difficulty in DIFFICULTIES] == chosen


def test_the_table_answers_at_the_nearest_budget() -> None:
    rows = {4: Choice("best-of-n"), 16: Choice("beam"), 64: Choice("mcts")}
    fitted = Calibration("p", "v", "e", table={"hard": rows})
    for budget, known in ((1, 4), (4, 4), (7, 4), (9, 16), (30, 16), (40, 64), (1000, 64)):
        assert fitted.choose("hard", budget, 0)[0] == rows[known], budget
    assert fitted.choose("easy", 16, 0) == papers_rule("easy", 0)


def test_probes_are_summarised_by_hand() -> None:
    probe, leader = probe_of([(0, 0.8), (0, 0.8), (0, 0.4), (1, 0.5), None])
    assert leader == 0
    assert probe.samples == 5
    assert probe.agreement == pytest.approx(3 / 5)
    assert probe.score == pytest.approx((1.6 + 0.4 + 0.5) / 5)
    assert probe.lead == pytest.approx(math.log(2.05 / 0.55))
    assert probe.best == 0.8
    assert probe.features() == pytest.approx((1.0, 0.0, math.log((3.5 / 6) / (2.5 / 6))))
    assert probe.confidence_features() == pytest.approx((1.0, probe.lead, math.log(4)))
    assert summarize([], [], 3) == ProbeSummary(3, 0.0, 0.0, -5.0, 0.0)
    assert probe_of([None]) == (ProbeSummary(1, 0.0, 0.0, -5.0, 0.0), None)


def test_without_a_fit_difficulty_is_the_mean_score() -> None:
    probe = ProbeSummary(4, 0.5, 0.37, 0.0, 0.5)
    assert Calibration("p", "v", "e").estimate(probe) == 0.37
    assert Calibration("p", "v", "e").confidence_in(probe) == 0.0
    fitted = Calibration("p", "v", "e", {1: (0.0, 0.0, 0.0), 8: (math.log(3), 0.0, 0.0)})
    assert fitted.estimate(probe) == 0.5  # as near to 1 as to 8 are 4 and 5; the nearer is 1
    assert fitted.estimate(replace(probe, samples=5)) == pytest.approx(0.75)


# ---------------------------------------------------------------------------------------------------------- files


FITTED = Calibration(
    "scripted",
    "table",
    "toy",
    {1: (0.1, -0.2, 0.3), 8: (1.0, 2.0, 3.5)},
    (0.5, 1.5, -2.5),
    {"easy": {4: Choice("best-of-n")}, "medium": {16: Choice("beam", {"branch": 4})}, "hard": {}},
    {"problems": 3, "errors": {"1": 0.25}},
    Online(
        (
            Action("dvts", 4, {"branch": 4}, 2e9, 0.8, 0.4, (0.5, -1.0, 0.25) * 3, 0, (0.1, 0.2), 3e6),
            Action("greedy", 1, {}, 1e8, 1.0, 0.3),
        ),
        (1.0, 2.0, -0.5) * 3,
        1e8,
        9e7,
        {4: Opening(1, 0.002, 4), 16: Opening(0, 0.0, 16)},
        None,
        TextPrior(tuple(range(len(text_features(""))))),
        "flop-equivalents",
        2e6,
        1e5,
    ),
    0.7,
)


def test_a_calibration_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    FITTED.save(path)
    assert Calibration.load(path) == FITTED
    raw = json.loads(path.read_text())
    for each in (raw["online"], *raw["online"]["moves"]):  # as plans were, when all were in FLOPs
        for key in ("currency", "reads", "sample_reads", "score_reads"):
            each.pop(key, None)
    path.write_text(json.dumps(raw))
    before = Calibration.load(path).online
    assert before is not None
    assert (before.currency, before.sample_reads, before.score_reads) == ("flops", 0.0, 0.0)
    assert before.sample_cost == before.sample_flops == 1e8
    path.write_text(json.dumps(raw | {"online": raw["online"] | {"currency": "samples"}}))
    with pytest.raises(ValueError, match="currency 'samples' given; allowed: flops, flop-equivalents"):
        Calibration.load(path)
    bare = replace(FITTED, online=None)
    bare.save(path)
    assert Calibration.load(path) == bare
    raw = json.loads(path.read_text())
    del raw["temperature"]  # as plans were, when all were fitted at 1
    path.write_text(json.dumps(raw))
    assert Calibration.load(path) == replace(bare, temperature=1.0)


@pytest.mark.parametrize("mode", ["online", "table"])
def test_a_plan_says_that_it_was_fitted_at_another_temperature(mode: str) -> None:
    said = "samples at temperature 1, by a plan that was fitted at 0.7"
    for temperature, reasons in ((1.0, [said]), (0.7, [])):
        graph = run(MODES[mode](8, calibration=FITTED, temperature=temperature))
        assert [reason for reason in graph.info["plan"]["reasons"] if "temperature" in reason] == reasons
    unfitted = Calibration("scripted", "table", "toy", temperature=0.7)
    graph = run(MODES[mode](8, calibration=unfitted))
    assert not any("temperature" in reason for reason in graph.info["plan"]["reasons"])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"policy": "p"}', json.dumps({"policy": "p", "verifier": "v", "environment": "e"}), "\x00\xff"],
)
def test_what_is_no_plan_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="is not a plan file") as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder in which plans are looked for."""
    monkeypatch.setattr(agent.planning.plan_file, "PLANS", (tmp_path,))
    calibration_of.cache_clear()
    yield tmp_path
    calibration_of.cache_clear()


def test_a_shipped_plan_is_found_by_the_names_of_the_parts(folder: Path) -> None:
    graph = run(Planner(8))
    assert "fitted best" not in graph.info["plan"]["reasons"][-1]
    calibration_of.cache_clear()
    replace(FITTED, confidence=(), online=None, table={each: {8: Choice("dvts")} for each in DIFFICULTIES}).save(
        folder / plan_name("toy", "scripted", "table")
    )
    graph = run(Planner(8))
    assert graph.info["plan"]["strategy"] == "dvts"
    assert "fitted best" in graph.info["plan"]["reasons"][-1]
    assert plan_name("toy", "org/model", "v") == "toy--org_model--v.json"


def test_a_plan_of_others_is_refused(folder: Path) -> None:
    replace(FITTED, policy="another").save(folder / plan_name("toy", "scripted", "table"))
    error = run(Planner(8)).info["error"]
    assert "a plan fitted for 'another', 'table' on 'toy' cannot serve 'scripted', 'table' on 'toy'" in error
    assert str(folder) in error
    calibration_of.cache_clear()
    error = run(Planner(8, calibration=replace(FITTED, verifier="another"))).info["error"]
    assert error.startswith("ValueError: a plan fitted for 'scripted', 'another' on 'toy' cannot serve")


def test_methods_are_the_planner_and_the_strategies() -> None:
    assert dict(METHODS) == {"auto": Planner, "table": TablePlanner, **STRATEGIES}
    assert TablePlanner.sized(8, probe=0.5) == TablePlanner(8, probe=0.5)


# -------------------------------------------------------------------------------------------------------- fitting


def test_logistic_regression_recovers_known_coefficients() -> None:
    rng = np.random.default_rng(0)
    features = np.column_stack([np.ones(2000), rng.normal(size=(2000, 2))])
    known = np.array([-0.5, 2.0, -1.0])
    soft = 1 / (1 + np.exp(-features @ known))
    assert fit_logistic(features, soft, ridge=1e-9) == pytest.approx(known, abs=1e-4)
    hard = (rng.random(2000) < soft).astype(float)
    assert fit_logistic(features, hard) == pytest.approx(known, abs=0.25)
    # labels that can be told apart entirely do not run away
    assert np.abs(fit_logistic(features, (features[:, 1] > 0).astype(float))).max() < 100


def test_bins() -> None:
    pass_at_1 = np.array([0.9, 0.05, 0.5, 0.2, 0.0])
    assert absolute_bins(pass_at_1).tolist() == [0, 2, 0, 1, 2]
    assert quantile_bins(pass_at_1).tolist() == [0, 3, 1, 2, 4]
    assert quantile_bins(np.zeros(10)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


class Hunch(TableVerifier):
    """A verifier that is not an oracle: the worth of a state, in part."""

    def __init__(self) -> None:
        super().__init__(TOY, lambda state: 0.8 * TOY.quality(state) ** 2 + 0.1)


ARMS = (
    Arm("best-of-n", 16),
    Arm("dvts", 2, 6, {"branch": 2}, parts=True),
    Arm("beam", 6, 1, {"branch": 2}),
    Arm("best-of-n", 1, 1, {"temperature": 0.0}),
)
MOVES = (
    Action("greedy", 1),
    Action("majority", 2),
    Action("majority", 4),
    Action("best-of-n", 4),
    Action("dvts", 2, {"branch": 2}),
    Action("dvts", 4, {"branch": 2}),
    Action("beam", 6, {"branch": 2}),
)


def fit(path: Path, report: Any = lambda line: None, **more: Any) -> Calibration:
    problems = TOY.problems("calibration", 16)
    policy, verifier = ScriptedPolicy(TOY), Hunch()
    with JsonlLog(path, {"of": "a test"}) as results:
        return calibrate(TOY, policy, verifier, problems, results, ARMS, MOVES, (4, 8), 0, report, 0.7, **more)


def test_calibrating_on_the_toy_gives_sane_coefficients(tmp_path: Path) -> None:
    lines: list[str] = []
    fitted = fit(tmp_path / "runs.jsonl", lines.append)
    assert (fitted.policy, fitted.verifier, fitted.environment) == ("scripted", "table", "toy")
    assert fitted.temperature == 0.7
    assert set(fitted.pass_at_1) == set(PROBES)
    good, bad = ProbeSummary(4, 1.0, 0.85, 3.0, 0.9), ProbeSummary(4, 0.25, 0.2, -2.0, 0.2)
    assert fitted.estimate(good) > 0.5 > fitted.estimate(bad)
    assert fitted.confidence_in(good) > 0.5 > fitted.confidence_in(bad)
    errors = fitted.fitted["mean_absolute_error_of_pass_at_1"]
    assert errors["8"] <= errors["1"] + 0.02
    assert all(0 < error < 0.35 for error in errors.values())
    assert any(fitted.table.values())
    for row in fitted.table.values():
        assert set(row) <= {4, 8}
        assert {choice.strategy for choice in row.values()} <= {"best-of-n", "dvts", "beam"}
    for accuracies in fitted.fitted["accuracies"].values():
        assert all(0 <= rate <= 1 for name, rate in accuracies.items() if name != "replays")
    assert set(fitted.fitted["table"]["8"]) == {
        *(f"{whose}, {bins}" for whose in ("predicted", "oracle") for bins in ("absolute", "quantiles")),
        "always",
    }
    assert len(lines) == 4  # the table and the online planner, at two budgets
    online = fitted.online
    assert online is not None
    assert [move.label for move in online.moves] == [move.label for move in MOVES]
    assert all(move.flops > 0 for move in online.moves)
    assert set(online.openings) == {4, 8}
    for budget, opening in online.openings.items():
        assert online.moves[opening.move].n <= budget
        assert fitted.fitted["online"][str(budget)]["samples"] <= budget
    # and the planner runs on it, in both modes
    for mode in ("online", "table"):
        graph = run(MODES[mode](8, calibration=fitted), verifier=Hunch())
        assert "error" not in graph.info
        assert (graph.info["plan"]["strategy"] == "online") == (mode == "online")


def test_the_same_runs_give_a_plan_in_flop_equivalents(tmp_path: Path) -> None:
    flops = fit(tmp_path / "runs.jsonl").online
    kept = (tmp_path / "runs.jsonl").read_bytes()
    priced = fit(tmp_path / "runs.jsonl", currency="flop-equivalents")
    assert (tmp_path / "runs.jsonl").read_bytes() == kept
    online = priced.online
    assert flops is not None
    assert online is not None
    assert (flops.currency, online.currency) == ("flops", "flop-equivalents")
    assert not any(move.reads for move in flops.moves)
    reads = {move.label: move.reads for move in online.moves}
    assert reads["majority n=2"] < reads["majority n=4"] < 1.5 * reads["majority n=2"]  # the longest one counts
    assert reads["best-of-n n=4"] > reads["majority n=4"]
    assert reads["beam branch=2 n=6"] > reads["best-of-n n=4"]  # it scores every step
    assert [move.flops for move in online.moves] == [move.flops for move in flops.moves]
    assert (online.sample_flops, online.score_flops) == (flops.sample_flops, flops.score_flops)
    assert online.sample_cost > flops.sample_cost == flops.sample_flops
    found = priced.fitted["online"]["8"]
    assert found["mflop_equivalents"] > found["mflops"]
    graph = run(Planner(8, calibration=priced, temperature=0.7), verifier=Hunch())
    assert graph.info["plan"]["reasons"][0].startswith("costs are in FLOP-equivalents")


def test_flop_equivalents_are_refused_where_they_cannot_be_had(tmp_path: Path) -> None:
    path, problems = tmp_path / "runs.jsonl", TOY.problems("calibration", 2)
    arms = (*ARMS, Arm("best-of-n", 64, 2, {"distinct": True, "temperature": 0.3}))
    with JsonlLog(path, {"of": "a test"}) as results, pytest.raises(UsageError, match="without replacement wait for"):
        calibrate(TOY, ScriptedPolicy(TOY), Hunch(), problems, results, arms, currency="flop-equivalents")
    row = {"arm": "best-of-n n=16", "run": 0, "problem": "p", "found": [], "policy_flops": 2.0, "verifier_flops": 1.0}
    with JsonlLog(path, {"of": "a test"}) as results:
        results.append(row | {"reads": 7.0})  # as runs were
    with pytest.raises(UsageError, match="recorded before the memory traffic of policy and verifier was kept"):
        fit(path, currency="flop-equivalents")


def test_a_sweep_samples_at_its_temperature(tmp_path: Path) -> None:
    class Asked(ScriptedPolicy):
        def submit(self, ticket: int, request: Propose) -> None:
            temperatures.add(request.temperature)
            super().submit(ticket, request)

    temperatures: set[float] = set()
    arms = (Arm("best-of-n", 4), Arm("best-of-n", 1, 1, {"temperature": 0.0}), Arm("beam", 4, 1, {"branch": 2}))
    problems = TOY.problems("calibration", 8)
    with JsonlLog(tmp_path / "runs.jsonl", {}) as results:
        sweep(Engine(TOY, Asked(TOY), Hunch()), arms, problems, results, temperature=0.5)
    assert temperatures == {0.0, 0.5}


def test_a_sweep_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    class Dying(Hunch):
        def poll(self) -> Any:
            if len(results.rows) > 40:
                raise KeyboardInterrupt
            return super().poll()

    problems = TOY.problems("calibration", 16)
    with JsonlLog(tmp_path / "runs.jsonl", {}) as results, pytest.raises(KeyboardInterrupt):
        sweep(Engine(TOY, ScriptedPolicy(TOY), Dying()), ARMS, problems, results)
    with JsonlLog(tmp_path / "runs.jsonl", {}) as results:
        kept = list(results.rows)
        assert 40 < len(kept) < 16 * 9
        sweep(Engine(TOY, ScriptedPolicy(TOY), Hunch()), ARMS, problems, results)
        assert results.rows[: len(kept)] == kept
    with JsonlLog(tmp_path / "whole.jsonl", {}) as whole:
        sweep(Engine(TOY, ScriptedPolicy(TOY), Hunch()), ARMS, problems, whole)
    assert sorted(map(str, results.rows)) == sorted(map(str, whole.rows))
    assert len(whole.rows) == 16 * 9
