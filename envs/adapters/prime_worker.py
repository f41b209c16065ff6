"""The program that runs an environment of the package `verifiers` of PrimeIntellect, in an interpreter that has it.

`envs.adapters.prime` runs this file as a script, with another interpreter: it imports nothing of Stepwell, whose own
package `verifiers` would stand in the way. It speaks lines of JSON (`envs.adapters.child`).

The package runs an agent against a server of a model. Here that server is this program: a run is begun, and stands
still wherever it asks its model for a reply, until the reply comes. What the run asked with is what the environment
answered to the reply before. So it is the package that plays every part of a run, its rubric included.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import hashlib
import importlib
import importlib.metadata
import itertools
import json
import os
import pkgutil
import resource
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

MIB = 1 << 20
TURNS = "stepwell_turns"  # the module that the package finds our harness in
KEY = "STEPWELL_NO_KEY"  # the variable it reads the key of our server from: there is none
LONGEST = 50_000  # characters of a question; a row with a longer one is left out
SHOWN = 20_000  # characters of an observation
Run = Callable[[str], Awaitable[float]]  # plays a row against the model of that name, and returns the reward


class Refused(Exception):
    """Why an environment cannot be used, or a run failed; told without its type."""


# ------------------------------------------------------------------------------------------------------------ episodes


class Episode:
    """A run under way: what it asks its model, and what it came to."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[list[dict[str, Any]] | None] = asyncio.Queue()  # None: it is over
        self.replies: asyncio.Queue[str] = asyncio.Queue()
        self.task: asyncio.Task[float] | None = None

    def start(self, played: Awaitable[float]) -> None:
        """Begin."""
        self.task = asyncio.ensure_future(played)
        self.task.add_done_callback(lambda _: self.asked.put_nowait(None))

    async def seen(self) -> dict[str, Any]:
        """Wait until it asks or is over; raises what ended it."""
        asked = await self.asked.get()
        if asked is not None:
            return {"text": observed(asked), "over": False, "reward": 0.0}
        assert self.task is not None
        return {"text": "", "over": True, "reward": self.task.result()}

    async def close(self) -> None:
        """End it."""
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await self.task


def observed(messages: list[dict[str, Any]]) -> str:
    """What follows the last message of the model."""
    spoken = [place for place, message in enumerate(messages) if message.get("role") == "assistant"]
    return "\n".join(map(text_of, messages[spoken[-1] + 1 if spoken else 0 :]))[:SHOWN]


