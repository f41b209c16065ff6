"""Puzzles of moves, one move per step: water jugs, the tower of Hanoi and word ladders.

They are worded, and their answers are written, as reasoning-gym has them. Each knows its rules exactly and is solved by
breadth-first search, so it can tell whether a move is legal and how far the goal is.

A puzzle is a frozen dataclass: `read` understands a question and `str` writes it; `start`, `moves`, `after` and
`solved` are its positions and its legal moves; `write` makes an answer of moves, `split` takes any answer apart and
`replay` gives the moves that it makes in this puzzle. Where `counts` is set, only the fewest moves are right (give or
take `RIGHT`).
"""

from __future__ import annotations

import json
import random
import re
import string
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from envs.core import Problem, Split, State, Step, Transition, UnreadableQuestion, termination, transition, truncation

MAX_QUESTION = 2000  # characters
MAX_ANSWER = 20_000
MAX_POSITIONS = 20_000  # of a puzzle, so that it is solved in about a second
RIGHT = 0.99  # the share that the fewest moves must be of those taken, where moves count

Position = Any  # hashable; each puzzle has its own


# --------------------------------------------------------------------------------------------------------------- jugs


@dataclass(frozen=True)
class Jugs:
    """Measure out a target with jugs; a position is what each holds."""

    task = "jugs"
    rules = "One move per line: 'fill A', 'empty A' or 'pour A->B'. Stop when a jug holds the target."
    example = "Jugs A:3, B:5; target: 4"
    max_steps = 60
    counts = False

    capacities: tuple[int, ...]
    target: int

    @classmethod
    def read(cls, text: str) -> Jugs:
        """The capacities by letter, and the target."""
        jugs = re.findall(r"\b([A-Z]):\s*(\d{1,4})\b", text)
        targets = re.findall(r"\btarget(?:\s+is)?\s*:\s*(\d{1,4})\b", text)
        letters = [letter for letter, _ in jugs]
        if not 2 <= len(jugs) <= 7 or len(targets) != 1 or letters != list(string.ascii_uppercase[: len(jugs)]):
            raise ValueError("two to seven jugs and a target are wanted")
        return cls(tuple(int(capacity) for _, capacity in jugs), int(targets[0]))

    def __str__(self) -> str:
        jugs = ", ".join(
            f"{letter}:{size}" for letter, size in zip(string.ascii_uppercase, self.capacities, strict=False)
        )
        return f"Jugs {jugs}; target: {self.target}"

    @property
    def start(self) -> Position:
        """The position before the first move: all jugs are empty."""
        return (0,) * len(self.capacities)

    def moves(self, position: Position) -> Iterator[tuple[str, Position]]:
        """Every move (fill, empty or pour) that changes the position, with the position after it."""
        letters = string.ascii_uppercase[: len(self.capacities)]
        written = [f"{verb} {letter}" for letter in letters for verb in ("fill", "empty")]
        written += [f"pour {a}->{b}" for a in letters for b in letters if a != b]
        for move in written:
            if (after := self.after(position, move)) != position:
                yield move, after

    def after(self, position: Position, move: str) -> Position | None:
        """A move that changes nothing is legal."""
        match = re.fullmatch(r"(?:(fill|empty) ([A-Z])|pour ([A-Z]) ?-> ?([A-Z]))", move)
        if match is None:
            return None
        verb, one, source, sink = match.groups()
        indices = [string.ascii_uppercase.index(letter) for letter in (one, source, sink) if letter]
        if max(indices) >= len(self.capacities) or source == sink is not None:
            return None
        held = list(position)
        if verb:
            held[indices[0]] = self.capacities[indices[0]] if verb == "fill" else 0
        else:
            i, j = indices
            amount = min(held[i], self.capacities[j] - held[j])
            held[i] -= amount
            held[j] += amount
        return tuple(held)

    def solved(self, position: Position) -> bool:
        """Any jug holds the target."""
        return self.target in position

    def write(self, moves: Sequence[str]) -> str:
        """The moves as an answer: a JSON list of their texts."""
        return json.dumps(list(moves))

    @staticmethod
    def split(answer: str) -> tuple[str, ...]:
        """The texts of a JSON list."""
        try:
            moves = json.loads(answer)
        except RecursionError as error:
            raise ValueError("nested too deep") from error
        if not isinstance(moves, list) or not all(isinstance(move, str) for move in moves):
            raise ValueError("no list of texts")
        return tuple(map(_tidy, moves))

    def replay(self, answer: str) -> tuple[str, ...]:
        """The texts are the moves."""
        return self.split(answer)


