"""What a model reads from memory, in numbers worked out by hand."""

from types import SimpleNamespace

from envs.core import Problem, State, Step
from policies.core import Propose, Proposed
from policies.generation.requests import Job
from policies.memory_traffic import position_size, positions_read


def test_the_keys_and_values_of_a_token() -> None:
    ours = SimpleNamespace(layers=3, kv_heads=2, head_dim=16)
    theirs = SimpleNamespace(num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, hidden_size=128)
    assert position_size(ours) == position_size(theirs) == 2 * 3 * 2 * 16
    assert position_size(SimpleNamespace(num_hidden_layers=3)) == 0


def test_positions_are_those_before_each_new_token() -> None:
    assert positions_read(10, 0, 3) == 10 + 11 + 12
    assert positions_read(10, 2, 3) == 12
    assert positions_read(10, 3, 3) == 0


def reply(distinct: bool) -> Proposed:
    """Two samples of five and three tokens, after a prompt of ten."""
    state = State(Problem("p", "?"))
    job = Job.of(1, Propose((state,), ((1, 2),), distinct=distinct), ())
    job.prefilled = 9
    step = (Step("a", 5),)
    assert not job.finish((0, 0), step, 5, context=10)
    assert job.finish((0, 1), step, 3, known=1 if distinct else 0, context=10)
    made = job.reply(1000, 4)
    assert isinstance(made, Proposed)
    return made


def test_samples_of_a_request_share_the_passes_that_read_the_weights() -> None:
    # one pass for the prompt, five for the longer sample; keys of 10..14 and of 10..12 positions, 4 numbers each
    assert reply(False).usage.reads == 1000 * (1 + 5) + 4 * (60 + 33)


def test_distinct_samples_wait_for_each_other() -> None:
    # five passes, then two, as the first token of the second sample is known; keys of 10..14 and of 11 and 12
    assert reply(True).usage.reads == 1000 * (1 + 5 + 2) + 4 * (60 + 23)
