"""The interactive session: type a question, watch the tree grow, ask why.

In a terminal: history, completion, and the search tree live. When the input is a pipe: plain lines, each answer under
its question, no animation, so that a script can drive it. A paste of several lines is several questions if each line
can be read as a question (or is a command) by itself, and one question otherwise.

Nothing but leaving ends a session: an error, whatever raised it, is told in a line, and the models stay loaded. They
are loaded in the background, so that Ctrl-C can come at any moment.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.build import check_parts, choices, describe_strategy, environment_of, parts, strategy_of
from agent.interface.common import make_console, start_from
from agent.interface.terminal.background import Background
from agent.interface.text import brief, message, unicode_of, visible
from agent.interface.tree_view import (
    Drawing,
    answers_view,
    call_text,
    explain_node,
    facts_view,
    legend,
    search_tree,
    solution_view,
)
from agent.recipes.files import has_recipe, override, split_words
from agent.recipes.recipe import Component, Recipe, parse_budget, parse_component, parse_options
from agent.registry import knobs_of, load_strategy
from agent.search.graph import OtherEnvironment, SearchGraph
from agent.search.solution import Solution
from agent.solver import Solver, graph_writer
from envs.core import Environment, UnreadableQuestion
from envs.guarded import guard
from envs.messages import UsageError, nearest
from envs.options import load_dataclass
from policies.registry import SCRIPTED
from verifiers.voting import Aggregate, Vote

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

KEPT_ROWS = 14  # rows of the tree that stay on the screen after a search
PATIENCE = 10  # seconds that leaving waits for models that are being loaded: nothing may cut that short
WORDS = {"help": "/help", "?": "/help", "quit": "/quit", "exit": "/quit"}
"""What people type, and the command that it stands for."""


class Leave(Exception):
    """The user wants to leave."""


def history_file() -> Path:
    """Where questions are remembered: the user's state folder (``XDG_STATE_HOME``)."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "stepwell" / "history"


# --------------------------------------------------------------------------------------------------------- session


