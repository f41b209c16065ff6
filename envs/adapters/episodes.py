"""Episodes as reasoning problems: what an agent does in an environment that others wrote, step by step.

Such an environment is one object that moves on with every action. A search goes back to earlier states, so a state is
*restored by replay*: a fresh episode is reset with the problem's seed, and the actions of the state are taken again.
Episodes that stand where a search may go on are kept, so that a trajectory that is followed costs one action a step;
going back costs as many actions as the state is deep. The environment must do the same again for the same seed and
actions: where an observation differs, the call fails and says so.

A problem is a seed. A step is one line of text, an action; the environment's reply is the step's observation. An
episode that ends with a return of at least the goal is solved, and its actions are the answer: an answer proves itself
by being replayed. Every other end is a truncation.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from envs.core import Problem, Split, State, Step, Transition, UnreadableQuestion, termination, transition, truncation
from envs.errors import StepwellError
from envs.splits import draw_distinct, split_of

SHOWN = 2000  # characters of an observation, at most
LONGEST = 2000  # characters of an action, at most
KEPT = 256  # episodes at a time: most of them are kept where they are
_MOMENT = 1.0  # seconds after which a thread that waits looks again: it may have been given up
SEEDS = 1 << 31
PROVEN = "any actions that reach the goal"
_SEED = re.compile(r"(?:.*\bseed )?(\d{1,10})", re.ASCII)


@dataclass(frozen=True)
class Reply:
    """What an action led to.

    Args:
        observation: as text.
        reward: for this action.
        over: whether the episode ended.
    """

    observation: str
    reward: float
    over: bool


class Episode(Protocol):
    """One episode under way; used by one thread at a time."""

    def reset(self, seed: int) -> str:
        """Begin, and return the first observation."""
        ...

    def act(self, action: Any) -> Reply:
        """Take an action that `World.read` made; raises `NoAction` if the episode refuses it."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class World(Protocol):
    """Where episodes come from.

    Attributes:
        title: what questions call it, on one line.
        rules: what a policy is told before the first observation.
    """

    title: str
    rules: str

    def begin(self) -> Episode:
        """A fresh episode."""
        ...

    def read(self, text: str) -> Any:
        """The action of a line; raises ValueError where it is none."""
        ...

    def options(self) -> Mapping[str, float]:
        """Some actions, with weights; empty where they cannot be listed."""
        ...

    def close(self) -> None:
        """Free what it holds beside its episodes."""
        ...


@dataclass(frozen=True)
class Played:
    """An episode up to some action: the observation of the last one, the return, and whether it is over."""

    observation: str
    total: float
    over: bool


class NoAction(ValueError):
    """An episode refuses an action that it was given."""


class EpisodeLost(StepwellError, RuntimeError):
    """An episode cannot go on, through no fault of an action: its server ended it, say."""


