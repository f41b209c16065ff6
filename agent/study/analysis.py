"""What a study says about its searches, as pandas frames (extra ``study``).

Every function takes an open `agent.study.results_db.StudyFile` and reads what was stored: no model runs. A *line* is a
line of the study's table (`agent.study.table.GROUP`): the cells that differ in nothing but their seed. Intervals are of
95 % and treat the problems as what was sampled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, groupby
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import pandas as pd

from agent.build import NO_VERIFIER
from agent.planning.plan_file import EASY, HARD
from agent.search.budget import flop_equivalents
from agent.study.results_db import StudyFile
from agent.study.rows import VOTES, certainty, scores_of
from agent.study.statistics import GrowingClusters, clustered, paired_difference, problem_means, wilson
from agent.study.table import GROUP, marks_by_problem, revoted, summarize, uniform_answers
from envs.core import Problem, State, Step, StepChecker
from verifiers.metrics import auroc, ece
from verifiers.voting import aggregate

INDEPENDENT = ("majority", "best-of-n")  # strategies whose candidates are independent samples of the policy
_KEYS = [*GROUP, "seed"]
_LINE = list(GROUP)


# ---------------------------------------------------------------------------------------------------------- frames


def results(file: StudyFile) -> pd.DataFrame:
    """One row per search: labels, problem, answer and cost, as in the file; ``flops`` is the sum of both models'.

    ``flop_equivalents`` charges memory traffic too (`agent.search.budget.flop_equivalents`); NaN where that is unknown.
    """
    return _costed(pd.DataFrame(file.results()))


def _costed(frame: pd.DataFrame) -> pd.DataFrame:
    """With the sums over both models."""
    flops = frame["policy_flops"] + frame["verifier_flops"]
    reads = frame["policy_reads"] + frame["verifier_reads"]
    return frame.assign(flops=flops, flop_equivalents=flop_equivalents(flops, reads).where(reads > 0))


def candidates(file: StudyFile) -> pd.DataFrame:
    """One row per finished trajectory: labels, problem, answer, whether it is right, how often it was drawn.

    ``texts`` are its steps, ``scores`` those of its steps (empty without a verifier), ``lengths`` the steps' tokens;
    ``last``, ``min``, ``mean`` and ``product`` are the aggregated scores.
    """
    cells = {cell["cell"]: cell for cell in file.cells()}
    problems = {row["problem"]: row for row in file.rows("SELECT problem, id, meta FROM problems")}
    made = []
    for row in file.candidates():
        scores, steps = scores_of(row), json.loads(row.pop("steps"))
        problem = problems[row["problem"]]
        made.append(
            {key: cells[row["cell"]][key] for key in _KEYS}
            | {"id": problem["id"], "level": json.loads(problem["meta"]).get("level")}
            | row
            | {"texts": tuple(step["text"] for step in steps), "scores": scores}
            | {"lengths": tuple(step["tokens"] for step in steps)}
            | {how: aggregate(scores, how) if scores else math.nan for how in ("last", "min", "mean", "product")}
        )
    columns = [*_KEYS, "id", "level", "cell", "problem", "node", "answer", "same", "correct", "count", "texts"]
    return pd.DataFrame(made, columns=[*columns, "scores", "lengths", "last", "min", "mean", "product"])


def votes(file: StudyFile) -> pd.DataFrame:
    """One row per search and vote: labels, problem, rule, aggregate, answer, whether it is right."""
    labels = pd.DataFrame(file.results())[[*_KEYS, "id", "level", "cell", "problem"]]
    return labels.merge(pd.DataFrame(file.votes()), on=["cell", "problem"])


def table(file: StudyFile, baseline: str | None = None) -> pd.DataFrame:
    """The study's table, one row per line: accuracy, its interval (``low``, ``high``) and the mean cost of a search."""
    made = []
    for line in summarize(file, baseline=baseline):
        if line["n"]:
            low, high = line["interval"]
            row = {key: line[key] for key in (*GROUP, "n", "searches", "errors", "accuracy")}
            row |= {"low": low, "high": high} | line["cost"]
            row["flops"] = row["policy_flops"] + row["verifier_flops"]
            row["flop_equivalents"] = row["flop_equivalents"] or math.nan
            if "difference" in line:
                row |= dict(zip(("difference", "difference_low", "difference_high"), line["difference"], strict=True))
                row["versus"] = line["versus"]
            made.append(row)
    return pd.DataFrame(made)


