"""custom_cnn at 2, 6, 12 and 30 epochs: an earlier run's networks and this one's in one curve.

python docs/results/2026-11-25-custom-cnn-30-epochs-cpu/curve.py
"""

from pathlib import Path

import pandas as pd

from sparsecnn.analysis.comparisons import drop_terms, weigh
from sparsecnn.analysis.results import Results, read_results, results_of
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.artifacts import write_text
from sparsecnn.report.chart_parts import picture
from sparsecnn.report.charts import budgets_chart
from sparsecnn.report.text import signed, signed_interval, table
from sparsecnn.study.config import DENSE

HERE = Path(__file__).parent
EARLIER = HERE.parent / "2026-11-25-small-three-budgets-cpu"
VARIANTS = (DENSE, "magnitude", "magnitude_bn", "sparsegpt", "sparsegpt_published")


def together() -> Results:
    """One table of both runs' networks that both have, by epochs, variants and seeds."""
    both = pd.concat(read_results(folder / "metrics.csv").frame for folder in (EARLIER, HERE))
    known = both[(both["model"] == "custom_cnn") & both["variant"].isin(VARIANTS)]
    known = known.assign(variant=pd.Categorical(known["variant"], VARIANTS))
    return results_of(known.sort_values(["epochs", "variant", "seed"]))


def interval(found: Estimate, sign: int = 1) -> str:
    """A number with its interval, in points."""
    low, high = sorted((sign * found.low, sign * found.high))
    return f"{signed(sign * found.value)} {signed_interval(low, high)}"


def main() -> None:
    """Print accuracies and drops at each budget, and how 30 epochs differ; draw the curve."""
    results = together()
    rows, changes = [], []
    for cell in results.cells:
        changed = [interval(weigh(results, drop_terms(cell, v)), -1) for v in results.variants]
        dense = weigh(results, [(1, cell, DENSE)]).value
        rows.append([str(results.epochs(cell)), f"{dense:.2f}", *changed])
    last = results.cells[-1]
    for cell in results.cells[:-1]:
        terms = [(*drop_terms(last, v), *drop_terms(cell, v, -1)) for v in results.variants]
        more = [interval(weigh(results, of)) for of in terms]
        changes.append([str(results.epochs(cell)), *more])
    print(table(pd.DataFrame(rows, columns=["Epochs", "Dense (%)", *results.variants])))
    print("\nLost more after 30 epochs than after so many, in points:\n")
    print(table(pd.DataFrame(changes, columns=["Epochs", *results.variants])))
    svg, _ = picture(budgets_chart(results))
    write_text(HERE / "figures" / "curve.svg", svg)


if __name__ == "__main__":
    main()
