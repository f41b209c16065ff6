"""The graph of a search: what is merged, what votes, what it costs, and that files bring all of it back."""

import dataclasses
import gc
import io
import json
import math
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.interface.terminal.console import PlainConsole
from agent.interface.tree_explained import explain_node
from agent.interface.tree_view import answers_view, search_tree, solution_view
from agent.search import graph_file
from agent.search.budget import Meter
from agent.search.context import Outcome
from agent.search.graph import OtherEnvironment, SearchGraph
from agent.search.solution import Solution
from agent.search.tree import Node
from envs.core import Problem, State, Step, Transition, Turn, transition
from envs.toy import Toy
from verifiers.voting import Vote

TOY = Toy()


def coin(text: str, tokens: int = 2, **knobs: Any) -> Step:
    return Step(text, tokens, -0.5, **knobs)


def searched() -> SearchGraph:
    """12 with 1, 6 and 10: 6 + 6 twice, 10 + 1 + 1 once, 10 + 10 too much, 6 alone unfinished, 1 + 1 a rollout."""
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"), seed=3)
    graph.add(0, [coin("6", 3), coin("6", 4)])  # 1, 2
    graph.add(0, [coin("10"), coin("1"), coin("1")])  # 3, 4, 5
    graph.add(0, [coin("6", 3), coin("6", 4)])
    graph.add(3, [coin("10")])  # 6
    graph.add(0, [coin("1", 1), coin("1", 1)], rollout=True)  # 7, 8
    graph.set_scores(2, (0.9, 0.8))
    graph.set_scores(5, (0.2, 0.4, 0.7))
    graph.info |= {"answer": "2", "nested": {"é": [1, None, 0.5]}}
    return graph


def test_identical_siblings_merge_and_the_rest_does_not() -> None:
    graph = searched()
    assert [graph[node]["text"] for node in range(9)] == ["", "6", "6", "10", "1", "1", "10", "1", "1"]
    assert [graph.count(node) for node in range(9)] == [0, 2, 2, 1, 1, 1, 1, 0, 0]
    assert [graph[node]["tokens"] for node in range(9)] == [0, 6, 8, 2, 2, 2, 2, 1, 1]
    assert [graph[node]["length"] for node in (1, 2)] == [3, 4]
    assert [graph.status(node) for node in range(9)] == [
        *["running", "running", "terminated", "running", "running", "terminated", "truncated", "running", "running"]
    ]
    assert graph.children(0) == [1, 3, 7]
    assert graph.path(5) == [0, 3, 4, 5]
    assert (graph.parent(0), graph.parent(5)) == (None, 4)
    assert graph.state(5).texts == ("10", "1", "1")
    assert nx.is_arborescence(graph.graph)
    # the same text that ended otherwise is another step
    assert graph.add(0, [coin("6", finish="length")]) == 9
    assert graph.add(0, [coin("6")]) == 1


def test_siblings_that_only_thought_otherwise_merge_and_the_first_thought_is_kept() -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    assert graph.add(0, [coin("6", thinking="hm")]) == graph.add(0, [coin("6", thinking="hum")]) == 1
    assert graph.add(0, [coin("10")]) == 2
    assert (graph.count(1), graph.state(1).steps[0].thinking, graph[1]["thinking"]) == (2, "hm", "hm")
    assert "thinking" not in graph[2]
    back = SearchGraph.from_json(json.loads(json.dumps(graph.to_json())), TOY)
    assert back == graph
    assert back.state(1) == graph.state(1)


def test_steps_after_the_end_are_not_added() -> None:
    graph = SearchGraph(TOY, TOY.read("2 with 1 2"))
    assert graph.add(0, [coin("2"), coin("1"), coin("1")]) == 1
    assert len(graph) == 2
    assert graph.generated == 2
    lost = graph.add(0, [coin("1"), coin("9")])
    assert graph.status(lost) == "truncated"
    assert graph.add(lost, [coin("1")]) == lost


