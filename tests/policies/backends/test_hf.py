import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from loguru import logger
from transformers import AutoModelForCausalLM, AutoTokenizer

from envs.arithmetic import Arithmetic
from envs.core import Environment, Problem, State, Step
from policies.backends.hf import TransformersPolicy
from policies.backends.lab import LabPolicy
from policies.conformance import ask, check_policy
from policies.core import Policy, Propose, Proposed
from policies.generation.options import SamplingOptions
from policies.generation.thought_probe import ThoughtProbe
from policies.memory_traffic import position_size, positions_read
from policies.models.pretrained import UnusableModel
from policies.registry import WEIGHTS
from tests.policies.families import DEEPSEEK_R1, QWEN3, Family, tokenizer_of

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.35,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True,
}  # fmt: skip
WINDOW: dict[str, Any] = {"sliding_window": 6}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),  # SmolLM2 and DeepSeek-R1's distillations too
    "mistral": ("MistralConfig", WINDOW),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "gemma": ("GemmaConfig", {}),
    "gemma3": ("Gemma3TextConfig", WINDOW | {"layer_types": ["sliding_attention", "full_attention"] * 2}),
}


@pytest.fixture(scope="session")
def folder(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of random models by architecture, with the tokenizer of twenty characters, or a family's."""

    @cache
    def make(architecture: str, family: Family | None = None, **options: Any) -> Path:
        made = tmp_path_factory.mktemp(architecture)
        tokenizer = tokenizer_of(family) if family else AutoTokenizer.from_pretrained(checkpoint("policy"))
        tokenizer.save_pretrained(made)
        kind, own = ARCHITECTURES[architecture]
        sizes = SIZES | own | {"vocab_size": len(tokenizer)} | options
        sizes["num_hidden_layers"] = len(sizes.get("layer_types", "abc"))
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(getattr(transformers, kind)(**sizes)).save_pretrained(made)
        return made

    return make


def policy_of(folder: Path, environment: Environment, **options: Any) -> TransformersPolicy:
    own = {key: options.pop(key) for key in ("rows", "memory", "name", "dtype") if key in options}
    return TransformersPolicy(
        folder, environment, SamplingOptions(**{"step_tokens": 12} | options), device="cpu", **own
    )


@pytest.fixture
def policy(folder: Callable[..., Path], chatter: Environment) -> TransformersPolicy:
    return policy_of(folder("llama"), chatter)


def roots(environment: Environment, n: int) -> list[State]:
    return [environment.initial(problem) for problem in environment.problems("test", n)]


def one(state: State, *seeds: int, temperature: float = 1.0, steps: int | None = None, scope: str = "s") -> Propose:
    return Propose((state,), (seeds,), temperature, steps, scope)


def texts(replies: Sequence[Proposed]) -> list[Any]:
    return [[[step.text for step in steps] for steps in samples] for reply in replies for samples in reply.samples]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_architecture_conforms(architecture: str, folder: Callable[..., Path], chatter: Any) -> None:
    policy = policy_of(folder(architecture), chatter)
    assert isinstance(policy, Policy)
    check_policy(policy, chatter, chatter.problems("test", 2), patience=600)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_samples_and_logprobs_are_those_of_the_model(
    architecture: str, folder: Callable[..., Path], chatter: Any
) -> None:
    """In one batch of different lengths, with windows shorter than the text: as one forward pass over each says."""
    policy = policy_of(folder(architecture), chatter)
    model = AutoModelForCausalLM.from_pretrained(folder(architecture))
    states = roots(chatter, 4)
    greedy = ask(policy, [one(state, 0, temperature=0.0, scope=str(i)) for i, state in enumerate(states)], 600)
    for state, reply in zip(states, greedy, strict=True):
        for step in reply.samples[0][0][:2]:
            ids = torch.tensor([policy.dialogue.ids(state)])
            with torch.inference_mode():
                made = model.generate(ids, do_sample=False, max_new_tokens=step.tokens)
                logs = torch.log_softmax(model(made).logits[0, ids.shape[1] - 1 : -1].float(), -1)
            new = made[0, ids.shape[1] :]
            assert step.text == policy.dialogue.decode(new.tolist()).strip("\n")
            assert step.logprob == pytest.approx(logs.gather(1, new[:, None]).sum().item(), abs=1e-3)
            state = chatter.step(state, step).state


def test_a_sample_does_not_depend_on_the_batch(folder: Callable[..., Path], chatter: Any) -> None:
    wide, narrow = (policy_of(folder("qwen2"), chatter, rows=rows) for rows in (64, 2))
    requests = [one(state, 1, 2, 3, scope=str(i)) for i, state in enumerate(roots(chatter, 9))]
    assert texts(ask(wide, requests, 600)) == texts(ask(narrow, requests, 600))


# ----------------------------------------------------------------------------------------------- 8-bit integers


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_architecture_conforms_in_8_bit_integers(
    architecture: str, folder: Callable[..., Path], chatter: Any
) -> None:
    policy = policy_of(folder(architecture), chatter, dtype="int8")
    assert policy.parameters == policy_of(folder(architecture), chatter).parameters  # what FLOPs are charged by
    check_policy(policy, chatter, chatter.problems("test", 2), patience=600)


def test_a_trained_model_writes_nearly_the_same_in_8_bit_integers() -> None:
    environment = Arithmetic()
    requests = [one(state, 0, temperature=0.0, scope=state.problem.id) for state in roots(environment, 40)]
    plain, rounded = (
        ask(policy_of(WEIGHTS / "arithmetic-s", environment, dtype=dtype), requests, 600)
        for dtype in ("float32", "int8")
    )
    firsts = [(a.samples[0][0][0], b.samples[0][0][0]) for a, b in zip(plain, rounded, strict=True)]
    same = [(a, b) for a, b in firsts if a.text == b.text]
    assert len(same) >= 36
    assert all(a.logprob == pytest.approx(b.logprob, abs=0.3) for a, b in same)
    assert any(a.logprob != b.logprob for a, b in same)  # it was rounded


@pytest.mark.parametrize(("emulated", "dtype", "warned"), [(1, "bfloat16", 1), (0, "bfloat16", 0), (1, "float32", 0)])
def test_bfloat16_on_a_processor_without_it_is_told(
    emulated: int, dtype: str, warned: int, folder: Callable[..., Path], chatter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policies.models.linears._is_emulated", lambda: bool(emulated))
    told: list[str] = []
    sink = logger.add(told.append, level="WARNING", format="{message}")
    try:
        policy_of(folder("llama"), chatter, dtype=dtype)
    finally:
        logger.remove(sink)
    assert len(told) == warned
    assert all("int8 or float32 is several times as fast" in each for each in told)


# ---------------------------------------------------------------------------------------------------------- reuse


def test_siblings_share_one_prefill_and_children_need_none(policy: TransformersPolicy, chatter: Any) -> None:
    (root,) = roots(chatter, 1)
    (reply,) = ask(policy, [one(root, *range(6), steps=1)], 600)
    assert reply.usage.prefilled == len(policy.dialogue.ids(root)) - 1
    assert reply.usage.flops == 2 * policy.parameters * (reply.usage.prefilled + reply.usage.generated)
    steps = [steps[0] for steps in reply.samples[0] if steps[0].finish == "step"]
    children = [chatter.step(root, step).state for step in steps if not step.text.startswith("#")]
    assert children
    (after,) = ask(policy, [Propose(tuple(children), ((7, 8),) * len(children), 1.0, 1, "s")], 600)
    assert after.usage.prefilled == 0
    (other,) = ask(policy, [one(children[0], 7, steps=1, scope="other")], 600)
    assert other.usage.prefilled == len(policy.dialogue.ids(children[0])) - 1  # nothing is shared between searches
    assert other.samples[0][0][0].text == after.samples[0][0][0].text
    policy.cancel("s")
    (again,) = ask(policy, [one(root, 0, steps=1)], 600)
    assert again.usage.prefilled == reply.usage.prefilled


def test_every_node_on_the_way_of_a_rollout_is_kept(policy: TransformersPolicy, chatter: Any) -> None:
    (root,) = roots(chatter, 1)
    rollouts = ask(policy, [one(root, *range(8))], 600)[0].samples[0]
    steps = max(rollouts, key=len)
    state, reused = root, 0
    for step in steps[:-1]:
        state = chatter.step(state, step).state
        if step.finish == "step":
            (reply,) = ask(policy, [one(state, 0, steps=1)], 600)
            reused += reply.usage.prefilled == 0
    assert reused >= 1


def test_without_memory_everything_is_run_and_charged_again(folder: Callable[..., Path], chatter: Any) -> None:
    kept, forgetful = (policy_of(folder("llama"), chatter, memory=memory) for memory in (1 << 20, 0))
    (root,) = roots(chatter, 1)
    first = ask(kept, [one(root, 1, 2, steps=1)], 600)[0]
    again = [ask(forgetful, [one(root, 1, 2, steps=1)], 600)[0] for _ in range(2)]
    assert texts(again) == texts([first, first])
    assert [reply.usage.prefilled for reply in again] == [first.usage.prefilled] * 2
    assert forgetful._proposals.model.prefixes.bytes == 0


def test_cancelled_samples_leave_their_rows(policy: TransformersPolicy, chatter: Any) -> None:
    a, b = roots(chatter, 2)
    alone = ask(policy, [one(b, *range(4), scope="b")], 600)
    policy.cancel("b")
    policy.submit(0, one(a, *range(9), scope="a"))
    policy.submit(1, one(b, *range(4), scope="b"))
    policy._proposals.loop.admit()
    policy.cancel("a")
    assert len(policy._proposals.loop.active) == 4
    replies: list[tuple[int, Any]] = []
    while not replies:
        replies += policy.poll()
    assert [ticket for ticket, _ in replies] == [1]
    assert texts([replies[0][1]]) == texts(alone)


def test_malformed_requests_are_refused(policy: TransformersPolicy, chatter: Any) -> None:
    (root,) = roots(chatter, 1)
    with pytest.raises(ValueError, match="reads 1 to 127"):
        policy.submit(0, one(State(Problem("long", "a" * 200)), 0))
    with pytest.raises(ValueError, match="rows is 0"):
        TransformersPolicy("somewhere", chatter, rows=0)
    with pytest.raises(ValueError, match="temperature -1"):
        policy.submit(0, one(root, 0, temperature=-1.0))
    assert policy.poll() == []


# ------------------------------------------------------------------------------------------------ steps, thinking


class Blank:
    """Blank lines separate steps; nothing but the model ends a solution."""

    name, delimiter, max_steps = "blank", "\n\n", 20

    def prompt(self, problem: Problem) -> str:
        return problem.question

    def step(self, state: State, step: Step) -> Any:
        from envs.core import termination, transition

        after = state.then(step)
        return transition(after) if step.finish == "step" else termination(after)


def written(policy: TransformersPolicy, text: str | Sequence[int], **options: Any) -> Proposed:
    """The reply of a policy whose model 'writes' a text, or tokens, and its last token again and again."""
    script = policy.dialogue.tokenizer(text, add_special_tokens=False).input_ids if isinstance(text, str) else text
    run = policy._run

    def scripted(cache: Any, ids: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
        logits = run(cache, ids, starts)
        loop = policy._proposals.loop
        for row in range(len(loop.active)):
            logits[row] = -50.0
            logits[row, script[min(int(loop.drawn[row]), len(script) - 1)]] = 50.0
        return logits

    policy._run = scripted  # type: ignore[method-assign]
    (reply,) = ask(policy, [one(State(Problem("p", "What is 2 + 3?")), 0, **options)], 600)
    assert sum(step.tokens for step in reply.samples[0][0]) == reply.usage.generated
    return reply


def test_steps_are_cut_and_answers_end(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", QWEN3), blank, step_tokens=40)
    (steps,) = written(policy, "\n\nAdd 2.\n\n\nSo:\n - 5\n\n\\boxed{5}<|im_end|>").samples[0]
    assert [(step.text, step.finish) for step in steps] == [
        ("Add 2.", "step"), ("\nSo:\n - 5", "step"), ("\\boxed{5}", "answer"),
    ]  # fmt: skip


def test_thinking_is_counted_but_is_no_step(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", QWEN3), blank, step_tokens=10)
    thought = "<think>\nFirst 2.\n\nThen 3: that is 5, as 2 + 3 = 5. user assistant system\n</think>\n\n"
    assert policy.thinks
    (steps,) = written(policy, thought + "It is 5.\n\nSo 5.<|im_end|>").samples[0]
    assert [(step.text, step.finish) for step in steps] == [("It is 5.", "step"), ("So 5.", "answer")]
    assert steps[0].thinking == thought
    assert steps[0].tokens > 20  # more than the 10 of a step
    assert policy.dialogue.text(State(Problem("p", "q"), steps[:1])).endswith(thought + "It is 5.\n\n")


def test_thinking_beyond_its_budget_is_closed(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", QWEN3), blank, step_tokens=10, thinking_tokens=6)
    (steps,) = written(policy, "<think>" + "user " * 30).samples[0]
    closing = policy.dialogue.inside("\n</think>\n\n")
    thought, mark, after = steps[0].thinking.partition("</think>")
    assert mark
    assert after.strip() == ""
    assert thought.startswith("<think>user")
    assert len(policy.dialogue.inside(thought.removesuffix("\n"))) == 6  # and what closes them
    assert 6 + len(closing) <= steps[0].tokens <= 6 + len(closing) + 10
    assert (steps[0].finish, set(steps[0].text.split())) == ("length", {"user"})


@pytest.mark.parametrize("options", [{"thinking_tokens": 6}, {"thinking_probe": 3}, {"thinking_probe": 6}])
def test_a_thought_that_ends_where_it_would_be_looked_at_is_followed_by_a_step(
    folder: Callable[..., Path], options: dict[str, int]
) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", QWEN3), blank, step_tokens=10, **options)
    thought = "<think>" + "user" * 4 + "</think>"
    assert len(policy.dialogue.inside(thought)) == 6
    (steps,) = written(policy, thought + "So 5.<|im_end|>").samples[0]
    assert [(step.thinking, step.text, step.finish) for step in steps] == [(thought, "So 5.", "answer")]


@pytest.mark.parametrize("options", [{}, {"thinking_probe": 3, "thinking_agree": 99}])  # the mark is the third token
def test_thinking_that_would_end_too_early_goes_on(folder: Callable[..., Path], options: dict[str, int]) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", QWEN3), blank, thinking_least=5, **options)
    (steps,) = written(policy, "<think>user</think>" + "user " * 9 + "</think>\n\nSo 5.<|im_end|>").samples[0]
    assert steps[0].thinking.startswith("<think>userWait")
    assert steps[0].thinking.endswith("user </think>\n\n")
    assert steps[0].thinking.count("</think>") == 1
    assert steps[0].text == "So 5."
    with pytest.raises(ValueError, match="thinking_least is 5 and thinking_tokens 3"):
        policy_of(folder("llama", QWEN3), blank, thinking_least=5, thinking_tokens=3)


def probed(policy: TransformersPolicy, answers: Sequence[str], **options: Any) -> Proposed:
    """The reply of a policy whose model thinks on and on, and says these answers when it is asked."""
    tokens = policy.dialogue.inside
    thought, run = (*tokens("<think>"), *tokens("user")), policy._run

    def scripted(cache: Any, ids: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
        logits = run(cache, ids, starts)
        loop = policy._proposals.loop
        for row, sample in enumerate(loop.active):
            asked = isinstance(sample, ThoughtProbe)
            script = tokens(answers[len(sample.thinker.answers)]) if isinstance(sample, ThoughtProbe) else thought
            logits[row] = -50.0
            logits[row, script[min(int(loop.drawn[row]), len(script) - 1)]] = 50.0
            assert asked == (sample.temperature == 0)
        return logits

    policy._run = scripted  # type: ignore[method-assign]
    (reply,) = ask(policy, [one(State(Problem("p", "What is 2 + 3?")), 0, **options)], 600)
    return reply


def test_a_thought_is_closed_where_the_last_probes_give_the_same_answer(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", QWEN3), blank, step_tokens=10, thinking_probe=6, thinking_agree=2)
    answers = ["4}.", "5}.", "42} and", " 42\n", "6}."]
    reply = probed(policy, answers)
    (step,) = reply.samples[0][0]
    tokens, own = policy.dialogue.inside, 4 * 6
    thought, mark, _ = step.thinking.partition("</think>")
    assert mark
    assert len(tokens(thought.removesuffix("\n"))) == own  # four probes, of which the last two say 42
    told = [len(tokens(answer)) for answer in ("4}", "5}", "42}", " 42\n")]  # up to the end of the answer
    spoken = own + len(tokens("\n</think>")) + 10
    assert (step.tokens, reply.usage.generated) == (spoken + sum(told), spoken + sum(told))
    assert (step.finish, step.text.replace("user", "")) == ("length", "")
    # a probe runs its words, and the thought is not run again
    prompt = len(policy.dialogue.ids(State(Problem("p", "What is 2 + 3?"))))
    words = tokens("\n</think>\n\nThe final answer is \\boxed{")
    assert reply.usage.prefilled == prompt - 1 + 4 * len(words)
    assert reply.usage.flops == 2 * policy.parameters * (reply.usage.prefilled + reply.usage.generated)
    asked = [prompt + 6 * number + len(words) for number in (1, 2, 3, 4)]
    positions = positions_read(prompt, 0, spoken) + sum(map(positions_read, asked, [0] * 4, told))
    passes = 1 + reply.usage.generated  # each token has its own: the sample waits for its probes
    size = position_size(policy.model.config)
    assert reply.usage.reads == policy.parameters * passes + size * positions


def test_probes_leave_the_thought_as_it_is_where_they_do_not_agree(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    state = State(Problem("p", "What is 2 + 3?"))
    for architecture in ("llama", "gemma3"):
        for family in (QWEN3, DEEPSEEK_R1):
            place, given = folder(architecture, family), {"prefill": "" if family is DEEPSEEK_R1 else "<think>\n"}
            probing = {"thinking_probe": 4, "thinking_agree": 99}
            kinds: list[dict[str, int]] = [{}, probing, probing | {"memory": 0, "rows": 2}]
            policies = [policy_of(place, blank, solution_tokens=30, **given, **more) for more in kinds]
            plain, *others = (ask(policy, [one(state, 1, 2, 3, steps=1)], 2000)[0] for policy in policies)
            for (mine,), (asked,), (forgot,) in zip(
                plain.samples[0], *(each.samples[0] for each in others), strict=True
            ):
                for other in (asked, forgot):
                    assert (mine.thinking, mine.text, mine.finish) == (other.thinking, other.text, other.finish)
                    assert mine.logprob == pytest.approx(other.logprob, abs=1e-3)
                    assert mine.tokens + mine.tokens // 4 <= other.tokens
            prefilled = [each.usage.prefilled for each in (plain, *others)]
            assert prefilled == sorted(set(prefilled))  # words are run, and what is not kept is run again


def test_a_search_that_is_cancelled_in_the_middle_of_a_probe_leaves_nothing(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", QWEN3), blank, thinking_probe=2, prefill="<think>\n")
    policy.submit(0, one(State(Problem("p", "What is 2 + 3?")), 0, scope="left"))
    loop = policy._proposals.loop
    with torch.inference_mode():
        while not any(isinstance(sample, ThoughtProbe) for sample in loop.active):
            assert loop.step()
    assert len(loop.active) == 1
    policy.cancel("left")
    assert not loop.step()
    assert not policy.distinct  # and those who draw without replacement are told so beforehand


def test_a_prompt_that_opens_the_thinking(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", DEEPSEEK_R1), blank, solution_tokens=100)
    (steps,) = written(policy, "2 and\n\n3.</think>\n\nSo 5.<｜end▁of▁sentence｜>").samples[0]
    assert [(step.text, step.thinking, step.finish) for step in steps] == [
        ("So 5.", "2 and\n\n3.</think>\n\n", "answer")
    ]


def test_limits_of_steps_and_solutions(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    long = policy_of(folder("llama", QWEN3), blank, step_tokens=7)
    ((step,),) = written(long, "user " * 99).samples[0]
    assert (step.tokens, step.finish) == (7, "length")
    thinker = policy_of(folder("llama", QWEN3), blank, step_tokens=7, solution_tokens=30)
    ((step,),) = written(thinker, "<think>" + "user " * 99).samples[0]
    assert (step.tokens, step.finish, step.text) == (30, "length", "")


def test_what_reads_otherwise_than_it_was_written_goes_on_from_the_text(folder: Callable[..., Path]) -> None:
    blank: Any = Blank()
    policy = policy_of(folder("llama", QWEN3), blank, step_tokens=40)
    spelt = [policy.dialogue.tokenizer(letter, add_special_tokens=False).input_ids[0] for letter in "numbers"]
    reply = written(policy, [*spelt, *policy.dialogue.step(Step("")), *policy.dialogue.step(Step("So 5."))], steps=2)
    steps = reply.samples[0][0]
    assert [step.text for step in steps] == ["numbers", "So 5."]
    usual = policy.dialogue.step(steps[0])
    assert len(usual) < steps[0].tokens == len(spelt) + len(policy.dialogue.step(Step("")))
    # the step is run once more, as it reads: its tokens but the last, and the last of the prompt before them
    prompt = policy.dialogue.ids(State(Problem("p", "What is 2 + 3?")))
    assert reply.usage.prefilled == len(prompt) - 1 + len(usual)


# ---------------------------------------------------------------------------------------------------------- loading


def test_models_that_cannot_be_had_are_refused(tmp_path: Path, chatter: Any) -> None:
    (tmp_path / "qwen").mkdir()
    with pytest.raises(UnusableModel, match=r"did you mean .*qwen'"):
        TransformersPolicy(tmp_path / "qwem", chatter)
    with pytest.raises(UnusableModel, match="cannot load"):
        TransformersPolicy(tmp_path / "qwen", chatter)
    (tmp_path / "some.gguf").touch()
    with pytest.raises(UnusableModel, match=r"did you mean .*some\.gguf"):
        TransformersPolicy(tmp_path / "sone.gguf", chatter)


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")
def test_what_is_no_gguf_file_leaves_nothing_behind(
    tmp_path: Path, chatter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "some.gguf").write_bytes(b"not a model")
    with pytest.raises(UnusableModel, match=r"cannot read .*some\.gguf"):
        TransformersPolicy(tmp_path / "some.gguf", chatter)
    assert list((tmp_path / "cache" / "stepwell").iterdir()) == []


def test_a_model_that_keeps_something_else_is_refused(
    folder: Callable[..., Path], chatter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Any, cache: Any, ids: Any, starts: Any) -> Any:
        cache.update(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4), 0)

    monkeypatch.setattr(TransformersPolicy, "_run", run)
    with pytest.raises(UnusableModel, match="something else than the keys and values"):
        policy_of(folder("llama"), chatter)


def test_it_agrees_with_the_lab_about_a_lab_model() -> None:
    """Two backends, one contract: the same greedy steps, at the same cost."""
    environment = Arithmetic()
    lab = LabPolicy(WEIGHTS / "arithmetic-xs", environment, device="cpu")
    ours = policy_of(WEIGHTS / "arithmetic-xs", environment, step_tokens=lab.step_tokens)
    requests = [one(state, 0, temperature=0.0, scope=str(i)) for i, state in enumerate(roots(environment, 12))]
    theirs, made = ask(lab, requests, 600), ask(ours, requests, 600)
    assert texts(made) == texts(theirs)
    assert [reply.usage for reply in made] == [reply.usage for reply in theirs]
    for a, b in zip(made, theirs, strict=True):
        assert [step.logprob for step in a.samples[0][0]] == pytest.approx(
            [step.logprob for step in b.samples[0][0]], abs=1e-3
        )


def test_distinct_samples_differ_and_depend_on_their_scope_alone(folder: Callable[..., Path], chatter: Any) -> None:
    policy = policy_of(folder("llama"), chatter, step_tokens=2)
    states = roots(chatter, 3)
    plain = [Propose((state,), (tuple(range(9)),), 0.3, 1, f"plain {i}") for i, state in enumerate(states)]
    requests = [replace(request, scope=str(i), distinct=True) for i, request in enumerate(plain)]
    replies = ask(policy, [plain[0], *requests, *plain[1:]], 600)

    def kinds(reply: Proposed) -> int:
        return len({(step.text, step.finish, round(step.logprob, 4)) for (step,) in reply.samples[0]})

    assert [kinds(reply) for reply in replies[1:4]] == [9, 9, 9]
    assert min(map(kinds, (replies[0], *replies[4:]))) < 9
    policy.cancel("2")
    (alone,) = ask(policy, [requests[2]], 600)
    assert texts([alone]) == texts([replies[3]])
    (more,) = ask(policy, [replace(requests[2], seeds=((20, 21),))], 600)
    assert not {*map(str, texts([more])[0])} & {*map(str, texts([alone])[0])}
