"""vLLM in this process: an engine that whoever polls steps on, so that nothing runs between two polls.

Policies and verifiers share this file. It keeps vLLM from changing its host: what vLLM does to torch's threads and to
the environment of child processes is undone, and nothing is reported to anyone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from envs.options import Above, AtLeast, check_ranges
from policies.memory_traffic import position_size
from policies.models.errors import UnsupportedModel

if TYPE_CHECKING:
    from policies.generation.vllm_draws import Drawing

_HOW = "pip install 'stepwell[vllm]' (on a CPU: docs/models.md says how)"
_BLOCK = 32  # tokens whose keys and values are kept or not as a whole, on a CPU: the least that its kernels take
DRAWING = "stepwell"  # among the extra arguments of a request: its `Drawing`
_DRAWS = "policies.generation.vllm_draws:SeededDraws"
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}  # unless the user says otherwise


@dataclass(frozen=True)
class VllmOptions:
    """How vLLM runs a model.

    Args:
        dtype: ``auto`` is that of the files on a GPU, and float32 on a CPU.
        max_model_len: most tokens of a text, if fewer than the model has positions.
        kv_cache_gb: memory for keys and values; None is what `gpu_memory_utilization` leaves on a GPU, 1 on a CPU.
        gpu_memory_utilization: share of a GPU's memory for weights, keys and values.
        tensor_parallel_size: GPUs that share the model.
        max_num_seqs: most texts in progress at once; more wait their turn.
        enforce_eager: no compilation, no CUDA graphs: starts sooner and runs slower. None is so on a CPU alone.

    Raises:
        ValueError: for a value that cannot be.
    """

    dtype: str = "auto"
    max_model_len: Annotated[int, AtLeast(1)] | None = None
    kv_cache_gb: Annotated[float, Above(0)] | None = None
    gpu_memory_utilization: Annotated[float, Above(0, 1)] = 0.9
    tensor_parallel_size: Annotated[int, AtLeast(1)] = 1
    max_num_seqs: Annotated[int, AtLeast(1)] = 256
    enforce_eager: bool | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if an option is outside its range."""
        check_ranges(self)


class Drawn(NamedTuple):
    """What a step of the engine added to a request.

    Args:
        name: of the request.
        ids: tokens that were drawn.
        logprobs: of each, at temperature 1: its own, then those of the likeliest tokens, as many as were asked for.
        run: tokens of the prompt that were run for it; None but for the first of a request.
        reason: why vLLM ended it; None while it goes on.
    """

    name: str
    ids: Sequence[int]
    logprobs: Sequence[Sequence[float]]
    run: int | None
    reason: str | None


