"""Pages in a real Chromium: what a person sees and does, with no complaint of the console and no request."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed (extra: dev)")

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from agent.report import pages
from agent.report.pages import save, write_searches, write_study
from agent.report.search_data import graph_data
from agent.search.graph import SearchGraph
from agent.study.results_db import StudyFile
from agent.study.table import summarize
from tests.agent.report.studies import (
    ESCAPED,
    EVIL,
    SHOWN,
    evil_graph,
    evil_study,
    fan,
    forest,
    many_results,
    steered,
    toy_study,
    tree,
)
from tests.browser import LACKING, address, browser, complaints, requests, resize

pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"{LACKING} cannot be found")
Open = Callable[..., Chrome]


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with browser() as driver:
        yield driver


@pytest.fixture
def show(driver: Chrome, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of some searches, of a study, or a text; afterwards the page has asked for nothing else."""
    opened: list[str] = []

    def show(*shown: SearchGraph | Path | str, fragment: str = "") -> Chrome:
        path = tmp_path / f"page-{len(opened)}.html"
        if isinstance(shown[0], str):
            path.write_text(shown[0], encoding="utf-8")
        elif isinstance(shown[0], Path):
            with StudyFile(shown[0]) as file:
                save(path, lambda out: write_study(out, file))
        else:
            searches = [
                (f"search {at}", graph_data(each)) for at, each in enumerate(shown) if isinstance(each, SearchGraph)
            ]
            save(path, lambda out: write_searches(out, searches))
        requests(driver)
        opened.append(address(path, fragment))
        driver.get(opened[-1])
        WebDriverWait(driver, 10).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".search, .study, iframe"))
        return driver

    resize(driver, 1400, 900)
    yield show
    assert complaints(driver) == []
    asked = {url for url in requests(driver) if not url.startswith(("blob:", "about:"))}
    assert {url.split("#")[0] for url in asked} <= {url.split("#")[0] for url in opened}
    assert not driver.find_elements(By.CSS_SELECTOR, "[role=alert]")


def find(driver: Chrome, selector: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, selector)


def rows(driver: Chrome, pane: str = "") -> list[str]:
    """What the rows of the tree in sight say: number, step, fate."""
    code = """return [...document.querySelectorAll(arguments[0] + ' .row:not([hidden])')].map((row) =>
        ['number', 'text', 'fate'].map((name) => row.querySelector('.' + name)?.textContent ?? '').join(' ').trim())"""
    found: list[str] = driver.execute_script(code, pane)
    return found


def slide(driver: Chrome, time: int, pane: str = "") -> None:
    code = """const slider = document.querySelector(arguments[1] + ' input[type=range]');
        slider.value = arguments[0]; slider.dispatchEvent(new Event('input', {bubbles: true}))"""
    driver.execute_script(code, time, pane)


def text(driver: Chrome, selector: str) -> str:
    return find(driver, selector).text


def click(driver: Chrome, selector: str) -> None:
    find(driver, selector).click()


# -------------------------------------------------------------------------------------------------------- a search


def test_the_slider_shows_the_search_as_it_grew(show: Open) -> None:
    driver = show(tree([{"answer": "2", "score": 0.2}, {"answer": "7", "score": 0.9}, {"parent": 0}]))
    assert rows(driver) == ["0 12 with 1 6 10", "1 step 1", "2 step 2", "3 step 3"]
    assert "leading: 7 (82 %)" in text(driver, ".clock")
    slide(driver, 1)
    assert rows(driver) == ["0 12 with 1 6 10", "1 step 1"]
    assert text(driver, ".clock") == "1 of 3 nodes · 2 tokens · leading: 2 (100 %)"
    slide(driver, 0)
    assert rows(driver) == ["0 12 with 1 6 10"]
    WebDriverWait(driver, 5).until(lambda driver: "time=0" in driver.current_url)
    find(driver, "body").send_keys("]")
    assert rows(driver) == ["0 12 with 1 6 10", "1 step 1"]


def test_playing_ends_with_the_whole_search(show: Open) -> None:
    driver = show(fan(3))
    find(driver, "body").send_keys(" ")
    WebDriverWait(driver, 5).until(lambda driver: text(driver, ".clock").startswith("1 of 3"))
    find(driver, "body").send_keys(" ")
    slide(driver, 3)
    assert len(rows(driver)) == 4


