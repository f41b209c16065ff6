"""The chemistry environment against counts of atoms, known masses and arithmetic done by hand."""

import math
import random
import re
import sys
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.interface.cli import main
from envs import (
    Problem,
    State,
    Step,
    UnreadableQuestion,
    UnusableEnvironment,
    check_environment,
    list_environments,
    load_environment,
)
from envs.chemistry.environment import Chemistry
from envs.chemistry.formulas import Equation, balance, read_equation, read_quantity, species, work_out, write_number
from envs.chemistry.generator import LEVELS
from envs.chemistry.reactions import FAMILIES, family, salt
from envs.chemistry.task import TOLERANCE
from envs.conformance import HOSTILE

ENVIRONMENT = Chemistry()
PROBLEMS = [*ENVIRONMENT.problems("test", 60, seed=3), *ENVIRONMENT.problems("train", 60, seed=3)]
BURN = "C3H8 + O2 -> CO2 + H2O"


def atoms(formula: str, times: int = 1) -> Counter[str]:
    """The atoms of a formula, counted without the library."""
    total: Counter[str] = Counter()
    neutral, _, charge = formula.partition("^")
    for part in neutral.split("·"):
        lead = re.match(r"\d*", part)
        assert lead is not None
        stack = [Counter[str]()]
        for symbol, opens, closes, count in re.findall(r"([A-Z][a-z]?|([(\[])|([)\]]))(\d*)", part[lead.end() :]):
            if opens:
                stack.append(Counter())
            else:
                inner = stack.pop() if closes else Counter({symbol: 1})
                for element, number in inner.items():
                    stack[-1][element] += number * int(count or 1)
        for element, number in stack[0].items():
            total[element] += number * int(lead.group() or 1) * times
    if charge:
        total["charge"] += times * int(charge[-1] + (charge[:-1] or "1"))
    return total


def follow(problem: Problem, texts: tuple[str, ...]) -> tuple[State, str]:
    """The state after some steps and the status of the last."""
    state, status = ENVIRONMENT.initial(problem), "running"
    for text in texts:
        assert status == "running", (text, texts)
        result = ENVIRONMENT.step(state, Step(text))
        state, status = result.state, result.status
    return state, status


# ------------------------------------------------------------------------------------------------ formulas, equations


@pytest.mark.parametrize(
    ("text", "shown", "mass"),
    [
        ("H2O", "H2O", 18.015),
        ("H₂O(l)", "H2O", 18.015),
        ("Ca(OH)2", "Ca(OH)2", 74.093),
        ("C6H12O6", "C6H12O6", 180.156),
        ("CuSO4.5H2O", "CuSO4·5H2O", 249.68),
        ("K4[Fe(CN)6]", "K4[Fe(CN)6]", 368.34),
        ("(NH4)2SO4 (aq)", "(NH4)2SO4", 132.14),
        ("SO4^2-", "SO4^2-", 96.06),
        ("Fe³⁺", "Fe^3+", 55.845),
        ("NH4^1+", "NH4^+", 18.04),
    ],
)
def test_formulas_as_people_write_them(text: str, shown: str, mass: float) -> None:
    found = species(text)
    assert found.text == shown
    assert float(found.molar_mass) == pytest.approx(mass, rel=1e-4)
    assert species(shown) == found
    assert Counter(dict(found.atoms)) + Counter(charge=found.charge if found.charge > 0 else 0) == +atoms(shown)


@pytest.mark.parametrize(
    "text", ["", "h2o", "Xx", "Me", "EtOH", "peptide(CPK)", "H1234", "C0", "(OH", "OH)", "2", "D2O"]
)
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(ValueError, match=r"formula|isotope"):
        species(text)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_listed_reaction_balances_in_one_way(name: str) -> None:
    for equation in family(name):
        coefficients = balance(equation)
        assert math.gcd(*coefficients) == 1
        assert min(coefficients) > 0
        sides: list[Counter[str]] = [Counter(), Counter()]
        for index, (text, count) in enumerate(zip(equation.species, coefficients, strict=True)):
            for element, number in atoms(text, count).items():
                sides[index >= len(equation.reactants)][element] += number
        assert sides[0] == sides[1], equation


