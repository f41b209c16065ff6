"""A study over a server that fails: it finishes, loses nothing, charges nothing twice and answers as without faults."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.evaluate import Evaluation, Progress, ResultsFile, evaluate
from agent.recipe import load_recipe, parse_component
from agent.solver import Solver
from envs.toy import Toy
from policies.served import ServedPolicy
from tests.servers import Faults, Script, Server, openai_routes
from verifiers.table import TableVerifier

TOY = Toy()
QUICK: dict[str, Any] = {"connections": 16, "timeout": 4.0, "patience": 300.0, "pause": 0.01, "longest_pause": 0.1}
Rows = dict[tuple[str, str], dict[str, Any]]


def study(n: int, *strategies: str) -> Evaluation:
    return Evaluation(load_recipe("toy"), tuple(map(parse_component, strategies)), ("2",), n=n)


def server_of(evaluation: Evaluation, faults: Faults | None = None) -> Server:
    script = Script(TOY, TOY.problems("test", evaluation.n))
    return Server(openai_routes(script, context=16384), faults)


def run(
    evaluation: Evaluation,
    server: Server,
    path: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    **limits: float,
) -> Rows:
    """Run what a file of results lacks, and return all it has."""
    policy = ServedPolicy("scripted", TOY, base_url=server.url, **(QUICK | limits))
    try:
        with ResultsFile(path, evaluation.to_config()) as results:
            evaluate(evaluation, Solver(TOY, policy, TableVerifier(TOY)), results, on_progress)
    finally:
        policy.close()
    rows = {(row["cell"], row["problem"]): row for row in results.rows}
    assert len(rows) == len(results.rows)
    return rows


def outcome(row: dict[str, Any]) -> dict[str, Any]:
    """What faults must not change; what a prompt cost is unknown where the count was lost."""
    kept = ("generated", "policy_calls", "verifier_calls", "verifier_tokens", "samples")
    spent = {key: row["spent"][key] for key in kept}
    return {key: row.get(key) for key in ("answer", "correct", "confidence", "candidates", "error")} | {"spent": spent}


def same(found: Rows, sound: Rows) -> bool:
    return {key: outcome(row) for key, row in found.items()} == {key: outcome(row) for key, row in sound.items()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The study without faults."""
    evaluation = study(200, "majority")
    with server_of(evaluation) as server:
        return run(evaluation, server, tmp_path_factory.mktemp("sound") / "results.jsonl")


def test_200_problems_with_three_calls_in_ten_failing(sound: Rows, tmp_path: Path) -> None:
    evaluation = study(200, "majority")
    with server_of(evaluation, Faults(0.3)) as server:
        rows = run(evaluation, server, tmp_path / "results.jsonl")
        assert len(server.failed) == 9
        failed, asked = sum(server.failed.values()), server.asked["/v1/chat/completions"]
        assert failed > 0.2 * asked
    assert len(rows) == 200
    assert same(rows, sound)
    assert not any("error" in row for row in rows.values())
    for key, row in rows.items():
        assert row["spent"]["prefilled"] <= sound[key]["spent"]["prefilled"]


def test_searches_of_many_requests_come_out_the_same(tmp_path: Path) -> None:
    evaluation = study(6, "beam branch=2", "mcts")
    with server_of(evaluation) as server:
        apart = run(evaluation, server, tmp_path / "sound.jsonl")
    with server_of(evaluation, Faults(0.3, seed=1)) as server:
        assert same(run(evaluation, server, tmp_path / "results.jsonl"), apart)


def test_a_restart_in_the_middle_is_waited_out(sound: Rows, tmp_path: Path) -> None:
    evaluation = study(200, "majority")
    with server_of(evaluation) as server:
        stops: list[threading.Timer] = []

        def stop(progress: Progress) -> None:
            if progress.done >= 50 and not stops:
                server.stop()
                stops.append(threading.Timer(0.3, server.start))
                stops[0].start()

        assert same(run(evaluation, server, tmp_path / "results.jsonl", stop), sound)
        assert stops


def test_when_it_stays_down_each_problem_says_so_and_the_same_command_goes_on(sound: Rows, tmp_path: Path) -> None:
    evaluation, path = study(200, "majority"), tmp_path / "results.jsonl"
    with server_of(evaluation) as server:
        rows = run(
            evaluation, server, path, lambda progress: server.stop() if progress.done == 50 else None, patience=0.2
        )
        failed = {key: row for key, row in rows.items() if "error" in row}
        assert 100 < len(failed) <= 150
        for row in failed.values():
            assert row["error"].startswith("ServerUnavailable: " + server.url)
            assert row["unavailable"]
        assert same({key: row for key, row in rows.items() if key not in failed}, {
            key: row for key, row in sound.items() if key not in failed
        })  # fmt: skip
        lines = path.read_bytes()
        server.start()
        before = server.asked.total()
        assert same(run(evaluation, server, path), sound)
        assert server.asked.total() - before < 2 * len(failed) + 2  # what was there is not asked for again
        assert path.read_bytes().startswith(lines)  # and nothing was taken from the file
        assert same(run(evaluation, server, path), sound)


def test_the_command_says_what_could_not_be_reached_and_tries_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = study(12, "majority")
    words = ["eval", "--env", "toy", "--policy", "openai:scripted", "--verifier", "none", "--strategy", "majority"]
    words += ["-n", "12", "--budget", "2", "--json", "--concurrency", "4", "--out", str(tmp_path / "results.jsonl")]
    with server_of(evaluation, Faults(1.0, kinds=["503"])) as server:
        settings = {"base_url": server.url, "pause": 0.01, "patience": 0.1}
        words += [f"--set=policy.{key}={value}" for key, value in settings.items()]
        assert main(words) == 1
        told = capsys.readouterr()
        assert "12 of 12 failed, as a model could not be reached; the same command tries again" in told.err
        assert "503 out of order" in told.err
        assert json.loads(told.out)["results"][0]["errors"] == 12
        server.faults = None
        assert main(words) == 0
        (result,) = json.loads(capsys.readouterr().out)["results"]
        assert (result["n"], result["errors"]) == (12, 0)
        server.stop()
        assert main(words) == 0  # there is nothing left to ask
        assert main(["solve", "--env", "toy", "--policy", "openai:scripted", "12 with 1 6 10", words[-3]]) == 2
        assert "is the server running there?" in capsys.readouterr().err
