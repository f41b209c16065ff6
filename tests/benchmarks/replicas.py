"""Two replicas, one of which is killed under load: nothing is lost but its own requests, which their clients ask again.

    python -m tests.benchmarks.replicas ray      # on a local Ray: pip install 'ray[serve]'
    python -m tests.benchmarks.replicas nginx    # behind nginx, which asks the other replica itself

The replicas search in the toy environment with a slow policy, so that all have something to do when one dies.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

from agent.solver import Solver
from envs.toy import Toy
from policies.scripted import ScriptedPolicy
from tests.benchmarks.serving import ROOT, server
from verifiers.table import TableVerifier

OPTIONS = ["--env", "toy", "--set", "policy.delay=0.05", "--limit", "grace=5"]
NGINX = """
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    upstream stepwell {{
        least_conn;
        server {first} max_fails=1 fail_timeout=10s;
        server {second} max_fails=1 fail_timeout=10s;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://stepwell;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_read_timeout 700s;
            proxy_next_upstream error timeout http_503 non_idempotent;
        }}
    }}
}}
"""


@contextmanager
def on_ray() -> Iterator[tuple[str, list[int]]]:
    """The address of two replicas on a local Ray, and their processes."""
    import ray
    from ray import serve

    from agent.interface.server.ray_serve import application

    os.environ["PYTHONPATH"] = str(ROOT)
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as graphs:
            serve.start(http_options={"host": "127.0.0.1", "port": 8419})
            options = shlex.join([*OPTIONS, "--graphs", graphs])
            serve.run(application({"options": options, "least": "2", "most": "2", "cpus": "0.5"}))
            found = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal() and _is_replica(each)]
            yield "http://127.0.0.1:8419", found
    finally:
        serve.shutdown()
        ray.shutdown()


def _is_replica(process: Path) -> bool:
    try:
        return (process / "cmdline").read_bytes().startswith(b"ray::ServeReplica:default:stepwell")
    except OSError:
        return False


@contextmanager
def behind_nginx() -> Iterator[tuple[str, list[int]]]:
    """The address of nginx in front of two servers, and their processes."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*OPTIONS, "--graphs", f"{folder}/graphs"]
        with server(*words) as (first, one), server(*words) as (second, other):
            hosts = {"first": first.removeprefix("http://"), "second": second.removeprefix("http://")}
            config = Path(folder) / "nginx.conf"
            config.write_text(NGINX.format(folder=folder, port=8418, **hosts))
            nginx = subprocess.Popen(["nginx", "-c", str(config), "-g", "daemon off;"], stderr=subprocess.DEVNULL)
            try:
                time.sleep(1.0)
                yield "http://127.0.0.1:8418", [one, other]
            finally:
                nginx.terminate()
                nginx.wait(30)


async def crowd(url: str, replicas: Sequence[int], clients: int, requests: int) -> str:
    """Ask, kill a replica in the middle, and ask again what failed; what came of it."""
    questions = [f"{amount} with 1 5 7" for amount in range(5, 25)]
    alone = Solver(Toy(), ScriptedPolicy(Toy()), TableVerifier(Toy()))
    right = {question: alone.solve(question, "beam", seed=3).answer for question in questions}
    outcomes: Counter[str] = Counter()
    numbers, done, wrong, again, lost = iter(range(requests)), 0, 0, 0, 0

    async def client(session: httpx2.AsyncClient) -> None:
        nonlocal done, wrong, again, lost
        for number in numbers:
            question = questions[number % len(questions)]
            body = {"model": "stepwell/beam-16", "messages": [{"role": "user", "content": question}], "seed": 3}
            for attempt in range(10):
                try:
                    reply = await session.post(f"{url}/v1/chat/completions", json=body)
                    outcome = str(reply.status_code)
                except httpx2.TransportError as error:
                    outcome = type(error).__name__
                outcomes[outcome] += 1
                if outcome == "200":
                    wrong += reply.json()["choices"][0]["message"]["content"] != right[question]
                    again += attempt > 0
                    done += 1
                    break
                await asyncio.sleep(0.5)
            else:
                lost += 1
            if number == requests // 2:
                os.kill(replicas[0], signal.SIGKILL)

    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=0)
    async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=300.0, limits=limits) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return (
        f"{len(replicas)} replicas, one killed (kill -9) after half of {requests} requests of {clients} clients: {done}"
        f" answered, {wrong} wrong, {lost} lost, {again} asked again; attempts: {dict(outcomes)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["ray", "nginx"])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    way = on_ray() if arguments.way == "ray" else behind_nginx()
    with way as (url, replicas):
        said = asyncio.run(crowd(url, replicas, min(arguments.clients, 128), min(arguments.requests, 5000)))
    print(f"{arguments.way}: {said}")


if __name__ == "__main__":
    main()
