"""Pages without a browser: what is in the file, what is escaped, what is left out and said."""

import base64
import hashlib
import html
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from agent.interface.cli import main
from agent.report import pages
from agent.report.bundle import modules, script
from agent.report.search_data import search_data
from agent.search.graph import SearchGraph
from agent.search.solution import Solution
from agent.study.results_db import StudyFile
from agent.study.statistics import paired_difference
from agent.study.table import marks_by_problem, summarize
from envs.messages import UsageError
from envs.toy import Toy
from tests.agent.report.studies import EVIL, evil_graph, evil_study, facts_of, fan, steered, toy_study, tree

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_study(tmp_path_factory.mktemp("toy") / "toy.sqlite")


def block(page: str) -> str:
    """The packed searches of a page."""
    begin = '<script type="application/octet-stream" id="searches">'
    return page[page.index(begin) + len(begin) :].split("</script>", 1)[0]


def unpacked(page: str, place: list[int]) -> dict[str, object]:
    packed = block(page)[place[0] : place[0] + place[1]]
    data: dict[str, object] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return data


def test_a_page_allows_its_own_script_and_style_and_nothing_else() -> None:
    page = fan(3).to_html()
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0])
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    assert "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for texts, source in ((scripts, "script-src"), (styles, "style-src")):
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert parts[source] == " ".join(f"'sha256-{each}'" for each in hashes)
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", page)


def test_hostile_texts_are_never_html(tmp_path: Path) -> None:
    graph = evil_graph(tree([]).problem)
    with StudyFile(evil_study(tmp_path / "evil.sqlite")) as file:
        for page in (graph.to_html(), pages.study_page(file)):
            assert "<script>window" not in page
            assert "<img" not in page
            assert page.count("<script") == page.count("</script>") == 3
            assert not re.search("[^\x00-\x7f]", page.replace(script(), "").split("</style>")[1])
            page.encode()


def test_a_search_is_unpacked_as_it_was() -> None:
    graph = fan(20)
    page = graph.to_html()
    facts = facts_of(page)
    data = unpacked(page, facts["searches"][0]["place"])
    assert data == search_data(graph.to_json(), None) | {
        key: data[key] for key in ("candidates", "groups")
    }  # without an environment answers are alike by their texts, and not judged
    columns = data["columns"]
    assert isinstance(columns, dict)
    assert columns["text"] == [""] + [f"step {number}" for number in range(1, 21)]
    assert columns["parent"] == [-1] + [0] * 20
    assert columns["pruned"] == [0] + [number % 2 ^ 1 for number in range(1, 21)]
    assert "observation" not in columns


def test_the_vote_is_that_of_the_search(toy: Path) -> None:
    with StudyFile(toy) as file:
        page = pages.study_page(file)
        facts = facts_of(page)
        results = facts["results"]
        for at, row in enumerate(file.results()):
            data = unpacked(page, results["place"][at])
            groups = data["groups"]
            assert isinstance(groups, list)
            assert (groups[0]["answer"] if groups else None) == row["answer"]
            if groups:
                graph = file.graph((row["cell"], row["problem"]))
                assert [(each["answer"], each["node"]) for each in groups] == [
                    (each.answer, each.best.node) for each in graph.tally(graph.context.vote)
                ]
                assert groups[0]["correct"] == row["correct"]


def test_what_a_person_did_is_in_the_page_and_decides_who_votes() -> None:
    page = steered().to_html()
    data = unpacked(page, facts_of(page)["searches"][0]["place"])
    plain = search_data(steered().to_json(), None)  # without an environment
    for each in (data, plain):
        assert each["cut"] == [1, 2]
        assert each["accepted"] == 6
        assert each["steering"] == steered().info["steering"]
        assert isinstance(each["candidates"], dict)
        assert each["candidates"]["node"] == [4, 6]