class Replay:
    """Where actions lead: a state is restored by taking its actions again; episodes are kept where they stand.

    Args:
        begin: a fresh episode.
        read: the action of a text; raises ValueError where it is none.
        written: an observation as a step holds it.
        most: episodes at a time, those that are kept among them; at least 1.
    """

    def __init__(
        self, begin: Callable[[], Episode], read: Callable[[str], Any], written: Callable[[str], str], most: int = KEPT
    ) -> None:
        self._begin, self._read, self._written, self._most = begin, read, written, most
        self._kept: OrderedDict[tuple[int, tuple[str, ...]], tuple[Episode, Played]] = OrderedDict()
        self._open = 0
        self._news = threading.Condition()

    def at(self, seed: int, actions: tuple[str, ...], state: State | None = None) -> Played:
        """Where actions lead; those after the end of the episode are not taken.

        Args:
            seed: of the problem.
            actions: legal ones.
            state: whose observations a replay is compared with.

        Raises:
            ValueError: an observation differs from that of the state.
        """
        while True:
            episode, kept, taken = self._nearest(seed, actions)
            try:
                played = self._follow(episode, kept, seed, actions[taken:], state.steps[taken:] if state else ())
            except EpisodeLost:
                self._drop(episode)
                if kept is None:
                    raise
            except BaseException:
                self._drop(episode)
                raise
            else:
                self._keep((seed, actions), episode, played)
                return played

    def _follow(
        self, episode: Episode, played: Played | None, seed: int, actions: Sequence[str], seen: Sequence[Step]
    ) -> Played:
        """Take actions in an episode, reset before unless it was played; `seen` is what they led to before."""
        if played is None:
            played = Played(self._written(episode.reset(seed)), 0.0, False)
        for action, step in itertools.zip_longest(actions, seen[: len(actions)]):
            if played.over:
                break
            reply = episode.act(self._read(action))
            played = Played(self._written(reply.observation), played.total + reply.reward, reply.over)
            if step is not None:
                _compare(step, played.observation)
        return played

    def close(self) -> None:
        """End the episodes that are kept."""
        with self._news:
            kept, self._kept = self._kept, OrderedDict()
        for episode, _ in kept.values():
            self._drop(episode)

    def _nearest(self, seed: int, actions: tuple[str, ...]) -> tuple[Episode, Played | None, int]:
        """A kept episode that stands at these actions or one before them; else a fresh one, to be reset."""
        with self._news:
            for length in (len(actions), len(actions) - 1):
                if length >= 0 and (found := self._kept.pop((seed, actions[:length]), None)):
                    return *found, length
        self._make_room()
        try:
            return self._begin(), None, 0
        except BaseException:
            self._left()
            raise

    def _make_room(self) -> None:
        """Wait until another episode may be begun; the one that was kept longest has to go."""
        while True:
            with self._news:
                if self._open < self._most:
                    self._open += 1
                    return
                oldest = self._kept.popitem(last=False)[1][0] if self._kept else None
                if oldest is None:
                    self._news.wait(_MOMENT)
            if oldest is not None:
                self._drop(oldest)

    def _keep(self, place: tuple[int, tuple[str, ...]], episode: Episode, played: Played) -> None:
        with self._news:
            before = self._kept.pop(place, None)
            self._kept[place] = episode, played
            self._news.notify()
        if before is not None:
            self._drop(before[0])

    def _drop(self, episode: Episode) -> None:
        try:
            episode.close()
        finally:
            self._left()

    def _left(self) -> None:
        with self._news:
            self._open -= 1
            self._news.notify()


