"""Which answers to the tasks of reasoning-gym are right: those that scorers mistake, and other ways to write one."""

import itertools
import json
import re
from functools import cache
from typing import Any

import pytest

from envs.reasoning_gym.answers import JUDGED, MANY, READERS, is_right, says_the_same
from envs.reasoning_gym.environment import ABSURD, INNER, SingleAnswer, Source, tasks

SINGLE = sorted(set(tasks()) - set(INNER))


@cache
def source(task: str) -> Source:
    return Source(task)


def sound(task: str, n: int) -> list[int]:
    """The first entries of a task whose own answer is right."""
    found = source(task)
    return list(itertools.islice((index for index in range(200 * n) if found.is_sound(index)), n))


def never(task: str, gold: str, entry: dict[str, Any], answer: str) -> bool:
    """`is_right` where the scorer must not be asked."""

    def score(text: str) -> float:
        raise AssertionError(f"the scorer of {task} was asked about {text!r}")

    return is_right(task, answer, gold, entry, score)


def test_the_tables_name_tasks_that_there_are() -> None:
    assert {*READERS, *JUDGED, *MANY} <= set(SINGLE)
    assert not READERS.keys() & JUDGED.keys()
    assert not MANY.keys() & {*READERS, *JUDGED}


# -------------------------------------------------------------------------------------------------- wrong in any task


def slips(gold: str) -> list[str]:
    """Texts that are close to an answer and, for most tasks, another answer or none."""
    found = [
        f"{gold} and so on",
        f"not {gold}",
        f"{gold} or 7",
        f"The answer is {gold}",
        f"{gold}{gold}",
        f"{gold}, {gold}",
        f"{gold}\n{gold}",
        f"-{gold}",
        f"{gold}%",
        f"{gold},000",
        f"{gold} * 10",
        f"{gold}9",
        f"{gold}zz",
        f"9{gold}",
        f"{gold}[0]",
        f"{gold}{{}}",
    ]
    for digit in re.finditer(r"\d", gold):  # each digit in turn, by one
        at = digit.start()
        found.append(f"{gold[:at]}{(int(gold[at]) + 1) % 10}{gold[at + 1 :]}")
    return found


LENIENT = {
    # a solution that is not finished or goes round again may be one; so may another colour, digit or word
    "cryptarithm": r"[A-Z]=\d(,[A-Z]=\d)*",
    "graph_color": r"\{.*\}",
    "kakurasu": r"[01 \n]+",
    "palindrome_generation": r"[a-z]+",
    "quantum_lock": r"[ABC→ ]+",
    "rubiks_cube": r"[UDLRFB' \n]+",
    "sokoban": r"[UDLR]+",
    "polynomial_equations": r"-0\.0(, .*)?",
}


@pytest.mark.parametrize("task", SINGLE)
def test_what_is_close_to_the_gold_answer_is_wrong(task: str) -> None:
    found = source(task)
    for index in sound(task, 3):
        gold = found.gold(index)
        assert found.accepts(index, gold)
        assert found.accepts(index, f"\n{gold} \n")
        for wrong in ("nan", "nan+nani", "inf", "0x", "no idea", "[]", "{}", "null", "'", "1e999", *slips(gold)):
            if wrong != gold and not (task in LENIENT and re.fullmatch(LENIENT[task], wrong, re.DOTALL)):
                assert not found.accepts(index, wrong), (gold, wrong)


@pytest.mark.parametrize("task", sorted(READERS))
def test_no_scorer_is_asked_where_there_is_one_answer(task: str) -> None:
    found = source(task)
    (index,) = sound(task, 1)
    gold, entry = found.gold(index), dict(found.entry(index))
    assert never(task, gold, entry, gold)
    assert not never(task, gold, entry, f"{gold} {gold} ...")


# -------------------------------------------------------------------------------------------------- task by task

GEOMETRY = {"metadata": {"task_type": "incircle_radius"}}
ANGLE = {"metadata": {"task_type": "angle_measure", "angle_ABC_degrees": 16.909271810540783}}
COIN = {"metadata": {"rational": {"numerator": 1, "denominator": 3}}}
RARE = {"metadata": {"rational": {"numerator": 1, "denominator": 1 << 20}}}
NEVER = {"metadata": {"rational": {"numerator": 0, "denominator": 8}}}


