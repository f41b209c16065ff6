"""The pictures of docs/report.md: ``python docs/report_pictures.py [STUDY.sqlite] [--only NAME]``.

Runs the study ``arithmetic`` with 60 problems in STUDY.sqlite, or what that file lacks of it, and steers a search of
the shipped models as a person would. The pages are shown in Chromium (Debian: chromium, chromium-driver).
"""

import argparse
import io
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver.common.by import By

from agent import Solver, load_study, measure
from agent.recipes.files import read_config
from agent.recipes.recipe import Recipe
from agent.report.pages import save, write_searches, write_study
from agent.report.search_data import graph_data
from agent.search.budget import Budget
from agent.search.graph import SearchGraph
from agent.solver import task
from agent.strategies import Beam
from agent.study.results_db import StudyFile
from envs.options import load_dataclass
from tests.browser import address, browser, complaints, resize

DOCS = Path(__file__).parent
QUESTION = "11 - 58 - 17 - 24 + 4 + 6"
COMPARED = "99 + 58 - 70 + 97 - 3 - 54"
PAIR = ("dvts", "best-of-n")  # of it, at a budget of 16, side by side
PARTS = {"policy": "arithmetic-s", "verifier": "arithmetic-prm"}


def steered() -> SearchGraph:
    """A beam search in which a person cuts a branch, writes a step and asks for more."""
    config, where = read_config("arithmetic")
    solver = Solver.from_recipe(load_dataclass(Recipe, config | PARTS, where))
    replies = 0

    def steer(graph: SearchGraph) -> None:
        nonlocal replies
        replies += 1
        for command, arguments in HANDS.get(replies, ()):
            handle.do(command, arguments, "ada")

    handle = solver.submit(task(solver.environment.read(QUESTION), Beam(16, 4), Budget(samples=24), on_change=steer))
    for _ in solver.run():
        pass
    return handle.result.result()


HANDS: Mapping[int, list[tuple[str, dict[str, Any]]]] = {
    2: [("prune", {"node": 2}), ("write", {"node": 1, "text": "-47 - 17 = -64"})],
    5: [("expand", {"node": 1, "n": 8})],
    9: [("pin", {"node": 5}), ("budget", {"budget": "32"})],
}
"""What the person does, by the number of replies that came before."""


def pair(study: StudyFile) -> str:
    """The address of the two searches that are compared, within the page."""
    wanted = {"policy": PARTS["policy"], "verifier": PARTS["verifier"], "budget": "16"}
    cells = {cell["strategy"]: cell["cell"] for cell in study.cells() if wanted.items() <= cell.items()}
    number = next(row["problem"] for row in study.rows("SELECT * FROM problems") if row["question"] == COMPARED)
    first, second = (f"{cells[strategy]}.{number}" for strategy in PAIR)
    return f"search={first}&with={second}"


def main() -> None:
    """Make the pages, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, default=Path("runs/arithmetic.sqlite"))
    parser.add_argument("--only", metavar="NAME", help="only pictures whose name has this in it")
    asked = parser.parse_args()
    measure(load_study("arithmetic", ["n=60"]), asked.study)
    with tempfile.TemporaryDirectory() as folder, StudyFile(asked.study) as study, browser() as driver:
        pages = {name: Path(folder) / f"{name}.html" for name in ("study", "search")}
        save(pages["study"], lambda out: write_study(out, study))
        data = graph_data(steered())
        save(pages["search"], lambda out: write_searches(out, [("beam", data)]))
        pictures = {
            "report-study": ("study", "", 1400, 2330, False, ""),
            "report-problems": ("study", "", 1400, 620, True, "document.querySelector('.results').scrollIntoView()"),
            "report-search": ("search", "", 1400, 900, False, ""),
            "report-compare": ("study", pair(study), 1400, 900, True, ""),
            "report-narrow": ("search", "search=0&node=5", 400, 900, True, ""),
        }
        for name, (page, fragment, width, height, dark, script) in pictures.items():
            if asked.only and asked.only not in name:
                continue
            resize(driver, width, height, dark)
            driver.get("about:blank")
            driver.get(address(pages[page], fragment))
            while not driver.find_elements(By.CSS_SELECTOR, ".row, .list-row"):
                time.sleep(0.1)
            driver.execute_script(script)
            time.sleep(1.0)  # what follows the size of its place is drawn after it is there
            picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            picture.quantize(256, dither=Image.Dither.NONE).save(DOCS / f"{name}.png", optimize=True)
            assert not complaints(driver)
            print(DOCS / f"{name}.png", f"{(DOCS / f'{name}.png').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
