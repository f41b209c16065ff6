"""From the file of a study to a figure: ``python docs/figure.py STUDY.sqlite FIGURE.pdf``."""

import sys

from matplotlib.figure import Figure

from agent.study.analysis import table
from agent.study.plots import Style, logarithmic
from agent.study.results_db import StudyFile

with StudyFile(sys.argv[1]) as study:
    lines = table(study)  # a pandas frame: one row per strategy and budget
axes = (figure := Figure(layout="constrained")).subplots()
for at, (strategy, line) in enumerate(lines.groupby("strategy", sort=False)):
    spread = [line["accuracy"] - line["low"], line["high"] - line["accuracy"]]
    axes.errorbar(line["flops"], line["accuracy"], spread, label=strategy, capsize=2, **vars(Style.number(at)))
logarithmic(axes, "FLOPs per problem")
axes.set_ylabel(f"accuracy with 95 % intervals, {lines['n'].max()} problems")
figure.legend(loc="outside right upper")
figure.savefig(sys.argv[2])