def test_wide_fans_are_folded_and_say_what_they_hold(show: Open) -> None:
    driver = show(fan(40))
    shown = rows(driver)
    assert len(shown) == 1 + 8 + 1
    assert shown[-1] == "+ 32 more, 20 of them pruned"
    assert any(row.startswith("5 ") for row in shown)  # the leading answer is never folded away
    slide(driver, 12)
    assert len(rows(driver)) == 1 + 12  # few enough
    slide(driver, 13)
    assert rows(driver)[1:] == ["5 step 5", "+ 12 more, 6 of them pruned"]
    click(driver, ".row.fan")
    assert len(rows(driver)) == 1 + 13
    slide(driver, 40)
    assert 20 < len(rows(driver)) < 41  # those in sight and around; the rest follows as one scrolls
    assert int(find(driver, ".space").value_of_css_property("height").removesuffix("px")) == 41 * 26


def test_find_filters_and_the_panel(show: Open) -> None:
    driver = show(fan(11))
    finder = find(driver, "input[type=search]")
    finder.send_keys("STEP 1")
    assert text(driver, ".count") == "3 found"
    finder.send_keys(Keys.ENTER)
    assert text(driver, ".panel h2") == "Node 1"
    finder.send_keys(Keys.ENTER)
    assert (text(driver, ".panel h2"), text(driver, ".count")) == ("Node 10", "2 of 3")
    finder.clear()
    finder.send_keys("#5", Keys.ENTER)
    assert text(driver, ".panel h2") == "Node 5"
    assert "✓ right" in text(driver, ".panel")
    assert "rank 7 of 11" in text(driver, ".panel").replace("\n", " ")
    for name, found in (("right", ["5"]), ("wrong", ["3"]), ("pruned", ["2", "4", "6", "8", "10"]), ("path", ["5"])):
        click(driver, f"[data-filter={name}]")
        assert [row.split()[0] for row in rows(driver)[1:]] == found
        assert f"{len(found)} node" in text(driver, ".state")
        click(driver, f"[data-filter={name}]")
    find(driver, ".below").send_keys("0.1")
    assert [row.split()[0] for row in rows(driver)[1:]] == ["1", "2"]


def test_keys_move_open_and_close(show: Open) -> None:
    driver = show(tree([{}, {"parent": 1}, {"parent": 2, "answer": "2"}, {}]))
    body = find(driver, "body")
    body.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert text(driver, ".panel h2") == "Node 2"
    body.send_keys(Keys.ARROW_LEFT)
    assert [row[0] for row in rows(driver)] == ["0", "1", "2", "4"]
    body.send_keys(Keys.ARROW_LEFT)
    assert text(driver, ".panel h2") == "Node 1"
    body.send_keys("*", Keys.END)
    assert text(driver, ".panel h2") == "Node 4"
    assert len(rows(driver)) == 5
    body.send_keys("p")
    assert text(driver, ".panel h2") == "Node 3"
    body.send_keys("?")
    assert find(driver, "dialog").is_displayed()
    body.send_keys(Keys.ESCAPE)
    body.send_keys("t")
    assert find(driver, "html").get_attribute("data-theme") == "dark"
    body.send_keys("/", "step 4")
    assert text(driver, ".count") == "1 found"


def test_a_link_opens_its_node(show: Open) -> None:
    driver = show(fan(40), fragment="search=0&node=38")
    assert text(driver, ".panel h2") == "Node 38"
    assert find(driver, ".row[aria-selected=true] .number").text == "38"
    find(driver, "body").send_keys(Keys.ARROW_UP)
    WebDriverWait(driver, 5).until(lambda driver: "node=37" in driver.current_url)
    driver.execute_script("location.hash = 'search=0&node=12'")
    WebDriverWait(driver, 5).until(lambda driver: text(driver, ".panel h2") == "Node 12")
    for wrong in ("search=9&node=x", "node=999999", "%00=%ff&&&search=0.0", "search=__proto__&with=constructor"):
        driver.execute_script("location.hash = arguments[0]", wrong)
        time.sleep(0.1)
        assert text(driver, ".panel h2") == "The search"