@pytest.mark.parametrize(
    ("cation", "anion", "formula"),
    [
        ("Na", "Cl", "NaCl"),
        ("Ca", "OH", "Ca(OH)2"),
        ("NH4", "SO4", "(NH4)2SO4"),
        ("Mg", "N", "Mg3N2"),
        ("Ca", "PO4", "Ca3(PO4)2"),
        ("K", "PO4", "K3PO4"),
        ("Zn", "O", "ZnO"),
    ],
)
def test_salts_are_neutral(cation: str, anion: str, formula: str) -> None:
    assert salt(cation, anion) == formula


@pytest.mark.parametrize(
    ("text", "balanced"),
    [
        ("H2 + O2 = H2O", "2 H2 + O2 -> 2 H2O"),
        ("2H2+O2→2H2O", "2 H2 + O2 -> 2 H2O"),
        ("KMnO4 + HCl -> KCl + MnCl2 + H2O + Cl2", "2 KMnO4 + 16 HCl -> 2 KCl + 2 MnCl2 + 8 H2O + 5 Cl2"),
        ("MnO4^-+Fe^2++H^+ -> Mn^2++Fe^3++H2O", "MnO4^- + 5 Fe^2+ + 8 H^+ -> Mn^2+ + 5 Fe^3+ + 4 H2O"),
        (
            "K4[Fe(CN)6] + KMnO4 + H2SO4 -> KHSO4 + Fe2(SO4)3 + MnSO4 + HNO3 + CO2 + H2O",
            "10 K4[Fe(CN)6] + 122 KMnO4 + 299 H2SO4 -> "
            "162 KHSO4 + 5 Fe2(SO4)3 + 122 MnSO4 + 60 HNO3 + 60 CO2 + 188 H2O",
        ),
    ],
)
def test_balancing(text: str, balanced: str) -> None:
    equation, _ = read_equation(text)
    assert equation.write(balance(equation)) == balanced


@given(st.permutations(["KMnO4", "HCl"]), st.permutations(["KCl", "MnCl2", "H2O", "Cl2"]))
def test_coefficients_do_not_depend_on_the_order(left: list[str], right: list[str]) -> None:
    equation = Equation(tuple(left), tuple(right))
    found = dict(zip(equation.species, balance(equation), strict=True))
    assert found == {"KMnO4": 2, "HCl": 16, "KCl": 2, "MnCl2": 2, "H2O": 8, "Cl2": 5}


# ----------------------------------------------------------------------------------------------------------- quantities


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("10 g / 2 g/mol", "5 mol"),
        ("25.0 mL * 0.100 mol/L", "2.5 mmol"),
        ("(2 * 1.008 + 15.999) g/mol", "18.015 g/mol"),
        ("1 kg - 250 g - 250000 mg", "0.5 kg"),
        ("3 g / 4 g", "75 %"),
        ("2 mol × 3 / 4", "1500 mmol"),
    ],
)
def test_expressions_with_units(text: str, same: str) -> None:
    assert work_out(text)[0] == read_quantity(same)


@pytest.mark.parametrize(
    "text", ["1 g + 1 mol", "1 g / 0", "1 +", "1 2", "g", "1 lb", "(1 g", "1..2 g", "9" * 16 + " g"]
)
def test_expressions_that_mean_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        work_out(text)


@given(st.fractions(min_value=Fraction(1, 10**6), max_value=10**6))
def test_numbers_are_rounded_to_significant_digits(value: Fraction) -> None:
    text = write_number(value, 4)
    assert "E" not in text
    assert abs(Fraction(text) - value) <= value / 2000


