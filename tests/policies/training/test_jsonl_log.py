"""Files of JSON lines: torn lines, other configurations, two writers."""

from pathlib import Path

import pytest

from envs.messages import UsageError
from policies.training.jsonl_log import JsonlLog, digests_of

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


def test_a_file_of_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with JsonlLog(path, CONFIG, {"policy": "1", "verifier": "2"}) as results:
        results.append({"cell": "a", "problem": "1"})
    before = path.read_bytes()
    for models, which in (({"policy": "1", "verifier": "3"}, "verifier"), ({"policy": "3"}, "policy")):
        with pytest.raises(UsageError, match=f"is of another {which} under the same name"):
            JsonlLog(path, CONFIG, models)
    assert path.read_bytes() == before
    for known in ({"policy": "1", "verifier": "2"}, {"policy": "1"}, {}):
        with JsonlLog(path, CONFIG, known) as results:
            assert len(results.rows) == 1


def test_a_file_that_does_not_say_its_models_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with JsonlLog(path, CONFIG) as results:
        results.append({"cell": "a", "problem": "1"})
    with JsonlLog(path, CONFIG, {"policy": "1"}) as results:
        assert len(results.rows) == 1


def test_models_are_told_apart_where_they_say_what_they_are() -> None:
    class Known:
        def digest(self) -> str:
            return "0123"

    class Unknown:
        def digest(self) -> str:
            return ""

    assert digests_of(policy=Known(), verifier=Unknown(), other=object()) == {"policy": "0123"}
