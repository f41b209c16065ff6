"""The tables and the figure of docs/findings.md, from the files of its studies.

python docs/findings.py FOLDER [FIGURE.png]: FOLDER holds findings-ENVIRONMENT.sqlite (single strategies), and beside
it -planner, -ladder, -parts, -game24 and others that add strategies, where they were run.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from agent.build import NO_VERIFIER
from agent.study import analysis
from agent.study import equal_compute as curves
from agent.study.equal_compute import Curves, Line, difference, ratio
from agent.study.results_db import StudyFile
from agent.study.statistics import clustered
from agent.study.table import marks_by_problem, points_text, revoted
from verifiers.voting import Vote

ROOT = Path(__file__).parents[1]
PLANNER = "auto"
KEYS = ["policy", "verifier", "strategy", "budget"]
Difference = tuple[float, float, float]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def percent(share: float) -> str:
    """In percent."""
    return f"{100 * share:.1f}"


def flop(count: float) -> str:
    """With a unit."""
    return next(f"{count / size:.3g} {unit}" for size, unit in ((1e9, "G"), (1e6, "M"), (1, "")) if count >= size)


def name(line: Line) -> str:
    """A line in words."""
    return line[0] if line[0] == "greedy" else f"{line[0]} @ {line[1]}"


def samples(line: Line) -> float:
    """The budget of a line."""
    return float(line[1])


def accuracy(rows: pd.DataFrame) -> str:
    """With its interval."""
    mean, (low, high) = clustered(marks_by_problem(rows.to_dict("records")))
    return f"{percent(mean)} ({percent(low)} to {percent(high)})"


def times(found: Difference) -> str:
    """A ratio, with its interval."""
    return f"{found[0]:.1f} ({found[1]:.1f} to {found[2]:.1f})"


def bold(share: float, best: float) -> str:
    """In percent, in bold if it is as good as the best; nothing for what was not run."""
    return "" if pd.isna(share) else f"**{percent(share)}**" if share >= best else percent(share)


class Lab:
    """The studies of one environment.

    Args:
        folder: with their files.
        environment: whose.
    """

    def __init__(self, folder: Path, environment: str) -> None:
        self.environment = environment
        self.main = StudyFile(folder / f"findings-{environment}.sqlite")
        self.files, self.games = {"main": self.main}, list[StudyFile]()
        for path in sorted(folder.glob(f"findings-{environment}-*.sqlite")):
            part = path.stem.removeprefix(f"findings-{environment}-")
            if part.startswith("game24"):
                self.games.append(StudyFile(path))
            else:
                self.files[part] = StudyFile(path)
        self.frames = frames = {part: results(file) for part, file in self.files.items()}
        self.rows = pd.concat(frames.values()).drop_duplicates([*KEYS, "seed", "id"])
        self.policy = frames["main"]["policy"].iloc[0]
        self.verifier: str = next(each for each in frames["main"]["verifier"] if each != NO_VERIFIER)
        default = (self.rows["policy"] == self.policy) & self.rows["verifier"].isin([self.verifier, NO_VERIFIER])
        self.own = self.rows[default & self.rows["id"].isin(frames["main"]["id"])]
        self.curves = Curves.of(self.own)
        whole = [frames[part]["strategy"] for part in ("main", "distinct") if part in frames]
        self.singles = list(pd.concat(whole).unique())  # others were run on fewer problems
        self.planned = sorted(self.curves.lines([PLANNER]), key=samples)
        known = analysis.binned(analysis.difficulty(self.main), "quantile")
        self.known = known.set_index("id").sort_index()  # the papers' oracle difficulty

    def of(self, line: Line) -> pd.DataFrame:
        """The rows of a line."""
        return self.own[(self.own["strategy"] == line[0]) & (self.own["budget"] == line[1])]

    def strategies(self) -> str:
        """All lines."""
        lines = sorted(
            self.curves.lines([*self.singles, PLANNER]), key=lambda line: (self.order(line[0]), samples(line))
        )
        rows = []
        for line in lines:
            own = self.of(line)
            levels = [percent(mean) for mean in (own["correct"] == 1).groupby(own["level"]).mean()]
            costs = [flop(own["flops"].mean()), f"{own['samples'].mean():.1f}", str(own["seed"].nunique())]
            rows.append([name(line), accuracy(own), *levels, *costs])
        levels = [f"level {level}" for level in sorted(self.own["level"].unique())]
        return table(["strategy", "right, %", *levels, "FLOPs", "samples", "seeds"], rows)

    def order(self, strategy: str) -> int:
        """Of the rows: as in the study, the planner last."""
        return [*self.singles, PLANNER].index(strategy)

    def single(self) -> str:
        """Claim 1: the planner and the best single strategy, and the envelope that knows the difficulty."""
        rows = []
        for line in self.planned:
            right, cost = self.curves.right[line], self.curves.flops[line].mean()
            found = [name(line), percent(right.mean()), flop(cost)]
            for limits in ({"samples": samples(line)}, {"flops": 1.02 * cost}):
                if not (lines := self.curves.lines(self.singles, **limits)):
                    found += ["", "", ""]
                    continue
                best = self.curves.best(lines)
                envelope, _ = self.curves.envelope(lines, self.known["bin"])
                found += [
                    f"{name(best)}: {percent(self.curves.right[best].mean())}, {flop(self.curves.flops[best].mean())}",
                    points_text(difference(self.curves.right[best], right)),
                    points_text(difference(envelope, right)),
                ]
            rows.append(found)
        head = ["planner", "right", "FLOPs"]
        for what in ("samples", "FLOPs"):
            head += [f"best single, at most its {what}", "planner less it", "planner less envelope"]
        return table(head, rows)

    def savings(self) -> str:
        """Claim 2: how few FLOPs reach the largest Best-of-N, and majority of as many samples and more."""
        best_of_n, majority = (self.curves.lines([each]) for each in ("best-of-n", "majority"))
        most = max(best_of_n, key=samples)
        targets = [most, *sorted((line for line in majority if samples(line) >= samples(most)), key=samples)]
        rows = [
            [
                name(target),
                f"{percent(self.curves.right[target].mean())}, {flop(self.curves.flops[target].mean())}",
                name(line),
                points_text(difference(self.curves.right[target], self.curves.right[line])),
                times(ratio(self.curves.flops[target], self.curves.flops[line])),
            ]
            for target in targets
            for line in self.planned
        ]
        return table(["target", "right, FLOPs", "planner", "planner less target", "FLOPs, target over planner"], rows)

    def pairs(self) -> list[tuple[str, str]]:
        """Policies of the ladder, the second at least 14 times as large as the first and decoding greedily."""
        ladder = self.frames["ladder"]
        greedy = ladder[ladder["strategy"] == "greedy"]["policy"].unique()
        known = {policy: trained("policies", policy) for policy in {self.policy, *ladder["policy"]}}
        order = sorted(known, key=lambda each: known[each])  # by size, then by tokens
        return [
            (small, large)
            for large in order
            if large in greedy
            for small in order
            if 14 * known[small][0] <= known[large][0]
        ]

    def searches(self, policy: str, verifiers: Sequence[str]) -> Curves:
        """What a policy was run with, on all problems."""
        found = Curves.of(self.rows[(self.rows["policy"] == policy) & self.rows["verifier"].isin(verifiers)])
        whole = found.right.columns[found.right.count() == len(self.known)]
        return Curves(found.right[whole], found.flops[whole])

    def prm(self, policy: str) -> str:
        """The PRM that a policy of the ladder was run with; the default, if it was with none."""
        ladder = self.frames["ladder"]
        asked = ladder[(ladder["policy"] == policy) & (ladder["verifier"] != NO_VERIFIER)]["verifier"]
        return str(asked.iloc[0]) if len(asked) else self.verifier

    def ladder(self) -> str:
        """Claim 3: small policies that search, and large ones that decode greedily."""
        rows = []
        for small, large in self.pairs():
            target = self.searches(large, [NO_VERIFIER])
            tried = self.searches(small, [NO_VERIFIER, self.prm(small)])
            right, flops = target.right["greedy", "1"], target.flops["greedy", "1"]
            lines = sorted(tried.right.columns, key=lambda line: tried.flops[line].mean())
            within = [line for line in lines if tried.flops[line].mean() <= flops.mean()]
            better = [line for line in lines if tried.right[line].mean() >= right.mean()]
            asked = {
                "best for no more FLOPs": within and tried.best(within),
                "cheapest that is as right": better and better[0],
            }
            for what, line in asked.items():
                found = ["none", "", "", ""]
                if line:
                    found = [
                        name(line),
                        percent(tried.right[line].mean()),
                        points_text(difference(right, tried.right[line])),
                    ]
                    found.append(times(ratio(tried.flops[line], flops)))
                times_as_large = f"{trained('policies', large)[0] / trained('policies', small)[0]:.0f}"
                taught = f"{training('policies', small) / training('policies', large):.2f}"
                rows.append([f"{large}: {percent(right.mean())}", small, times_as_large, taught, what, *found])
        head = ["greedy", "small", "times smaller", "training FLOPs over greedy's", "its search", "", "right"]
        head += ["less greedy", "FLOPs over greedy's"]
        return table(head, rows)

    def pretraining(self) -> str:
        """Claim 3 with training counted: what a small policy reaches for the total FLOPs of a large one, by R."""
        rows = []
        for small, large in self.pairs():
            greedy = self.rows[(self.rows["policy"] == large) & (self.rows["strategy"] == "greedy")]
            right = self.searches(large, [NO_VERIFIER]).right["greedy", "1"]
            query = float(greedy["generated"].mean()), float(greedy["flops"].mean())
            for r in (0.01, 0.1, 1.0, 10.0, 100.0):
                found = [small, f"{large}: {percent(right.mean())}", f"{r:g}"]
                for verifiers in ([NO_VERIFIER], [NO_VERIFIER, self.prm(small)]):
                    models = [("policies", small), *(("verifiers", each) for each in verifiers if each != NO_VERIFIER)]
                    both = sum(training(*model) for model in models), training("policies", large)
                    budget = curves.matched(both, query, trained("policies", large)[1], r)
                    tried = self.searches(small, verifiers)
                    lines = [line for line in tried.right.columns if tried.flops[line].mean() <= budget]
                    found += [flop(budget) if budget > 0 else "none"]
                    if lines:
                        best = tried.best(lines)
                        told = f"{name(best)}: {percent(tried.right[best].mean())}"
                        found += [told, points_text(difference(right, tried.right[best]))]
                    else:
                        found += ["", ""]
                rows.append(found)
        head = ["small", "large, greedy", "R"]
        for what in ("no PRM", "PRM"):
            head += [f"FLOPs per query, {what}", "best of small", "less large"]
        return table(head, rows)

    def by_verifier(self) -> str:
        """Claim 4: strategies under each PRM, on the problems that all were run on."""
        rows = self.rows[self.rows["policy"] == self.policy]
        return self.across(rows[rows["verifier"] != NO_VERIFIER], "verifier")

    def by_policy(self) -> str:
        """Claim 4: strategies with each policy, on the problems that all were run on."""
        rows = self.rows[self.rows["policy"].isin(self.frames["parts"]["policy"])]
        return self.across(rows[rows["verifier"].isin([self.verifier, NO_VERIFIER])], "policy")

    def across(self, rows: pd.DataFrame, axis: str) -> str:
        """Accuracy of each strategy and budget by what differs; the best of each column and budget in bold."""
        rows = rows[(rows["seed"] == 0) & rows["id"].isin(self.frames["parts"]["id"])]
        rows = rows[rows["strategy"] != PLANNER]
        right = (rows["correct"] == 1).groupby([rows["strategy"], rows["budget"], rows[axis]]).mean().unstack(axis)
        right = right[right.count(axis=1) > 1]
        best = right.groupby("budget").transform("max")
        order = sorted(right.index, key=lambda line: (float(line[1]), line[0]))
        made = [[name(line), *(bold(right.loc[line, at], best.loc[line, at]) for at in right)] for line in order]
        return table(["strategy", *map(str, right.columns)], made)

    def by_difficulty(self) -> str:
        """Claim 4: strategies by difficulty, in five bins of pass@1 over all samples; the best in bold."""
        made = []
        right = self.curves.right.groupby(self.known["bin"]).mean()
        for budget in sorted({line[1] for line in right} - {"1"}, key=float):
            lines = [(each, budget) for each in self.singles if (each, budget) in right]
            best = right[lines].max(axis=1)
            lines += [line for line in self.planned if line[1] == budget]
            made += [[name(line), *map(bold, right[line], best)] for line in lines]
        spans = self.known.groupby("bin")["pass_at_1"]
        head = [
            f"{b} ({percent(low)} to {percent(high)})"
            for b, low, high in zip(right.index, spans.min(), spans.max(), strict=True)
        ]
        return table(["strategy", *head], made)

    def voting(self) -> str:
        """Claim 5: Best-of-N, beam and DVTS under every rule and aggregation."""
        made = analysis.vote_sensitivity(self.main)
        votes = made.assign(vote=made["rule"] + " of " + made["aggregate"])
        votes = votes[(votes["rule"] != "majority") | (votes["aggregate"] == "last")]
        votes["vote"] = votes["vote"].replace("majority of last", "majority")
        right = votes.pivot_table(index=["strategy", "budget"], columns="vote", values="accuracy", sort=False)
        rows = [[name(line), *map(percent, right.loc[line])] for line in right.index]
        return table(["strategy", *right.columns], rows)

    def verifiers(self) -> str:
        """Claim 5: calibration and length bias of each PRM."""
        made = []
        for part in ("main", "parts"):
            if part not in self.files:
                continue
            known = analysis.calibration(self.files[part])
            known = known[(known["strategy"] == "best-of-n") & (known["policy"] == self.policy)]
            known = known[known["budget"].astype(float) <= 16].drop_duplicates("verifier", keep="last")
            bias = analysis.length_bias(self.files[part]).set_index(["policy", "verifier"])
            for row in known.itertuples():
                lengths = bias.loc[(row.policy, row.verifier)]
                made.append(
                    [
                        row.verifier,
                        percent(row.score),
                        percent(row.right),
                        f"{row.ece:.3f}",
                        f"{row.auroc:.3f}",
                        f"{row.within:.3f}",
                    ]
                    + [
                        f"{lengths[at]:+.3f} ({lengths[at + '_low']:+.3f} to {lengths[at + '_high']:+.3f})"
                        for at in ("step", "solution")
                    ]
                )
        head = [
            "PRM",
            "mean score",
            "right",
            "ECE",
            "AUROC",
            "within a search",
            "score with step length",
            "with solution length",
        ]
        return table(head, made)


def games(lab: Lab) -> str:
    """Claim 6: the Game of 24, hands of the calibration split first."""
    rows = []
    for file in lab.games:
        for line, own in analysis.results(file).groupby(["strategy", "budget"], sort=False):
            cost = [f"{own['samples'].mean():.1f}", flop(own["flops"].mean()), str(own["seed"].nunique())]
            rows.append([file.config["split"], str(own["id"].nunique()), name(line), accuracy(own), *cost])
    return table(["split", "hands", "strategy", "right, %", "samples", "FLOPs", "seeds"], rows)


def results(file: StudyFile) -> pd.DataFrame:
    """All results; majority, where it was not run, as counted from the samples of Best-of-N."""
    rows = analysis.results(file)
    if "majority" in set(rows["strategy"]):
        return rows
    sampled = rows[rows["strategy"] == "best-of-n"].to_dict("records")
    counted = pd.DataFrame(revoted(file, sampled, Vote("majority", "last")), columns=rows.columns)
    counted = counted.assign(
        strategy="majority", verifier=NO_VERIFIER, verifier_flops=0.0, flops=counted["policy_flops"]
    )
    return pd.concat([rows, counted])


def trained(kind: str, model: str) -> tuple[int, int]:
    """Parameters and training tokens of a model that ships."""
    told: dict[str, Any] = json.loads((ROOT / kind / "weights" / model / "training.json").read_text())
    return told["parameters"], told.get("tokens_seen", told["tokens"])


def training(kind: str, model: str) -> float:
    """FLOPs: 6 N D."""
    parameters, tokens = trained(kind, model)
    return 6.0 * parameters * tokens


def figure(labs: Sequence[Lab]) -> Figure:
    """Accuracy over FLOPs, of the planner and of every single strategy."""
    drawn = Figure(figsize=(5 * len(labs), 3.6), layout="constrained")
    for axes, lab in zip(drawn.subplots(1, len(labs), squeeze=False)[0], labs, strict=True):
        for strategy in [*lab.singles, PLANNER]:
            lines = sorted(lab.curves.lines([strategy]), key=samples)
            means = [clustered(marks_by_problem(lab.of(line).to_dict("records"))) for line in lines]
            spread = [[mean - low for mean, (low, _) in means], [high - mean for mean, (_, high) in means]]
            costs = [lab.curves.flops[line].mean() for line in lines]
            style: dict[str, Any] = {"marker": "o", "ms": 4, "capsize": 2, "elinewidth": 0.6}
            style |= {"label": "planner", "color": "black", "lw": 2} if strategy == PLANNER else {"label": strategy}
            axes.errorbar(costs, [mean for mean, _ in means], yerr=spread, **style)
        axes.set(
            xscale="log", xlabel="FLOPs per problem, policy and verifier", title=f"{lab.environment}: {lab.policy}"
        )
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return drawn


SECTIONS = {
    "Strategies": (Lab.strategies, "main"),
    "Claim 1: the planner, the best single strategy, the envelope": (Lab.single, "planner"),
    "Claim 2: FLOPs to reach Best-of-N and majority": (Lab.savings, "planner"),
    "Claim 3: small policies that search, large ones that do not": (Lab.ladder, "ladder"),
    "Claim 3: training counted": (Lab.pretraining, "ladder"),
    "Claim 4: by PRM": (Lab.by_verifier, "parts"),
    "Claim 4: by policy": (Lab.by_policy, "parts"),
    "Claim 4: by difficulty": (Lab.by_difficulty, "main"),
    "Claim 5: votes": (Lab.voting, "main"),
    "Claim 5: the PRMs": (Lab.verifiers, "main"),
}
"""Each with the study that it needs."""


def main(folder: Path, picture: Path | None = None) -> None:
    """Print every table that the studies of a folder have, and draw the figure."""
    paths = sorted(folder.glob("findings-*.sqlite"), key=lambda path: path.stem)
    labs = [Lab(folder, path.stem.split("-")[1]) for path in paths if path.stem.count("-") == 1]
    for lab in labs:
        for title, (section, part) in SECTIONS.items():
            if part in lab.files:
                print(f"## {lab.environment}. {title}\n\n{section(lab)}")
        if lab.games:
            print(f"## {lab.environment}. Claim 6: the Game of 24\n\n{games(lab)}")
    if picture is not None:
        figure(labs).savefig(picture, dpi=100)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