# ------------------------------------------------------------------------------------------------------------ questions


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Balance: H2 + O2 -> H2O", "2 H2 + O2 -> 2 H2O"),
        ("please balance the equation C3H8 + O2 = CO2 + H2O.", "C3H8 + 5 O2 -> 3 CO2 + 4 H2O"),
        ("Fe + O2 → Fe2O3", "4 Fe + 3 O2 -> 2 Fe2O3"),
        ("What is the molar mass of Ca(OH)2?", "74.09 g/mol"),
        ("molar mass of CuSO4.5H2O", "249.7 g/mol"),
        ("What is the molecular weight of NaCl?", "58.44 g/mol"),
        ("Balance: __ Al + _O2 -> ? Al2O3", "4 Al + 3 O2 -> 2 Al2O3"),
        (f"{BURN}: What is the limiting reagent for 1 mol of C3H8 and 4 mol of O2?", "O2"),
        (f"{BURN}: what mass of CO2 forms from 44.1 g of C3H8?", "132.0 g"),
        ("How many mol are in 36.0 g of H2O?", "1.998 mol"),
        ("how many g are in 250 mmol of NaCl", "14.61 g"),
        ("How many mg are in 0.5 kg of Fe?", "500000 mg"),
        ("How many mmol are in 25.0 mL of 0.100 mol/L HCl?", "2.5 mmol"),
        (f"{BURN}: how many g of CO2 form from 44.1 g of C3H8?", "132.0 g"),
        (f"{BURN}: how many mol of O2 react with 2 mol of C3H8?", "10 mol"),
        (f"{BURN}: how many mol of C3H8 are needed for 6 mol of CO2?", "2 mol"),
        (f"{BURN}: how many mol of H2O form from 1 mol of C3H8 and 1 mol of O2?", "0.8 mol"),
        (f"{BURN}: which reactant is limiting for 1 mol of C3H8 and 4 mol of O2?", "O2"),
        (f"{BURN}: how many mol of C3H8 are left from 1 mol of C3H8, and 4 mol of O2?", "0.2 mol"),
        (f"{BURN}: what is the yield in % if 1 mol of C3H8 and 9 mol of O2 give 1.5 mol of CO2?", "50 %"),
        ("HCl + NaOH -> NaCl + H2O: how many mL of 0.2 mol/L HCl react with 10 mL of 0.5 mol/L NaOH?", "25 mL"),
    ],
)
def test_questions_and_their_answers(question: str, answer: str) -> None:
    problem = ENVIRONMENT.read(question)
    assert problem.answer == answer
    assert ENVIRONMENT.read(problem.question) == problem
    for seed in range(4):
        texts = ENVIRONMENT.demonstrate(problem, random.Random(seed))
        state, status = follow(problem, texts)
        assert status == "terminated"
        assert ENVIRONMENT.check(problem, ENVIRONMENT.answer(state) or "")
        assert ENVIRONMENT.first_error(state) is None


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("", "two sides"),
        ("What is the capital of France?", "the chemistry environment reads"),
        ("Balance: H2 -> O2", "cannot be balanced"),
        ("Balance: H2O -> H2 + O2 + H2O2", "more than one way"),
        ("Balance: H2 + H2O -> O2", "on its side"),
        ("Balance: H2 + O2 -> H2 + O2", "appears twice"),
        ("Balance: H2 + Xy -> H2O", "not a formula"),
        ("Balance: H2 + O2 -> H2O -> H2O2", "two sides"),
        ("What is the molar mass of water?", "not a formula"),
        ("How many mol are in 36 lb of H2O?", "no amount"),
        ("How many mol are in 0 g of H2O?", "is nothing"),
        ("How many mol are in 5 mL of H2O?", "needs its concentration"),
        (f"{BURN}: how many g of CO form from 1 g of C3H8?", "CO is not in the equation"),
        (f"{BURN}: how many g of O2 react with 1 g of O2?", "O2 is given"),
        (f"{BURN}: how many g of O2 are left from 1 g of C3H8?", "O2 is not given"),
        (f"{BURN}: how many g of O2 are left from 1 g of O2 and 9 g of C3H8?", "nothing is left"),
        (f"{BURN}: which reactant is limiting for 1 mol of C3H8 and 5 mol of O2?", "no reactant is limiting"),
        (f"{BURN}: which reactant is limiting for 1 mol of CO2 and 5 mol of O2?", "must be of reactants"),
        (f"{BURN}: how many g of CO2 form from 1 g of O2 and 2 g of O2?", "given twice"),
        (f"{BURN}: what is the yield if 1 mol of C3H8 give 5 mol of CO2?", "more than can form"),
        (f"{BURN}: what is the yield if 1 mol of C3H8 give 5 mol of O2?", "O2 is no product"),
        (f"{BURN}: why?", "no question about a reaction"),
        ("H2 + " * 100, "at most 400"),
    ],
)
def test_what_cannot_be_read_says_why(question: str, why: str) -> None:
    with pytest.raises(UnreadableQuestion, match=re.escape(why)):
        ENVIRONMENT.read(question)


