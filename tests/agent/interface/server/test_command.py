"""``stepwell serve`` as a person starts and ends it."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.interface.cli import main
from tests.agent.interface.server.serving import CLIENT

NOWHERE = ["--set", "policy.base_url=http://127.0.0.1:9/v1", "--set", "policy.patience=0.1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "lets other machines ask: give --keys FILE"),
        (["--port", "70000"], "allowed: 0 to 65535"),
        (["--limit", "concurency=2"], "did you mean 'concurrency'"),
        (["--limit", "deadline=0"], "deadline"),
        (["--keys", "nothing.yaml"], "nothing.yaml"),
        (["--also", "toyy"], "did you mean 'toy'"),
        (["--strategy", "beem"], "did you mean 'beam'"),
        (["--policy", "openai:x", *NOWHERE], "is the server running there?"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--env", "toy", "--port", "0", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(tmp_path: Path, number: int) -> None:
    (tmp_path / "coins.yaml").write_text("{environment: toy, policy: scripted, verifier: table, strategy: majority}")
    also, graphs = str(tmp_path / "coins.yaml"), str(tmp_path / "graphs")
    words = ["serve", "--env", "toy", "--port", "0", "--also", also, "--graphs", graphs]
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.interface.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(r"serving toy, coins on (http://127.0.0.1:\d+)/v1, model stepwell/auto\n", said)
        assert found, said
        body = {"model": "coins/best-of-n-2", "messages": [{"role": "user", "content": "12 with 1 6 10"}]}
        reply = CLIENT.post(f"{found[1]}/v1/chat/completions", json=body).json()
        (search,) = reply["stepwell"]["searches"]
        assert reply["choices"][0]["message"]["content"] == search["answer"]
        assert (
            json.loads((tmp_path / "graphs" / f"{search['id']}.json").read_text())["problem"]["question"]
            == "12 with 1 6 10"
        )
        metrics = CLIENT.get(f"{found[1]}/metrics").text
        assert 'stepwell_requests_total{dialect="chat",status="200"} 1.0' in metrics
        assert 'stepwell_searches_total{stopped="finished"} 1.0' in metrics
    finally:
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, -number, 130), errors
    assert "Traceback" not in errors
    assert "/v1/chat/completions 200" in errors
