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
closing        what it wrote to end the step; only where that is other than the delimiter alone
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
deviation      how sure the verifier is of the score, its standard deviation in [0, 0.5]; only where it says so
shown          the ends of the attempts that a revision was shown, if not those before it; only of its first step
large          whether the larger one of two policies wrote the step; only where it did
weight         what the node counts for in a vote (`verifiers.voting.Candidate`); only where the strategy says it
=============  =====================================================================================================

Edges carry ``action`` (the step's text), ``prior`` (the child's share of the samples that left its parent, as MCTS
sees it, or None) and ``count``. ``SearchGraph.info`` carries the rest: names of the parts, the plan, the costs, why
it stopped; and what people did to the search (`agent.search.control.steering`).
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import networkx as nx

from agent.search.context import Outcome, RunContext, Underway
from agent.search.control.steering import INFO, Steering
from agent.search.graph_file import check_edge, check_head, check_node, check_records, check_size, parents_of
from agent.search.json_stream import read_object, write_object
from agent.search.path_hashes import PathHashes
from agent.search.tree import Edge, Node, Tree
from envs.core import Environment, Finish, Problem, State, Status, Step, Transition, Turn
from envs.errors import StepwellError
from verifiers.voting import Candidate, Group, Vote, tally

FORMAT = "stepwell-graph/1"
SHOWN = 4  # most earlier attempts that a revision is shown (Snell et al. 2024, section 6.1)


