import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from study_example import diagnostics, metric, report, results

from sparsecnn.analysis.comparisons import accuracy, drop
from sparsecnn.analysis.curves import curve_of, extremes, is_curve
from sparsecnn.analysis.results import Cell
from sparsecnn.report.appearance import appearance
from sparsecnn.report.curve_figures import draw_budgets

EPOCHS = (1, 2, 3, 5, 7, 10, 15, 20, 30)
REGIMES = {f"epochs_{n}": {"vgg16": n, "resnet18": n} for n in EPOCHS}
LOST = {"dense": 0, "magnitude": 30, "sparsegpt": 2}


def curve(seeds=(0, 1, 2)):
    values = [
        metric(model, n, seed, variant, 80 - 20 / n + seed - lost * (1 + seed / 10) + n / 10)
        for n in EPOCHS
        for model in ("vgg16", "resnet18")
        for seed in seeds
        for variant, lost in LOST.items()
    ]
    return results(seeds, REGIMES, ("magnitude", "sparsegpt"), values)


def test_a_study_of_many_budgets_is_a_curve():
    assert is_curve(curve())
    assert not is_curve(results())
    assert extremes(results()) == results()
    assert extremes(curve()).regimes == ["epochs_1", "epochs_30"]
    cells = curve_of(curve(), "resnet18")
    assert cells == [Cell(f"epochs_{n}", "resnet18") for n in EPOCHS]


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_lines_are_means_and_bands_intervals_or_with_two_seeds_the_seeds(seeds):
    table = curve(seeds)
    figure = draw_budgets(table)
    cell = Cell("epochs_7", "vgg16")
    for axes, variant, measure, values in (
        (figure.axes[0], "dense", accuracy, table.top1(cell, "dense")),
        (figure.axes[2], "magnitude", drop, [r.drop for r in table.of(cell, "magnitude")]),
    ):
        line, band = axes.lines[0], axes.collections[0]
        assert list(line.get_xdata()) == list(EPOCHS)
        at, estimate = EPOCHS.index(7), measure(table, cell, variant)
        assert line.get_ydata()[at] == pytest.approx(estimate.value)
        assert to_hex(line.get_color()) == to_hex(appearance(table, variant)[0])
        heights = band.get_paths()[0].vertices
        ends = heights[np.isclose(heights[:, 0], 7), 1]
        wanted = (min(values), max(values)) if len(seeds) == 2 else (estimate.low, estimate.high)
        assert (ends.min(), ends.max()) == pytest.approx(wanted)
        assert axes.get_xscale() == "log"


def test_the_report_of_a_curve_shows_it_and_folds_the_long_tables():
    table = curve()
    text = report(table, measured=diagnostics(table))
    assert "figures/budgets.svg" in text
    assert re.search(r"^\| vgg16 +\| +1 \| +2 \| +3 \| +5 \|", text, re.M)
    lost = -drop(table, Cell("epochs_30", "vgg16"), "magnitude").value
    assert re.search(rf"^\| magnitude \(points\) .*{lost:.2f} \|$", text, re.M)
    opened = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    assert "epochs_15 | vgg16" not in re.sub(" +", " ", opened)
    assert "epochs_15 | vgg16" in re.sub(" +", " ", text)
    assert "epochs_30 | resnet18" in re.sub(" +", " ", opened)  # in the tables of the diagnostics
    assert "\n\n\n" not in text


def test_a_study_of_few_budgets_shows_no_curve():
    assert "figures/budgets.svg" not in report(results())
