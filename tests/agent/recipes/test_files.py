"""Files of recipes: read in bounded time and memory, data and never code, and no folder replaces what ships."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from agent.interface.cli import main
from agent.recipes.files import (
    find_config,
    has_recipe,
    parse_yaml,
    read_config,
    refuse_code,
    split_words,
    unquoted,
)
from agent.recipes.recipe import Component, Recipe, load_recipe, parse_component
from agent.study.study import load_study
from envs.messages import UsageError
from envs.options import load_dataclass
from tests.plugged import install

CONFIGS = Path(__file__).parents[3] / "configs"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    handler = logger.add(lambda message: said.append(str(message)), level="WARNING", format="{message}")
    yield said
    logger.remove(handler)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS + "temperature: *i", "more than 20,000 values or 40 levels, once every anchor (&) is written out"),
        (LAUGHS + "vote: {rule: *i}", "once every anchor (&) is written out"),
        ("temperature: &a [*a]", "once every anchor (&) is written out"),
        ("temperature: &a {b: *a}", "once every anchor (&) is written out"),
        (CHAIN, "once every anchor (&) is written out"),
        ("temperature: " + "[" * 5000, "more than 20,000 values, or 40 lists and mappings within each other"),
        ("temperature: " + "{a: " * 5000, "40 lists and mappings within each other"),
        ("\n".join("  " * i + "a:" for i in range(300)), "40 lists and mappings within each other"),
        ("seed: " + "9" * 5000, "a number of 5000 characters; at most 300 are read"),
        ("temperature: 0." + "9" * 5000, "a number of 5002 characters; at most 300 are read"),
        ("seed: 0x" + "f" * 5000, "a number of 5002 characters; at most 300 are read"),
        ("\n".join(f"k{i}: {i}" for i in range(12_000)), "more than 20,000 values"),
        ("x" * 300_000, "300,000 characters; at most 262,144 are read"),
        ("a: &a {b: 1}\nc: {<<: *a}", "merge keys (<<) are not read: write the keys out"),
        ("seed: !!int abc", "'abc' is no number"),
        ("seed: !!float 1:30", "'1:30' is no number"),
        ("seed: !!timestamp abc", "a value cannot be read"),
        ("seed: !!binary abc", "x, line 1"),
        ("{a: 1, a: 2}", "the key 'a' is given twice"),
        ("[a]: 1", "a list or a mapping as a key"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
def test_what_would_take_for_ever_is_one_clear_line(text: str, message: str) -> None:
    began = time.process_time()
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        parse_yaml(text, "x")
    assert time.process_time() - began < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_numbers_and_texts_are_as_yaml_1_2_has_them() -> None:
    text = "[1:30, 010, 0x1F, 0o17, 1_000, -3, 1e3, .5, -.inf, 2026-11-30, 2026-13-45, 12:30:45.5, 1.2.3, -, +7]"
    infinite = float("-inf")
    expected = ["1:30", 10, 31, 15, 1000, -3, 1000.0, 0.5, infinite, "2026-11-30", "2026-13-45", "12:30:45.5", "1.2.3"]
    assert parse_yaml(text, "x") == [*expected, "-", 7]
    assert parse_yaml("a: &a [1, 2]\nb: *a", "x") == {"a": [1, 2], "b": [1, 2]}  # anchors that are no bomb are read


def test_words_are_split_but_not_within_brackets() -> None:
    assert split_words("arithmetic levels=[2, 3],wide=true") == ["arithmetic", "levels=[2, 3]", "wide=true"]
    assert split_words("a  b={x: 1, y: [2, 3]} c='d, e'") == ["a", "b={x: 1, y: [2, 3]}", "c='d, e'"]
    assert split_words(" , ") == []
    assert parse_component("arithmetic levels=[2,3]") == Component("arithmetic", {"levels": [2, 3]})
    assert parse_component("toy.py:Toy size=2") == Component("toy.py:Toy", {"size": 2})
    with pytest.raises(UsageError, match=re.escape("cannot read 'branch' after 'beam'; expected OPTION=VALUE")):
        parse_component("beam branch")
    with pytest.raises(UsageError, match="beam branch, line 1"):
        parse_component("beam branch=[2")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("beam branch=2", Component("beam", {"branch": 2})),
        ("arithmetic levels=[2, 3]", Component("arithmetic", {"levels": [2, 3]})),
        ("beam", Component("beam")),
        ("hf:/my models/a b=c", Component("hf:/my models/a b=c")),  # a path
        ("runs/step 1,lr=2", Component("runs/step 1,lr=2")),
        ("beam branch", Component("beam branch")),
    ],
)
def test_a_name_with_options_is_written_in_a_file_as_on_the_command_line(written: str, read: Component) -> None:
    assert Component.from_config(written, "x") == read
    assert load_dataclass(Recipe, {"strategy": written}, "x").strategy == read


@pytest.mark.parametrize(
    ("typed", "meant"), [('"beam branch=2"', "beam branch=2"), ("'dvts'", "dvts"), ("a='b c'", "a='b c'"), ('"', '"')]
)
def test_quotes_around_all_of_it_are_those_of_a_shell(typed: str, meant: str) -> None:
    assert unquoted(typed) == meant


# ---------------------------------------------------------------------------------------------- files are data


@pytest.mark.parametrize(
    "config",
    [
        {"environment": {"name": "subprocess:run", "args": ["touch", "PWNED"]}},
        {"environment": "evil.py"},
        {"environment": "evil.py:Evil"},
        {"policy": "os:system"},
        {"policy": {"name": "evil:Evil"}},
        {"verifier": "evil.py"},
        {"verifier": {"name": "ensemble", "members": ["table", {"name": "evil:Evil"}]}},
        {"strategy": "evil:Evil"},
        {"environments": ["toy", "evil.py"]},
        {"policies": [{"name": "evil:Evil"}]},
        {"verifiers": ["evil:Evil"]},
        {"strategies": ["beam", {"name": "evil.py:Evil", "branch": 2}]},
        {"policy": {"name": "pair", "small": "evil.py", "large": "arithmetic-s"}},
        {"policy": {"name": "pair", "small": "arithmetic-s", "large": {"name": "evil:Evil"}}},
        {"policies": ["pair small=arithmetic-s large=evil:Evil"]},
        {"verifier": "ensemble members=[table,evil.py]"},
    ],
)
def test_a_file_may_not_name_code(config: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"which runs code; .* If you trust it, give --trust, or name it yourself"):
        refuse_code(config, "x.yaml")


@pytest.mark.parametrize(
    ("config", "option"),
    [
        ({"environment": {"name": "code", "unsandboxed": True}}, "unsandboxed=True"),
        ({"policy": {"name": "openai:m", "base_url": "http://x", "key_variable": "AWS_SECRET"}}, "key_variable="),
        ({"verifiers": [{"name": "openai:m", "key_variable": "AWS_SECRET"}]}, "key_variable="),
        ({"environment": {"name": "prime", "environment": "x", "python": "evil"}}, "python='evil'"),
        ({"environment": {"name": "prime", "environment": "x", "folder": "evil"}}, "folder='evil'"),
        ({"environment": "code unsandboxed=true"}, "unsandboxed=True"),
        ({"environments": ["toy", "prime environment=x python=evil"]}, "python='evil'"),
        ({"environment": "code", "curriculum": [{"until": 1, "options": {"unsandboxed": True}}]}, "unsandboxed=True"),
    ],
)
def test_a_file_may_not_open_the_sandbox_or_choose_a_secret(config: dict[str, object], option: str) -> None:
    with pytest.raises(UsageError, match=f"has {option}.*which a file may not decide"):
        refuse_code(config, "x.yaml")


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_what_ships_needs_no_trust(path: Path) -> None:
    assert read_config(str(path))[0]


def test_a_recipe_that_names_code_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("from pathlib import Path\nPath('PWNED').touch()\n")
    Path("call.yaml").write_text("environment: {name: 'subprocess:run', args: [touch, PWNED]}\n")
    Path("file.yaml").write_text("environment: evil.py\n")
    Path("study.yaml").write_text(
        "environments: [evil.py]\npolicies: [scripted]\nstrategies: [majority]\nbudgets: [4]\n"
    )
    for command in (
        ["solve", "--config", "call.yaml", "x"],
        ["solve", "--config", "file.yaml", "x"],
        ["eval", "--config", "file.yaml", "-n", "1"],
        ["calibrate", "--config", "file.yaml", "-n", "1"],
        ["study", "study.yaml"],
        ["solve", "--config", "call.yaml", "--trust", "x"],  # trusted, and still no environment
        ["solve", "--env", "subprocess:run", "--set", "environment.args=[touch, PWNED]", "x"],
    ):
        assert main(command) == 2, command
        assert capsys.readouterr().err.count("\n") == 1
        assert not Path("PWNED").exists(), command


def test_the_users_own_word_is_enough(file_of_toy: Path) -> None:
    recipe = file_of_toy.with_name("mine.yaml")
    recipe.write_text(f"environment: {file_of_toy}\npolicy: scripted\nverifier: table\nstrategy: beam\n")
    question = "14 with 1 3 7 10"
    assert main(["solve", "--config", str(recipe), question]) == 2
    assert main(["solve", "--config", str(recipe), "--trust", question]) == 0
    assert main(["solve", "--config", "toy", "--env", str(file_of_toy), question]) == 0
    assert main(["solve", "--config", "toy", "--set", f"environment={file_of_toy}", question]) == 0
    assert load_recipe(str(recipe), trust=True).environment.name == str(file_of_toy)
    study = file_of_toy.with_name("study.yaml")
    study.write_text(f"environments: [{file_of_toy}]\npolicies: [scripted]\nstrategies: [majority]\nbudgets: [4]\n")
    assert load_study(str(study), trust=True).environments[0].name == str(file_of_toy)


@pytest.fixture
def file_of_toy(tmp_path: Path) -> Path:
    file = tmp_path / "own_toy.py"
    file.write_text("from envs import Toy\nclass Own(Toy):\n    '''My own.'''\n")
    return file


# ------------------------------------------------------------------------------------------- which file is read


def test_the_working_folder_replaces_nothing_that_ships_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/arithmetic.yaml").write_text("seed: 7\n")
    Path("configs/mine.yaml").write_text("seed: 8\n")
    Path("arithmetic").write_text("seed: 9\n")
    assert find_config("arithmetic") == CONFIGS / "arithmetic.yaml"
    shown = str(CONFIGS / "arithmetic.yaml")
    assert warnings == [
        f"configs/arithmetic.yaml is not read for 'arithmetic', as {shown} comes first; "
        "--config configs/arithmetic.yaml reads it\n"
    ]
    assert load_recipe("configs/arithmetic.yaml").seed == 7
    assert load_recipe("mine").seed == 8
    assert load_recipe("./configs/mine.yaml").seed == 8
    assert len(warnings) == 1


def test_an_installed_environment_brings_its_recipe_and_its_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.planning.plan_file import plan_folders, user_plans

    file = install(tmp_path, monkeypatch)
    assert not has_recipe("purse")
    (file.parent / "configs").mkdir()
    recipe = file.parent / "configs" / "purse.yaml"
    recipe.write_text("environment: purse\npolicy: scripted\nverifier: table\nstrategy: beam\n")
    assert has_recipe("purse")
    assert find_config("purse") == recipe
    assert plan_folders()[-1] == recipe.parent / "plans"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert plan_folders()[0] == user_plans() == tmp_path / "data" / "stepwell" / "plans"
    assert main(["solve", "--env", "purse", "14 with 1 3 7 10"]) == 0
