"""A study tells its models from others under the same name: by all their files, or what a server calls them."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import policies.registry
import verifiers.registry
from agent.recipes.recipe import Component
from agent.study.results_db import StudyFile
from agent.study.run import measure, open_study, study_problems
from agent.study.storage.model_digests import model_digests
from agent.study.study import Study
from envs.messages import UsageError
from policies.training.jsonl_log import fingerprint

NONE = Component("none")


def study(policy: Component, verifier: Component = NONE, seeds: tuple[int, ...] = (0,)) -> Study:
    return Study(
        environments=(Component("arithmetic"),),
        policies=(policy,),
        verifiers=(verifier,),
        strategies=(Component("majority") if verifier.name == "none" else Component("best-of-n"),),
        budgets=(1,),
        seeds=seeds,
        n=1,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(policies.registry.WEIGHTS / "arithmetic-xs", tmp_path / "mine" / "checkpoint-500"))


def change_weights(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x01\x02")


def change_key(folder: Path, name: str, key: str, value: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": change_weights,
    "configuration": lambda folder: change_key(folder, "config.json", "rope_theta", 9999.0),
    "tokenizer": lambda folder: change_key(folder, "tokenizer.json", "version", "1.1"),
    "chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
    "another shard": lambda folder: (folder / "model-00002-of-00002.safetensors").write_bytes(b"w"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_model_that_was_changed_is_refused_with_both_digests(tmp_path: Path, folder: Path, what: str) -> None:
    out = tmp_path / "s.sqlite"
    measure(study(Component(str(folder))), out)
    with StudyFile(out) as file:
        (before,) = file.config["models"].values()
    bytes_before = out.read_bytes()
    CHANGES[what](folder)
    for seeds in ((0,), (0, 1)):
        with pytest.raises(UsageError, match=rf"models: .*{before}.* there, .* now"):
            measure(study(Component(str(folder)), seeds=seeds), out)
    assert out.read_bytes() == bytes_before


def test_a_sharded_verifier_and_an_ensemble_are_known_by_their_files(tmp_path: Path) -> None:
    prm = Path(shutil.copytree(verifiers.registry.WEIGHTS / "arithmetic-prm", tmp_path / "prm"))
    (prm / "model.safetensors").rename(prm / "model-00001-of-00001.safetensors")
    environments = {"arithmetic": study_problems(study(Component("arithmetic-xs")))["arithmetic"][0]}
    for verifier in (
        Component(f"hf:{prm}"),
        Component("ensemble", {"members": [{"name": f"hf:{prm}"}, "symbolic"]}),
        Component("arithmetic-prm", {"probe": f"{prm}/"}),
    ):
        mixed = study(Component("arithmetic-xs"), verifier)
        before = model_digests(mixed, environments)
        assert before["arithmetic-xs"]
        assert "symbolic" not in before
        with (prm / "model-00001-of-00001.safetensors").open("ab") as file:
            file.write(b"\0")
        after = model_digests(mixed, environments)
        assert before.keys() == after.keys()
        assert before != after


def test_a_gguf_file_is_known_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    environments: dict[str, Any] = {"arithmetic": None}
    found = set()
    for content in (b"GGUF one", b"GGUF two"):
        file.write_bytes(content)
        for name in (f"hf:{file}", f"vllm:{file}"):
            found.add((name, model_digests(study(Component(name)), environments)[name]))
    assert len(found) == 4
    assert len({digest for _, digest in found}) == 2


def test_a_model_of_a_hub_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    commits = iter(["a" * 40, "b" * 40])
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: f"/cache/snapshots/{next(commits)}/config.json")
    for commit in ("a", "b"):
        found = model_digests(study(Component("hf:some/model")), {"arithmetic": None})  # type: ignore[dict-item]
        assert found == {"hf:some/model": commit * 12}
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    assert model_digests(study(Component("hf:some/model")), {"arithmetic": None}) == {}  # type: ignore[dict-item]


class Served:
    """A server's only model."""

    name = ""

    def digest(self) -> str:
        return self.name

    def close(self) -> None:
        self.name = self.name


def test_the_only_model_of_a_server_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, served = tmp_path / "s.sqlite", Component("openai:", {"patience": 1})
    answers: Iterator[str] = iter(["qwen-7b", "llama-1b", "", "llama-1b"])
    given: list[Any] = []

    def load(name: str, environment: Any, **options: Any) -> Served:
        given.append(options)
        made = Served()
        if not (answer := next(answers)):
            raise ConnectionError("nobody is at home")
        made.name = answer
        return made

    monkeypatch.setattr(policies.registry, "load_policy", load)
    one = study(served)
    problems = study_problems(one)
    with open_study(one, out, problems) as file:
        assert file.config["models"] == {"openai: patience=1": "qwen-7b"}
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"qwen-7b.* there, .*llama-1b.* now"):
        open_study(replace(one, seeds=(0, 1)), out, problems)
    assert out.read_bytes() == before
    with open_study(one, out, problems) as file:  # it is down: it will be asked again when it is needed
        with pytest.raises(UsageError, match=r"model openai: patience=1: qwen-7b there, llama-1b now"):
            file.note_model("openai: patience=1", "llama-1b")
        file.note_model("openai: patience=1", "qwen-7b")
        file.note_model("openai: patience=1", "")
        file.note_model("another", "x")
    assert [options["patience"] for options in given] == [1.0] * 3
    with StudyFile(out) as file:
        assert file.config["models"] == {"openai: patience=1": "qwen-7b", "another": "x"}
        assert file.fact("fingerprint") == fingerprint(file.config)


def test_a_model_that_is_named_needs_no_asking() -> None:
    assert model_digests(study(Component("openai:qwen-7b")), {"arithmetic": None}) == {"openai:qwen-7b": "qwen-7b"}  # type: ignore[dict-item]


def test_a_file_of_an_older_version_goes_on_by_the_digests_that_it_has(tmp_path: Path, folder: Path) -> None:
    out, policy = tmp_path / "s.sqlite", Component(str(folder))
    measure(study(policy), out)
    with StudyFile(out) as file:
        config = {key: value for key, value in file.config.items() if key != "models"}
    with closing(sqlite3.connect(out)) as connection:
        connection.execute("UPDATE study SET value = ? WHERE key = 'config'", (json.dumps(config),))
        connection.execute("UPDATE study SET value = ? WHERE key = 'fingerprint'", (fingerprint(config),))
        connection.commit()
    old = out.read_bytes()
    measure(study(policy, seeds=(0, 1)), out)
    with StudyFile(out) as file:
        assert len(file.results()) == 2
    out.write_bytes(old)
    change_weights(folder)
    with pytest.raises(UsageError, match=r"weights: .* there, .* now"):
        measure(study(policy, seeds=(0, 1)), out)
    assert out.read_bytes() == old