# ---------------------------------------------------------------------------------------------------- tower of Hanoi


@dataclass(frozen=True)
class Hanoi:
    """Bring all disks to another peg in the fewest moves; a position is the peg of each disk, the smallest first."""

    task = "tower_of_hanoi"
    rules = "One move per line: 'Move disk 1 from Peg 1 to Peg 3'. Take as few moves as you can."
    example = "Tower of Hanoi with 3 disks and 3 pegs: move all disks from Peg 1 to Peg 3"
    max_steps = 300
    counts = True

    disks: int
    pegs: int
    source: int
    target: int

    @classmethod
    def read(cls, text: str) -> Hanoi:
        """The numbers of disks and pegs, and where from and to."""
        sizes = re.search(r"\b(\d{1,2}) disks and (\d{1,2}) pegs\b", text)
        ends = re.search(r"\bmove all disks from peg (\d{1,2}) to peg (\d{1,2})\b", text, re.IGNORECASE)
        if sizes is None or ends is None:
            raise ValueError("disks, pegs, and where to bring them are wanted")
        found = cls(int(sizes[1]), int(sizes[2]), int(ends[1]), int(ends[2]))
        if found.source == found.target or not all(1 <= peg <= found.pegs for peg in (found.source, found.target)):
            raise ValueError("two of the pegs are wanted")
        if not found.disks or found.pegs**found.disks > MAX_POSITIONS:
            raise ValueError(f"at least one disk and at most {MAX_POSITIONS} positions are wanted")
        return found

    def __str__(self) -> str:
        disks = f"{self.disks} disks and {self.pegs} pegs"
        return f"Tower of Hanoi with {disks}: move all disks from Peg {self.source} to Peg {self.target}"

    @property
    def start(self) -> Position:
        """All on the first peg."""
        return (self.source,) * self.disks

    def moves(self, position: Position) -> Iterator[tuple[str, Position]]:
        """The top disk of each peg to each peg without a smaller one."""
        for disk, source in enumerate(position, 1):
            if source not in position[: disk - 1]:
                for target in range(1, self.pegs + 1):
                    if target != source and target not in position[: disk - 1]:
                        move = f"Move disk {disk} from Peg {source} to Peg {target}"
                        yield move, (*position[: disk - 1], target, *position[disk:])

    def after(self, position: Position, move: str) -> Position | None:
        """Only a top disk moves, and never onto a smaller one."""
        return dict(self.moves(position)).get(move)

    def solved(self, position: Position) -> bool:
        """All on the other peg."""
        return bool(position == (self.target,) * self.disks)

    def write(self, moves: Sequence[str]) -> str:
        """A move per line."""
        return "\n".join(moves)

    @staticmethod
    def split(answer: str) -> tuple[str, ...]:
        """The lines that are not empty."""
        return tuple(_tidy(line) for line in answer.splitlines() if line.strip())

    def replay(self, answer: str) -> tuple[str, ...]:
        """The lines are the moves."""
        return self.split(answer)


# -------------------------------------------------------------------------------------------------------- word ladders


@lru_cache(maxsize=1)
def _ladders() -> Mapping[str, tuple[str, ...]]:
    """The English words of three to five letters, with those that differ in one letter."""
    import reasoning_gym

    dataset = reasoning_gym.create_dataset("word_ladder", min_word_length=3, max_word_length=5, seed=0)
    gaps: dict[str, list[str]] = {}
    for word in sorted(set().union(*dataset.word_sets.values())):
        for at in range(len(word)):
            gaps.setdefault(f"{word[:at]}_{word[at + 1 :]}", []).append(word)
    near: dict[str, list[str]] = {}
    for words in gaps.values():
        for word in words:
            near.setdefault(word, []).extend(other for other in words if other != word)
    return {word: tuple(sorted(others)) for word, others in near.items()}