def test_the_lines_of_a_study_are_those_of_its_table(toy: Path) -> None:
    with StudyFile(toy) as file:
        facts = facts_of(pages.study_page(file))
        summaries = summarize(file)
        rows = file.results()
    assert [line["accuracy"] for line in facts["lines"]] == [summary["accuracy"] for summary in summaries]
    assert facts["results"]["correct"] == [row["correct"] for row in rows]
    marks = [
        {problem: sum(each) / len(each) for problem, each in marks_by_problem(group).items()}
        for group in (
            [row for row in rows if all(row[axis] == summary[axis] for axis in ("strategy", "budget", "verifier"))]
            for summary in summaries
        )
    ]
    pairs = facts["pairs"]
    assert len(pairs) == 8 * len(summaries) * (len(summaries) - 1) // 2
    for at in range(0, len(pairs), 8):
        first, second, *values, n, better, worse = pairs[at : at + 8]
        one, other = marks[first], marks[second]
        assert values == pytest.approx(paired_difference(one, other), rel=1e-5)
        assert n == len(one)
        assert better == sum(other[problem] > one[problem] for problem in one)
        assert worse == sum(other[problem] < one[problem] for problem in one)
    for line, summary in zip(facts["lines"], summaries, strict=True):
        other = facts["baseline"][facts["lines"].index(line)]
        assert (other is None) == ("versus" not in summary)
        if other is not None:
            assert summaries[other]["strategy"] == summary["versus"]


def test_trees_that_are_left_out_are_counted(toy: Path) -> None:
    with StudyFile(toy) as file:
        whole = facts_of(pages.study_page(file))
        some = facts_of(pages.study_page(file, most=2000))
    assert whole["trees_left_out"] == 0
    assert None not in whole["results"]["place"]
    lacking = some["results"]["place"].count(None)
    assert 0 < lacking == some["trees_left_out"] < some["trees_kept"] == len(some["results"]["place"])
    held = {
        problem for problem, place in zip(some["results"]["problem"], some["results"]["place"], strict=True) if place
    }
    for problem, place in zip(some["results"]["problem"], some["results"]["place"], strict=True):
        assert bool(place) == (problem in held)  # problems are there whole, or not at all


def test_notebooks_show_a_page_in_a_frame_that_reaches_nothing(toy: Path) -> None:
    graph = evil_graph(tree([]).problem)
    with StudyFile(toy) as file:
        shown = [graph._repr_html_(), Solution.of(graph)._repr_html_(), file._repr_html_()]
    for frame in shown:
        assert re.fullmatch(r'<iframe srcdoc="[^"]*" sandbox="allow-scripts"[^<>]*></iframe>', frame)
    assert html.unescape(re.findall(r'srcdoc="([^"]*)"', shown[0])[0]) == graph.to_html()


def test_searches_import_no_pages_until_one_is_asked_for() -> None:
    code = "import agent.search.solution, agent.study.results_db, sys; print('agent.report.pages' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


def test_modules_import_only_what_comes_before_them() -> None:
    placed = list(modules())
    assert placed[-1] == "main"
    assert {path.stem for path in (ROOT / "agent/report/web").glob("*.js")} == set(placed)
    assert not re.search(r"^(import|export) ", script(), re.MULTILINE)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "fetch("):
        assert word not in script()


