"""Recipes: defaults, overrides, and errors that name the nearest right word."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.recipes.files import as_solving, find_config, override, parse_yaml, read_config
from agent.recipes.recipe import Component, Recipe, load_recipe, parse_budget, parse_component, write_budget
from agent.search.budget import Budget
from envs.messages import UsageError
from envs.options import load_dataclass
from policies.training.jsonl_log import fingerprint
from policies.training.train import PolicyRecipe
from verifiers.voting import Vote

CONFIGS = Path(__file__).parents[3] / "configs"


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    kind: Literal["fast", "slow"] = "fast"


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = dataclasses.field(default_factory=Inner)
    sizes: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "a")
    limit: float | None = None
    on: bool = False
    parts: Sequence[Inner] = ()


def test_the_default_recipe_is_what_its_file_says() -> None:
    assert load_recipe("arithmetic") == dataclasses.replace(
        Recipe(), environment=Component("arithmetic", {"levels": [1, 2, 3, 4, 5]})
    )


RECIPES = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("training/*.yaml")])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    content, where = read_config(str(path))
    if path.stem.startswith("train-policy-"):
        assert load_dataclass(PolicyRecipe, content, where).name
    elif path.stem.startswith("train-prm-"):
        from verifiers.training.recipe import PrmRecipe

        assert load_dataclass(PrmRecipe, as_solving(content), where).name
    else:
        assert load_recipe(str(path)).policy.name


def test_a_recipe_of_training_learns_for_a_recipe_of_solving() -> None:
    made = as_solving({"name": "x", "solving": "gsm8k-smollm2", "temperature": 0.5})
    solving = load_recipe("gsm8k-smollm2")
    assert Component.from_config(made["environment"], "environment") == solving.environment
    assert Component.from_config(made["policy"], "policy") == solving.policy
    assert made.keys() == {"name", "environment", "policy", "temperature"}
    assert made["temperature"] == 0.5  # what it says itself holds
    assert as_solving({"name": "x"}) == {"name": "x"}
    with pytest.raises(UsageError, match="did you mean 'gsm8k-smollm2'"):
        as_solving({"solving": "gsm8k-smolm2"})


def test_a_budget_may_be_a_number_of_samples(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("budget: 4\n")
    assert load_recipe(str(path)).budget == Budget(samples=4)
    assert load_recipe(str(path), ["budget.seconds=2"]).budget == Budget(samples=4, seconds=2)
    assert load_recipe(str(path), ["budget=2.5"]).budget == Budget(samples=2.5)
    for wrong in ("[4]", "true", "many"):
        path.write_text(f"budget: {wrong}\n")
        with pytest.raises(UsageError, match=r"expected a number \(samples\) or a mapping"):
            load_recipe(str(path))
    path.write_text("budget: 0\n")
    with pytest.raises(UsageError, match=r"budget samples=0\.0 given; allowed: a number above 0"):
        load_recipe(str(path))


def test_a_recipe_survives_its_config() -> None:
    recipe = load_recipe("arithmetic", ["strategy=beam", "strategy.branch=2", "budget.seconds=5", "vote.rule=max"])
    assert recipe.strategy == Component("beam", {"branch": 2})
    assert recipe.budget == Budget(samples=16, seconds=5)
    assert load_dataclass(Recipe, recipe.to_config(), "again") == recipe
    assert load_dataclass(Recipe, Recipe().to_config(), "again") == Recipe()


def test_nested_values_are_read_and_typed() -> None:
    mapping = {"name": "x", "inner": {"rate": 1}, "sizes": [1, 2.0], "pair": [3, "b"], "parts": [{"kind": "slow"}]}
    outer = load_dataclass(Outer, mapping, "test")
    assert outer == Outer("x", Inner(1.0), (1, 2), (3, "b"), None, False, (Inner(kind="slow"),))
    assert isinstance(outer.inner.rate, float)
    assert isinstance(outer.sizes[1], int)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"nam": "x"}, "test: unknown key 'nam'; did you mean 'name'? allowed: name, inner, sizes"),
        ({"name": "x", "inner": {"rat": 1}}, "test: unknown key 'inner.rat'; did you mean 'rate'? allowed: rate, kind"),
        ({}, "test: 'name' must be given"),
        ({"name": 3}, "test: 'name' is 3; expected a text"),
        ({"name": "x", "on": 1}, "'on' is 1; expected true or false"),
        ({"name": "x", "limit": "many"}, "'limit' is 'many'; expected a number"),
        ({"name": "x", "limit": True}, "'limit' is True; expected a number"),
        ({"name": "x", "limit": float("nan")}, "expected a number"),
        ({"name": "x", "sizes": [1, 2.5]}, "'sizes[1]' is 2.5; expected a whole number"),
        ({"name": "x", "sizes": 3}, "'sizes' is 3; expected a list, each a whole number"),
        ({"name": "x", "pair": [1]}, "expected a list of a whole number, a text"),
        ({"name": "x", "inner": "fast"}, "'inner' is 'fast'; expected a mapping"),
        ({"name": "x", "inner": {"kind": "slo"}}, "'inner.kind' is 'slo'; did you mean 'slow'? allowed: fast, slow"),
        ({"name": "x", "parts": [{"rate": "high"}]}, "'parts[0].rate' is 'high'; expected a number"),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_dataclass(Outer, mapping, "test")
    assert message in str(caught.value)


def test_a_number_out_of_its_range_names_the_source() -> None:
    with pytest.raises(UsageError, match=r"mine.yaml: 'temperature' is -1; expected a number, at least 0"):
        load_dataclass(Recipe, {"temperature": -1}, "mine.yaml")


def test_overrides_keep_the_name_of_a_component_and_a_new_name_drops_its_options() -> None:
    assert override({"strategy": "beam"}, ["strategy.branch=2"]) == {"strategy": {"name": "beam", "branch": 2}}
    assert override({"strategy": {"name": "beam", "branch": 2}}, ["strategy=mcts"]) == {"strategy": "mcts"}
    given_one = {"budget": {"samples": 4}}
    assert override(given_one, ["budget.seconds=1e-3"]) == {"budget": {"samples": 4, "seconds": 0.001}}
    assert given_one == {"budget": {"samples": 4}}
    for wrong in ("strategy", "=3", "a..b=1"):
        with pytest.raises(UsageError, match="expected KEY=VALUE"):
            override({}, [wrong])


def test_yaml_reads_exponents_and_refuses_a_key_given_twice() -> None:
    assert parse_yaml("a: 1e6\nb: 1e-3\nc: -2.5e3\nd: e3\n", "x") == {"a": 1e6, "b": 1e-3, "c": -2500.0, "d": "e3"}
    with pytest.raises(UsageError, match=r"x, line 1: the key 'a' is given twice"):
        parse_yaml("a: 1\na: 2\n", "x")
    with pytest.raises(UsageError, match=r"x, line 3"):
        parse_yaml("a: 1\nb: [\n", "x")
    with pytest.raises(UsageError):
        parse_yaml("!!python/object/apply:os.system ['true']", "x")


def test_recipes_are_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("arithmetic") == CONFIGS / "arithmetic.yaml"
    (tmp_path / "mine.yaml").write_text("sede: 7\n")
    with pytest.raises(UsageError, match=r"mine.yaml: unknown key 'sede'; did you mean 'seed'\?"):
        load_recipe("mine.yaml")
    with pytest.raises(UsageError, match=r"no recipe 'arithmetc'; did you mean 'arithmetic'\?"):
        load_recipe("arithmetc")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(UsageError, match="expected keys and values, found list"):
        load_recipe("list.yaml")


def test_components_are_typed_as_one_reads_them() -> None:
    assert parse_component("beam branch=2, width=8") == Component("beam", {"branch": 2, "width": 8})
    assert parse_component(Component("beam", {"branch": 2}).label) == Component("beam", {"branch": 2})
    for wrong in ("", "branch=2"):
        with pytest.raises(UsageError, match="expected a name"):
            parse_component(wrong)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("16", Budget(samples=16)),
        ("samples=16,seconds=5", Budget(samples=16, seconds=5)),
        ("seconds=0.5 flops=1e12", Budget(seconds=0.5, flops=1e12)),
        ("tokens=20_000", Budget(tokens=20000)),
    ],
)
def test_budgets_are_typed_as_one_reads_them(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget
    assert parse_budget(write_budget(budget)) == budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty budget"),
        ("secs=5", "unknown key 'secs'"),
        ("many", "'samples' is 'many'; expected a number"),
        ("4,samples=8", "'samples' is given twice"),
        ("flops=1e9 flops=1e9", "'flops' is given twice"),
    ],
)
def test_a_wrong_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    assert message in str(caught.value)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers())))
def test_the_fingerprint_does_not_depend_on_the_order_of_keys(config: dict[str, object]) -> None:
    assert fingerprint(config) == fingerprint(dict(reversed(config.items())))
    assert fingerprint(config) != fingerprint({**config, "one more": 1})


def test_the_vote_of_a_recipe_is_checked() -> None:
    assert load_recipe("arithmetic", ["vote.rule=max", "vote.aggregate=min"]).vote == Vote("max", "min")
    with pytest.raises(UsageError, match=r"'vote.aggregate' is 'prod'; did you mean 'product'\?"):
        load_recipe("arithmetic", ["vote.aggregate=prod"])
