"""What servers say of a text that is too long is told from all else that they refuse."""

import pytest

from policies.servers.refusals import printable, says_no_credit, says_no_room

NO_ROOM = [
    # vLLM
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, 1000"
    " in the completion). Please reduce the length of the messages or completion.",
    "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and"
    " your request has 10 input tokens (5000 > 4096 - 10).",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "You passed 4097 input tokens and requested 0 output tokens. However, the model's context length is only 4096.",
    # SGLang
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "Requested token count exceeds the model's maximum context length of 4096 tokens.",
    # llama.cpp
    "the request exceeds the available context size. try increasing the context size or enable context shift",
    "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
    "Context size has been exceeded.",
    # TGI
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1024. Given: 900 `inputs` tokens and 500"
    " `max_new_tokens`",
    "Input validation error: `inputs` must have less than 1000 tokens. Given: 1200",
    # OpenAI and others
    "max_tokens is too large: 1000. This model supports at most 500 completion tokens, whereas you provided 1000.",
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    "the input length exceeds the context length",
    "The model is loaded with context length of only 4096 tokens, which is not enough",
    "context_length_exceeded: too many tokens",
]
OTHERS = [
    "jinja: 'strftime_now' is undefined in this context",
    "context deadline exceeded",
    "context canceled while loading the model",
    "could not create TLS context: certificate has expired",
    "the model has no chat template in its context",
    "max_tokens is not supported with this model. Use 'max_completion_tokens' instead.",
    "Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 12000.",
    "You exceeded your current quota, please check your plan and billing details: 0 tokens left",
    "Token id 152000 is out of vocabulary: all tokens must be less than 151936",
    "Requested sample logprobs of 20, which is greater than max allowed: 5",
    "temperature must be at most 2",
    "unknown field continue_final_message in this context",
    "no such thing",
    "",
]


@pytest.mark.parametrize("words", NO_ROOM)
def test_a_text_that_is_too_long_is_known_by_any_wording(words: str) -> None:
    assert says_no_room(words)
    assert says_no_room(f"http://localhost:8000/v1/completions refused with 400: {words.upper()}")


@pytest.mark.parametrize("words", OTHERS)
def test_other_refusals_are_not_taken_for_it(words: str) -> None:
    assert not says_no_room(words)


def test_money_is_told_from_haste() -> None:
    for words in ("You exceeded your current quota, please check your plan", "Insufficient balance", "out of credits"):
        assert says_no_credit(words)
    for words in (
        "Rate limit reached for requests per minute",
        "You exceeded your current quota. Please retry in 34s.",
        "server busy",
    ):
        assert not says_no_credit(words)


def test_words_of_strangers_are_shown_on_one_line_without_control_characters() -> None:
    assert printable("a\x1b]0;owned\x07\n b\u202ec\x9b") == "a\ufffd]0;owned\ufffd b\ufffdc\ufffd"
    assert printable("x" * 600) == "x" * 500 + "…"
    assert len(printable(" " * 10_000 + "x")) <= 501
    assert printable("Größe 5 ≤ 6") == "Größe 5 ≤ 6"