# ------------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_pages_of_searches_and_studies(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, width in enumerate((3, 15)):
        fan(width).save(tmp_path / f"{number}.json")
    out = tmp_path / "new" / "searches.html"
    assert main(["report", str(tmp_path / "0.json"), str(tmp_path / "1.json"), "--html", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    facts = facts_of(out.read_text(encoding="utf-8"))
    assert [each["name"] for each in facts["searches"]] == ["0", "1"]
    assert facts["searches"][0]["problem"] == facts["searches"][1]["problem"]
    out = tmp_path / "study.html"
    assert main(["report", str(toy), "--html", str(out), "--vote", "max"]) == 0
    whole = facts_of(out.read_text(encoding="utf-8"))
    assert main(["report", str(toy), "--html", str(out), "--problem", "3", "--baseline", "majority"]) == 0
    one = facts_of(out.read_text(encoding="utf-8"))
    places = [place for place, problem in zip(one["results"]["place"], one["results"]["problem"], strict=True) if place]
    assert len(places) == one["trees_kept"] - one["trees_left_out"] == one["results"]["problem"].count(2)
    assert len(one["results"]["cell"]) == len(whole["results"]["cell"])
    assert list(tmp_path.glob(".*.part")) == []


def test_a_search_of_an_environment_that_is_not_here_is_shown_without_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = fan(5).to_json()
    for name in ("elsewhere", "nowhere.py:Thing"):
        raw["info"]["environment"] = name
        (tmp_path / "search.json").write_text(json.dumps(raw), encoding="utf-8")
        out = tmp_path / "page.html"
        assert main(["report", str(tmp_path / "search.json"), "--html", str(out)]) == 0
        assert "answers of search.json are compared as texts and not judged" in capsys.readouterr().err
        page = out.read_text(encoding="utf-8")
        facts = facts_of(page)
        assert "not judged" in facts["notes"][0]
        data = unpacked(page, facts["searches"][0]["place"])
        assert isinstance(data["groups"], list)
        assert {(each["answer"], each["correct"]) for each in data["groups"]} == {("2", None), ("7", None)}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{search}"], "a saved search is shown by --html OUT"),
        (["{search}", "{search}"], "2 files given; without --html"),
        (["{search}", "{toy}", "--html", "{out}"], "toy.sqlite is no saved search (.json)"),
        (["{toy}", "--html", "{out}", "--table", "csv"], "--table print; the page has all of it"),
        (["{toy}", "--html", "{toy}"], "is the file that is read itself"),
        (["{search}", "--html", "{out}", "--problem", "3"], "--problem are for a study"),
        (["{toy}", "--html", "{out}", "--problem", "nine"], "unknown problem 'nine'"),
        (["{broken}", "--html", "{out}"], "broken.json is not a saved search: it is no JSON"),
        (["{looped}", "--html", "{out}"], "looped.json is not a saved search: node 1 cannot come after node 1"),
        (["{search}.graphml", "--html", "{out}"], "only those saved as .json can be read"),
        (["gone.json", "--html", "{out}"], "there is no file 'gone.json'"),
        (["gone.sqlite", "--html", "{out}"], "there is no file 'gone.sqlite'"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    words: list[str], told: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: str(tmp_path / f"{name}.json") for name in ("search", "broken", "looped")}
    fan(3).save(Path(names["search"]))
    Path(names["broken"]).write_text('{"format": "stepwell-graph/1", "problem"', encoding="utf-8")
    raw = fan(1).to_json()
    raw["edges"][0]["from"] = 1
    Path(names["looped"]).write_text(json.dumps(raw), encoding="utf-8")
    out = tmp_path / "page.html"
    given = [word.format(**names, toy=toy, out=out) for word in words]
    assert main(["report", *given]) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert errors.count("\n") == 1
    assert not out.exists()
    assert toy.read_bytes().startswith(b"SQLite")


def test_candidates_that_the_tree_lacks_are_refused(toy: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    shutil.copy(toy, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute(
            "UPDATE candidates SET node = node + 1000, same = same + 1000 WHERE cell = 0 AND problem = 1"
        )
        connection.commit()
    with StudyFile(copy) as file, pytest.raises(UsageError, match=r"problem 1 is no graph \(a candidate is node 1"):
        pages.study_page(file)


def test_an_environment_that_cannot_judge_is_said() -> None:
    class Failing(Toy):
        def check(self, problem: object, answer: str) -> bool:
            raise RuntimeError(EVIL)

    graph = fan(5)
    failing = SearchGraph.from_json(graph.to_json(), Failing())
    page = failing.to_html()
    data = unpacked(page, facts_of(page)["searches"][0]["place"])
    assert str(data["failure"]).startswith("the answers could not be compared and judged: RuntimeError: </script>")
    assert data["groups"] == []
