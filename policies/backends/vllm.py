"""Any causal language model of vLLM as a policy, in this process.

One request of vLLM for each sample, with its own seed. Samples join and leave at every step of the engine, and nothing
waits for the slowest; a sample is one request from its first token to its last, unless what its state reads as differs
from what it wrote (`policies.generation.chat`). Siblings share their prompt, and what was written for a search is found
again by those who go on from it, in blocks of 16 tokens (32 on a CPU).

On a CPU tokens are drawn as by the other backends (`policies.generation.vllm_draws`): a seed gives the sample that it
gives with `hf:`. On a GPU vLLM draws them by its own means.

What a sample depends on: its state, its seed and the temperature, and the numbers that the model gives. Those differ in
their last bits with what else is in a batch, where kernels add in another order, and then a token may differ, once in
thousands. On a CPU in float32 small models do not: `check_policy` passes. On a GPU ``VLLM_BATCH_INVARIANT=1`` in the
environment asks vLLM for kernels that never do.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from envs.core import Environment
from envs.options import Above, AtLeast, Group
from policies.core import Propose, Proposed
from policies.generation.batch import StepEvent
from policies.generation.chat import ChatFormat
from policies.generation.confidence import MOST_TOLD, certainty_of
from policies.generation.options import SamplingOptions
from policies.generation.requests import BrokenModel, Job
from policies.generation.step_stream import StepWriter, StreamedSample, spent_on
from policies.models.checkpoints import find_folder
from policies.models.digest import model_digest
from policies.models.vllm_engine import Drawn, VllmEngine, VllmOptions

_BURST = 0.25  # seconds of one poll after which it returns, so that a caller can interrupt
_SEEDS = (1 << 63) - 1  # some of vLLM's kernels take no more bits


class VllmPolicy:
    """A causal language model as a `Policy`.

    Args:
        model: a folder, a GGUF file or a hub's id.
        environment: whose problems it continues; ends steps and trajectories.
        options: how it is asked and where its steps end.
        name: in records; by default the model's, without the folders before it.
        dtype, max_model_len, kv_cache_gb, gpu_memory_utilization, tensor_parallel_size, max_num_seqs, enforce_eager:
            of `policies.models.vllm_engine.VllmOptions`.

    Raises:
        UnsupportedModel: vLLM is not installed here, or does not run the model.
        ValueError: for options that it cannot keep.
    """

    def __init__(
        self,
        model: str | Path,
        environment: Environment,
        options: Annotated[SamplingOptions | None, Group()] = None,
        *,
        name: str | None = None,
        dtype: str = "auto",
        max_model_len: Annotated[int, AtLeast(1)] | None = None,
        kv_cache_gb: Annotated[float, Above(0)] | None = None,
        gpu_memory_utilization: Annotated[float, Above(0, 1)] = 0.9,
        tensor_parallel_size: Annotated[int, AtLeast(1)] = 1,
        max_num_seqs: Annotated[int, AtLeast(1)] = 256,
        enforce_eager: bool | None = None,
    ) -> None:
        path = self._place = Path(model).expanduser()
        self.name = name or (path.resolve().name.removesuffix(".gguf") if path.exists() else str(model))
        self._options = options or SamplingOptions()
        if self._options.thinking_tokens or self._options.thinking_least:
            raise ValueError(
                "vLLM in this process keeps no thinking budget here; run the model by hf:, or by its server (openai:)"
            )
        if self._options.thinking_probe:
            raise ValueError("vLLM in this process cannot be asked in the middle of a thought; run the model by hf:")
        asked = VllmOptions(
            dtype,
            max_model_len,
            kv_cache_gb,
            gpu_memory_utilization,
            tensor_parallel_size,
            max_num_seqs,
            enforce_eager,
        )
        self._engine = VllmEngine(_checkpoint(model, path), "generate", asked)
        try:
            dialogue = ChatFormat(self._engine.tokenizer, environment, self._options, self._engine.ends)
        except BaseException:
            self._engine.close()
            raise
        self.parameters = self._engine.parameters
        self.thinks = dialogue.thinks
        self.environment, self.dialogue = environment, dialogue
        self._writer = StepWriter(dialogue, self._engine.context)
        self._top = 0  # likeliest tokens whose log-probabilities are asked for
        self._jobs: dict[int, Job] = {}
        self._done: list[tuple[Job, Exception | None]] = []
        self._running: dict[str, StreamedSample] = {}  # by the name of its request
        self._ended: list[str] = []  # requests that are over for us, and not yet for vLLM

    @property
    def converses(self) -> bool:
        """Whether the model is shown the turns before the question: it is asked in a chat."""
        return self.dialogue.chat

    def digest(self) -> str:
        """Of the files that make the model."""
        return model_digest(self._place)

    def record_confidence(self, top: int) -> None:
        """Record how sure the model is of each token; raises ValueError for more likeliest tokens than vLLM tells."""
        if not 0 < top <= MOST_TOLD:
            given = "the whole vocabulary" if top == 0 else f"the {top} likeliest tokens"
            raise ValueError(f"vLLM tells the {MOST_TOLD} likeliest tokens; {given} of {self.name!r} were asked for")
        self._top = top

    def submit(self, ticket: int, request: Propose) -> None:
        """Hand a request to vLLM.

        Raises:
            ValueError: when a state leaves no room in the model's context, the request is malformed (see `Job.of`), or
                the ticket is in use.
        """
        job = Job.of(ticket, request, self._jobs)
        ids = [self.dialogue.ids(state) for state in request.states]
        for state, tokens in zip(request.states, ids, strict=True):
            if not 0 < len(tokens) < self._writer.context:
                raise ValueError(
                    f"problem {state.problem.id!r} with {len(state.steps)} steps takes {len(tokens)} tokens; "
                    f"policy {self.name!r} reads 1 to {self._writer.context - 1}"
                )
        self._jobs[ticket] = job
        if not job.missing:
            self._done.append((job, None))
        ended: dict[Any, Any] = {}  # siblings often write the same step
        try:
            for i, (state, tokens) in enumerate(zip(request.states, ids, strict=True)):
                spent = spent_on(state)
                for j, seed in enumerate(request.seeds[i]):
                    sample = StreamedSample(
                        request.scope, seed, request.temperature, tokens,
                        job=job, place=(i, j), state=state, most=self._writer.most(request, spent), spent=spent,
                        ended=ended,
                    )  # fmt: skip
                    self._writer.begin(sample)
                    self._ask(sample)
        except Exception:
            self._drop([job])
            del self._jobs[ticket]
            raise

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Run steps of the engine until a request is complete or `_BURST` seconds are over; return what is complete."""
        until = time.monotonic() + _BURST
        while self._running and not self._done:
            for drawn in self._engine.draw():
                if (sample := self._running.get(drawn.name)) is not None:
                    self._drawn(sample, drawn)
            self._engine.abort(self._ended)
            self._ended = []
            if time.monotonic() > until:
                break
        done, self._done = self._done, []
        for job, _ in done:
            del self._jobs[job.ticket]
        return [
            (job.ticket, job.reply(self.parameters, self._engine.position) if error is None else error)
            for job, error in done
        ]

    def partial(self, ticket: int) -> Proposed | None:
        """What there is of a reply that is not complete."""
        job = self._jobs.get(ticket)
        return None if job is None else job.partial(self.parameters, self._engine.position)

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search, and what was kept for it."""
        self._drop([job for job in self._jobs.values() if job.request.scope == scope])
        self._done = [(job, error) for job, error in self._done if job.request.scope != scope]
        self._jobs = {ticket: job for ticket, job in self._jobs.items() if job.request.scope != scope}
        self._engine.forget(scope)

    def close(self) -> None:
        """Drop everything and end the engine; the policy cannot be used again."""
        self._running, self._ended, self._jobs, self._done = {}, [], {}, []
        self._engine.close()

    def _ask(self, sample: StreamedSample) -> None:
        """Have vLLM go on from where a sample is."""
        from vllm import SamplingParams

        options, request = self._options, sample.job.request
        parameters: dict[str, Any] = {
            "max_tokens": sample.room,
            "detokenize": False,  # where a step ends is seen here, by the tokens
            "skip_clone": True,  # they are this request's own
        }
        drawing = None
        if self._engine.draws and request.temperature:
            from policies.generation.vllm_draws import Drawing  # not to be imported without vLLM

            drawing = Drawing(sample.seed, sample.drawn, request.temperature, options.top_p, options.top_k)
            parameters |= {"temperature": 0.0, "logprobs": self._top or None}
        else:
            parameters |= {
                "temperature": request.temperature,
                "top_p": options.top_p,
                "top_k": options.top_k,
                "seed": _seed(sample),
                "logprobs": self._top,  # with 0 of what was drawn alone, at temperature 1
            }
        name = self._engine.add(sample.ids, SamplingParams(**parameters), request.scope, drawing)
        self._running[name] = sample

    def _drawn(self, sample: StreamedSample, drawn: Drawn) -> None:
        """Take what vLLM drew for a sample."""
        job, writer = sample.job, self._writer
        job.prefilled += drawn.run or 0
        led: StepEvent = "on"
        try:
            for token, logprobs in zip(drawn.ids, drawn.logprobs, strict=True):
                logprob = logprobs[0]
                if logprob != logprob:
                    raise BrokenModel(self.name)
                if self._top:
                    sample.certainty.append(certainty_of(logprobs[1:], self._top))
                led = writer.add(sample, token, logprob)
                if led in ("anew", "end"):
                    break
            else:
                if drawn.reason is not None:
                    raise RuntimeError(f"vLLM ended a sample of {self.name!r} before its time: {drawn.reason}")
                return
            del self._running[drawn.name]
            self._ended.append(drawn.name)
            if led == "anew":
                self._ask(sample)
            elif job.finish(
                sample.place, sample.steps, sample.drawn, transitions=sample.transitions, context=sample.context
            ):
                self._done.append((job, None))
        except Exception as error:  # of the environment
            self._drop([job])
            self._done.append((job, error))

    def _drop(self, jobs: Sequence[Job]) -> None:
        """End the samples of requests."""
        names = [name for name, sample in self._running.items() if any(sample.job is job for job in jobs)]
        self._engine.abort(names)
        for name in names:
            del self._running[name]


def _checkpoint(model: str | Path, path: Path) -> str | Path:
    # the tokenizer of a GGUF file is transformers' matter; vLLM fetches from a hub by itself
    return find_folder(model) if path.suffix == ".gguf" or path.is_dir() else model


def _seed(sample: StreamedSample) -> int:
    """Its own, or for a later request of the same sample one that follows from it."""
    if not sample.drawn:
        return sample.seed & _SEEDS
    digest = hashlib.blake2b(f"{sample.seed}/{sample.drawn}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & _SEEDS
