"""Loading by transformers of what people bring: quietly, without code from it, and whole or not at all.

Whatever goes wrong in there, and it goes wrong in many ways, ends as one sentence (`UnusableModel`).
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loguru import logger

from envs.errors import StepwellError

MOST_GROWTH = 1 << 12  # times that a tokenizer may lengthen a text
_NUMBERS = ("F16", "BF16", "F32", "F64")  # kinds of numbers that weights are of, unless they are quantised
_COMPATIBLE = 18  # times that unicode's compatibility forms lengthen a text at most
_LOUD = ("transformers", "huggingface_hub", "accelerate")


class UnusableModel(StepwellError, ValueError):
    """A model cannot be had or run; the message says why and what is allowed."""


def said(error: BaseException) -> str:
    """What an error says, in one line of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "custom code" in str(error):
        return "it needs code of its own, and no code that comes with a model is run"
    if not lines:
        return type(error).__name__
    first = " ".join(lines) if lines[0].endswith(":") else lines[0]  # a list follows
    return f"{type(error).__name__}: {first[:300]}"


class panics:  # noqa: N801 - reads as a function: `with panics(folder): ...`
    """Turn the panic of a tokenizer, which is no `Exception`, into `UnusableModel`.

    Args:
        where: the tokenizer is from.
    """

    __slots__ = ("where",)

    def __init__(self, where: object) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None and kind.__name__ == "PanicException":
            raise UnusableModel(f"the tokenizer of {self.where} fails: {said(error or kind())}") from None


@contextmanager
def loading(source: object) -> Iterator[None]:
    """Say of whatever goes wrong that `source` cannot be loaded, and say nothing else.

    Raises:
        UnusableModel: for any error but an interruption.
    """
    try:
        with quietly():
            yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, UnusableModel):
        raise
    except BaseException as error:  # a wrong name, no network, weights of another kind, a panic of a tokenizer
        raise UnusableModel(f"cannot load {str(source)!r} with transformers: {said(error)}") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Without the progress bars, warnings and reports of what loads models."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as bars

    loggers = [(logging.getLogger(name), logging.getLogger(name).level) for name in _LOUD]
    shown, downloads = bars.is_progress_bar_enabled(), not are_progress_bars_disabled()
    bars.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disable_progress_bars()
        for logger, _ in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in loggers:
                logger.setLevel(level)
            if shown:
                bars.enable_progress_bar()
            if downloads:
                enable_progress_bars()


def check_files(folder: Path) -> None:
    """Refuse a folder in which there is a device or a pipe, whose reading may never end.

    Raises:
        UnusableModel: with the name of the first one.
    """
    for each in sorted(folder.iterdir()):
        if each.exists() and not each.is_file() and not each.is_dir():
            raise UnusableModel(f"{each} is a device or a pipe, not a file of a model")


# ------------------------------------------------------------------------------------------------------- tokenizers


def load_tokenizer(source: str | Path, **options: Any) -> Any:
    """The tokenizer of a folder or of a hub's id.

    Raises:
        UnusableModel: when there is none, it cannot be read, or it makes texts too long.
    """
    from transformers import AutoTokenizer

    if Path(source).is_dir():
        check_tokenizer(Path(source))
    with loading(source):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
        known = tokenizer("a", add_special_tokens=False, verbose=False).input_ids
    if not known:
        raise UnusableModel(f"the tokenizer of {source} has no token for the letter a: is its tokenizer.json missing?")
    return tokenizer


def check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer that makes a short text so long that memory runs out.

    Raises:
        UnusableModel: for such a one, and for a tokenizer.json that is none.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        times = max(growth(raw.get("normalizer")), growth(raw.get("decoder")))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableModel(f"{path} cannot be read: {said(error)}") from None
    if times > MOST_GROWTH:
        raise UnusableModel(f"{path} makes texts up to {times:.3g} times as long; at most {MOST_GROWTH} are allowed")


