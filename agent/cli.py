"""The command line: ``stepwell solve``, ``eval``, ``study``, ``train``, ``envs``, ``models``...; alone, a session.

Everything heavy is imported by the command that needs it, so that ``stepwell --help`` answers at once.
Exit codes: 0 done; 1 no answer, or something failed; 2 wrong usage, recipe or question; 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from agent.recipe import Recipe
    from agent.study import Study

T = TypeVar("T")

EPILOG = """\
examples:
  stepwell                                      open a session
  stepwell solve "(17 + 8) * 3 - 40"            solve one question
  stepwell solve "3x + 5 = 20" --strategy beam --budget 16 --set strategy.branch=2
  stepwell eval -n 200 --strategy best-of-n beam --budget 4 16
  stepwell models                               policies, verifiers, strategies
"""


class _Parser(argparse.ArgumentParser):
    """Argparse whose errors name the nearest right word."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and leave with code 2."""
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            given, allowed = wrong[1], re.findall(r"[\w-]+", wrong[2])
            close = difflib.get_close_matches(given, allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ";"
            message = f"unknown command {given!r}{hint} allowed: {', '.join(allowed)}"
        self.exit(2, f"{self.prog}: {message}\nTry '{self.prog} --help'.\n")

    def parse_strictly(self, argv: Sequence[str]) -> argparse.Namespace:
        """Like `parse_args`, with the nearest option for one that is unknown."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            inner = arguments.parser if "parser" in arguments else self
            options = [option for action in inner._actions for option in action.option_strings]
            close = difflib.get_close_matches(unknown[0].partition("=")[0], options, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            inner.error(f"cannot use {unknown[0]!r}{hint}")
        return arguments


def _commands(parser: argparse.ArgumentParser, name: str) -> Callable[..., argparse.ArgumentParser]:
    group = parser.add_subparsers(dest=name, metavar="COMMAND", title="commands", parser_class=_Parser)

    def add(command: str, run: Callable[[argparse.Namespace], int] | None, what: str) -> argparse.ArgumentParser:
        inner = group.add_parser(
            command,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            formatter_class=argparse.RawTextHelpFormatter,
        )
        inner.set_defaults(run=run, parser=inner)
        return inner

    return add


def build_parser() -> _Parser:
    """The whole grammar of the command line."""
    parser = _Parser(
        prog="stepwell",
        description="A small model, searched well. Without a command: an interactive session.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"stepwell {_version()}")
    parser.set_defaults(run=run_repl, parser=parser)
    _add_recipe(parser)
    add = _commands(parser, "command")

    solve = add("solve", run_solve, "solve one question and show how")
    solve._negative_number_matcher = re.compile(r"^-[\d(.]")  # -3+5 and -(3+5) are questions, not options
    solve.add_argument("question", help="as a person types it; the environment says what it can read")
    _add_recipe(solve)
    solve.add_argument("--json", action="store_true", help="print JSON")
    solve.add_argument("--graph", metavar="FILE", help="save the whole search: .json (loads again) or .graphml")
    solve.add_argument("--tree", action="store_true", help="print the search tree too")

    measure = add("eval", run_eval, "measure strategies on many problems; the same command resumes")
    _add_recipe(measure, several=True)
    measure.add_argument("--split", default="test", help="of the environment's problems: train, calibration, test")
    measure.add_argument("-n", type=_positive, default=200, help="how many problems (default 200)")
    measure.add_argument("--problem-seed", type=int, default=0, metavar="N", help="which problems (default 0)")
    measure.add_argument("--out", metavar="FILE", help="the file of results (default: under runs/, by configuration)")
    measure.add_argument(
        "--concurrency", type=_positive, default=64, metavar="N", help="searches open at once (default 64)"
    )
    measure.add_argument(
        "--total-budget",
        metavar="N",
        help="samples, or e.g. flops=1e12, that all problems share; the planner spends\n"
        "them where they gain most, and --budget is the most that one problem gets",
    )
    measure.add_argument("--json", action="store_true", help="print the summary as JSON")

    study = add("study", run_study, "run a study (configs/studies/NAME.yaml); the same command resumes")
    study.add_argument("study", metavar="STUDY", help="a study by name or path")
    study.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the study")
    study.add_argument("--out", metavar="FILE", help="the file of results (default: under runs/, by configuration)")
    study.add_argument(
        "--concurrency", type=_positive, default=64, metavar="N", help="searches open at once (default 64)"
    )
    study.add_argument(
        "--ray", metavar="ADDRESS", help="run on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT or local"
    )
    study.add_argument("--workers", type=_positive, metavar="N", help="of --ray (default: one per GPU, or per CPU)")
    study.add_argument("--retry-errors", action="store_true", help="run the searches that failed again")
    study.add_argument("--table", action="store_true", help="only show what the file has")
    study.add_argument("--json", action="store_true", help="print the table as JSON")

    report = add("report", run_report, "show what a study or an evaluation found")
    report.add_argument("file", metavar="FILE", help="of the results, .sqlite")
    report.add_argument(
        "--baseline", metavar="NAME", help="strategy that others are compared with (default: the first)"
    )
    report.add_argument("--vote", dest="rule", metavar="RULE", help="count other votes: majority, max or vote")
    report.add_argument("--aggregate", dest="how", metavar="HOW", help="of scores: last, min, mean or product")
    report.add_argument("--votes", action="store_true", help="accuracy under every vote too")
    report.add_argument("--plots", type=Path, metavar="DIR", help="draw all figures into a folder, as PNG")
    report.add_argument("--json", action="store_true", help="print the table as JSON")

    export = add("export", run_export, "write what a study found for other tools")
    export.add_argument("file", metavar="FILE", help="of the results, .sqlite")
    export.add_argument("--to", required=True, metavar="KIND", help="parquet, graphml, trl-prm, trl-dpo or trl-sft")
    export.add_argument("--out", required=True, type=Path, metavar="PATH", help="a folder; for trl-*, a .jsonl file")
    export.add_argument(
        "--most", type=_positive, default=4, metavar="N", help="of trl-*: examples of one problem (default 4)"
    )

    train = add("train", None, "train models")
    train.set_defaults(run=lambda arguments: train.error("what to train? policy or prm"))
    kinds = _commands(train, "kind")
    for kind, run, what in (
        ("policy", run_train_policy, "train a policy on worked solutions; the same command resumes"),
        ("prm", run_train_prm, "train a process reward model on roll-outs; the same command resumes"),
    ):
        inner = kinds(kind, run, what)
        inner.add_argument(
            "--config", required=True, metavar="NAME", help="a recipe by name (configs/NAME.yaml) or path"
        )
        inner.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe"
        )
        inner.add_argument("--out", metavar="DIR", help="where the model goes (default: runs/NAME)")
        inner.add_argument("--device", default="cpu", help="where to train (default cpu)")
        if kind == "policy":
            inner.add_argument(
                "--from-study",
                nargs="+",
                default=[],
                metavar="FILE",
                help="learn from the right solutions that studies of the train split found",
            )
            inner.add_argument("--most", type=_positive, default=4, metavar="N", help="of one problem (default 4)")
            inner.add_argument(
                "--workers", type=_positive, default=0, metavar="N", help="processes that write the examples meanwhile"
            )
        if kind == "prm":
            inner.add_argument("--samples", metavar="DIR", help="sampled solutions, to share them (default: in --out)")

    fit = add("calibrate", run_calibrate, "fit the planner to the policy, verifier and environment of a recipe")
    _add_recipe(fit)
    fit.add_argument("-n", type=_positive, default=200, help="problems of the calibration split (default 200)")
    fit.add_argument("--runs", metavar="FILE", help="where runs are kept and found again (default: under runs/)")
    fit.add_argument("--beams", action="store_true", help="try more sizes of beams that keep half of their prefixes")
    fit.add_argument(
        "--distinct",
        nargs="?",
        type=_temperature,
        const=0.0,
        metavar="T",
        help="draw independent samples without replacement, at a temperature of their own (default: that of the plan)",
    )
    fit.add_argument("--revise", action="store_true", help="try revision too, for a policy that learnt it")
    fit.add_argument("--out", metavar="FILE", help="default: where the planner looks, in configs/plans/")

    add("envs", run_envs, "list the environments")
    check = add("check-env", run_check_env, "try every rule of environments on one, and list those it breaks")
    check.add_argument("environment", metavar="NAME", help="name, package.module:Class or path, with KEY=VALUE options")
    check.add_argument("-n", type=_positive, default=12, help="problems drawn from each split (default 12)")
    check.add_argument("--seed", type=int, default=0, metavar="N", help="which problems (default 0)")
    check.add_argument("--json", action="store_true", help="print JSON")
    new = add("new-env", run_new_env, "write the project of a new environment, ready to run")
    new.add_argument("name", metavar="NAME", help="of the environment, e.g. word-ladders")
    new.add_argument("--folder", metavar="DIR", type=Path, help="of the project (default: NAME)")
    add("models", run_models, "list policies, verifiers and strategies")
    return parser


def _add_recipe(parser: argparse.ArgumentParser, several: bool = False) -> None:
    many: dict[str, Any] = {"nargs": "+"} if several else {}
    group = parser.add_argument_group("recipe (every key can be given; see configs/arithmetic.yaml)")
    group.add_argument("--config", metavar="NAME", help="a recipe by name (configs/NAME.yaml) or path")
    group.add_argument("--env", metavar="NAME", help="environment; its own recipe, if there is one, is the default")
    group.add_argument("--policy", metavar="NAME", help="name or folder of the model that proposes steps")
    group.add_argument("--verifier", metavar="NAME", help="name or folder of the model that scores them, or none")
    group.add_argument("--strategy", metavar="NAME", help="how to search, e.g. beam or 'beam branch=2'", **many)
    group.add_argument("--budget", metavar="N", help="samples per problem, or e.g. samples=16,seconds=5", **many)
    group.add_argument("--vote", metavar="RULE", help="majority, max or vote")
    group.add_argument("--aggregate", metavar="HOW", help="step scores to one number: last, min, mean or product")
    group.add_argument("--temperature", type=float, metavar="T", help="of the samples; 0 is greedy")
    group.add_argument("--seed", type=int, metavar="N", help="of the samples")
    group.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key, e.g. strategy.branch=2"
    )


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} given; a whole number of at least 1 is needed")
    return number


def _temperature(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} given; a temperature above 0 is needed")
    return number


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("stepwell")
    except PackageNotFoundError:
        return "(not installed)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors that a person can mend are one line on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    arguments = parser.parse_strictly(words)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, e.g. `| head`: nothing more to say
        return 1
    except (ValueError, OSError, RuntimeError) as error:
        from agent.recipe import RecipeError
        from agent.solver import SolverError
        from envs.core import UnreadableQuestion
        from envs.guarded import EnvironmentFailure

        if isinstance(error, RecipeError | UnreadableQuestion | OSError):
            print(f"stepwell: {error}", file=sys.stderr)
            return 2
        if isinstance(error, SolverError | EnvironmentFailure):
            print(f"stepwell: {error}", file=sys.stderr)
            return 1
        raise


# --------------------------------------------------------------------------------------------------------- recipes


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe file, then the flags, then ``--set``, each over what came before.

    Without ``--config`` the file is the environment's own (``configs/ENVIRONMENT.yaml``), if it has one.
    """
    from agent.recipe import (
        Recipe,
        default_config,
        load_dataclass,
        override,
        parse_budget,
        parse_component,
        read_config,
    )

    config, where = read_config(arguments.config or default_config(arguments.env))
    named = config.get("environment")
    if arguments.env and (named.get("name") if isinstance(named, dict) else named) != arguments.env:
        config["environment"] = arguments.env
    for key in ("policy", "verifier", "temperature", "seed"):
        if getattr(arguments, key) is not None:
            config[key] = getattr(arguments, key)
    if isinstance(arguments.strategy, str):
        config["strategy"] = parse_component(arguments.strategy).to_config()
    if isinstance(arguments.budget, str):
        config["budget"] = {
            key: value for key, value in vars(parse_budget(arguments.budget)).items() if value is not None
        }
    for key, value in (("rule", arguments.vote), ("aggregate", arguments.aggregate)):
        if value is not None:
            config = override(config, [f"vote.{key}={value}"])
    return load_dataclass(Recipe, override(config, arguments.set), where)


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120  # in a file there is no edge to keep to
    return console


def _quiet(level: str = "ERROR") -> None:
    from loguru import logger

    logger.remove()
    # what confines the code that a model wrote, what a server does not count, and what takes minutes is always said
    said: dict[str | None, str | int | bool] = {"": level, "envs.sandbox": "INFO", "policies.served": "WARNING"}
    said["envs.made_once"] = "INFO"
    logger.add(sys.stderr, level=0, filter=said, format="{time:HH:mm:ss} {level: <7} {message}")


# -------------------------------------------------------------------------------------------------------- commands


def run_repl(arguments: argparse.Namespace) -> int:
    """No command: the session."""
    from agent.repl import run_repl

    _quiet()
    return run_repl(recipe_of(arguments))


def run_solve(arguments: argparse.Namespace) -> int:
    """Solve one question. Ctrl-C stops the search, and its best answer so far is what is printed."""
    import contextlib
    import json

    from agent.display import Drawing, search_tree, solution_view, unicode_of
    from agent.parts import environment_of, strategy_of
    from agent.solver import Solver, graph_writer

    _quiet()
    recipe = recipe_of(arguments)
    write = graph_writer(Path(arguments.graph)) if arguments.graph else None
    console, errors = _console(), _console(stderr=True)
    strategy_of(recipe)  # what can be refused is refused before the models are loaded
    problem = environment_of(recipe).read(arguments.question)
    solver = Solver.from_recipe(recipe)
    drawing = Drawing(errors) if errors.is_interactive and not arguments.json else None
    with solver.interruptible() as interrupted, drawing or contextlib.nullcontext():
        solution = solver.solve_recipe(problem, recipe, drawing)
    if write:
        write(solution.graph)
    if arguments.json:
        print(json.dumps(solution.to_json(), indent=2, ensure_ascii=False))
    else:
        unicode = unicode_of(console)
        console.print(solution.problem.question, style="bold", soft_wrap=True)
        if arguments.tree:
            console.print(search_tree(solution.graph, len(solution.graph), console.width, unicode))
        console.print(solution_view(solution, unicode))
    return 130 if interrupted else 0 if solution.answer is not None else 1


def run_eval(arguments: argparse.Namespace) -> int:
    """Measure: a study of one recipe under several strategies and budgets."""
    from agent.recipe import fingerprint

    _quiet()
    study = _evaluation(arguments)
    name = f"eval-{study.environments[0].name}-{fingerprint(study.to_config())}"
    return _conduct(study, Path(arguments.out or f"runs/{name}.sqlite"), arguments)


def run_study(arguments: argparse.Namespace) -> int:
    """Run a study, or what its file lacks; with ``--table`` only show the file."""
    from agent.recipe import fingerprint
    from agent.study import load_study

    _quiet()
    study = load_study(arguments.study, arguments.set)
    name = f"study-{Path(arguments.study).stem}-{fingerprint(study.to_config())}"
    out = Path(arguments.out or f"runs/{name}.sqlite")
    if arguments.table:
        return _show(out, arguments)
    return _conduct(study, out, arguments)


def run_report(arguments: argparse.Namespace) -> int:
    """Show what a file of results says."""
    _quiet()
    code = _show(Path(arguments.file), arguments)
    if arguments.plots:
        _draw(Path(arguments.file), arguments.plots)
    return code


def _draw(path: Path, folder: Path) -> None:
    """Draw what the study allows; a figure that cannot be drawn of it says why."""
    from agent.recipe import RecipeError
    from agent.store import StudyFile
    from envs.extras import require

    try:
        require("study", "pandas", "matplotlib")
    except ImportError as error:
        raise RecipeError(str(error)) from None
    from agent.plots import FIGURES

    folder.mkdir(parents=True, exist_ok=True)
    with StudyFile(path) as file:
        for name, draw in FIGURES.items():
            try:
                draw(file).savefig(folder / f"{name}.png", dpi=150)
                print(folder / f"{name}.png")
            except ValueError as error:
                print(f"{name}: {error}", file=sys.stderr)


def run_export(arguments: argparse.Namespace) -> int:
    """Write what a study found in the format of another tool."""
    from agent.export import EXPORTS
    from agent.recipe import RecipeError, choose
    from agent.store import StudyFile

    _quiet()
    kind = choose(arguments.to, EXPORTS, "format")
    with StudyFile(arguments.file) as file:
        if kind.startswith("trl") and (split := file.config["split"]) != "train":
            print(f"note: these are problems of the {split} split; what is trained on them cannot be measured on them",
                  file=sys.stderr)  # fmt: skip
        try:
            count = EXPORTS[kind](file, arguments.out, arguments.most)
        except ImportError as error:
            raise RecipeError(str(error)) from None
    print(f"{arguments.out}: {count}")
    return 0


def _conduct(study: Study, out: Path, arguments: argparse.Namespace) -> int:
    """Run a study and show its table; what has finished is in the file whatever happens, and the same command goes on.

    Ctrl-C ends it after the searches that are over; the third one raises.
    """
    import signal
    from functools import partial

    from agent.display import ProgressLine
    from agent.solver import Solver
    from agent.study import open_study, run_study, study_problems

    errors = _console(stderr=True)
    problems = study_problems(study)
    interrupts: list[int] = []
    solvers: list[Solver] = []

    def interrupt(number: int, frame: object) -> None:
        interrupts.append(number)
        if len(interrupts) > 2:
            raise KeyboardInterrupt
        for solver in solvers[-1:]:
            solver.stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with open_study(study, out, problems) as file:
            if getattr(arguments, "retry_errors", False) and (failed := file.forget_errors()):
                errors.print(f"running again what failed: {failed} of {file.total()} results", style="dim")
            done, total = len(file.done()), file.total()
            if 0 < done < total:
                errors.print(f"going on from {done} of {total} results in {out}", style="dim", soft_wrap=True)
            if done < total:
                with ProgressLine(errors) as line:
                    run = partial(run_study, on_solver=solvers.append)
                    if getattr(arguments, "ray", None):
                        run = partial(_ray_runner(), address=arguments.ray, workers=arguments.workers)
                    run(
                        study,
                        file,
                        problems,
                        on_progress=line,
                        concurrency=arguments.concurrency,
                        stopped=lambda: bool(interrupts),
                    )
            done, unavailable = len(file.done()), file.unavailable()
    finally:
        signal.signal(signal.SIGINT, before)
    _show(out, arguments)
    if interrupts:
        errors.print(f"interrupted after {done} of {total}; the same command goes on", style="yellow")
        return 130
    if unavailable:
        count, error = unavailable
        message = f"{count} of {total} failed, as a model could not be reached; the same command tries again"
        errors.print(f"{message}\n{error}", style="yellow", soft_wrap=True, markup=False)
        return 1
    return 0


def _ray_runner() -> Callable[..., None]:
    """What runs a study on a cluster, if ray is installed."""
    from agent.recipe import RecipeError
    from envs.extras import require

    try:
        require("ray", "ray")
    except ImportError as error:
        raise RecipeError(str(error)) from None
    from agent.cluster import run_on_ray

    return run_on_ray


def _show(path: Path, arguments: argparse.Namespace) -> int:
    """The table of a file of results, and what else was asked for."""
    import json

    from agent.display import study_view, unicode_of, votes_view
    from agent.recipe import RecipeError
    from agent.report import revoted, summarize, vote_table
    from agent.store import StudyFile
    from verifiers.voting import Vote

    console = _console()
    asked = vars(arguments)
    with StudyFile(path) as file:
        rows = file.results()
        if asked.get("rule") or asked.get("how"):
            vote = file.config["vote"]
            try:
                chosen = Vote(asked.get("rule") or vote["rule"], asked.get("how") or vote["aggregate"])
            except ValueError as error:
                raise RecipeError(str(error)) from None
            rows = revoted(file, rows, chosen)
        summaries = summarize(file, rows, asked.get("baseline"))
        if arguments.json:
            report = {"file": str(path), "config": file.config, "results": summaries}
            print(json.dumps(report, indent=2, ensure_ascii=False))
            return 0
        console.print(study_view(file.config, summaries, unicode_of(console)))
        if asked.get("votes"):
            console.print(votes_view(vote_table(file), unicode_of(console)))
    console.print(f"results in {path}", style="dim", soft_wrap=True)
    return 0


def _evaluation(arguments: argparse.Namespace) -> Study:
    from dataclasses import replace
    from itertools import product

    from agent.parts import strategy_of
    from agent.recipe import RecipeError, choose, parse_budget, parse_component, write_budget
    from agent.study import Study
    from envs.core import SPLITS

    strategies, budgets = arguments.strategy or [], arguments.budget or []
    if len(strategies) == 1:
        arguments.strategy = strategies[0]
    elif strategies and any(text.startswith("strategy.") for text in arguments.set):
        raise RecipeError(
            "--set strategy.KNOB fits one strategy; give knobs with theirs: --strategy 'beam branch=2' mcts"
        )
    recipe = recipe_of(arguments)
    chosen = tuple(map(parse_component, strategies)) if len(strategies) > 1 else (recipe.strategy,)
    limits = tuple(budgets) or (write_budget(recipe.budget),)
    for strategy, budget in product(chosen, limits):  # a wrong knob is better refused now than after an hour
        strategy_of(replace(recipe, strategy=strategy, budget=parse_budget(budget)))
    return Study(
        (recipe.environment,),
        (recipe.policy,),
        chosen,
        limits,
        verifiers=(recipe.verifier,),
        seeds=(recipe.seed,),
        split=choose(arguments.split, SPLITS, "split"),
        n=arguments.n,
        problem_seed=arguments.problem_seed,
        vote=recipe.vote,
        temperature=recipe.temperature,
        total_budget=arguments.total_budget,
    )


def run_train_policy(arguments: argparse.Namespace) -> int:
    """Train a policy; an interrupted run goes on from its last checkpoint."""
    from functools import partial

    from agent.parts import weights_folder
    from envs.registry import load_environment
    from policies.registry import WEIGHTS
    from policies.training import PolicyRecipe, train_policy

    recipe = _training_recipe(arguments, PolicyRecipe)
    load = partial(load_environment, recipe.environment)
    load()  # a wrong name is refused here
    folder = Path(arguments.out or f"runs/{recipe.name}")
    start = None if recipe.start is None else weights_folder(recipe.start, WEIGHTS) or Path(recipe.start)
    texts = _found_solutions([Path(name) for name in arguments.from_study], recipe.environment, arguments.most)
    with _refusing():
        print(train_policy(recipe, load, folder, start, arguments.device, texts=texts, workers=arguments.workers))
    return 0


def _found_solutions(paths: Sequence[Path], environment: str, most: int) -> Sequence[tuple[str, str]]:
    """Prompts and right solutions, each once, of studies of the train split of an environment."""
    from loguru import logger

    from agent.export import right_solutions
    from agent.recipe import RecipeError
    from agent.store import StudyFile

    texts: dict[tuple[str, str], None] = {}
    for path in paths:
        with StudyFile(path) as file:
            if (split := file.config["split"]) != "train":
                raise RecipeError(f"{path} is a study of the {split} split; a policy learns from the train split only")
            names = {cell["environment"].split()[0] for cell in file.cells()}
            if names != {environment}:
                raise RecipeError(f"{path} is a study of {', '.join(sorted(names))}; the recipe is for {environment}")
            found = list(right_solutions(file, most))
        if not found:
            raise RecipeError(f"{path} holds no right solution")
        logger.info("{}: {:,} right solutions of {:,} problems", path, len(found), len({prompt for prompt, _ in found}))
        texts |= dict.fromkeys(found)
    return list(texts)


def run_train_prm(arguments: argparse.Namespace) -> int:
    """Train a process reward model; an interrupted run goes on from where it was."""
    from agent.parts import weights_folder
    from agent.recipe import Component
    from envs.registry import load_environment
    from policies.registry import WEIGHTS as POLICIES
    from policies.registry import load_policy
    from verifiers.registry import WEIGHTS as VERIFIERS
    from verifiers.training import PrmRecipe, train_prm

    recipe = _training_recipe(arguments, PrmRecipe)
    named = Component.from_config(recipe.environment, "environment")
    environment = load_environment(named.name, **named.options)
    named = Component.from_config(recipe.policy, "policy")
    with _refusing():
        policy = load_policy(named.name, environment, **named.options)
    name, shipped = (recipe.backbone, POLICIES) if recipe.start is None else (recipe.start, VERIFIERS)
    origin = weights_folder(name, shipped) or Path(name)
    folder = Path(arguments.out or f"runs/{recipe.name}")
    samples = Path(arguments.samples or folder / "samples")
    with _refusing():
        print(train_prm(recipe, environment, policy, origin, folder, samples, device=arguments.device))
    return 0


@contextmanager
def _refusing() -> Iterator[None]:
    """Let what a training refuses (a folder of another recipe, an environment that cannot teach) be one sentence."""
    from agent.recipe import RecipeError

    try:
        yield
    except (TypeError, ValueError) as error:
        raise RecipeError(str(error)) from error


def _training_recipe(arguments: argparse.Namespace, kind: type[T]) -> T:
    from agent.recipe import as_solving, load_dataclass, override, read_config

    _quiet("INFO")
    config, where = read_config(arguments.config)
    return load_dataclass(kind, override(as_solving(config), arguments.set), where)


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Fit the planner on the calibration split; what has been run is kept, and the same command goes on."""
    from loguru import logger

    from agent.calibration import ARMS, BEAMS, MOVES, REVISING, calibrate, drawing_distinct
    from agent.lines import ResultsFile
    from agent.parts import environment_of, models_of, weights_digest
    from agent.plans import PLANS, Move, plan_name
    from agent.recipe import RecipeError, fingerprint

    _quiet("INFO")
    recipe = recipe_of(arguments)
    environment = environment_of(recipe)
    policy, verifier = models_of(recipe, environment)
    if verifier is None:
        raise RecipeError("calibration needs a verifier")
    more = (*(BEAMS if arguments.beams else ()), *(REVISING if arguments.revise else ()))
    arms, moves = (*ARMS, *more), (*MOVES, *(Move(arm.strategy, arm.n, arm.knobs) for arm in more))
    if arguments.distinct is not None:
        if not getattr(policy, "distinct", False):
            raise RecipeError(f"policy {policy.name!r} cannot draw without replacement; leave --distinct out")
        arms = (*arms, drawing_distinct(arguments.distinct or recipe.temperature))
    config = {
        "environment": recipe.environment.to_config(),
        "policy": recipe.policy.to_config(),
        "verifier": recipe.verifier.to_config(),
        "weights": weights_digest(recipe),
        "arms": [[arm.name, arm.repeats] for arm in arms],
        "n": arguments.n,
        "seed": recipe.seed,
        "temperature": recipe.temperature,
    }
    out = Path(arguments.out or PLANS[0] / plan_name(environment.name, policy.name, verifier.name))
    out.parent.mkdir(parents=True, exist_ok=True)
    problems = environment.problems("calibration", arguments.n)
    with ResultsFile(Path(arguments.runs or f"runs/calibrate-{fingerprint(config)}.jsonl"), config) as results:
        fitted = calibrate(
            *(environment, policy, verifier, problems, results, arms, moves),
            seed=recipe.seed,
            report=logger.info,
            temperature=recipe.temperature,
        )
    fitted.save(out)
    print(out)
    return 0


def run_envs(arguments: argparse.Namespace) -> int:
    """List the environments."""
    from agent.display import listing
    from agent.parts import describe

    _console().print(listing({"environments": describe("environment")}))
    return 0


def run_check_env(arguments: argparse.Namespace) -> int:
    """Try every rule on an environment; one sentence on each that is broken."""
    import json

    from agent.parts import environment_of
    from agent.recipe import Recipe, parse_component
    from envs.checks import NonConforming, check_environment

    environment = environment_of(Recipe(environment=parse_component(arguments.environment)))
    broken: Sequence[str] = ()
    try:
        check_environment(environment, seed=arguments.seed, n=arguments.n)
    except NonConforming as error:
        broken = error.broken
    if arguments.json:
        report = {"environment": arguments.environment, "conforms": not broken, "broken": broken}
        print(json.dumps(report, indent=2))
    else:
        verdict = f"breaks {len(broken)} rule(s)" if broken else "conforms: no rule is broken"
        print("\n- ".join([f"environment {arguments.environment!r} {verdict}{':' if broken else ''}", *broken]))
    return 1 if broken else 0


def run_new_env(arguments: argparse.Namespace) -> int:
    """Write a plug-in project, and say what to do with it."""
    from agent.scaffold import new_environment

    written = new_environment(arguments.name, arguments.folder)
    folder = written[0].parent
    print(f"{folder}: {', '.join(str(file.relative_to(folder)) for file in written)}")
    print(f"Next: cd {folder}; python -m pip install --editable .; stepwell check-env {arguments.name}")
    return 0


def run_models(arguments: argparse.Namespace) -> int:
    """List policies, verifiers and strategies."""
    from agent.display import listing
    from agent.parts import describe

    kinds = {"policies": "policy", "verifiers": "verifier", "strategies": "strategy"}
    _console().print(listing({title: describe(key) for title, key in kinds.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
