"""What the two processes of a server say to each other: JSON in frames, over a pair of sockets.

To the engine: an `Order`, or that a search is to be stopped or cancelled. From it: lines about searches under way, and
for each order, in the end, what came of it. A connection that closes is the end of either side.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.interface.server.core import AnswerForm, Content, Refused, Result, Usage
from agent.recipes.recipe import Component
from agent.search.budget import Budget
from envs.core import Problem, Turn

LONGEST = 1 << 26  # bytes of a message
_LENGTH = 4  # bytes that say how long a message is


def pack(message: Mapping[str, Any]) -> bytes:
    """A message in its frame.

    Raises:
        ValueError: it is too long.
    """
    content = json.dumps(message).encode()
    if len(content) > LONGEST:
        raise ValueError(f"a message of {len(content):,} bytes; at most {LONGEST:,} can be sent")
    return len(content).to_bytes(_LENGTH) + content


class Unpacker:
    """Finds the messages in what is received, however it is cut."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are whole now.

        Raises:
            ValueError: one is too long, or is no JSON.
        """
        self._received += data
        at = 0
        while len(self._received) - at >= _LENGTH:
            length = int.from_bytes(self._received[at : at + _LENGTH])
            if length > LONGEST:
                raise ValueError(f"a message of {length:,} bytes; at most {LONGEST:,} are read")
            end = at + _LENGTH + length
            if len(self._received) < end:
                break
            yield json.loads(self._received[at + _LENGTH : end])
            at = end
        del self._received[:at]


@dataclass(frozen=True)
class Order:
    """A search that was asked for and may be made: what the engine needs of it.

    Args:
        id: of the search; its graph is saved under it.
        recipe: names the models.
        problem: that was read.
        strategy: in place of the recipe's.
        budget: in place of the recipe's.
        temperature: in place of the recipe's.
        seed: of the samples.
        index: of the choice.
        content: the answer alone, or the solution that leads to it.
        form: what the answer is put into.
        stop: texts before which the content ends.
        abstain_below: confidence below which no answer is given.
        notes: on what was done otherwise than a client might expect.
    """

    id: str
    recipe: str
    problem: Problem
    strategy: Component
    budget: Budget
    temperature: float
    seed: int
    index: int = 0
    content: Content = "answer"
    form: AnswerForm | None = None
    stop: tuple[str, ...] = ()
    abstain_below: float = 0.0
    notes: tuple[str, ...] = ()

    def to_message(self) -> dict[str, Any]:
        """As it is sent."""
        return {"do": "search", "order": dataclasses.asdict(self)}

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Order:
        """Undo `to_message`."""
        raw = message["order"]
        turns = tuple(Turn(**turn) for turn in raw["problem"]["conversation"])
        return cls(
            **raw
            | {
                "problem": Problem(**raw["problem"] | {"conversation": turns}),
                "strategy": Component(**raw["strategy"]),
                "budget": Budget(**raw["budget"]),
                "form": raw["form"] and AnswerForm(**raw["form"]),
                "stop": tuple(raw["stop"]),
                "notes": tuple(raw["notes"]),
            }
        )


@dataclass(frozen=True)
class LoadedPolicy:
    """What the process of the connections must know of a policy that the engine's has loaded.

    Args:
        name: of the policy.
        converses: whether it can be shown a conversation.
        base_url: of the server that it is behind, if it is behind one.
        model: its name there.
        key_variable: the environment variable that holds the key of that server.
    """

    name: str
    converses: bool = False
    base_url: str | None = None
    model: str = ""
    key_variable: str = ""


def over(id: str, stopped: str, spent: Mapping[str, Any], event: Result | Refused | None) -> dict[str, Any]:
    """The last message about a search; a cancelled one has no event."""
    message: dict[str, Any] = {"over": id, "stopped": stopped, "spent": spent}
    if isinstance(event, Result):
        message["result"] = dataclasses.asdict(event)
    elif event is not None:
        message["refused"] = vars(event)
    return message


def event_of(message: Mapping[str, Any]) -> Result | Refused | None:
    """The event in the last message about a search."""
    if "refused" in message:
        return Refused(**message["refused"])
    if "result" not in message:
        return None
    raw = message["result"]
    return Result(**raw | {"usage": Usage(**raw["usage"])})