def _by_line(
    frame: pd.DataFrame, measure: Callable[[pd.DataFrame], Mapping[str, Any] | None], keys: Sequence[str] = _LINE
) -> pd.DataFrame:
    """One row per group with what is measured of it; a group of which nothing can be measured has none."""
    made = []
    for labels, group in frame.groupby(list(keys), sort=False, dropna=False):
        found = measure(group)
        if found is not None:
            made.append(dict(zip(keys, labels, strict=True)) | dict(found))
    return pd.DataFrame(made, columns=None if made else list(keys))


# ------------------------------------------------------------------------------------------------- votes and regret


def regret(file: StudyFile) -> pd.DataFrame:
    """Selection regret, by line: how often a right candidate was there (``oracle``), and how often it was not chosen.

    ``regret`` is oracle less accuracy, with its paired interval: what a perfect choice among the same candidates would
    add. What remains up to 1 is missing because no right candidate was found. Lines of environments in which all
    answers that were found are alike (`agent.study.table.uniform_answers`) are left out: there was nothing to choose.
    """
    found = {(row["cell"], row["problem"]) for row in file.candidates() if row["correct"]}
    rows = _known(file.results())
    rows = rows[~rows["environment"].isin(list(uniform_answers(file)))]
    rows["oracle"] = [(row.cell, row.problem) in found for row in rows.itertuples()]

    def measure(group: pd.DataFrame) -> dict[str, Any]:
        chosen = _means(group.assign(mark=group["correct"]))
        best = _means(group.assign(mark=group["oracle"]))
        difference, low, high = paired_difference(chosen, best)
        return {
            "accuracy": sum(chosen.values()) / len(chosen),
            "oracle": sum(best.values()) / len(best),
            "regret": difference,
            "low": low,
            "high": high,
        }

    return _by_line(rows, measure)


def _means(group: pd.DataFrame) -> dict[str, float]:
    """The mean of ``mark`` by problem."""
    means: dict[str, float] = group.assign(mark=group["mark"].astype(float)).groupby("id")["mark"].mean().to_dict()
    return means


def risk_coverage(file: StudyFile) -> pd.DataFrame:
    """What a strategy risks that answers only where it is sure: one row per line and share of searches answered.

    The searches of a line are ordered by how sure they were (`agent.study.rows.certainty`), the surest first; equally
    sure ones are answered together. ``coverage`` is the share that is answered, ``risk`` the share of these that is
    wrong, ``low`` and ``high`` its interval (Wilson's; seeds of a problem are one cluster), and ``threshold`` how sure
    the least sure of them was. ``aurc`` is the area under the line's curve, the mean risk over all coverages: lower is
    better (Geifman and El-Yaniv 2017, arXiv 1705.08500). A search without an answer is wrong and never sure.
    """
    rows = _known(file.results())
    found = [certainty(row) for row in rows.to_dict("records")]
    sure = [one if row.answer is not None else 0.0 for (one, _), row in zip(found, rows.itertuples(), strict=True)]
    made = []
    for labels, group in rows.assign(sure=sure).groupby(_LINE, sort=False, dropna=False):
        points = _risks(group)
        before = [0.0, *(point["coverage"] for point in points)]
        area = sum(point["risk"] * (point["coverage"] - last) for point, last in zip(points, before, strict=False))
        made += [dict(zip(_LINE, labels, strict=True)) | point | {"aurc": area} for point in points]
    return pd.DataFrame(
        made, columns=None if made else [*_LINE, "threshold", "coverage", "risk", "low", "high", "aurc"]
    )


