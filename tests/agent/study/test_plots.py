"""Figures: they say what they rest on, nothing lies on anything else, and the files are the same each time."""

import contextlib
import itertools
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pandas", reason="pandas is not installed (extra: study)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: study)")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.transforms import Bbox

from agent.interface.cli import main
from agent.recipes.recipe import Component
from agent.study.plots import (
    COLOURS,
    FIGURES,
    Style,
    accuracy_vs_compute,
    fonts_for,
    frontier,
    letters_of,
    log_ticks,
    save,
    votes_heat_map,
)
from agent.study.results_db import StudyFile
from agent.study.rows import COSTS, VOTES, Place, Result, vote_row
from agent.study.run import measure
from agent.study.study import Study
from envs.core import Problem
from envs.toy import Toy

FAILED = f"UPDATE results SET correct = 0, error = 'x', {', '.join(f'{name} = 0' for name in COSTS)}"
STRATEGIES = [
    "greedy",
    "majority",
    "best-of-n",
    *(f"beam branch={branch} width=64" for branch in (2, 4, 8, 16)),
    "auto",
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right and wrong answers, with scores."""
    path = tmp_path_factory.mktemp("study") / "toy.sqlite"
    study = Study(
        (Component("toy"),), (Component("scripted"),),
        (Component("majority"), Component("best-of-n"), Component("beam"), Component("lookahead")),
        (2, 8), (Component("table"),), n=15, split="train", seeds=(3, 5),
    )  # fmt: skip
    measure(study, path)
    return path


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two policies, two verifiers, eight strategies and three budgets, all of them within 600 to 900 MFLOP."""
    cells = [
        {
            "environment": "toy",
            "policy": policy,
            "verifier": "none" if strategy in ("greedy", "majority") else verifier,
            "strategy": strategy,
            "budget": budget,
            "seed": seed,
        }
        for policy in ("a-policy-of-a-very-long-name-s", "policy $x_1$")
        for verifier in ("verifier", "_another-verifier-of-a-long-name")
        for strategy in STRATEGIES
        for budget in ("4", "64")
        for seed in (0, 1)
        if strategy not in ("greedy", "majority") or verifier == "verifier"
    ]
    path = tmp_path_factory.mktemp("study") / "crowded.sqlite"
    problems = [Problem(f"toy/{number}", "?", "9", {}) for number in range(10)]
    vote = {"rule": "vote", "aggregate": "last"}
    config = {"environments": ["toy"], "split": "test", "n": 10, "seeds": [0, 1], "vote": vote}
    with StudyFile.for_writing(path, config, cells, {"toy": (Toy(), problems)}) as file:
        for cell, _ in enumerate(cells):
            for problem in range(10):
                answers = [("9", 1, 0.4 + 0.05 * (cell % 7)), ("8", 0, 0.1 * problem), ("8", 0, 0.3)]
                steps = [json.dumps([{"text": text, "tokens": 5, "score": score}]) for text, _, score in answers]
                firsts = {"9": 1, "8": 2}
                candidates = [
                    {"node": at, "answer": text, "same": firsts[text], "correct": right, "count": 1, "steps": made}
                    for at, ((text, right, _), made) in enumerate(zip(answers, steps, strict=True), 1)
                ]
                votes = [vote_row(candidates, each) for each in VOTES]
                row = {"answer": "9", "node": 1, "drawn": 3, "stopped": "finished", "error": None, "plan": None}
                row |= {"confidence": 0.5, "correct": int((cell * 7 + problem * 3) % 10 < 3 + cell % 5)}
                row |= dict.fromkeys(COSTS, 1.0) | {"policy_flops": 6e8 + 2.3e6 * (cell * 37 % 127)}
                file.write(Result(Place(cell, problem + 1), row, candidates, votes))
    return path


def drawn(figure: Figure) -> list[Axes]:
    """The panels of a figure that has been laid out."""
    figure.draw_without_rendering()
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def texts(figure: Figure) -> str:
    """All that is written beside the panels."""
    (legend,) = figure.legends
    return " ".join([figure.get_supxlabel(), *(text.get_text() for text in legend.get_texts())]).replace("\n", " ")


def boxes(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Every text of a figure that can be seen, and where it is; a legend is one."""
    for number, axes in enumerate(figure.axes):
        labels = [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if min(low, high) <= tick.get_loc() <= max(low, high) and tick.label1.get_visible():
                    labels.append(tick.label1)
        for label in labels:
            if label.get_text() and label.get_visible():
                yield f"{number}: {label.get_text()}", label.get_window_extent()
    for legend in figure.legends:
        yield "legend", legend.get_window_extent()
    for text in figure.texts:
        yield text.get_text(), text.get_window_extent()


def assert_nothing_overlaps(figure: Figure) -> None:
    found = list(boxes(figure))
    corners = [(name, *box.extents) for name, box in found]
    for (one, a0, b0, a1, b1), (other, c0, d0, c1, d1) in itertools.combinations(corners, 2):
        assert min(a1, c1) - max(a0, c0) < 1 or min(b1, d1) - max(b0, d0) < 1, (one, other)
    whole = figure.bbox
    for name, box in found:
        assert box.x0 >= whole.x0 - 1, name
        assert box.x1 <= whole.x1 + 1, name
        assert box.y0 >= whole.y0 - 1, name
        assert box.y1 <= whole.y1 + 1, name
    for legend in figure.legends:
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.bbox)


@pytest.mark.parametrize("study", ["toy", "crowded"])
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_lies_on_anything_else_and_the_small_print_says_what_it_rests_on(
    request: pytest.FixtureRequest, name: str, study: str
) -> None:
    with StudyFile(request.getfixturevalue(study)) as file:
        if (name, study) == ("risk-coverage", "crowded"):  # all its searches are equally sure
            with pytest.raises(ValueError, match="no line tells its searches apart"):
                FIGURES[name](file)
            return
        figure = FIGURES[name](file)
    panels = drawn(figure)
    assert panels
    assert all(axes.get_title() for axes in panels)
    assert_nothing_overlaps(figure)
    print_ = figure.get_supxlabel()
    assert "95 % intervals" in print_.replace("\n", " ")
    assert ("seeds 3, 5" if study == "toy" else "seeds 0, 1") in print_
    said = print_ + "".join(label.get_text() for axes in panels for label in axes.get_xticklabels())
    assert re.search(r"n = \d+", said)
    heights = {axes.bbox.height for axes in panels}
    assert min(heights) > 100  # a panel that is one


def test_every_strategy_looks_different(crowded: Path) -> None:
    looks = [Style.number(at) for at in range(56)]
    assert len({(look.color, look.marker) for look in looks}) == 56
    assert len({look.marker for look in looks[:8]}) == 8
    assert set(COLOURS) <= {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    with StudyFile(crowded) as file:
        figure = accuracy_vs_compute(file)
    assert len(drawn(figure)) == 4
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [name.removesuffix(" width=64") for name in STRATEGIES]
    assert "everywhere beam: width=64" in figure.get_supxlabel().replace("\n", " ")


def test_the_frontier_has_numbers_intervals_and_a_warning(toy: Path, crowded: Path) -> None:
    for path in (toy, crowded):
        with StudyFile(path) as file:
            figure = frontier(file)
        (axes,) = drawn(figure)
        numbers = [text.get_text() for text in axes.texts]
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
        told = texts(figure)
        assert len(re.findall(r"@ [^:]+: \d+% \(\d+% to \d+%\), [\d.]+ [kM]FLOP", told)) == len(numbers)
        assert "the frontier is picked on the same problems that it is shown on" in told
        assert len(axes.collections) > len(numbers)  # error bars, and the band


def test_votes_have_a_colour_bar_and_their_differences(toy: Path) -> None:
    with StudyFile(toy) as file:
        figure = votes_heat_map(file)
    (bar,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert "vote of last" in bar.get_ylabel()
    panels = drawn(figure)
    assert len(panels) == 3  # majority has no scores
    cells = [text.get_text() for text in panels[0].texts]
    assert len(cells) == 12
    own = cells[2]  # vote of last
    assert re.fullmatch(r"\d+\.\d%", own)
    assert all(re.fullmatch(r"\d+\.\d%\n[+-]\d+\.\d\n\(.+ to .+\)", cell) for cell in cells if cell != own)


def test_difficulty_is_defined(toy: Path) -> None:
    with StudyFile(toy) as file:
        absolute = FIGURES["accuracy-by-difficulty"](file).get_supxlabel().replace("\n", " ")
    assert "(pass@1), easy from 50%, medium from 10%, hard below" in absolute


def test_ticks_are_few_round_and_there() -> None:
    assert log_ticks(6e8, 9e8) == [6e8, 7e8, 8e8, 9e8]
    assert log_ticks(1, 1000) == [1, 10, 100, 1000]
    assert log_ticks(9, 101) == [10, 20, 50, 100]
    assert log_ticks(0.5, 2e12) == [1, 1e3, 1e6, 1e9, 1e12]
    for low in (1e-3, 0.37, 1.0, 16.2, 7.9e7, 3.3e11):
        for factor in (1.001, 1.1, 1.5, 3, 10, 47, 1e3, 1e7, 1e13):
            ticks = log_ticks(low, low * factor)
            assert 2 <= len(ticks) <= 5, (low, factor)
            assert ticks == sorted(ticks)
            assert low <= ticks[0]
            assert ticks[-1] <= low * factor


def test_a_figure_is_saved_in_three_formats_the_same_each_time(toy: Path, tmp_path: Path) -> None:
    files = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with StudyFile(toy) as file:
            files.append(save(accuracy_vs_compute(file), tmp_path / folder / "v1.2"))
    assert [path.name for path in files[0]] == ["v1.2.png", "v1.2.pdf", "v1.2.svg"]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    png, pdf, svg = (path.read_bytes() for path in files[0])
    assert png.startswith(b"\x89PNG")
    assert b"/Type3" not in pdf  # which journals refuse
    assert svg.rstrip().endswith(b"</svg>")


def test_report_draws_the_figures_that_say_something(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(shutil.copy(toy, tmp_path / "study.sqlite")) as connection:
        connection.execute("UPDATE candidates SET correct = 1")
        connection.execute("UPDATE votes SET correct = 1")
    connection.close()
    assert main(["report", str(tmp_path / "study.sqlite"), "--plots", str(tmp_path / "figures")]) == 0
    made = {file.name for file in (tmp_path / "figures").iterdir()}
    names = [
        "accuracy-vs-compute",
        "accuracy-vs-flop-equivalents",
        "frontier",
        "accuracy-by-difficulty",
        "risk-coverage",
    ]
    assert made == {f"{name}.{kind}" for name in names for kind in ("png", "pdf", "svg")}
    said = capsys.readouterr()
    assert "frontier.pdf" in said.out
    for name in ("votes", "reliability"):
        assert f"{name}: not drawn, as in toy every answer that was found is right\n" in said.err


@pytest.mark.parametrize("name", ["数学 🚀 $x$", "한국어 עברית", "a\u200db \U0001faa8 \ue000"])
@pytest.mark.filterwarnings("error")
def test_names_in_any_script_are_drawn_or_escaped_without_a_warning(crowded: Path, tmp_path: Path, name: str) -> None:
    renamed = f"UPDATE cells SET policy = '{name}' WHERE policy = (SELECT MIN(policy) FROM cells)"
    with StudyFile(changed(crowded, tmp_path / "named.sqlite", renamed)) as file:
        made = frontier(file)
    made.savefig(tmp_path / "figure.pdf")
    for character in name.replace("$", ""):
        assert character in texts(made) or character.encode("unicode_escape").decode() in texts(made)


def test_an_installed_font_with_the_letters_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000, isTTF=True)
    glyph = pytest.importorskip("fontTools.pens.ttGlyphPen").TTGlyphPen(None)
    for way, point in ((glyph.moveTo, (0, 0)), (glyph.lineTo, (0, 700)), (glyph.lineTo, (700, 0))):
        way(point)
    glyph.closePath()
    drawn = glyph.glyph()
    builder.setupGlyphOrder([".notdef", "su"])
    builder.setupCharacterMap({ord("数"): "su"})
    builder.setupGlyf({".notdef": drawn, "su": drawn})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "su": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Some Han", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "han.ttf")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "han.ttf")
    letters_of.cache_clear()
    assert fonts_for("数 学") == ["DejaVu Sans", "Some Han"]
    assert fonts_for("x") == ["DejaVu Sans"]
    letters_of.cache_clear()


def changed(path: Path, copy: Path, *statements: str) -> Path:
    with sqlite3.connect(shutil.copy(path, copy)) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return copy


def test_cost_that_is_not_known_is_not_drawn_at_zero(crowded: Path, tmp_path: Path) -> None:
    free = "policy_flops = 0, verifier_flops = 0"
    path = changed(crowded, tmp_path / "a.sqlite", f"UPDATE results SET {free}, generated = 10 * (cell + 1)")
    with StudyFile(path) as file:
        assert drawn(accuracy_vs_compute(file))[0].get_xlabel() == "policy tokens generated per problem"
        with pytest.raises(ValueError, match=r"no cost of the searches is known \(flops\)"):
            accuracy_vs_compute(file, "flops")
    path = changed(
        crowded, tmp_path / "b.sqlite", f"UPDATE results SET {free}, generated = 0, samples = 0 WHERE cell < 2"
    )
    with StudyFile(path) as file:  # one line failed at once
        assert drawn(accuracy_vs_compute(file))[0].get_xlabel() == "FLOPs per problem, policy and verifier"


@pytest.mark.parametrize(
    ("statements", "drawn_anyway"),
    [
        (["DELETE FROM results", "DELETE FROM candidates", "DELETE FROM votes", "DELETE FROM graphs"], set()),
        (["UPDATE results SET correct = NULL", "UPDATE candidates SET correct = NULL"], set()),
        (
            [FAILED, "DELETE FROM candidates", "UPDATE votes SET correct = 0"],
            {"accuracy-by-difficulty"},
        ),
        (["DELETE FROM results WHERE problem > 1"], set(FIGURES) - {"risk-coverage"}),
    ],
    ids=["nothing yet", "no gold answers", "all failed", "one problem"],
)
def test_studies_of_which_little_is_known(
    toy: Path,
    tmp_path: Path,
    statements: list[str],
    drawn_anyway: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = changed(toy, tmp_path / "study.sqlite", *statements)
    made = set()
    with StudyFile(path) as file:
        for name, draw in FIGURES.items():
            with contextlib.suppress(ValueError):
                drawn(draw(file))
                made.add(name)
    assert made == drawn_anyway
    assert main(["report", str(path), "--votes", "--holm"]) == 0
    if not made:
        assert main(["report", str(path), "--plots", str(tmp_path / "figures")]) == 0
        assert capsys.readouterr().err.count(": not drawn, as ") == len(FIGURES)
