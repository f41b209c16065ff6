"""What the text of a problem says of it, before any sample: the estimate, the fit, and a planner that goes by it."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from agent.planning.features import FEATURES, Evidence
from agent.planning.fit import calibrate
from agent.planning.plan_file import Action, Calibration, Online, Opening
from agent.planning.planner import Planner
from agent.planning.prior import TextPrior, crossed, text_features
from agent.planning.recorded_runs import Arm
from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from envs.toy import Toy
from policies.scripted import ScriptedPolicy
from policies.training.jsonl_log import JsonlLog
from verifiers.table import TableVerifier

TOY = Toy()
FLAT = (0.0,) * len(FEATURES)
SILENT = TextPrior((0.0,) * len(text_features("")))


def sums(n: int, seed: int = 0) -> tuple[list[str], list[float]]:
    """Questions with two to nine numbers, the harder the more they have."""
    rng = random.Random(seed)
    terms = [rng.randint(2, 9) for _ in range(n)]
    questions = [f"What is {' + '.join(str(rng.randint(1, 99)) for _ in range(each))}?" for each in terms]
    return questions, [1 - each / 10 for each in terms]


@pytest.mark.parametrize("text", ["", "9" * 10_000, "\x00\u202e", "½ + ٣ = ?", "a " * 100_000, "1.5e9 -0"])
def test_any_text_has_features(text: str) -> None:
    found = text_features(text)
    assert len(found) == len(SILENT.coefficients)
    assert all(value == value and abs(value) < 1e4 for value in found)
    assert SILENT.estimate(text) == 0.5


def test_it_learns_what_the_text_tells() -> None:
    prior = TextPrior.fit(*sums(200))
    questions, rates = sums(100, seed=1)
    errors = [abs(prior.estimate(question) - rate) for question, rate in zip(questions, rates, strict=True)]
    mean = sum(rates) / len(rates)
    assert sum(errors) < 0.5 * sum(abs(rate - mean) for rate in rates)


def test_what_is_crossed_has_not_seen_its_own_label() -> None:
    questions, rates = sums(20)
    estimates = crossed(questions, rates)
    assert crossed(questions, [1 - rates[0], *rates[1:]])[0] == estimates[0]
    assert crossed(questions, [1 - rates[0], *rates[1:]])[1] != estimates[1]


def test_another_number_of_coefficients_is_refused() -> None:
    with pytest.raises(ValueError, match="'stepwell calibrate' fits it anew"):
        TextPrior((1.0, 2.0))


# -------------------------------------------------------------------------------------------------------- in a plan

GREEDY = Action("greedy", 1, {}, 20.0, 1.0, 0.2, (), 0, (0.0, 1.0))
SAMPLES = Action("majority", 4, {}, 80.0, 1.0, 0.3, FLAT, 0, (1.0, 0.0))
ONLINE = Online((GREEDY, SAMPLES), FLAT, 100.0, 60.0, {16: Opening(1, 1.0, 16)}, prior=SILENT)


def test_the_reasons_begin_with_what_the_text_says() -> None:
    sure = TextPrior((3.0, *SILENT.coefficients[1:]))
    planner = Planner(16, calibration=Calibration("scripted", "table", "toy", online=replace(ONLINE, prior=sure)))
    problem = TOY.read("14 with 1 3 7 10")
    (graph,) = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY)).run(
        [Task(problem, planner.search, Budget(samples=16))]
    )
    plan = graph.info["plan"]
    assert plan["reasons"][0] == "judged by its text alone, 95% of the samples will be right"
    assert plan["evidence"]["prior"] == pytest.approx(0.9525741)


def test_before_a_sample_the_prior_tells_what_an_action_is_worth() -> None:
    assert ONLINE.probability(Evidence(prior=0.9), GREEDY) == pytest.approx(0.9)
    assert ONLINE.probability(Evidence(prior=0.9), SAMPLES) == pytest.approx(0.7310586)  # whatever the prior
    assert ONLINE.probability(Evidence(prior=0.9), replace(GREEDY, alone_by_prior=())) == 0.2
    assert ONLINE.probability(Evidence(prior=0.9)) == 0.0


def test_a_plan_of_before_has_no_prior_and_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    moves = (SAMPLES, replace(SAMPLES, right=tuple(map(float, range(9)))))
    Calibration("scripted", "table", "toy", online=replace(ONLINE, prior=None, moves=moves)).save(path)
    raw = json.loads(path.read_text())
    del raw["online"]["prior"]
    raw["online"]["right"] = raw["online"]["right"][:-1]
    for move in raw["online"]["moves"]:
        move["right"] = move["right"][:-1]
        del move["alone_by_prior"]
    path.write_text(json.dumps(raw))
    online = Calibration.load(path).online
    assert online is not None
    assert online.moves[1].right == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.0)
    assert online.look("any text") == 0.5


def test_calibrating_with_a_prior(tmp_path: Path) -> None:
    arms = (Arm("best-of-n", 8), Arm("best-of-n", 1, 1, {"temperature": 0.0}))
    moves = (Action("greedy", 1), Action("majority", 1), Action("best-of-n", 2), Action("best-of-n", 4))
    problems = TOY.problems("calibration", 20)
    with JsonlLog(tmp_path / "runs.jsonl", {}) as results:
        fitted = calibrate(
            TOY, ScriptedPolicy(TOY), TableVerifier(TOY), problems, results, arms, moves, (4,), prior=True
        )
    online = fitted.online
    assert online is not None
    assert online.prior is not None
    assert all(0 < online.look(problem.question) < 1 for problem in problems)
    assert all(len(move.alone_by_prior) == 2 for move in online.moves)
    told = fitted.fitted["online"]["4"]
    for each in (told["opening_of_the_other_half"], told["one_action_by_the_prior"]):
        assert 0 <= each["cross_validated"] <= 1
        assert each["samples"] <= 4
    fitted.save(tmp_path / "plan.json")
    assert Calibration.load(tmp_path / "plan.json").online == online