def _risks(group: pd.DataFrame) -> list[dict[str, float]]:
    """The points of one curve of `risk_coverage`; each search is looked at once."""
    ordered = group.sort_values("sure", ascending=False, kind="stable")
    wrong, points = GrowingClusters(), []
    for threshold, same in groupby(zip(ordered["sure"], ordered["id"], ordered["correct"], strict=True), itemgetter(0)):
        for _, problem, correct in same:
            wrong.add(problem, correct != 1)
        low, high = wrong.interval()
        coverage, risk = wrong.count / len(group), wrong.marked / wrong.count
        points.append({"threshold": threshold, "coverage": coverage, "risk": risk, "low": low, "high": high})
    return points


def vote_sensitivity(file: StudyFile) -> pd.DataFrame:
    """Accuracy of every line with scores under every rule and aggregation, with intervals. Nothing is run again.

    ``difference`` is the paired difference to what the searches chose by their own vote, with its interval.
    """
    rows, made = file.results(), []
    chosen = {key: problem_means(marks) for key, marks in _line_marks(rows).items()}
    for vote in VOTES:
        for key, marks in _line_marks(revoted(file, rows, vote)).items():
            labels = dict(zip(GROUP, key, strict=True))
            if not marks or labels["verifier"] == NO_VERIFIER:
                continue
            accuracy, (low, high) = clustered(marks)
            change = paired_difference(chosen[key], problem_means(marks))
            made.append(
                labels
                | {"rule": vote.rule, "aggregate": vote.aggregate, "accuracy": accuracy, "low": low, "high": high}
                | dict(zip(("difference", "difference_low", "difference_high"), change, strict=True))
            )
    return pd.DataFrame(made)


