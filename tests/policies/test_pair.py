"""Two policies as one: who is asked, and what is charged."""

from typing import Any

import pytest

from agent.recipes.recipe import Component
from envs.toy import Toy
from policies.conformance import ask, check_policy
from policies.core import Policy, Propose
from policies.pair import PolicyPair
from policies.registry import check_options, load_policy
from policies.scripted import ScriptedPolicy

TOY = Toy()
STATE = TOY.initial(TOY.read("14 with 1 3 7 10"))


def pair() -> PolicyPair:
    small = ScriptedPolicy(TOY, lambda state: {"small": 1.0}, "small", 10)
    return PolicyPair(small, ScriptedPolicy(TOY, lambda state: {"large": 1.0}, "large", 70))


def test_the_large_one_is_asked_for_what_it_is_to_write_and_charged_by_its_size() -> None:
    both = pair()
    requests = [Propose((STATE,), ((1,),), scope=str(large), large=large) for large in (False, True)]
    small, large = ask(both, requests)
    assert (small.samples[0][0][0].text, large.samples[0][0][0].text) == ("small", "large")
    assert (small.usage.flops, large.usage.flops) == (2 * 10 * 2, 2 * 70 * 2)
    assert both.name == "small+large"


def test_it_is_a_policy() -> None:
    both = load_policy("pair", TOY, small="scripted", large={"name": "scripted", "parameters": 7})
    assert isinstance(both, Policy)
    check_policy(both, TOY, TOY.problems("train", 3))


@pytest.mark.parametrize("given", [{}, {"small": "scripted"}, {"small": "scripted", "large": {"name": "pair"}}])
def test_what_is_no_pair_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a pair has a small and a large policy, each a name"):
        check_options("pair", given)
    with pytest.raises(ValueError, match="a pair has a small and a large policy, each a name"):
        load_policy("pair", TOY, **given)
    assert Component.from_config({"name": "pair", **given}, "policy").name == "pair"


def test_a_wrong_option_of_one_of_them_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match="shufle"):
        check_options("pair", {"small": "scripted", "large": {"name": "scripted", "shufle": 1}})