def test_levels_come_in_turn() -> None:
    assert [problem.meta["level"] for problem in PROBLEMS[:10]] == [*LEVELS, *LEVELS]
    assert {problem.meta["level"] for problem in Chemistry(levels=(2, 4)).problems("train", 20)} == {2, 4}
    with pytest.raises(UnusableEnvironment, match=r"levels \[6\] given"):
        load_environment("chemistry", levels=[6])


# --------------------------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.question)
def test_every_demonstration_ends_right_and_every_slip_is_an_error(problem: Problem) -> None:
    for seed in range(2):
        texts = ENVIRONMENT.demonstrate(problem, random.Random(seed))
        state, status = follow(problem, texts)
        assert status == "terminated"
        assert ENVIRONMENT.check(problem, ENVIRONMENT.answer(state) or "")
        assert ENVIRONMENT.first_error(state) is None
    state = ENVIRONMENT.initial(problem)
    while options := ENVIRONMENT.options(state):
        right, *wrong = (Step(text) for text in options)
        for slip in wrong:
            chosen = any(re.fullmatch(r"[a-j] = .*", text) for text in state.texts)
            free = not chosen and re.fullmatch(r"[a-j] = [2-9]", slip.text)
            assert free or ENVIRONMENT.first_error(state.then(slip)) == len(state.steps), (state.texts, slip)
        state = state.then(right)
    assert ENVIRONMENT.check(problem, ENVIRONMENT.answer(state) or "")