def text_of(message: Any) -> str:
    """The text of a message, without pictures."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")


def question_of(messages: list[Any]) -> str | None:
    """A prompt as one text, None if it is too long; roles are told where an agent speaks in it."""
    plain = all(message.get("role") in ("system", "developer", "user") for message in messages)
    texts = [text_of(each) if plain else f"{each.get('role')}: {text_of(each)}" for each in messages]
    question = "\n\n".join(filter(None, (text.strip() for text in texts)))
    return question if len(question) <= LONGEST else None


# ---------------------------------------------------------------------------------------------------- the package, v1


class Tasks:
    """A taskset of `verifiers.v1`, played by a harness that only talks."""

    def __init__(self, environment: str, args: dict[str, Any], rows: int, server: str) -> None:
        self.vf = importlib.import_module("verifiers.v1")
        loaders = importlib.import_module("verifiers.v1.utils.loaders")
        self.message = importlib.import_module("verifiers.v1.dialects.chat").message_to_wire
        self._offer_harness()
        kind = loaders.env_config_type(environment)
        seats = [name for name, each in kind.model_fields.items() if isinstance(each.default, self.vf.AgentConfig)]
        if len(seats) != 1:
            raise Refused(f"it has {len(seats)} agents ({', '.join(seats)}); environments with one are played")
        seat = {"harness": {"id": TURNS}, "runtime": {"type": "subprocess"}}
        config = loaders.resolve_env_config({"taskset": {**args, "id": environment}, seats[0]: seat})
        self.env = loaders.load_environment(config)
        self.client = self.vf.EvalClientConfig(base_url=server, api_key_var=KEY)
        self.tasks = list(itertools.islice(self.env.taskset, rows))
        self.many = type(self.env).run is not self.vf.SingleAgentEnv.run

    def _offer_harness(self) -> None:
        more = {"APPENDS_SYSTEM_PROMPT": True, "SUPPORTS_RESUME": True, "EXECUTES_CODE": False}
        kind = type("Turns", (self.vf.Harness,), {"launch": self._launch, "NEEDS_CONTAINER": False, **more})
        module = types.ModuleType(TURNS)
        vars(module).update(Turns=kind, __all__=["Turns"])
        sys.modules[TURNS] = module

    async def _launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: Any, data: Any
    ) -> Any:
        """One turn: the harness asks the model once, by way of the package."""
        prompt = data.prompt if isinstance(data.prompt, list) else [self.vf.UserMessage(content=data.prompt or "")]
        messages = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
        body = {"model": ctx.model, "messages": [*messages, *map(self.message, prompt)]}
        head = {"Authorization": f"Bearer {secret}"}
        reply = await self.http.post(f"{endpoint}/chat/completions", json=body, headers=head)
        failed = reply.status_code != 200
        return importlib.import_module("verifiers.v1.runtimes").ProgramResult(int(failed), "", reply.text * failed)

    def question(self, row: int) -> str | None:
        """The prompt of a row: empty where the environment opens the conversation, None where it is too long."""
        data = self.tasks[row].data
        messages = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
        if isinstance(data.prompt, str):
            messages.append({"role": "user", "content": data.prompt})
        else:
            messages += map(self.message, data.prompt or [])
        return question_of(messages)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Hold what runs share."""
        async with importlib.import_module("httpx").AsyncClient(timeout=None) as self.http, self.env.serving():
            yield

    async def play(self, row: int, model: str) -> float:
        """One run; raises what failed in it."""
        context = self.vf.ModelContext(model=model, client=self.client)
        episode = await self.env.run_episode(self.tasks[row], context)
        errors = [*episode.errors, *itertools.chain.from_iterable(trace.errors for trace in episode.traces)]
        if not episode.ok:
            raise Refused(f"{errors[0].type}: {errors[0].message}" if errors else "the run failed")
        return float(episode.traces[0].reward)


# ---------------------------------------------------------------------------------------------------- the package, v0


