"""Restoring states by replay: no more episodes than allowed, used by many threads, begun again if lost."""

import threading
import time
from typing import Any

import pytest

from envs.adapters.episodes import EpisodeLost, Played, Replay, Reply


class Counters:
    """Episodes that count their actions; `open` of them are under way, `most` were so at once."""

    def __init__(self) -> None:
        self.open = self.most = self.begun = 0
        self.lost = set[int]()
        self.lock = threading.Lock()

    def begin(self) -> Any:
        with self.lock:
            self.open, self.begun = self.open + 1, self.begun + 1
            self.most = max(self.most, self.open)
            return Counter(self, self.begun)


class Counter:
    def __init__(self, owner: Counters, number: int) -> None:
        self.owner, self.number, self.actions = owner, number, ""

    def reset(self, seed: int) -> str:
        return str(seed)

    def act(self, action: str) -> Reply:
        if self.number in self.owner.lost:
            raise EpisodeLost("it is gone")
        time.sleep(0.001)
        self.actions += action
        return Reply(self.actions, 1.0, action == "end")

    def close(self) -> None:
        with self.owner.lock:
            self.owner.open -= 1


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_episodes_are_open_than_allowed(most: int) -> None:
    counters, seen = Counters(), list[tuple[str, str]]()
    replay = Replay(counters.begin, str, str, most)

    def walk(name: str) -> None:
        for length in range(1, 8):
            seen.append((name * length, replay.at(0, tuple(name * length)).observation))

    threads = [threading.Thread(target=walk, args=(name,)) for name in "abcdef"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(seen) == 42
    assert all(wanted == found for wanted, found in seen)
    assert counters.most <= most
    replay.close()
    assert counters.open == 0


def test_a_trajectory_that_is_followed_costs_one_action_a_step() -> None:
    counters = Counters()
    replay = Replay(counters.begin, str, str)
    for length in range(1, 6):
        assert replay.at(0, ("a",) * length) == Played("a" * length, float(length), False)
    assert counters.begun == 1
    replay.close()


def test_an_episode_that_was_lost_is_begun_again() -> None:
    counters = Counters()
    replay = Replay(counters.begin, str, str)
    replay.at(0, ("a",))
    counters.lost = {1}
    assert replay.at(0, ("a", "b")).observation == "ab"
    counters.lost = {2, 3}
    with pytest.raises(EpisodeLost):
        replay.at(0, ("a", "b", "c"))
    replay.close()
    assert counters.open == 0


def test_an_episode_that_fails_is_closed() -> None:
    def read(text: str) -> str:
        raise ValueError(text)

    counters = Counters()
    replay = Replay(counters.begin, read, str, 1)
    for _ in range(3):
        with pytest.raises(ValueError, match="a"):
            replay.at(0, ("a",))
    assert counters.open == 0
