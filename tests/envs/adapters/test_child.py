"""Programs that are asked in lines of JSON: nothing they say is believed, and none outlives what it does wrong."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from envs.adapters.child import Child, ChildError, ChildFailure

ECHO = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    if asked == "leave":
        print("I had enough", file=sys.stderr)
        sys.exit(3)
    if asked == "sleep":
        time.sleep(60)
    if asked == "much":
        print('{"ok": "' + "x" * (16 << 20) + '"}', flush=True)
    if isinstance(asked, str) and asked.startswith("raw "):
        print(asked[4:], flush=True)
    elif asked == "fail":
        print('{"error": "no such thing"}', flush=True)
    else:
        print(json.dumps({"ok": asked}), flush=True)
"""


def child(program: str = ECHO, first: Any = "hello", loading: float = 30.0) -> Child:
    return Child([sys.executable, "-c", program], "the echo", first, loading)


def test_requests_are_answered_and_errors_end_nothing() -> None:
    echo = child()
    assert echo.ready == "hello"
    assert echo.ask({"a": [1, "é"]}, 30) == {"a": [1, "é"]}
    assert echo.ask("x" * 500_000, 30) == "x" * 500_000  # more than a pipe holds
    with pytest.raises(ChildError, match="the echo: no such thing"):
        echo.ask("fail", 30)
    assert echo.alive
    echo.close()
    with pytest.raises(ChildFailure, match="has ended"):
        echo.ask("again", 30)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("leave", "has ended; the end of what it said: I had enough"),
        ("much", "a reply of more than 16 MiB"),
        ("raw nonsense", "wrote what is no reply"),
        ('raw {"ok": 1, "error": "x"}', "wrote what is no reply"),
        ('raw {"error": 5}', "wrote what is no reply"),
        ("raw " + "[" * 5000, "wrote what is no reply"),
    ],
)
def test_what_is_no_reply_ends_it(asked: str, message: str) -> None:
    echo = child()
    with pytest.raises(ChildFailure, match=message):
        echo.ask(asked, 30)
    assert not echo.alive


def test_a_late_reply_ends_it() -> None:
    echo, started = child(), time.monotonic()
    with pytest.raises(ChildFailure, match=r"did not reply within 0\.2 s"):
        echo.ask("sleep", 0.2)
    assert time.monotonic() - started < 20
    assert not echo.alive


def test_a_program_that_reads_nothing_ends() -> None:
    deaf = child("import time; input(); print('{\"ok\": 1}', flush=True); time.sleep(60)")
    with pytest.raises(ChildFailure, match=r"did not read a request within 0\.5 s"):
        deaf.ask("x" * 1_000_000, 0.5)
    assert not deaf.alive


def test_what_does_not_get_ready_is_told(tmp_path: Path) -> None:
    with pytest.raises(ChildFailure, match="ZeroDivisionError"):
        child("1 / 0")
    with pytest.raises(ChildFailure, match="cannot be started"):
        Child([str(tmp_path / "none")], "it", 1, 1.0)


def test_threads_share_it() -> None:
    echo, replies = child(), list[tuple[int, Any]]()
    threads = [threading.Thread(target=lambda n=n: replies.append((n, echo.ask(n, 30)))) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(replies) == [(n, n) for n in range(8)]
    echo.close()
