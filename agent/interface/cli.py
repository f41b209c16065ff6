"""The command line: ``stepwell solve``, ``eval``, ``study``, ``train``, ``envs``, ``models``...; alone, a session.

Everything heavy is imported by the command that needs it, so that ``stepwell --help`` answers at once.
Exit codes: 0 done; 1 no answer, or something failed; 2 wrong usage, recipe or question; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.interface.common import (
    CommandParser,
    HelpFormatter,
    UsageExit,
    add_recipe,
    add_trust,
    command_names,
    positive,
    temperature,
)
from agent.interface.control.ctl_command import add_ctl
from agent.interface.listing_commands import run_check_env, run_check_strategy, run_envs, run_models, run_new_env
from agent.interface.server.command import add_serve, run_serve
from agent.interface.solve_commands import run_repl, run_solve
from agent.interface.study_commands import run_eval, run_export, run_report, run_study
from agent.interface.text import message
from agent.interface.training_commands import run_calibrate, run_train_policy, run_train_prm

EPILOG = """\
examples:
  stepwell                                      open a session
  stepwell solve "(17 + 8) * 3 - 40"            solve one question
  stepwell solve "12 * (3 + 4)" --strategy "beam branch=2" --budget 16
  stepwell solve "3x + 5 = 20" --policy arithmetic-l-long --strategy best-of-n
  stepwell eval -n 200 --strategy best-of-n beam --budget 4 16
  stepwell models                               list policies, strategies...