class Episodes:
    """An environment of episodes.

    Args:
        name: as in the registry.
        world: where episodes come from.
        goal: the least return of a solved episode.
        max_steps: actions after which an episode is cut.
        step_timeout: seconds that one call may take.
        most: episodes at a time.
        joint: what stands between the actions of an answer; no action holds it.
    """

    delimiter = "\n"
    self_proving = True
    observes = True

    def __init__(
        self,
        name: str,
        world: World,
        goal: float,
        max_steps: int,
        step_timeout: float,
        most: int = KEPT,
        joint: str = ";",
    ) -> None:
        self.name, self.world, self.goal = name, world, goal
        self.max_steps, self.step_timeout, self.joint = max_steps, step_timeout, joint
        self._replay = Replay(world.begin, world.read, _line, most)

    # ---------------------------------------------------------------------------------------------- the contract

    def read(self, question: str) -> Problem:
        """Read a seed: ``seed 7``; raises `UnreadableQuestion`."""
        match = _SEED.fullmatch(question.strip())
        if match is None or int(match[1]) >= SEEDS:
            raise UnreadableQuestion(f"cannot read {question[:80]!r}; {self.name} reads a seed below {SEEDS}: 'seed 7'")
        return self._problem(int(match[1]))

    def prompt(self, problem: Problem) -> str:
        """The rules and the first observation; an action follows on each line."""
        first = self._replay.at(_seed(problem), ()).observation
        return f"{self.world.rules}\n{problem.question}\n{first}\n"

    def initial(self, problem: Problem) -> State:
        """The state before the first action."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """Take an action. A line that is none ends the trajectory, and so does an episode that fails.

        Raises:
            ValueError: the environment does not do the same again, so its states cannot be restored.
        """
        action = self._action(step.text)
        if action is None or step.finish == "length" or not self._legal(action):
            return truncation(state.then(step))
        seed, before = _seed(state.problem), tuple(text.strip() for text in state.texts)
        if not all(map(self._legal, before)):
            return truncation(state.then(step))
        try:
            if before and self._replay.at(seed, before, state).over:
                return truncation(state.then(step))
            played = self._replay.at(seed, (*before, action), state)
        except NoAction:
            return truncation(state.then(step))
        after = state.then(replace(step, observation=played.observation))
        if played.over:
            return termination(after, 1.0) if played.total >= self.goal else truncation(after)
        cut = len(after.steps) >= self.max_steps or step.finish != "step"
        return truncation(after) if cut else transition(after)

    def answer(self, state: State) -> str | None:
        """The actions of a solved episode."""
        if not state.steps or state.steps[-1].finish == "length":
            return None
        actions = tuple(text.strip() for text in state.texts)
        joint = self.joint if self.joint.isspace() else f"{self.joint} "
        return joint.join(actions) if self._solves(state.problem, actions) else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the actions reach the goal, by replaying them."""
        return self._solves(problem, tuple(each.strip() for each in answer.split(self.joint)))

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are the same actions."""
        return a.strip() == b.strip()

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct seeds of a split."""
        rng = random.Random(f"{self.name}/{split}/{seed}")

        def stream() -> Iterator[Problem]:
            while True:
                problem = self._problem(rng.randrange(1_000_000))
                if split_of(problem.question) == split:
                    yield problem

        return draw_distinct(stream(), n, split)

    # ------------------------------------------------------------------------------------------ for fakes and tests

    def options(self, state: State) -> Mapping[str, float]:
        """Actions that can be taken, as far as they can be listed: what the policy ``scripted`` draws from."""
        return self.world.options()

    def close(self) -> None:
        """End the episodes that are kept."""
        self._replay.close()
        self.world.close()

    # ----------------------------------------------------------------------------------------------------- episodes

    def _problem(self, seed: int) -> Problem:
        question = f"{self.world.title}, seed {seed}"
        return Problem(f"{self.name}/{question}", question, PROVEN, {"seed": seed})

    def _action(self, text: str) -> str | None:
        line = text.strip()
        return line if line and len(line) <= LONGEST and "\n" not in line and self.joint not in line else None

    def _legal(self, text: str) -> bool:
        try:
            self.world.read(text)
        except (ValueError, RecursionError):
            return False
        return True

    def _solves(self, problem: Problem, actions: tuple[str, ...]) -> bool:
        if not 0 < len(actions) <= self.max_steps or not all(map(self._legal, actions)):
            return False
        try:
            played = self._replay.at(_seed(problem), actions)
        except NoAction:
            return False
        return played.over and played.total >= self.goal


def _seed(problem: Problem) -> int:
    return int(problem.question.rpartition(" ")[2])


def _line(observation: str) -> str:
    """An observation on one line, in a bounded length: a step never holds the delimiter."""
    line = " ".join("".join(each if each.isprintable() else " " for each in observation[: 4 * SHOWN]).split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


def _compare(before: Step, now: str) -> None:
    """Refuse an environment that answers the same actions otherwise than before."""
    if before.observation and before.observation != now:
        raise ValueError(
            f"the environment is not the same again: the action {before.text[:60]!r} was answered with"
            f" {before.observation[:60]!r}, and on replay with {now[:60]!r}; its states cannot be restored"
        )


def numbered(count: int, most: int = 1000) -> dict[str, float]:
    """The first whole numbers as equally likely actions."""
    return dict.fromkeys(map(str, itertools.islice(range(count), most)), 1.0)
