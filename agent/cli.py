"""The command line: ``stepwell solve``, ``eval``, ``train``, ``envs``, ``check-env``, ``models``...; alone, a session.

Everything heavy is imported by the command that needs it, so that ``stepwell --help`` answers at once.
Exit codes: 0 done; 1 no answer, or something failed; 2 wrong usage, recipe or question; 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from agent.evaluate import Evaluation
    from agent.recipe import Recipe

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
    measure.add_argument("--json", action="store_true", help="print the summary as JSON")

    train = add("train", None, "train models")
    train.set_defaults(run=lambda arguments: train.error("what to train? policy or prm"))
    kinds = _commands(train, "kind")
    for kind, run, what in (
        ("policy", run_train_policy, "train a policy from scratch on worked solutions; the same command resumes"),
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
        if kind == "prm":
            inner.add_argument("--samples", metavar="DIR", help="sampled solutions, to share them (default: in --out)")

    fit = add("calibrate", run_calibrate, "fit the planner to the policy, verifier and environment of a recipe")
    _add_recipe(fit)
    fit.add_argument("-n", type=_positive, default=200, help="problems of the calibration split (default 200)")
    fit.add_argument(
        "--samples", type=_positive, default=64, metavar="N", help="per problem, for its pass@1 (default 64)"
    )
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
    # what confines the code that a model wrote, and what a server does not count, is always said
    said: dict[str | None, str | int | bool] = {"": level, "envs.sandbox": "INFO", "policies.served": "WARNING"}
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
    """Measure; what has finished is in the file whatever happens, and the same command goes on."""
    import json

    from agent.display import ProgressLine, summary_view, unicode_of
    from agent.evaluate import ResultsFile, evaluate, summarize
    from agent.recipe import fingerprint
    from agent.solver import Solver

    _quiet()
    evaluation = _evaluation(arguments)
    config = evaluation.to_config()
    out = Path(arguments.out or f"runs/eval-{evaluation.recipe.environment.name}-{fingerprint(config)}.jsonl")
    console, errors = _console(), _console(stderr=True)
    interrupts: list[int] = []
    with ResultsFile(out, config) as results:
        rows = results.rows
        total = len(evaluation.cells) * evaluation.n
        if 0 < len(rows) < total:
            errors.print(f"going on from {len(rows)} of {total} results in {out}", style="dim", soft_wrap=True)
        if len(rows) < total:
            solver = Solver.from_recipe(evaluation.recipe)
            with solver.interruptible() as interrupts, ProgressLine(errors) as line:
                evaluate(evaluation, solver, results, line, arguments.concurrency, lambda: bool(interrupts))
    summaries = summarize(evaluation, rows)
    if arguments.json:
        print(json.dumps({"file": str(out), "config": config, "results": summaries}, indent=2, ensure_ascii=False))
    else:
        console.print(summary_view(evaluation, summaries, unicode_of(console)))
        console.print(f"results in {out}", style="dim", soft_wrap=True)
    if interrupts:
        errors.print(f"interrupted after {len(rows)} of {total}; the same command goes on", style="yellow")
        return 130
    unavailable = [row for row in rows if row.get("unavailable")]
    if unavailable:
        message = f"{len(unavailable)} of {total} failed, as a model could not be reached; the same command tries again"
        errors.print(f"{message}\n{unavailable[0]['error']}", style="yellow", soft_wrap=True, markup=False)
        return 1
    return 0


def _evaluation(arguments: argparse.Namespace) -> Evaluation:
    from dataclasses import replace

    from agent.evaluate import Evaluation
    from agent.parts import strategy_of
    from agent.recipe import RecipeError, choose, parse_budget, parse_component, write_budget
    from envs.core import SPLITS

    strategies, budgets = arguments.strategy or [], arguments.budget or []
    if len(strategies) == 1:
        arguments.strategy = strategies[0]
    elif strategies and any(text.startswith("strategy.") for text in arguments.set):
        raise RecipeError(
            "--set strategy.KNOB fits one strategy; give knobs with theirs: --strategy 'beam branch=2' mcts"
        )
    recipe = recipe_of(arguments)
    evaluation = Evaluation(
        recipe,
        tuple(map(parse_component, strategies)) if len(strategies) > 1 else (recipe.strategy,),
        tuple(budgets) or (write_budget(recipe.budget),),
        split=choose(arguments.split, SPLITS, "split"),
        n=arguments.n,
        problem_seed=arguments.problem_seed,
    )
    for cell in evaluation.cells:  # a wrong knob is better refused now than after an hour
        strategy_of(replace(recipe, strategy=cell.strategy, budget=parse_budget(cell.budget)))
    return evaluation


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
    print(train_policy(recipe, load, folder, start, arguments.device))
    return 0


def run_train_prm(arguments: argparse.Namespace) -> int:
    """Train a process reward model; an interrupted run goes on from where it was."""
    from agent.parts import weights_folder
    from envs.registry import load_environment
    from policies.registry import WEIGHTS, load_policy
    from verifiers.training import PrmRecipe, train_prm

    recipe = _training_recipe(arguments, PrmRecipe)
    environment = load_environment(recipe.environment)
    policy = load_policy(recipe.policy, environment)
    backbone = weights_folder(recipe.backbone, WEIGHTS) or Path(recipe.backbone)
    folder = Path(arguments.out or f"runs/{recipe.name}")
    samples = Path(arguments.samples or folder / "samples")
    print(train_prm(recipe, environment, policy, backbone, folder, samples, device=arguments.device))
    return 0


def _training_recipe(arguments: argparse.Namespace, kind: type[T]) -> T:
    from agent.recipe import load_dataclass, override, read_config

    _quiet("INFO")
    config, where = read_config(arguments.config)
    return load_dataclass(kind, override(config, arguments.set), where)


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Fit the planner's estimates and its table of strategies on the calibration split."""
    from loguru import logger

    from agent.calibration import calibrate
    from agent.parts import environment_of, models_of
    from agent.planner import PLANS, plan_name
    from agent.recipe import RecipeError

    _quiet("INFO")
    recipe = recipe_of(arguments)
    environment = environment_of(recipe)
    policy, verifier = models_of(recipe, environment)
    if verifier is None:
        raise RecipeError("calibration needs a verifier")
    out = Path(arguments.out or PLANS[0] / plan_name(environment.name, policy.name, verifier.name))
    out.parent.mkdir(parents=True, exist_ok=True)
    problems = environment.problems("calibration", arguments.n)
    fitted = calibrate(environment, policy, verifier, problems, arguments.samples, seed=recipe.seed, report=logger.info)
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
