"""What the server holds out: many clients at once, clients that vanish or read slowly, a policy that fails.

    python -m tests.benchmarks.serving [load leavers slow halves failing schema] [--seconds 60] [--clients 64]

Each part starts a real `stepwell serve` on loopback, and prints a row. All loops are bounded in time and count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from envs.toy import Toy
from tests.servers import Faults, Script, Server, openai_routes

ROOT = Path(__file__).parents[2]
PARTS = ("load", "leavers", "slow", "halves", "failing", "schema")
BUDGET, LONG = 16, 256
ROUNDS, PROBLEMS = 8, 2000  # of `load`
HARD = {"model": f"stepwell/mcts-{LONG}", "messages": [{"role": "user", "content": "(17 + 8) * 3 - 40 * (2 + 5)"}]}


@contextmanager
def server(*words: str) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address, and the process."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent.interface.cli", "serve", "--port", "0", "--graphs", folder, *words],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found is not None, "the server did not start"
            yield found[0], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(90)


def health(url: str) -> dict[str, Any]:
    got: dict[str, Any] = httpx2.get(f"{url}/health", verify=False, trust_env=False).json()
    return got


def counters(url: str) -> dict[str, float]:
    """What the server counted."""
    text = httpx2.get(f"{url}/metrics", verify=False, trust_env=False).text
    rows = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


# ---------------------------------------------------------------------------------------------------------------- load

_EVAL = """
import json, math, sys, time
from pathlib import Path
from agent.recipes.recipe import load_recipe
from agent.solver import task
from agent.build import strategy_of
from agent.study.run import open_study, run_study, study_problems
from agent.study.study import Study
seconds, clients, budget, n = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
recipe, path = load_recipe("arithmetic", [f"budget.samples={budget}"]), Path(sys.argv[5])
parts = [(part,) for part in (recipe.environment, recipe.policy, recipe.strategy)]
study = Study(*parts, (budget,), (recipe.verifier,), vote=recipe.vote, temperature=recipe.temperature, n=n)
problems = study_problems(study)
((_, drawn),) = problems.values()
began = math.inf
def waited():
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
def begin(solver):
    global began, before, waited_before
    list(solver.run([task(drawn[0], strategy_of(recipe), recipe.budget)]))
    began, before, waited_before = time.monotonic(), time.process_time(), waited()
with open_study(study, path, problems) as file:
    run_study(study, file, problems, concurrency=clients, on_solver=begin,
              stopped=lambda: time.monotonic() - began > seconds)
    cpu, seconds, wait = time.process_time() - before, time.monotonic() - began, waited() - waited_before
    found = {graph["problem"]["question"]: graph["info"] for _, graph in file.raw_graphs()}
took = [info["spent"]["seconds"] for info in found.values()]
found = {key: [info["answer"], {**info["spent"], "seconds": 0}] for key, info in found.items()}
print(json.dumps({"seconds": seconds, "took": took, "found": found, "cpu": cpu, "active": seconds - wait}))
"""


def evaluated(seconds: float, clients: int) -> dict[str, Any]:
    """The same searches without a server, as many at once, by what `stepwell eval` runs: results go into its file."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", _EVAL, *map(str, (seconds, clients, BUDGET, PROBLEMS, f"{folder}/eval.sqlite"))]
        said = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, cwd=ROOT).stdout
    result: dict[str, Any] = json.loads(said)
    assert len(result["took"]) < PROBLEMS, "there are too few problems for so many seconds"
    return result


async def crowd(url: str, seconds: float, clients: int, questions: Sequence[str]) -> dict[str, Any]:
    """Clients that ask one question after the other, streamed, for some seconds."""
    began, took, lost = time.monotonic(), list[float](), list[str]()
    found: dict[str, Any] = {}
    mixed, numbers = 0, iter(range(10**9))

    async def client(session: httpx2.AsyncClient) -> None:
        nonlocal mixed
        while time.monotonic() - began < seconds:
            question = questions[next(numbers) % len(questions)]
            body = {"model": "stepwell/auto", "stream": True, "messages": [{"role": "user", "content": question}]}
            asked, content, about = time.monotonic(), "", None
            try:
                async with session.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
                    async for line in reply.aiter_lines():
                        if line.startswith("data: {"):
                            chunk = json.loads(line[6:])
                            content += chunk["choices"][0]["delta"].get("content") or ""
                            about = chunk.get("stepwell", about)
            except httpx2.TransportError as error:
                lost.append(repr(error))
                continue
            if time.monotonic() - began < seconds:  # while all clients ask
                took.append(time.monotonic() - asked)
            if about is None:
                lost.append(f"{reply.status_code}")
                continue
            (search,) = about["searches"]
            spent = [search["answer"], {**search["spent"], "seconds": 0}]
            mixed += found.setdefault(question, spent) != spent or content != (search["answer"] or "")

    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=120.0, limits=limits) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    whole = {"asked": next(numbers), "active": time.monotonic() - began}
    return {"seconds": seconds, "took": took, "found": found, "lost": lost, "mixed": mixed, **whole}


