"""custom_cnn at 2, 6, 12 and 30 epochs: an earlier run's networks and this one's in one curve.

python docs/results/2026-11-25-custom-cnn-30-epochs-cpu/curve.py
"""

from pathlib import Path

from sparsecnn.analysis.comparisons import accuracy, drop, drop_terms, weigh
from sparsecnn.analysis.results import Results, Row, read_results
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.report.curve_figures import draw_budgets
from sparsecnn.report.figure_parts import save_svg
from sparsecnn.report.text import markdown_table, signed, signed_interval
from sparsecnn.study.config import DENSE

HERE = Path(__file__).parent
EARLIER = HERE.parent / "2026-11-25-small-three-budgets-cpu"
VARIANTS = (DENSE, "magnitude", "magnitude_bn", "sparsegpt", "sparsegpt_published")


def together() -> Results:
    """One table of both runs, by epochs, variants and seeds."""
    both = (read_results(folder / "metrics.csv") for folder in (EARLIER, HERE))
    rows = [row for results in both for row in results.rows if known(row)]
    return Results(tuple(sorted(rows, key=lambda r: (r.epochs, VARIANTS.index(r.variant), r.seed))))


def known(row: Row) -> bool:
    """Whether both runs have such networks."""
    return row.model == "custom_cnn" and row.variant in VARIANTS


def interval(found: Estimate, sign: int = 1) -> str:
    """A number with its interval, in points."""
    low, high = sorted((sign * found.low, sign * found.high))
    return f"{signed(sign * found.value)} {signed_interval(low, high)}"


def main() -> None:
    """Print accuracies and drops at each budget, and how 30 epochs differ; draw the curve."""
    results = together()
    heads, rows, changes = results.variants, [], []
    for cell in results.cells:
        changed = [interval(drop(results, cell, v), -1) for v in results.variants]
        rows.append([results.epochs(cell), f"{accuracy(results, cell, DENSE).value:.2f}", *changed])
    last = results.cells[-1]
    for cell in results.cells[:-1]:
        terms = [(*drop_terms(last, v), *drop_terms(cell, v, -1)) for v in results.variants]
        more = [interval(weigh(results, of)) for of in terms]
        changes.append([results.epochs(cell), *more])
    print(markdown_table(["Epochs", "Dense (%)", *heads], [[*map(str, row)] for row in rows]))
    print("\nLost more after 30 epochs than after so many, in points:\n")
    print(markdown_table(["Epochs", *heads], [[*map(str, row)] for row in changes]))
    save_svg(draw_budgets(results), HERE / "figures" / "curve.svg")


if __name__ == "__main__":
    main()
