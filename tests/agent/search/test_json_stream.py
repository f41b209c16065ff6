"""Long lists are written and read a little at a time, with the result that json itself would give."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.search import json_stream
from agent.search.json_stream import read_object, write_object

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(path: Path) -> tuple[dict[str, Any], list[Any]]:
    found: list[Any] = []
    return read_object(path, {"long": found.append}, lambda head: None), found


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text().filter(lambda name: name != "long"), values, max_size=4),
    st.lists(values, max_size=9),
    st.integers(1, 30),
    st.sampled_from([None, 1]),
)
def test_what_is_written_is_what_json_writes_and_is_read_again(
    tmp_path: Path, head: dict[str, Any], long: list[Any], chunk: int, indent: int | None
) -> None:
    path = tmp_path / "file.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        patch.setattr(json_stream, "_TOGETHER", 2)
        write_object(path, head, {"long": long})
        assert path.read_text() == json.dumps(head | {"long": long}) + "\n"
        path.write_text(json.dumps({"long": long} | head, indent=indent))
        assert read(path) == (head, long)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' in place of '{'"),
        ("[]", "in place of '{'"),
        ('{"long": {}}', "in place of '\\['"),
        ('{"long": [1, 2', "in place of '\\]'"),
        ('{"long": [1, ]}', "Expecting value"),
        ('{"long": [1] "a": 1}', "in place of '}'"),
        ('{"long": [], "long": []}', "'long' given"),
        ('{"a": 1, "a": 2, "long": []}', "'a' given"),
        ('{"long": []} x', "'x' after the end"),
        ('{"long": [' + "[" * 100_000, "nested too deeply"),
        ('{3: 4, "long": []}', "3 given"),
    ],
)
def test_what_is_no_such_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_a_list_that_is_missing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"a": 1}')
    with pytest.raises(KeyError, match="long"):
        read(path)


def test_a_value_that_never_ends_is_read_a_few_times_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 10)
    path = tmp_path / "file.json"
    path.write_text('{"long": ["' + "x" * 100_000)
    tried, more = 0, json_stream._Text._more

    def counted(text: json_stream._Text) -> None:
        nonlocal tried
        tried += 1
        more(text)

    monkeypatch.setattr(json_stream._Text, "_more", counted)
    with pytest.raises(ValueError, match="Unterminated string"):
        read(path)
    assert tried < 40


def test_a_pipe_can_be_written_to(tmp_path: Path) -> None:
    write_object(Path("/dev/null"), {"a": 1}, {"long": [1, 2]})
    assert Path("/dev/null").exists()
    assert not Path("/dev/null").is_file()