STOICHIOMETRY = "H2 + O2 -> H2O: how many g of H2O form from 10.0 g of H2 and 40 g of O2?"


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("2 H2 + O2 -> 2 H2O", True),
        ("O2 + 2 H2 -> 2 H2O", True),
        ("a H2 + b O2 -> c H2O", True),
        ("4 H2 + 2 O2 -> 4 H2O", False),  # not the smallest
        ("H2 + O2 -> H2O", False),
        ("b H2 + a O2 -> c H2O", False),
        ("H: 2a = 2c", True),
        ("H: a = c", True),
        ("H: 2b = c", False),  # true, but that is oxygen's
        ("O: 2b = c", True),
        ("N: 2b = c", False),
        ("a = 2b", True),
        ("a = 2", True),  # a choice
        ("a = -2", False),
        ("d = 1", False),
        ("M(H2) = 2.016 g/mol", True),
        ("M(H2) = 2 * 1.008 = 2.016 g/mol", True),
        ("M(H2) = 2 * 1.1 = 2.016 g/mol", False),
        ("M(N2) = 28.01 g/mol", True),  # true of any problem
        ("M(H2) = 2.016 g", False),
        ("n(H2) = 10 g / 2.016 g/mol = 4.96 mol", True),
        ("n(H2) = 10 / 2.016 = 4.96 mol", True),
        ("n(H2) = 10 g * 2.016 g/mol = 4.96 mol", False),
        ("n(H2) = 4960 mmol", True),
        ("n(H2) = 5.0 mol", False),
        ("n(N2) = 5.0 mol", False),
        ("n(O2) = 1.25 mol", True),
        ("n(H2) / 2 = 4.96 mol / 2 = 2.48 mol", True),
        ("n(H2) / 3 = 4.96 mol / 3 = 1.653 mol", False),  # that says nothing
        ("limiting: O2", True),
        ("limiting: H2", False),
        ("n(used H2) = 2.5 mol", True),
        ("m(left H2) = 10 g - 2.5 mol * 2.016 g/mol = 4.96 g", True),
        ("n(H2O) = 1.25 mol * 2 = 2.5 mol", True),
        ("m(H2O) = 2.5 mol * 18.015 g/mol = 45.04 g", True),
        ("#### 45.04 g", True),
        ("#### 0.045 kg", True),
        ("#### 45", False),
        ("#### 45 mg", False),
        ("#### 89.4 g", False),
    ],
)
def test_lines_are_true_or_not(line: str, right: bool) -> None:
    problem = ENVIRONMENT.read(STOICHIOMETRY)
    assert ENVIRONMENT.first_error(State(problem, (Step(line),))) == (None if right else 0)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (("a = 1", "c = 3", "d = 4", "b = 5"), None),
        (("b = 1", "c = 3/5", "a = 1/5"), None),
        (("c = 3", "a = 1", "2b = 6 + 4"), None),
        (("a = 1", "a = 2"), 1),
        (("a = 1", "2a = 2c"), 1),
        (("a = 1", "c = 3", "b = 4"), 2),
    ],
)
def test_coefficients_agree_once_one_is_chosen(lines: tuple[str, ...], error: int | None) -> None:
    state = State(ENVIRONMENT.read(BURN), tuple(map(Step, lines)))
    assert ENVIRONMENT.first_error(state) == error


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("a = 1", "running"),
        ("  C: 3a = c  ", "running"),
        ("n(H2) = 1 mol", "running"),
        ("#### 5 g", "terminated"),
        ("####O2", "terminated"),
        ("#### 2 H2 + O2 -> 2 H2O", "terminated"),
        ("#### a H2 + b O2 -> c H2O", "truncated"),
        ("#### 5", "truncated"),
        ("#### water", "truncated"),
        ("n(H2) = 1", "truncated"),
        ("M(used H2) = 2 g/mol", "truncated"),
        ("2 = 2", "truncated"),
        ("a * b = 1", "truncated"),
        ("a / 0 = 1", "truncated"),
        ("O2", "truncated"),
        ("", "truncated"),
    ],
)
def test_the_status_of_a_step(text: str, status: str) -> None:
    state = ENVIRONMENT.initial(ENVIRONMENT.read(BURN))
    assert ENVIRONMENT.step(state, Step(text)).status == status


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("0.5 mol", "500 mmol", True),
        ("1 L", "1000 mL", True),
        ("18.0 g/mol", "18.02 g/mol", True),
        ("18.0 g/mol", "18.2 g/mol", False),
        ("18 g", "18 mol", False),
        ("18 g", "18", False),
        ("2 H2 + O2 -> 2 H2O", "O2 + 2 H2 = 2 H2O", True),
        ("2 H2 + O2 -> 2 H2O", "2 H2O -> 2 H2 + O2", False),
        ("O2", "O₂", True),
        ("O2", "O3", False),
        ("water", " water", True),
    ],
)
def test_answers_are_the_same_by_what_they_say(a: str, b: str, same: bool) -> None:
    assert ENVIRONMENT.same(a, b) == ENVIRONMENT.same(b, a) == same


def test_the_tolerance_is_of_the_larger() -> None:
    assert ENVIRONMENT.same("200 g", f"{200 * (1 - float(TOLERANCE))} g")
    assert not ENVIRONMENT.same("200 g", f"{200 * (1 - float(TOLERANCE)) - 0.01} g")