class Session:
    """What the commands act on: a recipe, the models it names, the last search.

    Args:
        recipe: to start from.
        console: where everything is printed.
        echo: print each question and command above what it brings; for input that is not seen.
    """

    def __init__(self, recipe: Recipe, console: Console, echo: bool = False) -> None:
        self.recipe = recipe
        self.console = console
        self.echo = echo
        self.solution: Solution | None = None
        self._environment: tuple[object, Background[Environment]] | None = None
        self._loading: tuple[object, Background[Solver]] | None = None
        self._solver: Solver | None = None
        self._loaded: object = None
        self.commands: dict[str, tuple[Callable[[str], None], str, str]] = {
            "/strategy": (
                self._setter("strategy"),
                "[NAME [KNOB=VALUE ...]]",
                "how to search; auto lets the planner decide",
            ),
            "/budget": (self._setter("budget"), "[N | samples=N seconds=S ...]", "what one question may spend"),
            "/policy": (self._setter("policy"), "[NAME]", "the model that proposes steps"),
            "/verifier": (self._setter("verifier"), "[NAME | none]", "the model that scores steps"),
            "/env": (self._setter("environment"), "[NAME [OPTION=VALUE ...]]", "the domain of the questions"),
            "/vote": (self._setter("vote"), "[RULE [AGGREGATE]]", "how the answer is chosen"),
            "/temperature": (self._setter("temperature"), "[T]", "of the samples; 0 is greedy"),
            "/seed": (self._setter("seed"), "[N]", "of the samples"),
            "/tree": (self.show_tree, "[ROWS]", "the tree of the last search; with ROWS only its most promising rows"),
            "/why": (self.show_why, "NODE", "a node of the last search: its path, scores and siblings"),
            "/answers": (self.show_answers, "", "every answer of the last search, with its votes and its score"),
            "/save": (self.save, "FILE", "the last search, as .json (to load again) or .graphml"),
            "/load": (self.load, "FILE", "a search saved as .json"),
            "/help": (self.show_help, "", "this list (also help or ?)"),
            "/quit": (self.leave, "", "leave (also quit, exit or Ctrl-D)"),
        }

    # ------------------------------------------------------------------------------------------------- questions

    def handle(self, text: str) -> None:
        """Do what one entry asks: commands and questions, one or several (see the module's docstring).

        Whatever goes wrong is told; only `Leave` and KeyboardInterrupt are raised.
        """
        with self.told():
            entries = self.split(text)
            for entry in entries:
                if len(entries) > 1 or self.echo:
                    self.say(Text(f"> {visible(entry)}", style="bold"))
                with self.told():
                    if entry.startswith("/"):
                        self.command(entry)
                    else:
                        self.ask(entry)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Tell in a line what goes wrong within this context, and go on after it."""
        try:
            yield
        except (KeyboardInterrupt, Leave):
            raise
        except SystemExit as error:  # of an environment's file, or of a package that is imported
            self.complain(UsageError(f"code that was loaded wanted to end the program: sys.exit({error.code!r})"))
        except BaseException as error:
            self.complain(error)

    def complain(self, error: BaseException) -> None:
        """Print what is wrong."""
        self.say(Text(message(error), style="red"))

    def say(self, line: Text) -> None:
        """Print a line: broken between words where the terminal ends, and not at all in a file."""
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def split(self, text: str) -> list[str]:
        """The questions and commands in what was typed or pasted."""
        lines = [WORDS.get(line.strip().lower(), line.strip()) for line in text.splitlines() if line.strip()]
        if len(lines) <= 1 or all(line.startswith("/") or self._reads(line) for line in lines):
            return lines
        whole = " ".join(lines)
        return [whole] if self._reads(whole) else lines

    def _reads(self, question: str) -> bool:
        try:
            self.environment.read(question)
        except UnreadableQuestion:
            return False
        return True

    @property
    def environment(self) -> Environment:
        """The environment of the recipe; it needs no models."""
        return guard(self._load_environment())

    def _load_environment(self) -> Environment:
        wanted = self.recipe.environment
        if self._environment is None or self._environment[0] != wanted:
            self._environment = (wanted, Background(partial(environment_of, self.recipe)))
        try:
            return self._environment[1].wait()
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._environment = None
            raise

    @property
    def solver(self) -> Solver:
        """The solver for the recipe; models are loaded once and kept until others are there.

        Ctrl-C ends the waiting; the models are loaded all the same, and the next question finds them.
        """
        wanted = (self.recipe.environment, self.recipe.policy, self.recipe.verifier)
        if self._solver is not None and self._loaded == wanted:
            return self._solver
        environment = self._load_environment()
        if self._loading is None or self._loading[0] != wanted:
            before = self._loading[1] if self._loading else None
            self._loading = (wanted, Background(partial(_load, self.recipe, environment, before)))
        try:
            with self.console.status("loading the models") if self.console.is_interactive else contextlib.nullcontext():
                fresh = self._loading[1].wait()
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._loading = None
            raise
        if self._solver is not None:
            self._solver.close()
        self._solver, self._loaded, self._loading = fresh, wanted, None
        return fresh

    def settle(self) -> None:
        """Wait a while for what is being loaded: Python cannot end well in the middle of it."""
        for loading in (self._environment, self._loading):
            if loading is not None:
                loading[1].over(PATIENCE)

    def ask(self, question: str) -> None:
        """Solve a question, the tree growing on the screen; Ctrl-C keeps the best answer so far."""
        solver = self.solver
        drawing = Drawing(self.console) if self.console.is_interactive else None
        outcome: list[Solution | BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                problem = solver.environment.read(question)
                outcome.append(solver.solve_recipe(problem, self.recipe, drawing))
            except BaseException as error:
                outcome.append(error)  # raised in the main thread, below
            finally:
                done.set()

        # The search has a thread of its own so that Ctrl-C is heard while a model computes.
        with solver.interruptible() as interrupts, drawing or contextlib.nullcontext():
            threading.Thread(target=work, name="search", daemon=True).start()
            try:
                while not done.wait(0.1):
                    if interrupts:
                        solver.stop()  # again: the first may have come before the search began
            except KeyboardInterrupt:  # the third: a model that hangs is left alone, and fresh ones are loaded
                self._solver = None
                raise
        result = outcome[0]
        if isinstance(result, BaseException):
            raise result
        self.solution = result
        if drawing is None:
            self.console.print(solution_view(result, unicode_of(self.console)))
        else:
            self._print_tree(result, min(KEPT_ROWS, self.console.height // 2))
            self.console.print(facts_view(result, unicode_of(self.console)))

    def _print_tree(self, solution: Solution, rows: int) -> None:
        width, unicode = self.console.width - 1, unicode_of(self.console)
        self.console.print(search_tree(solution.graph, rows, width, unicode, correct=solution.correct))

    # -------------------------------------------------------------------------------------------------- commands

    def command(self, entry: str) -> None:
        """Run a command; a wrong one is answered with the nearest right one."""
        name, _, rest = entry.partition(" ")
        name = name.lower()
        if name not in self.commands:
            raise UsageError(f"unknown command {name}{nearest(name, self.commands) or ';'} /help lists all")
        self.commands[name][0](rest.strip())

    def _setter(self, key: str) -> Callable[[str], None]:
        def run(text: str) -> None:
            if text:
                self.change(key, text)
            self.show_setting(key)

        return run

    def change(self, key: str, text: str) -> None:
        """Set a key of the recipe to what was typed; on an error everything stays as it was."""
        before = self.recipe
        config = self.recipe.to_config()
        words = text.split()
        if key == "budget":
            config["budget"] = {name: value for name, value in vars(parse_budget(text)).items() if value is not None}
        elif key == "vote":
            config["vote"] = dict(zip(("rule", "aggregate"), words, strict=False)) if len(words) <= 2 else text
        elif key in ("seed", "temperature"):
            config = override(config, [f"{key}={text}"])
        else:
            config = self.with_part(config, key, text)
        self.recipe = load_dataclass(Recipe, config, f"/{key}")
        try:
            check_parts(self.recipe)
            if key in ("policy", "verifier", "environment"):
                self.solver  # noqa: B018 - loads the models now, so that a wrong name changes nothing
        except BaseException:
            self.recipe = before
            raise

    def with_part(self, config: dict[str, Any], key: str, text: str) -> dict[str, Any]:
        """The keys of a recipe with another part in it, or with other options of the part that is there.

        An environment that has a recipe of its own comes with all that it says, as ``--env`` does.
        """
        words = split_words(text)
        if words and "=" in words[0].partition("[")[0]:
            part = getattr(self.recipe, key)
            return config | {key: Component(part.name, {**part.options, **parse_options(words, part.name)}).to_config()}
        part = parse_component(text)
        if key == "environment" and has_recipe(part.name):
            config, _ = start_from(None, part.name)
            own = Component.from_config(config["environment"], "environment")
            part = Component(part.name, {**own.options, **part.options})
        return config | {key: part.to_config()}

    def show_setting(self, key: str) -> None:
        """Print the value of a key, what it means, and what else it could be."""
        if key in ("environment", "policy") and self.recipe.policy.name == SCRIPTED:
            said = "policy scripted: its steps are made up by the environment, no language model is loaded"
            self.console.print(Text(said, style="yellow"))
        value = self.recipe.to_config()[key]
        if isinstance(value, dict):
            value = " ".join(
                str(inner) if name == "name" else f"{name}={_short(inner)}" for name, inner in value.items()
            )
        line = Text.assemble((f"{key} ", "dim"), (visible(str(value)), "bold"))
        chosen = getattr(self.recipe, key)
        current = chosen.rule if isinstance(chosen, Vote) else getattr(chosen, "name", "")
        others = [name for name in choices(key) if name != current]
        if others:
            line.append(f"   others: {', '.join(others)}", style="dim")
        self.say(line)
        if key == "strategy":
            strategy = describe_strategy(strategy_of(self.recipe))
            self.say(Text(f"in force: {call_text(strategy['name'], strategy)}", style="dim"))
        if key in ("strategy", "policy", "verifier"):
            name = getattr(self.recipe, key).name
            for each in parts(key):
                if each.name == name:
                    self.say(Text(visible(each.line), style="dim"))

    def last(self) -> Solution:
        """The last search, or an error that says that there is none."""
        if self.solution is None:
            raise UsageError("nothing has been solved yet: type a question first")
        return self.solution

    def show_tree(self, text: str) -> None:
        """Print the whole tree of the last search (or its N most promising rows)."""
        solution = self.last()
        if text and not _is_number(text):
            raise UsageError(f"/tree {brief(text, 40)}: expected a number of rows, or nothing for the whole tree")
        self._print_tree(solution, int(text) if text else len(solution.graph))

    def show_why(self, text: str) -> None:
        """Print what is known about a node."""
        graph = self.last().graph
        if not _is_number(text):
            raise UsageError(f"/why {brief(text, 40)}: expected the number of a node; /tree shows them")
        self.console.print(explain_node(graph, int(text), unicode_of(self.console)))

    def show_answers(self, text: str) -> None:
        """Print every answer of the last search."""
        solution = self.last()
        if not solution.groups:
            raise UsageError("no candidate finished, so there are no answers; /tree shows what there is")
        self.console.print(answers_view(solution, unicode_of(self.console)))

    def save(self, text: str) -> None:
        """Write the last search to a file."""
        graph = self.last().graph
        if not text:
            raise UsageError("/save: expected a file name, e.g. /save search.json")
        path = Path(text).expanduser()
        graph_writer(path)(graph)
        self.say(Text(f"saved to {path}"))

    def load(self, text: str) -> None:
        """Read a search that was saved, for /tree and /why; that needs no models."""
        if not text:
            raise UsageError("/load: expected a file name, e.g. /load search.json")
        try:
            graph = SearchGraph.load(Path(text).expanduser(), self.environment)
        except OtherEnvironment as error:
            raise UsageError(f"{error}; /env {error.given} switches to that one, then /load it again") from None
        solution = Solution.of(graph)
        self.console.print(solution_view(solution, unicode_of(self.console)))
        self.solution = solution

    def show_help(self, text: str) -> None:
        """List the commands."""
        table = Table.grid(padding=(0, 2))
        for name, (_, arguments, what) in self.commands.items():
            table.add_row(Text.assemble((name, "bold"), f" {arguments}"), Text(what, style="dim"))
        self.console.print(table)
        line = "Anything else is a question. Ctrl-C stops a search and keeps its best answer, Ctrl-D leaves."
        self.say(Text(f"{line}\n\nSigns in the tree:", style="dim"))
        signs = Table.grid(padding=(0, 2))
        for sign, meaning in legend(unicode_of(self.console)):
            signs.add_row(Text(sign, style="bold"), Text(meaning, style="dim"))
        self.console.print(signs)

    def leave(self, text: str) -> None:
        """Leave the session."""
        raise Leave

    def completions(self, line: str) -> Iterator[str]:
        """What the last word of a line that starts with a slash may become."""
        command, space, rest = line.partition(" ")
        if not space:
            yield from (name for name in self.commands if name.startswith(command))
            return
        key = {"/env": "environment"}.get(command, command.removeprefix("/"))
        words = rest.split(" ")
        values: Iterable[str] = ()
        if command == "/why" and self.solution is not None:
            values = (str(node) for node in self.solution.graph.graph)
        elif len(words) == 1:
            values = choices(key)
        elif key == "strategy":
            with contextlib.suppress(UsageError):
                values = [f"{knob}=" for knob in knobs_of(load_strategy(words[0])).kinds]
        elif key == "vote":
            values = get_args(Aggregate)
        yield from (value for value in values if value.startswith(words[-1]))

    @property
    def summary(self) -> str:
        """The settings in one line."""
        recipe = self.recipe
        budget = " ".join(f"{value:g} {name}" for name, value in vars(recipe.budget).items() if value is not None)
        parts = (
            recipe.environment.name,
            f"{recipe.policy.name} + {recipe.verifier.name}",
            recipe.strategy.name,
            budget,
        )
        return (" · " if unicode_of(self.console) else " | ").join(parts)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 19


def _load(recipe: Recipe, environment: Environment, before: Background[Solver] | None) -> Solver:
    """Load models; those that were being loaded before, and that nobody waits for any more, are freed first."""
    if before is not None:
        with contextlib.suppress(BaseException):
            before.wait().close()
    return Solver.from_recipe(recipe, environment)


# ------------------------------------------------------------------------------------------------------- the loop


def run_repl(recipe: Recipe) -> int:
    """Talk to a person, or to a pipe, until the input ends. Returns the exit code."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    session = Session(recipe, make_console(), echo=not interactive)
    try:
        with contextlib.suppress(Leave):
            if interactive:
                _talk(session)
            else:
                _read_lines(session)
    finally:
        session.settle()
    return 0