def test_subtrees_are_copied_as_json_and_markdown(show: Open) -> None:
    nodes: list[dict[str, Any]] = [
        {"text": "one `tick`"},
        {"parent": 1, "text": "two\nlines", "answer": "2"},
        {"parent": 1, "pruned": True},
    ]
    driver = show(tree([*nodes, {"text": "other"}]), fragment="node=1")
    copied = "window.copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }"
    driver.execute_script(copied)
    find(driver, "body").send_keys("jml")
    as_json, as_markdown, link = driver.execute_script("return copied")
    data = json.loads(as_json)
    assert [(each["node"], each["parent"], each["text"]) for each in data["nodes"]] == [
        (1, 0, "one `tick`"), (2, 1, "two\nlines"), (3, 1, "step 3"),
    ]  # fmt: skip
    assert data["nodes"][1]["answer"] == "2"
    assert data["nodes"][1]["correct"] is True
    assert data["nodes"][2]["pruned"] is True
    assert "- #1 `` one `tick` `` (score 0.50)\n" in as_markdown
    assert "  - #2 \n    ```\n    two\n    lines\n    ```\n     (score 0.50; answer `2`, right)\n" in as_markdown
    assert "other" not in as_markdown
    assert link == driver.current_url.split("#")[0] + "#search=0&node=1"


def test_two_searches_of_one_problem_side_by_side(show: Open) -> None:
    long = tree([{"tokens": 10}, {"tokens": 10}, {"tokens": 10}])
    driver = show(fan(5), long, tree([], evil_graph(long.problem).environment.read("3 with 1")))
    assert len(driver.find_elements(By.CSS_SELECTOR, ".panes.two .search")) == 2
    first, second = ".search:nth-child(1)", ".search:nth-child(2)"
    slide(driver, 2, first)
    assert len(rows(driver, second)) == 4
    click(driver, ".place input[type=checkbox]")
    slide(driver, 5, first)  # 10 tokens
    assert len(rows(driver, second)) == 2
    slide(driver, 3, second)  # 30 tokens
    assert len(rows(driver, first)) == 6
    others = driver.find_elements(By.CSS_SELECTOR, ".place select:nth-of-type(2) option")
    assert [each.text for each in others] == ["compare with …", "search 1"]  # the third is of another problem
    driver.execute_script("location.hash = 'search=2'")
    WebDriverWait(driver, 5).until(lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ".search")) == 1)
    # the choices above are drawn a moment after the search
    WebDriverWait(driver, 5).until(lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ".place select")) == 1)


def test_what_a_person_did_is_shown(show: Open) -> None:
    driver = show(steered())
    assert text(driver, ".answer").startswith("✓2 17 % of the vote")
    assert text(driver, ".answer").endswith("accepted by ada")
    panel = text(driver, ".panel")
    told = [
        "budget: 4 samples → 8 samples", "node 1 cut", "node 4 pinned", "(taken back later)",
        "taken back: node 4 pinned", "a step written after node 3: “by hand”: made node 5", "answer of node 6 accepted",
    ]  # fmt: skip
    for each in told:
        assert each in panel
    assert rows(driver)[1:] == [
        "1 step 1 cut by ada", "2 step 2 below a cut", "3 step 3", "5 by hand written by ada",
        "6 step 6 accepted by ada", "4 step 4",
    ]  # fmt: skip
    marks = driver.find_elements(By.CSS_SELECTOR, ".acts button")
    assert len(marks) == 6
    marks[4].click()
    assert text(driver, ".panel h2") == "Node 3"
    assert text(driver, ".clock").startswith("5 of 6 nodes")
    click(driver, "[data-filter=hand]")
    assert [row.split()[0] for row in rows(driver)] == ["0", "1", "2", "3", "5", "4"]


def test_large_searches_open_and_a_huge_one_says_that_it_is_closed(show: Open) -> None:
    driver = show(forest(5000))
    assert int(find(driver, ".space").value_of_css_property("height").removesuffix("px")) > 4000 * 26
    assert len(driver.find_elements(By.CSS_SELECTOR, "*")) < 1500
    driver = show(forest(6000))
    assert text(driver, ".state").startswith("5,999 nodes: only the chosen path is open")
    assert int(find(driver, ".space").value_of_css_property("height").removesuffix("px")) < 300 * 26
    find(driver, "body").send_keys("*")
    assert int(find(driver, ".space").value_of_css_property("height").removesuffix("px")) > 4000 * 26


# --------------------------------------------------------------------------------------------------------- a study


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_study(tmp_path_factory.mktemp("toy") / "toy.sqlite")


def choose(driver: Chrome, selector: str, value: str) -> None:
    code = """const box = document.querySelector(arguments[0]); box.value = arguments[1];
        box.dispatchEvent(new Event(box.matches('select') ? 'change' : 'input', {bubbles: true}))"""
    driver.execute_script(code, selector, value)