# -------------------------------------------------------------------------------------------------------- hostile text


@given(st.text(max_size=120) | st.text("0123456789+-*/()=> .HOCMnmabc^·[]#:%gl", max_size=120))
def test_no_text_raises(text: str) -> None:
    for problem in PROBLEMS[:5]:
        state = ENVIRONMENT.step(ENVIRONMENT.initial(problem), Step(text)).state
        ENVIRONMENT.first_error(state)
        ENVIRONMENT.check(problem, text)
        assert ENVIRONMENT.same(text, text)
    try:
        problem = ENVIRONMENT.read(text)
    except UnreadableQuestion:
        return
    assert ENVIRONMENT.read(problem.question) == problem


def test_conforms() -> None:
    check_environment(ENVIRONMENT, problems=[ENVIRONMENT.read(STOICHIOMETRY), ENVIRONMENT.read(BURN)], n=5)
    assert not any(ENVIRONMENT.check(problem, text) for problem in PROBLEMS for text in HOSTILE)


# --------------------------------------------------------------------------------------------------------- from outside


@pytest.mark.parametrize("package", ["molmass", "sympy"])
def test_without_the_extra_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.startswith("envs.chemistry.")]:
        monkeypatch.delitem(sys.modules, module)
    wanted = f"needs {package}, not installed here: pip install 'stepwell[chemistry]'"
    with pytest.raises(UnusableEnvironment, match=re.escape(wanted)):
        load_environment("chemistry")
    (listed,) = (entry for entry in list_environments() if entry.name == "chemistry")
    assert wanted in (listed.failure or "")


def test_solved_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", STOICHIOMETRY, "--env", "chemistry"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"answer +45\.04 g +✓ right", shown)
    assert "limiting: O2" in shown


# -------------------------------------------------------------------------------------------- as people write things


