"""Networks trained in bfloat16 against the same in float32: accuracy and drop, paired by seed.

python docs/results/2026-11-26-bfloat16-training-cpu/compare.py
"""

from dataclasses import replace
from pathlib import Path

from sparsecnn.analysis.comparisons import Term, accuracy, drop, drop_terms, weigh
from sparsecnn.analysis.results import Cell, Results, Row, read_results
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.report.text import markdown_table, signed, signed_interval
from sparsecnn.study.config import DENSE

HERE = Path(__file__).parent
FORMATS = ("float32", "bfloat16")
PRUNED = "sparsegpt"


def rows_of(number_format: str) -> list[Row]:
    """The table of one study, as if the number format were a recipe, with a regime of its name."""
    rows = read_results(HERE / f"metrics-{number_format}.csv").rows
    return [replace(row, regime=number_format, recipe=number_format) for row in rows]


def said(found: Estimate, *, sign: bool = False) -> str:
    """A number with its interval."""
    if sign:
        return f"{signed(found.value)} {signed_interval(found.low, found.high)}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def main() -> None:
    """Print accuracies, drops, and the differences that the number format makes."""
    results = Results(tuple(row for f in FORMATS for row in rows_of(f)))
    rows, differences = [], []
    for model in results.models:
        single, half = (Cell(number_format, model) for number_format in FORMATS)
        for cell in (single, half):
            dense, lost = accuracy(results, cell, DENSE), drop(results, cell, PRUNED)
            rows.append([model, cell.regime, said(dense), said(lost)])
        of_dense: list[Term] = [(1, half, DENSE), (-1, single, DENSE)]
        of_drop = [*drop_terms(half, PRUNED), *drop_terms(single, PRUNED, -1)]
        both = (weigh(results, terms) for terms in (of_dense, of_drop))
        differences.append([model, *(said(found, sign=True) for found in both)])
    print(f"Seeds: {', '.join(map(str, results.seeds))}\n")
    print(markdown_table(["Network", "Trained in", "Dense (%)", "Drop (points)"], rows, left=2))
    print("\nbfloat16 minus float32, in points, paired by seed:\n")
    print(markdown_table(["Network", "Dense", "Drop"], differences))


if __name__ == "__main__":
    main()
