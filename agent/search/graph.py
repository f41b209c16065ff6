"""One search, kept as a networkx graph: every state reached, every score, every cost.

Nodes are integers in order of creation; the root is 0. The graph is a tree, and a search never removes from it. An
attempt goes from the root to its answer. A revision goes on from the answer of an earlier attempt: its first step is a
child of that terminated node, so the tree tells which attempts it was shown (`SearchGraph.attempts`), and has depth 1.

=============  =====================================================================================================
node attribute meaning
=============  =====================================================================================================
text           the step that led here; empty at the root
finish         ``step``, ``answer`` or ``length``: how the step ended
observation    the environment's reply to the step, if any
thinking       what the policy thought before the step; only where it did
depth          steps from the root
reward         R of the MDP: what the environment told of the step (`envs.core.Transition`); 0 if nothing
status         ``running``, ``terminated`` (has an answer) or ``truncated`` (ended without one)
answer         the answer of a terminated node, else None
tokens         policy tokens generated for it, over all identical samples
length         policy tokens of one such sample
logprob        log-probability of the step at temperature 1, in nats
count          identical samples merged here, rollouts not counted; votes weigh by it
drawn          samples drawn from here so far; seeds go on from it
score          the verifier's score of the step, in [0, 1], or None
unscored       whether the verifier failed on the step (NaN, none): its score is then 0
value          what the strategy thinks of the node (beam: its rank value; MCTS: PRM value), or None
visits, total  MCTS statistics: visits and the sum of backed-up values
pruned         dropped by the strategy; does not vote
=============  =====================================================================================================

Edges carry ``action`` (the step's text), ``prior`` (the child's share of the samples that left its parent, as MCTS
sees it, or None) and ``count``. ``SearchGraph.info`` carries the rest: names of the parts, the plan, the costs, why
it stopped.
"""

from __future__ import annotations

import json
import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import networkx as nx

from agent.search.context import Outcome, RunContext
from agent.search.graph_file import check_graph, read_json, shown_value
from envs.core import Environment, Problem, State, Status, Step
from verifiers.voting import Candidate, Group, Vote, tally

FORMAT = "stepwell-graph/1"
SHOWN = 4  # most earlier attempts that a revision is shown (Snell et al. 2024, section 6.1)


class OtherEnvironment(ValueError):
    """A saved search is one in another environment than the one at hand.

    Args:
        given: the name of its environment.
        here: the name of the one at hand.
        where: what the message begins with, e.g. the file.
    """

    def __init__(self, given: str, here: str, where: str = "this is ") -> None:
        super().__init__(f"{where}a search in environment {given!r}; the environment here is {here!r}")
        self.given = given
        self.here = here


