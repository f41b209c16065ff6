"""Seeds come from hashes that go on from the node before, and are those of the whole path's texts."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.search import path_hashes
from agent.search.graph import SearchGraph
from agent.search.requests import sample_seeds
from envs.core import Step
from envs.toy import Toy

TOY = Toy()


def seeds_of_texts(graph: SearchGraph, node: int, first: int, count: int) -> tuple[int, ...]:
    """By the definition: each a hash of the run's seed, the problem, all texts, and the sample's place."""
    start = graph.start(node)
    attempts = (*(tuple(step.text for step in attempt) for attempt in start.attempts), start.texts)
    texts = "\x1d".join("\x1f".join(attempt) for attempt in attempts)
    text = f"{graph.seed}\x1e{graph.problem.id}\x1e{texts}\x1e"
    return tuple(
        int.from_bytes(hashlib.blake2b(f"{text}{i}".encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        for i in range(first, first + count)
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.lists(st.sampled_from(["1", "6", "", "\ud83d", "\ude00", "é"]), max_size=4)),
        max_size=20,
    ),
    st.lists(st.integers(0, 40), max_size=20),
    st.integers(1, 3),
)
def test_seeds_are_those_of_the_texts(adds: list[tuple[int, Sequence[str]]], asked: list[int], kept: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path_hashes, "_KEPT", kept)
        graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"), seed=5)
        for at, texts in adds:
            graph.add(at % len(graph), [Step(text, 1) for text in texts])
            node = at % len(graph)
            assert sample_seeds(graph, node, 2, 3) == seeds_of_texts(graph, node, 2, 3)
        for node in (each % len(graph) for each in asked):
            assert sample_seeds(graph, node, 0, 2) == seeds_of_texts(graph, node, 0, 2)


def test_a_step_more_is_not_a_path_more(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = SearchGraph(TOY, TOY.read("12 with 1 6 10"))
    asked = 0
    before = SearchGraph.parent

    def counted(graph: SearchGraph, node: int) -> int | None:
        nonlocal asked
        asked += 1
        return before(graph, node)

    monkeypatch.setattr(SearchGraph, "parent", counted)
    at = 0
    for i in range(7):
        sample_seeds(graph, at, 0, 1)
        at = graph.add(at, [Step("1", i)])
    assert asked == 6