def load(seconds: float, clients: int) -> None:
    """Searches through the server and by what `stepwell eval` runs, in turn."""
    from agent.build import environment_of
    from agent.recipes.recipe import load_recipe

    problems = environment_of(load_recipe("arithmetic")).problems("test", PROBLEMS)
    questions = [problem.question for problem in problems]
    rates: dict[str, list[float]] = {"eval": [], "served": []}
    work: dict[str, list[float]] = {"eval": [], "served": [], "connections": []}
    active: dict[str, list[float]] = {"eval": [], "served": []}
    tails: dict[str, list[float]] = {"eval": [], "served": []}
    lost = mixed = asked = 0
    with server("--config", "arithmetic", "--budget", str(BUDGET)) as (url, process):
        engine = _engine(process)
        asyncio.run(crowd(url, 2.0, clients, questions))
        for number in range(ROUNDS):
            runs: dict[str, dict[str, Any]] = {}
            for name in ("eval", "served") if number % 2 else ("served", "eval"):
                if name == "eval":
                    runs[name] = evaluated(seconds / ROUNDS, clients)
                    continue
                before = _cpu(engine), _cpu(process), _waited(engine)
                runs[name] = through = asyncio.run(crowd(url, seconds / ROUNDS, clients, questions))
                through["cpu"] = _cpu(engine) - before[0]
                through["active"] -= _waited(engine) - before[2]
                work["connections"].append((_cpu(process) - before[1]) / through["asked"])
            for name, run in runs.items():
                rates[name].append(len(run["took"]) / run["seconds"])
                work[name].append(run["cpu"] / run.get("asked", len(run["took"])))
                active[name].append(run["active"] / run.get("asked", len(run["took"])))
                tails[name].append(percentile(run["took"], 0.95))
            lost, asked = lost + len(through["lost"]), asked + through["asked"]
            others = runs["eval"]["found"]
            mixed += through["mixed"] + sum(others.get(key, value) != value for key, value in through["found"].items())
        after = health(url)
    rate, tail, cost, pure = (
        statistics.median(b / a for a, b in zip(each["eval"], each["served"], strict=True))
        for each in (rates, tails, work, active)
    )
    print(
        f"load: {clients} clients, {asked} replies: {lost} lost, {mixed} mixed up or other than those of eval;"
        f" {statistics.median(rates['served']):.1f} a second ({rate:.2f} of eval), p95"
        f" {statistics.median(tails['served']):.2f} s ({tail:.2f}); processor time a search: engine"
        f" {1000 * statistics.median(work['served']):.1f} ms ({cost:.2f}), connections"
        f" {1000 * statistics.median(work['connections']):.1f} ms; open afterwards: {after['running']}"
    )
    print(f"      time a search in which no processor was waited for: {pure:.2f} of eval's")
    shown = [f"{b / a:.2f} {d / c:.2f}" for a, b, c, d in zip(*rates.values(), *tails.values(), strict=True)]
    print(f"      throughput and p95 as shares of those of eval, by round: {'; '.join(shown)}")


def _cpu(process: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _waited(process: int) -> float:
    """Seconds for which the busiest thread of a process, the one that searches, was ready and had no processor."""
    threads = [path.read_text().split() for path in Path(f"/proc/{process}/task").glob("*/schedstat")]
    return max((int(run), int(wait)) for run, wait, _ in threads)[1] / 1e9


def _engine(process: int) -> int:
    """The process of the engine of a server."""
    (found,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(found)


# ------------------------------------------------------------------------------------------------- clients that go away

_CLIENT = """
import httpx2, json, sys
with httpx2.stream("POST", sys.argv[1] + "/v1/chat/completions", json=json.loads(sys.argv[2]), timeout=60) as reply:
    print(next(reply.iter_bytes())[:1], flush=True)
    for _ in reply.iter_bytes(): pass
"""


def leavers(seconds: float, clients: int) -> None:
    """Clients that are killed in mid-stream: their searches end, and with them the calls of the models."""
    with server("--config", "arithmetic") as (url, _):
        killed, freed, until = 0, list[float](), time.monotonic() + seconds
        body = json.dumps({**HARD, "stream": True})
        while time.monotonic() < until and killed < 200:
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", _CLIENT, url, body], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
                for _ in range(4)
            ]
            for each in processes:
                assert each.stdout is not None
                each.stdout.readline()
            for each in processes:
                os.kill(each.pid, signal.SIGKILL)
                each.wait()
            left = time.monotonic()
            while health(url)["running"] and time.monotonic() - left < 20:
                time.sleep(0.005)
            freed.append(time.monotonic() - left)
            killed += len(processes)
        before = counters(url)["stepwell_flops_total"]
        time.sleep(1.0)
        after = counters(url)
        idle = after["stepwell_flops_total"] - before
        print(
            f"leavers: {killed} clients killed (kill -9) in mid-stream: all freed within {max(freed):.2f} s (median"
            f" {statistics.median(freed):.3f} s), {after['stepwell_searches_cancelled_total']:.0f} searches cancelled,"
            f" {idle:g} FLOPs afterwards"
        )


def _ask(url: str, body: dict[str, Any], buffer: int | None = None) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    made = socket.socket()
    if buffer is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(300)
    made.connect((host, int(port)))
    content = json.dumps(body).encode()
    made.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"content-type: application/json\r\n"
        + f"content-length: {len(content)}\r\n\r\n".encode() + content
    )  # fmt: skip
    return made


