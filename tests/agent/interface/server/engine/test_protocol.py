"""What the two processes say to each other arrives as it was sent."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.interface.server.core import AnswerForm, Refused, Result, Usage
from agent.interface.server.engine import protocol
from agent.interface.server.engine.protocol import Order, Unpacker, event_of, over, pack
from agent.recipes.recipe import Component
from agent.search.budget import Budget
from envs.core import Problem, Turn

JSON = st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text() | st.none(), max_size=3)


@given(st.lists(JSON, max_size=5), st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_messages_are_found_however_they_are_cut(messages: list[dict[str, object]], cuts: list[int]) -> None:
    sent = b"".join(map(pack, messages))
    unpacker, found, at = Unpacker(), list[object](), 0
    while at < len(sent):
        size = cuts[at % len(cuts)]
        found += unpacker.feed(sent[at : at + size])
        at += size
    assert found == messages


def test_a_message_that_is_too_long_is_neither_sent_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pack({"text": "x" * 1000})
    monkeypatch.setattr(protocol, "LONGEST", 500)
    with pytest.raises(ValueError, match=r"1,012 bytes; at most 500 can be sent"):
        pack({"text": "x" * 1000})
    with pytest.raises(ValueError, match=r"1,012 bytes; at most 500 are read"):
        list(Unpacker().feed(sent))


def test_an_order_arrives_as_it_was_given() -> None:
    problem = Problem("1", "3 + 4 \udcff", "7", {"level": 3}, (Turn("system", "Be brief."), Turn("user", "Hello")))
    order = Order(
        "id-0", "toy", problem, Component("beam", {"branch": 2}), Budget(samples=4, seconds=2.5), 0.7, 2**62, 3,
        "solution", AnswerForm("sum", "number"), ("\n", "end"), 0.5, ("cut",),
    )  # fmt: skip
    (message,) = Unpacker().feed(pack(order.to_message()))
    again = Order.of(message)
    assert again == order
    assert again.problem.meta == problem.meta  # problems are equal whatever their meta
    plain = Order("id-0", "toy", Problem("1", "3 + 4"), Component("greedy"), Budget(), 1.0, 0)
    assert Order.of(json.loads(json.dumps(plain.to_message()))) == plain


@pytest.mark.parametrize(
    "event", [None, Result(1, "7", None, "stop", Usage(3, 2, 1, 1), "lines\n", {"answer": "7", "votes": []}, "\n")]
)
def test_what_came_of_a_search_arrives_as_it_was_found(event: Result | None) -> None:
    (message,) = Unpacker().feed(pack(over("id-0", "finished", {"flops": 1.5}, event)))
    assert (message["over"], message["stopped"], message["spent"]) == ("id-0", "finished", {"flops": 1.5})
    assert event_of(message) == event


def test_a_refusal_arrives_as_it_was_said() -> None:
    (message,) = Unpacker().feed(pack(over("id-0", "unavailable", {}, Refused(503, "not now", "model", 10))))
    refused = event_of(message)
    assert isinstance(refused, Refused)
    assert vars(refused) == vars(Refused(503, "not now", "model", 10))
