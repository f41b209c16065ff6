"""The session as a workbench: pause, push and keep a search, in a real terminal and in a pipe."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.interface.session.search_run import SearchRun
from agent.interface.session.session import Session
from agent.interface.session.store import KEPT, Store
from agent.interface.terminal.console import PlainConsole
from agent.interface.terminal.live_tree import LiveTree
from agent.interface.tree_view import tree_rows
from agent.recipes.recipe import load_recipe
from agent.search.budget import Budget
from agent.search.control.steering import INFO
from agent.search.graph import SearchGraph
from agent.solver import Solver, task
from agent.strategies import Beam, Mcts
from envs.toy import Toy
from policies.scripted import ScriptedPolicy
from tests.terminals import CTRL_C, CTRL_D, ROOT, Terminal
from verifiers.table import TableVerifier

TOY = Toy()
QUESTION = "29 with 1 6 10"
LARGE = "45 with 1 7 10"
SLOW = ("--strategy", "mcts", "--budget", "4000", "--set", "policy.delay=0.05")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PYTHONIOENCODING": "utf-8",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "OMP_NUM_THREADS": "1",
    }


Opener = Callable[..., Terminal]


@pytest.fixture
def open_terminal(environment: dict[str, str]) -> Iterator[Opener]:
    opened: list[Terminal] = []

    def open_one(*arguments: str, columns: int = 100, lines: int = 40, **more: str) -> Terminal:
        terminal = Terminal(["--env", "toy", *arguments], environment | more, columns, lines)
        opened.append(terminal)
        terminal.expect("Type a question, or /help.")
        return terminal

    yield open_one
    for terminal in opened:
        terminal.child.close(force=True)


def paused(terminal: Terminal) -> str:
    terminal.enter(LARGE)
    terminal.wait(lambda screen: "leading: " in screen and "Ctrl-C pauses" in screen, "the growing tree")
    terminal.type(CTRL_C)
    return terminal.expect("paused>")


def records(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["info"].get(INFO, [])
    return found


# --------------------------------------------------------------------------------------------------------- a terminal


def test_a_search_is_paused_steered_and_goes_on(open_terminal: Opener, tmp_path: Path) -> None:
    terminal = open_terminal(*SLOW)
    screen = paused(terminal)
    assert "> 45 with 1 7 10" in screen  # the screen is as it was before the tree grew
    terminal.enter("/prune 2")
    terminal.expect("prune: done")
    terminal.enter("/prune 2")
    terminal.expect("prune: it was so already")
    terminal.enter("/prune 99999")
    terminal.expect("no node 99999; the tree has nodes 0 to")
    terminal.enter("/write 0 1")
    terminal.expect("write: done")
    terminal.enter("/budget 500")
    terminal.expect("budget: done, 4000 samples -> 500 samples")
    terminal.enter("13 with 1 3 5")
    terminal.expect("a search is paused: this is asked when it is over")
    terminal.enter("/go beam branch=2")
    terminal.wait(lambda text: "paused>" not in text.splitlines()[-1], "the search to go on")
    terminal.wait(lambda text: "13 with 1 3 5" in text and "Ctrl-C pauses" in text, "the next question", 60)
    terminal.type(CTRL_C)
    terminal.expect("paused>")
    terminal.type(CTRL_C)
    terminal.wait(lambda text: "answer  " in text and "ended   stopped by a person" in text, "the second answer", 60)
    entries = sorted((tmp_path / "state" / "stepwell" / "searches").glob("0*.json"))
    assert len(entries) == 2
    whats = [record["what"] for record in records(entries[0])]
    assert whats == ["pause", "prune", "write", "budget", "strategy", "resume"]


def test_the_second_ctrl_c_ends_a_search_and_what_was_typed_is_kept(open_terminal: Opener) -> None:
    terminal = open_terminal(*SLOW)
    terminal.enter(LARGE)
    terminal.expect("Ctrl-C pauses")
    terminal.type("/why")
    time.sleep(0.3)
    assert "/why" not in terminal.read()
    terminal.type(CTRL_C)
    terminal.expect("paused> /why")
    terminal.type("\r")
    terminal.expect("the answer is ")
    terminal.type(CTRL_C)
    screen = terminal.expect("cost ")
    assert "ended   stopped by a person" in screen
    assert "answer  " in screen


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50)])
def test_the_tree_fits_the_screen_and_follows_its_size(open_terminal: Opener, columns: int, lines: int) -> None:
    terminal = open_terminal(*SLOW, columns=columns, lines=lines)
    terminal.enter(LARGE)
    terminal.wait(lambda screen: screen.count("─ ") >= lines - 6, "a tree that fills the screen")
    rows = terminal.read().splitlines()
    assert rows[0].startswith("leading: ")
    assert rows[-1].startswith("Ctrl-C pauses")
    terminal.resize(90, 18)
    terminal.wait(
        lambda screen: screen.splitlines()[0].startswith("leading: ") and "Ctrl-C" in screen.splitlines()[17],
        "the tree in its new size",
    )
    terminal.type(CTRL_C)
    screen = terminal.expect("paused>")
    assert screen.count("leading: ") == 1  # nothing of the live tree is left
    terminal.type(CTRL_C)
    terminal.expect("cost ")


def test_without_colours_signs_are_enough(open_terminal: Opener) -> None:
    terminal = open_terminal(*SLOW, NO_COLOR="1")
    screen = paused(terminal)
    assert "●" in screen
    assert not re.search(r"\x1b\[[\d;]*3[1-7]m", terminal.raw.split("Ctrl-C pauses")[0].split(LARGE)[-1])


def test_a_dumb_terminal_gets_lines_and_pauses_too(open_terminal: Opener) -> None:
    terminal = open_terminal(*SLOW, TERM="dumb")
    terminal.enter(LARGE)
    terminal.expect("leading: ")
    terminal.type(CTRL_C)
    terminal.expect("paused: /go goes on")
    terminal.enter("/alt 1")
    terminal.expect("prior")
    terminal.type(CTRL_C)
    terminal.expect("cost ")
    assert "\x1b[?1049h" not in terminal.raw


def test_only_rows_that_changed_are_written(open_terminal: Opener) -> None:
    terminal = open_terminal(*SLOW)
    terminal.enter(LARGE)
    terminal.wait(lambda screen: screen.count("─ ") > 20, "a tree")
    terminal.raw = ""
    time.sleep(2)
    terminal.read()
    frames = terminal.raw.count("\x1b[1;1H")
    rows = len(re.findall(r"\x1b\[\d+;1H", terminal.raw))
    assert 1 <= frames <= 21  # ten a second at most
    assert rows < frames * 40


def test_a_terminal_that_dies_loses_nothing(open_terminal: Opener, tmp_path: Path) -> None:
    terminal = open_terminal(*SLOW)
    terminal.enter(LARGE)
    terminal.expect("leading: ")
    terminal.child.kill(signal.SIGHUP)
    folder = tmp_path / "state" / "stepwell" / "searches"
    end = time.monotonic() + 30
    while not Store(folder).entries():
        terminal.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    (entry,) = Store(folder).entries()
    assert entry.question == LARGE
    assert entry.answer is not None


def test_searches_are_found_and_opened_in_another_session(open_terminal: Opener) -> None:
    first = open_terminal("--strategy", "greedy")
    for question in (QUESTION, "13 with 1 3 5"):
        first.enter(question)
        first.wait(lambda screen, question=question: "cost " in screen.split(question)[-1], "an answer")  # type: ignore[misc]
    first.type(CTRL_D)
    end = time.monotonic() + 30
    while first.child.isalive():
        first.read()
        assert time.monotonic() < end
    second = open_terminal()
    second.enter("/history 13 with")
    screen = second.expect("/history N opens one")
    assert QUESTION not in screen.split("/history 13 with")[-1]
    second.clear()
    second.enter("/history 1")
    second.expect("cost ")
    second.enter("/tree")
    second.expect(f"● {QUESTION}")
    second.enter("/replay 1 100x")
    second.wait(lambda text: text.count(f"● {QUESTION}") == 2, "the tree, again")
    assert "Scores are those of the end of the search" in second.raw  # the replay was drawn, on a screen of its own
    second.enter("/history 99")
    second.expect("there is no search 99")


def test_what_is_copied_is_visible_text(open_terminal: Opener) -> None:
    terminal = open_terminal("--strategy", "greedy")
    terminal.enter(QUESTION)
    terminal.expect("cost ")
    terminal.enter("/copy")
    terminal.expect("copied ")
    packed = re.findall(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", terminal.raw)
    assert len(packed) == 1
    assert base64.b64decode(packed[0]).decode().splitlines()[0] in {"1", "6", "10"}


# ------------------------------------------------------------------------------------------------------------- a pipe


def session_of(*settings: str, recipe: str = "toy") -> tuple[Session, io.StringIO]:
    file = io.StringIO()
    return Session(load_recipe(recipe, settings), PlainConsole(file=file, width=100)), file


def said(session: Session, file: io.StringIO, line: str) -> str:
    file.seek(0)
    file.truncate()
    session.handle(line)
    return file.getvalue()


def test_the_last_search_is_opened_again_by_what_changes_it() -> None:
    session, file = session_of("strategy=beam", "budget.samples=8")
    session.handle(QUESTION)
    graph, size, spent = session.last().graph, len(session.last().graph), session.last().spent
    assert "the search is open again" in said(session, file, "/prune 1")
    assert "undo: done" in said(session, file, "/undo")
    assert "expand needs NODE" in said(session, file, "/expand")
    assert "cost " in said(session, file, "/go mcts")
    assert session.run is None
    assert session.last().graph is graph
    assert len(graph) > size
    assert session.last().spent["samples"] > spent["samples"]
    assert [record["what"] for record in graph.info[INFO]] == ["pause", "prune", "undo", "strategy", "resume"]
    before = json.dumps(graph.to_json())
    assert "no node 99999" in said(session, file, "/prune 99999")
    assert session.run is None
    assert json.dumps(graph.to_json()) == before  # a command that was refused leaves nothing behind


def opened_again(*settings: str) -> tuple[Session, io.StringIO, SearchRun]:
    """A session in whose pause a search is."""
    session, file = session_of("strategy=beam", "budget.samples=8", *settings)
    session.handle(QUESTION)
    session.handle("/prune 1")
    assert session.run is not None
    return session, file, session.run


@pytest.mark.parametrize("line", ["/prune 2", "/go", "/stop", "/compare beam dvts", QUESTION])
def test_a_search_that_is_ended_from_elsewhere_is_shown(line: str) -> None:
    session, file, run = opened_again()
    run.handle.do("stop", who="somebody else")
    assert run.wait(20)
    out = said(session, file, line)
    assert out.startswith("the search has ended meanwhile\n")
    assert "ended   stopped by a person" in out
    assert session.run is None
    assert session.queue == []
    assert out.count("cost ") == (2 if line == QUESTION else 1)


def test_nothing_is_ended_where_nothing_is_paused() -> None:
    session, file = session_of("strategy=beam", "budget.samples=8")
    for line in ("/stop", "/cancel"):
        assert said(session, file, line) == f"{line}: no search is paused, so there is none to end\n"
    session.handle(QUESTION)
    before = json.dumps(session.last().graph.to_json())
    assert "no search is paused" in said(session, file, "/stop")
    assert json.dumps(session.last().graph.to_json()) == before


def test_a_strategy_that_is_refused_leaves_the_last_search_as_it_was() -> None:
    session, file = session_of("strategy=beam", "budget.samples=8")
    session.handle(QUESTION)
    before = json.dumps(session.last().graph.to_json())
    assert "did you mean 'beam'" in said(session, file, "/go baem")
    assert session.run is None
    assert json.dumps(session.last().graph.to_json()) == before


def test_a_saved_search_names_no_strategy_whose_code_runs(tmp_path: Path) -> None:
    session, file = session_of("strategy=beam", "budget.samples=8")
    session.handle(QUESTION)
    session.handle("/go mcts")
    path = tmp_path / "search.json"
    session.handle(f"/save {path}")
    saved = path.read_text()
    assert '"old_spec": null' in saved
    marker = tmp_path / "RAN"
    evil = tmp_path / "evil.py"
    evil.write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    for spec in (f"{evil}:Evil", f"{evil}:Evil branch=2", "evil:Evil", str(evil)):
        path.write_text(saved.replace('"old_spec": null', f'"old_spec": "{spec}"'))
        session.handle(f"/load {path}")
        assert "which runs code" in said(session, file, "/undo")
        session.handle("/go")
        assert not marker.exists()
    path.write_text(saved)
    session.handle(f"/load {path}")
    assert "undo: done" in said(session, file, "/undo")
    session.close()


def test_a_step_that_a_person_wrote_is_shown_whatever_it_promises() -> None:
    session, file = session_of("strategy=majority", "budget.samples=64", "verifier=none")
    session.handle("45 with 1 7 10")
    assert len(session.last().graph.children(0)) >= 3
    for text in ("nonsense", "1 dollar", "0"):
        assert text in said(session, file, f"/write 0 {text}").replace(f"/write 0 {text}", "")
    session.close()


def test_strategies_may_be_quoted_as_in_a_shell() -> None:
    session, file = session_of("strategy=beam", "budget.samples=8")
    session.handle(QUESTION)
    table = said(session, file, """/compare "beam branch=2" 'dvts' mcts --budget 2""")
    assert re.search(r"^beam branch=2 .*\ndvts .*\nmcts ", table, flags=re.M)
    assert "in force: beam (width 8, branch 2" in said(session, file, '/strategy "beam branch=2"')


def test_environment_and_models_stay_in_a_pause() -> None:
    session, file, run = opened_again()
    for line, what in (
        ("/env arithmetic", "environment"),
        ("/policy scripted", "policy"),
        ("/verifier none", "verifier"),
    ):
        assert f"the {what} cannot be changed while a search is paused" in said(session, file, line)
    assert "policy scripted" in said(session, file, "/policy")  # it is shown all the same
    assert "another search cannot be replayed" in said(session, file, "/replay search.json")
    assert session.run is run
    session.close()


def test_a_search_of_another_environment_is_not_gone_on_with() -> None:
    session, file = session_of("strategy=beam", "budget.samples=8")
    session.handle(QUESTION)
    said(session, file, "/env arithmetic")
    for line in ("/go", "/prune 1"):
        assert "a search in environment 'toy'; the environment here is 'arithmetic'" in said(session, file, line)
        assert session.run is None
    assert session.last().graph.environment.name == "toy"


def test_a_replay_of_another_search_begins_at_its_root(tmp_path: Path) -> None:
    session, file = session_of("strategy=beam", "budget.samples=8")
    for question, name in (("13 with 1 3 5", "other"), (QUESTION, "last")):
        session.handle(question)
        session.handle(f"/save {tmp_path / name}.json")
    session.console.is_interactive = True
    said(session, file, "/goto 1")
    assert session.focus == 1
    said(session, file, "/replay 1000x")
    assert session.focus == 1
    assert "0 ● 13 with 1 3 5" in said(session, file, f"/replay {tmp_path / 'other.json'} 1000x")
    assert session.focus == 0


def test_models_that_hang_are_left_and_fresh_ones_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = session_of()
    session.handle(QUESTION)
    hanging = session.solver

    def interrupted(run: SearchRun) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SearchRun, "watch", lambda run: False)
    monkeypatch.setattr(SearchRun, "end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.handle("/compare beam dvts --budget 4")
    assert session.solver is not hanging


def test_nodes_are_looked_at_and_the_current_one_is_a_full_stop() -> None:
    session, file = session_of("strategy=beam", "budget.samples=16")
    session.handle(QUESTION)
    assert "the answer is 5, of node" in said(session, file, "/why")
    dropped = next(node for node in session.last().graph.graph if session.last().graph[node].pruned)
    assert "dropped by the search: its value" in said(session, file, f"/why {dropped}")
    assert "prior" in said(session, file, f"/alt {dropped}")
    assert said(session, file, "/goto 1").lstrip().startswith("1 ")
    assert "status running" in said(session, file, "/why")
    assert said(session, file, "/why .") == said(session, file, "/why 1")
    assert said(session, file, "/tree 3").lstrip().startswith("1 ")
    said(session, file, "/goto")
    assert said(session, file, "/tree 3").lstrip().startswith("0 ")
    assert "no node 999" in said(session, file, "/goto 999")
    assert said(session, file, "/copy 1") == f"{session.last().graph[1].text}\n"


def test_strategies_are_compared_at_equal_cost() -> None:
    session, file = session_of()
    assert "type a question first" in said(session, file, "/compare beam dvts")
    session.handle(QUESTION)
    out = said(session, file, "/compare beam branch=2 dvts auto --budget 8")
    table = out.splitlines()[:4]
    assert [line.split("  ")[0] for line in table] == ["strategy", "beam branch=2", "dvts", "auto"]
    assert out.count(f"● {QUESTION}") == 3
    assert "expected 2 to 8 strategies" in said(session, file, "/compare beam")
    assert "did you mean 'beam'" in said(session, file, "/compare baem dvts")
    assert "expected a budget" in said(session, file, "/compare beam dvts --budget")


def test_questions_come_from_files(tmp_path: Path) -> None:
    session, file = session_of("strategy=greedy")
    (tmp_path / "two.txt").write_text(f"{QUESTION}\n\n13 with 1 3 5\n")
    out = said(session, file, f"@{tmp_path / 'two.txt'}")
    assert out.count("cost ") == 2
    assert "there is no file" in said(session, file, "@nowhere.txt")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    assert "more than 65,536 bytes" in said(session, file, f"@{tmp_path / 'large'}")
    (tmp_path / "binary").write_bytes(b"\xff\x00\x1b[31m")
    assert "\x1b" not in said(session, file, f"@{tmp_path / 'binary'}")


def test_names_that_are_nearly_right_are_told() -> None:
    session, file = session_of()
    for line, right in (("/env tyo", "'toy'"), ("/policy scriptde", "'scripted'"), ("/verifier tabel", "'table'"),
                        ("/expnd 3", "'/expand'"), ("/strategy baem", "'beam'")):  # fmt: skip
        assert f"did you mean {right}" in said(session, file, line)


def test_a_pipe_steers_and_prints_plain_lines(environment: dict[str, str]) -> None:
    lines = [QUESTION, "/prune 1", "/go", "/answers", "/history", "/replay"]
    done = subprocess.run(
        [sys.executable, "-m", "agent.interface.cli", "--env", "toy", "--strategy", "beam", "--budget", "8"],
        input="\n".join(lines),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.count("cost ") == 2
    assert "the history is empty" in done.stdout  # what a script asks is not kept
    assert "needs a terminal" in done.stdout


# ------------------------------------------------------------------------------------------------------------ the parts


def graph_of(evil: str = "") -> SearchGraph:
    solver = Solver(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    graph = solver.solve(TOY.read(QUESTION), Mcts(16), Budget(samples=16)).graph
    if evil:
        for node in range(1, len(graph)):
            graph[node].text = evil
            graph[node]["observation"] = evil
    return graph


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_rows_fit_their_width(width: int, unicode: bool) -> None:
    from rich.cells import cell_len

    graph = graph_of("漢字 wide " * 20)
    rows = tree_rows(graph, 12, width, unicode)
    assert len(rows) == 12
    widths = {sum(cell_len(text) for text, _ in row) for row in rows}
    assert max(widths) <= max(width, 32)
    if not unicode:
        assert re.sub("[漢字]", "", "".join(text for row in rows for text, _ in row)).isascii()


def test_nothing_hostile_reaches_the_terminal_of_a_live_tree() -> None:
    evil = "\x1b]0;PWNED\x07\x1b]52;c;ZXZpbA==\x07\x1b[7;7H\x9b31m\u202e\u200b[red]"
    graph = graph_of(evil)
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, color_system="256", width=100, height=30)
    with LiveTree(console, "hint") as live:
        live.show(graph, len(graph), 1.0)
    out = file.getvalue()
    assert r"\x1b]0;PWNED" in out
    assert not re.search(r"\x1b\]|\x1b\[7;7H|\x9b|[\u202a-\u202e\u200b]", out)
    ours = re.sub(r"\x1b\[(\?\d+[hl]|[\d;]*[mHJK])", "", out)
    assert "\x1b" not in ours


def test_searches_are_kept_listed_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.interface.session.store.KEPT", 3)
    store = Store(tmp_path / "searches")
    assert store.entries() == []
    solver = Solver(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    solutions = [solver.solve(problem, Beam(4, 2), Budget(samples=4)) for problem in TOY.problems("train", 5)]
    numbers = [store.keep(solution) for solution in solutions]
    assert numbers == [1, 2, 3, 4, 5]
    assert [entry.number for entry in store.entries()] == [3, 4, 5]
    assert SearchGraph.load(store.find(5), TOY) == solutions[4].graph
    assert store.path(5).stat().st_mode & 0o077 == 0
    with (tmp_path / "searches" / "index.jsonl").open("ab") as index:
        index.write(b'{"number": 4}\n[1]\n\xff\xfe\n{"number": 5, "at"')
    assert [entry.number for entry in store.entries()] == [3, 4, 5]
    assert [entry.number for entry in store.entries(solutions[3].problem.question)] == [4]
    assert KEPT == 500


def test_a_search_run_is_looked_at_while_it_is_paused() -> None:
    solver = Solver(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    run = SearchRun(solver, task(TOY.read(QUESTION), Mcts(16), Budget(samples=16)), paused=True)
    assert run.look(len) == 1
    assert run.do("expand", {"node": 0, "n": 3})["made"]
    assert not run.over
    run.do("resume", {})
    assert run.wait(20)
    assert run.look(len) == len(run.solution.graph)
