"""What search found, for other tools: Parquet tables, GraphML, training sets as TRL reads them, samples to replay.

The training sets are JSON lines of TRL's standard formats: *stepwise supervision* (``prompt``, ``completions``,
``labels``) for its PRMTrainer, *preference* (``prompt``, ``chosen``, ``rejected``) for its DPOTrainer and *prompt
completion* (``prompt``, ``completion``) for its SFTTrainer. What is right is known from final answers alone, never from
a step checker.

The label of a step is Monte Carlo's (Math-Shepherd, Wang et al. 2023, hard estimation): it holds if any trajectory
through the step ended right, over all searches of one policy on the problem. Pruned trajectories that ended, rollouts
and those that ended without an answer are counted too: they are samples of what the step can lead to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.study.results_db import StudyFile
from agent.study.rows import Place, scores_of
from envs.core import Step
from envs.messages import UsageError, require
from policies.sample_pool import PooledProblem, PooledSample, PoolHead, write_pool
from policies.training.worked_solutions import Part, parts_of

MOST = 4  # solutions, or pairs, of one problem
Texts = tuple[str, ...]
Parts = tuple[Part, ...]


def export_parquet(files: Sequence[StudyFile], out: Path, most: int = MOST) -> int:
    """Write ``results.parquet``, ``candidates.parquet`` and ``votes.parquet`` into a folder; returns their rows."""
    require("study", "pandas", "pyarrow")
    from agent.study import analysis

    file = _only(files)
    out.mkdir(parents=True, exist_ok=True)
    rows = 0
    for name, read in (("results", analysis.results), ("candidates", analysis.candidates), ("votes", analysis.votes)):
        frame = read(file)
        frame.to_parquet(out / f"{name}.parquet", index=False)
        rows += len(frame)
    return rows


def export_graphml(files: Sequence[StudyFile], out: Path, most: int = MOST) -> int:
    """Write one file per search into a folder, ``cell-3-problem-17.graphml``; returns how many there are."""
    file = _only(files)
    out.mkdir(parents=True, exist_ok=True)
    places = [Place(*row) for row in file.rows("SELECT cell, problem FROM graphs ORDER BY cell, problem")]
    for place in places:
        file.graph(place).export_graphml(out / f"cell-{place.cell}-problem-{place.problem}.graphml")
    return len(places)


def export_prm(files: Sequence[StudyFile], out: Path, most: int = MOST) -> int:
    """Write stepwise supervision; returns how many solutions there are. Needs the stored graphs."""
    return _write(out, stepwise(_only(files), most))


def export_dpo(files: Sequence[StudyFile], out: Path, most: int = MOST) -> int:
    """Write preference pairs; returns how many there are."""
    return _write(out, preferences(_only(files), most))


def export_sft(files: Sequence[StudyFile], out: Path, most: int = MOST) -> int:
    """Write right solutions; returns how many there are."""
    found = right_solutions(_only(files), most)
    return _write(out, ({"prompt": prompt, "completion": text_of(parts)} for prompt, parts in found))


def export_samples(files: Sequence[StudyFile], out: Path, most: int = MOST) -> int:
    """Write the whole independent samples, to be replayed without a model; returns how many there are.

    They are those of greedy decoding, majority and Best-of-N, of one policy. Of cells with the same seed and
    temperature, which draw the same samples, the one with the most is taken, with scores where there is a choice.

    Raises:
        UsageError: when there are none, or they are of two policies, two verifiers or two environments.
    """
    found: dict[tuple[str, float], dict[int, tuple[tuple[int, bool], PooledProblem]]] = {}
    heads: set[PoolHead] = set()
    for file in files:
        for head, seed, pooled in _samples_of(file):
            heads.add(head)
            rank = len(pooled.samples), head.verifier != "none"
            seeds = found.setdefault((pooled.problem, pooled.temperature), {})
            if seed not in seeds or seeds[seed][0] < rank:
                seeds[seed] = rank, pooled
    names = ", ".join(str(file.path) for file in files)
    named = [head for head in heads if head.verifier != "none"] or list(heads)
    if not named:
        raise UsageError(f"{names}: no searches of {', '.join(sorted(_INDEPENDENT))} whose graphs were kept")
    if len(named) > 1 or len({(head.policy, head.policy_digest) for head in heads}) > 1:
        raise UsageError(f"{names}: samples of {len(named)} pairs of models; a file of samples is of one")
    merged = (_merged([pooled for _, pooled in seeds.values()]) for _, seeds in sorted(found.items()))
    return write_pool(out, named[0], merged)


def _samples_of(file: StudyFile) -> Iterator[tuple[PoolHead, int, PooledProblem]]:
    """The samples of each search that drew whole independent ones: their models, its seed, and what it drew."""
    cells, models = {cell["cell"]: cell for cell in file.cells()}, file.config.get("models", {})
    for place, raw in file.raw_graphs():
        info, cell = raw["info"], cells[place.cell]
        strategy = info.get("strategy") or {}
        if strategy.get("name") not in _INDEPENDENT or strategy.get("distinct"):
            continue
        temperature = 0.0 if strategy["name"] == "greedy" else float(strategy["temperature"])
        pooled = _pooled(raw, temperature)
        if pooled is None:
            continue
        spent = info["spent"]
        size = round(spent["verifier_flops"] / (2 * spent["verifier_tokens"])) if spent["verifier_tokens"] else 0
        verifier = info["verifier"], size, models.get(cell["verifier"], "")
        scored = pooled.samples[0].scores is not None
        head = PoolHead(
            info["policy"],
            info["policy_parameters"],
            models.get(cell["policy"], ""),
            *(verifier if scored else ("none", 0, "")),
        )
        yield head, raw["seed"], pooled


_INDEPENDENT = {"greedy", "majority", "best-of-n"}


def _merged(parts: list[PooledProblem]) -> PooledProblem:
    return replace(parts[0], samples=tuple(sample for part in parts for sample in part.samples))


def _pooled(raw: Mapping[str, Any], temperature: float) -> PooledProblem | None:
    """The samples of a saved search: the ends of its paths, each as often as it was drawn."""
    nodes = {node["id"]: node for node in raw["nodes"]}
    parents = {edge["to"]: edge["from"] for edge in raw["edges"]}
    inner = set(parents.values())
    ends = [id for id in nodes if id not in inner and id in parents]
    if not ends:
        return None
    spent = raw["info"]["spent"]
    paths = []
    for end in ends:
        path = [end]
        while parents[path[-1]] in parents:
            path.append(parents[path[-1]])
        paths.append([nodes[id] for id in reversed(path)])
    tokens = _shares(round(spent["verifier_tokens"]), sum(path[-1]["score"] is not None for path in paths))
    samples = []
    for path in paths:
        steps = tuple(
            Step(node["text"], node["length"], node["logprob"], node["finish"], node["observation"]) for node in path
        )
        scores = tuple(node["score"] for node in path)
        sample = PooledSample(steps) if None in scores else PooledSample(steps, scores, next(tokens))
        samples += [sample] * path[-1]["count"]
    return PooledProblem(raw["problem"]["id"], temperature, round(spent["prefilled"]), tuple(samples))


def _shares(total: int, count: int) -> Iterator[int]:
    """What each of some samples took of what they took together, which is all that is known: as equal as can be."""
    return ((total * (at + 1)) // count - (total * at) // count for at in range(count))


EXPORTS: dict[str, Callable[[Sequence[StudyFile], Path, int], int]] = {
    "parquet": export_parquet,
    "graphml": export_graphml,
    "samples": export_samples,
    "trl-prm": export_prm,
    "trl-dpo": export_dpo,
    "trl-sft": export_sft,
}
"""What ``stepwell export --to`` takes."""


def _only(files: Sequence[StudyFile]) -> StudyFile:
    if len(files) > 1:
        raise UsageError(f"{len(files)} files given; several are put together only by --to samples")
    return files[0]


def _write(out: Path, rows: Iterator[Mapping[str, Any]]) -> int:
    count = 0
    with out.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


# ----------------------------------------------------------------------------------------------------- the examples


def right_solutions(file: StudyFile, most: int = MOST) -> Iterator[tuple[str, Parts]]:
    """Prompts and different right solutions, at most `most` of a problem: those drawn most often, then the best scored.

    A solution is its steps and the observations between them, in parts: a policy learns the steps alone.

    Raises:
        UsageError: when there are no gold answers to tell what is right.
    """
    for problem, solutions in _solutions(file):
        right = [parts for parts, correct in solutions if correct]
        yield from ((problem["prompt"], parts) for parts in right[:most])


def preferences(file: StudyFile, most: int = MOST) -> Iterator[dict[str, str]]:
    """Pairs of a right and a wrong solution of a problem, the commonest of both first, at most `most` of each."""
    for problem, solutions in _solutions(file):
        right = [text_of(parts) for parts, correct in solutions if correct]
        wrong = [text_of(parts) for parts, correct in solutions if not correct]
        for at in range(min(most, max(len(right), len(wrong)))):
            if right and wrong:
                chosen, rejected = right[at % len(right)], wrong[at % len(wrong)]
                yield {"prompt": problem["prompt"], "chosen": chosen, "rejected": rejected}


def text_of(parts: Parts) -> str:
    """A solution as one text, as it follows its prompt."""
    return "".join(text for text, _ in parts)


def _solutions(file: StudyFile) -> Iterator[tuple[Mapping[str, Any], list[tuple[Parts, bool]]]]:
    """Each problem with its different solutions, whether each is right, in order of preference."""
    delimiters = {row["environment"]: row["delimiter"] for row in file.rows("SELECT * FROM environments")}
    problems = _problems(file)
    found: dict[int, dict[Parts, list[Any]]] = {}  # by problem and solution: right, draws, score
    for row in file.candidates():
        steps = [Step(step["text"], observation=step.get("observation") or "") for step in json.loads(row["steps"])]
        parts = tuple(parts_of(delimiters[problems[row["problem"]]["environment"]], steps))
        facts = found.setdefault(row["problem"], {}).setdefault(parts, [bool(row["correct"]), 0, 0.0])
        facts[1] = max(facts[1], row["count"])  # cells that draw the same samples do not add up
        facts[2] = max(facts[2], (scores_of(row) or (0.0,))[-1])
    for number, known in sorted(found.items()):
        order = sorted(known, key=lambda parts: (-known[parts][1], -known[parts][2], text_of(parts)))
        yield problems[number], [(parts, known[parts][0]) for parts in order]


def _problems(file: StudyFile) -> dict[int, Mapping[str, Any]]:
    problems: dict[int, Mapping[str, Any]] = {row["problem"]: dict(row) for row in file.rows("SELECT * FROM problems")}
    if all(problem["answer"] is None for problem in problems.values()):
        raise UsageError(f"{file.path} has no gold answers, so that nothing in it is known to be right")
    return problems


def stepwise(file: StudyFile, most: int = MOST) -> Iterator[dict[str, Any]]:
    """Solutions with a label for each step, at most `most` right and as many wrong ones of a problem and a policy.

    Raises:
        UsageError: when the graphs were not kept, or there are no gold answers.
    """
    problems, cells = _problems(file), {cell["cell"]: cell for cell in file.cells()}
    by_problem: dict[tuple[int, str], list[Place]] = {}
    for row in file.rows("SELECT cell, problem FROM graphs ORDER BY problem, cell"):
        by_problem.setdefault((row["problem"], cells[row["cell"]]["policy"]), []).append(Place(*row))
    if not by_problem:
        raise UsageError(f"{file.path} has no graphs; labels of steps need a study with 'graphs: true'")
    for (number, _), places in by_problem.items():
        hopeful: set[Texts] = set()  # prefixes through which a trajectory ended right
        ends: dict[Texts, bool] = {}
        for place in places:
            for texts, right in _ends(file, place):
                ends[texts] = right
                if right:
                    hopeful.update(texts[:depth] for depth in range(1, len(texts) + 1))
        for wanted in (True, False):
            for texts in [texts for texts, right in ends.items() if right == wanted][:most]:
                labels = [texts[:depth] in hopeful for depth in range(1, len(texts) + 1)]
                yield {"prompt": problems[number]["prompt"], "completions": list(texts), "labels": labels}


def _ends(file: StudyFile, place: Place) -> Iterator[tuple[Texts, bool]]:
    """The texts of every trajectory of a search that ended, and whether it ended right."""
    graph = file.graph(place)
    for node in graph.graph:
        if graph.status(node) != "running":
            answer = graph[node]["answer"]
            right = answer is not None and graph.environment.check(graph.problem, answer)
            yield graph.state(node).texts, right