@pytest.mark.parametrize(
    ("task", "gold", "right", "wrong"),
    [
        (
            "complex_arithmetic",
            "48.0 + 36.0i",
            ["48+36i", "48 + 36 i", "(48.0 + 36.0j)", "48.00+36i"],
            ["nan", "nan+nani", "48", "36i", "48 + 36", "48-36i", "48.001+36i", "48+36.001i", "36i+48i", "4836i", ""],
        ),
        ("complex_arithmetic", "0.0 - 1.0i", ["-i", "-1i", "0-i", "0.0 - 1.0i"], ["i", "-1", "0", "-"]),
        ("complex_arithmetic", "-7.0", ["-7", "-7+0i", "-7.0 + 0.0i"], ["-7i", "7", "-7+i", "-7 0", "-7. 0"]),
        ("gsm_symbolic", "131", ["131.0", "$131", "131.", "+131"], ["-131", "131%", "131,000", "131 * 10", "13,1"]),
        ("gsm_symbolic", "28080", ["28,080", "£28,080.00", "28080.0"], ["28,08", "2,8080", "not 28080", "28080 or 7"]),
        ("decimal_arithmetic", "6.481", ["6.4810", "6.481000", "+6.481"], ["6.481001", "6.48", "6.480999999999"]),
        ("decimal_chain_sum", "7.140", ["7.14"], ["7.1400001", "7", "7.140 - 0"]),
        ("number_format", "757954645.211", ["757,954,645.211", "7.57954645211e8"], ["757954645.21", "757954645.2199"]),
        ("calendar_arithmetic", "-1", ["-1"], ["0", "7", "-2", "1", "none"]),
        ("calendar_arithmetic", "1000", ["1000"], ["1001", "999", "1000.0"]),
        ("calendar_arithmetic", "Friday", ["friday"], ["Fri", "Monday"]),
        (
            "codeio",
            '{"a": [1, 2.50]}',
            ['{"a":[1,2.5]}', '{"a": [1.0, 2.5]}'],
            ['{"a": [1, 2.51]}', '{"a": [true, 2.5]}'],
        ),
        ("codeio", "true", ["true"], ["1", "True", "TRUE"]),
        ("codeio", '{"s": "abcdefghij"}', ['{"s":"abcdefghij"}'], ['{"s": "abcdefghix"}', 'so {"s": "abcdefghij"}']),
        ("emoji_mystery", "a" * 200, [], ["a" * 199 + "b", "a" * 199]),
        ("figlet_font", "FOUTER", ["fouter", "F O U T E R"], ["FOUTERS", "FOUTEN"]),
        ("figlet_font", "ABCDEFGHIJ", ["abcdefghij"], ["ABCDEFGHIJK"]),
        ("spell_backward", "noremopyhs", ["Noremopyhs"], ["noremopyhs!", "noremopyhss", "noremopyh s"]),
        (
            "fraction_simplification",
            "138/583",
            ["138 / 583", r"$\frac{138}{583}$", r"\dfrac{138}{583}"],
            ["276/1166", "138/583 or 1/2", "138", "-138/-583", r"\frac{138}{583} = 0.2"],
        ),
        (
            "game_of_life",
            "[[0,1],[1,0]]",
            ["[[0, 1], [1, 0]]", "[[0,1],\n [1,0]]"],
            ["[[0,1],[1,0],[5]]", "[[0,1,1],[1,0]]", "[[0,true],[1,0]]", "[[0,1],[1,1]]", "[0,1,1,0]"],
        ),
        (
            "group_anagrams",
            '[["ab", "ba"], ["c"]]',
            ['[["c"],["ba","ab"]]'],
            ['[["c"],["ba"],["ab"]]', '[["c"],["ab","ab"]]'],
        ),
        (
            "palindrome_partitioning",
            '[["a", "a"], ["aa"]]',
            ['[["aa"],["a","a"]]'],
            ['[["aa"]]', '[["aa"],["a"],["a"]]'],
        ),
        (
            "knights_knaves",
            "Ann is a knight, and Bob is a knave.",
            [
                "Bob is a knave, and Ann is a knight",
                "Ann is a knight and Bob is a knave",
                "ann is a knight, bob is a knave.",
            ],
            [
                "Ann is not a knight, and Bob is a knave",
                "Ann is a knight",
                "Ann knight Bob knave",
                "Ann is a knave, and Bob is a knight",
                "I say that Ann is a knight, and Bob is a knave",
                "Ann is a knave, Ann is a knight, Bob is a knave",
            ],
        ),
        (
            "letter_jumble",
            "and may not be",
            ["And may not be"],
            ["and may not be it", "so and may not be", "and not may be"],
        ),
        (
            "number_sorting",
            "['-2', '1.5', '3']",
            ["[-2, 1.5, 3]", '["-2", "1.50", "3"]'],
            ["[-2, 1.5, 3.9]", "-2, 1.5, 3", "[-2, 1.5]", "[3, 1.5, -2]"],
        ),
        (
            "polynomial_equations",
            "-3.625, 0.0",
            ["0, -3.625", "-3.6250,0"],
            ["-3.6", "-3.7, 0.0", "-3.625", "-3.625, 0.05", "-3.625, 0, 0", "x, -3.625, 0.0", "nan, 0"],
        ),
        (
            "pool_matrix",
            "4.5 4.5\n4.75 5.0",
            ["4.50 4.5\n4.75 5"],
            ["4.5 4.5\n4.76 5.0", "4.5 4.5 4.75 5.0", "4.51 4.5\n4.75 5.0"],
        ),
        (
            "prime_factorization",
            "2 × 2 × 5",
            ["5×2×2", "2 * 2 * 5", "2 x 2 x 5"],
            ["4 × 5", "2 × 5", "2 × 2 × 5 ×", "2 × 2 × 5 × 1"],
        ),
        ("products", "8717446", ["8,717,446", "8717446.0"], ["8717447", "87,17446", "8717446 8"]),
        ("rectangle_count", "7", ["7", "+7"], ["8", "6", "7.5", "07"]),
        ("survo", "1 2 3\n4 5 9", ["1  2 3 \n 4 5 9"], ["1 2 3\n4 5 9\n1 1 1", "1 x 2 3\n4 5 9", "row 1 2 3\n4 5 9"]),
        ("arc_agi", "1 2\n3 4", ["1 2 \n3  4"], ["1 2\n3 4 5", "1 2 3 4"]),
        ("manipulate_matrix", "8 3\n7 5", ["8 3 \n 7 5"], ["8 3\n7 6", "8 3 7 5"]),
        (
            "time_intervals",
            "97 days",
            ["97", "97 days", "97 day"],
            ["98 days", "96", "97 days, 00:01", "97 weeks", "97 days or so", "097 hours"],
        ),
        (
            "time_intervals",
            "04:13",
            ["4:13", "04:13:00"],
            ["04:27", "04:14", "4 13", "04:13 or so", "04:13:01", "0 days 04:13"],
        ),
        (
            "time_intervals",
            "67 days, 01:04:00",
            ["67 days,01:04", "67 days, 1:04:00"],
            ["68 days, 01:04:00", "67 days, 01:05:00", "67 days", "66 days, 25:04:01"],
        ),
        ("time_intervals", "01:45:29.840", ["01:45:29.84"], ["01:45:29.841", "01:45:29"]),
        (
            "word_sorting",
            "Hart, find, tax",
            ["Hart,find , tax"],
            ["Hart, find, tax, more", "Hart, find", "find, Hart, tax", "hart, find, tax"],
        ),
        ("sentence_reordering", "This is it .", ["this is it ."], ["This is it . it", "is This it ."]),
        ("tsumego", "J2", ["j2"], ["J2 or D3", "J22", "D3"]),
        ("bitwise_arithmetic", "0x3eb2", ["0x3EB2", "16050"], ["-0x3eb2", "3eb2", "0x3eb3", "0x3eb_2"]),
        ("ab", "A# B#", ["A# B#"], ["A# B# A#", "a# b#"]),
    ],
)
def test_what_a_text_says(task: str, gold: str, right: list[str], wrong: list[str]) -> None:
    for text in [gold, *right]:
        assert never(task, gold, {}, text), text
    for text in wrong:
        assert not never(task, gold, {}, text), text


