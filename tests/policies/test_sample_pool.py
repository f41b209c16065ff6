"""Files of samples: what is written is read, and what is no such file is refused in one line."""

import gzip
import json
import re
from pathlib import Path

import pytest

from envs.core import Step
from policies.sample_pool import PooledProblem, PooledSample, PoolHead, SamplePool, UnreadablePool, write_pool

HEAD = PoolHead("p", 10, "abc", "v", 5, "def")
STEPS = (Step("1 + 2 = 3", 5, -0.5), Step("#### 3", 2, -0.25, "answer", "seen"))
PROBLEMS = [
    PooledProblem("toy/a", 0.7, 4, (PooledSample(STEPS, (0.5, 0.75), 9), PooledSample((Step("x\ud800", 1),)))),
    PooledProblem("toy/a", 0.0, 4, (PooledSample(STEPS),)),
]


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.jsonl.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    assert write_pool(tmp_path / name, HEAD, iter(PROBLEMS)) == 3
    pool = SamplePool.read(tmp_path / name)
    assert pool.head == HEAD
    assert [pool.samples("toy/a", each.temperature) for each in PROBLEMS] == PROBLEMS


def test_what_a_file_lacks_is_said(tmp_path: Path) -> None:
    write_pool(tmp_path / "p.jsonl", HEAD, iter(PROBLEMS))
    pool = SamplePool.read(tmp_path / "p.jsonl")
    with pytest.raises(LookupError, match="no samples of problem 'toy/b'"):
        pool.samples("toy/b", 0.7)
    with pytest.raises(LookupError, match=re.escape("at temperature 0, 0.7, none at 1")):
        pool.samples("toy/a", 1.0)


GOOD = {"problem": "a", "temperature": 1, "prompt_tokens": 1, "samples": [{"steps": [["x", 1, -1.0, "step", ""]]}]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"temperature": -1}, "temperature -1.0 given"),
        ({"temperature": "NaN"}, "temperature nan given"),
        ({"temperature": 10**400}, "int too large"),
        ({"prompt_tokens": True}, "prompt_tokens True given"),
        ({"samples": []}, "no samples"),
        ({"samples": [{"steps": []}]}, "without steps"),
        ({"samples": [{"steps": [["x", -1, 0.0, "step", ""]]}]}, "tokens -1 given"),
        ({"samples": [{"steps": [["x", 1, 0.0, "over", ""]]}]}, "finish 'over' given"),
        ({"samples": [{"steps": [[7, 1, 0.0, "step", ""]]}]}, "a step is text"),
        ({"samples": [{"steps": [["x", 1, 0.0]]}]}, "missing"),
        ({"samples": [{"steps": [["x", 1, 0.0, "step", ""]], "scores": [2.0]}]}, "scores must be"),
        ({"samples": 7}, "line 2"),
    ],
)
def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path, change: dict[str, object], why: str) -> None:
    path = tmp_path / "p.jsonl"
    head = json.dumps({"format": "stepwell-samples/1"} | vars(HEAD))
    path.write_text(f"{head}\n{json.dumps(GOOD | change)}\n")
    with pytest.raises(UnreadablePool, match=f"line 2: .*{re.escape(why)}" if why != "line 2" else why):
        SamplePool.read(path)


@pytest.mark.parametrize("content", [b"", b"no JSON", b"{}\n", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_pool_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(UnreadablePool, match=r"p\.jsonl"):
        SamplePool.read(path)
    (tmp_path / "q.jsonl.gz").write_bytes(content or b"x")
    with pytest.raises(UnreadablePool, match=r"q\.jsonl"):
        SamplePool.read(tmp_path / "q.jsonl.gz")


def test_a_damaged_packed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.gz"
    write_pool(path, HEAD, iter(PROBLEMS))
    whole = path.read_bytes()
    header = 10 + len(b"p.jsonl\0")  # a name is not checked
    for place in range(header, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(UnreadablePool, match=r"p\.jsonl"):
            SamplePool.read(path)
        path.write_bytes(whole[:place])
        with pytest.raises(UnreadablePool, match=r"p\.jsonl"):
            SamplePool.read(path)


def test_a_packed_flood_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.sample_pool._LARGEST_LINE", 1000)
    with gzip.open(tmp_path / "p.gz", "wt") as file:
        file.write("[" + " " * 100_000)
    with pytest.raises(UnreadablePool, match="too large"):
        SamplePool.read(tmp_path / "p.gz")
    with pytest.raises(UnreadablePool, match="there is no file"):
        SamplePool.read(tmp_path / "none")
