from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from envs.core import Environment, Problem, State, Step, render, transition
from policies.backends.lab import LabPolicy
from policies.conformance import ask, check_policy
from policies.core import Policy, Propose, Proposed
from policies.generation.sampling import certainties
from policies.models.errors import UnsupportedModel


@pytest.fixture
def policy(checkpoint: Callable[..., Path], chatter: Environment) -> LabPolicy:
    return LabPolicy(checkpoint("policy"), chatter, device="cpu", step_tokens=12)


def roots(environment: Environment, n: int) -> list[State]:
    return [environment.initial(problem) for problem in environment.problems("test", n)]


def one(state: State, *seeds: int, temperature: float = 1.0, steps: int | None = None, scope: str = "s") -> Propose:
    return Propose((state,), (seeds,), temperature, steps, scope)


def texts(reply: Proposed) -> list[list[tuple[str, ...]]]:
    return [[tuple(step.text for step in steps) for steps in samples] for samples in reply.samples]


def test_it_is_a_policy_and_conforms(policy: LabPolicy, chatter: Any) -> None:
    assert isinstance(policy, Policy)
    assert policy.poll() == []
    check_policy(policy, chatter, chatter.problems("test", 6))


def test_it_gives_the_transitions_that_it_asked_for(policy: LabPolicy, chatter: Any) -> None:
    """Of whole samples all, of which the search then asks for none again; of single steps none."""
    state = roots(chatter, 1)[0]
    whole, single = ask(policy, [one(state, *range(4)), one(state, *range(4), steps=1, scope="t")])
    for steps, transitions in zip(whole.samples[0], whole.transitions[0], strict=True):
        at = state
        for step, after in zip(steps, transitions, strict=True):
            assert after == chatter.step(at, step)
            at = after.state
    assert single.transitions == ()


def test_greedy_is_transformers_generate(policy: LabPolicy, checkpoint: Callable[..., Path], chatter: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint("policy"), dtype=torch.float32)
    for state in roots(chatter, 8):
        ids = torch.tensor([[token for part in policy.tokens.parts(chatter, state) for token in part]])
        made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        want = policy.tokens.decode(made[0, ids.shape[1] :].tolist()).partition("\n")[0]
        (reply,) = ask(policy, [one(state, 0, temperature=0.0, steps=1)])
        assert reply.samples[0][0][0].text == want


def test_logprobs_are_those_of_the_model_at_temperature_one(
    policy: LabPolicy, checkpoint: Callable[..., Path], chatter: Any
) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint("policy"), dtype=torch.float32)
    finishes = set()
    for state in roots(chatter, 12):
        (reply,) = ask(policy, [one(state, 5, temperature=0.7, steps=1)])
        (step,) = reply.samples[0][0]
        prompt = [token for part in policy.tokens.parts(chatter, state) for token in part]
        closing = {"step": policy.tokens.encode("\n"), "answer": (2,), "length": ()}[step.finish]
        new = [*policy.tokens.encode(step.text), *closing]
        if 3 in new or len(new) != step.tokens:  # special tokens were drawn, which text does not show
            continue
        with torch.inference_mode():
            logs = torch.log_softmax(model(torch.tensor([prompt + new])).logits[0], -1)
        want = sum(logs[len(prompt) - 1 + at, token].item() for at, token in enumerate(new))
        assert step.logprob == pytest.approx(want, abs=1e-3)
        finishes.add(step.finish)
    assert "step" in finishes


def test_a_sample_does_not_depend_on_the_batch_to_the_last_bit(policy: LabPolicy, chatter: Any) -> None:
    states = roots(chatter, 40)
    together = ask(policy, [one(state, 1, 2, 3, scope=str(i)) for i, state in enumerate(states)])
    for i in range(40):
        policy.cancel(str(i))
    for i in (0, 7, 39):
        (alone,) = ask(policy, [one(states[i], 3, 2, scope="alone")])
        assert alone.samples[0] == together[i].samples[0][:0:-1]


def test_few_rows_change_nothing_but_the_order(checkpoint: Callable[..., Path], chatter: Any) -> None:
    requests = [one(state, 1, 2, 3, scope=str(i)) for i, state in enumerate(roots(chatter, 9))]
    wide, narrow = (LabPolicy(checkpoint("policy"), chatter, device="cpu", rows=rows) for rows in (256, 2))
    assert [reply.samples for reply in ask(wide, requests)] == [reply.samples for reply in ask(narrow, requests)]


