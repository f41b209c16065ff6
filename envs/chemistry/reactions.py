"""Reactions by family: what the chemistry environment draws its problems from.

The facts are those of any first-year textbook; salts and combustions are put together from charges and counts of
atoms, the rest is listed. Equations are written unbalanced, and each can be balanced in exactly one way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from envs.chemistry.formulas import Equation, read_equation, species

CATIONS = {"Li": 1, "Na": 1, "K": 1, "NH4": 1, "Ag": 1} | dict.fromkeys(
    ["Mg", "Ca", "Sr", "Ba", "Zn", "Cu", "Fe", "Ni", "Co", "Mn", "Pb"], 2
)
ANIONS = {"F": 1, "Cl": 1, "Br": 1, "I": 1, "NO3": 1, "OH": 1, "ClO4": 1} | {
    "O": 2, "S": 2, "SO4": 2, "CO3": 2, "CrO4": 2, "N": 3, "PO4": 3,
}  # fmt: skip
ACIDS = {"HCl": "Cl", "HBr": "Br", "HNO3": "NO3", "HClO4": "ClO4", "H2SO4": "SO4", "H3PO4": "PO4"}

SYNTHESES = """
H2 + O2 -> H2O; N2 + H2 -> NH3; C + O2 -> CO; C + O2 -> CO2; S + O2 -> SO2; SO2 + O2 -> SO3; NO + O2 -> NO2
P4 + O2 -> P4O10; P4 + O2 -> P4O6; P4 + Cl2 -> PCl3; P4 + Cl2 -> PCl5; H2 + Cl2 -> HCl; H2 + Br2 -> HBr
H2 + F2 -> HF; H2 + I2 -> HI; H2 + S -> H2S; N2 + O2 -> NO; Si + O2 -> SiO2; Si + Cl2 -> SiCl4; CO + O2 -> CO2
CO + H2 -> CH3OH; Fe + O2 -> Fe2O3; Fe + O2 -> Fe3O4; Fe + Cl2 -> FeCl3; Al + O2 -> Al2O3; Al + Cl2 -> AlCl3
Al + Br2 -> AlBr3; Al + S -> Al2S3; Cr + O2 -> Cr2O3; Cr + Cl2 -> CrCl3; S + Cl2 -> S2Cl2; S + F2 -> SF6
Xe + F2 -> XeF4; B + O2 -> B2O3; P4O10 + H2O -> H3PO4; SO3 + H2O -> H2SO4; N2O5 + H2O -> HNO3; Li2O + H2O -> LiOH
Na2O + H2O -> NaOH; K2O + H2O -> KOH; Cl2O7 + H2O -> HClO4
"""
DECOMPOSITIONS = """
KClO3 -> KCl + O2; H2O2 -> H2O + O2; HgO -> Hg + O2; Ag2O -> Ag + O2; H2O -> H2 + O2; NH4NO3 -> N2O + H2O
NH4NO2 -> N2 + H2O; NaHCO3 -> Na2CO3 + H2O + CO2; KHCO3 -> K2CO3 + H2O + CO2; NaNO3 -> NaNO2 + O2; KNO3 -> KNO2 + O2
Cu(NO3)2 -> CuO + NO2 + O2; Pb(NO3)2 -> PbO + NO2 + O2; Mg(NO3)2 -> MgO + NO2 + O2; AgNO3 -> Ag + NO2 + O2
Al(OH)3 -> Al2O3 + H2O; Fe(OH)3 -> Fe2O3 + H2O; NH3 -> N2 + H2; KMnO4 -> K2MnO4 + MnO2 + O2; NaN3 -> Na + N2
N2O5 -> NO2 + O2; (NH4)2Cr2O7 -> Cr2O3 + N2 + H2O; NaClO3 -> NaCl + O2; CuSO4·5H2O -> CuSO4 + H2O
MgSO4·7H2O -> MgSO4 + H2O; C3H5N3O9 -> CO2 + N2 + H2O + O2; Al2O3 -> Al + O2; C12H22O11 -> C + H2O
"""
DISPLACEMENTS = """
Al + HCl -> AlCl3 + H2; Al + H2SO4 -> Al2(SO4)3 + H2; Fe2O3 + Al -> Al2O3 + Fe; Cr2O3 + Al -> Al2O3 + Cr
Fe2O3 + CO -> Fe + CO2; Fe3O4 + CO -> Fe + CO2; Fe3O4 + H2 -> Fe + H2O; Fe2O3 + C -> Fe + CO2
CuO + NH3 -> Cu + N2 + H2O; F2 + H2O -> HF + O2
Na + H2O -> NaOH + H2; K + H2O -> KOH + H2; Li + H2O -> LiOH + H2; Ca + H2O -> Ca(OH)2 + H2; Fe + H2O -> Fe3O4 + H2
Cl2 + KBr -> KCl + Br2; Cl2 + NaI -> NaCl + I2; Br2 + KI -> KBr + I2; Cu + AgNO3 -> Cu(NO3)2 + Ag
Zn + AgNO3 -> Zn(NO3)2 + Ag; Al + CuSO4 -> Al2(SO4)3 + Cu; Al + CuCl2 -> AlCl3 + Cu; Mg + CO2 -> MgO + C
TiCl4 + Mg -> MgCl2 + Ti; SiO2 + Mg -> MgO + Si; SiO2 + C -> SiC + CO; MnO2 + Al -> Al2O3 + Mn
WO3 + H2 -> W + H2O; V2O5 + Ca -> CaO + V; UF4 + Mg -> MgF2 + U; PbO + C -> Pb + CO2
"""
BURNT = """
S8 CS2 H2S NH3 N2H4 CH4N2O C2H7N C5H5N C4H4S FeS2 ZnS Cu2S PH3 SiH4 B2H6 B5H9
"""
REDOX = """
KMnO4 + HCl -> KCl + MnCl2 + H2O + Cl2; K2Cr2O7 + HCl -> KCl + CrCl3 + H2O + Cl2; MnO2 + HCl -> MnCl2 + H2O + Cl2
Cu + HNO3 -> Cu(NO3)2 + NO + H2O; Cu + HNO3 -> Cu(NO3)2 + NO2 + H2O; Ag + HNO3 -> AgNO3 + NO + H2O
Zn + HNO3 -> Zn(NO3)2 + NH4NO3 + H2O; Mg + HNO3 -> Mg(NO3)2 + N2 + H2O; S + HNO3 -> H2SO4 + NO2 + H2O
P4 + HNO3 -> H3PO4 + NO2 + H2O; I2 + HNO3 -> HIO3 + NO2 + H2O; C + HNO3 -> CO2 + NO2 + H2O
Cu + H2SO4 -> CuSO4 + SO2 + H2O; C + H2SO4 -> CO2 + SO2 + H2O; HI + H2SO4 -> I2 + H2S + H2O
H2S + HNO3 -> S + NO + H2O; H2S + SO2 -> S + H2O; NH3 + O2 -> NO + H2O; NO2 + H2O -> HNO3 + NO
Cl2 + NaOH -> NaCl + NaClO3 + H2O; Cl2 + NaOH -> NaCl + NaClO + H2O; P4 + NaOH + H2O -> NaH2PO2 + PH3
FeSO4 + KMnO4 + H2SO4 -> Fe2(SO4)3 + K2SO4 + MnSO4 + H2O; FeSO4 + K2Cr2O7 + H2SO4 -> Fe2(SO4)3 + K2SO4 + Cr2(SO4)3 + H2O
H2C2O4 + KMnO4 + H2SO4 -> CO2 + K2SO4 + MnSO4 + H2O; KI + KMnO4 + H2SO4 -> I2 + K2SO4 + MnSO4 + H2O
Na2SO3 + KMnO4 + H2O -> Na2SO4 + MnO2 + KOH; KI + K2Cr2O7 + H2SO4 -> I2 + K2SO4 + Cr2(SO4)3 + H2O
As2S3 + HNO3 + H2O -> H3AsO4 + H2SO4 + NO; Cr2O3 + KNO3 + KOH -> K2CrO4 + KNO2 + H2O
MnO2 + KOH + O2 -> K2MnO4 + H2O; Na2S2O3 + I2 -> NaI + Na2S4O6; Ca3(PO4)2 + SiO2 + C -> CaSiO3 + P4 + CO
Al + NaOH + H2O -> NaAl(OH)4 + H2; Au + NaCN + O2 + H2O -> NaAu(CN)2 + NaOH; FeS2 + O2 -> Fe2O3 + SO2
C2H5OH + K2Cr2O7 + H2SO4 -> CH3COOH + Cr2(SO4)3 + K2SO4 + H2O; KIO3 + KI + H2SO4 -> I2 + K2SO4 + H2O
KBrO3 + KBr + HCl -> Br2 + KCl + H2O; FeCl3 + H2S -> FeCl2 + S + HCl; PbS + H2O2 -> PbSO4 + H2O
"""
IONIC = """
MnO4^- + Fe^2+ + H^+ -> Mn^2+ + Fe^3+ + H2O; Cr2O7^2- + Fe^2+ + H^+ -> Cr^3+ + Fe^3+ + H2O
MnO4^- + C2O4^2- + H^+ -> Mn^2+ + CO2 + H2O; Cr2O7^2- + I^- + H^+ -> Cr^3+ + I2 + H2O
MnO4^- + SO3^2- + H2O -> MnO2 + SO4^2- + OH^-; Cu + NO3^- + H^+ -> Cu^2+ + NO + H2O
S2O3^2- + I2 -> S4O6^2- + I^-; IO3^- + I^- + H^+ -> I2 + H2O; BrO3^- + Br^- + H^+ -> Br2 + H2O
Cl2 + OH^- -> Cl^- + ClO3^- + H2O; Zn + NO3^- + H^+ -> Zn^2+ + NH4^+ + H2O; Al + OH^- + H2O -> Al(OH)4^- + H2
Sn^2+ + Hg^2+ -> Sn^4+ + Hg2^2+; MnO4^- + I^- + H2O -> MnO2 + I2 + OH^-; Mn^2+ + MnO4^- + H2O -> MnO2 + H^+
Al + Cu^2+ -> Al^3+ + Cu; Ag^+ + PO4^3- -> Ag3PO4; Ca^2+ + PO4^3- -> Ca3(PO4)2; Fe^3+ + OH^- -> Fe(OH)3
"""
INSOLUBLE = {
    "Cl": ["Ag", "Pb"],
    "Br": ["Ag", "Pb"],
    "I": ["Ag", "Pb"],
    "SO4": ["Ba", "Sr", "Pb"],
    "CO3": ["Ag", "Mg", "Ca", "Sr", "Ba", "Zn", "Ni", "Co", "Mn", "Pb"],
    "PO4": ["Ag", "Mg", "Ca", "Sr", "Ba", "Zn", "Cu", "Fe", "Ni", "Co", "Mn", "Pb"],
    "OH": ["Mg", "Zn", "Cu", "Fe", "Ni", "Co", "Mn", "Pb"],
    "S": ["Ag", "Zn", "Cu", "Fe", "Ni", "Co", "Mn", "Pb"],
    "CrO4": ["Ag", "Ba", "Sr", "Pb"],
}


def salt(cation: str, anion: str) -> str:
    """The formula of a salt (or base, or oxide) that is neutral."""
    plus, minus = CATIONS[cation], ANIONS[anion]
    if plus == minus:
        return cation + anion
    return _part(cation, minus) + _part(anion, plus) if 1 in (plus, minus) else _part(cation, 3) + _part(anion, 2)


def _part(ion: str, count: int) -> str:
    if count == 1:
        return ion
    return f"({ion}){count}" if sum(letter.isupper() for letter in ion) > 1 else f"{ion}{count}"


def _listed(text: str) -> Iterator[str]:
    return (equation.strip() for line in text.strip().splitlines() for equation in line.split(";"))


def _syntheses() -> Iterator[str]:
    yield from _listed(SYNTHESES)
    for metal in ("Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Zn", "Cu", "Ni", "Co", "Mn", "Pb"):
        for element, anion in (("F2", "F"), ("Cl2", "Cl"), ("Br2", "Br"), ("I2", "I")):
            if (metal, anion) != ("Cu", "I"):
                yield f"{metal} + {element} -> {salt(metal, anion)}"
        yield f"{metal} + S -> {salt(metal, 'S')}"
    for metal in ("Li", "Mg", "Ca", "Sr", "Zn", "Cu", "Ni"):
        yield f"{metal} + O2 -> {salt(metal, 'O')}"
    for metal in ("Li", "Mg", "Ca", "Sr", "Ba"):
        yield f"{metal} + N2 -> {salt(metal, 'N')}"


def _decompositions() -> Iterator[str]:
    yield from _listed(DECOMPOSITIONS)
    for metal in ("Mg", "Ca", "Sr", "Zn", "Cu", "Ni", "Pb"):
        yield f"{salt(metal, 'CO3')} -> {salt(metal, 'O')} + CO2"
    for metal in ("Mg", "Zn", "Cu", "Ni"):
        yield f"{salt(metal, 'OH')} -> {salt(metal, 'O')} + H2O"


def _displacements() -> Iterator[str]:
    yield from _listed(DISPLACEMENTS)
    for metal in ("Mg", "Zn", "Fe", "Ni", "Co", "Mn"):
        for acid in ("HCl", "HBr", "H2SO4", "H3PO4"):
            yield f"{metal} + {acid} -> {salt(metal, ACIDS[acid])} + H2"


def _combustions() -> Iterator[str]:
    for carbons in range(1, 11):
        for hydrogens in range(2 * ((carbons + 1) // 2), 2 * carbons + 3, 2):
            for oxygens in range(min(carbons, 3) + 1):
                if (carbons, hydrogens, oxygens) == (1, 2, 0):
                    continue  # CH2 is no fuel one can have
                fuel = "".join(
                    f"{symbol}{count if count > 1 else ''}"
                    for symbol, count in (("C", carbons), ("H", hydrogens), ("O", oxygens))
                    if count
                )
                yield f"{fuel} + O2 -> CO2 + H2O"


def _burnings() -> Iterator[str]:
    ashes = {"C": "CO2", "H": "H2O", "S": "SO2", "N": "N2", "Fe": "Fe2O3", "Zn": "ZnO", "Cu": "CuO"} | {
        "P": "P4O10", "Si": "SiO2", "B": "B2O3",
    }  # fmt: skip
    for fuel in BURNT.split():
        yield f"{fuel} + O2 -> {' + '.join(ashes[symbol] for symbol, _ in species(fuel).atoms if symbol in ashes)}"


def _neutralisations() -> Iterator[str]:
    for acid, anion in ACIDS.items():
        for cation in ("Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Zn"):
            yield f"{acid} + {salt(cation, 'OH')} -> {salt(cation, anion)} + H2O"
    yield from _listed(
        "H2SO4 + Al(OH)3 -> Al2(SO4)3 + H2O; HCl + Al(OH)3 -> AlCl3 + H2O; HNO3 + Fe(OH)3 -> Fe(NO3)3 + H2O"
    )


def _fizzes() -> Iterator[str]:
    for acid, anion in ACIDS.items():
        for cation in ("Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Zn"):
            yield f"{acid} + {salt(cation, 'CO3')} -> {salt(cation, anion)} + H2O + CO2"


def _precipitations() -> Iterator[str]:
    for anion, metals in INSOLUBLE.items():
        for cation in ("Li", "Na", "K", "NH4"):
            if (cation, anion) in (("Li", "PO4"), ("Li", "CO3"), ("NH4", "OH")):
                continue  # not soluble, or weak
            for metal in metals:
                yield f"{salt(metal, 'NO3')} + {salt(cation, anion)} -> {salt(metal, anion)} + {salt(cation, 'NO3')}"


_FAMILIES: dict[str, Callable[[], Iterator[str]]] = {
    "synthesis": _syntheses,
    "decomposition": _decompositions,
    "displacement": _displacements,
    "combustion": _combustions,
    "burning": _burnings,
    "neutralisation": _neutralisations,
    "carbonate": _fizzes,
    "precipitation": _precipitations,
    "redox": lambda: _listed(REDOX),
    "ionic": lambda: _listed(IONIC),
}
FAMILIES = tuple(_FAMILIES)


@lru_cache
def family(name: str) -> tuple[Equation, ...]:
    """The reactions of a family, unbalanced."""
    return tuple(dict.fromkeys(read_equation(text)[0] for text in _FAMILIES[name]()))
