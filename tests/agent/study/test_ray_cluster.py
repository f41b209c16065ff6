"""A study on a cluster of two nodes, on this machine: the results of one machine, and those when a worker is killed."""

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="ray is not installed (extra: ray)")

import ray

from agent.recipes.recipe import Component
from agent.study.progress import Progress
from agent.study.ray_cluster import _after_death, _Batch, run_on_ray
from agent.study.results_db import StudyFile
from agent.study.rows import VOTES, Place, failure_of
from agent.study.run import measure, open_study, study_problems
from agent.study.study import Study

pytestmark = pytest.mark.filterwarnings("ignore")  # of ray's own

TOY = Study(
    environments=(Component("toy"),),
    policies=(Component("scripted", {"delay": 0.003}),),
    verifiers=(Component("table"),),
    strategies=(Component("majority"), Component("beam", {"branch": 2})),
    budgets=(4,),
    n=24,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, whose workers are as important as everything else on this machine."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
        ray.shutdown()
        made.shutdown()


def searchers() -> list[int]:
    """The processes that hold our actors: Ray gives them the name of the class."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::Searcher"):
                found.append(int(folder.name))
    return found


def content(path: Path) -> list[Any]:
    with StudyFile(path) as file:
        results = [{key: row[key] for key in row if key not in ("seconds", "run")} for row in file.results()]
        return [results, list(file.candidates()), file.votes()]


def measured_on_ray(study: Study, path: Path, **options: Any) -> Path:
    problems = study_problems(study)
    with open_study(study, path, problems) as file:
        run_on_ray(study, file, problems, "auto", **options)
    return path


def test_the_results_are_those_of_one_machine_though_a_worker_is_killed(cluster: Any, tmp_path: Path) -> None:
    killed: list[int] = []
    ours = set(searchers())  # none yet, unless another run is on this machine

    def kill_one(progress: Progress) -> None:
        if not killed and progress.done >= 3 and (running := set(searchers()) - ours):
            killed.append(running.pop())
            os.kill(killed[0], signal.SIGKILL)

    path = measured_on_ray(TOY, tmp_path / "cluster.sqlite", on_progress=kill_one, concurrency=4)
    assert killed
    measure(TOY, tmp_path / "here.sqlite")
    assert content(path) == content(tmp_path / "here.sqlite")
    with StudyFile(path) as file:
        assert len(file.done()) == file.total() == 48
    measured_on_ray(TOY, path)  # nothing is left to do


def test_a_batch_that_kills_is_halved_and_a_search_that_kills_is_given_up() -> None:
    problem = study_problems(replace(TOY, n=1))["toy"][1][0]
    batch = _Batch("models", [(Place(0, number), problem) for number in range(1, 4)])
    assert _after_death(batch) == _after_death(batch) == [batch]
    first, second = _after_death(batch)
    assert [place.problem for place, _ in first.wanted + second.wanted] == [1, 2, 3]
    for _ in range(2):
        assert _after_death(first) == [first]
    assert _after_death(first) == []
    together = replace(batch, whole=True, deaths=2)
    assert _after_death(together) == []
    result = failure_of(Place(0, 1), "it died", known=True)
    assert (result.row["correct"], result.row["error"], len(result.votes)) == (0, "it died", len(VOTES))