# -------------------------------------------------------------------------------------------------- steps and ends


def scripted(policy: LabPolicy, script: Sequence[int]) -> None:
    """Make the policy 'draw' given token ids: its head prefers, at each position, what a script says."""

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        wanted = torch.full((hidden.shape[0], policy.model.config.vocabulary), -50.0)
        loop = policy._proposals.loop
        for row in range(len(loop.active)):
            wanted[row, script[min(int(loop.drawn[row]), len(script) - 1)]] = 50.0
        return wanted

    policy.model.logits = logits  # type: ignore[method-assign]


def run_script(policy: LabPolicy, script: str, steps: int | None = None, tokens: int | None = None) -> tuple[Step, ...]:
    special = {"$": 2, "_": 0}  # the end and the padding token
    scripted(policy, [special[char] if char in special else policy.tokens.encode(char)[0] for char in script])
    (reply,) = ask(policy, [replace(one(State(Problem("p", "abc")), 0, steps=steps), tokens=tokens)])
    assert reply.usage.generated == sum(step.tokens for step in reply.samples[0][0])
    return reply.samples[0][0]


def test_steps_end_at_the_delimiter_and_the_sample_at_the_end_token(policy: LabPolicy) -> None:
    steps = run_script(policy, "ab\n\nc$")
    assert [(step.text, step.tokens, step.finish) for step in steps] == [
        ("ab", 3, "step"),
        ("", 1, "step"),
        ("c", 2, "answer"),
    ]


def test_an_answer_line_ends_the_sample_without_an_end_token(policy: LabPolicy) -> None:
    assert [step.text for step in run_script(policy, "a\n#1\nbbb\n")] == ["a", "#1"]


def test_an_empty_completion_is_one_empty_step(policy: LabPolicy) -> None:
    assert [(step.text, step.tokens, step.finish) for step in run_script(policy, "$")] == [("", 1, "answer")]


def test_a_step_that_never_ends_is_cut_and_a_policy_that_never_ends_is_truncated(policy: LabPolicy) -> None:
    steps = run_script(policy, "a" * 200)
    assert [(step.text, step.finish) for step in steps] == [("a" * 12, "length")] * 5  # chatter's max_steps


@pytest.mark.parametrize("temperature", [1e300, 1e-300])
def test_any_temperature_can_be_drawn_at(policy: LabPolicy, chatter: Any, temperature: float) -> None:
    (state,) = roots(chatter, 1)
    (reply,) = ask(policy, [one(state, *range(4), temperature=temperature, steps=1)])
    assert len({steps[0].text for steps in reply.samples[0]}) == (4 if temperature > 1 else 1)


@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 40])
def test_a_sample_is_cut_at_its_most_tokens(policy: LabPolicy, tokens: int) -> None:
    """It is the beginning of what it would have been; a step that is over by then is whole."""
    steps = run_script(policy, "ab\ncd\n$", tokens=tokens)
    wanted = {1: [("a", "length")], 2: [("ab", "length")], 3: [("ab", "step")], 5: [("ab", "step"), ("cd", "length")]}
    whole = [("ab", "step"), ("cd", "step"), ("", "answer")]
    assert [(step.text, step.finish) for step in steps] == wanted.get(tokens, whole)
    assert sum(step.tokens for step in steps) <= tokens


def test_max_steps_stops_early_and_keeps_the_rest_for_later(policy: LabPolicy) -> None:
    assert [step.text for step in run_script(policy, "a\nb\nc\n$", steps=2)] == ["a", "b"]


def test_special_tokens_leave_no_text_and_the_sample_goes_on_from_what_the_state_reads_as(policy: LabPolicy) -> None:
    # <pad> is drawn inside the first step: the state reads "ab", so the row starts over from it
    steps = run_script(policy, "a_b\nc$")
    assert [(step.text, step.tokens) for step in steps] == [("ab", 4), ("c", 2)]


def test_an_observation_is_read_before_the_next_step(checkpoint: Callable[..., Path], chatter: Any) -> None:
    class Echo(type(chatter)):  # type: ignore[misc]
        def step(self, state: State, step: Step) -> Any:
            if step.finish == "step" and not step.text.startswith("#"):
                return transition(state.then(replace(step, observation="obs")))
            return super().step(state, step)

    policy = LabPolicy(checkpoint("policy"), Echo(), device="cpu", step_tokens=12)
    state = Echo().initial(Problem("p", "abc"))
    (whole,) = ask(policy, [one(state, 0, temperature=0.0)])
    for step in whole.samples[0][0]:
        (single,) = ask(policy, [one(state, 0, temperature=0.0, steps=1)])
        assert single.samples[0][0][0].text == step.text
        state = Echo().step(state, step).state


