"""The command line: ``stepwell solve``, ``eval``, ``study``, ``train``, ``envs``, ``models``...; alone, a session.

Everything heavy is imported by the command that needs it, so that ``stepwell --help`` answers at once.
Exit codes: 0 done; 1 no answer, or something failed; 2 wrong usage, recipe or question; 130 interrupted.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.interface.common import CommandParser, add_recipe, command_names, positive, temperature
from agent.interface.listing_commands import run_check_env, run_envs, run_models, run_new_env
from agent.interface.solve_commands import run_repl, run_solve
from agent.interface.study_commands import run_eval, run_export, run_report, run_study
from agent.interface.training_commands import run_calibrate, run_train_policy, run_train_prm

EPILOG = """\
examples:
  stepwell                                      open a session
  stepwell solve "(17 + 8) * 3 - 40"            solve one question
  stepwell solve "3x + 5 = 20" --strategy beam --budget 16 --set strategy.branch=2
  stepwell eval -n 200 --strategy best-of-n beam --budget 4 16
  stepwell models                               policies, verifiers, strategies
"""


def build_parser() -> CommandParser:
    """The whole grammar of the command line."""
    parser = CommandParser(
        prog="stepwell",
        description="A small model, searched well. Without a command: an interactive session.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"stepwell {_version()}")
    parser.set_defaults(run=run_repl, parser=parser)
    add_recipe(parser)
    add = command_names(parser, "command")

    solve = add("solve", run_solve, "solve one question and show how")
    solve._negative_number_matcher = re.compile(r"^-[\d(.]")  # -3+5 and -(3+5) are questions, not options
    solve.add_argument("question", help="as a person types it; the environment says what it can read")
    add_recipe(solve)
    solve.add_argument("--json", action="store_true", help="print JSON")
    solve.add_argument("--graph", metavar="FILE", help="save the whole search: .json (loads again) or .graphml")
    solve.add_argument("--tree", action="store_true", help="print the search tree too")

    regrade = "where gold answers were edited, judge what the file has by the new ones"
    measure = add("eval", run_eval, "measure strategies on many problems; the same command resumes")
    add_recipe(measure, several=True)
    measure.add_argument("--split", default="test", help="of the environment's problems: train, calibration, test")
    measure.add_argument("-n", type=positive, default=200, help="how many problems (default 200)")
    measure.add_argument("--problem-seed", type=int, default=0, metavar="N", help="which problems (default 0)")
    measure.add_argument("--out", metavar="FILE", help="the file of results (default: under runs/, by configuration)")
    measure.add_argument(
        "--concurrency", type=positive, default=64, metavar="N", help="searches open at once (default 64)"
    )
    measure.add_argument(
        "--total-budget",
        metavar="N",
        help="samples, or e.g. flops=1e12, that all problems share; the planner spends\n"
        "them where they gain most, and --budget is the most that one problem gets",
    )
    measure.add_argument("--json", action="store_true", help="print the summary as JSON")
    measure.add_argument("--regrade", action="store_true", help=regrade)

    study = add("study", run_study, "run a study (configs/studies/NAME.yaml); the same command resumes")
    study.add_argument("study", metavar="STUDY", help="a study by name or path")
    study.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the study")
    study.add_argument("--out", metavar="FILE", help="the file of results (default: under runs/, by configuration)")
    study.add_argument(
        "--concurrency", type=positive, default=64, metavar="N", help="searches open at once (default 64)"
    )
    study.add_argument(
        "--ray", metavar="ADDRESS", help="run on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT or local"
    )
    study.add_argument("--workers", type=positive, metavar="N", help="of --ray (default: one per GPU, or per CPU)")
    study.add_argument("--retry-errors", action="store_true", help="run the searches that failed again")
    study.add_argument("--regrade", action="store_true", help=regrade)
    study.add_argument("--table", action="store_true", help="only show what the file has")
    study.add_argument("--dry-run", action="store_true", help="only show what would be run, and what it can show")
    study.add_argument("--json", action="store_true", help="print the table as JSON")

    report = add("report", run_report, "show what a study or an evaluation found")
    report.add_argument("file", metavar="FILE", help="of the results, .sqlite")
    report.add_argument(
        "--baseline", metavar="NAME", help="strategy that others are compared with (default: the first)"
    )
    report.add_argument("--vote", dest="rule", metavar="RULE", help="count other votes: majority, max or vote")
    report.add_argument("--aggregate", metavar="HOW", help="of scores: last, min, mean or product")
    report.add_argument("--holm", action="store_true", help="p-values too, corrected for many comparisons (Holm)")
    report.add_argument("--votes", action="store_true", help="accuracy under every vote too")
    report.add_argument("--problem", metavar="ID", help="show one problem instead: its searches, answers and paths")
    report.add_argument("--plots", type=Path, metavar="DIR", help="draw all figures into a folder, as PNG, PDF and SVG")
    machine = report.add_mutually_exclusive_group()
    machine.add_argument("--table", metavar="FORMAT", help="print the table as csv, markdown or latex")
    machine.add_argument("--json", action="store_true", help="print the table as JSON")
    report.add_argument("--out", type=Path, metavar="FILE", help="of --table and --json: write it there")

    export = add("export", run_export, "write what a study found for other tools")
    export.add_argument("file", metavar="FILE", help="of the results, .sqlite")
    export.add_argument("--to", required=True, metavar="KIND", help="parquet, graphml, trl-prm, trl-dpo or trl-sft")
    export.add_argument("--out", required=True, type=Path, metavar="PATH", help="a folder; for trl-*, a .jsonl file")
    export.add_argument(
        "--most", type=positive, default=4, metavar="N", help="of trl-*: examples of one problem (default 4)"
    )

    train = add("train", None, "train models")
    train.set_defaults(run=lambda arguments: train.error("what to train? policy or prm"))
    kinds = command_names(train, "kind")
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
            inner.add_argument("--most", type=positive, default=4, metavar="N", help="of one problem (default 4)")
            inner.add_argument(
                "--workers", type=positive, default=0, metavar="N", help="processes that write the examples meanwhile"
            )
        if kind == "prm":
            inner.add_argument("--samples", metavar="DIR", help="sampled solutions, to share them (default: in --out)")

    fit = add("calibrate", run_calibrate, "fit the planner to the policy, verifier and environment of a recipe")
    add_recipe(fit)
    fit.add_argument("-n", type=positive, default=200, help="problems of the calibration split (default 200)")
    fit.add_argument("--runs", metavar="FILE", help="where runs are kept and found again (default: under runs/)")
    fit.add_argument("--beams", action="store_true", help="try more sizes of beams that keep half of their prefixes")
    fit.add_argument(
        "--distinct",
        nargs="?",
        type=temperature,
        const=0.0,
        metavar="T",
        help="draw independent samples without replacement, at a temperature of their own (default: that of the plan)",
    )
    fit.add_argument("--revise", action="store_true", help="try revision too, for a policy that learnt it")
    fit.add_argument("--out", metavar="FILE", help="default: where the planner looks, in configs/plans/")

    add("envs", run_envs, "list the environments")
    check = add("check-env", run_check_env, "try every rule of environments on one, and list those it breaks")
    check.add_argument("environment", metavar="NAME", help="name, package.module:Class or path, with KEY=VALUE options")
    check.add_argument("-n", type=positive, default=12, help="problems drawn from each split (default 12)")
    check.add_argument("--seed", type=int, default=0, metavar="N", help="which problems (default 0)")
    check.add_argument("--json", action="store_true", help="print JSON")
    new = add("new-env", run_new_env, "write the project of a new environment, ready to run")
    new.add_argument("name", metavar="NAME", help="of the environment, e.g. word-ladders")
    new.add_argument("--folder", metavar="DIR", type=Path, help="of the project (default: NAME)")
    add("models", run_models, "list policies, verifiers and strategies")
    return parser


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
        from agent.solver import SolverError
        from envs.core import UnreadableQuestion
        from envs.guarded import EnvironmentFailure
        from envs.messages import RecipeError

        if isinstance(error, RecipeError | UnreadableQuestion | OSError):
            print(f"stepwell: {error}", file=sys.stderr)
            return 2
        if isinstance(error, SolverError | EnvironmentFailure):
            print(f"stepwell: {error}", file=sys.stderr)
            return 1
        raise


if __name__ == "__main__":
    sys.exit(main())
