"""A study over a server that fails: it finishes, loses nothing, charges nothing twice and answers as without faults."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.interface.cli import main
from agent.recipes.recipe import Component
from agent.study.progress import Progress
from agent.study.results_db import StudyFile
from agent.study.run import open_study, run_study, study_problems
from agent.study.study import Study
from envs.toy import Toy
from policies.servers import http_client as remote
from tests.servers import Faults, Script, Server, openai_routes

TOY = Toy()
QUICK: dict[str, Any] = {"connections": 16, "timeout": 4.0, "patience": 300.0, "pause": 0.01, "longest_pause": 0.1}
Rows = dict[tuple[int, int], dict[str, Any]]


def server_of(n: int, faults: Faults | None = None) -> Server:
    return Server(openai_routes(Script(TOY, TOY.problems("test", n)), context=16384), faults)


def run(
    server: Server,
    path: Path,
    n: int = 200,
    strategies: tuple[Component, ...] = (Component("majority"),),
    on_progress: Callable[[Progress], None] = lambda progress: None,
    **limits: float,
) -> Rows:
    """Run what a study's file lacks, and return all it has."""
    policy = Component("openai:scripted", {"base_url": server.url, **QUICK, **limits})
    study = Study((Component("toy"),), (policy,), strategies, budgets=(2,), verifiers=(Component("table"),), n=n)
    problems = study_problems(study)
    with open_study(study, path, problems) as file:
        run_study(study, file, problems, on_progress)
        return {(row["cell"], row["problem"]): row for row in file.results()}


def outcome(row: dict[str, Any]) -> dict[str, Any]:
    """What faults must not change; what a prompt cost is unknown where the count was lost."""
    spent = ("generated", "policy_calls", "verifier_calls", "verifier_tokens", "samples")
    return {key: row[key] for key in ("answer", "correct", "confidence", "drawn", "error", *spent)}


def same(found: Rows, sound: Rows) -> bool:
    return {key: outcome(row) for key, row in found.items()} == {key: outcome(row) for key, row in sound.items()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The study without faults."""
    with server_of(200) as server:
        return run(server, tmp_path_factory.mktemp("sound") / "study.sqlite")


def test_200_problems_with_three_calls_in_ten_failing(sound: Rows, tmp_path: Path) -> None:
    with server_of(200, Faults(0.3)) as server:
        rows = run(server, tmp_path / "study.sqlite")
        assert len(server.failed) == 9
        failed, asked = sum(server.failed.values()), server.asked["/v1/chat/completions"]
        assert failed > 0.2 * asked
    assert len(rows) == 200
    assert same(rows, sound)
    assert not any(row["error"] for row in rows.values())
    for key, row in rows.items():
        assert row["prefilled"] <= sound[key]["prefilled"]


def test_searches_of_many_requests_come_out_the_same(tmp_path: Path) -> None:
    strategies = (Component("beam", {"branch": 2}), Component("mcts"))
    with server_of(6) as server:
        apart = run(server, tmp_path / "sound.sqlite", 6, strategies)
    with server_of(6, Faults(0.3, seed=1)) as server:
        assert same(run(server, tmp_path / "study.sqlite", 6, strategies), apart)


def test_a_restart_in_the_middle_is_waited_out(sound: Rows, tmp_path: Path) -> None:
    with server_of(200) as server:
        stops: list[threading.Timer] = []

        def stop(progress: Progress) -> None:
            if progress.done >= 50 and not stops:
                server.stop()
                stops.append(threading.Timer(0.3, server.start))
                stops[0].start()

        assert same(run(server, tmp_path / "study.sqlite", on_progress=stop), sound)
        assert stops


def test_when_it_stays_down_each_problem_says_so_and_the_same_command_goes_on(sound: Rows, tmp_path: Path) -> None:
    path, stopped = tmp_path / "study.sqlite", False

    def stop(progress: Progress) -> None:
        nonlocal stopped
        if progress.done >= 50 and not stopped:
            stopped = True
            server.stop()

    with server_of(200) as server:
        rows = run(server, path, on_progress=stop, patience=0.2)
        failed = {key: row for key, row in rows.items() if row["error"]}
        assert 50 < len(failed) <= 150
        for row in failed.values():
            assert row["error"].startswith("ServerUnavailable: " + server.url)
            assert row["stopped"] == "unavailable"
        kept = [key for key in rows if key not in failed]
        assert same({key: rows[key] for key in kept}, {key: sound[key] for key in kept})
        with StudyFile(path) as file:
            told = file.unavailable()
            assert told is not None
            assert told[0] == len(failed)
        server.start()
        before = server.asked.total()
        assert same(run(server, path, patience=0.2), sound)
        assert server.asked.total() - before < 2 * len(failed) + 2  # what was there is not asked for again
        assert same(run(server, path, patience=0.2), sound)


def test_the_command_says_what_could_not_be_reached_and_tries_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "--env", "toy", "--policy", "openai:scripted", "--verifier", "none", "--strategy", "majority"]
    words += ["-n", "12", "--budget", "2", "--json", "--concurrency", "4", "--out", str(tmp_path / "results.sqlite")]
    with server_of(12, Faults(1.0, kinds=["503"])) as server:
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


def test_who_waits_for_a_server_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(remote, "_TROUBLED", 0.05)
    monkeypatch.setattr(remote, "_QUIET", 0.1)
    with server_of(1, Faults(1.0, kinds=["503"])) as server:
        options = [f"policy.base_url={server.url}", "policy.patience=0.5", "policy.pause=0.02"]
        sets = [word for option in options for word in ("--set", option)]
        question = TOY.problems("test", 1)[0].question
        words = ["solve", "--env", "toy", "--policy", "openai:", *sets, "--strategy", "majority", "--budget", "2"]
        main([*words, question])
    assert f"WARNING {server.url}: no usable reply for" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", ["majority", "beam"])
def test_a_reply_that_is_filtered_ends_the_search_with_few_calls(tmp_path: Path, strategy: str) -> None:
    def quirk(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["finish_reason"] = "content_filter"
        return reply

    with Server(openai_routes(Script(TOY, TOY.problems("test", 4)), context=16384, quirk=quirk)) as server:
        rows = run(server, tmp_path / "study.sqlite", 4, (Component(strategy),))
        assert [(row["stopped"], row["error"]) for row in rows.values()] == [("finished", None)] * 4
        assert server.asked["/v1/chat/completions"] <= 4 * 2 * 4


def test_a_server_that_will_not_answer_fails_its_problems_for_good(tmp_path: Path) -> None:
    routes = openai_routes(
        Script(TOY, TOY.problems("test", 4)), quirk=lambda reply: {"error": {"message": "no, never"}}
    )
    with Server(routes) as server:
        rows = run(server, tmp_path / "study.sqlite", 4)
        assert {row["stopped"] for row in rows.values()} == {"error"}
        assert all("no, never" in row["error"] for row in rows.values())
