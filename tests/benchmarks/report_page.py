"""How long pages take in a real Chromium: to open, to follow the slider, to filter and sort a study's list.

    python tests/benchmarks/report_page.py [--nodes 5000 100000] [--results 20000] [--repeats 5]

Opening is from the start of the navigation to the second frame after the first row is there; the others are from the
event to the second frame after it. Writing is by Python. The searches and the study are made at random. For each the
time of the clock is printed, and that of the processor: the main thread of the page, or Python. On a machine that does
nothing else the clock shows little more than the processor; on a busy one it shows how busy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from agent.report.pages import save, write_searches, write_study
from agent.report.search_data import graph_data
from agent.study.results_db import StudyFile
from tests.agent.report.studies import forest, many_results
from tests.browser import LACKING, address, browser, complaints

LINES = 40  # of the study
OPENED = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('.row .number:not(:empty), .list-row > span:not(:empty)')) return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { window.opened = performance.now(); }));
}).observe(document, {childList: true, subtree: true, characterData: true});
"""
ACT = """
const [selector, value, type, done] = arguments;
const box = document.querySelector(selector);
const began = performance.now();
if (type === 'click') box.click();
else { box.value = value; box.dispatchEvent(new Event(type, {bubbles: true})); }
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
"""


@dataclass
class Times:
    """What something took, in milliseconds, each time that it was done."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def tell(self, what: str) -> None:
        """Print a line: median and longest."""
        figures = (f"{statistics.median(each):7.0f} {max(each):7.0f}" for each in (self.clock, self.processor))
        print(f"{what:<52} {'  '.join(figures)}", flush=True)


def opened(driver: Chrome, page: Path, times: int) -> Times:
    """Open a page some times."""
    found = Times()
    for _ in range(times):
        driver.get("about:blank")
        driver.get(address(page))
        done: float = WebDriverWait(driver, 120).until(lambda driver: driver.execute_script("return window.opened"))
        found.clock.append(done)
        found.processor.append(_processor(driver))
    return found


def acts(driver: Chrome, selector: str, values: Iterable[object], event: str) -> Times:
    """Do something with a control some times."""
    found = Times()
    for value in values:
        before = _processor(driver)
        found.clock.append(driver.execute_async_script(ACT, selector, value, event))
        found.processor.append(_processor(driver) - before)
    return found


def _processor(driver: Chrome) -> float:
    """Milliseconds that the page's main thread has used."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    seconds: float = next(each["value"] for each in metrics if each["name"] == "ThreadTime")
    return 1e3 * seconds


def written(page: Path, write: Callable[[IO[str]], None]) -> Times:
    """Write a page."""
    clock, processor = time.monotonic(), time.process_time()
    save(page, write)
    return Times([1e3 * (time.monotonic() - clock)], [1e3 * (time.process_time() - processor)])


def main() -> None:
    """Measure, and print a line for each thing that a person does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[5000, 100_000])
    parser.add_argument("--results", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if LACKING:
        raise SystemExit(f"{LACKING} cannot be found")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':<52} {'clock, ms':^15}  {'processor, ms':^15}")
    print(f"{'':<52} {'median longest  ' * 2}")
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        driver.set_script_timeout(120)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": OPENED})
        driver.execute_cdp_cmd("Performance.enable", {})
        page = Path(folder) / "page.html"
        for nodes in asked.nodes:
            graph = forest(nodes)
            times = written(page, lambda out, graph=graph: write_searches(out, [("forest", graph_data(graph))]))  # type: ignore[misc]
            times.tell(f"search of {nodes:,} nodes: write, {page.stat().st_size / 1e6:.1f} MB")
            opened(driver, page, asked.repeats).tell("  open")
            steps = range(1, 4 * asked.repeats + 1)
            where = [nodes * step // (len(steps) + 1) for step in steps]
            acts(driver, "input[type=range]", where, "input").tell("  slider")
            acts(driver, "[data-filter=pruned]", steps, "click").tell("  filter: pruned")
            acts(driver, "input[type=search]", ("sum", "of left", "7", "#99"), "input").tell("  find")
            driver.execute_script("document.querySelectorAll('.state button')[0].click()")
            acts(driver, "input[type=range]", where, "input").tell("  slider, all nodes open")
        with StudyFile(many_results(Path(folder) / "study.sqlite", asked.results // LINES, LINES)) as file:
            times = written(page, lambda out: write_study(out, file))
        times.tell(f"study of {asked.results:,} results: write, {page.stat().st_size / 1e6:.1f} MB")
        opened(driver, page, asked.repeats).tell("  open")
        repeated = range(asked.repeats)
        texts = ["7", "77", "with 1", "toy/4", ""] * asked.repeats
        verdicts = ["right", "wrong", ""] * asked.repeats
        for mode, key in (("problems", "question"), ("searches", "flops")):
            acts(driver, f"[data-mode={mode}]", repeated, "click").tell(f"  list by {mode}")
            acts(driver, ".results input[type=search]", texts, "input").tell("    filter by text")
            acts(driver, "[data-filter=verdict]", verdicts, "change").tell("    filter by verdict")
            acts(driver, f"[data-sort={key}]", repeated, "click").tell(f"    sort by {key}")
        assert not complaints(driver)


if __name__ == "__main__":
    main()