class OtherEnvironment(StepwellError, ValueError):
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
        graph: the networkx graph described above; attributes can be set there, nodes and edges come by `add` alone.
        context: what the search runs with; strategies and the planner read it.
        outcome: what the vote chose, once the search is over; None before that.
        underway: what there is of a reply that the search awaits, for displays; None while nothing is known of it.
        info: JSON-ready records about the search. Nothing that decides is read from it.
        steering: what people did to the search (`agent.search.control`).
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
        self.underway: Underway | None = None
        self.info: dict[str, Any] = {"environment": environment.name}
        self.path_hashes = PathHashes()
        self.steering = Steering()
        self._tree = Tree()
        self._finished: list[int] = []
        self._unscored = 0
        self._initial = start or environment.initial(problem)
        self._tree.add(-1, Node(self._tree.sums, Step(""), 0.0, "running", None))
        self.graph: nx.DiGraph[int] = self._tree.view()

    def go_on(self, scope: str, context: RunContext) -> None:
        """Take up a search that was over; what its last end says goes into ``info["ends_before"]``."""
        self.scope, self.context, self.outcome = scope, context, None
        ended = ("answer", "node", "confidence", "spent", "stopped", "error", "plan")
        self.info.setdefault("ends_before", []).append(
            {key: self.info.pop(key) for key in ended if key in self.info} | {"nodes": len(self)}
        )

    # -------------------------------------------------------------------------------------------------- structure

    def __len__(self) -> int:
        return len(self._tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchGraph) and self.to_json() == other.to_json()

    __hash__ = object.__hash__

    def __getitem__(self, node: int) -> Node:
        """The attributes of a node, as a mapping."""
        return self._tree.nodes[node]

    def edge(self, node: int) -> Edge:
        """The attributes of the edge that leads to a node, as a mapping."""
        return Edge(self._tree.nodes[node])

    def state(self, node: int) -> State:
        """The state at a node, put together when it is asked for: states that are kept would take quadratic memory."""
        if node == self.root:
            return self._initial
        path = self.path(node)[1:]
        steps = tuple([self._tree.nodes[each].step for each in path])
        first = path[0]
        return State(
            self._initial.problem, steps, self._shown(self._tree.parents[first], self._tree.nodes[first].shown)
        )

    def _shown(self, node: int, ends: Sequence[int] = ()) -> tuple[tuple[Step, ...], ...]:
        """The earlier attempts that samples drawn at a node are shown: those with these ends, or those before it."""
        return tuple(
            tuple([self._tree.nodes[each].step for each in self.path(end)[1:]])
            for end in ends or self.attempts(node, SHOWN)
        )

    def parent(self, node: int) -> int | None:
        """The node before, or None at the root."""
        return None if node == self.root else self._tree.parents[node]

    def children(self, node: int) -> list[int]:
        """The nodes after, in order of creation."""
        return list(self._tree.children(node))

    def before(self, node: int) -> int:
        """The node before in the same attempt: the parent, or the root for the first step of a revision."""
        return self._tree.before[node]

    def path(self, node: int) -> list[int]:
        """Nodes from the root to a node, both included, those of earlier attempts left out."""
        found, before = [node], self._tree.before
        while node != self.root:
            node = before[node]
            found.append(node)
        return found[::-1]

    def attempts(self, node: int, most: int | None = None) -> list[int]:
        """The ends of the attempts on the way from the root to a node, itself included if it ends one, oldest first.

        A revision that begins at a node is shown the last `SHOWN` of them.

        Args:
            node: where the way ends.
            most: how many of the last to give; all by default.
        """
        found: list[int] = []
        while node != self.root and len(found) != most:
            if self._tree.nodes[node].status == "terminated":
                found.append(node)
            node = self._tree.parents[node]
        return found[::-1]

    def start(self, node: int, shown: Sequence[int] = ()) -> State:
        """The state that samples drawn at a node go on from; at a terminated one, they are revisions.

        Args:
            node: where they are drawn.
            shown: of revisions, the ends of the attempts that they are shown; by default those on the way to the node.
        """
        if self._tree.nodes[node].status != "terminated":
            return self.state(node)
        return replace(self._initial, attempts=self._shown(node, shown))

    def status(self, node: int) -> Status:
        """``running``, ``terminated`` or ``truncated``, as a strategy is to see it: what a person cut is truncated."""
        return "truncated" if node in self.steering.excluded else self._tree.nodes[node].status

    def count(self, node: int) -> int:
        """Identical samples merged in a node, rollouts not counted."""
        return self._tree.nodes[node].count

    def add(
        self,
        parent: int,
        steps: Sequence[Step],
        rollout: bool = False,
        transitions: Sequence[Transition] = (),
        shown: Sequence[int] = (),
    ) -> int:
        """Add the steps of one sample under a node and return the last node; identical siblings are one node.

        Steps after the end of a trajectory, as the environment sees it, are not added; under a terminated node the
        steps begin another attempt.

        Args:
            parent: where the sample begins.
            steps: of the sample.
            rollout: it only looks ahead; it does not vote.
            transitions: of the first steps, as far as they are known; of the others the environment is asked.
            shown: the ends of the attempts that it was shown, if they are not those on the way to the parent.
        """
        tree, at, new = self._tree, parent, 0
        state: State | None = None  # at the last node, where it is new
        for i, step in enumerate(steps):
            reached = tree.nodes[at].status
            if reached == "truncated" or (at != parent and reached == "terminated"):
                break
            found = tree.find(at, step.text, step.finish)
            if found < 0:
                start = state or self.start(at)
                after = transitions[i] if i < len(transitions) else self.environment.step(start, step)
                state = replace(after.state, attempts=start.attempts) if start.attempts else after.state
                found = tree.add(at, self._made(step, after))
                if at == parent:
                    tree.nodes[found].shown = tuple(shown)
                new = new or found
                if self.steering.narrows:
                    self.steering.added(at, found)
            node = tree.nodes[found]
            node.tokens += step.tokens
            tree.sums.generated += step.tokens
            if not rollout and tree.reached(found) and node.status == "terminated":
                self._finished.append(found)
            at = found
        if new and (rollout or tree.nodes[at].below_rollout):
            tree.look_ahead(at, new)
        return at

    def write(self, parent: int, text: str, finish: Finish = "step") -> int:
        """Add a step that a person wrote, and return its node; one that is there already is that node, unchanged.

        It costs no tokens. In the length of its path it counts as a step of the usual length.

        Args:
            parent: a running node.
            text: of the step.
            finish: how it ends, as the environment is told.
        """
        tree = self._tree
        found = tree.find(parent, text, finish)
        if found >= 0:
            return found
        drawn = sum(node.count for node in tree.nodes)
        step = Step(text, max(1, round(tree.sums.generated / drawn)) if drawn else 1, finish=finish)
        found = self.add(parent, [step])
        tree.nodes[found].tokens -= step.tokens
        tree.sums.generated -= step.tokens
        return found

    def _made(self, step: Step, after: Transition) -> Node:
        """The node of a step that led so."""
        answer = self.environment.answer(after.state) if after.status == "terminated" else None
        status: Status = "truncated" if after.status == "terminated" and answer is None else after.status
        observation = after.state.steps[-1].observation if after.state.steps else ""
        if observation != step.observation:
            step = replace(step, observation=observation)
        return Node(self._tree.sums, step, after.reward, status, answer)

    # ----------------------------------------------------------------------------------------- scores and answers

    def scores(self, node: int) -> tuple[float, ...]:
        """The scores of the steps up to a node; () when one of them has none."""
        found, nodes, before = [], self._tree.nodes, self._tree.before
        while node != self.root:
            score = nodes[node].score
            if score is None:
                return ()
            found.append(score)
            node = before[node]
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
            attributes = self._tree.nodes[at]
            if attributes.score is None:
                attributes.unscored = not math.isfinite(score)
                self._unscored += attributes.unscored
                attributes.score = min(max(float(score), 0.0), 1.0) if math.isfinite(score) else 0.0

    def replay_steering(self) -> None:
        """Let hold what ``info`` records that people did."""
        self.steering.replay(self.info.get(INFO, ()), self._tree)

    def set_deviations(self, node: int, deviations: Sequence[float]) -> None:
        """Write how sure the verifier is of each score on the path to a node; what it does not know is left out."""
        for at, deviation in zip(self.path(node)[1:], deviations, strict=False):
            if math.isfinite(deviation) and self._tree.nodes[at].deviation is None:
                self._tree.nodes[at].deviation = min(max(float(deviation), 0.0), 0.5)

    def finished(self) -> list[int]:
        """Terminated nodes that vote, in order of creation: rollouts do not, nor what the strategy or a person cut."""
        self._finished.sort()  # all but sorted: rollouts that were drawn in earnest later are out of order
        if self.steering.narrows or self.steering.pinned:
            pinned, excluded = self.steering.pinned, self.steering.excluded
            kept = (node for node in self._finished if node in pinned or not self._tree.nodes[node].pruned)
            return [node for node in kept if node not in excluded]
        return [node for node in self._finished if not self._tree.nodes[node].pruned]

    def candidates(self) -> list[Candidate]:
        """What the vote counts: the finished nodes, with their answers and the scores of their steps."""
        nodes = self._tree.nodes
        return [
            Candidate(self[n]["answer"], self.scores(n), nodes[n].count, n, nodes[n].weight) for n in self.finished()
        ]

    def tally(self, vote: Vote) -> list[Group]:
        """The answers, heaviest first."""
        return tally(self.candidates(), vote, self.environment.same)

    def choice(self) -> Outcome:
        """The outcome; while the search is under way, or was loaded, what the vote chooses of what has finished."""
        if self.outcome is not None:
            return self.outcome
        found = Outcome.of(self.tally(self.context.vote))
        node = self.steering.accepted
        return found if node is None else found.accepting(node, self[node]["answer"], self.environment.same)

    def correct(self) -> bool | None:
        """Whether the answer that the vote chose is right; None when the problem has no gold answer."""
        if self.problem.answer is None:
            return None
        answer = self.choice().answer
        return answer is not None and self.environment.check(self.problem, answer)

    # ------------------------------------------------------------------------------------------------------- cost

    def path_tokens(self, node: int) -> int:
        """Policy tokens of one sample from the root to a node."""
        return self._tree.nodes[node].path

    @property
    def generated(self) -> int:
        """Policy tokens generated for the graph."""
        return self._tree.sums.generated

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
        return self._tree.sums.samples(since)

    # ------------------------------------------------------------------------------------------------------- files

    def to_json(self) -> dict[str, Any]:
        """Everything but the scope, ready for JSON."""
        return self._head() | {"nodes": list(self._saved_nodes()), "edges": list(self._saved_edges())}

    def _head(self) -> dict[str, Any]:
        problem = self.problem
        return {
            "format": FORMAT,
            "problem": {
                "id": problem.id,
                "question": problem.question,
                "answer": problem.answer,
                "meta": dict(problem.meta),
                **({"conversation": [asdict(turn) for turn in problem.conversation]} if problem.conversation else {}),
            },
            "seed": self.seed,
            "info": self.info,
        }

    def _saved_nodes(self) -> Iterator[dict[str, Any]]:
        return ({"id": number, **node} for number, node in enumerate(self._tree.nodes))

    def _saved_edges(self) -> Iterator[dict[str, Any]]:
        tree = self._tree
        for a in range(len(tree)):
            for b in tree.children(a):
                yield {"from": a, "to": b, **Edge(tree.nodes[b])}

    @classmethod
    def from_json(cls, raw: dict[str, Any], environment: Environment) -> SearchGraph:
        """Undo `to_json`.

        Raises:
            OtherEnvironment: the search was one in another environment.
            ValueError: it is no search, is of another version, or a part is missing or wrong.
        """
        check_head(raw, FORMAT)
        saved = _Saved()
        for key, take in (("nodes", saved.node), ("edges", saved.edge)):
            if not isinstance(raw.get(key), list):
                raise ValueError(f"{key!r} is missing or is not a list")
            for each in raw[key]:
                take(each)
        return cls._of(raw, saved, environment)

    @classmethod
    def _of(cls, head: dict[str, Any], saved: _Saved, environment: Environment) -> SearchGraph:
        """The graph of a file's nodes and edges, and of all the rest of it."""
        if head["info"].get("environment") != environment.name:
            raise OtherEnvironment(str(head["info"].get("environment")), environment.name)
        context = RunContext.from_info(head["info"])
        problem = Problem(**head["problem"])
        turns = tuple(Turn(**turn) for turn in problem.conversation)  # type: ignore[arg-type]  # as they are saved
        made = cls(environment, replace(problem, conversation=turns), head["seed"], context=context)
        made.info = head["info"]
        made._tree = saved.tree()
        made.graph = made._tree.view()
        nodes = made._tree.nodes
        made._finished = [at for at, node in enumerate(nodes) if at and node.count and node.status == "terminated"]
        made._unscored = sum(node.unscored for node in nodes)
        if records := head["info"].get(INFO):
            check_records(records, made.graph.nodes)
            made.replay_steering()
        return made

    def save(self, path: Path) -> None:
        """Write JSON, or GraphML when the path ends in .graphml."""
        if path.suffix == ".graphml":
            self.export_graphml(path)
        else:
            write_object(path, self._head(), {"nodes": self._saved_nodes(), "edges": self._saved_edges()})

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
        saved = _Saved()
        try:
            check_size(path)
            head = read_object(path, {"nodes": saved.node, "edges": saved.edge}, lambda head: check_head(head, FORMAT))
            check_head(head, FORMAT)
            return cls._of(head, saved, environment)
        except OtherEnvironment as error:
            raise OtherEnvironment(error.given, error.here, f"{path} holds ") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a saved search: it is no text in UTF-8") from None
        except KeyError as error:
            raise ValueError(f"{path} is not a saved search: {error} is missing") from None
        except (TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is not a saved search: {error}") from None

    def to_html(self) -> str:
        """The search as a page: one file of HTML that needs nothing else (`agent.report`)."""
        from agent.report.pages import search_page

        return search_page(self)

    def _repr_html_(self) -> str:
        """The page in a frame, for notebooks."""
        from agent.report.pages import in_notebook

        return in_notebook(self.to_html())

    def export_graphml(self, path: Path) -> None:
        """Write GraphML for other tools; attributes that are None are left out, ``info`` becomes a JSON text."""
        plain: nx.DiGraph[int] = nx.DiGraph(info=json.dumps(self.info), question=_xml_safe(self.problem.question))
        for node, attributes in self.graph.nodes(data=True):
            plain.add_node(node, **{name: _xml_safe(value) for name, value in attributes.items() if value is not None})
        for a, b, attributes in self.graph.edges(data=True):
            plain.add_edge(a, b, **{name: _xml_safe(value) for name, value in attributes.items() if value is not None})
        nx.write_graphml(plain, path)


class _Saved:
    """What a file says of nodes and edges, taken up one by one, so that the whole of it need not be held."""

    def __init__(self) -> None:
        self._tree = Tree()
        self._nodes: list[Node] = []
        self._from, self._to = array("q"), array("q")
        self._priors: list[float | None] = []

    def node(self, saved: Any) -> None:
        """Take the next node; raises ValueError for another one, or where a part is missing or wrong."""
        self._nodes.append(Node.saved(self._tree.sums, check_node(saved, len(self._nodes))))

    def edge(self, saved: Any) -> None:
        """Take an edge; raises ValueError where a part is missing or wrong."""
        check_edge(saved)
        self._from.append(saved["from"])
        self._to.append(saved["to"])
        self._priors.append(saved["prior"])

    def tree(self) -> Tree:
        """The tree of them; raises ValueError where it is none."""
        parents = parents_of(zip(self._from, self._to, strict=True), len(self._nodes))
        for after, prior in zip(self._to, self._priors, strict=True):
            self._nodes[after].prior = prior
        self._tree.add_saved(parents, self._nodes)
        return self._tree


def _xml_safe(value: Any) -> Any:
    """Control characters, which XML cannot hold, as escapes."""
    if not isinstance(value, str):
        return value
    return "".join(
        c if c in "\t\n" or " " <= c < "\ud800" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else repr(c)[1:-1]
        for c in value
    )
