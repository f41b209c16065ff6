"""Checkpoints run by transformers, with the heads that verifiers have: no code comes with the weights.

The layers are those of transformers, and their attention is our own (`policies.models.kv_cache.PagedPrefill`, through
transformers' attention interface): new tokens of many texts are one row, nothing but attention is padded, and the keys
and values of what was read stay in a pool, so that a child runs its last step only. On a CPU in float32 the numbers of
a text are then the same to the last bit whatever is beside it; on a GPU, or in half precision, kernels add in an order
that depends on the batch.

Models that cannot be run so (an encoder, attention of another kind) are found out by trying when they are loaded; each
text of theirs is run by itself, as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import linear

from policies.models.errors import UnsupportedModel
from policies.models.kv_cache import ROWS, DecodeRows, PagedPrefill, Prefixes
from policies.models.linears import quantize_linears, warn_of_emulation
from policies.models.prefix_tree import Extension
from policies.models.pretrained import quietly, said
from verifiers.scoring.score_layout import Head
from verifiers.scoring.tokenization import architecture_of, read_config

_ATTENTION = "stepwell"
_TRIAL = 12  # tokens
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.float32}


@dataclass(frozen=True)
class Sizes:
    """What keys and values are laid out by."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int


class Backbone:
    """A checkpoint and its head.

    Args:
        folder: config.json, safetensors files and a tokenizer, in the transformers layout.
        head: what is read of it.
        device: where it runs.
        dtype: its precision: float32, bfloat16, float16, or on a CPU int8 (`policies.models.linears`).
        layers: how many of its layers are run, if not all of them.
        top: the matrices of the head, the last one last, where they do not come from the folder; there may be none.

    Attributes:
        parameters: those of what is run.
        context: most tokens of a text.
        embedded: tokens that it knows.
        outputs: width of the head.
        width: of the hidden states.
        pieces: whether texts are run in pieces, whose keys and values are kept.

    Raises:
        UnsupportedModel: when the folder does not hold such a model with such a head.
    """

    def __init__(
        self,
        folder: Path,
        head: Head,
        device: str = "cpu",
        dtype: str = "float32",
        layers: int | None = None,
        top: Sequence[Linear] | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} given; allowed: {', '.join(DTYPES)}")
        self.folder = folder
        self.device = torch.device(device)
        self.dtype = DTYPES[dtype]
        self._model, self._base, self._head = _load(folder, head, self.device, self.dtype, layers, top)
        self.outputs = int(self._head[-1][0].shape[0]) if self._head else 0
        config = self._base.config.get_text_config()
        self.width = int(config.hidden_size)
        if self._head and (width := int(self._head[0][0].shape[1])) != self.width:
            raise UnsupportedModel(f"a head for states of {width} numbers given; those of {folder} have {self.width}")
        own = {each.data_ptr(): each.numel() for each in self._base.parameters()}
        self.parameters = sum(own.values()) + sum(
            weight.numel()
            for weight, _ in self._head
            if weight.data_ptr() not in own  # a tied head is there already
        )
        warn_of_emulation(self._base)
        self._rounds = dtype == "int8"
        if self._rounds:
            quantize_linears(self._base)
        self.embedded = len(self._base.get_input_embeddings().weight)
        self.context = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
        heads = config.num_attention_heads
        self.config = Sizes(
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        )
        self._try_head(head, config)
        self.pieces = self._can_run_in_pieces(config)

    def run(
        self, keys: DecodeRows | PagedPrefill, ids: Tensor, positions: Tensor, wanted: Tensor | None = None
    ) -> Tensor:
        """Run new tokens: (tokens,) ids and positions to the (tokens or wanted, hidden) states after the last norm."""
        made = self._base(
            input_ids=ids[None], position_ids=positions[None], attention_mask=None, use_cache=False, keys=keys
        )
        hidden: Tensor = made.last_hidden_state[0]
        return hidden if wanted is None else hidden[wanted]

    def depths(
        self,
        keys: DecodeRows | PagedPrefill,
        ids: Tensor,
        positions: Tensor,
        layers: Sequence[int],
        wanted: Tensor | None = None,
    ) -> list[Tensor]:
        """As `run`, but after each of several numbers of layers: what a `Backbone` of so many layers gives."""
        norm = _last_norm(self._base)
        made = self._base(
            input_ids=ids[None],
            position_ids=positions[None],
            attention_mask=None,
            use_cache=False,
            output_hidden_states=True,
            keys=keys,
        )
        found = []
        for count in layers:
            last = count == len(made.hidden_states) - 1
            hidden: Tensor = made.last_hidden_state[0] if last else made.hidden_states[count][0]
            hidden = hidden if wanted is None else hidden[wanted]
            found.append(hidden if last else norm(hidden))
        return found

    def whole(self, ids: Sequence[int]) -> Tensor:
        """(ids, hidden): the states of a text by itself, by the model's own attention."""
        hidden: Tensor = self._base(input_ids=torch.tensor([list(ids)], device=self.device)).last_hidden_state[0]
        return hidden

    def logits(self, hidden: Tensor, columns: Sequence[int] | None = None) -> Tensor:
        """(n, hidden) to (n, columns): outputs of the head, all if no columns are named, in float32."""
        count = len(hidden)
        if count < ROWS:  # as with every matrix product, see `policies.models.llama`
            hidden = torch.cat([hidden, hidden.new_zeros(ROWS - count, hidden.shape[1])])
        *inner, (weight, bias) = self._head
        for matrix, offset in inner:
            hidden = torch.relu(linear(hidden, matrix, offset))
        if columns is not None:
            which = torch.tensor(columns, device=self.device)
            weight, bias = weight[which], None if bias is None else bias[which]
        return linear(hidden, weight, bias)[:count].float()

    @torch.inference_mode()
    def _try_head(self, head: Head, config: Any) -> None:
        """Refuse a model that does more than its head to the last hidden state."""
        if head in ("mlp", "value", "probe"):
            return
        ids = _trial(config)
        expected = self._model(input_ids=torch.tensor([ids], device=self.device)).logits.flatten(0, -2).float()
        if not self._alike(self.logits(self.whole(ids))[-len(expected) :], expected):
            raise UnsupportedModel(
                f"{self.folder} holds a {type(self._model).__name__}, whose outputs are more than a matrix times the "
                "last hidden states"
            )

    @torch.inference_mode()
    def _can_run_in_pieces(self, config: Any) -> bool:
        """Try both ways on a text, and choose attention accordingly."""
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        if rope.get("rope_type") in ("dynamic", "longrope"):  # their angles depend on the longest text beside
            return False
        ids = _trial(config)
        expected = self.whole(ids)
        before = self._base.config._attn_implementation
        try:
            self._base.set_attn_implementation(_ATTENTION)
            prefixes, keys = Prefixes(self, 0), (tuple(ids[: _TRIAL // 2]), tuple(ids))
            ((first,),), early = prefixes.extend([Extension("", None, keys[:1])], range(len(keys[0])))
            _, late = prefixes.extend([Extension("", first, keys[1:])], range(_TRIAL - len(keys[0])))
            if self._alike(torch.cat([early, late]), expected):
                return True
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            pass  # its attention does not go through the interface, or has keys of another shape
        self._base.set_attn_implementation(before)
        return False

    def _alike(self, found: Tensor, expected: Tensor) -> bool:
        tolerance = 0.1 if self._rounds or self.dtype != torch.float32 else 1e-4
        scale = float(expected.abs().nan_to_num(0).max())
        return torch.allclose(found, expected, rtol=0, atol=tolerance * scale, equal_nan=True)


def _last_norm(base: Any) -> torch.nn.Module:
    """The norm that a model ends with."""
    norms: list[torch.nn.Module] = [part for part in base.children() if "norm" in type(part).__name__.lower()]
    if not norms:
        raise UnsupportedModel(f"a {type(base).__name__} has no norm after its last layer")
    return norms[-1]


def _trial(config: Any) -> list[int]:
    """Token ids to try a model on: any but padding."""
    ids = [(7 * index + 3) % config.vocab_size for index in range(_TRIAL)]
    return [token + 1 if token == config.pad_token_id else token for token in ids]


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    keys: DecodeRows | PagedPrefill,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: (1, heads, tokens, d) to (1, tokens, heads, d)."""
    if softcap is not None or s_aux is not None:
        raise ValueError("capped logits and sinks are not computed here")
    _, heads, tokens, width = query.shape
    if scaling is not None:
        query = query * (scaling * width**0.5)  # ours divides by the root
    new = torch.cat([each.transpose(1, 2).reshape(tokens, -1) for each in (key, value)], 1)
    mixed = keys.attend(module.layer_idx, query.transpose(1, 2).reshape(tokens, -1), new, sliding_window)
    return mixed.view(1, tokens, heads, width), None


# ---------------------------------------------------------------------------------------------------------- loading

Linear = tuple[Tensor, Tensor | None]
_WRAPPED = "pretrained_model."  # before the names of what some wrappers save
_CLASSES: dict[Head, str] = {
    "causal": "AutoModelForCausalLM",
    "classifier": "AutoModelForTokenClassification",
    "sequence": "AutoModelForSequenceClassification",
}
_ENDINGS: dict[Head, str] = {
    "causal": "ForCausalLM",
    "classifier": "ForTokenClassification",
    "sequence": "ForSequenceClassification",
    "probe": "StepProbe",
}
_NAMED: dict[Head, str] = {
    "causal": "a language model's head",
    "classifier": "a linear classifier of tokens (score)",
    "sequence": "a linear classifier of the sequence (score)",
    "mlp": "two layers (score.0, score.2)",
    "value": "a value head (v_head)",
    "probe": "a probe's head (verifiers.families.probe)",
}


def tensor_names(folder: Path) -> dict[str, Path]:
    """The names of the tensors in the safetensors files of a folder, with their files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UnsupportedModel(
            f"{folder} has no .safetensors file; weights in other formats can hold code, and are not loaded"
        )
    found: dict[str, Path] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as content:
                found |= dict.fromkeys(content.keys(), file)
        except Exception as error:  # the library's own, which is no ValueError
            raise UnsupportedModel(f"{file} cannot be read: {said(error)}") from None
    return found


def head_of(folder: Path) -> Head | None:
    """What a checkpoint has on top, from the names of its tensors and of its architecture."""
    names = {name.removeprefix(_WRAPPED) for name in tensor_names(folder)}
    architecture = architecture_of(folder)
    if {"v_head.summary.weight", "v_head.weight"} & names:
        return "value"
    if {"score.0.weight", "score.2.weight"} <= names:
        return "mlp"
    return next((head for head, ending in _ENDINGS.items() if architecture.endswith(ending)), None)


def check_head(folder: Path, head: Head) -> None:
    """Raise `UnsupportedModel` if a checkpoint has something else on top."""
    found = head_of(folder)
    if found != head:
        architecture = architecture_of(folder) or "model without a name"
        has = f", which has {_NAMED[found]}" if found else ""
        raise UnsupportedModel(f"{folder} holds a {architecture}{has}; what is asked for has {_NAMED[head]}")


def _load(
    folder: Path,
    head: Head,
    device: torch.device,
    dtype: torch.dtype,
    layers: int | None,
    given: Sequence[Linear] | None,
) -> tuple[Any, Any, list[Linear]]:
    """The model, its backbone, and the matrices of its head, the last one last."""
    import transformers

    if given is None:
        check_head(folder, head)
    transformers.AttentionInterface.register(_ATTENTION, _attend)
    kind = getattr(transformers, _CLASSES.get(head, "AutoModel"))
    names = tensor_names(folder)
    renamed = {f"^{_WRAPPED}": ""} if any(name.startswith(_WRAPPED) for name in names) else None
    try:
        with quietly():
            model, report = kind.from_pretrained(
                folder,
                **({} if layers is None else {"config": _shortened(folder, layers)}),
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                key_mapping=renamed,
                output_loading_info=True,
            )
    except UnsupportedModel:
        raise
    except Exception as error:  # of many kinds: what runs a quantised model is not installed, a file is cut
        method = (read_config(folder).get("quantization_config") or {}).get("quant_method")
        quantised = f", a model quantised by {method}," if method else ""
        raise UnsupportedModel(f"{folder}{quantised} cannot be loaded as {kind.__name__}: {said(error)}") from None
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise UnsupportedModel(f"{folder} lacks {len(report['missing_keys'])} tensors of its architecture: {missing}")
    model.to(device).eval()
    if given is not None:
        return model, model, [(w.to(device, dtype), None if b is None else b.to(device, dtype)) for w, b in given]
    if head == "mlp":
        return model, model, [_stored(names, ("score.0",), device, dtype), _stored(names, ("score.2",), device, dtype)]
    if head == "value":
        return model, model, [_stored(names, ("v_head.summary", "v_head"), device, dtype)]
    top = model.get_output_embeddings() if head == "causal" else getattr(model, "score", None)
    top = getattr(model, "classifier", None) if top is None else top
    if not isinstance(top, torch.nn.Linear):
        raise UnsupportedModel(f"{folder} holds a {type(model).__name__}, whose head is not one matrix")
    return model, model.base_model, [(top.weight.detach(), None if top.bias is None else top.bias.detach())]


def _shortened(folder: Path, layers: int) -> Any:
    """The configuration of a checkpoint of which only the first layers are loaded."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    if not 0 < layers <= config.num_hidden_layers:
        raise UnsupportedModel(f"{layers} layers asked for; {folder} has {config.num_hidden_layers}")
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return config


def _stored(names: dict[str, Path], allowed: tuple[str, ...], device: torch.device, dtype: torch.dtype) -> Linear:
    """A matrix and its offset from the files."""
    first = next(f"{wrap}{name}" for name in allowed for wrap in ("", _WRAPPED) if f"{wrap}{name}.weight" in names)
    tensors = []
    for name in (f"{first}.weight", f"{first}.bias"):
        if name in names:
            with safe_open(names[name], "pt") as content:
                tensors.append(content.get_tensor(name).to(device, dtype))
    return tensors[0], tensors[1] if len(tensors) > 1 else None