class VllmEngine:
    """A model run by vLLM. Its requests join and leave at every step; prefixes are kept for the scope they belong to.

    Args:
        model: a folder or a hub's id.
        runner: ``generate``, or ``pooling`` for what is read of each token.
        options: see there.
        arguments: further ones of vLLM's ``EngineArgs``.

    Attributes:
        context: most tokens of a text.
        parameters: of the model; 0 if they cannot be told.
        draws: whether requests may say how their tokens are drawn (`policies.generation.vllm_draws`): on a CPU, where
            vLLM draws for one request after another.
        position: numbers that the keys and values of a token have (`policies.memory_traffic`).
        tokenizer: of transformers.
        ends: token ids that end an answer, as the model's configurations say.

    Raises:
        UnsupportedModel: vLLM is not installed here, or does not run this model; the message has its own words.
    """

    def __init__(
        self,
        model: str | Path,
        runner: Literal["generate", "pooling"],
        options: VllmOptions | None = None,
        **arguments: Any,
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise UnsupportedModel(f"vLLM is needed to run {str(model)!r} so, and is not installed here: {_HOW}")
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # a step is run here, when it is asked for
        with _host_kept():
            self._engine: Any = _start(str(model), runner, options or VllmOptions(), arguments)
        _open.append(self._engine)
        config = self._engine.model_config
        self.draws = config.logits_processors is not None
        self.context = int(config.max_model_len)
        self.parameters = _parameters(config.hf_text_config, runner == "generate")
        self.position = position_size(config.hf_text_config)
        self.tokenizer: Any = self._engine.get_tokenizer()
        ends = [config.hf_text_config.eos_token_id, config.try_get_generation_config().get("eos_token_id")]
        flat = itertools.chain.from_iterable(end if isinstance(end, list) else [end] for end in ends)
        self.ends = frozenset(token for token in flat if token is not None)
        self._names = itertools.count()
        self._salts: dict[str, str] = {}
        self._drawings: dict[str, Drawing] = {}

    def add(self, ids: Sequence[int], parameters: Any, scope: str, drawing: Drawing | None = None) -> str:
        """Begin a request of a scope, with vLLM's ``SamplingParams`` or ``PoolingParams``; returns its name.

        A `drawing` draws its tokens and takes their log-probabilities; the parameters are to ask for temperature 0.
        """
        name = str(next(self._names))
        salt = self._salts.setdefault(scope, name)  # part of what prefixes are found by
        if drawing is not None:
            parameters.extra_args = {DRAWING: drawing}
            self._drawings[name] = drawing
        prompt = {"type": "token", "prompt_token_ids": list(ids), "cache_salt": salt}  # as vLLM reads it: no text
        self._engine.add_request(name, prompt, parameters)
        return name

    def step(self) -> list[Any]:
        """Run the model once; returns the outputs of the pooled requests that have new ones."""
        return list(self._engine.step()) if self._engine.has_unfinished_requests() else []

    def draw(self) -> Iterator[Drawn]:
        """Run the model once; gives the tokens of the sampled requests, each of which is to be aborted at its end.

        They are taken from vLLM's core. What lies above it makes texts and reports of them, token by token, which takes
        longer than a small model does.
        """
        if not self._engine.has_unfinished_requests():
            return
        for each in self._engine.engine_core.get_output().outputs:
            name = each.request_id.partition("-")[0]  # behind the hyphen are vLLM's own letters
            logprobs: Sequence[Sequence[float]] = ()
            if each.new_logprobs is not None:
                logprobs = each.new_logprobs.logprobs.tolist()
            elif name in self._drawings:
                logprobs = [[self._drawings[name].logprob]] * len(each.new_token_ids)  # one, if any
            prompt = each.prefill_stats
            run = None if prompt is None else prompt.num_prompt_tokens - prompt.num_cached_tokens
            reason = None if each.finish_reason is None else str(each.finish_reason)
            yield Drawn(name, each.new_token_ids, logprobs, run, reason)

    def abort(self, names: Sequence[str]) -> None:
        """End requests; those that have ended are passed over."""
        if names:
            self._engine.abort_request(list(names))
        for name in names:
            self._drawings.pop(name, None)

    def forget(self, scope: str) -> None:
        """Never find again what is kept for a scope; vLLM takes the room when it needs it."""
        self._salts.pop(scope, None)

    def close(self) -> None:
        """Free what is held, for good. Engines share what ends with the first of them, so they end with the last."""
        if self._engine is not None:
            _open.remove(self._engine)
            _closed.append(self._engine)
            self._engine = None
        while _closed and not _open:
            _closed.pop().engine_core.shutdown()


_open: list[Any] = []  # engines of vLLM
_closed: list[Any] = []  # and those that wait for others to end


def _start(model: str, runner: str, options: VllmOptions, arguments: Mapping[str, Any]) -> Any:
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    cpu = bool(current_platform.is_cpu())
    memory = 1.0 if cpu and options.kv_cache_gb is None else options.kv_cache_gb
    # on a GPU vLLM draws for all requests at once itself; several workers have processes of their own
    draws = cpu and runner == "generate" and options.tensor_parallel_size == 1
    try:
        return LLMEngine.from_engine_args(
            EngineArgs(
                model=model,
                runner=runner,
                dtype="float32" if cpu and options.dtype == "auto" else options.dtype,
                max_model_len=options.max_model_len,
                kv_cache_memory_bytes=None if memory is None else int(memory * 2**30),
                gpu_memory_utilization=options.gpu_memory_utilization,
                tensor_parallel_size=options.tensor_parallel_size,
                max_num_seqs=options.max_num_seqs,
                enforce_eager=cpu if options.enforce_eager is None else options.enforce_eager,
                block_size=_BLOCK if cpu else None,
                # half a prompt would take vLLM's random numbers of a sample back, which it cannot do on a CPU
                enable_chunked_prefill=False if cpu and runner == "generate" else None,
                enable_prefix_caching=True,
                logits_processors=[_DRAWS] if draws else None,
                use_tqdm_on_load=False,
                disable_log_stats=True,  # as in vLLM's own `LLM`; nobody reads them here
                **arguments,
            )
        )
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        raise UnsupportedModel(f"vLLM does not run {model!r}: {error}") from error


def _parameters(config: Any, causal: bool) -> int:
    """How many parameters a model of this configuration has: vLLM pads and splits its own."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = (AutoModelForCausalLM if causal else AutoModel).from_config(config)
    except Exception:  # a model that vLLM knows and transformers does not
        return 0
    return sum(parameter.numel() for parameter in model.parameters())


@contextlib.contextmanager
def _host_kept() -> Iterator[None]:
    """Undo what vLLM changes for the sake of its own worker processes, and keep its warnings to its authors."""
    import torch

    threads, preload = torch.set_num_threads, os.environ.get("LD_PRELOAD")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = threads
        if preload is None:
            os.environ.pop("LD_PRELOAD", None)
        else:
            os.environ["LD_PRELOAD"] = preload