@dataclass(frozen=True)
class Ladder:
    """Turn a word into another, a letter at a time; a position is a word, and so is a move."""

    task = "word_ladder"
    rules = "One word per line, each with one letter changed, and the first line changes the word given."
    example = "Transform the word ladder 'COLD' to 'WARM'"
    max_steps = 40
    counts = False

    source: str
    target: str

    @classmethod
    def read(cls, text: str) -> Ladder:
        """The two words in quotes."""
        match = re.search(r"'([A-Za-z]{3,5})' to '([A-Za-z]{3,5})'", text)
        if match is None:
            raise ValueError("two words in quotes are wanted")
        source, target = match[1].upper(), match[2].upper()
        unknown = [word for word in (source, target) if word not in _ladders()]
        if unknown or source == target:
            raise ValueError(f"{unknown[0]!r} is not among the words" if unknown else "two different words are wanted")
        return cls(source, target)

    def __str__(self) -> str:
        return f"Transform the word ladder '{self.source}' to '{self.target}'"

    @property
    def start(self) -> Position:
        """The position before the first move: the word that the ladder starts from."""
        return self.source

    def moves(self, position: Position) -> Iterator[tuple[str, Position]]:
        """All words that differ in one letter."""
        return ((word, word) for word in _ladders()[position])

    def after(self, position: Position, move: str) -> Position | None:
        """Upper and lower case are the same."""
        return move.upper() if move.upper() in _ladders()[position] else None

    def solved(self, position: Position) -> bool:
        """It is the other word."""
        return bool(position == self.target)

    def write(self, moves: Sequence[str]) -> str:
        """All words, the first one too, with commas."""
        return ",".join((self.source, *(move.upper() for move in moves)))

    @staticmethod
    def split(answer: str) -> tuple[str, ...]:
        """The words between commas."""
        return tuple(word.strip().upper() for word in answer.split(","))

    def replay(self, answer: str) -> tuple[str, ...]:
        """All words but the first."""
        first, *moves = self.split(answer)
        if first != self.source:
            raise ValueError(f"{first!r} is not the first word")
        return tuple(moves)


Puzzle = Jugs | Hanoi | Ladder
PUZZLES: dict[str, type[Puzzle]] = {kind.task: kind for kind in (Jugs, Hanoi, Ladder)}

# --------------------------------------------------------------------------------------------------------- environment


def _tidy(text: str) -> str:
    return " ".join(text.split())


@lru_cache(maxsize=1 << 10)
def _understand(task: str, question: str) -> Puzzle:
    return PUZZLES[task].read(question)


@lru_cache(maxsize=1 << 8)
def distances(puzzle: Puzzle) -> Mapping[Hashable, int]:
    """The fewest moves to the goal from each position that can be reached and from which it can.

    Raises:
        ValueError: when there are more than `MAX_POSITIONS`, or no way to the goal.
    """
    before: dict[Hashable, list[Hashable]] = {puzzle.start: []}
    queue = deque([puzzle.start])
    while queue:
        position = queue.popleft()
        for _, after in puzzle.moves(position):
            if after not in before:
                if len(before) >= MAX_POSITIONS:
                    raise ValueError(f"more than {MAX_POSITIONS} positions")
                before[after] = []
                queue.append(after)
            before[after].append(position)
    far: dict[Hashable, int] = {position: 0 for position in before if puzzle.solved(position)}
    queue = deque(far)
    while queue:
        position = queue.popleft()
        for earlier in before[position]:
            if earlier not in far:
                far[earlier] = far[position] + 1
                queue.append(earlier)
    if not far.get(puzzle.start):
        raise ValueError("there is no way to the goal" if puzzle.start not in far else "it is solved at the start")
    return far