# ----------------------------------------------------------------------------------------------- reuse and charges


def test_siblings_share_one_prefill_and_children_run_nothing_twice(policy: LabPolicy, chatter: Any) -> None:
    (state,) = roots(chatter, 1)
    length = sum(map(len, policy.tokens.parts(chatter, state)))
    (first,) = ask(policy, [one(state, *range(40), steps=1)])
    generated = sum(step.tokens for samples in first.samples for steps in samples for step in steps)
    assert (first.usage.prefilled, first.usage.generated) == (length - 1, generated)
    assert first.usage.flops == 2 * policy.parameters * (length - 1 + generated)
    (again,) = ask(policy, [one(state, 99, steps=1)])
    assert again.usage.prefilled == 0
    children = [state.then(steps[0]) for steps in first.samples[0] if steps[0].finish == "step"]
    children = [child for child in children if 3 not in policy.tokens.encode(child.texts[-1])]
    assert children
    for child in children:
        step = child.steps[-1]
        whole = len(policy.tokens.encode(step.text + "\n")) == step.tokens
        (reply,) = ask(policy, [one(child, 1, 2, steps=1)])
        assert reply.usage.prefilled == 0 or not whole


def test_a_state_from_elsewhere_runs_only_what_is_missing(policy: LabPolicy, chatter: Any) -> None:
    (state,) = roots(chatter, 1)
    (first,) = ask(policy, [one(state, 0, steps=1)])
    child = state.then(Step("abc")).then(Step("d"))
    (reply,) = ask(policy, [one(child, 0, steps=1)])
    assert reply.usage.prefilled == len("abc\nd\n")  # the prompt's last token was a decoding step, so it was not kept
    (other,) = ask(policy, [one(child, 0, steps=1, scope="other")])
    assert other.usage.prefilled == first.usage.prefilled + len("abc\nd\n")
    assert other.samples == reply.samples


@pytest.mark.parametrize("memory", [0, 5_000])
def test_without_memory_the_same_samples_at_a_greater_charge(
    checkpoint: Callable[..., Path], chatter: Any, memory: int
) -> None:
    small, large = (
        LabPolicy(checkpoint("policy"), chatter, device="cpu", step_tokens=12, memory=size)
        for size in (memory, 1 << 28)
    )
    prefilled = [0, 0]
    for root in roots(chatter, 6) * 2:
        state, running = root, True
        while running:
            a, b = (ask(policy, [one(state, 1, 2, 3, steps=1)])[0] for policy in (small, large))
            assert texts(a) == texts(b)
            for (x,), (y,) in zip(a.samples[0], b.samples[0], strict=True):
                assert x.logprob == pytest.approx(y.logprob, abs=1e-4)
            prefilled[0] += a.usage.prefilled
            prefilled[1] += b.usage.prefilled
            after = chatter.step(state, a.samples[0][0][0])
            state, running = after.state, after.status == "running"
    assert prefilled[0] > prefilled[1]
    assert small._proposals.model.prefixes.bytes <= memory


def test_cancel_drops_requests_and_memory_of_one_scope_only(policy: LabPolicy, chatter: Any) -> None:
    states = roots(chatter, 6)
    requests = [one(state, *range(50), scope="odd" if i % 2 else "even") for i, state in enumerate(states)]
    want = [reply.samples for reply in ask(policy, requests[::2])]
    for ticket, request in enumerate(requests):
        policy.submit(ticket, request)
    policy.poll()
    policy.cancel("odd")
    replies: dict[int, Any] = {}
    while len(replies) < 3:
        replies |= dict(policy.poll())
    assert [replies[ticket].samples for ticket in (0, 2, 4)] == want
    policy.cancel("even")
    prefixes, active = policy._proposals.model.prefixes, policy._proposals.loop.active
    assert (len(prefixes), prefixes.bytes, active, policy.poll()) == (0, 0, [], [])