def _read_lines(session: Session) -> None:
    """Answer a pipe, line by line; bytes that are no text are shown by their escapes."""
    session.console.is_interactive = False
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="backslashreplace")
    for line in sys.stdin:
        session.handle(line)


def _talk(session: Session) -> None:
    """Answer a person, until the input ends."""
    prompt = make_prompt(session)
    session.console.print(Text.assemble(("stepwell  ", "bold"), (visible(session.summary), "dim")))
    session.console.print(Text("Type a question, or /help.", style="dim"))
    while True:
        try:
            text = prompt.prompt("> ")
        except KeyboardInterrupt:
            continue  # the line is cleared
        except EOFError:
            return
        try:
            session.handle(text)
        except KeyboardInterrupt:
            session.console.print(Text("stopped", style="yellow"))


def make_prompt(session: Session) -> PromptSession[str]:
    """The line editor: history on disk, completion with TAB, the settings in a bar below."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
    from prompt_toolkit.shortcuts import CompleteStyle

    class Commands(Completer):
        """Commands and their values; file names where a file is expected."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            line = document.text_before_cursor.lstrip()
            if not line.startswith("/"):
                return
            command, _, rest = line.partition(" ")
            if command in ("/save", "/load") and line != command:
                yield from PathCompleter(expanduser=True).get_completions(Document(rest), complete_event)
                return
            word = line.rpartition(" ")[2]
            for value in session.completions(line):
                yield Completion(value, start_position=-len(word))

    history: History = InMemoryHistory()
    with contextlib.suppress(OSError):
        file = history_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        history = FileHistory(file)
    return PromptSession(
        history=history,
        completer=Commands(),
        complete_while_typing=False,
        complete_style=CompleteStyle.MULTI_COLUMN,
        reserve_space_for_menu=4,
        auto_suggest=AutoSuggestFromHistory(),
        bottom_toolbar=lambda: session.summary,
        enable_suspend=True,
    )
