"""The interactive chart of accuracy and drop against training, in the style of `charts`."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from sparsecnn.analysis.ablation import shown
from sparsecnn.analysis.curves import curve_of
from sparsecnn.analysis.results import Results
from sparsecnn.report.chart_parts import (
    Chart,
    Look,
    Measured,
    accuracies,
    accuracy_axis,
    drop_axis,
    drops,
    fills,
    look_of,
    markers,
    mean_point,
    over,
    panel,
    rule_at,
    strokes,
    tooltips,
    visible,
)
from sparsecnn.report.language import gettext as _
from sparsecnn.study.config import DENSE

_WIDTH = 340
"""So that a page never has room for a third panel beside the two of a network."""


def budgets_chart(results: Results) -> Chart:
    """Accuracy and drop against epochs: of each network a panel for either.

    Lines are means over seeds, bands 95 % intervals (with two seeds: from seed to seed). The axis
    of drops is logarithmic beyond one point.
    """
    variants = shown(results)
    looks = [look_of(results, variant) for variant in (DENSE, *variants)]
    top1 = accuracies(results, [DENSE, *variants])
    lost = drops(results, results.cells, variants)
    accuracy = accuracy_axis(top1.ends(0, 100))
    drop = drop_axis(lost.ends(), alt.Y)
    specs = []
    for model in results.models:
        specs.append(_panel(results, model, _("accuracy"), top1, looks, accuracy, []))
        specs.append(_panel(results, model, _("drop"), lost, looks[1:], drop, [rule_at(0, "y")]))
    return Chart(looks, specs, _WIDTH)


def _panel(
    results: Results,
    model: str,
    quantity: str,
    measured: Measured,
    looks: Sequence[Look],
    y: alt.Y,
    below: Sequence[alt.Chart],
) -> dict[str, Any]:
    cells = curve_of(results, model)
    points: list[dict[str, Any]] = [
        {"series": look.series, "regime": cell.regime, "epochs": results.epochs(cell)}
        | mean_point(results, cell, look.series, measured, series=look.series)
        for look in looks
        for cell in cells
    ]
    epochs = sorted({results.epochs(cell) for cell in cells})
    x = alt.X(
        "epochs:Q",
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=alt.Axis(title=_("epochs of training"), values=epochs, format="d", grid=False),
    )
    base = over(points).transform_filter(visible("series")).encode(x=x, detail="series:N")
    band = base.mark_area(opacity=0.18, clip=True, aria=False).encode(
        y=alt.Y("low:Q"), y2="high:Q", fill=fills(looks)
    )
    line = base.mark_line(strokeWidth=1.6, aria=False).encode(y=y, stroke=strokes(looks))
    marks = markers(base.encode(y=y), looks, size=45).encode(tooltip=tooltips(points))
    return panel([*below, band, line, marks], f"{model}, {quantity}", 240)