def test_an_attempt_goes_on_from_the_answer_of_an_earlier_one() -> None:
    graph = SearchGraph(TOY, TOY.read("2 with 1 2"))
    first = graph.add(0, [coin("1"), coin("1")])
    assert graph.start(0) == graph.state(0)
    assert graph.start(first) == State(graph.problem, (), (graph.state(first).steps,))
    again = graph.add(first, [coin("2")])
    assert (graph.parent(again), graph.path(again), graph[again]["depth"]) == (first, [0, again], 1)
    assert graph.state(again).texts == ("2",)
    assert graph.state(again).attempts == (graph.state(first).steps,)
    assert graph.add(first, [coin("2")]) == again  # merged
    assert graph.add(0, [coin("2")]) != again  # nothing was shown to this one
    graph.set_scores(again, [0.7])
    assert (graph.scores(again), graph.scores(first)) == ((0.7,), ())
    assert graph.path_tokens(again) == graph[again]["length"]
    assert graph.attempts(again) == [first, again]
    assert graph.attempts(first) == [first]
    end = graph.add(again, [coin("1"), coin("1")])
    for _ in range(3):
        end = graph.add(end, [coin("2")])
    assert len(graph.attempts(end)) == 6
    # no more than the last four of them are shown
    assert [step.text for attempt in graph.start(end).attempts for step in attempt] == ["1", "1", "2", "2", "2"]
    assert nx.is_arborescence(graph.graph)
    back = SearchGraph.from_json(json.loads(json.dumps(graph.to_json())), TOY)
    assert back == graph
    assert [back.state(node) for node in back.graph] == [graph.state(node) for node in graph.graph]
    assert back.samples() == graph.samples()


def test_rollouts_and_pruned_nodes_do_not_vote() -> None:
    graph = SearchGraph(TOY, TOY.read("2 with 1 2"))
    ahead = graph.add(0, [coin("2")], rollout=True)
    assert graph.status(ahead) == "terminated"
    assert graph.finished() == []
    assert graph.samples() == 1.0  # it costs all the same
    other = graph.add(0, [coin("1"), coin("1")])
    assert graph.finished() == [other]
    assert graph.add(0, [coin("2")]) == ahead  # now drawn in earnest
    assert graph.finished() == [ahead, other]
    assert graph.count(ahead) == 1
    graph[other]["pruned"] = True
    assert graph.finished() == [ahead]
    assert [group.answer for group in graph.tally(Vote("majority"))] == ["1"]


def test_samples_are_what_a_hand_computes() -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    assert graph.samples() == 0.0
    graph.add(0, [coin("10", 3)])
    assert graph.samples() == 1.0  # one unfinished path of 3 tokens
    graph.add(0, [coin("6", 3), coin("6", 4)])
    assert graph.samples() == pytest.approx(10 / 7)  # one finished of 7
    graph.add(0, [coin("6", 3), coin("6", 4)])
    graph.add(0, [coin("10", 3), coin("1", 5), coin("1", 5)])
    # 7 + 7 + 13 finished and 3 more; a solution is their mean, 9
    assert graph.samples() == pytest.approx(30 / 9)
    graph.add(0, [coin("1", 1)] * 7)  # unfinished and deepest, but shorter in tokens
    assert graph.samples() == pytest.approx(37 / 9)


def test_what_was_lost_tells_how_long_a_solution_is_while_none_has_finished() -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    lost = graph.add(0, [coin("10", 5), coin("10", 5)])
    assert graph.status(lost) == "truncated"
    graph.add(0, [coin("1", 2)])
    assert graph.samples() == pytest.approx(12 / 10)


def test_a_deep_unfinished_path_makes_solutions_longer() -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    graph.add(0, [coin("6", 1), coin("6", 1)])
    graph.add(0, [coin("1", 5)] * 4)
    assert graph.samples() == pytest.approx(22 / 20)


@given(
    st.lists(st.tuples(st.sampled_from(["6 6", "10 1 1", "1 10 1", "1 1 1 1 1 1 6"]), st.integers(1, 9)), min_size=1)
)
def test_n_complete_samples_cost_n(samples: list[tuple[str, int]]) -> None:
    """However their lengths differ, and whatever was merged."""
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    tokens: dict[tuple[str, ...], int] = {}  # identical steps take as many tokens
    for coins, each in samples:
        texts = coins.split()
        graph.add(0, [coin(text, tokens.setdefault(tuple(texts[: i + 1]), each)) for i, text in enumerate(texts)])
    assert graph.samples() == pytest.approx(len(samples))


