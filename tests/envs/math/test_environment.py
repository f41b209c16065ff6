"""The math environment: reading problems, following solutions, and the conformance kit."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent.build import environment_of, models_of
from agent.interface.cli import main
from agent.recipes.recipe import load_recipe
from agent.study.results_db import StudyFile
from envs import Problem, State, Step, UnreadableQuestion, UnusableEnvironment, check_environment, load_environment
from envs.core import SPLITS, Finish
from envs.math.answer_finder import find_answer
from envs.math.environment import MAX_QUESTION, MAX_STEP, Math

DATA = Path(os.environ.get("STEPWELL_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
ENVIRONMENT = Math()


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only(path: Path) -> Problem:
    (problem,) = Math(path).problems("test", 1)
    return problem


# ------------------------------------------------------------------------------------------------------------ steps


@pytest.mark.parametrize(
    ("texts", "finish", "answer"),
    [
        (["1 + 1 = 2", r"So it is $\boxed{2}$."], "step", "2"),
        ([r"\boxed{\frac{1}{2}} and then \boxed{\text{no, }\sqrt{2}}"], "answer", r"\text{no, }\sqrt{2}"),
        ([r"\boxed{", "5}"], "step", "5"),
        ([r"\boxed{5"], "answer", None),
        ([r"\boxed{5}, or \box"], "length", "5"),
        (["9 * 2 = 18\n#### 18"], "step", "18"),
        (["9 * 2 = 18\n#### 1,800"], "length", None),
        (["#### Step 1: read the question"], "step", None),
        (["#### two apples"], "answer", "two apples"),
        (["The answer is 5."], "step", None),
        (["The answer is 5."], "answer", "5"),
        (["The final answer is: **2.5**."], "answer", "2.5"),
        (["I do not know."], "answer", None),
        ([r"<think>Maybe \boxed{3}?"], "answer", None),
        ([r"<think>Maybe \boxed{3}?</think>No.", r"\boxed{4}"], "step", "4"),
    ],
)
def test_where_a_solution_ends(texts: list[str], finish: Finish, answer: str | None) -> None:
    state = ENVIRONMENT.initial(ENVIRONMENT.read("What?"))
    for text in texts[:-1]:
        moved = ENVIRONMENT.step(state, Step(text))
        assert moved.status == "running"
        state = moved.state
    moved = ENVIRONMENT.step(state, Step(texts[-1], finish=finish))
    assert ENVIRONMENT.answer(moved.state) == answer
    assert moved.status == ("terminated" if answer else "running" if finish == "step" else "truncated")


def test_a_trajectory_is_bounded_in_depth_and_in_the_length_of_a_step() -> None:
    environment = Math(max_steps=2)
    state = environment.initial(environment.read("What?"))
    once = environment.step(state, Step("hm"))
    assert once.status == "running"
    assert environment.step(once.state, Step("hm")).status == "truncated"
    box = r"\boxed{1}"
    assert environment.step(state, Step("x" * (MAX_STEP - len(box)) + box)).status == "terminated"
    assert environment.step(state, Step("x" * MAX_STEP + box)).status == "truncated"


def test_answers_are_compared_as_mathematics() -> None:
    problem = Problem("p", "q", r"2\sqrt{5}")
    assert ENVIRONMENT.check(problem, r"$\sqrt{20}$")
    assert not ENVIRONMENT.check(problem, r"\sqrt{21}")
    assert ENVIRONMENT.check(Problem("p", "Find $m+n$.", "7"), "m+n = 7")
    assert ENVIRONMENT.same("0.5", r"\dfrac12")


# -------------------------------------------------------------------------------------------------------- questions


def test_a_typed_question_is_read_as_it_is() -> None:
    problem = ENVIRONMENT.read("  What is $x$?\nThink. ")
    assert (problem.question, problem.answer, problem.meta) == ("What is $x$?\nThink.", None, {})
    assert not ENVIRONMENT.check(problem, "5")
    asked = Math(template="Q: {question}\nPut the answer in \\boxed{}.\n\n")
    assert asked.prompt(problem) == "Q: What is $x$?\nThink.\nPut the answer in \\boxed{}.\n\n"


@pytest.mark.parametrize("question", ["", " \n", "?!", "a\ud800", "x" * (MAX_QUESTION + 1)])
def test_what_no_model_could_read_is_refused(question: str) -> None:
    with pytest.raises(UnreadableQuestion):
        ENVIRONMENT.read(question)


# ------------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize(
    ("row", "answer", "meta"),
    [
        (  # MATH-500
            {"problem": "Q?", "answer": r"\frac12", "solution": "...", "level": "Level 3", "subject": "Algebra"},
            r"\frac12",
            {"level": 3, "subject": "Algebra"},
        ),
        (  # MATH
            {"problem": "Q?", "solution": r"So $\boxed{\sqrt{2}}$.", "level": "Level ?", "type": "Geometry"},
            r"\sqrt{2}",
            {"subject": "Geometry"},
        ),
        ({"problem": "Q?", "solution": "...", "extracted_groundtruth": "025", "url": "..."}, "25", {}),  # AIME24
        ({"problem": "Q?", "solution": 27.0, "extracted_groundtruth": 27.0, "url": "..."}, "27", {}),  # AMC23
        ({"question": "Q?", "answer": "9 * 2 = <<9*2=18>>18.\n#### 18"}, "18", {}),  # GSM8K
        ({"Problem": "Q?", "Answer": 0}, "0", {}),
    ],
)
def test_the_published_layouts_are_read(row: dict[str, Any], answer: str, meta: Any, tmp_path: Path) -> None:
    problem = only(write(tmp_path / "set.jsonl", [row]))
    assert (problem.question, problem.answer, problem.meta) == ("Q?", answer, meta)
    (tmp_path / "set.json").write_text(json.dumps([row]))
    assert only(tmp_path / "set.json") == problem


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"problem": "Q?", "solution": r"So it is $\boxed 2$."}, "2"),
        ({"problem": "Q?", "solution": r"So it is \boxed2."}, "2"),
        ({"problem": "Q?", "answer": "9 minus 4 is #### 5"}, "5"),
        ({"problem": "Q?", "answer": r"First \boxed{3}, then 2 more.\n#### 5".replace(r"\n", "\n")}, "5"),
        ({"problem": "Q?", "answer": ["1", "2"]}, "1, 2"),
        ({"problem": "Q?", "answer": [r"\frac{1}{2}"]}, r"\frac{1}{2}"),
        ({"problem": "Q?", "answer": [3]}, "3"),
        ({"problem": "Q?", "answer": "The answer is 2."}, "2"),
        ({"problem": "Q?", "answer": "**Answer:** 4"}, "4"),
        ({"problem": "Q?", "answer": "Ans. 4 eggs"}, "4 eggs"),
        ({"problem": "Q?", "correct_answer": "4"}, "4"),
        ({"problem": "Q?", "answer": r"$\boxed{7}$"}, "7"),
        ({"problem": "Q?", "final_answer": ["5"]}, "5"),
        ({"problem": "Q?", "answer": "no answer is possible"}, "no answer is possible"),
        ({"problem": "Q?", "answer": "027"}, "27"),
        ({"problem": "Q?", "answer": "We add. The final answer is 2."}, "2"),
        ({"problem": "Q?", "answerKey": "B", "choices": ["1", "2"]}, "(B) 2"),
        ({"problem": "Q?", "answer": 1, "choices": ["2", "3", "1", "0"]}, "(B) 3"),
        ({"problem": "Q?", "answer": "1", "choices": ["2", "3", "1", "0"]}, "(C) 1"),
    ],
)
def test_an_answer_is_read_as_people_write_it(row: dict[str, Any], answer: str, tmp_path: Path) -> None:
    assert only(write(tmp_path / "set.jsonl", [row])).answer == answer


@pytest.mark.parametrize("value", ["true", '{"value": 2}', "NaN", "-Infinity", '[["1"]]', "[]", "[true]"])
def test_an_answer_that_is_no_text_and_no_number_is_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(f'{{"problem": "Q?", "answer": {value}}}\n')
    with pytest.raises(ValueError, match=r"problem 1: its answer is .*a text"):
        Math(tmp_path / "set.jsonl")


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        (["12", "13", "14"], "B"),
        (["12", "13", "14"], "(b)"),
        (["(A) 12", "(B) 13", "(C) 14"], "B"),
        (["12", "13", "14"], "13"),
        (["12", "13", "14"], 1),
        (["12", "13", "14"], "B) 13"),
        (["12", "13", "14"], "#### B"),
        (["12", "13", "14"], "The answer is B."),
        ({"A": "12", "B": "13", "C": "14"}, "B"),
        ({"text": ["12", "13", "14"], "label": ["A", "B", "C"]}, "B"),
    ],
)
def test_choices_are_shown_to_the_model(choices: Any, answer: Any, tmp_path: Path) -> None:
    problem = only(write(tmp_path / "set.jsonl", [{"question": "Which?", "choices": choices, "answer": answer}]))
    assert problem.question == "Which?\n\n(A) 12\n(B) 13\n(C) 14"
    for right in ("B", "(B)", r"\text{(B) }13", "13", "B. 13", "Option B"):
        assert ENVIRONMENT.check(problem, right)
    for wrong in ("A", "C", "12", "(C) 13", "(B) 14"):
        assert not ENVIRONMENT.check(problem, wrong)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q?", "choices": ["1", "2"], "answer": "C"}, "its answer 'C' is none of the choices A, B"),
        ({"question": "Q?", "choices": "1 or 2", "answer": "A"}, "the choices are '1 or 2'; a list of 2 to 26 texts"),
        (
            {"question": "Q?", "choices": {"one": "1", "two": "2"}, "answer": "A"},
            "the choices are called one, two; letters",
        ),
    ],
)
def test_choices_that_cannot_be_read_are_refused(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        Math(write(tmp_path / "set.jsonl", [row]))


def test_a_question_that_occurs_again_is_reported(tmp_path: Path) -> None:
    rows = [{"problem": "Q?", "answer": "1/2"}, {"problem": "R?", "answer": "1"}, {"problem": "Q?", "answer": "0.5"}]
    with pytest.warns(UserWarning, match=r"1 questions occur again in the data and count once, the first is 'Q\?'"):
        assert len(Math(write(tmp_path / "set.jsonl", rows)).splits["test"]) == 2
    rows[2]["answer"] = "0.6"
    with pytest.raises(ValueError, match=r"the question 'Q\?' has two answers in the data, '1/2' and '0.6'"):
        Math(write(tmp_path / "set.jsonl", rows))


def test_files_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    rows = [{"problem": "Q?", "answer": "1"}, {"problem": "R?", "answer": "2"}]
    write(tmp_path / "lines.json", rows)
    write(tmp_path / "LINES.JSONL", rows)
    (tmp_path / "inside.json").write_text(json.dumps({"version": 1, "data": rows}))
    (tmp_path / "list.jsonl").write_text(json.dumps(rows, indent=1))
    for name in ("lines.json", "LINES.JSONL", "inside.json", "list.jsonl"):
        assert len(Math(tmp_path / name).splits["test"]) == 2
    (tmp_path / "part").mkdir()
    write(tmp_path / "part" / "one.json", rows[:1])
    assert len(Math(tmp_path / "part" / "one.json").splits["test"]) == 1
    with pytest.warns(UserWarning, match="6 questions occur again"):
        assert len(Math(tmp_path).splits["test"]) == 2


@pytest.mark.parametrize("end", ["\r\n", "\r\r\n", "\r"])
def test_the_ends_of_lines_change_no_question_and_no_answer(tmp_path: Path, end: str) -> None:
    """Git and editors change them, and some models write others."""
    table = 'question,answer\n"What is 2 + 3?\n\nThink.",5\n'
    (tmp_path / "one.csv").write_bytes(table.encode())
    (tmp_path / "other.csv").write_bytes(table.replace("\n", end).encode() if end != "\r\r\n" else table.encode())
    write(tmp_path / "third.jsonl", [{"question": f"What is 2 + 3?{end}{end}Think.", "answer": f"5{end}"}])
    (first,), (second,), (third,) = (
        Math(tmp_path / name).problems("test", 1) for name in ("one.csv", "other.csv", "third.jsonl")
    )
    assert first == second == third
    for solution in (
        "The final answer is:\n$$\n42\n$$",
        "**Answer**\n\n42\n",
        "####\n42",
        "Answer: 42\n\nQuestion: what is 1?\nAnswer: 1",
        "So the answer is 42\nThanks!",
        "\\boxed{\n42\n}",
    ):
        assert find_answer(solution.replace("\n", end)) == find_answer(solution)


def test_a_table_with_a_comma_too_many_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("question,answer\nWhat?,1\nWhat is x, y?,2\n")
    with pytest.raises(
        ValueError, match="line 3: 3 fields where the header has 2; a field with a comma needs quotation"
    ):
        Math(tmp_path / "set.csv")


def test_a_stratified_part_is_as_hard_as_the_whole(tmp_path: Path) -> None:
    sizes = {1: 43, 2: 90, 3: 105, 4: 128, None: 134}
    rows = [
        {"problem": f"Level {level}: what is {index} + 1?", "answer": "2"} | ({"level": level} if level else {})
        for level, size in sizes.items()
        for index in range(size)
    ]
    environment = Math(write(tmp_path / "data.jsonl", rows), stratified=True)
    for n in (0, 1, 7, 100, 250, 500):
        drawn = environment.problems("test", n, seed=3)
        levels = [problem.meta.get("level") for problem in drawn]
        assert len({problem.id for problem in drawn}) == n
        assert all(abs(levels.count(level) - n * size / 500) < 1 for level, size in sizes.items())
        assert drawn == environment.problems("test", n, seed=3)
    assert levels != sorted(levels, key=str)  # those of a level do not stand together
    first, second = (environment.problems("test", 100, seed) for seed in (3, 4))
    assert first != second


def test_levels_can_be_chosen(tmp_path: Path) -> None:
    rows = [{"problem": f"Q{level}?", "answer": level, "level": f"Level {level}"} for level in range(1, 6)]
    data = write(tmp_path / "set.jsonl", [*rows, {"problem": "Q?", "answer": 0}])
    chosen = Math(data, levels=(2, 4)).problems("test", 3)  # what has no level is of every level
    assert {problem.answer for problem in chosen} == {"2", "4", "0"}


@pytest.mark.skipif(not DATA.is_dir(), reason="the published sets are not here; STEPWELL_DATA=FOLDER names them")
@pytest.mark.parametrize(("name", "size"), [("math500", 500), ("aime24", 30), ("amc23", 40), ("gsm8k_test", 1319)])
def test_the_published_sets(name: str, size: int) -> None:
    environment = Math([DATA / f"{name}.jsonl", DATA / "gsm8k_train.jsonl"])
    problems = environment.problems("test", size)
    assert len(environment.splits["test"]) == len({problem.question for problem in problems}) == size
    assert len(environment.splits["train"]) + len(environment.splits["calibration"]) == 7473
    assert 0.18 < len(environment.splits["calibration"]) / 7473 < 0.22
    if name == "math500":
        levels = [problem.meta["level"] for problem in problems]
        assert [levels.count(level) for level in range(1, 6)] == [43, 90, 105, 128, 134]


@pytest.mark.parametrize("name", ["math500", "gsm8k", "aime24", "amc23"])
def test_the_recipes_make_the_environment(name: str, tmp_path: Path) -> None:
    data = write(tmp_path / "set.jsonl", [{"problem": "What is 2 plus 2?", "answer": "4"}])
    recipe = load_recipe(name, [f"environment.data={data}"])
    environment = environment_of(recipe)
    assert r"\boxed{}" in environment.prompt(environment.problems("test", 1)[0])
    assert models_of(recipe, environment)[1] is None


def test_a_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text('Question,Answer\n"What, then?",5\n')
    assert only(tmp_path / "set.csv").question == "What, then?"


def test_a_train_file_gives_train_and_calibration_and_never_a_test_question(tmp_path: Path) -> None:
    def rows(*numbers: int) -> list[Any]:
        return [{"question": f"What is {number}?", "answer": f"#### {number}"} for number in numbers]

    train = write(tmp_path / "gsm8k_train.jsonl", rows(*range(100)))
    test = write(tmp_path / "gsm8k_test.jsonl", rows(*range(95, 120)))
    for data in (tmp_path, [str(train), str(test)], [test, train]):
        environment = Math(data)
        parts = {"test": environment.problems("test", 25), "train": environment.problems("train", 60)}
        parts["calibration"] = environment.problems("calibration", 95 - len(environment.splits["train"]))
        assert 10 <= len(parts["calibration"]) <= 35
        assert {problem.question for problem in parts["test"]} == {row["question"] for row in rows(*range(95, 120))}
    alone = Math(train)
    assert set(parts["calibration"]) <= set(alone.splits["calibration"])  # by the question, not by its neighbours
    with pytest.raises(ValueError, match=r"1 problems of 'test' asked for; in the data there are .* 0 of 'test'"):
        alone.problems("test", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"problem": "Q?", "answer": ' + "9" * 5000 + "}", "set.jsonl, line 1: Exceeds the limit"),
        ("[" * 100_000, "set.jsonl, line 1: maximum recursion depth"),
        ('{"problem": "Q?", "answer": "1", "split": "dev"}', "its split is 'dev'; allowed: train, calibration, test"),
        ('{"problem": "Q?"}', "set.jsonl, problem 1: the fields are problem; one of answer, .* is needed"),
        ('{"prblem": "Q?", "answer": 1}', "problem 1: the fields are prblem, answer; one of problem, question must"),
        ('{"problem": "Q?", "answer": 1}\n\n{"problem"', "set.jsonl, line 3: "),
        ("[1]", "problem 1: an object with fields is wanted, not a list"),
        ('{"problem": "Q?", "solution": "..."}', "its solution states no answer"),
        ('{"problem": "Q?", "answer": "1", "split": "tset"}', "its split is 'tset'; did you mean 'test'\\?"),
        ('{"problem": "??", "answer": "1"}', "problem 1: cannot read '\\?\\?'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(content)
    with pytest.raises(UnusableEnvironment, match=message):
        load_environment("math", data=str(tmp_path / "set.jsonl"))


def test_what_is_no_file_of_problems_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file of problems in"):
        Math(tmp_path)
    write(tmp_path / "math500.jsonl", [])
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    (tmp_path / "set.json").write_text("{}")
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nothing")
    for name, message in [
        ("dangling.jsonl", r"there is no file '.*dangling\.jsonl'(?!; did you mean '.*dangling)"),
        ("math50.jsonl", "there is no file .*did you mean '.*math500.jsonl'"),
        ("set.parquet", "its name ends in '.parquet'; files that end in .csv, .json, .jsonl are read"),
        ("set.json", "holds a dict; a list of problems is wanted"),
    ]:
        with pytest.raises(ValueError, match=message):
            Math(tmp_path / name)


@pytest.mark.parametrize("options", [{"delimiter": ""}, {"max_steps": 0}, {"template": "no question"}])
def test_options_that_cannot_be_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="given"):
        Math(**options)


def test_a_hub_takes_the_package_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"no file or folder 'owner/set' here, and .* pip install datasets"):
        Math("owner/set")


def test_a_hub_without_a_test_part_is_all_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is replaced by one that gives the same rows, as no hub can be reached from a test."""

    def load_dataset(name: str, configuration: str | None) -> Any:
        rows = [{"question": f"What is {number}?", "answer": f"#### {number}"} for number in range(20)]
        assert (name, configuration) in [("owner/aime", None), ("owner/gsm", "main")]
        return {"train": rows[:15], "test": rows[15:]} if configuration else {"train": rows}

    package = ModuleType("datasets")
    package.__dict__["load_dataset"] = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", package)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: package)
    assert len(Math("owner/aime").problems("test", 20)) == 20
    for source, tested in [("owner/gsm:main", 5), ("owner/gsm:main@train", 0)]:
        gsm = Math(source)
        assert len(gsm.splits["test"]) == tested
        assert len(gsm.splits["train"]) + len(gsm.splits["calibration"]) == 15
    with pytest.raises(
        ValueError, match=r"'owner/gsm' has no part 'tset'; did you mean 'test'\? \(its parts: train, test"
    ):
        Math("owner/gsm:main@tset")
    with pytest.raises(ValueError, match="'owner/other' cannot be had from the hub: AssertionError"):
        Math("owner/other")


