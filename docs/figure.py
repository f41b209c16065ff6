"""From the file of a study to a figure: ``python docs/figure.py STUDY.sqlite FIGURE.png``."""

import sys

from matplotlib.figure import Figure

from agent.study.analysis import table
from agent.study.results_db import StudyFile

with StudyFile(sys.argv[1]) as study:
    lines = table(study)  # a pandas frame: one row per strategy and budget

figure = Figure(layout="constrained")
axes = figure.subplots()
for strategy, line in lines.groupby("strategy", sort=False):
    spread = [line["accuracy"] - line["low"], line["high"] - line["accuracy"]]
    axes.errorbar(line["flops"], line["accuracy"], yerr=spread, label=strategy, marker="o", capsize=2)
axes.set(xscale="log", xlabel="FLOPs per problem", ylabel="accuracy")
axes.legend()
figure.savefig(sys.argv[2])