def test_close_empties_everything(policy: LabPolicy, chatter: Any) -> None:
    policy.submit(0, one(roots(chatter, 1)[0], 1, 2))
    policy.close()
    assert policy.poll() == []
    assert len(policy._proposals.model.prefixes) == 0


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (one(State(Problem("long", "a" * 200)), 0), "takes 202 tokens.* 1 to 127"),
        (one(State(Problem("p", "a")), 0, temperature=-1.0), "temperature -1"),
        (one(State(Problem("p", "a")), 0, steps=0), "max_steps 0"),
        (replace(one(State(Problem("p", "a")), 0), tokens=0), "tokens 0"),
        (Propose((State(Problem("p", "a")),), ()), "0 tuples of seeds for 1 states"),
    ],
)
def test_bad_requests_are_refused_when_submitted(policy: LabPolicy, request_: Propose, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy.submit(0, request_)
    assert policy.poll() == []
    policy.submit(0, one(State(Problem("p", "a")), 0))
    with pytest.raises(ValueError, match="ticket 0 is in use"):
        policy.submit(0, one(State(Problem("p", "a")), 0))


def test_a_sample_that_fills_the_context_is_cut(policy: LabPolicy) -> None:
    scripted(policy, policy.tokens.encode("a"))
    (reply,) = ask(policy, [one(State(Problem("p", "a" * 110)), 0)])
    steps = reply.samples[0][0]
    assert steps[-1].finish == "length"
    assert 111 + 1 + sum(step.tokens for step in steps) <= 128 + 1


def test_no_samples_wanted_is_an_answer_too(policy: LabPolicy) -> None:
    (reply,) = ask(policy, [Propose((), ())])
    assert reply.samples == ()


def test_a_verifier_is_no_policy(checkpoint: Callable[..., Path], chatter: Any) -> None:
    with pytest.raises(UnsupportedModel, match="not a policy"):
        LabPolicy(checkpoint("verifier"), chatter)


# ------------------------------------------------------------------------------------------------------- revision


def test_earlier_attempts_are_read_as_they_are_rendered(policy: LabPolicy, chatter: Any) -> None:
    (root,) = roots(chatter, 1)
    shown = replace(root, attempts=((Step("ab"), Step("#1")), (Step("#2"),)))
    text = render(chatter, shown.then(Step("c")))
    ids = tuple(token for part in policy.tokens.parts(chatter, shown.then(Step("c"))) for token in part)
    assert ids == (1, *policy.tokens.encode(text))
    plain, revised = ask(policy, [one(root, *range(8), scope="a"), one(shown, *range(8), scope="b")])
    assert texts(plain) != texts(revised)
    assert texts(revised) == texts(ask(policy, [one(shown, *range(8), scope="c")])[0])
    (step,) = ask(policy, [one(shown, 0, steps=1, scope="d")])
    assert step.usage.prefilled == sum(map(len, policy.tokens.parts(chatter, shown))) - 1  # all is paid for


def test_of_attempts_that_do_not_fit_the_latest_are_shown(policy: LabPolicy, chatter: Any) -> None:
    (root,) = roots(chatter, 1)
    long, short = tuple(Step("abcdefgh" * 2) for _ in range(5)), (Step("#1"),)
    crowded = replace(root, attempts=(long, short))
    (reply,) = ask(policy, [one(crowded, *range(8), scope="a")])
    assert texts(reply) == texts(ask(policy, [one(replace(root, attempts=(short,)), *range(8), scope="b")])[0])
    (none,) = ask(policy, [one(replace(root, attempts=(short, long)), *range(8), scope="c")])
    assert texts(none) == texts(ask(policy, [one(root, *range(8), scope="d")])[0])


def test_it_records_how_sure_it_is(policy: LabPolicy, checkpoint: Callable[..., Path], chatter: Any) -> None:
    """Of each token, by the distribution that transformers gives; and it draws what it drew without."""
    state = roots(chatter, 1)[0]
    (before,) = ask(policy, [one(state, 1, 2, scope="before")])
    policy.record_confidence(3)
    (reply,) = ask(policy, [one(state, 1, 2)])
    assert reply == before
    model = AutoModelForCausalLM.from_pretrained(checkpoint("policy"), dtype=torch.float32)
    (step, *_), _ = reply.samples[0]
    ids = [token for part in policy.tokens.parts(chatter, state) for token in part]
    own = list(policy.tokens.encode(step.text + chatter.delimiter))
    assert len(step.certainty) == step.tokens == len(own)
    with torch.inference_mode():
        logits = model(torch.tensor([ids + own])).logits[0, len(ids) - 1 : -1].float()
    for found, expected in zip(step.certainty, certainties(logits, 3), strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="distinct samples have no confidences"):
        policy.submit(9, replace(one(state, 1), distinct=True))