def test_only_what_is_still_open_makes_solutions_longer() -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    graph.add(0, [coin("6", 1), coin("6", 1)])
    dropped = graph.add(0, [coin("1", 4)])
    assert graph.samples() == pytest.approx(6 / 4)
    graph[dropped]["pruned"] = True
    assert graph.samples() == pytest.approx(6 / 2)
    kept = graph.add(0, [coin("10", 1)])
    graph.add(kept, [coin("1", 4)], rollout=True)
    assert graph.samples() == pytest.approx(11 / 5)  # what was looked ahead from an open leaf is still to come
    graph.add(kept, [coin("1", 4), coin("1", 1)])
    assert graph.samples() == pytest.approx(16 / 4)  # 2 and 6 finished
    assert SearchGraph.from_json(graph.to_json(), TOY).samples() == graph.samples()


def test_what_never_finished_costs_what_its_longest_path_does() -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    for tokens in (10, 20, 30):
        graph.add(0, [coin("x" * tokens, tokens)])
    assert graph.samples() == 2.0


def test_scores_are_clamped_kept_and_marked() -> None:
    graph = searched()
    graph.set_scores(6, (math.nan, 7.0))  # the first step has its score already
    assert graph[3]["score"] == 0.2
    assert not graph[3]["unscored"]
    assert graph.scores(6) == (0.2, 1.0)
    assert graph.scores(7) == ()
    assert graph.scores(0) == ()
    graph.set_scores(8, (-3.0,))  # one short
    assert graph.scores(8) == (0.0, 0.0)
    assert [graph[node]["unscored"] for node in (7, 8)] == [False, True]
    new = graph.add(4, [coin("10")])
    graph.set_scores(new, (0.1, 0.1, math.nan))
    assert (graph[new]["score"], graph[new]["unscored"]) == (0.0, True)
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    after = graph.add(0, [coin("10"), coin("1")])
    with pytest.raises(ValueError, match="2 steps were to be scored; the verifier gave 3 scores"):
        graph.set_scores(after, (0.5, 0.5, 0.5))
    assert graph.scores(after) == ()
    graph.set_scores(after, (0.5, math.inf))
    assert graph.scores(after) == (0.5, 0.0)
    assert graph[after]["unscored"]


def test_correctness_needs_gold() -> None:
    graph = searched()
    assert graph.correct() is True
    graph.outcome = Outcome("3")
    assert graph.correct() is False
    graph.outcome = Outcome()
    assert graph.correct() is False
    blind = SearchGraph(TOY, Problem("x", "12 with 1 6 10"))
    blind.outcome = Outcome("2")
    assert blind.correct() is None


def test_a_graph_of_an_older_version_loads() -> None:
    """Its nodes have no rewards, its record says nothing of a vote or a budget, and its answer is counted anew."""
    graph = searched()
    raw = json.loads(json.dumps(graph.to_json()))
    for node in raw["nodes"]:
        del node["reward"]
    for key in ("vote", "budget"):
        raw["info"].pop(key, None)
    loaded = SearchGraph.from_json(raw, TOY)
    assert loaded.choice().answer == graph.choice().answer
    assert loaded.context.vote == Vote()
    assert loaded[1]["reward"] == 0.0


# ---------------------------------------------------------------------------------------------------------- files


def test_json_brings_everything_back(tmp_path: Path) -> None:
    graph = searched()
    path = tmp_path / "search.json"
    graph.save(path)
    loaded = SearchGraph.load(path, TOY)
    assert loaded == graph
    assert loaded.to_json() == graph.to_json()
    assert list(loaded.graph.edges(data=True)) == list(graph.graph.edges(data=True))
    assert loaded.samples() == graph.samples()
    assert loaded.generated == graph.generated
    assert loaded.finished() == graph.finished()
    for vote in (Vote("majority"), Vote("max", "min"), Vote()):
        assert loaded.tally(vote) == graph.tally(vote)
    assert [loaded.state(node) for node in range(len(graph))] == [graph.state(node) for node in range(len(graph))]
    # and the search can go on, the same in both
    for each in (graph, loaded):
        assert each.add(0, [coin("6", 3), coin("6", 4)]) == 2
        assert each.add(7, [coin("10")]) == 9
        each.set_scores(7, (0.3,))
    assert loaded == graph
    assert loaded.samples() == graph.samples()
    loaded.info["answer"] = "3"
    assert loaded != graph


