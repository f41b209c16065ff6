"""A study on a Ray cluster (extra ``ray``): actors hold the models and search, the driver alone writes the file.

A search depends on its problem, its seed and the models only, so the results are those of one machine. Problems go out
in batches, one to an actor at a time; when an actor dies (its machine went away, its memory ran out), another takes
over, and its batch is searched again. Every machine needs Stepwell installed, and the models where the study says.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from loguru import logger
from ray.exceptions import RayActorError

from agent.solver import Solver
from agent.study.progress import Progress
from agent.study.results_db import StudyFile
from agent.study.rows import Place, Result, failure_of
from agent.study.run import Problems, by_cell, lacking, search_all, shared_models, study_problems, track
from agent.study.study import Study
from envs.core import Problem
from envs.messages import UsageError

_DEATHS = 3  # of actors on a batch before it is halved; a single problem is then given up
_ROUNDS = 4  # batches that an actor gets of one group of models, at least, so that none waits long for the last
_WAIT = 0.5  # seconds between two looks at whether to stop


@dataclass
class _Batch:
    """Searches that need the same models, and how many actors died of them."""

    group: str  # the label of the models
    wanted: list[tuple[Place, Problem]]
    whole: bool = False  # they share a budget, and stay together
    deaths: int = 0


class Searcher:
    """What runs in an actor: it keeps the models of one group, and searches batches with them."""

    def __init__(self, study: Study, concurrency: int) -> None:
        self.study = study
        self.concurrency = concurrency
        self.recipes = {group_label(recipe): recipe for recipe, _ in shared_models(study)}
        self.problems = study_problems(study)
        self.group = ""
        self.solver: Solver | None = None

    def search(self, group: str, wanted: list[tuple[Place, Problem]]) -> list[Result]:
        """The results of a batch."""
        if self.solver is None or self.group != group:
            if self.solver is not None:
                self.solver.close()
            recipe = self.recipes[group]
            self.solver = Solver.from_recipe(recipe, self.problems[recipe.environment.label][0])
            self.group = group
        return [result for result, _ in search_all(self.study, self.solver, wanted, self.concurrency)]


def group_label(recipe: Any) -> str:
    """What tells the models of a recipe from others."""
    return " / ".join(part.label for part in (recipe.environment, recipe.policy, recipe.verifier))


def run_on_ray(
    study: Study,
    file: StudyFile,
    problems: Problems,
    address: str,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    concurrency: int = 64,
    workers: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run what a file of results lacks on a Ray cluster, and write it.

    Args:
        study: what to measure.
        file: opened for writing for the same study.
        problems: of `study_problems`.
        address: of the cluster, as ``ray.init`` takes it: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``; ``local``
            starts one here.
        on_progress: called when results come, in this thread.
        concurrency: searches open at once, of each actor.
        workers: actors; by default one for each GPU of the cluster, or for each CPU where there is none.
        stopped: whether to end; batches that are out are then lost, and run again by the next run.

    Raises:
        UsageError: when there is no cluster at the address.
    """
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"no Ray cluster at {address!r}: {error}") from None
    try:
        if study.total_budget is not None:
            file.forget_cut_cells()
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        count = workers or gpus or max(1, int(resources.get("CPU", 1)))
        kind = ray.remote(num_cpus=1, num_gpus=min(1.0, gpus / count), max_restarts=0)(Searcher)
        batches: list[_Batch] = []
        for recipe, wanted in lacking(study, file, problems):
            label = group_label(recipe)
            if study.total_budget is not None:
                batches += [_Batch(label, part, whole=True) for part in by_cell(wanted)]
            else:
                size = max(1, min(concurrency, -(-len(wanted) // (_ROUNDS * count))))
                batches += [_Batch(label, wanted[at : at + size]) for at in range(0, len(wanted), size)]
        tracker = track(study, file, problems, on_progress)

        def keep(results: Sequence[Result]) -> None:
            file.write(*results)
            for result in results:
                tracker.finish(result)

        _distribute(batches, lambda: kind.remote(study, concurrency), min(count, len(batches)), keep, stopped)
    finally:
        if ours:
            ray.shutdown()


def _distribute(
    batches: Sequence[_Batch],
    hire: Callable[[], Any],
    count: int,
    keep: Callable[[Sequence[Result]], None],
    stopped: Callable[[], bool],
) -> None:
    """Hand batches to actors, hire another for one that dies, and keep what comes back."""
    waiting = deque(batches)
    idle = [hire() for _ in range(count)]
    out: dict[Any, tuple[Any, _Batch]] = {}
    try:
        while (waiting or out) and not stopped():
            while waiting and idle:
                actor, batch = idle.pop(), waiting.popleft()
                out[actor.search.remote(batch.group, batch.wanted)] = actor, batch
            ready, _ = ray.wait(list(out), timeout=_WAIT)
            for reference in ready:
                actor, batch = out.pop(reference)
                try:
                    results = ray.get(reference)
                except RayActorError as death:
                    logger.warning("a worker died; its {} searches start again: {}", len(batch.wanted), death)
                    idle.append(hire())
                    if rest := _after_death(batch):
                        waiting.extendleft(rest)
                    else:
                        error = f"{_DEATHS} workers died of it; the last: {death}"
                        keep([failure_of(place, error, known.answer is not None) for place, known in batch.wanted])
                else:
                    idle.append(actor)
                    keep(results)
    finally:
        for actor in [*idle, *(actor for actor, _ in out.values())]:
            ray.kill(actor)


def _after_death(batch: _Batch) -> list[_Batch]:
    """What to try next when an actor died of a batch: the same again, then halves; nothing for what stays together."""
    batch.deaths += 1
    if batch.deaths < _DEATHS:
        return [batch]
    half = 0 if batch.whole else len(batch.wanted) // 2
    return [_Batch(batch.group, part) for part in (batch.wanted[:half], batch.wanted[half:])] if half else []