def _line_marks(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """By line, and in it by problem: whether each search was right."""
    lines: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(tuple(row[axis] for axis in GROUP), []).append(row)
    return {key: marks_by_problem(members) for key, members in lines.items()}


def _known(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The results of which it is known whether they are right."""
    return pd.DataFrame([row for row in rows if row["correct"] is not None], columns=list(rows[0]) if rows else _LINE)


# ----------------------------------------------------------------------------------------------- the searches' shape


def shape(file: StudyFile) -> pd.DataFrame:
    """How the searches grew, by line, means over searches; from the stored graphs.

    ``nodes`` without the root; ``depth`` of the candidates, weighted by how often each was drawn, and ``deepest`` of
    any node; ``branching``, the distinct children of a node that was expanded; ``candidates``; ``distinct``, the share
    of the samples behind them that are different trajectories; ``answers``, how many different ones; ``diversity``,
    the exponential of the entropy of the answers (their effective number; 0 without candidates).
    """
    answers = _answers(file)
    return _over_graphs(file, lambda place, nodes, parents: _shape(nodes, parents, answers.get(place, {})))


def _answers(file: StudyFile) -> dict[tuple[int, int], dict[int, int]]:
    """By cell and problem: samples by group of equal answers."""
    found: dict[tuple[int, int], dict[int, int]] = {}
    for row in file.candidates():
        counts = found.setdefault((row["cell"], row["problem"]), {})
        counts[row["same"]] = counts.get(row["same"], 0) + row["count"]
    return found


def _shape(nodes: list[dict[str, Any]], parents: dict[int, int], answers: dict[int, int]) -> dict[str, float]:
    ended = [node for node in nodes if node["status"] == "terminated" and node["count"] and not node["pruned"]]
    samples = sum(node["count"] for node in ended)
    expanded = len(set(parents.values()))
    total = sum(answers.values())
    entropy = -sum(n / total * math.log(n / total) for n in answers.values()) if total else -math.inf
    return {
        "nodes": len(nodes) - 1,
        "depth": sum(node["depth"] * node["count"] for node in ended) / samples if samples else math.nan,
        "deepest": max(node["depth"] for node in nodes),
        "branching": (len(nodes) - 1) / expanded if expanded else math.nan,
        "candidates": len(ended),
        "distinct": len(ended) / samples if samples else math.nan,
        "answers": len(answers),
        "diversity": math.exp(entropy),
    }


def compute(file: StudyFile) -> pd.DataFrame:
    """Where the compute of the searches went, by line; from the stored graphs.

    ``policy_share`` and ``verifier_share`` are of the FLOPs. ``kept``, ``dropped`` and ``rollouts`` are shares of the
    policy tokens generated: for steps of candidates; for steps that no candidate has (pruned, cut, or left open); and
    for steps that were only looked ahead.
    """
    rows = results(file)
    tokens = _over_graphs(file, lambda place, nodes, parents: _fates(nodes, parents), total=True)

    def shares(group: pd.DataFrame) -> dict[str, float]:
        policy, verifier = group["policy_flops"].sum(), group["verifier_flops"].sum()
        whole = policy + verifier or 1.0
        return {
            "flops": whole / len(group),
            "policy_share": policy / whole,
            "verifier_share": verifier / whole,
        }

    fates = ["kept", "dropped", "rollouts"]
    if tokens.empty:
        return _by_line(rows, shares)
    tokens[fates] = tokens[fates].div(tokens[fates].sum(axis=1), axis=0)
    return _by_line(rows, shares).merge(tokens, on=_LINE, how="left")


def _fates(nodes: list[dict[str, Any]], parents: dict[int, int]) -> dict[str, float]:
    kept = set()
    for node in nodes:
        if node["status"] == "terminated" and node["count"] and not node["pruned"]:
            at = node["id"]
            while at and at not in kept:
                kept.add(at)
                at = parents[at]
    fates = {"kept": 0.0, "dropped": 0.0, "rollouts": 0.0}
    for node in nodes[1:]:
        fate = "kept" if node["id"] in kept else "dropped" if node["count"] else "rollouts"
        fates[fate] += node["tokens"]
    return fates


def _over_graphs(
    file: StudyFile,
    measure: Callable[[tuple[int, int], list[dict[str, Any]], dict[int, int]], Mapping[str, float]],
    total: bool = False,
) -> pd.DataFrame:
    """Means (or totals) by line of what is measured of each graph's nodes and parents."""
    cells = {cell["cell"]: cell for cell in file.cells()}
    made = []
    for place, raw in file.raw_graphs():
        parents = {edge["to"]: edge["from"] for edge in raw["edges"]}
        found = measure(place, raw["nodes"], parents)
        made.append({key: cells[place.cell][key] for key in GROUP} | dict(found))
    if not made:
        return pd.DataFrame(columns=_LINE)
    groups = pd.DataFrame(made).groupby(_LINE, sort=False)
    return (groups.sum() if total else groups.mean()).reset_index()


def first_wrong(file: StudyFile) -> pd.DataFrame:
    """Where wrong candidates go wrong, by line, and whether the verifier sees it; for environments with a step checker.

    ``wrong`` candidates in all; the mean position of their ``first`` wrong step (from 1) and of it in the solution
    (``relative``, 0 to 1); the share ``unseen`` in which the checker finds every step right and yet the answer is not;
    the verifier's mean score ``before`` the first wrong step, ``at`` it and ``after``.
    """
    made = []
    checkers: dict[str, Any] = {}
    problems = {row["problem"]: row for row in file.rows("SELECT problem, id, question, answer, meta FROM problems")}
    for row in candidates(file).itertuples():
        if row.environment not in checkers:
            checkers[row.environment] = file.environment(row.environment)
        checker = checkers[row.environment]
        if row.correct or not isinstance(checker, StepChecker):
            continue
        raw = problems[row.problem]
        problem = Problem(raw["id"], raw["question"], raw["answer"], json.loads(raw["meta"]))
        wrong = checker.first_error(State(problem, tuple(Step(text) for text in row.texts)))
        found: dict[str, Any] = {key: getattr(row, key) for key in GROUP}
        found |= {"unseen": wrong is None, "first": math.nan, "relative": math.nan}
        if wrong is not None:
            found |= {"first": wrong + 1, "relative": (wrong + 1) / len(row.texts)}
            parts = {
                "before": row.scores[:wrong],
                "at": row.scores[wrong : wrong + 1],
                "after": row.scores[wrong + 1 :],
            }
            found |= {name: sum(part) / len(part) for name, part in parts.items() if part}
        made.append(found)
    columns = [*GROUP, "unseen", "first", "relative", "before", "at", "after"]
    frame = pd.DataFrame(made, columns=columns)
    numbers = ["unseen", "first", "relative", "before", "at", "after"]
    return _by_line(frame, lambda group: {"wrong": len(group)} | group[numbers].astype(float).mean().to_dict())


# -------------------------------------------------------------------------------------------------------- verifiers


def calibration(file: StudyFile, how: str = "last") -> pd.DataFrame:
    """How far the scores of finished candidates are from the share that is right, by line.

    ``ece`` over 15 bins; ``score`` and ``right``, the means whose difference is the bias; ``auroc`` over all
    candidates; ``within``, the mean AUROC among the candidates of one search, over searches that hold both right and
    wrong ones: what a choice needs. Identical samples count as often as they were drawn.
    """

    def measure(group: pd.DataFrame) -> dict[str, Any] | None:
        group = group.dropna(subset=[how, "correct"])
        if group.empty:
            return None
        group = group.loc[group.index.repeat(group["count"])]
        scores, right = group[how].tolist(), group["correct"].astype(bool).tolist()
        each = [
            auroc(one[how].tolist(), one["correct"].astype(bool).tolist())
            for _, one in group.groupby(["cell", "problem"])
        ]
        known = [value for value in each if not math.isnan(value)]
        return {
            "candidates": len(scores),
            "score": sum(scores) / len(scores),
            "right": sum(right) / len(right),
            "ece": ece(scores, right),
            "auroc": auroc(scores, right),
            "within": sum(known) / len(known) if known else math.nan,
        }

    return _by_line(candidates(file), measure)


def reliability(file: StudyFile, how: str = "last", bins: int = 10) -> pd.DataFrame:
    """The reliability diagram of each line: by bin of the score, how many candidates and what share of them is right.

    Intervals are as wide as if each problem had one candidate there.
    """
    frame = candidates(file).dropna(subset=[how, "correct"])
    frame = frame.assign(bin=np.minimum((frame[how] * bins).astype(int), bins - 1))

    def measure(group: pd.DataFrame) -> dict[str, Any]:
        drawn, problems = group["count"].sum(), group["id"].nunique()
        right = (group["correct"].astype(float) * group["count"]).sum() / drawn
        low, high = wilson(right * problems, problems)
        score = (group[how] * group["count"]).sum() / drawn
        return {"candidates": drawn, "score": score, "right": right, "low": low, "high": high}

    lines = frame.groupby(_LINE, sort=False).ngroup()  # seeds are several cells of one line
    return _by_line(frame.assign(_line=lines).sort_values(["_line", "bin"], kind="stable"), measure, [*GROUP, "bin"])


def agreement(file: StudyFile, how: str = "last") -> pd.DataFrame:
    """How far each two verifiers agree on the same trajectories of the same policy.

    ``trajectories`` that both scored; the ``correlation`` of their scores and that ``within`` problems (scores less
    their mean over the problem), by ranks; the mean ``difference`` (second less first); the AUROC of each
    (``auroc_first``, ``auroc_second``); ``same_choice``, the share of searches of the same strategy, budget and seed
    that ended with the same answer.
    """
    frame = candidates(file).dropna(subset=[how])
    rows = pd.DataFrame(file.results())
    made = []
    for (environment, policy), group in frame.groupby(["environment", "policy"], sort=False):
        of_policy = rows[(rows["environment"] == environment) & (rows["policy"] == policy)]
        for first, second in combinations(group["verifier"].unique(), 2):
            one, other = (
                group[group["verifier"] == name].drop_duplicates(["problem", "texts"])[
                    ["problem", "texts", how, "correct"]
                ]
                for name in (first, second)
            )
            both = one.merge(other, on=["problem", "texts"], suffixes=("_a", "_b"))
            right = both["correct_a"].astype(bool).tolist()
            a, b = both[f"{how}_a"], both[f"{how}_b"]
            centred = [each - each.groupby(both["problem"]).transform("mean") for each in (a, b)]
            chosen = of_policy[of_policy["verifier"] == first].merge(
                of_policy[of_policy["verifier"] == second], on=["strategy", "budget", "seed", "id"]
            )
            made.append(
                {
                    "environment": environment,
                    "policy": policy,
                    "first": first,
                    "second": second,
                    "trajectories": len(both),
                    "correlation": a.rank().corr(b.rank()),
                    "within": centred[0].rank().corr(centred[1].rank()),
                    "difference": float((b - a).mean()),
                    "auroc_first": auroc(a.tolist(), right),
                    "auroc_second": auroc(b.tolist(), right),
                    "same_choice": float((chosen["answer_x"] == chosen["answer_y"]).mean()),
                }
            )
    return pd.DataFrame(made, columns=None if made else ["environment", "policy", "first", "second"])


def length_bias(file: StudyFile, resamples: int = 1000) -> pd.DataFrame:
    """Whether a verifier's scores follow length rather than quality: score against length at equal correctness.

    By environment, policy and verifier, over its distinct candidates: the correlation between the tokens of a ``step``
    and its score, and between the tokens of a whole ``solution`` and its last score. Both are taken within groups of
    candidates of one problem that are alike in being right or wrong (each less its group's mean), so that hard problems
    with long solutions do not pass for a bias. Intervals are of a bootstrap over problems.
    """
    keys = ["environment", "policy", "verifier"]
    frame = candidates(file).dropna(subset=["last", "correct"]).drop_duplicates([*keys, "problem", "texts"])

    def measure(group: pd.DataFrame) -> dict[str, Any]:
        alike = list(zip(group["id"], group["correct"], strict=True))
        steps = [
            (*key, length, score)
            for key, lengths, scores in zip(alike, group["lengths"], group["scores"], strict=True)
            for length, score in zip(lengths, scores, strict=True)
        ]
        wholes = [
            (*key, sum(lengths), last)
            for key, lengths, last in zip(alike, group["lengths"], group["last"], strict=True)
        ]
        found: dict[str, Any] = {"candidates": len(group)}
        for name, rows in (("step", steps), ("solution", wholes)):
            value, low, high = _within(rows, resamples)
            found |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return found

    return _by_line(frame, measure, keys)


def _within(rows: Iterable[tuple[Any, ...]], resamples: int) -> tuple[float, float, float]:
    """The correlation of (problem, group, x, y) within groups and its bootstrap interval; NaN where nothing varies."""
    frame = pd.DataFrame(rows, columns=["problem", "group", "x", "y"])
    groups = frame.groupby(["problem", "group"])
    x, y = (frame[name] - groups[name].transform("mean") for name in ("x", "y"))
    sums = pd.DataFrame({"problem": frame["problem"], "xy": x * y, "xx": x * x, "yy": y * y})
    parts = sums.groupby("problem").sum().to_numpy(dtype=float)  # (problems, 3)
    if not len(parts):
        return math.nan, math.nan, math.nan
    drawn = np.random.default_rng(0).multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=resamples)
    totals = np.vstack([parts.sum(0), drawn @ parts])
    with np.errstate(invalid="ignore", divide="ignore"):
        values = totals[:, 0] / np.sqrt(totals[:, 1] * totals[:, 2])
    if not np.isfinite(values[0]):
        return math.nan, math.nan, math.nan
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high)