def test_a_study_shows_its_figures(show: Open, toy: Path) -> None:
    driver = show(toy)
    titles = [each.text for each in driver.find_elements(By.CSS_SELECTOR, ".figure h2")]
    assert titles == [
        "Accuracy over compute", "Accuracy by level", "Paired differences", "Votes", "Calibration of the verifier",
        "Where the compute went",
    ]  # fmt: skip
    with StudyFile(toy) as file:
        summaries = summarize(file)
    driver.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    table = text(driver, "#accuracy-over-compute table")
    for summary in summaries:
        low, high = summary["interval"]
        right = f"{summary['strategy']} @ {summary['budget']} {summary['accuracy']:.1%}".replace("%", " %")
        assert f"{right} {low:.1%}".replace("%", " %").replace("  ", " ") in table
        assert f"{high:.1%}".replace("%", " %") in table
    assert len(driver.find_elements(By.CSS_SELECTOR, "#accuracy-over-compute .point")) == len(summaries)


def test_a_study_that_has_not_begun_says_what_it_lacks(show: Open, tmp_path: Path) -> None:
    driver = show(many_results(tmp_path / "empty.sqlite", 3, 2, write=False))
    assert "6 searches have no result yet." in text(driver, ".study-head")
    assert len(driver.find_elements(By.CSS_SELECTOR, ".figure .note")) == 6
    assert text(driver, ".results .state") == "3 of 3 problems · 0 of 0 searches"


def test_any_two_lines_are_compared_and_lead_to_their_problems(show: Open, toy: Path) -> None:
    with StudyFile(toy) as file:
        versus = summarize(file, baseline="best-of-n")
    at = next(at for at, line in enumerate(versus) if line.get("versus") and line["difference"][0] != 0)
    difference, low, high = versus[at]["difference"]
    first = next(
        number for number, line in enumerate(versus)
        if line["strategy"] == "best-of-n" and line["budget"] == versus[at]["versus_budget"]
    )  # fmt: skip
    driver = show(toy)
    choose(driver, "[aria-label='First line']", str(first))
    choose(driver, "[aria-label='Second line']", str(at))
    told = text(driver, ".verdict")
    numbers = [f"{100 * value:+.1f}".replace("-", "−") for value in (difference, low, high)]
    assert told.startswith(f"{numbers[0]} points (95 %: {numbers[1]} to {numbers[2]}) over 10 problems of both")
    link = find(driver, ".verdict button:not([disabled])")
    count = link.text.split()[0]
    driver.execute_script("arguments[0].click()", link)
    assert text(driver, ".results .state").startswith(f"{count} of 10 problems")
    driver.execute_script("document.querySelector('.results .tools span button').click()")
    assert text(driver, ".results .state").startswith("10 of 10 problems")


def test_the_list_sorts_filters_and_opens_trees(show: Open, toy: Path) -> None:
    driver = show(toy)
    with StudyFile(toy) as file:
        results = file.results()
    wrong = sum(row["correct"] == 0 and row["answer"] is not None for row in results)
    choose(driver, "[data-filter=verdict]", "wrong")
    assert text(driver, ".results .state").endswith(f"{wrong} of {len(results)} searches")
    driver.execute_script("document.querySelector('[data-mode=searches]').click()")
    cells = """return [...document.querySelectorAll('.list-row:not([hidden])')]
        .map((row) => row.children[arguments[0]].textContent)"""
    assert set(driver.execute_script(cells, 4)) <= {"✗ wrong"}
    choose(driver, "[data-filter=verdict]", "")
    for _ in range(2):
        driver.execute_script("document.querySelector('[data-sort=samples]').click()")
    column = [head.text for head in driver.find_elements(By.CSS_SELECTOR, ".list-head > *")].index("samples")
    samples = [float(value) for value in driver.execute_script(cells, column)]
    assert samples == sorted(samples, reverse=True)
    assert samples[0] == pytest.approx(max(row["samples"] for row in results))
    choose(driver, ".results input[type=search]", "no such text")
    assert text(driver, ".results .state").startswith("0 of 10 problems")
    choose(driver, ".results input[type=search]", "")
    driver.execute_script("document.querySelector('.list-row').click()")
    WebDriverWait(driver, 5).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".search .row"))
    options = driver.find_elements(By.CSS_SELECTOR, ".place select:nth-of-type(1) option")
    assert len(options) == len(results) / 10
    choose(driver, "[aria-label='Compare with']", driver.execute_script(
        "return document.querySelector(\"[aria-label='Compare with']\").options[1].value"))  # fmt: skip
    WebDriverWait(driver, 5).until(lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ".search")) == 2)
    address = driver.current_url
    driver.back()
    driver.back()
    WebDriverWait(driver, 5).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".study"))
    driver.get("about:blank")
    driver.get(address)
    WebDriverWait(driver, 5).until(lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ".search")) == 2)
    find(driver, "body").send_keys("b")
    WebDriverWait(driver, 5).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".study"))


