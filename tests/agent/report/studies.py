"""Studies and searches that the tests of pages show, and texts that must stay texts."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.recipes.recipe import Component
from agent.search.graph import SearchGraph
from agent.search.solution import Solution
from agent.study.results_db import StudyFile
from agent.study.rows import COSTS, VOTES, Place, Result, result_of, vote_row
from agent.study.run import measure
from agent.study.study import Study
from envs.core import Problem
from envs.toy import Toy

EVIL = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><!--<script> \u2028\u2029"
    "\u202e\u200f\u0000\x1b[31m\ud800 ]]> ${hacked} `code` \\u003c &lt; \"'"
)
VOTE = {"rule": "vote", "aggregate": "last"}
SHOWN = "</script><script>window.hacked = 1</script>"  # as a reader sees its beginning
ESCAPED = ("\\u202e", "\\u200f", "\\x00", "\\x1b", "\\ud800")  # what a reader sees of characters that act


def toy_study(path: Path) -> Path:
    """A study of the toy environment, without a model."""
    strategies = tuple(map(Component, ("best-of-n", "beam", "mcts", "majority")))
    study = Study(
        (Component("toy"),), (Component("scripted"),), strategies, (2, 8), (Component("table"),), seeds=(0, 1), n=10
    )
    measure(study, path)
    return path


def tree(nodes: Sequence[Mapping[str, Any]], problem: Problem | None = None) -> SearchGraph:
    """A search with some nodes after the root, each as far as it differs from a plain step of the root."""
    graph = SearchGraph(Toy(), problem or Toy().read("12 with 1 6 10"))
    raw = graph.to_json()
    for number, given in enumerate(nodes, 1):
        parent = given.get("parent", 0)
        node = dict(raw["nodes"][0]) | {"text": f"step {number}", "count": 1, "tokens": 2, "length": 2, "score": 0.5}
        node |= {"id": number, "depth": raw["nodes"][parent]["depth"] + 1}
        node |= {key: value for key, value in given.items() if key != "parent"}
        if node["answer"] is not None:
            node["status"] = "terminated"
        raw["nodes"].append(node)
        raw["edges"].append(
            {"from": parent, "to": number, "action": node["text"], "prior": None, "count": node["count"]}
        )
    return SearchGraph.from_json(raw, graph.environment)


def fan(width: int) -> SearchGraph:
    """A root with `width` children: the even ones are pruned, the third is wrong, the fifth is right."""
    answers = {3: "7", 5: "2"}
    return tree(
        [{"score": number / (2 * width), "pruned": number % 2 == 0, "answer": answers.get(number)}
         for number in range(1, width + 1)]
    )  # fmt: skip


def steered() -> SearchGraph:
    """A search that ada steered: node 1 is cut, node 5 is written after node 3, the answer of node 6 is accepted."""

    def record(what: str, nodes: int, **facts: Any) -> dict[str, Any]:
        at = {"who": "ada", "at": "2026-11-30T14:05:09+00:00", "seconds": 1.5, "samples": 2.0, "nodes": nodes}
        return {"what": what, **at, "old": None, "new": True, **facts}

    made = tree(
        [{}, {"parent": 1, "answer": "2", "score": 0.9}, {"score": 0.4}, {"answer": "7", "score": 0.5},
         {"parent": 3, "text": "by hand"}, {"parent": 5, "answer": "2", "score": 0.1}]
    )  # fmt: skip
    raw = made.to_json()
    raw["info"]["steering"] = [
        record("budget", 2, old={"samples": 4}, new={"samples": 8}),
        record("prune", 4, node=1),
        record("pin", 4, node=4, old_value=None),
        record("undo", 5, new=2, undone="pin"),
        record("write", 5, node=3, text="by hand", made=[5]),
        record("answer", 6, node=6, new=6),
    ]
    return SearchGraph.from_json(raw, made.environment)


def forest(nodes: int, seed: int = 0) -> SearchGraph:
    """A large search, made at random: a node has eight children at most, and a tenth of the nodes have an answer."""
    rng = random.Random(seed)
    words = ("take", "add", "the", "sum", "of", "left", "right")
    made: list[dict[str, Any]] = []
    children: Counter[int] = Counter()
    for number in range(1, nodes):
        parent = max(number - 1 - int(rng.expovariate(1 / 150)), rng.randrange(number))
        while children[parent] == 8 or (parent and made[parent - 1]["answer"] is not None):
            parent = (parent + 1) % number
        children[parent] += 1
        answer = str(rng.randrange(9)) if rng.random() < 0.1 else None
        text = f"{number}: {' '.join(rng.choices(words, k=9))}"
        made.append(
            {"parent": parent, "text": text, "answer": answer, "score": rng.random(), "pruned": rng.random() < 0.3,
             "visits": rng.randrange(20), "total": 1.0}
        )  # fmt: skip
    return tree(made)


def evil_graph(problem: Problem) -> SearchGraph:
    """A search in which every text is hostile."""
    made = tree(
        [
            {"text": EVIL, "observation": EVIL, "thinking": EVIL},
            {"parent": 1, "text": f"#### {EVIL}", "answer": EVIL},
            {"text": "plain", "pruned": True},
        ],
        problem,
    )
    made.info |= {"strategy": {"name": EVIL}, "policy": EVIL, "stopped": EVIL, "error": EVIL}
    return made


def evil_study(path: Path) -> Path:
    """A study in which every text that a stranger can write is hostile."""
    text = EVIL.replace("\ud800", "").replace("\0", "")
    problem = Problem(text, text, text, {"level": text})
    labels = {"environment": "toy", "policy": text, "verifier": text, "budget": text, "seed": 0}
    cells = [{**labels, "strategy": name} for name in (text, f"second {text}")]
    config = {"environments": ["toy"], "split": "test", "n": 1, "seeds": [0], "vote": VOTE}
    with StudyFile.for_writing(path, config, cells, {"toy": (Toy(), [problem])}) as file:
        for cell in (0, 1):
            graph = evil_graph(problem)
            if cell:
                del graph.info["error"]
            graph.info |= {"spent": dict.fromkeys(COSTS, 1.0), "stopped": text}
            file.write(result_of(Place(cell, 1), Solution.of(graph)))
    return path


def many_results(path: Path, problems: int, lines: int, write: bool = True) -> Path:
    """A study of `problems` x `lines` results without trees, made at random; or without any result."""
    rng, environment = random.Random(0), Toy()
    asked = [
        Problem(f"toy/{number}", f"{number} with 1 {number % 7 + 2} 10", str(number % 9), {"level": number % 5 + 1})
        for number in range(problems)
    ]
    labels = {"environment": "toy", "policy": "p", "verifier": "v", "budget": "4", "seed": 0}
    cells = [{**labels, "strategy": f"beam branch={number}"} for number in range(lines)]
    config = {"environments": ["toy"], "split": "test", "n": problems, "seeds": [0], "vote": VOTE}
    votes = [vote_row([], vote) for vote in VOTES]
    with StudyFile.for_writing(path, config, cells, {"toy": (environment, asked)}) as file:
        for cell in range(lines if write else 0):
            made = []
            for number, problem in enumerate(asked, 1):
                right = rng.random() < 0.4 + cell / 100
                row: dict[str, Any] = {"node": None, "drawn": 4, "stopped": "finished", "error": None, "plan": None}
                row |= {"answer": problem.answer if right else "no", "correct": int(right), "confidence": rng.random()}
                row |= dict.fromkeys(COSTS, 1.0) | {"policy_flops": 1e6 * (cell + 1) * (1 + rng.random())}
                made.append(Result(Place(cell, number), row, [], votes))
            file.write(*made)
    return path


def facts_of(page: str) -> dict[str, Any]:
    """The JSON that a page holds beside its searches."""
    begin = '<script type="application/json" id="data">'
    text = page[page.index(begin) + len(begin) :]
    facts: dict[str, Any] = json.loads(text[: text.index("</script>")])
    return facts