# ------------------------------------------------------------------------------------------------------- difficulty


def difficulty(file: StudyFile) -> pd.DataFrame:
    """The policies' pass@1 on each problem, from the study's own independent samples (``samples`` of them).

    Of each seed the line with most samples is used (``majority`` or ``best-of-n``: with one seed these draw the same).
    It is the papers' oracle difficulty, and knows the answers. Problems that a strategy is then measured on are the
    ones it was estimated on, which flatters nobody as long as the samples are many.

    Raises:
        ValueError: when the study has no such line.
    """
    rows = pd.DataFrame([row for row in file.results() if row["strategy"].split()[0] in INDEPENDENT])
    if rows.empty:
        raise ValueError(f"difficulty needs independent samples: a line of {' or '.join(INDEPENDENT)} in the study")
    best = rows.sort_values("drawn", kind="stable").drop_duplicates(
        ["environment", "policy", "seed", "problem"], keep="last"
    )
    right: dict[tuple[int, int], int] = {}
    for row in file.candidates():
        if row["correct"]:
            place = row["cell"], row["problem"]
            right[place] = right.get(place, 0) + row["count"]
    best = best.assign(right=[right.get((row.cell, row.problem), 0) for row in best.itertuples()])
    pooled = best.groupby(["environment", "policy", "id"], sort=False)[["right", "drawn"]].sum().reset_index()
    pooled["pass_at_1"] = pooled["right"] / pooled["drawn"].clip(lower=1)
    return pooled.rename(columns={"drawn": "samples"})[["environment", "policy", "id", "pass_at_1", "samples"]]


