"""How a language model is shown a state: a question, and the start of its own answer, which it continues.

The environment's prompt is the user's turn, the steps so far are the assistant's, never closed and never followed by
another turn. Where the model has no chat template, or is not asked in a chat, prompt and steps are plain text.

Two things hold for every template and tokenizer, and are what search relies on:

* **A state is its text, and its ids are its parent's ids and those of the new step.** Each part (prompt, step,
  observation) is tokenised by itself, as it reads between its neighbours, so nothing that comes later changes an id.
  When a model writes a step in other tokens than that (a rare way to spell it, or a token that runs over the
  delimiter), it goes on from the ids here, in whichever way it came to the state.
* **No text is a command.** What looks like one of the model's control tokens (``<|im_end|>``) in a question, a step or
  an observation is read as characters.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from envs.core import Environment, State, Step, Turn, opening
from policies.generation.chat_template import TemplateError, render
from policies.generation.options import SamplingOptions
from policies.generation.step_splitter import THINK, THOUGHT
from policies.models.prefix_tree import Ids
from policies.models.pretrained import panics

_QUESTION, _ANSWER = "\ue000\ue001\ue000", "\ue002\ue003\ue002"  # of private use: in no template and no question
_NEXT = "A"  # a letter that may follow a part, so that the part is tokenised as in the middle of a text


def own_text(environment: Environment, steps: Iterable[Step], prefill: str = "") -> str:
    """What the model has written so far, observations included; it goes on from here."""
    return "".join([prefill, *(part for step in steps for part in _parts(environment, step))])


def messages(environment: Environment, state: State, options: SamplingOptions) -> list[dict[str, str]]:
    """A state for a server that applies the chat template: the last message, if the assistant's, is to be continued.

    Space around the prompt separates it from what follows in plain text; in a chat the turn does.
    """
    told, earlier = _system(state.problem.conversation, options.system)
    system = [{"role": "system", "content": told}] if told else []
    before = [{"role": turn.role, "content": turn.text} for turn in earlier]
    user = {"role": "user", "content": opening(environment, state).strip()}
    own = own_text(environment, state.steps, options.prefill)
    return [*system, *before, user, *([{"role": "assistant", "content": own}] if own else [])]


def _system(conversation: Sequence[Turn], own: str) -> tuple[str, list[Turn]]:
    """The system prompt, our own first and then those of a conversation, and the other turns."""
    told = [own, *(turn.text for turn in conversation if turn.role == "system")]
    return "\n\n".join(filter(None, told)), [turn for turn in conversation if turn.role != "system"]


def _parts(environment: Environment, step: Step) -> list[str]:
    written = step.thinking + step.text + (step.closing or environment.delimiter)
    return [written, step.observation + environment.delimiter] if step.observation else [written]


class ChatFormat:
    """States as text and as ids, for one tokenizer and environment.

    Args:
        tokenizer: of transformers.
        environment: whose prompts and delimiter.
        options: see `SamplingOptions`.
        ends: ids that end an answer, besides those that the tokenizer knows (a generation config has some).

    Attributes:
        chat: whether the prompt is a user's turn.
        ends: ids that end an answer: those given, the end of a turn, and every other control token, as none is text.
        opened: whether the prompt ends with ``<think>``.
        thinks: whether the model thinks before it answers.
        highest: the highest id that the template writes.

    Raises:
        ValueError: for options that this tokenizer or environment cannot keep, and for a template that fails.
    """

    blank_steps = False

    def __init__(
        self, tokenizer: Any, environment: Environment, options: SamplingOptions, ends: Iterable[int] = ()
    ) -> None:
        if overlapping := [text for text in options.stop if environment.delimiter in text]:
            raise ValueError(
                f"stop {overlapping[0]!r} holds the delimiter {environment.delimiter!r}, which ends a step"
            )
        self.tokenizer, self.environment, self.options = tokenizer, environment, options
        self.chat = bool(tokenizer.chat_template) if options.chat is None else options.chat
        if self.chat and not tokenizer.chat_template:
            raise ValueError("the tokenizer has no chat template; give chat=False to go on from plain text")
        self._before, self._after, closing = self._template() if self.chat else ("", "", "")
        self._controls = self._control_tokens(self._before + self._after + closing)
        self.highest = max(self._tokenize(self._before + self._after), default=0)
        self._after += options.prefill
        self.opened = self._after.rstrip().endswith(THINK)
        template = tokenizer.chat_template if self.chat else ""
        could_think = THOUGHT in str(template) and THOUGHT not in self._after
        self.thinks = self.opened or (could_think if options.thinking is None else options.thinking)
        marks = [mark for mark in (THINK, THOUGHT) if mark in tokenizer.get_added_vocab()]
        self._own, self._others = _any_of(self._controls), _any_of([*self._controls, *marks])
        turn = self._own.match(closing.lstrip())
        own = [tokenizer.eos_token_id, self._controls[turn[0]] if turn else None]
        self.ends = frozenset([*ends, *self._controls.values(), *(token for token in own if token is not None)])
        plain = tokenizer(_NEXT, verbose=False).input_ids
        self._begin: Ids = tuple(itertools.takewhile(lambda token: token in tokenizer.all_special_ids, plain))
        # a tokenizer that puts a space in front of a text does so in front of a line break, and what follows has none
        line = self._tokenize("\n")
        self._next = self._tokenize("\n" + _NEXT)[len(line) :]
        self._left = line if self._tokenize(_NEXT) != self._next else ()
        self._skipped = len(self._decode(self._left))
        self._encode = lru_cache(maxsize=1 << 16)(self._encode_pieces)
        self._read = lru_cache(maxsize=1 << 10)(self._prompt_ids)

    # ------------------------------------------------------------------------------------------------------- text

    def text(self, state: State) -> str:
        """What the model continues, control tokens included, for servers that take a text."""
        prompt, written = self._question(state), own_text(self.environment, state.steps)
        if state.problem.conversation:
            return "".join(self._turns(state.problem.conversation, prompt)) + written
        return self._before + prompt + self._after + written

    def _question(self, state: State) -> str:
        question = opening(self.environment, state)
        return question.strip() if self.chat else question

    # -------------------------------------------------------------------------------------------------------- ids

    def ids(self, state: State) -> Ids:
        """What the model continues."""
        return tuple(itertools.chain.from_iterable(self.parts(state)))

    def parts(self, state: State) -> list[Ids]:
        """The ids of the prompt, then of each step with its observation."""
        return [self._read(self._question(state), state.problem.conversation), *map(self.step, state.steps)]

    def step(self, step: Step) -> Ids:
        """The ids of a step, closed by the delimiter, and of its observation."""
        written, *observed = _parts(self.environment, step)
        ids = self._encode(_harmless(written, self._own))
        return ids + self._encode(_harmless(observed[0], self._others)) if observed else ids

    def inside(self, text: str) -> Ids:
        """The ids of a text in the middle of an answer, such as a step that is not complete."""
        return self._encode(_harmless(text, self._own), False) if text else ()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, in the middle of a text; a token that ends an answer, at their end, has none."""
        own = ids[:-1] if ids and ids[-1] in self.ends else ids
        return self._decode((*self._left, *own))[self._skipped :]

    def _prompt_ids(self, question: str, conversation: tuple[Turn, ...] = ()) -> Ids:
        if conversation:
            return self._conversation_ids(self._turns(conversation, question))
        first, *others = _harmless(question, self._others)
        if self.chat:
            if not others:
                return self._tokenize(self._before + first + self._after)
            return self._tokenize(self._before + first) + self._encode((*others[:-1], others[-1] + self._after), False)
        text = first if others else first + self._after
        ids = self._tokenize(text + _NEXT, begin=True)
        if not others and ids[-len(self._next) :] == self._next:
            return ids[: -len(self._next)]
        ids = self._tokenize(text, begin=True)
        return ids + self._encode((*others[:-1], others[-1] + self._after)) if others else ids

    def _conversation_ids(self, parts: Sequence[str]) -> Ids:
        """The ids of a conversation: the template's texts, which command, in turn with what was said, which does not.

        Args:
            parts: at even places the template's.
        """
        pieces = [""]
        for place, part in enumerate(parts):
            first, *others = _harmless(part, self._others) if place % 2 else (part,)
            pieces[-1] += first
            pieces += others
        return self._tokenize(pieces[0]) + (self._encode(tuple(pieces[1:]), False) if pieces[1:] else ())

    def _encode_pieces(self, pieces: tuple[str, ...], open_end: bool = True) -> Ids:
        """The ids of pieces in the middle of a text, the last one as before a letter if its end is open."""
        *others, last = pieces
        ids = list(itertools.chain.from_iterable(map(self._piece, others)))
        longer = self._piece(last + _NEXT) if open_end else ()
        split = len(longer) - len(self._next)
        return (*ids, *(longer[:split] if longer[split:] == self._next else self._piece(last)))

    def _piece(self, text: str) -> Ids:
        """The ids of a text in the middle of another."""
        ids = self._tokenize("\n" + text if self._left else text)
        return ids[len(self._left) :] if ids[: len(self._left)] == self._left else self._tokenize(text)

    def _tokenize(self, text: str, begin: bool = False) -> Ids:
        """Ids of a text; with what the model wants in front of one, if it begins."""
        text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text: it becomes "?"
        with panics(self.tokenizer.name_or_path):
            ids = tuple(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
        return self._begin + ids if begin else ids

    def _decode(self, ids: Sequence[int]) -> str:
        with panics(self.tokenizer.name_or_path):
            return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    # --------------------------------------------------------------------------------------------------- template

    def _template(self) -> tuple[str, str, str]:
        """What the template puts before a question, between it and the answer, and after the answer."""
        turns, rendered = self._opening()
        if rendered.count(_QUESTION) != 1:
            raise _unusable(f"it shows a user's turn {rendered.count(_QUESTION)} times")
        before, _, after = rendered.partition(_QUESTION)
        whole = self._try([*turns, {"role": "assistant", "content": _ANSWER}])
        upto, _, closing = whole.partition(_ANSWER)
        if closing and rendered == self._try(turns):
            # the template has no prompt for an answer: what it puts before one; a space there is the answer's own
            after = upto.partition(_QUESTION)[2].rstrip(" ")
        return before, after, closing

    def _turns(self, conversation: Sequence[Turn], question: str) -> list[str]:
        """A conversation and the question that ends it, as the template shows them.

        Returns:
            The template's own texts at even places, and between them what was said.

        Raises:
            ValueError: the policy is not asked in a chat, or its template cannot show these turns.
        """
        if not self.chat:
            raise ValueError("the model goes on from plain text: there is no conversation to show it")
        told, earlier = _system(conversation, self.options.system)
        said = [turn.text for turn in earlier]
        marks = [f"\ue000{number}\ue003" for number in range(len(said))]
        turns = [{"role": turn.role, "content": mark} for turn, mark in zip(earlier, marks, strict=True)]
        turns.append({"role": "user", "content": _QUESTION})
        marks, said = [*marks, _QUESTION], [*said, question]
        ways = [turns]
        if told:
            mark = "\ue000s\ue003"
            marks, said = [mark, *marks], [told, *said]
            merged = [{**turns[0], "content": f"{mark}\n\n{turns[0]['content']}"}, *turns[1:]]
            ways = [[{"role": "system", "content": mark}, *turns], merged]  # as in `_opening`
        why = ""
        for way in ways:
            try:
                shown = self._render(way, True)
            except TemplateError as error:
                why = why or str(error)
                continue
            parts = re.split(f"({_any_of(marks).pattern})", shown)
            if parts[1::2] == marks:
                return [*itertools.chain.from_iterable(zip(parts[::2], said, strict=False)), self._after]
            why = why or "it leaves out a turn, or shows one twice"
        raise ValueError(f"the chat template cannot show this conversation: {why}")

    def _opening(self) -> tuple[list[dict[str, str]], str]:
        """The turns before the answer, and what the template makes of them."""
        system, user = self.options.system, "user"
        ways = [[{"role": user, "content": _QUESTION}]]
        if system:
            # a family without a system role: its authors put the system prompt in front of the first question
            first = [{"role": user, "content": f"{system}\n\n{_QUESTION}"}]
            ways = [[{"role": "system", "content": system}, *ways[0]], first]
        said = "it leaves out the system prompt"
        for turns in ways:
            try:
                rendered = self._render(turns, True)
            except TemplateError as error:
                said = str(error)
                continue
            if system.strip() in rendered:
                return turns, rendered
        raise _unusable(said)

    def _try(self, turns: Sequence[dict[str, str]]) -> str:
        """What the template makes of turns without a prompt for an answer; nothing where it refuses."""
        try:
            return self._render(turns, False)
        except TemplateError:
            return ""

    def _render(self, turns: Sequence[dict[str, str]], answering: bool) -> str:
        """What the template makes of turns; raises `TemplateError` where it refuses."""
        variables: dict[str, Any] = self.tokenizer.special_tokens_map | {"add_generation_prompt": answering}
        if self.options.thinking is not None:
            variables |= {"enable_thinking": self.options.thinking, "thinking": self.options.thinking}
        return render(self.tokenizer.get_chat_template(), variables, turns)

    def _control_tokens(self, skeleton: str) -> dict[str, int]:
        """Added tokens that are commands: the special ones, and those that the template writes."""
        return {
            token.content: id
            for id, token in self.tokenizer.added_tokens_decoder.items()
            if token.content.strip() and (token.special or token.content in skeleton)
            if token.content not in (THINK, THOUGHT)
        }


def _unusable(said: object) -> ValueError:
    return ValueError(f"the chat template cannot be used: {said}; give chat=False, or mend the template")


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def _harmless(text: str, controls: re.Pattern[str]) -> tuple[str, ...]:
    """A text in pieces, none of which holds a control token: each is cut in two."""
    pieces, at = [], 0
    while found := controls.search(text, at):
        middle = found.start() + max(1, len(found[0]) // 2)
        pieces.append(text[at:middle])
        at = middle
    return (*pieces, text[at:])