class Rows:
    """An environment of `verifiers` before 0.4: ``load_environment``, a data set, and a rubric."""

    def __init__(self, environment: str, args: dict[str, Any], rows: int, server: str) -> None:
        self.vf = importlib.import_module("verifiers")
        types_of = importlib.import_module("verifiers.types")
        self.env = self.vf.load_environment(environment, **args)
        data = self.env.get_eval_dataset()
        self.tasks = [dict(row) for row in data.select(range(min(rows, len(data))))]
        client = types_of.ClientConfig(api_base_url=server, api_key_var=KEY, max_retries=0)
        self.client = importlib.import_module("verifiers.clients").resolve_client(client)
        self.many = not isinstance(self.env, self.vf.SingleTurnEnv)

    def question(self, row: int) -> str | None:
        """The prompt of a row."""
        prompt = self.tasks[row]["prompt"]
        return question_of([{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Nothing is shared."""
        yield

    async def play(self, row: int, model: str) -> float:
        """One run; raises what failed in it."""
        output = await self.env.run_rollout(self.tasks[row], self.client, model, {})
        if output.get("error"):
            raise Refused(str(output["error"]))
        return float(output["reward"])


def load(environment: str, args: dict[str, Any], rows: int, server: str, folder: str) -> Tasks | Rows:
    """The environment; raises what its own code raises."""
    name = environment.rsplit("/", 1)[-1].split("@", 1)[0]
    module = name.replace("-", "_").lower()
    if module in modules("verifiers.v1.tasksets"):
        return Tasks(environment, args, rows, server)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise Refused(f"no environment {environment!r} is installed there{guess(module, folder)}") from None
    kind = Rows if hasattr(found, "load_environment") else Tasks
    return kind(name, args, rows, server)


def modules(package: str) -> list[str]:
    """The modules of a package; none where there is no such package."""
    try:
        return [each.name for each in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    except ModuleNotFoundError:
        return []


def guess(module: str, folder: str) -> str:
    """The nearest environment there is: in the folder, of the package, or installed beside it."""
    users = [
        each.name.replace("-", "_").lower()
        for each in importlib.metadata.distributions()
        if any(line.partition(";")[0].startswith("verifiers") for line in each.requires or [])
    ]
    local = [each.name for each in pkgutil.iter_modules([folder])] if folder else []
    there = sorted({*users, *local, *modules("verifiers.v1.tasksets")})
    near = difflib.get_close_matches(module, there, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(there) or 'none'}"


# ---------------------------------------------------------------------------------------------------------- the worker


class Worker:
    """Answers requests; the names of its methods are those of the requests."""

    def __init__(self, environment: Tasks | Rows, episodes: dict[str, Episode]) -> None:
        self.environment, self.episodes = environment, episodes
        self.names = map(str, itertools.count())

    def hello(self) -> dict[str, Any]:
        """What there is."""
        questions = [self.environment.question(row) for row in range(len(self.environment.tasks))]
        digest = hashlib.sha256(json.dumps(questions).encode()).hexdigest()
        return {"rows": len(questions), "many": self.environment.many, "digest": digest}

    async def questions(self, first: int, last: int) -> list[str | None]:
        """Of some rows."""
        return [self.environment.question(row) for row in range(first, last)]

    async def begin(self, row: int) -> dict[str, Any]:
        """A run of a row, up to where it asks its model."""
        name, episode = next(self.names), Episode()
        self.episodes[name] = episode
        episode.start(self.environment.play(row, name))
        return {"episode": name, **await self._seen(name)}

    async def act(self, episode: str, text: str) -> dict[str, Any]:
        """Reply in its model's place, and wait until it asks again or is over."""
        self.episodes[episode].replies.put_nowait(text)
        return await self._seen(episode)

    async def end(self, episode: str) -> None:
        """Give a run up."""
        if found := self.episodes.pop(episode, None):
            await found.close()

    async def _seen(self, name: str) -> dict[str, Any]:
        over = True
        try:
            seen = await self.episodes[name].seen()
            over = seen["over"]
        finally:
            if over:
                del self.episodes[name]
        return seen


async def serve_model(episodes: dict[str, Episode]) -> str:
    """Answer for the model: the name of the model is that of the episode. Returns the address."""
    web = importlib.import_module("aiohttp.web")

    async def complete(request: Any) -> Any:
        body = await request.json()
        episode = episodes[body["model"]]
        episode.asked.put_nowait(body["messages"])
        message = {"role": "assistant", "content": await episode.replies.get()}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        made = {"id": "0", "object": "chat.completion", "created": 0, "model": body["model"]}
        return web.json_response({**made, "choices": [choice], "usage": usage})

    app = web.Application(client_max_size=64 * MIB)
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"


def confine(memory: int) -> None:
    """Bound the address space of this process and of what it starts."""
    with contextlib.suppress(ValueError, OSError):  # a system that lacks the limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def told(error: BaseException) -> dict[str, str]:
    """An error as a reply."""
    named = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
    return {"error": named[:SHOWN]}


async def main() -> None:
    """Answer requests until standard input ends; the first one says what to load."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the environment prints is no reply
    requests = asyncio.StreamReader(limit=64 * MIB)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)

    def reply(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=replies, flush=True)

    first = json.loads(await requests.readline())
    confine(first.pop("memory") * MIB)
    sys.path[:0] = [first["folder"]] if first["folder"] else []
    episodes: dict[str, Episode] = {}
    try:
        if not any(each.name == "verifiers" for each in importlib.metadata.distributions()):
            raise Refused("the package verifiers is not installed there: pip install verifiers, with that interpreter")
        environment = load(server=await serve_model(episodes), **first)
        worker = Worker(environment, episodes)
        greeting = worker.hello()
    except Exception as error:  # of code that is not ours
        reply(told(error))
        return
    async with environment.serving():
        reply({"ok": greeting})
        while line := await requests.readline():
            request = json.loads(line)
            try:
                reply({"ok": await getattr(worker, request.pop("do"))(**request)})
            except Exception as error:  # a rubric that raises, a tool that fails
                reply(told(error))


if __name__ == "__main__":
    asyncio.run(main())