@pytest.mark.parametrize(
    ("question", "canonical", "answer"),
    [
        (
            "MnO4- + H+ + e- -> Mn2+ + H2O",
            "Balance: MnO4^- + H^+ + e^- -> Mn^2+ + H2O",
            "MnO4^- + 8 H^+ + 5 e^- -> Mn^2+ + 4 H2O",
        ),
        ("Cl^- -> Cl2 + e^-", "Balance: Cl^- -> Cl2 + e^-", "2 Cl^- -> Cl2 + 2 e^-"),
        ("O2 + 4 H⁺ + 4 e⁻ → 2 H2O", "Balance: O2 + H^+ + e^- -> H2O", "O2 + 4 H^+ + 4 e^- -> 2 H2O"),
        ("2H2O + 2e- -> H2 + 2OH-", "Balance: H2O + e^- -> H2 + OH^-", "2 H2O + 2 e^- -> H2 + 2 OH^-"),
        ("SO42- + Ba2+ -> BaSO4", "Balance: SO4^2- + Ba^2+ -> BaSO4", "SO4^2- + Ba^2+ -> BaSO4"),
        ("SO4 2- + Ba 2+ -> BaSO4", "Balance: SO4^2- + Ba^2+ -> BaSO4", "SO4^2- + Ba^2+ -> BaSO4"),
        ("I- -> I3- + e-", "Balance: I^- -> I3^- + e^-", "3 I^- -> I3^- + 2 e^-"),
        ("NH4+ + NO2- -> N2 + H2O", "Balance: NH4^+ + NO2^- -> N2 + H2O", "NH4^+ + NO2^- -> N2 + 2 H2O"),
        ("Fe3+(aq) + SCN-(aq) = FeSCN^2+(aq)", "Balance: Fe^3+ + SCN^- -> FeSCN^2+", "Fe^3+ + SCN^- -> FeSCN^2+"),
        ("H2+ O2 -> H2O", "Balance: H2 + O2 -> H2O", "2 H2 + O2 -> 2 H2O"),
        ("H2+O2->H2O", "Balance: H2 + O2 -> H2O", "2 H2 + O2 -> 2 H2O"),
        (
            r"Balance: \ce{Cr2O7^{2-} + Fe^{2+} + H+ -> Cr^{3+} + Fe^{3+} + H2O}",
            "Balance: Cr2O7^2- + Fe^2+ + H^+ -> Cr^3+ + Fe^3+ + H2O",
            "Cr2O7^2- + 6 Fe^2+ + 14 H^+ -> 2 Cr^3+ + 6 Fe^3+ + 7 H2O",
        ),
        (
            r"Balance $\mathrm{H_2} + \mathrm{O_{2}} \rightarrow \mathrm{H_2O}$.",
            "Balance: H2 + O2 -> H2O",
            "2 H2 + O2 -> 2 H2O",
        ),
        ("Balance the following chemical equation: H2 + O2 -> H2O", "Balance: H2 + O2 -> H2O", "2 H2 + O2 -> 2 H2O"),
        ("Balance the half-reaction: Cl- -> Cl2 + e-", "Balance: Cl^- -> Cl2 + e^-", "2 Cl^- -> Cl2 + 2 e^-"),
        ("How many moles are in 1,000 g of H2O?", "How many mol are in 1000 g of H2O?", "55.51 mol"),
        ("How many grams are there in 2 moles of NaCl?", "How many g are in 2 mol of NaCl?", "116.9 g"),
        (
            "H2 + O2 -> H2O: How many grams of H2O are produced from 10 grams of H2?",
            "H2 + O2 -> H2O: how many g of H2O form from 10 g of H2?",
            "89.37 g",
        ),
        (r"What is the molar mass of \ce{Ca(OH)2}?", "What is the molar mass of Ca(OH)2?", "74.09 g/mol"),
    ],
)
def test_questions_as_people_write_them(question: str, canonical: str, answer: str) -> None:
    environment = Chemistry()
    problem = environment.read(question)
    assert (problem.question, problem.answer) == (canonical, answer)
    assert environment.read(canonical) == problem


@pytest.mark.parametrize(
    "question",
    [
        "e- -> e-",
        "How many g are in 5 mol of e-?",
        "MnO4-- -> Mn",
        "e + H2 -> H2O",
        r"Balance: \ce{H2 -> O2}",
        "-",
        "+- ->",
    ],
)
def test_what_is_still_no_question(question: str) -> None:
    with pytest.raises(UnreadableQuestion):
        Chemistry().read(question)


