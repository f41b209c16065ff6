"""The interactive session: type a question, watch the tree grow, pause it, push it, ask why.

In a terminal: history, completion, and the search tree live; Ctrl-C pauses. When the input is a pipe: plain lines, each
answer under its question, no animation, so that a script can drive it. A paste of several lines is several questions if
each line can be read as a question (or is a command) by itself, and one question otherwise.

Nothing but leaving ends a session: an error, whatever raised it, is told in a line, and the models stay loaded. They
are loaded in the background, so that Ctrl-C can come at any moment.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.build import choices, environment_of, strategy_of
from agent.interface.control.ctl_view import outcome_view
from agent.interface.session.command import Command, number
from agent.interface.session.compare import COMPARING
from agent.interface.session.files import FILES
from agent.interface.session.looking import LOOKING
from agent.interface.session.search_run import SearchRun, unseen_typing, user
from agent.interface.session.settings import SETTINGS
from agent.interface.session.steering import STEERING
from agent.interface.session.store import Store
from agent.interface.terminal.background import Background
from agent.interface.terminal.live_tree import LiveTree
from agent.interface.text import brief, message, unicode_of, visible
from agent.interface.tree_view import facts_view, legend, search_tree, solution_view, status_row
from agent.recipes.recipe import Recipe
from agent.registry import knobs_of, load_strategy
from agent.search.budget import Budget
from agent.search.context import Outcome, RunContext
from agent.search.control.arguments import COMMANDS, from_words
from agent.search.control.handle import SearchOver, Surface
from agent.search.graph import OtherEnvironment, SearchGraph
from agent.search.solution import Solution
from agent.solver import Solver, task
from envs.core import Environment, UnreadableQuestion
from envs.messages import UsageError, nearest
from verifiers.voting import Aggregate

T = TypeVar("T")
_MADE = 10  # new nodes that are shown at once
KEPT_ROWS = 14  # rows of the tree that stay on the screen after a search
PATIENCE = 10  # seconds that leaving waits for models that are being loaded: nothing may cut that short
LONGEST = 1 << 16  # bytes of a file with questions
WORDS = {"help": "/help", "?": "/help", "quit": "/quit", "exit": "/quit"}
"""What people type, and the command that it stands for."""
_WATCHED = "Ctrl-C pauses the search; what you type is kept for the next prompt"
PAUSED = "paused: /go goes on, /help lists commands, Ctrl-C ends it with its best answer"
_AT_NODES = ("/why", "/alt", "/goto", "/copy", "/expand", "/prune", "/pin", "/only", "/write", "/answer")


class Leave(Exception):
    """The user wants to leave."""


class HungUp(Leave):
    """The terminal is gone."""


class Session:
    """What the commands act on: a recipe, the models it names, the last search, or one that is paused.

    Args:
        recipe: to start from.
        console: where everything is printed.
        echo: print each question and command above what it brings; for input that is not seen.
        surface: lists its searches, for `stepwell ctl`.
        person: somebody sits here, who watches searches and pauses them.

    Attributes:
        solution: the last search, or the one that was opened.
        run: the search that is paused; None where none is.
        focus: the node that `/goto` chose.
        queue: what was asked while a search was paused.
        store: the searches of all sessions, where those of this one are kept if a person sits here.
    """

    def __init__(
        self,
        recipe: Recipe,
        console: Console,
        echo: bool = False,
        surface: Surface | None = None,
        person: bool = False,
    ) -> None:
        self.recipe = recipe
        self.console = console
        self.echo = echo
        self.surface = surface or Surface()
        self.person = person
        self.solution: Solution | None = None
        self.run: SearchRun | None = None
        self.focus = 0
        self.queue: list[str] = []
        self.store = Store()
        self._view: LiveTree | None = None
        self._before: tuple[dict[str, Any], RunContext, Outcome | None]  # of the search that was opened again
        self._environment: tuple[object, Background[Environment]] | None = None
        self._loading: tuple[object, Background[Solver]] | None = None
        self._solver: Solver | None = None
        self._loaded: object = None
        self.commands: dict[str, Command] = {
            **SETTINGS,
            **LOOKING,
            **STEERING,
            **COMPARING,
            **FILES,
            "/help": Command(Session.show_help, "", "this list (also help or ?)"),
            "/quit": Command(Session.leave, "", "leave (also quit, exit or Ctrl-D)"),
        }

    # ------------------------------------------------------------------------------------------------- questions

    def handle(self, text: str) -> None:
        """Do what one entry asks: commands and questions, one or several (see the module's docstring).

        Whatever goes wrong is told; only `Leave` and KeyboardInterrupt are raised.
        """
        with self.told():
            try:
                entries = self.split(self._of_file(text))
            except BaseException:
                self._repeat(text.strip())
                raise
            for entry in entries:
                self._repeat(entry, several=len(entries) > 1)
                with self.told():
                    self._do_entry(entry)

    def _repeat(self, entry: str, several: bool = False) -> None:
        if several or self.echo:
            self.say(Text(f"> {visible(entry)}", style="bold"))

    def _do_entry(self, entry: str) -> None:
        try:
            if entry.startswith("/"):
                self.command(entry)
            else:
                self.ask(entry)
        except SearchOver:
            self._show_ended()

    def _of_file(self, text: str) -> str:
        """What is in a file, where ``@FILE`` was typed."""
        name = text.strip()
        if not name.startswith("@") or len(name.splitlines()) != 1:
            return text
        path = Path(name[1:].strip()).expanduser()
        if not path.is_file():
            what = f"{str(path)!r} is a folder" if path.is_dir() else f"there is no file {str(path)!r}"
            raise UsageError(f"{what}; @FILE asks what is in a file")
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise UsageError(f"{path} has more than {LONGEST:,} bytes; 'stepwell eval' measures many problems")
        return content.decode("utf-8", "backslashreplace")

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Tell in a line what goes wrong within this context, and go on after it."""
        try:
            yield
        except (KeyboardInterrupt, Leave):
            raise
        except SystemExit as error:  # of an environment's file, or of a package that is imported
            self.complain(UsageError(f"code that was loaded wanted to end the program: sys.exit({error.code!r})"))
        except FutureTimeoutError:
            self.complain(UsageError("the model is busy; try again, or press Ctrl-C to end the search"))
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
        environment = self.environment
        if self._loading is None or self._loading[0] != wanted:
            before = self._loading[1] if self._loading else None
            self._loading = (wanted, Background(partial(_load, self.recipe, environment, before)))
        try:
            names = visible(f"{self.recipe.policy.name} and {self.recipe.verifier.name}")
            status = self.console.status(f"loading the models: {names}")
            with status if self.console.is_interactive else contextlib.nullcontext():
                fresh = self._loading[1].wait()
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._loading = None
            raise
        if self._solver is not None:
            self._solver.close()
        fresh.engine.surface = self.surface
        self._solver, self._loaded, self._loading = fresh, wanted, None
        return fresh

    def settle(self) -> None:
        """Wait a while for what is being loaded: Python cannot end well in the middle of it."""
        for loading in (self._environment, self._loading):
            if loading is not None:
                loading[1].over(PATIENCE)

    def ask(self, question: str) -> None:
        """Solve a question, the tree growing on the screen; the first Ctrl-C pauses the search."""
        if self._is_paused():
            self.queue.append(question)
            self.say(Text("a search is paused: this is asked when it is over", style="yellow"))
            return
        solver = self.solver
        problem, recipe = solver.environment.read(question), self.recipe
        strategy = strategy_of(recipe)
        solver.check(strategy)
        self.follow(SearchRun(solver, task(problem, strategy, recipe.budget, recipe.seed, self._changed)))

    def _changed(self, graph: SearchGraph) -> None:
        if (view := self._view) is not None:
            view(graph)

    def follow(self, run: SearchRun) -> None:
        """Watch a search until it is over or Ctrl-C comes: in a terminal that pauses it, and elsewhere it ends it."""
        self.run = run
        try:
            if not self.person:
                over = run.watch()
            else:
                with unseen_typing(), LiveTree(self.console, _WATCHED) as self._view:
                    over = run.watch()
                    if not over:
                        run.handle.do("pause", who=user())
        except HungUp:
            self.close()
            raise
        finally:
            self._view = None
        if not over and self.person:
            self._show_pause(run)
            return
        if not over:
            self.end()
        else:
            self._finish(run)

    def _show_pause(self, run: SearchRun) -> None:
        """What a person sees of a search that is paused."""
        unicode = unicode_of(self.console)
        with contextlib.suppress(FutureTimeoutError):
            self.print_tree(self.kept_rows)
            row = run.look(lambda graph: status_row(graph, graph.context.meter.seconds, unicode))
            self.say(Text.assemble(*row))
        if self.console.is_dumb_terminal:  # where the prompt has no bar below
            self.say(Text(PAUSED, style="yellow"))

    def end(self) -> None:
        """End the search that is paused with its best answer, and show it."""
        if (run := self.run) is None:
            return
        try:
            run.end()
        except KeyboardInterrupt:
            self.abandon()
            raise
        self._finish(run)

    def abandon(self) -> None:
        """Leave the search under way to itself, as its model hangs: the next one is given models of its own."""
        self.run = self._solver = None

    def close(self) -> None:
        """Keep what there is of a search that is under way; for when there is nobody to show it to."""
        if (run := self.run) is None:
            return
        self.run = None
        for handle in run.handles:
            handle.do("stop", who=user())
        if run.wait(PATIENCE) and run.solutions:
            self.keep(run.solutions[0])

    def _finish(self, run: SearchRun) -> None:
        self.run = None
        result = run.solution
        self.solution, self.focus = result, 0
        self.keep(result)
        if not self.person:
            self.console.print(solution_view(result, unicode_of(self.console)))
        else:
            self.print_tree(self.kept_rows)
            self.console.print(facts_view(result, unicode_of(self.console)))

    def keep(self, solution: Solution) -> None:
        """Put a search on disk; where that cannot be done, say so and go on."""
        if not self.person:
            return
        try:
            self.store.keep(solution)
        except OSError as error:
            self.say(Text(f"the search could not be kept: {message(error)}", style="yellow"))

    # ------------------------------------------------------------------------------------------- the search at hand

    def last(self) -> Solution:
        """The last search, or an error that says that there is none."""
        if self.solution is None:
            raise UsageError("nothing has been solved yet: type a question first")
        return self.solution

    def look(self, function: Callable[[SearchGraph], T]) -> T:
        """What a function makes of the graph at hand: that of the search that is paused, or else of the last one."""
        return function(self.last().graph) if self.run is None else self.run.look(function)

    @property
    def kept_rows(self) -> int:
        """Rows of a tree that leave room for more on the screen."""
        return min(KEPT_ROWS, self.console.height // 2)

    def print_tree(self, rows: int | None) -> None:
        """Print the tree below the current node."""
        width, unicode = self.console.width - 1, unicode_of(self.console)
        correct = self.solution.correct if self.run is None and self.solution is not None else None
        root = self.focus

        def view(graph: SearchGraph) -> object:
            return search_tree(graph, rows or len(graph), width, unicode, correct=correct, root=root)

        self.console.print(self.look(view))

    def node(self, text: str, command: str) -> int:
        """The number of a node that was typed; the current one for a full stop, or for nothing."""
        if text in ("", "."):
            if not self.focus and not text:
                raise UsageError(f"{command}: expected the number of a node; /tree shows them")
            return self.focus
        chosen = number(text)
        if chosen is None:
            raise UsageError(f"{command} {brief(text, 40)}: expected the number of a node; /tree shows them")
        return chosen

    def opened(self, name: str) -> Solution:
        """A search that was saved, by its file or its number in the history."""
        path = self.store.find(int(name)) if number(name) is not None else Path(name).expanduser()
        try:
            graph = SearchGraph.load(path, self.environment)
        except OtherEnvironment as error:
            raise _other(error) from None
        return Solution.of(graph)

    def _is_paused(self) -> bool:
        """Whether a search is paused; one that has ended meanwhile is shown, and is none."""
        if self.run is not None and self.run.over:
            self._show_ended()
        return self.run is not None

    def _show_ended(self) -> None:
        """Show the search that was paused, and that a limit or somebody else has ended."""
        self.say(Text("the search has ended meanwhile", style="yellow"))
        self.end()

    def refuse_in_pause(self, what: str) -> None:
        """Raise an error where a search is paused."""
        if self._is_paused():
            raise UsageError(f"{what} while a search is paused; /go goes on with it, /stop ends it")

    # -------------------------------------------------------------------------------------------------------- steering

    def steer(self, name: str, text: str) -> None:
        """Do one of `agent.search.control.arguments.COMMANDS` to the search at hand; one that is over is open again."""
        arguments = from_words(name, self._with_focus(name, text))
        opened = self.run is None
        if opened and name in ("stop", "cancel"):
            raise UsageError(f"/{name}: no search is paused, so there is none to end")
        outcome = self._do(name, arguments)
        if name in ("stop", "cancel", "answer") and not outcome.get("pending"):
            self.end()
            return
        if outcome.get("made"):
            self._show_made(outcome["made"])
        if opened:
            self.say(Text("the search is open again; /go goes on with it, /stop ends it", style="dim"))

    def _do(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do a command to the search at hand, and print what came of it."""
        opened = self.run is None
        run = self.run or self._reopen()
        try:
            outcome = run.do(name, arguments)
        except UsageError:
            if opened:  # nothing came of it
                self._leave_as_it_was(run)
            raise
        self.console.print(outcome_view({"dry_run": False, **outcome}))
        return outcome

    def _with_focus(self, name: str, text: str) -> str:
        """The words of a command, with the current node where a full stop or no node was typed."""
        word, _, rest = text.partition(" ")
        kinds = [parameter.kind for parameter in COMMANDS[name].parameters]
        if not kinds or kinds[0] not in ("node", "nodes"):
            return text
        if word == ".":
            return f"{self.focus} {rest}"
        return str(self.focus) if not text and self.focus and kinds[0] == "node" else text

    def _show_made(self, nodes: list[int]) -> None:
        width, unicode = self.console.width - 1, unicode_of(self.console)

        def view(graph: SearchGraph) -> object:
            root = graph.parent(nodes[0]) or 0
            return search_tree(graph, _MADE, width, unicode, root=root, always=nodes[:_MADE])

        self.console.print(self.look(view))

    def _reopen(self) -> SearchRun:
        """The last search, paused, with as much again to spend as the budget of the session says."""
        before, recipe = self.last(), self.recipe
        given, here = before.graph.environment.name, self.environment.name
        if given != here:
            raise _other(OtherEnvironment(given, here, "the last search is "))
        spent, limits = before.spent, {}
        used = {
            "samples": spent.get("samples", 0.0),
            "tokens": spent.get("generated", 0) + spent.get("prefilled", 0),
            "flops": spent.get("flops", 0.0),
            "seconds": spent.get("seconds", 0.0),
        }
        for each in fields(Budget):
            if (limit := getattr(recipe.budget, each.name)) is not None:
                limits[each.name] = limit + used[each.name]
        strategy = strategy_of(recipe)
        self._before = copy.deepcopy(before.graph.info), before.graph.context, before.graph.outcome
        again = task(before.problem, strategy, Budget(**limits), recipe.seed, self._changed, graph=before.graph)
        self.run = SearchRun(self.solver, again, paused=True)
        self.run.handle.summary().result(PATIENCE)  # it has begun
        return self.run

    def _leave_as_it_was(self, run: SearchRun) -> None:
        """Close a search that was opened for a command that was refused."""
        run.handle.do("stop", who=user())
        if not run.wait(PATIENCE):
            self.abandon()
            return
        self.run = None
        graph = run.solutions[0].graph
        graph.info, graph.context, graph.outcome = self._before
        graph.replay_steering()

    def go(self, text: str) -> None:
        """Let the paused search go on, or open the last one again and go on with it."""
        if text:
            self._do("strategy", from_words("strategy", text))
        run = self.run or self._reopen()
        run.do("resume", {})
        self.follow(run)

    # -------------------------------------------------------------------------------------------------- commands

    def command(self, entry: str) -> None:
        """Run a command; a wrong one is answered with the nearest right one."""
        name, _, rest = entry.partition(" ")
        name = name.lower()
        if name not in self.commands:
            raise UsageError(f"unknown command {name}{nearest(name, self.commands) or ';'} /help lists all")
        self.commands[name].run(self, rest.strip())

    def show_help(self, text: str) -> None:
        """List the commands."""
        groups = {
            "settings": SETTINGS,
            "look at a search": LOOKING,
            "change a search that is paused, or the last one": STEERING,
            "compare, keep": {**COMPARING, **FILES},
        }
        table = Table.grid(padding=(0, 2))
        for title, commands in groups.items():
            table.add_row(Text(title, style="dim"))
            for name, command in commands.items():
                table.add_row(
                    Text.assemble((f"  {name}", "bold"), f" {command.usage}"), Text(command.help, style="dim")
                )
        for name in ("/help", "/quit"):
            table.add_row(Text.assemble((f"  {name}", "bold")), Text(self.commands[name].help, style="dim"))
        self.console.print(table)
        line = (
            "Anything else is a question; @FILE asks what is in a file, Alt-Enter begins a new line. Ctrl-C pauses a"
            " search, a second one ends it with its best answer, Ctrl-D leaves."
        )
        self.say(Text(f"{line}\n\nSigns in the tree:", style="dim"))
        signs = Table.grid(padding=(0, 2))
        for sign, meaning in legend(unicode_of(self.console)):
            signs.add_row(Text(sign, style="bold"), Text(meaning, style="dim"))
        self.console.print(signs)

    def leave(self, text: str) -> None:
        """Leave the session; a search that is paused ends with its best answer."""
        self.end()
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
        if command in _AT_NODES and (self.solution is not None or self.run is not None):
            with contextlib.suppress(FutureTimeoutError):
                values = self.look(lambda graph: [str(node) for node in range(min(len(graph), 10_000))])
        elif command in ("/compare", "/go"):
            values = choices("strategy")
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


def _other(error: OtherEnvironment) -> UsageError:
    return UsageError(f"{error}; /env {error.given} switches to that one, then try again")


def _load(recipe: Recipe, environment: Environment, before: Background[Solver] | None) -> Solver:
    """Load models; those that were being loaded before, and that nobody waits for any more, are freed first."""
    if before is not None:
        with contextlib.suppress(BaseException):
            before.wait().close()
    return Solver.from_recipe(recipe, environment)