def slow(seconds: float, clients: int) -> None:
    """Clients that read nothing at first, then little at a time, while another asks and reads properly."""
    with server("--config", "arithmetic") as (url, _):
        body = {**HARD, "stream": True, "model": "stepwell/best-of-n-4", "n": 2}
        readers = [_ask(url, body, 1024) for _ in range(clients)]
        waits = []
        for _ in range(20):
            began = time.monotonic()
            with _ask(url, {"model": "stepwell/greedy", "messages": [{"role": "user", "content": "3 + 4"}]}) as quick:
                while quick.recv(65536):
                    pass
            waits.append(time.monotonic() - began)
        whole = 0
        for each in readers:
            received = b""
            with each:
                while chunk := each.recv(256):
                    received += chunk
            whole += received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        print(
            f"slow: {clients} clients with buffers of 1 KiB that read nothing at first: {whole} got all in the end;"
            f" another client meanwhile: p95 {percentile(waits, 0.95):.2f} s for a greedy answer"
        )


def halves(seconds: float, clients: int) -> None:
    """Clients that close the half that writes: like those that went away."""
    with server("--config", "arithmetic") as (url, _):
        made = [_ask(url, {**HARD, "stream": number % 2 == 0}) for number in range(clients)]
        deadline = time.monotonic() + 20
        while not health(url)["running"] and time.monotonic() < deadline:
            time.sleep(0.01)
        for each in made:
            each.shutdown(socket.SHUT_WR)
        left = time.monotonic()
        while sum(health(url)[key] for key in ("running", "waiting")) and time.monotonic() - left < 20:
            time.sleep(0.005)
        freed = time.monotonic() - left
        for each in made:
            each.close()
        print(f"halves: {clients} clients closed their half of the connection: all freed within {freed:.2f} s")


# ------------------------------------------------------------------------------------------------ a policy that fails


def failing(seconds: float, clients: int) -> None:
    """A policy server that fails three calls in ten behind the server."""
    toy = Toy()
    problems = toy.problems("test", 50)
    faults = Faults(0.3)
    with Server(openai_routes(Script(toy, problems), context=16384)) as behind:
        words = ["--env", "toy", "--policy", "openai:scripted", "--strategy", "majority", "--budget", "4"]
        options = {"base_url": behind.url, "timeout": 4, "patience": 300, "pause": 0.01, "longest_pause": 0.1}
        for key, value in options.items():
            words += ["--set", f"policy.{key}={value}"]
        with server(*words) as (url, _):

            async def ask() -> list[Any]:
                slots = asyncio.Semaphore(clients)

                async def one(session: httpx2.AsyncClient, question: str) -> Any:
                    async with slots:
                        body = {"model": "toy", "messages": [{"role": "user", "content": question}]}
                        reply = await session.post(f"{url}/v1/chat/completions", json=body)
                        return reply.status_code, reply.json().get("choices")

                async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=300.0) as session:
                    return await asyncio.gather(*(one(session, problem.question) for problem in (*problems, *problems)))

            sound = asyncio.run(ask())
            behind.faults, asked = faults, sum(behind.asked.values())
            found = asyncio.run(ask())
            failed, calls = sum(behind.failed.values()), sum(behind.asked.values()) - asked
    same = sum(one == other for one, other in zip(sound, found, strict=True))
    print(
        f"failing: {failed} of {calls} calls of the policy's server failed ({failed / calls:.0%}, nine kinds):"
        f" {same} of {len(found)} replies are those without faults"
    )


# -------------------------------------------------------------------------------------------------------------- schema


def schema(seconds: float, clients: int) -> None:
    """Schemathesis over the server's own description, with its own command."""
    with server("--env", "toy", "--limit", "deadline=5") as (url, _):
        words = [
            str(Path(sys.executable).parent / "st"), "run", f"{url}/openapi.json", "--max-examples", "300",
            "--phases", "examples,coverage,fuzzing", "--max-failures", "5", "--no-color",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance",
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, cwd=tempfile.gettempdir(), timeout=1800)
        found = re.search(r"([\d,]+) generated, .*", done.stdout)
        bad = {name: value for name, value in counters(url).items() if re.search(r'status="5', name)}
    cases = found[0] if found else done.stdout[-500:]
    print(f"schema: exit code {done.returncode}; test cases: {cases}; 5xx: {bad or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=[*PARTS, []])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for part in arguments.parts or PARTS:
        globals()[part](min(arguments.seconds, 600.0), min(arguments.clients, 256))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
