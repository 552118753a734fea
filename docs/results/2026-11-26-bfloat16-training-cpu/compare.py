"""Networks trained in bfloat16 against the same in float32: accuracy and drop, paired by seed.

python docs/results/2026-11-26-bfloat16-training-cpu/compare.py
"""

from pathlib import Path

import pandas as pd

from sparsecnn.analysis.comparisons import Term, drop_terms, weigh
from sparsecnn.analysis.results import Cell, read_results, results_of
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.report.text import signed, signed_interval, table
from sparsecnn.study.config import DENSE

HERE = Path(__file__).parent
FORMATS = ("float32", "bfloat16")
PRUNED = "sparsegpt"


def rows_of(number_format: str) -> pd.DataFrame:
    """The table of one study, as if the number format were a recipe, with a regime of its name."""
    frame = read_results(HERE / f"metrics-{number_format}.csv").frame
    return frame.assign(regime=number_format, recipe=number_format)


def said(found: Estimate, *, sign: bool = False) -> str:
    """A number with its interval."""
    if sign:
        return f"{signed(found.value)} {signed_interval(found.low, found.high)}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def main() -> None:
    """Print accuracies, drops, and the differences that the number format makes."""
    results = results_of(pd.concat(map(rows_of, FORMATS)))
    rows, differences = [], []
    for model in results.models:
        single, half = (Cell(number_format, model) for number_format in FORMATS)
        for cell in (single, half):
            terms = [(1, cell, DENSE)], drop_terms(cell, PRUNED)
            rows.append([model, cell.regime, *(said(weigh(results, of)) for of in terms)])
        of_dense: list[Term] = [(1, half, DENSE), (-1, single, DENSE)]
        of_drop = [*drop_terms(half, PRUNED), *drop_terms(single, PRUNED, -1)]
        both = (weigh(results, terms) for terms in (of_dense, of_drop))
        differences.append([model, *(said(found, sign=True) for found in both)])
    print(f"Seeds: {', '.join(map(str, results.seeds))}\n")
    header = ["Network", "Trained in", "Dense (%)", "Drop (points)"]
    print(table(pd.DataFrame(rows, columns=header), (0, 1)))
    print("\nbfloat16 minus float32, in points, paired by seed:\n")
    print(table(pd.DataFrame(differences, columns=["Network", "Dense", "Drop"])))


if __name__ == "__main__":
    main()