class Moves:
    """One kind of puzzle as an environment. Conforms to `Environment`, `Demonstrator` and `StepChecker`.

    A legal move goes on, or terminates when it reaches the goal; the answer is the list of all moves.

    Args:
        kind: the puzzle.
    """

    delimiter = "\n"

    def __init__(self, kind: type[Puzzle]) -> None:
        self.kind = kind
        self.name = kind.task
        self.max_steps = kind.max_steps

    def read(self, question: str) -> Problem:
        """Read a question as it is written here or by reasoning-gym; raises `UnreadableQuestion`."""
        if len(question) > MAX_QUESTION:
            raise UnreadableQuestion(f"a question of {len(question)} characters; at most {MAX_QUESTION} are read")
        try:
            puzzle = self.kind.read(question)
            answer = puzzle.write(tuple(self._way(puzzle, random.Random(0))))
        except ValueError as error:
            reason = f"cannot read {question!r}: {error}; {self.name} is read as in {self.kind.example!r}"
            raise UnreadableQuestion(reason) from None
        return Problem(f"{self.name}/{puzzle}", str(puzzle), answer)

    def prompt(self, problem: Problem) -> str:
        """The question and how a move is written, on lines of their own."""
        return f"{problem.question}\n{self.kind.rules}\n"

    def initial(self, problem: Problem) -> State:
        """The state before the first move."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A legal move goes on, or terminates at the goal; anything else truncates."""
        after = state.then(step)
        puzzle = self._puzzle(state)
        *_, position = self._positions(puzzle, after)
        if position is not None and puzzle.solved(position):
            return termination(after)
        goes_on = position is not None and len(after.steps) < self.max_steps and step.finish == "step"
        return transition(after) if goes_on else truncation(after)

    def answer(self, state: State) -> str | None:
        """All moves, once the goal is reached."""
        puzzle = self._puzzle(state)
        *_, position = self._positions(puzzle, state)
        return (
            puzzle.write(tuple(map(_tidy, state.texts))) if position is not None and puzzle.solved(position) else None
        )

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the moves are legal and end at the goal, and are few enough where that counts."""
        if problem.answer is None or len(answer) > MAX_ANSWER:
            return False
        puzzle = _understand(self.name, problem.question)
        try:
            moves = puzzle.replay(answer)
        except ValueError:
            return False
        *_, position = self._positions(puzzle, State(problem, tuple(map(Step, moves))), to_the_end=True)
        return position is not None and puzzle.solved(position) and len(moves) <= self._limit(puzzle)

    def same(self, a: str, b: str) -> bool:
        """The same moves; texts that are no answers are the same if equal."""
        try:
            if max(len(a), len(b)) <= MAX_ANSWER:
                return self.kind.split(a) == self.kind.split(b)
        except ValueError:
            pass
        return a.strip() == b.strip()

    def first_error(self, state: State) -> int | None:
        """Index of the first move that is not legal or leaves no way that is short enough, or None."""
        puzzle = self._puzzle(state)
        far, limit = distances(puzzle), self._limit(puzzle)
        for taken, position in enumerate(self._positions(puzzle, state)):
            if position is None or taken + far.get(position, limit + 1) > limit:
                return taken - 1
        return None

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        """A shortest way, drawn among all of them."""
        return tuple(self._way(_understand(self.name, problem.question), rng))

    def options(self, state: State) -> Mapping[str, float]:
        """Moves that a hasty player would make, with weights: mostly towards the goal, now and then any."""
        puzzle = self._puzzle(state)
        far = distances(puzzle)
        *_, position = self._positions(puzzle, state)
        if position is None or puzzle.solved(position):
            return {}
        return {
            move: 10.0 if far.get(after, self.max_steps) < far.get(position, 0) else 1.0
            for move, after in puzzle.moves(position)
        }

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """There are none of its own: reasoning-gym draws them."""
        raise ValueError(f"{n} problems of {split!r} asked for; {self.name} alone has none")

    # --------------------------------------------------------------------------------------------------------------

    def _puzzle(self, state: State) -> Puzzle:
        return _understand(self.name, state.problem.question)

    def _positions(self, puzzle: Puzzle, state: State, to_the_end: bool = False) -> Iterator[Position | None]:
        """The start and where each move leads; None, and no more, after one that is not legal or past the goal."""
        position = puzzle.start
        yield position
        for text in state.texts:
            over = puzzle.solved(position) and not to_the_end
            position = None if over or len(text) > MAX_QUESTION else puzzle.after(position, _tidy(text))
            yield position
            if position is None:
                return

    def _way(self, puzzle: Puzzle, rng: random.Random) -> Iterator[str]:
        far, position = distances(puzzle), puzzle.start
        while far[position]:
            nearer = [(move, after) for move, after in puzzle.moves(position) if far.get(after) == far[position] - 1]
            move, position = rng.choice(nearer)
            yield move

    def _limit(self, puzzle: Puzzle) -> int:
        """The most moves of a right answer."""
        return int(distances(puzzle)[puzzle.start] / RIGHT) if puzzle.counts else MAX_ANSWER
