"""What servers say when they will not answer: whether there was no room for the text, and how to show their words.

Servers have no common code for a text that is too long. vLLM, SGLang, llama.cpp, TGI, OpenAI, Ollama, Mistral and LM
Studio each say it in their own words, with 400, 413, 422 or 500. What all of them name is a length (of the context, the
prompt or what is to be generated) and that it is over a limit. The word "context" alone means nothing: templates,
deadlines and TLS have contexts too.
"""

from __future__ import annotations

import re

_LENGTH = re.compile(
    r"context[ _-]?(?:length|size|window|limit)|max_(?:model|seq|sequence)_len|\bn_ctx\b|\bsession_len\b"
    r"|maximum (?:model|sequence|input|prompt) length|(?:input|prompt|sequence) (?:token )?length"
    r"|\b(?:prompt|input|messages?) (?:is|are) too (?:long|large)|\btokens\b"
    r"|\bmax_(?:new_|completion_|output_)?tokens\b",
    re.IGNORECASE,
)
_OVER = re.compile(
    r"exceed|overflow|too (?:long|large|big|many|high)|(?:longer|greater|larger|more|bigger|higher) than"
    r"|(?:less|fewer|smaller|lower) than|no more than|at most|up to|<=|<|>|\bmaximum\b|\breduce\b|\brange\b|\bonly\b",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"\bper[ _-]?(?:min|minute|hour|day|second)|rate[ _-]?limit|quota|\bTPM\b|\bbilling|vocab|\bcredit", re.IGNORECASE
)


_PAID = re.compile(
    r"exceeded your current quota|insufficient[ _](?:quota|balance|credits?|funds)|(?:out of|not enough) credits?"
    r"|credit balance|\bbilling (?:hard )?limit",
    re.IGNORECASE,
)
_SOON = re.compile(r"\bretry\b|try again|\bper[ _-]?(?:min|minute|second)|rate[ _-]?limit", re.IGNORECASE)


def says_no_credit(words: str) -> bool:
    """Whether a refusal is about money, so that waiting does not help; a quota for each minute passes."""
    return bool(_PAID.search(words)) and not _SOON.search(words)


def says_no_room(words: str) -> bool:
    """Whether a refusal says that prompt and answer do not fit, so that a shorter request may."""
    return bool(_LENGTH.search(words) and _OVER.search(words)) and not _OTHER.search(words)


def printable(text: str, most: int = 500) -> str:
    """Words of a stranger for a message: on one line, cut after `most` characters, no control characters among them."""
    line = " ".join(text[: 4 * most].split())
    line = "".join(character if character.isprintable() else "\ufffd" for character in line)
    return line if len(line) <= most and len(text) <= 4 * most else line[:most] + "…"
