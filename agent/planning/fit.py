"""Fit what the planner needs for one (policy, verifier, environment): ``stepwell calibrate``.

All of it on the calibration split, and of one sweep (`agent.planning.recorded_runs`): independent samples of each
problem, which give its pass@1, and runs of each other way to spend. Everything after the sweep is arithmetic on what
was recorded:

* difficulty: logistic regression of pass@1 on what a few samples show, by their number;
* the table: for each difficulty and budget the best strategy for what a probe leaves (Snell et al. 2024, section 3.2,
  equation 1, with absolute difficulty after Liu et al. 2025, section 3.2);
* online planning: logistic regressions of "the leading answer is right", now and after each move, on the state of the
  search; then, for each budget, the opening and the price that do best when whole searches are replayed.

Choices are made on one half of the problems and judged on the other, and the reverse (two-fold cross-validation); the
plan keeps both that accuracy and the one on the problems that chose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from agent.planning.fit_online import fit_online
from agent.planning.fit_settings import ARMS, BUDGETS, MOVES
from agent.planning.fit_table import fit_confidence, fit_difficulty, try_choices
from agent.planning.plan_file import (
    DIFFERENCES,
    Action,
    Calibration,
    Choice,
    Difficulty,
)
from agent.planning.recorded_runs import Arm, drawn_distinct, read_runs, sweep
from agent.search.engine import Engine
from agent.search.shared_budget import Currency
from envs.core import Environment, Problem
from envs.messages import UsageError
from policies.core import Policy
from policies.training.jsonl_log import JsonlLog
from verifiers.core import Verifier


def calibrate(
    environment: Environment,
    policy: Policy,
    verifier: Verifier,
    problems: Sequence[Problem],
    results: JsonlLog,
    arms: Sequence[Arm] = ARMS,
    moves: Sequence[Action] = MOVES,
    budgets: Sequence[int] = BUDGETS,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
    temperature: float = 1.0,
    prior: bool = False,
    currency: Currency = "flops",
) -> Calibration:
    """Fit a calibration; problems must have gold answers and come from the calibration split.

    Args:
        environment: of the problems; with the next two, what the calibration belongs to.
        policy: draws the samples.
        verifier: scores them.
        problems: of the calibration split, two or more.
        results: where the runs of the sweep are kept; what is there is not run again.
        arms: what is run, Best-of-N first: its samples give pass@1. With one of `drawing_distinct` among them, the
            online planner draws as that does.
        moves: what the online planner may do; made of the arms.
        budgets: in samples; each gets its own choice of strategy, opening and price.
        seed: of the searches.
        report: called with a line of progress now and then.
        temperature: of the samples; the plan is for this one.
        prior: fit what the text of a problem says of its difficulty, and openings that go by it.
        currency: what the planner prices its actions in. FLOP-equivalents charge memory traffic, by what the runs read.

    Raises:
        UsageError: FLOP-equivalents, and the runs do not tell the memory traffic, or samples are drawn without
            replacement.
    """
    distinct = next((arm for arm in arms if arm.knobs.get("distinct")), None)
    if distinct and currency == "flop-equivalents":
        raise UsageError(
            "samples that are drawn without replacement wait for each other and share no pass, and plans in"
            " FLOP-equivalents are for those that do; use flops, or draw with replacement"
        )
    engine = Engine(environment, policy, verifier)
    sweep(engine, arms, problems, results, seed, report, temperature, currency)
    runs = read_runs(results.rows, arms, problems, environment, currency)
    pass_at_1, errors = fit_difficulty(runs)
    confidence = fit_confidence(runs)
    fitted = Calibration(
        policy.name,
        verifier.name,
        environment.name,
        pass_at_1,
        confidence,
        temperature=temperature,
        digests={part: digest for part in DIFFERENCES if (digest := engine.digest(part))},
    )
    choices = [Choice(arm.strategy, arm.knobs) for arm in arms if not arm.knobs.get("distinct")]
    choices = [choice for i, choice in enumerate(choices) if choice not in choices[:i]]
    trials = {budget: try_choices(runs, arms, choices, budget, fitted) for budget in budgets}
    table: dict[Difficulty, dict[int, Choice]] = {"easy": {}, "medium": {}, "hard": {}}
    accuracies: dict[str, Any] = {}
    for budget, trial in trials.items():
        for difficulty in table:
            if (rows := trial.rows(difficulty)).any():
                table[difficulty][budget] = trial.choices[trial.best(rows)]
                accuracies[f"{difficulty} at {budget}"] = trial.describe(rows)
        report(f"the table at {budget}: {trial.cross_validated(currency)}")
    drawn = drawn_distinct(runs, distinct) if distinct else runs
    online, replays = fit_online(drawn, arms, moves, budgets, report, prior, currency)
    about: dict[str, Any] = {
        "problems": len(problems),
        "samples": arms[0].n,
        "seed": seed,
        "mean_absolute_error_of_pass_at_1": errors,
        "table": {str(budget): trial.cross_validated(currency) for budget, trial in trials.items()},
        "online": replays,
        "accuracies": accuracies,
    }
    online = replace(online, distinct=distinct.knobs["temperature"] if distinct else None)
    return replace(fitted, table=table, fitted=about, online=online)