def test_the_conversation_before_a_question_is_saved_and_checked(tmp_path: Path) -> None:
    turns = (Turn("user", "Hello"), Turn("assistant", "\u2028Hi"))
    problem = dataclasses.replace(TOY.read("12 with 1 6 10"), conversation=turns)
    graph = SearchGraph(TOY, problem)
    graph.save(tmp_path / "search.json")
    loaded = SearchGraph.load(tmp_path / "search.json", TOY)
    assert loaded.problem == problem
    assert loaded.state(0).problem.conversation == turns
    assert "conversation" not in SearchGraph(TOY, TOY.read("12 with 1 6 10")).to_json()["problem"]
    raw = graph.to_json()
    for wrong in (
        "Hello",
        ["Hello"],
        [{"role": "tool", "text": ""}],
        [{"role": "user", "text": 1}],
        [{"role": "user"}],
    ):
        with pytest.raises(ValueError, match=r"conversation|turn 0"):
            SearchGraph.from_json({**raw, "problem": {**raw["problem"], "conversation": wrong}}, TOY)


moves = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.lists(
            st.builds(
                Step,
                st.sampled_from(["1", "6", "10", "", "x\x00\r\ud800é\u2028"]),
                st.integers(0, 9),
                st.floats(-9, 0),
                st.sampled_from(["step", "answer", "length"]),
            ),
            max_size=5,
        ),
        st.booleans(),
        st.lists(st.floats(-1, 2) | st.just(math.nan), max_size=6),
    ),
    max_size=12,
)


@given(moves)
def test_any_graph_survives_files(given: list[tuple[int, list[Step], bool, list[float]]]) -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"), seed=7)
    for at, steps, rollout, scores in given:
        node = graph.add(at % len(graph), steps, rollout)
        graph.set_scores(node, scores[: graph[node]["depth"]])
    loaded = SearchGraph.from_json(json.loads(json.dumps(graph.to_json(), allow_nan=False)), TOY)
    assert loaded == graph
    assert loaded.samples() == graph.samples()
    assert loaded.finished() == graph.finished()
    assert loaded.tally(Vote()) == graph.tally(Vote())


def test_graphml_is_readable_and_holds_the_attributes(tmp_path: Path) -> None:
    graph = searched()
    graph.problem = Problem("x", "12 with\x00 1 6 10")
    graph.add(0, [Step("a\x01b\r<&>\ud800")])
    path = tmp_path / "search.graphml"
    graph.save(path)
    read = nx.read_graphml(path, node_type=int)
    assert set(read.nodes) == set(range(len(graph)))
    assert set(read.edges) == set(graph.graph.edges)
    for node, attributes in graph.graph.nodes(data=True):
        expected = {name: value for name, value in attributes.items() if value is not None and name != "text"}
        assert {name: value for name, value in read.nodes[node].items() if name != "text"} == expected
    assert read.nodes[9]["text"] == r"a\x01b\r<&>\ud800"
    assert read.edges[0, 1] == {"action": "6", "count": 2}
    assert json.loads(read.graph["info"]) == graph.info
    assert read.graph["question"] == r"12 with\x00 1 6 10"


def _broken(**changes: Any) -> str:
    return json.dumps(searched().to_json() | changes)


def _without(name: str) -> str:
    raw = searched().to_json()
    raw["nodes"][3].pop(name)
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a saved search"),
        ("[]", "is not a saved search"),
        ("{}", "format None given; this version reads 'stepwell-graph/1'"),
        (_broken(format="stepwell-graph/9"), "format 'stepwell-graph/9' given"),
        (_broken(info={"environment": "chess"}), "a search in environment 'chess'; the environment here is 'toy'"),
        (_broken(edges=[]), "is not a saved search"),
        (_broken(edges=[{"from": node + 50, "to": node, "prior": None, "count": 0} for node in range(9)]), "saved"),
        (_broken(nodes=searched().to_json()["nodes"][::-1]), "is not a saved search"),
        (_broken(problem={"id": "x"}), "is not a saved search"),
        (_without("text"), "is not a saved search"),
        (_without("score"), "is not a saved search"),
    ],
)
def test_what_is_not_a_graph_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "search.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        SearchGraph.load(path, TOY)
    assert str(path) in str(caught.value)