def binned(known: pd.DataFrame, bins: Literal["absolute", "quantile"] = "absolute") -> pd.DataFrame:
    """The rows of `difficulty` with the ``bin`` of each problem.

    Args:
        known: the difficulties.
        bins: ``absolute``, by pass@1: easy from 50 %, medium from 10 %, hard (Liu et al. 2025, section 3.2); or
            ``quantile``, five bins of equally many problems, 1 the easiest (Snell et al. 2024, section 3.2).
    """
    if bins == "absolute":
        value = known["pass_at_1"]
        return known.assign(bin=np.select([value >= EASY, value >= HARD], ["easy", "medium"], "hard"))
    known = known.sort_values(["pass_at_1", "id"], ascending=[False, True])
    ranks = known.groupby(["environment", "policy"]).cumcount()
    sizes = known.groupby(["environment", "policy"])["id"].transform("size")
    return known.assign(bin=[str(1 + rank * 5 // size) for rank, size in zip(ranks, sizes, strict=True)])


def by_difficulty(file: StudyFile, bins: Literal["absolute", "quantile"] = "absolute") -> pd.DataFrame:
    """Accuracy by line and bin of `difficulty` (`binned`), with intervals."""
    known = binned(difficulty(file), bins)
    rows = pd.DataFrame(file.results()).merge(known, on=["environment", "policy", "id"])

    def measure(group: pd.DataFrame) -> dict[str, Any] | None:
        marks = marks_by_problem(group.to_dict("records"))
        if not marks:
            return None
        accuracy, (low, high) = clustered(marks)
        return {"problems": len(marks), "accuracy": accuracy, "low": low, "high": high}

    order = {"easy": 0, "medium": 1, "hard": 2}
    made = _by_line(rows, measure, [*GROUP, "bin"])
    if made.empty:
        raise ValueError("no search is over of which it is known whether it is right")
    places = [order.get(each, each) for each in made["bin"]]
    lines = made.groupby(_LINE, sort=False).ngroup()
    return made.assign(_line=lines, _bin=places).sort_values(["_line", "_bin"])[made.columns].reset_index(drop=True)