The default policy, arithmetic-s, is a model of 0.2 M parameters and often wrong, on equations most of the time;
arithmetic-l-long is larger and right more often. Whether an answer is right is told wherever that is known.
"""


def build_parser() -> CommandParser:
    """The whole grammar of the command line."""
    parser = CommandParser(
        prog="stepwell",
        description="Test-time search with small language models. Without a command: an interactive session.",
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"stepwell {_version()}")
    parser.set_defaults(run=run_repl, parser=parser)
    add_recipe(parser)
    add = command_names(parser, "command")

    solve = add("solve", run_solve, "solve one question and show the steps")
    solve._negative_number_matcher = re.compile(r"^-[\d(.]")  # -3+5 and -(3+5) are questions, not options
    solve.add_argument("question", help="the question; if it cannot be read, the error says what can")
    add_recipe(solve)
    solve.add_argument(
        "--abstain",
        type=float,
        metavar="P",
        help="let the planner abstain where no answer is right with probability P, e.g. 0.5; it then gives up early",
    )
    solve.add_argument("--json", action="store_true", help="print JSON")
    solve.add_argument("--graph", metavar="FILE", help="save the search graph: .json (can be loaded again) or .graphml")
    solve.add_argument("--tree", action="store_true", help="also print the search tree")

    regrade = "where gold answers were edited, judge the stored answers by the new ones"
    retry = "run failed searches again"
    measure = add("eval", run_eval, "measure strategies on many problems; run it again to resume")
    add_recipe(measure, several=True)
    measure.add_argument(
        "--split", default="test", help="split of the problems: train, calibration or test (default test)"
    )
    measure.add_argument("-n", type=positive, default=200, help="number of problems (default 200)")
    measure.add_argument(
        "--problem-seed", type=int, default=0, metavar="N", help="seed of the choice of problems (default 0)"
    )
    measure.add_argument("--out", metavar="FILE", help="results file (default: in runs/, named by the configuration)")
    measure.add_argument(
        "--concurrency", type=positive, default=64, metavar="N", help="number of searches that run at once (default 64)"
    )
    measure.add_argument(
        "--total-budget",
        metavar="N",
        help="budget that all problems share, in samples or e.g. flops=1e12; the planner "
        "spends it where it gains most, and --budget limits what one problem may spend",
    )
    measure.add_argument("--json", action="store_true", help="print the summary as JSON")
    measure.add_argument("--regrade", action="store_true", help=regrade)
    measure.add_argument("--retry-errors", action="store_true", help=retry)

    study = add("study", run_study, "run a study (configs/studies/NAME.yaml); run it again to resume")
    study.add_argument("study", metavar="STUDY", help="name or path of the study")
    study.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the study, e.g. n=40"
    )
    add_trust(study)
    study.add_argument("--out", metavar="FILE", help="results file (default: in runs/, named by the configuration)")
    study.add_argument(
        "--concurrency", type=positive, default=64, metavar="N", help="number of searches that run at once (default 64)"
    )
    study.add_argument(
        "--ray", metavar="ADDRESS", help="address of a Ray cluster to run on: auto, HOST:PORT, ray://HOST:PORT or local"
    )
    study.add_argument(
        "--workers", type=positive, metavar="N", help="with --ray: number of workers (default: one per GPU, or per CPU)"
    )
    study.add_argument("--retry-errors", action="store_true", help=retry)
    study.add_argument("--table", action="store_true", help="only show the results that are in the file")
    study.add_argument(
        "--dry-run", action="store_true", help="only show what would run, and how small a difference it can detect"
    )
    study.add_argument("--regrade", action="store_true", help=regrade)
    study.add_argument("--json", action="store_true", help="print the table as JSON")

    report = add("report", run_report, "show the results of a study or an evaluation")
    report.add_argument(
        "file", nargs="+", metavar="FILE", help="results file (.sqlite); with --html also saved searches (.json)"
    )
    report.add_argument(
        "--html", type=Path, metavar="OUT", help="write a page to this file: the study, or the searches, in one file"
    )
    report.add_argument("--baseline", metavar="NAME", help="strategy to compare the others with (default: the first)")
    report.add_argument(
        "--vote", dest="rule", metavar="RULE", help="count the votes by another rule: majority, max or vote"
    )
    report.add_argument(
        "--aggregate", metavar="HOW", help="how step scores become one score: last, min, mean or product"
    )
    report.add_argument(
        "--holm", action="store_true", help="also print p-values, corrected for many comparisons (Holm)"
    )
    report.add_argument("--votes", action="store_true", help="also print the accuracy under every vote")
    report.add_argument("--problem", metavar="ID", help="show one problem: its searches, answers and paths")
    report.add_argument("--plots", type=Path, metavar="DIR", help="write all figures to a folder, as PNG, PDF and SVG")
    machine = report.add_mutually_exclusive_group()
    machine.add_argument("--table", metavar="FORMAT", help="print the table as csv, markdown or latex")
    machine.add_argument("--json", action="store_true", help="print the table as JSON")
    report.add_argument("--out", type=Path, metavar="FILE", help="with --table or --json: write to this file")
    add_trust(report)

    export = add("export", run_export, "write the results of a study for other tools")
    export.add_argument("file", nargs="+", metavar="FILE", help="results file (.sqlite); several only for samples")
    export.add_argument(
        "--to", required=True, metavar="KIND", help="format: parquet, graphml, samples, trl-prm, trl-dpo or trl-sft"
    )
    export.add_argument(
        "--out", required=True, type=Path, metavar="PATH", help="folder to write; for trl-*, a .jsonl file"
    )
    export.add_argument(
        "--most",
        type=positive,
        default=4,
        metavar="N",
        help="for trl-*: largest number of examples per problem (default 4)",
    )
    add_trust(export)

    train = add("train", None, "train models")
    train.set_defaults(run=lambda arguments: train.error("what to train? policy or prm"))
    kinds = command_names(train, "kind")
    for kind, run, what in (
        ("policy", run_train_policy, "train a policy on worked solutions; run it again to resume"),
        ("prm", run_train_prm, "train a process reward model on rollouts; run it again to resume"),
    ):
        inner = kinds(kind, run, what)
        inner.add_argument(
            "--config", required=True, metavar="NAME", help="name (configs/NAME.yaml) or path of a recipe"
        )
        inner.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the recipe, e.g. seed=1"
        )
        add_trust(inner)
        inner.add_argument("--out", metavar="DIR", help="folder for the model (default: runs/NAME)")
        inner.add_argument("--device", default="cpu", help="device to train on, e.g. cuda (default cpu)")
        if kind == "policy":
            inner.add_argument(
                "--from-study",
                nargs="+",
                default=[],
                metavar="FILE",
                help="train on the right solutions in results files of studies of the train split",
            )
            inner.add_argument(
                "--most",
                type=positive,
                default=4,
                metavar="N",
                help="with --from-study: largest number of solutions per problem (default 4)",
            )
            inner.add_argument(
                "--workers",
                type=positive,
                default=0,
                metavar="N",
                help="number of processes that write examples during training (default 0)",
            )
        if kind == "prm":
            inner.add_argument(
                "--samples",
                metavar="DIR",
                help="folder of sampled solutions, to share between runs (default: in --out)",
            )

    fit = add("calibrate", run_calibrate, "fit the planner to the policy, verifier and environment of a recipe")
    add_recipe(fit)
    fit.add_argument("-n", type=positive, default=200, help="number of problems of the calibration split (default 200)")
    fit.add_argument(
        "--runs", metavar="FILE", help="file of recorded runs, used again if it exists (default: in runs/)"
    )
    fit.add_argument(
        "--independent",
        type=positive,
        metavar="N",
        help="a plan of greedy decoding and at most N independent samples; no searches, so recorded samples are enough",
    )
    fit.add_argument("--beams", action="store_true", help="try more sizes of beams that keep half of their prefixes")
    fit.add_argument(
        "--distinct",
        nargs="?",
        type=temperature,
        const=0.0,
        metavar="T",
        help="draw samples without replacement, at temperature T (default: the recipe's)",
    )
    fit.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="STRATEGY",
        help="also try another strategy as an action, e.g. particles; may be given again",
    )
    fit.add_argument("--revise", action="store_true", help="also try revision, for a policy that was trained for it")
    fit.add_argument("--prior", action="store_true", help="also go by what the text of a problem says, before a sample")
    fit.add_argument(
        "--currency",
        default="flops",
        metavar="CURRENCY",
        help="what actions are priced in: flops, or flop-equivalents, which charge memory traffic too (default flops)",
    )
    fit.add_argument(
        "--out",
        metavar="FILE",
        help="file for the plan (default: in ~/.local/share/stepwell/plans, where the planner looks)",
    )

    add_ctl(add("ctl", None, "list, watch and steer the searches under way"))
    serve = add("serve", run_serve, "serve searches to programs that speak to OpenAI's or Anthropic's models")
    add_recipe(serve)
    add_serve(serve)

    add("envs", run_envs, "list the environments")
    check = add("check-env", run_check_env, "check an environment against the contract and list the rules it breaks")
    check.add_argument("environment", metavar="NAME", help="name, package.module:Class or path; options as KEY=VALUE")
    check.add_argument("-n", type=positive, default=12, help="number of problems of each split (default 12)")
    check.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice of problems (default 0)")
    check.add_argument("--json", action="store_true", help="print JSON")
    new = add("new-env", run_new_env, "create a project with a new environment, ready to run")
    new.add_argument("name", metavar="NAME", help="name of the environment, e.g. word-ladders")
    new.add_argument("--folder", metavar="DIR", type=Path, help="folder of the project (default: NAME)")
    kit = add(
        "check-strategy", run_check_strategy, "check a strategy against the contract and list the rules it breaks"
    )
    kit.add_argument("strategy", metavar="NAME", help="name, package.module:Class or path, with KNOB=VALUE")
    kit.add_argument("--json", action="store_true", help="print JSON")
    add("models", run_models, "list environments, policies, verifiers and strategies, and what failed to load")
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a model may write what the terminal has no letters for
    parser = build_parser()
    arguments = parser.parse_strictly(words)
    try:
        with _told_exits():
            return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, e.g. `| head`: nothing more to say
        return 1
    except UsageExit:
        raise
    except SystemExit as error:  # of an environment's file, or of a package that is imported
        print(f"stepwell: code that was loaded wanted to end the program: sys.exit({error.code!r})", file=sys.stderr)
        return 2
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"stepwell: {message(error)}", file=sys.stderr)
        return code


@contextlib.contextmanager
def _told_exits() -> Iterator[None]:
    """Make `os._exit` raise SystemExit, as `sys.exit` does: code of others must not end the program without a word.

    Processes that are forked off end by it as ever.
    """
    leave, owner = os._exit, os.getpid()

    def tell(status: int) -> None:
        if os.getpid() != owner:
            leave(status)
        raise SystemExit(status)

    os._exit = tell  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = leave


def _exit_code(error: Exception) -> int | None:
    """The exit code for what a person can mend; None for what is a fault of the program."""
    import sqlite3
    import zlib

    from envs.core import UnreadableQuestion
    from envs.errors import StepwellError
    from envs.messages import UsageError

    if isinstance(error, UsageError | UnreadableQuestion | OSError):
        return 2
    limits = (OverflowError, RecursionError, MemoryError)
    data = (sqlite3.Error, zlib.error, UnicodeError)
    return 1 if isinstance(error, (StepwellError, *limits, *data)) else None


if __name__ == "__main__":
    sys.exit(main())