PROPANE = "C3H8 + O2 -> CO2 + H2O: "
MASS_OF_CO2 = PROPANE + "how many g of CO2 form from 8.27 g of C3H8?"  # 24.76 g
YIELD = PROPANE + "what is the yield in % if 10 g of C3H8 give 25 g of CO2?"  # 83.50 %
MOLAR = "What is the molar mass of Ca(OH)2?"  # 74.09 g/mol
LIMITING = PROPANE + "which reactant is limiting for 10 g of C3H8 and 30 g of O2?"  # O2
BALANCE = "Balance: C3H8 + O2 -> CO2 + H2O"


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        (
            MASS_OF_CO2,
            [
                "24.76 g", "24.76 g CO2", "24.76 g of CO2", "24.76 g.", "24.76 grams", "24.76 grams of CO2",
                "m(CO2) = 24.76 g", "m(CO2) = 24.76 g CO2", r"$24.76\,\text{g}$", r"\boxed{24.76 \text{ g}}",
                "24,760 mg", "2.476 × 10^1 g", r"2.476 \times 10^{1} g", "2.476e1 g", "24.76 g CO₂",
                "0.02476 kilograms", "about 24.76 g", "≈ 24.76 g", "m = 24.76 g", "The mass is 24.76 g", "**24.76 g**",
                r"24.76\ \mathrm{g\ CO_2}", r"m_{CO2} = 24.76 g", r"m_{\text{CO2}} = 24.76\text{ g}", "CO2: 24.76 g",
                "mass of CO2 = 24.76 g", "The mass of CO2 is 24.76 g", "24.76 g (CO2)", "24.76 (g)",
                "mass(CO2) = 24.76 g",
            ],
            [
                "n(CO2) = 24.76 g", "M(CO2) = 24.76 g", "O2: 24.76 g", "mass of O2 = 24.76 g", "24.76 g (O2)",
                "24.76 (mol)",
                "24.76", "24.76 mol", "24.76 g C3H8", "24.76 g of H2O", "m(H2O) = 24.76 g", "m(CO2) = 24.76 g H2O",
                "24.76 g or 25 g", "2.476 g", "n = 24.76 mol", "about 24 g",
                "-24.76 g", "24.76 g/mol", "24.76 g of carbon", "24.76 g = 25 g",
                "not 24.76 g", "24.76e9999 g", "24,76 g",
            ],
        ),
        (
            YIELD,
            ["83.50 %", r"83.50\%", "83.5%", "83.5 percent", "yield = 83.5 %", r"$83.5\,\%$.", "≈83.5%"],
            ["83.5", "0.835", "8.35 %", "16.5 %", "83.5 g"],
        ),
        (
            MOLAR,
            ["74.09 g/mol", "74.09 g mol^-1", "74.09 g·mol⁻¹", r"74.09\ \text{g mol}^{-1}", "74.09 grams per mole",
             "M(Ca(OH)2) = 74.09 g/mol", "74.09 g/mole", "74.09 g / mol", r"74.09 \frac{g}{mol}",
             r"74.09\,\frac{\text{g}}{\text{mol}}"],
            ["74.09", "74.09 g", "74.09 mol", "74.09 g mol", "M(CaO) = 74.09 g/mol"],
        ),
        (LIMITING, ["O2", "O_2", r"\ce{O2}", "O2.", "limiting: O2", "$O_2$", "O₂"], ["C3H8", "O", "O3", "O2 or C3H8"]),
        (
            BALANCE,
            ["C3H8 + 5 O2 -> 3 CO2 + 4 H2O", "C3H8 + 5·O2 -> 3·CO2 + 4·H2O",
             r"\ce{C3H8 + 5O2 -> 3CO2 + 4H2O}", "C3H8 + 5O2 → 4H2O + 3CO2.",
             r"$\mathrm{C_3H_8} + 5\,\mathrm{O_2} \to 3\,\mathrm{CO_2} + 4\,\mathrm{H_2O}$"],
            ["C3H8 + O2 -> CO2 + H2O", "2 C3H8 + 10 O2 -> 6 CO2 + 8 H2O", "C3H8 + 5 O2 -> 3 CO2 + 4 H2O^-"],
        ),
        (
            "MnO4- + H+ + e- -> Mn2+ + H2O",
            ["MnO4- + 8 H+ + 5 e- -> Mn2+ + 4 H2O", "MnO4^- + 8H^+ + 5e^- = Mn^2+ + 4H2O"],
            ["MnO4- + 8 H+ + 4 e- -> Mn2+ + 4 H2O", "MnO4- + 8 H+ + 5 e- -> Mn+ + 4 H2O"],
        ),
    ],
)  # fmt: skip
def test_answers_as_people_write_them(question: str, right: list[str], wrong: list[str]) -> None:
    environment = Chemistry()
    problem = environment.read(question)
    assert problem.answer is not None
    for text in (*right, *wrong):
        assert environment.check(problem, text) == (text in right), text
        state = State(problem, (Step(f"#### {text}"),))
        if environment.answer(state) is not None:
            assert (environment.first_error(state) is None) == (text in right), text
    for text in right:
        assert environment.same(problem.answer, text), text
        assert environment.same(text, problem.answer), text
    assert not environment.same("24.76 g CO2", "24.76 g H2O")