def growth(part: Mapping[str, Any] | None) -> float:
    """How many times as long a normalizer or decoder of a tokenizer.json may make a text, in bytes."""
    if not part:
        return 1.0
    kind, times = part.get("type"), 1.0
    for inner in [*(part.get("normalizers") or ()), *(part.get("decoders") or ())]:
        times *= growth(inner)
    if kind == "Replace":
        pattern = part.get("pattern") or {}
        least = len(str(pattern.get("String") or "").encode())  # of what is replaced; an expression may match nothing
        written = len(str(part.get("content", "")).encode())
        times *= max(1.0, written / least if least else 1.0 + written)
    elif kind == "Prepend":
        times *= 1 + len(str(part.get("prepend", "")).encode())
    elif kind in ("NFKC", "NFKD", "Precompiled"):
        times *= _COMPATIBLE
    return times


def highest_id(tokenizer: Any) -> int:
    """The highest id that a text may be given; special tokens are no text."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return max((id for token, id in tokenizer.get_vocab().items() if token not in special), default=0)


# ------------------------------------------------------------------------------------------------------------ models


def load_model(kind: Any, source: str | Path, **options: Any) -> Any:
    """A model with all its weights.

    Args:
        kind: a class of transformers that makes it (``AutoModelForCausalLM``).
        source: a folder, or a hub's id.
        options: of its ``from_pretrained``.

    Raises:
        UnusableModel: when it cannot be loaded, weights are missing, or some are no finite numbers.
    """
    stored = _stored_kinds(Path(source)) if Path(source).is_dir() else {}
    with loading(source):
        if stored and (layers := _layers(Path(source))) > len(stored):  # they would all be made before one is missed
            raise UnusableModel(
                f"config.json of {source} says {layers} layers, and its files hold {len(stored)} tensors"
            )
        model, report = kind.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
        )
    check_weights(model, report["missing_keys"], source)
    quantised = getattr(model.config, "quantization_config", None)
    whole = [name for name, _ in model.named_parameters() if stored.get(name, "F32") not in _NUMBERS and not quantised]
    if whole:
        raise UnusableModel(
            f"{source} has {len(whole)} tensors of {stored[whole[0]]}, and its config.json does not say how it was"
            f" quantised: {', '.join(whole[:3])}"
        )
    if unused := sorted(report["unexpected_keys"]):
        logger.warning(
            "{} has {} tensors that its architecture does not use: {}; does its config.json belong to it?",
            *(source, len(unused), ", ".join(unused[:3])),
        )
    return model


def _stored_kinds(folder: Path) -> dict[str, str]:
    """The tensors in the safetensors files of a folder, with the kinds of their numbers, as these name them."""
    from safetensors import safe_open

    kinds: dict[str, str] = {}
    with loading(folder):
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, "pt") as content:
                kinds |= {name: str(content.get_slice(name).get_dtype()) for name in content.keys()}  # noqa: SIM118
    return kinds


def _layers(folder: Path) -> int:
    """The layers that config.json of a folder says; 0 where it does not."""
    given = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("num_hidden_layers")
    return given if isinstance(given, int) else 0


def check_weights(model: Any, missing: Sequence[str], source: object) -> None:
    """Refuse a model of which weights are missing, which would be random, or no finite numbers.

    Raises:
        UnusableModel: with the names of the first ones.
    """
    if missing:
        names = sorted(missing)
        raise UnusableModel(f"{source} lacks {len(names)} tensors of its architecture: {', '.join(names[:3])}")
    broken = [name for name, tensor in model.state_dict().items() if not _finite(tensor)]
    if broken:
        raise UnusableModel(f"{source} has {len(broken)} tensors that are not finite numbers: {', '.join(broken[:3])}")


def _finite(tensor: Any) -> bool:
    import torch

    if tensor.is_meta or not tensor.numel() or tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return True
    return bool(torch.stack(torch.aminmax(tensor.detach().reshape(-1))).isfinite().all())