def test_a_graph_that_is_dropped_is_freed_at_once(tmp_path: Path) -> None:
    graph = searched()
    graph.save(tmp_path / "graph.json")
    loaded = SearchGraph.load(tmp_path / "graph.json", TOY)
    held = [weakref.ref(each.graph) for each in (graph, loaded)]
    gc.disable()  # no cycle keeps it until the garbage collector comes
    try:
        del graph, loaded
        assert all(each() is None for each in held)
    finally:
        gc.enable()


def _values(raw: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in parsed JSON."""
    yield at
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ():
        yield from _values(value, (*at, key))


WRONG = (None, {"a": [2]}, "\x1b]0;x\x07[/x]", 1e308, -1)


def test_a_graph_with_any_value_changed_or_removed_is_refused_or_can_be_used(tmp_path: Path) -> None:
    """Each value of a small search in turn; what is loaded can be shown, scored, compared and saved."""
    whole = searched()
    whole.info |= {"plan": {"strategy": "x", "knobs": {"n": 1}, "reasons": ["a"]}, "strategy": {"name": "beam"}}
    whole.info |= {"spent": Meter().to_json(1.0), "stopped": "finished", "error": None}
    text = json.dumps(whole.to_json())
    path, out = tmp_path / "search.json", tmp_path / "out.graphml"
    refused, console = 0, PlainConsole(file=io.StringIO(), width=80)
    for at in _values(json.loads(text)):
        if not at or (at[0] in ("nodes", "edges") and len(at) > 1 and at[1] not in (0, 2)):
            continue  # the other nodes have the same attributes
        for wrong in (*WRONG, KeyError):
            raw = json.loads(text)
            part = raw
            for key in at[:-1]:
                part = part[key]
            if wrong is KeyError:
                del part[at[-1]]
            else:
                part[at[-1]] = wrong
            path.write_text(json.dumps(raw))
            said = ""
            try:
                loaded = SearchGraph.load(path, TOY)
            except ValueError as error:
                said = str(error)
            if said:
                assert str(path) in said
                assert len(said) < 400
                refused += 1
                continue
            solution = Solution.of(loaded)
            for view in (solution_view(solution), search_tree(loaded, 9, 80), answers_view(solution)):
                console.print(view)
            console.print(explain_node(loaded, 2))
            loaded.save(path)
            loaded.save(out)
    assert refused > 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 200_000, "no JSON object"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"\xff\xfe{}", "no text in UTF-8"),
        (b'{"format": NaN}', "NaN"),
        (b'{"format": ' + b"9" * 5000 + b"}", "is not a saved search"),
        (b'{"format": "stepwell-graph/1"}', "'problem' is missing"),
        (b"# Stepwell\n", "it is no JSON"),
    ],
)
def test_hostile_files_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "search.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        SearchGraph.load(path, TOY)
    assert str(path) in str(caught.value)


def test_files_are_read_in_bounded_memory_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "search.json"
    searched().save(path)
    for limit, message in (("LARGEST", "at most 100 are read"), ("VALUES", "more than 100"), ("STEPS", "at most 5")):
        with monkeypatch.context() as patch:
            patch.setattr(graph_file, limit, 5 if limit == "STEPS" else 100)
            with pytest.raises(ValueError, match=message):
                SearchGraph.load(path, TOY)
    with pytest.raises(ValueError, match=r"only those saved as .json can be loaded"):
        SearchGraph.load(tmp_path / "search.graphml", TOY)
    with pytest.raises(OSError, match=r"there is no file .*: it is a folder, not a saved search"):
        SearchGraph.load(tmp_path, TOY)
    with pytest.raises(OSError, match=r"there is no file .*none\.json'$"):
        SearchGraph.load(tmp_path / "none.json", TOY)


def test_a_graph_of_another_environment_says_so(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    path.write_text(_broken(info={"environment": "chess"}))
    with pytest.raises(OtherEnvironment) as caught:
        SearchGraph.load(path, TOY)
    assert (caught.value.given, caught.value.here) == ("chess", "toy")
    assert str(caught.value) == f"{path} holds a search in environment 'chess'; the environment here is 'toy'"


# ---------------------------------------------------------------------------------------------------------- scale


def counted_anew(graph: SearchGraph, since: int = 0) -> float:
    """`SearchGraph.samples` by its definition: all that has finished and all that is open is listed."""

    def reach(node: int) -> int:
        return max(map(reach, graph.children(node)), default=graph.path_tokens(node))

    nodes = range(len(graph))
    if not graph.generated:
        return 0.0
    weights = [(graph.path_tokens(n), graph.count(n)) for n in nodes if graph.status(n) == "terminated"]
    total = sum(count for _, count in weights)
    if not total:
        return (graph.generated - since) / (max(map(graph.path_tokens, nodes)) or 1)
    mean = sum(path * count for path, count in weights) / total
    leaves = (
        node
        for node in nodes[1:]
        if graph.status(node) == "running"
        and graph.count(node)
        and not any(map(graph.count, graph.children(node)))
        and not graph[node]["pruned"]
    )
    return (graph.generated - since) / (max(mean, max(map(reach, leaves), default=0)) or 1)


changes = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.lists(st.tuples(st.sampled_from(["1", "6", "10", "1", ""]), st.integers(0, 9)), max_size=5),
        st.booleans(),
        st.none() | st.tuples(st.integers(0, 60), st.booleans()),
    ),
    max_size=40,
)


@given(changes, st.integers(0, 3))
def test_running_sums_are_what_the_definition_says(
    given: list[tuple[int, list[tuple[str, int]], bool, tuple[int, bool] | None]], since: int
) -> None:
    """After every sample, rollout and revision, whatever is pruned or no longer pruned; and once more when loaded."""
    graph = SearchGraph(TOY, TOY.read("14 with 1 6 10"))
    for at, steps, rollout, prune in given:
        parent = at % len(graph)
        if graph.status(parent) == "terminated" and not graph.count(parent):
            parent = 0  # what only looked ahead is not revised
        graph.add(parent, [Step(text, tokens) for text, tokens in steps], rollout)
        if prune is not None:
            graph[prune[0] % len(graph)]["pruned"] = prune[1]
        assert graph.samples() == counted_anew(graph)
        assert graph.samples(since) == counted_anew(graph, since)
    loaded = SearchGraph.from_json(json.loads(json.dumps(graph.to_json())), TOY)
    assert loaded.samples() == graph.samples()
    for each in (loaded, graph):
        each.add(0, [coin("1", 3), coin("1", 30)], rollout=True)
        each.add(0, [coin("1", 3)])
    assert loaded.samples() == graph.samples() == counted_anew(graph)


def test_what_runs_at_each_reply_does_not_look_at_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    for i in range(2000):
        graph.add(0, [coin("6", 3), coin("6", 4, thinking=str(i))])
        graph.add(0, [coin("1", i + 1, finish="length" if i % 2 else "step")])
    looked = 0
    seen: Any = vars(Node)["status"]

    class Counted:
        def __get__(self, node: Any, kind: Any) -> Any:
            nonlocal looked
            looked += 1
            return seen.__get__(node, kind)

        def __set__(self, node: Any, value: Any) -> None:
            seen.__set__(node, value)

    monkeypatch.setattr(Node, "status", Counted())
    graph.samples()
    assert looked == 0
    graph.add(0, [coin("6", 3), coin("6", 4)])
    assert looked < 20


def test_a_node_takes_little_memory() -> None:
    """Half a kilobyte, texts left out; two and more with dictionaries."""
    tracemalloc.start()
    try:
        graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
        before = tracemalloc.get_traced_memory()[0]
        for i in range(2000):
            parent = graph.add(0, [Step(f"text {i}", 300 + i, -0.5 - i)])
            graph.set_scores(parent, [i / 2000])
        taken = (tracemalloc.get_traced_memory()[0] - before) / 2000
    finally:
        tracemalloc.stop()
    assert len(graph) == 2001
    assert taken < 800


def test_networkx_sees_all_of_it_and_cannot_change_the_tree() -> None:
    graph = searched()
    shown = graph.graph
    assert isinstance(shown, nx.DiGraph)
    assert list(shown) == list(range(9))
    assert (shown.number_of_nodes(), shown.number_of_edges(), shown.size()) == (9, 8, 8)
    assert list(shown.successors(0)) == [1, 3, 7]
    assert list(shown.predecessors(5)) == [4]
    assert [each in shown for each in (3, 9, -1)] == [True, False, False]
    assert not shown.has_node("3")  # type: ignore[arg-type]
    assert shown.has_edge(0, 3)
    assert not shown.has_edge(3, 0)
    assert not shown.has_edge(0, 4)
    assert dict(shown.out_degree()) == {0: 3, 1: 1, 2: 0, 3: 2, 4: 1, 5: 0, 6: 0, 7: 1, 8: 0}
    assert dict(shown.in_degree())[0] == 0
    assert shown.edges[0, 1] == {"action": "6", "prior": None, "count": 2}
    assert shown.pred[1][0] == shown.succ[0][1] == shown.get_edge_data(0, 1)
    assert set(shown.nodes[1]) == set(graph[1])
    assert shown.nodes[1] == graph[1] == dict(graph[1])
    assert nx.shortest_path(shown, 0, 5) == [0, 3, 4, 5]
    assert nx.descendants(shown, 3) == {4, 5, 6}
    with pytest.raises(nx.NetworkXError):
        shown.add_edge(0, 8)
    with pytest.raises(KeyError):
        shown.edges[0, 4]
    # attributes can be set, new ones too
    shown.nodes[1]["value"] = 0.5
    shown.edges[0, 1]["prior"] = 0.25
    nx.set_node_attributes(shown, {2: "red"}, "colour")
    nx.set_edge_attributes(shown, {(0, 1): 3}, "weight")
    assert (graph[1]["value"], graph[2]["colour"], graph.edge(1)["prior"]) == (0.5, "red", 0.25)
    assert graph.edge(1) == {"action": "6", "prior": 0.25, "count": 2, "weight": 3}
    del graph[2]["colour"]
    assert "colour" not in graph[2]
    with pytest.raises(TypeError, match="'score' cannot be deleted"):
        del graph[2]["score"]
    # a copy is a graph of its own
    copy = shown.copy()
    copy.add_edge(0, 50)
    copy.nodes[1]["value"] = 0.9
    assert (len(shown), graph[1]["value"]) == (9, 0.5)
    part = shown.subgraph([0, 1, 2])
    assert sorted(part.edges) == [(0, 1), (1, 2)]
    assert part.nodes[2]["text"] == "6"
    assert nx.relabel_nodes(shown, {0: "root"}).nodes["root"]["status"] == "running"
    assert json.dumps(nx.node_link_data(copy))
    # it grows with the search
    graph.add(0, [coin("6", finish="length")])
    assert list(shown.successors(0)) == [1, 3, 7, 9]


def test_children_are_found_however_many_they_are() -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    made = [graph.add(0, [coin(str(i))]) for i in range(100)]
    assert made == list(range(1, 101))
    assert [graph.add(0, [coin(str(i))]) for i in range(100)] == made
    assert graph.add(0, [coin("5", finish="length")]) == 101
    assert graph.children(0) == list(range(1, 102))


class Endless(Toy):
    """A toy whose trajectories do not end."""

    def step(self, state: State, step: Step) -> Transition:
        return transition(state.then(step))


def test_a_path_of_many_steps_is_saved_and_loaded_in_linear_time(tmp_path: Path) -> None:
    def seconds(steps: int) -> float:
        graph = SearchGraph(Endless(), Problem("deep", "12 with 1 6 10"))
        graph.add(0, [Step(f"{i}", 1) for i in range(steps)])
        graph.save(tmp_path / "deep.json")
        started = time.process_time()
        loaded = SearchGraph.load(tmp_path / "deep.json", Endless())
        taken = time.process_time() - started
        assert loaded.state(steps).texts == graph.state(steps).texts
        assert loaded.samples() == graph.samples()
        return taken

    assert seconds(8_000) < 10 * max(seconds(2_000), 0.02)  # 16 times if it were quadratic


def test_saving_writes_what_json_writes_and_keeps_the_file_when_it_fails(tmp_path: Path) -> None:
    graph = searched()
    path = tmp_path / "graph.json"
    graph.save(path)
    assert path.read_text() == json.dumps(graph.to_json(), allow_nan=False) + "\n"
    before = path.read_text()
    graph[8]["value"] = math.inf
    with pytest.raises(ValueError, match="Out of range float"):
        graph.save(path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
