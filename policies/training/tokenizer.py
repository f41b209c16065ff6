"""The tokenizer of models trained here: whole numbers up to three digits, words and operators as single tokens.

Text round-trips exactly: an operator with its two spaces is one token, so are a digit group, a run of letters and a
newline. Numbers as single tokens follow Llama 3; they keep sequences short and make training on two cores possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
NUMBERS = 1000  # 0 .. 999 are always in the vocabulary, at consecutive ids after the special tokens
FIRST_NUMBER = 4
_PIECES = r"\d{1,3}| [-+*/=] |#### |[A-Za-z]+|\s|."


def _pre_tokenizer() -> Split:
    return Split(Regex(_PIECES), behavior="isolated")


def build_tokenizer(corpus: Iterable[str], size: int = 4096) -> PreTrainedTokenizerFast:
    """Build a tokenizer whose vocabulary is the numbers, printable ASCII and the commonest pieces of a corpus.

    Args:
        corpus: texts as the policy will see them.
        size: largest vocabulary; pieces beyond it become the unknown token.
    """
    splitter = _pre_tokenizer()
    counts = Counter(piece for text in corpus for piece, _ in splitter.pre_tokenize_str(text))
    fixed = [PAD, BOS, EOS, UNKNOWN, *map(str, range(NUMBERS)), "\n"]
    fixed += [chr(code) for code in range(32, 127) if not chr(code).isdigit()]
    known = set(fixed)
    pieces = sorted((piece for piece in counts if piece not in known), key=lambda piece: (-counts[piece], piece))
    vocabulary = {piece: index for index, piece in enumerate([*fixed, *pieces][:size])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = Fuse()
    # for those who load the model elsewhere; the code here adds the token itself, and asks for none
    tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