@pytest.mark.parametrize(
    ("task", "gold", "entry", "right", "wrong"),
    [
        ("advanced_geometry", "2.425", GEOMETRY, ["2.4250"], ["2.424", "2.42", "2.4251", "2.425, 3"]),
        (
            "advanced_geometry",
            "16.91°",
            ANGLE,
            ["16.91", "16.909°", "16.9093"],
            ["16.9", "16.92°", "16.914°", "17", "nan"],
        ),
        (
            "coin_flip",
            "0.3333333333",
            COIN,
            ["1/3", "2 / 6", "0.3333", "0.33333"],
            ["0", "0.3", "0.333", "0.3334", "0.34", "1/2", "1/0", "3"],
        ),
        (
            "coin_flip",
            "9.536743164e-07",
            RARE,
            ["1/1048576", "9.537e-7", "0.00000095367"],
            ["0", "0.0000", "0.000001", "1/1048575", "1e-4"],
        ),
        ("coin_flip", "0", NEVER, ["0", "0/8", "0.0"], ["0.0001", "1/9", "-0.1"]),
        (
            "power_function",
            "9.360000138304076e-18",
            {},
            ["9.36e-18", "9.360e-18"],
            ["9.37e-18", "9.3649e-18", "9.4e-18", "9e-18", "0.00"],
        ),
        (
            "power_function",
            "-0.0013674811612376526",
            {},
            ["-1.37e-3", "-0.00137", "-1.3675e-3"],
            ["1.37e-3", "-1.36e-3", "-1.4e-3"],
        ),
        (
            "n_queens",
            "Q _\n_ _",
            {"metadata": {"valid_answers": ["Q _\n_ _", "_ Q\n_ _"]}},
            ["_ Q \n_ _"],
            ["_ _\nQ _", "[['_', 'Q'], ['_', '_']]"],
        ),
    ],
)
def test_what_the_facts_of_an_entry_tell(
    task: str, gold: str, entry: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    for text in [gold, *right]:
        assert never(task, gold, entry, text), text
    for text in wrong:
        assert not never(task, gold, entry, text), text


@pytest.mark.parametrize(
    ("task", "right", "wrong"),
    [
        ("cryptarithm", lambda gold: ", ".join(reversed(gold.split(","))), lambda gold: f"{gold[:2]}0,{gold}"),
        ("graph_color", lambda gold: gold.replace(" ", ""), lambda gold: gold.replace(": 1", ": true")),
        ("kakurasu", lambda gold: f"{gold} ", lambda gold: f"7{gold}"),
        ("kakurasu", lambda gold: gold, lambda gold: gold.replace(" ", "x")),
        ("knight_swap", lambda gold: gold.replace(", ", " , "), lambda gold: f"{gold} yes"),
        ("quantum_lock", lambda gold: gold.replace(" → ", ""), lambda gold: f"press {gold.lower()} now"),
        ("quantum_lock", lambda gold: gold.replace("→", "->"), lambda gold: f"Sequence: {gold}"),
        ("rubiks_cube", lambda gold: f" {gold} ", lambda gold: f"{gold} U2' D9"),
        ("rubiks_cube", lambda gold: gold, lambda gold: f"{gold} U4000000000"),
        ("shortest_path", lambda gold: f" {gold} ", lambda gold: f"go {gold}"),
        ("sokoban", lambda gold: f" {gold} ", lambda gold: f"{' '.join(gold)}, done"),
        ("palindrome_generation", lambda gold: gold.upper(), lambda gold: f"{gold} or so"),
        ("propositional_logic", lambda gold: gold.replace(" ", ""), lambda gold: f"{gold} \N{LOGICAL OR} x"),
        ("propositional_logic", lambda gold: f"({gold})", lambda gold: f"({gold}"),
        (
            "propositional_logic",
            lambda gold: f"({gold} \N{LOGICAL OR} {gold})",
            lambda gold: f"{gold} \N{LOGICAL OR} whatever else",
        ),
    ],
)
def test_puzzles_with_many_answers_want_their_form(task: str, right: Any, wrong: Any) -> None:
    found = source(task)
    for index in sound(task, 3):
        gold = found.gold(index)
        assert found.accepts(index, right(gold)), right(gold)
        assert not found.accepts(index, wrong(gold)), wrong(gold)


def test_another_solution_than_the_gold_one_is_right_where_there_are_many() -> None:
    found = source("graph_color")
    (index,) = sound("graph_color", 1)
    swapped = {vertex: 3 - colour if colour < 3 else 3 for vertex, colour in json.loads(found.gold(index)).items()}
    assert json.dumps(swapped) != found.gold(index)
    assert found.accepts(index, json.dumps(swapped))
    swapped["no vertex"] = 1
    assert not found.accepts(index, json.dumps(swapped))


def test_votes_count_answers_that_say_the_same_together() -> None:
    environment = SingleAnswer(source("complex_arithmetic"))
    assert environment.same("48.0 + 36.0i", "48+36i")
    assert not environment.same("48.0 + 36.0i", "48-36i")
    assert environment.same("who knows", " who knows ")
    assert not environment.same("nan", "48+36i")
    assert not says_the_same("ab", "A# B#", "a# b#")
    assert says_the_same("no task", "a \n b", "a\n b ")


# ----------------------------------------------------------------------------------------------------- faulty entries


def test_entries_with_a_wrong_gold_answer_are_passed_over() -> None:
    found = source("time_intervals")
    lost = [index for index in range(300) if re.search(r"day\) \d", found.entry(index)["question"])]
    assert lost  # the time of day after the name of a weekday: if there are none, the task has been mended
    assert not any(found.is_sound(index) for index in lost)
    late = {"question": "from 23:00 to 00:00", "metadata": {"start_time": "2026-01-01 23:00:00"}}
    late["metadata"] |= {"end_time": "2026-01-01 00:00:00", "expected_format": "HH:MM"}  # type: ignore[operator]
    assert not is_right("time_intervals", "-23:00", "-1:00", late, lambda text: 1.0)
    assert sum(found.is_sound(index) for index in range(100)) > 60


def test_no_absurd_answer_is_right() -> None:
    for task, absurd in ABSURD.items():
        assert not any(source(task).accepts(index, absurd) for index in sound(task, 10))


def test_drawing_problems_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    SingleAnswer(source("codeio")).problems("train", 20)
    assert capfd.readouterr() == ("", "")