class SearchGraph:
    """The graph of one search on one problem.

    Args:
        environment: decides what each step leads to.
        problem: what is being solved.
        seed: every sample's seed derives from it, the problem's id and the sample's place.
        scope: names the search to policies and verifiers while it runs; not saved.
        start: the state to start from, if the environment has been asked for it already.
        context: what the search runs with.

    Attributes:
        graph: the networkx graph described above; for reading.
        context: what the search runs with; strategies and the planner read it.
        outcome: what the vote chose, once the search is over; None before that.
        info: JSON-ready records about the search. Nothing that decides is read from it.
    """

    root = 0

    def __init__(
        self,
        environment: Environment,
        problem: Problem,
        seed: int = 0,
        scope: str = "",
        start: State | None = None,
        context: RunContext | None = None,
    ) -> None:
        self.environment = environment
        self.problem = problem
        self.seed = seed
        self.scope = scope
        self.context = context or RunContext()
        self.outcome: Outcome | None = None
        self.info: dict[str, Any] = {"environment": environment.name}
        self.graph: nx.DiGraph[int] = nx.DiGraph()
        # the graph's own dictionaries, by node and by the node that an edge leads to: its views are slow to look up
        self._attributes: dict[int, dict[str, Any]] = {}
        self._edges: dict[int, dict[str, Any]] = {}
        self._states: list[State] = []
        self._parents: list[int] = []
        self._before: list[int] = []  # the node before in the same attempt
        self._paths: list[int] = []  # policy tokens on the path of one sample
        self._index: dict[tuple[int, str, str], int] = {}
        self._finished: list[int] = []
        self._generated = 0
        self._unscored = 0
        self._leaves: dict[int, None] = {}  # running nodes that samples reached and none went on from
        self._new(-1, start or environment.initial(problem), Step(""), "running", None)

    # -------------------------------------------------------------------------------------------------- structure

    def __len__(self) -> int:
        return len(self._states)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchGraph) and self.to_json() == other.to_json()

    __hash__ = object.__hash__

    def __getitem__(self, node: int) -> dict[str, Any]:
        """The attributes of a node."""
        return self._attributes[node]

    def state(self, node: int) -> State:
        """The state at a node."""
        return self._states[node]

    def parent(self, node: int) -> int | None:
        """The node before, or None at the root."""
        return None if node == self.root else self._parents[node]

    def children(self, node: int) -> list[int]:
        """The nodes after, in order of creation."""
        return list(self.graph.successors(node))

    def before(self, node: int) -> int:
        """The node before in the same attempt: the parent, or the root for the first step of a revision."""
        return self._before[node]

    def path(self, node: int) -> list[int]:
        """Nodes from the root to a node, both included, those of earlier attempts left out."""
        found = [node]
        while found[-1] != self.root:
            found.append(self._before[found[-1]])
        return found[::-1]

    def attempts(self, node: int) -> list[int]:
        """The ends of the attempts on the way from the root to a node, itself included if it ends one, oldest first.

        A revision that begins at a node is shown the last `SHOWN` of them.
        """
        found = []
        while node != self.root:
            if self.status(node) == "terminated":
                found.append(node)
            node = self._parents[node]
        return found[::-1]

    def start(self, node: int) -> State:
        """The state that samples drawn at a node go on from; at a terminated one, they are revisions."""
        if self.status(node) != "terminated":
            return self._states[node]
        attempts = tuple(self._states[end].steps for end in self.attempts(node)[-SHOWN:])
        return replace(self._states[self.root], attempts=attempts)

    def status(self, node: int) -> Status:
        """``running``, ``terminated`` or ``truncated``."""
        status: Status = self._attributes[node]["status"]
        return status

    def count(self, node: int) -> int:
        """Identical samples merged in a node, rollouts not counted."""
        count: int = self._attributes[node]["count"]
        return count

    def add(self, parent: int, steps: Sequence[Step], rollout: bool = False) -> int:
        """Add the steps of one sample under a node and return the last node; identical siblings are one node.

        Steps after the end of a trajectory, as the environment sees it, are not added; under a terminated node the
        steps begin another attempt.
        """
        at = parent
        for step in steps:
            reached = self.status(at)
            if reached == "truncated" or (at != parent and reached == "terminated"):
                break
            key = (at, step.text, step.finish)
            node = self._index.get(key, -1)
            if node < 0:
                start = self.start(at)
                after = self.environment.step(start, step)
                answer = self.environment.answer(after.state) if after.status == "terminated" else None
                status: Status = "truncated" if after.status == "terminated" and answer is None else after.status
                state = replace(after.state, attempts=start.attempts) if start.attempts else after.state
                node = self._new(at, state, step, status, answer, after.reward)
                self._index[key] = node
            attributes = self._attributes[node]
            attributes["tokens"] += step.tokens
            self._generated += step.tokens
            if not rollout:
                if not attributes["count"]:
                    self._reached(at, node)
                attributes["count"] += 1
                self._edges[node]["count"] += 1
            at = node
        return at

    def _new(
        self, parent: int, state: State, step: Step, status: Status, answer: str | None, reward: float = 0.0
    ) -> int:
        node = len(self._states)
        depth = len(state.steps)
        self._states.append(state)
        self._parents.append(parent)
        before = self.root if parent >= 0 and self.status(parent) == "terminated" else parent
        self._before.append(before)
        self._paths.append(step.tokens + (self._paths[before] if parent >= 0 else 0))
        self.graph.add_node(
            node,
            text=step.text,
            finish=step.finish,
            observation=state.steps[-1].observation if state.steps else "",
            depth=depth,
            reward=reward,
            status=status,
            answer=answer,
            tokens=0,
            length=step.tokens,
            logprob=step.logprob,
            count=0,
            drawn=0,
            score=None,
            unscored=False,
            value=None,
            visits=0,
            total=0.0,
            pruned=False,
            **({"thinking": step.thinking} if step.thinking else {}),
        )
        self._attributes[node] = self.graph.nodes[node]
        if parent >= 0:
            self.graph.add_edge(parent, node, action=step.text, prior=None, count=0)
            self._edges[node] = self.graph.get_edge_data(parent, node)
        return node

    def _reached(self, parent: int, node: int) -> None:
        """Keep the lists of ends up to date when a first sample, not a rollout, reaches a node."""
        self._leaves.pop(parent, None)
        status = self.status(node)
        if status == "running":
            self._leaves[node] = None
        elif status == "terminated":
            insort(self._finished, node)

    # ----------------------------------------------------------------------------------------- scores and answers

    def scores(self, node: int) -> tuple[float, ...]:
        """The scores of the steps up to a node; () when one of them has none."""
        found = []
        while node != self.root:
            score = self._attributes[node]["score"]
            if score is None:
                return ()
            found.append(score)
            node = self._before[node]
        return tuple(reversed(found))

    def set_scores(self, node: int, scores: Sequence[float]) -> None:
        """Write one score per step on the path to a node. A step keeps the first score it got.

        A missing score, NaN or an infinity counts as 0 and is marked as unscored; what lies outside [0, 1] is clamped.

        Raises:
            ValueError: more scores than steps, so that none can be told to belong to its step.
        """
        path = self.path(node)[1:]
        if len(scores) > len(path):
            raise ValueError(f"{len(path)} steps were to be scored; the verifier gave {len(scores)} scores")
        for at, score in zip(path, chain(scores, repeat(math.nan)), strict=False):
            attributes = self._attributes[at]
            if attributes["score"] is None:
                attributes["unscored"] = not math.isfinite(score)
                self._unscored += attributes["unscored"]
                attributes["score"] = min(max(float(score), 0.0), 1.0) if math.isfinite(score) else 0.0

    def finished(self) -> list[int]:
        """Terminated nodes that vote, in order of creation: rollouts and pruned ones do not."""
        return [node for node in self._finished if not self._attributes[node]["pruned"]]

    def candidates(self) -> list[Candidate]:
        """What the vote counts: the finished nodes, with their answers and the scores of their steps."""
        return [Candidate(self[n]["answer"], self.scores(n), self[n]["count"], n) for n in self.finished()]

    def tally(self, vote: Vote) -> list[Group]:
        """The answers, heaviest first."""
        return tally(self.candidates(), vote, self.environment.same)

    def choice(self) -> Outcome:
        """The outcome; while the search is under way, or was loaded, what the vote chooses of what has finished."""
        return self.outcome or Outcome.of(self.tally(self.context.vote))

    def correct(self) -> bool | None:
        """Whether the answer that the vote chose is right; None when the problem has no gold answer."""
        if self.problem.answer is None:
            return None
        answer = self.choice().answer
        return answer is not None and self.environment.check(self.problem, answer)

    # ------------------------------------------------------------------------------------------------------- cost

    def path_tokens(self, node: int) -> int:
        """Policy tokens of one sample from the root to a node."""
        return self._paths[node]

    @property
    def generated(self) -> int:
        """Policy tokens generated for the graph."""
        return self._generated

    @property
    def unscored(self) -> int:
        """Steps that the verifier failed on."""
        return self._unscored

    def samples(self, since: int = 0) -> float:
        """What was spent, in sample-equivalents: one is one complete solution's worth of policy tokens.

        The tokens of a solution are the mean over the finished trajectories, weighted by count, or those of the
        longest that is still open, its rollout included, if that is more (so that a few early endings do not make the
        others look dear). What a finished or pruned trajectory passed through is not open: n complete samples cost n,
        however their lengths differ. While nothing has finished, they are those of the longest path: what an earlier
        round lost to truncation does not make the next one's first steps look like solutions.

        Args:
            since: leave out what was spent before so many tokens were generated.
        """
        if not self._generated:
            return 0.0
        weights = [(self._paths[node], self._attributes[node]["count"]) for node in self._finished]
        total = sum(count for _, count in weights)
        if not total:
            return (self._generated - since) / (max(self._paths) or 1)
        mean = sum(path * count for path, count in weights) / total
        still_open = (self._reach(node) for node in self._leaves if not self._attributes[node]["pruned"])
        return (self._generated - since) / (max(mean, max(still_open, default=0)) or 1)

    def _reach(self, node: int) -> int:
        """Path tokens of the longest that was looked ahead from a leaf."""
        return max((self._reach(child) for child in self.graph.successors(node)), default=self._paths[node])

    # ------------------------------------------------------------------------------------------------------- files

    def to_json(self) -> dict[str, Any]:
        """Everything but the scope, ready for JSON."""
        problem = self.problem
        return {
            "format": FORMAT,
            "problem": {
                "id": problem.id,
                "question": problem.question,
                "answer": problem.answer,
                "meta": dict(problem.meta),
            },
            "seed": self.seed,
            "info": self.info,
            "nodes": [{"id": node} | attributes for node, attributes in self.graph.nodes(data=True)],
            # not of the view `edges`, which networkx keeps and which keeps the graph: nothing would free it at once
            "edges": [
                {"from": a, "to": b} | attributes
                for a, after in self.graph.adjacency()
                for b, attributes in after.items()
            ],
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any], environment: Environment) -> SearchGraph:
        """Undo `to_json`.

        Raises:
            OtherEnvironment: the search was one in another environment.
            ValueError: it is no search, is of another version, or a part is missing or wrong.
        """
        if not isinstance(raw, dict):
            raise ValueError(f"a mapping is expected, not a {type(raw).__name__}")
        if raw.get("format") != FORMAT:
            raise ValueError(f"format {shown_value(raw.get('format'))} given; this version reads {FORMAT!r}")
        check_graph(raw)
        if raw["info"].get("environment") != environment.name:
            raise OtherEnvironment(str(raw["info"].get("environment")), environment.name)
        context = RunContext.from_info(raw["info"])
        made = cls(environment, Problem(**raw["problem"]), raw["seed"], context=context)
        made.info = raw["info"]
        parents = {edge["to"]: edge["from"] for edge in raw["edges"]}
        for node, each in enumerate(raw["nodes"]):
            each = {"reward": 0.0} | each  # which graphs of older versions lack
            attributes = {name: each[name] for name in made[cls.root]}
            thinking = each.get("thinking", "")
            if node != cls.root:
                step = Step(
                    attributes["text"],
                    attributes["length"],
                    attributes["logprob"],
                    attributes["finish"],
                    attributes["observation"],
                    thinking,
                )
                parent = parents[node]
                made._new(parent, made.start(parent).then(step), step, attributes["status"], attributes["answer"])
                made._index[parent, step.text, step.finish] = node
            made[node].update(attributes)
            made._generated += attributes["tokens"]
            made._unscored += attributes["unscored"]
            if node != cls.root and attributes["count"]:
                made._reached(parents[node], node)
        for edge in raw["edges"]:
            made.graph[edge["from"]][edge["to"]].update(prior=edge["prior"], count=edge["count"])
        return made

    def save(self, path: Path) -> None:
        """Write JSON, or GraphML when the path ends in .graphml."""
        if path.suffix == ".graphml":
            self.export_graphml(path)
        else:
            path.write_text(json.dumps(self.to_json(), allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path, environment: Environment) -> SearchGraph:
        """Read what `save` wrote, in bounded time and memory.

        Raises:
            OSError: there is no such file, or it cannot be read.
            OtherEnvironment: naming the file; the search was one in another environment.
            ValueError: naming the file; it is not a saved search, or a damaged one.
        """
        if path.suffix == ".graphml":
            raise ValueError(f"{path} is a search for other tools; only those saved as .json can be loaded")
        try:
            return cls.from_json(read_json(path), environment)
        except OtherEnvironment as error:
            raise OtherEnvironment(error.given, error.here, f"{path} holds ") from None
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is not a saved search: {error}") from None

    def export_graphml(self, path: Path) -> None:
        """Write GraphML for other tools; attributes that are None are left out, ``info`` becomes a JSON text."""
        plain: nx.DiGraph[int] = nx.DiGraph(info=json.dumps(self.info), question=_xml_safe(self.problem.question))
        for node, attributes in self.graph.nodes(data=True):
            plain.add_node(node, **{name: _xml_safe(value) for name, value in attributes.items() if value is not None})
        for a, b, attributes in self.graph.edges(data=True):
            plain.add_edge(a, b, **{name: _xml_safe(value) for name, value in attributes.items() if value is not None})
        nx.write_graphml(plain, path)


def _xml_safe(value: Any) -> Any:
    """Control characters, which XML cannot hold, as escapes."""
    if not isinstance(value, str):
        return value
    return "".join(
        c if c in "\t\n" or " " <= c < "\ud800" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else repr(c)[1:-1]
        for c in value
    )
