"""Gymnasium environments: states restored by replay, actions read strictly, and the kit on a real one."""

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("gymnasium", reason="gymnasium is not installed (extra: gymnasium)")

from envs.adapters.episodes import Episodes, Reply
from envs.adapters.gymnasium import _action_of, written
from envs.conformance import check_environment
from envs.core import State, Step, UnreadableQuestion
from envs.registry import UnusableEnvironment, load_environment

WAY = ("2", "2", "1", "1", "1", "2")  # over the lake of four by four


def lake(**options: Any) -> Any:
    return load_environment("gymnasium", env="FrozenLake-v1", config={"is_slippery": False}, **options)


def walk(environment: Any, actions: tuple[str, ...]) -> tuple[State, str]:
    state, status = environment.initial(environment.read("seed 3")), "running"
    for action in actions:
        made = environment.step(state, Step(action))
        state, status = made.state, made.status
    return state, status


def test_a_solved_episode_proves_itself() -> None:
    environment = lake()
    state, status = walk(environment, WAY)
    assert status == "terminated"
    assert [step.observation for step in state.steps] == ["1", "2", "6", "10", "14", "15"]
    answer = environment.answer(state)
    assert answer == "; ".join(WAY)
    assert environment.check(state.problem, answer)
    assert not environment.check(state.problem, "1; 1")
    assert not environment.check(state.problem, "1; nonsense")


def test_any_state_can_be_branched() -> None:
    environment = lake()
    state, _ = walk(environment, WAY[:4])
    others = [environment.step(state, Step(action)).state.steps[-1].observation for action in ("0", "1", "3", "1")]
    assert others == ["9", "14", "6", "14"]
    hole, status = walk(environment, ("1", "2"))
    assert (hole.steps[-1].observation, status) == ("5", "truncated")


@pytest.mark.parametrize("text", ["4", "-1", "1.0", "true", "north", "1; 1", "[1]", "", "9" * 5000, "[" * 1500])
def test_what_is_no_action_ends_the_trajectory(text: str) -> None:
    environment = lake()
    state = environment.initial(environment.read("seed 3"))
    assert environment.step(state, Step(text)).status == "truncated"


class Dice:
    """Every action is answered otherwise than before."""

    title, rules = "dice", "throw"

    def __init__(self) -> None:
        self.thrown = 0

    def begin(self) -> Any:
        return self

    def reset(self, seed: int) -> str:
        return ""

    def act(self, action: Any) -> Reply:
        self.thrown += 1
        return Reply(str(self.thrown), 0.0, False)

    def close(self) -> None:
        pass

    def read(self, text: str) -> Any:
        return text

    def options(self) -> dict[str, float]:
        return {}


def test_a_step_keeps_all_that_the_policy_said_of_it() -> None:
    environment = lake()
    step = Step("1", 5, -0.5, "step", thinking="<think>down</think>", certainty=((1.0, 2.0),), closing="\n")
    (after,) = environment.step(environment.initial(environment.read("7")), step).state.steps
    assert after.observation
    assert replace(after, observation="") == step
    assert after.certainty == step.certainty


def test_an_environment_that_is_not_the_same_again_is_told() -> None:
    environment = Episodes("dice", Dice(), 1.0, 10, 1.0)
    first = environment.step(environment.initial(environment.read("1")), Step("a")).state
    environment.step(first, Step("b"))
    with pytest.raises(ValueError, match=r"the action 'a' was answered with '1', and on replay with '3'"):
        environment.step(first, Step("c"))


def test_actions_of_other_spaces_are_json() -> None:
    from gymnasium import spaces

    box = spaces.Box(-1, 1, (2,))
    both = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Tuple((box, spaces.Text(4)))})
    assert both.contains(_action_of(both, '{"a": 2, "b": [[0.5, -1], "x"]}'))
    assert not box.contains(_action_of(box, "[2, 0]"))
    for text in ('{"a": 2}', "[NaN", "1e999"):
        with pytest.raises(ValueError, match=r"fit|Expecting|delimiter"):
            _action_of(both, text)
    assert written({"a": box.low}) == '{"a": [-1.0, -1.0]}'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "FrozenLake-v2"}, "did you mean 'FrozenLake-v1'"),
        ({"env": "os:Any-v0"}, "names a module, whose code would run"),
        ({"env": "CliffWalking-v1"}, "give a goal"),
        ({"env": "FrozenLake-v1", "config": {"size": 4}}, "unexpected keyword argument 'size'"),
    ],
)
def test_what_cannot_be_made_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnusableEnvironment, match=message):
        load_environment("gymnasium", **options)


def test_only_seeds_are_read() -> None:
    with pytest.raises(UnreadableQuestion, match="'seed 7'"):
        lake().read("over the lake, please")


def test_the_kit_finds_nothing() -> None:
    check_environment(lake(max_steps=12))
