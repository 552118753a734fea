from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex
from study_example import BUDGETS, results

from sparsecnn.analysis.comparisons import drop
from sparsecnn.analysis.layer_errors import LayerErrors, read_layer_errors
from sparsecnn.errors import UserError
from sparsecnn.report.figure_parts import save_svg
from sparsecnn.report.figures import draw_accuracy, draw_drop, draw_layer_error

ONE = results(seeds=(0,), regimes={"under_trained": {"vgg16": 5}}, variants=("sparsegpt",))


def layer_errors(table):
    return [
        LayerErrors(
            cell.model,
            *table.training(cell),
            seed,
            variant,
            (np.nan, *(0.01 * (k + 1) * (seed + depth) for depth in range(1, 4)), 0.0),
        )
        for cell in table.cells
        for seed in table.seeds
        for k, variant in enumerate(table.variants)
    ]


def legend(figure):
    entries = figure.legends[0]
    colours = [to_hex(handle.get_color()) for handle in entries.legend_handles]
    return dict(zip((text.get_text() for text in entries.texts), colours, strict=True))


def test_every_estimate_is_drawn_where_it_belongs():
    table = results(variants=("magnitude", "sparsegpt"))
    figure = draw_accuracy(table)
    for axes, regime in zip(figure.axes, BUDGETS, strict=True):
        drawn = sorted(line.get_ydata()[0] for line in axes.lines if len(line.get_ydata()) == 1)
        cells = [cell for cell in table.cells if cell.regime == regime]
        expected = [
            np.mean(table.top1(cell, variant))
            for cell in cells
            for variant in ("dense", *table.variants)
        ]
        assert drawn == pytest.approx(sorted(expected))
        assert axes.get_title() == regime
    assert figure.axes[0].get_ylabel() == "top-1 accuracy (%)"


def test_a_variant_keeps_its_colour_in_every_figure():
    table = results()
    accuracy, drop = legend(draw_accuracy(table)), legend(draw_drop(table))
    depth = legend(draw_layer_error(table, layer_errors(table)))
    assert list(accuracy) == ["dense", *table.variants]
    assert drop == depth == {name: accuracy[name] for name in table.variants}
    assert len(set(accuracy.values())) == 4


def test_layer_error_is_the_mean_over_seeds_with_gaps_for_dense_layers():
    table = results(seeds=(0, 1), regimes={"under_trained": {"vgg16": 5}}, variants=("sparsegpt",))
    line = draw_layer_error(table, layer_errors(table)).axes[0].lines[0]
    depth, error = np.asarray(line.get_xdata()), np.asarray(line.get_ydata(), dtype=float)
    np.testing.assert_array_equal(depth, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(error, [np.nan, 0.015, 0.025, 0.035, np.nan])


def test_of_variants_with_the_same_layer_errors_the_first_is_drawn():
    table = results(variants=("sparsegpt", "sparsegpt_bn"))
    layers = [x for x in layer_errors(table) if x.variant == "sparsegpt"]
    twins = [replace(x, variant="sparsegpt_bn") for x in layers]
    assert list(legend(draw_layer_error(table, layers + twins))) == ["sparsegpt"]
    twins[0] = replace(twins[0], errors=(0.5, *twins[0].errors[1:]))
    drawn = legend(draw_layer_error(table, layers + twins))
    assert list(drawn) == ["sparsegpt", "sparsegpt_bn"]


@pytest.mark.parametrize("table", [ONE, results(seeds=(0, 1))], ids=["one", "many"])
def test_the_same_figures_have_the_same_bytes(tmp_path, table):
    draw = {
        "accuracy": lambda: draw_accuracy(table),
        "drop": lambda: draw_drop(table),
        "layer_error": lambda: draw_layer_error(table, layer_errors(table)),
    }
    for name, figure in draw.items():
        for copy in ("a", "b"):
            save_svg(figure(), tmp_path / f"{name}-{copy}.svg")
        text = (tmp_path / f"{name}-a.svg").read_text()
        assert text == (tmp_path / f"{name}-b.svg").read_text()
        assert text.startswith("<?xml")
        assert "<dc:date>" not in text


def test_whiskers_far_beyond_the_points_do_not_flatten_the_figure():
    figure = draw_drop(results(seeds=(0, 1)))  # two seeds: t has one degree of freedom
    low, high = figure.axes[0].get_ylim()
    assert high - low < 200
    assert all(a.get_ylim() == b.get_ylim() for a, b in pairwise(figure.axes))


def test_whiskers_are_intervals_or_with_two_seeds_the_seeds():
    for seeds in ((0,), (0, 1), (0, 1, 2)):
        table = results(seeds=seeds)
        whiskers = draw_drop(table).axes[0].collections
        cell, variant = table.cells[0], table.variants[0]
        drops = [row.drop for row in table.of(cell, variant)]
        interval = drop(table, cell, variant)
        expected = (min(drops), max(drops)) if len(seeds) == 2 else (interval.low, interval.high)
        drawn = whiskers[0].get_segments()[0][:, 1]
        assert tuple(drawn) == pytest.approx(expected)


def test_layers_are_read_with_the_network_they_belong_to(tmp_path):
    path = tmp_path / "vgg16" / "strong" / "epochs-5" / "seed-3" / "sparsegpt" / "layers.csv"
    path.parent.mkdir(parents=True)
    path.write_text("layer,relative_error,more\nconv1,,\nconv2,0.25,x\n")
    found = read_layer_errors(path)
    assert (found.model, found.recipe, found.epochs) == ("vgg16", "strong", 5)
    assert (found.seed, found.variant) == (3, "sparsegpt")
    np.testing.assert_array_equal(found.errors, [np.nan, 0.25])


@pytest.mark.parametrize("text", [None, "layer\nconv1\n", "relative_error\nmany\n"])
def test_refuses_what_is_no_table_of_layers(tmp_path, text):
    path = tmp_path / "vgg16" / "strong" / "epochs-5" / "seed-3" / "sparsegpt" / "layers.csv"
    path.parent.mkdir(parents=True)
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"layers\.csv: not a table of layers"):
        read_layer_errors(path)
