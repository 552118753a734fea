"""The claims on five seeds: three of an earlier run, two of this one, judged by the project's rule.

python docs/results/2026-11-25-small-five-seeds-cpu/pooled.py
"""

from dataclasses import replace
from pathlib import Path

from sparsecnn.analysis.comparisons import drop, drop_terms, weigh
from sparsecnn.analysis.judging import judge
from sparsecnn.analysis.results import Cell, Results, Row, read_results
from sparsecnn.report.figure_parts import save_svg
from sparsecnn.report.figures import draw_accuracy
from sparsecnn.report.tables import claims_table
from sparsecnn.report.text import markdown_table, signed, signed_interval
from sparsecnn.study.config import DENSE

HERE = Path(__file__).parent
EARLIER = HERE.parent / "2026-11-25-small-three-budgets-cpu"
REGIMES = {"epochs_2": "under_trained", "epochs_6": "fully_trained"}
VARIANTS = (DENSE, "magnitude", "magnitude_bn", "sparsegpt", "sparsegpt_published")


def earlier() -> list[Row]:
    """Rows of the earlier run at 2 and 6 epochs, under the names of this one."""
    rows = read_results(EARLIER / "metrics.csv").rows
    return [replace(r, regime=REGIMES[r.regime]) for r in rows if r.regime in REGIMES]


def together(*tables: list[Row]) -> Results:
    """One table in the order of a study's."""
    rows = [row for table in tables for row in table if row.variant in VARIANTS]
    order = (list(REGIMES.values()), list(dict.fromkeys(row.model for row in rows)), list(VARIANTS))

    def place(row: Row) -> tuple[int, ...]:
        names = zip(order, (row.regime, row.model, row.variant), strict=True)
        return (*(of.index(name) for of, name in names), row.seed)

    return Results(tuple(sorted(rows, key=place)))


def drops(results: Results) -> str:
    """Change of accuracy of every cell and variant, with its interval."""
    rows = []
    for cell in results.cells:
        row = [*cell]
        for variant in results.variants:
            lost = drop(results, cell, variant)
            row.append(f"{signed(-lost.value)} {signed_interval(-lost.high, -lost.low)}")
        rows.append(row)
    return markdown_table(["Regime", "Network", *results.variants], rows, left=2)


def changes(results: Results) -> str:
    """Drop at 6 epochs minus drop at 2 of every network and variant, with its interval."""
    rows = []
    for model in results.models:
        row = [model]
        for variant in results.variants:
            least, most = (Cell(regime, model) for regime in results.ends)
            found = weigh(results, (*drop_terms(most, variant), *drop_terms(least, variant, -1)))
            row.append(f"{signed(found.value)} {signed_interval(found.low, found.high)}")
        rows.append(row)
    return markdown_table(["Network", *results.variants], rows)


def main() -> None:
    """Print verdicts and drops of the earlier seeds, the new ones, and all; draw all."""
    old, new = earlier(), list(read_results(HERE / "metrics.csv").rows)
    for title, results in {
        "the earlier seeds": together(old),
        "the new seeds": together(new),
        "all seeds": together(old, new),
    }.items():
        seeds = ", ".join(map(str, results.seeds))
        print(f"## {title}: {seeds}\n\n{claims_table(judge(results))}\n\n{drops(results)}\n")
        print(f"Lost more at 6 epochs than at 2, in points:\n\n{changes(results)}\n")
        for claim in judge(results):
            print(f"{claim['number']}. {claim['evidence']}\n")
    save_svg(draw_accuracy(together(old, new)), HERE / "figures" / "pooled.svg")


if __name__ == "__main__":
    main()
