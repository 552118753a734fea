"""Which error of the quadratic model tells networks apart: its spread over seeds, in existing data.

Of each candidate the share of its variance over networks that is between networks (of a kind of
pruning, model and budget) and not between seeds of one: 1 where seeds agree, 0 where they differ
as much as networks do. It does not ask which way networks differ.

    python docs/results/2026-11-28-verdicts/quantities.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

CHANGES = Path(__file__).with_name("loss-changes.csv")


def candidates(changes: pd.DataFrame) -> pd.DataFrame:
    """Errors of the prediction, first plus second order, of the measured change of the loss."""
    measured, first, second = (
        changes[name] for name in ("measured", "first_order", "second_order")
    )
    predicted = first + second
    off, both = (predicted - measured).abs(), (predicted > 0) & (measured > 0)
    larger = np.maximum(predicted.abs(), measured.abs())
    return pd.DataFrame(
        {
            "of the larger of the two": off / larger,
            "of the sum of all terms": off / (first.abs() + second.abs() + measured.abs()),
            "of the second order": off / second.abs(),
            "size of the log-ratio": np.log((predicted / measured).where(both)).abs(),
        }
    )


def between(values: "pd.Series[float]", groups: pd.DataFrame) -> float:
    """The share of the variance between groups: the intraclass correlation, by ANOVA."""
    table = values.groupby([groups[name] for name in groups]).agg(["mean", "var", "count"])
    within = table["var"].mean()
    among = max(table["mean"].var() - within / table["count"].mean(), 0)
    return float(among / (among + within))


def main() -> None:
    """Print the share of each candidate, by run and kind of pruning."""
    changes = pd.read_csv(CHANGES)
    rows = []
    for names, own in changes.groupby(["run", "variant"]):
        found = candidates(own)
        shares = {name: between(found[name], own[["regime", "model"]]) for name in found}
        undefined = int(found["size of the log-ratio"].isna().sum())
        rows.append(
            dict(zip(("run", "variant"), names, strict=True)) | shares | {"undefined": undefined}
        )
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    main()
