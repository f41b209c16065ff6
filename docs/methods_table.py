"""The table of accuracies in docs/methods.md, from the tables of its studies.

    stepwell report methods-countdown.sqlite --table csv --out countdown.csv
    python docs/methods_table.py countdown.csv arithmetic.csv

Prints Markdown: for each method the percent that are right, with their 95 % interval, and the MFLOP of a search, policy
and verifier together.
"""

import sys
from pathlib import Path

import pandas as pd


def method(row: pd.Series) -> str:
    """How a line is called."""
    judged = " by confidence" if "confidence" in row.verifier else ""
    return f"`{row.strategy}`{judged}"


def cell(row: pd.Series) -> str:
    """What came of it: percent right, interval, MFLOP."""
    low, high = 100 * row.low, 100 * row.high
    return f"{100 * row.accuracy:.1f} ({low:.0f} to {high:.0f}), {row.flops / 1e6:,.0f}"


def main() -> None:
    """Print a table for each domain."""
    for name in sys.argv[1:]:
        table = pd.read_csv(name)
        columns = {
            f"N = {budget}": {method(row): cell(row) for _, row in lines.iterrows()}
            for budget, lines in table.groupby("budget")
        }
        print(f"\n| {Path(name).stem}, {table.n.max()} problems | " + " | ".join(columns) + " |")
        print("|" + " --- |" * (len(columns) + 1))
        for each in dict.fromkeys(each for column in columns.values() for each in column):
            print(f"| {each} | " + " | ".join(column.get(each, "") for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
