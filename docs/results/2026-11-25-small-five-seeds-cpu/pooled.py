"""The claims on five seeds: three of an earlier run, two of this one, judged by the project's rule.

python docs/results/2026-11-25-small-five-seeds-cpu/pooled.py
"""

from pathlib import Path

import pandas as pd

from sparsecnn.analysis.comparisons import drop_terms, weigh
from sparsecnn.analysis.judging import judge
from sparsecnn.analysis.results import Cell, Results, read_results, results_of
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.artifacts import write_text
from sparsecnn.report.chart_parts import picture
from sparsecnn.report.charts import accuracy_chart
from sparsecnn.report.claims import evidence
from sparsecnn.report.tables import claims_table
from sparsecnn.report.text import signed, signed_interval, table
from sparsecnn.study.config import DENSE

HERE = Path(__file__).parent
EARLIER = HERE.parent / "2026-11-25-small-three-budgets-cpu"
REGIMES = {"epochs_2": "under_trained", "epochs_6": "fully_trained"}
VARIANTS = (DENSE, "magnitude", "magnitude_bn", "sparsegpt", "sparsegpt_published")


def earlier() -> pd.DataFrame:
    """Rows of the earlier run at 2 and 6 epochs, under the names of this one."""
    frame = read_results(EARLIER / "metrics.csv").frame
    return frame.assign(regime=frame["regime"].astype(str).map(REGIMES)).dropna(subset="regime")


def together(*frames: pd.DataFrame) -> Results:
    """One table in the order of a study's."""
    frame = pd.concat(frames)
    chosen = frame[frame["variant"].isin(VARIANTS)]
    models = list(chosen["model"].unique())
    order = {"regime": list(REGIMES.values()), "model": models, "variant": list(VARIANTS)}
    ordered = chosen.assign(
        **{name: pd.Categorical(chosen[name], values) for name, values in order.items()}
    )
    return results_of(ordered.sort_values([*order, "seed"]))


def told(found: Estimate, sign: int = 1) -> str:
    """A number with its interval."""
    low, high = sorted((sign * found.low, sign * found.high))
    return f"{signed(sign * found.value)} {signed_interval(low, high)}"


def drops(results: Results) -> str:
    """Change of accuracy of every cell and variant, with its interval."""
    rows = [
        [*cell, *(told(weigh(results, drop_terms(cell, v)), -1) for v in results.variants)]
        for cell in results.cells
    ]
    return table(pd.DataFrame(rows, columns=["Regime", "Network", *results.variants]), (0, 1))


def changes(results: Results) -> str:
    """Drop at 6 epochs minus drop at 2 of every network and variant, with its interval."""
    rows = []
    for model in results.models:
        least, most = (Cell(regime, model) for regime in results.ends)
        terms = [(*drop_terms(most, v), *drop_terms(least, v, -1)) for v in results.variants]
        rows.append([model, *(told(weigh(results, of)) for of in terms)])
    return table(pd.DataFrame(rows, columns=["Network", *results.variants]))


def main() -> None:
    """Print verdicts and drops of the earlier seeds, the new ones, and all; draw all."""
    old, new = earlier(), read_results(HERE / "metrics.csv").frame
    for title, results in {
        "the earlier seeds": together(old),
        "the new seeds": together(new),
        "all seeds": together(old, new),
    }.items():
        seeds = ", ".join(map(str, results.seeds))
        claims = judge(results)["claims"]
        print(f"## {title}: {seeds}\n\n{claims_table(claims)}\n\n{drops(results)}\n")
        print(f"Lost more at 6 epochs than at 2, in points:\n\n{changes(results)}\n")
        for claim in claims:
            print(f"{claim['number']}. {evidence(claim)}\n")
    svg, _ = picture(accuracy_chart(together(old, new)))
    write_text(HERE / "figures" / "pooled.svg", svg)


if __name__ == "__main__":
    main()