def test_a_long_list_holds_few_elements(show: Open, tmp_path: Path) -> None:
    driver = show(many_results(tmp_path / "many.sqlite", 100, 20))
    assert text(driver, ".results .state") == "100 of 100 problems · 2,000 of 2,000 searches"
    assert len(driver.find_elements(By.CSS_SELECTOR, ".list-row")) < 60
    assert "kept no search graphs" in text(driver, ".study-head")
    driver.execute_script("document.querySelector('.list').scrollTop = 1e6")
    WebDriverWait(driver, 5).until(
        lambda driver: any("toy/99" in row.text for row in driver.find_elements(By.CSS_SELECTOR, ".list-row"))
    )
    driver.execute_script("[...document.querySelectorAll('.list-row')].at(-1).click()")
    WebDriverWait(driver, 5).until(lambda driver: "kept no search graphs" in text(driver, ".search"))


# ------------------------------------------------------------------------------------------------ hostile texts, frames


def test_hostile_texts_stay_texts(show: Open, tmp_path: Path) -> None:
    for shown in (evil_graph(tree([]).problem), evil_study(tmp_path / "evil.sqlite")):
        driver = show(shown)
        if isinstance(shown, Path):
            seen = [text(driver, "body")]
            driver.execute_script(
                "for (const mode of ['searches', 'problems']) document.querySelector(`[data-mode=${mode}]`).click()"
            )
            seen.append(text(driver, ".list"))
            driver.execute_script("document.querySelector('.list-row').click()")
            WebDriverWait(driver, 5).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".search .row"))
        else:
            seen = []
        for node in (0, 1, 2):
            driver.execute_script("document.querySelectorAll('.row')[arguments[0]].click()", node)
            seen.append(text(driver, "body"))
        assert driver.execute_script("return window.hacked") is None
        assert not driver.find_elements(By.CSS_SELECTOR, "img, #page script, iframe, a")
        assert len(driver.find_elements(By.CSS_SELECTOR, "script")) == 3
        assert SHOWN in seen[-1]
        for part in ESCAPED:
            assert part in seen[-2]
        for each in seen:
            assert not set("\u202e\u200f\u2028\u2029\0\x1b") & set(each)


def test_a_notebook_shows_the_page_in_a_frame(show: Open, toy: Path) -> None:
    with StudyFile(toy) as file:
        shown = (evil_graph(tree([]).problem)._repr_html_(), pages.in_notebook(pages.study_page(file)))
    for frame in shown:
        driver = show(f"<!doctype html><body>{frame}</body>")
        driver.switch_to.frame(find(driver, "iframe"))
        WebDriverWait(driver, 5).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".row, .list-row"))
        driver.execute_script("document.querySelector('.row, .list-row').click()")
        WebDriverWait(driver, 5).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".search .row"))
        assert driver.execute_script("return window.hacked") is None
        assert not driver.find_elements(By.CSS_SELECTOR, "[role=alert]")
        driver.switch_to.default_content()


def test_a_printed_search_has_its_rows(show: Open) -> None:
    driver = show(forest(4500))
    driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    shown = len(rows(driver))
    note = driver.find_elements(By.CSS_SELECTOR, ".printed")
    assert shown == 2000
    assert note[0].text.startswith("the first 2,000 of 4,500 rows")
    driver.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert len(rows(driver)) < 60
    assert not driver.find_elements(By.CSS_SELECTOR, ".printed")


@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_is_wider_than_the_window(show: Open, toy: Path, width: int) -> None:
    for shown in (toy, fan(20)):
        driver = show(shown)
        resize(driver, width, 900)
        wide = "return document.documentElement.scrollWidth"
        assert driver.execute_script(wide) <= width


def test_evil_is_evil() -> None:
    assert "</script>" in EVIL
    assert "\u2028" in EVIL
