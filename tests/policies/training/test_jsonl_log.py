"""Files of JSON lines: torn lines, other configurations, two writers."""

from pathlib import Path

import pytest

from envs.messages import UsageError
from policies.training.jsonl_log import JsonlLog

CONFIG = {"policy": "p", "n": 3}


def test_a_torn_last_line_is_dropped_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    with JsonlLog(path, CONFIG) as results:
        results.append({"cell": "a", "problem": "1"})
        results.append({"cell": "a", "problem": "2"})
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole[:-cut])
        with JsonlLog(path, CONFIG) as results:
            assert [row["problem"] for row in results.rows] == ["1"]
            results.append({"cell": "a", "problem": "2"})
        assert path.read_bytes() == whole


def test_a_torn_header_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with JsonlLog(path, CONFIG):
        pass
    header = path.read_bytes()
    path.write_bytes(header[:20])
    with JsonlLog(path, CONFIG) as results:
        assert results.rows == []
    assert path.read_bytes() == header


def test_a_file_of_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with JsonlLog(path, CONFIG) as results:
        results.append({"cell": "a", "problem": "1"})
    before = path.read_bytes()
    with pytest.raises(UsageError, match="belongs to another configuration \\(n: 3 there, 4 now\\)"):
        JsonlLog(path, {**CONFIG, "n": 4})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello\n", b'{"a": 1}\n', b"[1]\n", b"\xff\xfe\n"])
def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a file of results"):
        JsonlLog(path, CONFIG)
    assert path.read_bytes() == content


def test_two_runs_cannot_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with JsonlLog(path, CONFIG), pytest.raises(UsageError, match="being written to by another run"):
        JsonlLog(path, CONFIG)
