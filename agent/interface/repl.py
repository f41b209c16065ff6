"""The interactive session: type a question, watch the tree grow, ask why.

In a terminal: history, completion, and the search tree live. When the input is a pipe: plain lines, no animation, so
that a script can drive it. A paste of several lines is several questions if each line can be read as a question (or is
a command) by itself, and one question otherwise.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.build import check_parts, choices
from agent.interface.common import start_from
from agent.interface.text import unicode_of
from agent.interface.tree_view import Drawing, explain_node, facts_view, search_tree, solution_view
from agent.recipes.files import has_recipe, override, split_words
from agent.recipes.recipe import Component, Recipe, parse_budget, parse_component, parse_options
from agent.registry import knobs_of, load_strategy
from agent.search.graph import SearchGraph
from agent.search.solution import Solution
from agent.solver import Solver, SolverError, graph_writer
from envs.core import UnreadableQuestion
from envs.messages import RecipeError, nearest
from envs.options import load_dataclass
from verifiers.voting import Aggregate

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

KEPT_ROWS = 14  # rows of the tree that stay on the screen after a search


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
    """

    def __init__(self, recipe: Recipe, console: Console) -> None:
        self.recipe = recipe
        self.console = console
        self.graph: SearchGraph | None = None
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
            "/tree": (self.show_tree, "", "the whole tree of the last search"),
            "/why": (self.show_why, "NODE", "a node of the last search: its path, scores and siblings"),
            "/save": (self.save, "FILE", "the last search, as .json (to load again) or .graphml"),
            "/load": (self.load, "FILE", "a search saved as .json"),
            "/help": (self.show_help, "", "this list"),
            "/quit": (self.leave, "", "leave (also Ctrl-D)"),
        }

    # ------------------------------------------------------------------------------------------------- questions

    def handle(self, text: str) -> None:
        """Do what one entry asks: commands and questions, one or several (see the module's docstring)."""
        try:
            entries = self.split(text)
        except (RecipeError, OSError) as error:
            self.complain(error)
            return
        for entry in entries:
            if len(entries) > 1:
                self.console.print(Text(f"> {entry}", style="bold"))
            try:
                if entry.startswith("/"):
                    self.command(entry)
                else:
                    self.ask(entry)
            except (SolverError, ValueError, OSError) as error:
                self.complain(error)

    def complain(self, error: Exception) -> None:
        """Print what is wrong."""
        self.console.print(Text(str(error), style="red"), soft_wrap=True)

    def split(self, text: str) -> list[str]:
        """The questions and commands in what was typed or pasted."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) <= 1 or all(line.startswith("/") or self._reads(line) for line in lines):
            return lines
        whole = " ".join(lines)
        return [whole] if self._reads(whole) else lines

    def _reads(self, question: str) -> bool:
        try:
            self.solver.environment.read(question)
        except UnreadableQuestion:
            return False
        return True

    @property
    def solver(self) -> Solver:
        """The solver for the recipe; models are loaded once and kept until others are named."""
        wanted = (self.recipe.environment, self.recipe.policy, self.recipe.verifier)
        if self._solver is None or self._loaded != wanted:
            with self.console.status("loading the models") if self.console.is_interactive else contextlib.nullcontext():
                fresh = Solver.from_recipe(self.recipe)
            if self._solver is not None:
                self._solver.close()
            self._solver, self._loaded = fresh, wanted
        return self._solver

    def ask(self, question: str) -> None:
        """Solve a question, the tree growing on the screen; Ctrl-C keeps the best answer so far."""
        solver = self.solver
        problem = solver.environment.read(question)
        drawing = Drawing(self.console) if self.console.is_interactive else None
        outcome: list[Solution | BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
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
        self.graph = result.graph
        unicode = unicode_of(self.console)
        if drawing is None:
            self.console.print(solution_view(result, unicode))
        else:
            self.console.print(
                search_tree(result.graph, min(KEPT_ROWS, self.console.height // 2), self.console.width - 1, unicode)
            )
            self.console.print(facts_view(result, unicode))

    # -------------------------------------------------------------------------------------------------- commands

    def command(self, entry: str) -> None:
        """Run a command; a wrong one is answered with the nearest right one."""
        name, _, rest = entry.partition(" ")
        if name not in self.commands:
            raise RecipeError(f"unknown command {name}{nearest(name, self.commands) or ';'} /help lists all")
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
        """Print the value of a key, and what else it could be."""
        value = self.recipe.to_config()[key]
        if isinstance(value, dict):
            value = " ".join(
                str(inner) if name == "name" else f"{name}={_short(inner)}" for name, inner in value.items()
            )
        line = Text.assemble((f"{key} ", "dim"), (str(value), "bold"))
        others = [name for name in choices(key) if name != self.recipe.to_config()[key]]
        if others:
            line.append(f"   others: {', '.join(others)}", style="dim")
        self.console.print(line, soft_wrap=True)

    def last(self) -> SearchGraph:
        """The last search, or an error that says that there is none."""
        if self.graph is None:
            raise RecipeError("nothing has been solved yet: type a question first")
        return self.graph

    def show_tree(self, text: str) -> None:
        """Print the whole tree of the last search (or its N most promising rows)."""
        graph = self.last()
        if text and not text.isdecimal():
            raise RecipeError(f"/tree {text}: expected a number of rows, or nothing for the whole tree")
        rows = int(text) if text else len(graph)
        self.console.print(search_tree(graph, rows, self.console.width - 1, unicode_of(self.console)))

    def show_why(self, text: str) -> None:
        """Print what is known about a node."""
        graph = self.last()
        if not text.isdecimal():
            raise RecipeError(f"/why {text}: expected the number of a node; /tree shows them")
        self.console.print(explain_node(graph, int(text), unicode_of(self.console)))

    def save(self, text: str) -> None:
        """Write the last search to a file."""
        graph = self.last()
        if not text:
            raise RecipeError("/save: expected a file name, e.g. /save search.json")
        path = Path(text).expanduser()
        graph_writer(path)(graph)
        self.console.print(f"saved to {path}", soft_wrap=True)

    def load(self, text: str) -> None:
        """Read a search that was saved, for /tree and /why."""
        if not text:
            raise RecipeError("/load: expected a file name")
        self.graph = SearchGraph.load(Path(text).expanduser(), self.solver.environment)
        self.console.print(solution_view(Solution.of(self.graph), unicode_of(self.console)))

    def show_help(self, text: str) -> None:
        """List the commands."""
        table = Table.grid(padding=(0, 2))
        for name, (_, arguments, what) in self.commands.items():
            table.add_row(Text.assemble((name, "bold"), f" {arguments}"), Text(what, style="dim"))
        self.console.print(table)
        self.console.print(
            Text(
                "Anything else is a question. Ctrl-C stops a search and keeps its best answer, Ctrl-D leaves.",
                style="dim",
            )
        )

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
        if command == "/why" and self.graph is not None:
            values = (str(node) for node in self.graph.graph)
        elif len(words) == 1:
            values = choices(key)
        elif key == "strategy":
            with contextlib.suppress(RecipeError):
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


# ------------------------------------------------------------------------------------------------------- the loop


def run_repl(recipe: Recipe) -> int:
    """Talk to a person, or to a pipe, until the input ends. Returns the exit code."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    session = Session(recipe, Console(soft_wrap=False, highlight=False))
    with contextlib.suppress(Leave):
        if not interactive:
            for line in sys.stdin:
                session.handle(line)
            return 0
        prompt = make_prompt(session)
        session.console.print(Text.assemble(("stepwell  ", "bold"), (session.summary, "dim")))
        session.console.print(Text("Type a question, or /help.", style="dim"))
        while True:
            try:
                text = prompt.prompt("> ")
            except KeyboardInterrupt:
                continue  # the line is cleared
            except EOFError:
                break
            try:
                session.handle(text)
            except KeyboardInterrupt:
                session.console.print(Text("stopped", style="yellow"))
    return 0


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