# ------------------------------------------------------------------------------------------ the kit and the commands


def test_conforms(tmp_path: Path) -> None:
    rows = [
        {"problem": f"Solve for x: {name}", "answer": answer, "split": split, "level": level}
        for split, level in zip(SPLITS, (1, 3, 5), strict=True)
        for name, answer in [(f"x = {level}", f"{level}"), (f"x^2 = {level}", rf"\pm\sqrt{{{level}}}"), ("x", "(0,1]")]
        if name != "x" or split == "test"
    ]
    environment = load_environment("math", data=str(write(tmp_path / "own.jsonl", rows)), max_steps=5)
    check_environment(environment, [environment.read("What is $2 + 2$?")], n=2)


def test_a_scripted_policy_solves_it_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "What is 2 plus 2?", "--env", "math", "--temperature", "0"]) == 0
    out = capsys.readouterr().out
    assert r"The answer is \boxed{4}." in out
    data = write(tmp_path / "own.jsonl", [{"problem": "How many wheels do 4 cars have?", "answer": "8", "level": 2}])
    words = ["eval", "--env", "math", "--split", "test", "-n", "1", "--set", f"environment.data={data}"]
    assert main([*words, "--temperature", "0", "--out", str(tmp_path / "own-run.sqlite")]) == 0
    with StudyFile(tmp_path / "own-run.sqlite") as results:
        assert [(row["answer"], row["correct"]) for row in results.results()] == [("8", 1)]


def test_an_unfinished_state_has_no_answer() -> None:
    assert ENVIRONMENT.answer(State(ENVIRONMENT.read("What?"))) is None
