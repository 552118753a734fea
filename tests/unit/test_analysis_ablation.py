import re
from statistics import fmean

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from study_example import (
    INGREDIENTS,
    ablation_config,
    ablation_results,
    ablation_values,
    report,
    results,
)
from test_report_markdown import numbers, table_with, tables_of

from sparsecnn.analysis.ablation import (
    FEW,
    corrections,
    ingredients,
    is_ablation,
    mean_gain,
    shown,
)
from sparsecnn.analysis.results import Cell
from sparsecnn.report.ablation_figures import draw_ablation
from sparsecnn.report.figure_parts import save_svg
from sparsecnn.report.figures import draw_accuracy, draw_drop
from sparsecnn.report.tables import ablation_table, headline
from sparsecnn.study.config import variant_settings

CONFIG = ablation_config()
TABLE = ablation_results(CONFIG)
COLUMNS = {
    "channels, as is": "",
    "channels, re-estimated": "_bn",
    "flattened, as is": "_flat",
    "flattened, re-estimated": "_flat_bn",
}
LABELS = {
    "magnitude": "magnitude",
    "wanda": "wanda",
    "static_obs": "static_obs",
    "sparsegpt": "sparsegpt",
    "sparsegpt + joint selection": "sparsegpt_joint",
    "sparsegpt + refit": "sparsegpt_refit",
    "sparsegpt + sequential calibration + refit": "sparsegpt_sequential",
    "sparsegpt + sequential calibration + dense target + refit": "sparsegpt_dense_target",
    "exact_obs": "exact_obs",
}
TEXT = report(TABLE, ablation_values(CONFIG), CONFIG)


def chosen(*variants):
    """The configuration with these variants alone, and its results."""
    config = CONFIG | {"variants": {name: CONFIG["variants"][name] for name in variants}}
    return config, ablation_results(config)


def drops(variant, model=None):
    """Of every network at the largest budget, or of one."""
    return [
        row.drop
        for row in TABLE.rows
        if (row.regime, row.variant) == ("fully_trained", variant) and model in (None, row.model)
    ]


def test_variants_that_differ_in_groups_and_batch_norm_alone_form_a_row():
    rows = ingredients(CONFIG)
    assert [row.label for row in rows] == list(LABELS)
    for row in rows:
        suffixes = dict(zip(row.variants, COLUMNS.values(), strict=True))
        assert list(map(str, row.variants)) == list(COLUMNS)
        for column, variant in row.variants.items():
            assert variant == LABELS[row.label] + suffixes[column]
            settings = variant_settings(CONFIG, variant)
            assert column == (settings["layout"], settings["bn_recalibration"])


@pytest.mark.parametrize(
    ("own", "label"),
    [
        ({"refit": True}, "sparsegpt + refit"),
        ({"refit": False, "damping": 0.1}, "sparsegpt + damping 0.1"),
        ({"column_order": "importance"}, "sparsegpt + importance column order"),
        ({"pattern": "1:4", "coverage": "hardware"}, "sparsegpt + 1:4 pattern + hardware coverage"),
        ({"exclude": ["fc", "stem.*"]}, "sparsegpt + exclude fc, stem.*"),
    ],
)
def test_a_label_names_what_differs_from_the_defaults(own, label):
    config = CONFIG | {"variants": {"one": {"method": "sparsegpt", **own}}}
    assert [row.label for row in ingredients(config)] == [label]


def test_a_label_says_what_the_defaults_have_and_the_variant_lacks():
    methods = CONFIG["methods"]
    methods = methods | {"sparsegpt": methods["sparsegpt"] | {"refit": True}}
    config = CONFIG | {"methods": methods, "variants": {"one": INGREDIENTS["sparsegpt"]}}
    assert ingredients(config)[0].label == "sparsegpt"
    config["variants"] = {"one": {"method": "sparsegpt", "refit": False}}
    assert ingredients(config)[0].label == "sparsegpt without refit"


def test_every_number_of_the_first_table_is_the_mean_over_the_networks():
    first = tables_of(TEXT)[0]
    assert [row["Pruning"] for row in first] == list(LABELS)
    for row in first:
        for column, suffix in COLUMNS.items():
            expected = -fmean(drops(LABELS[row["Pruning"]] + suffix))
            assert numbers(row[column]) == pytest.approx([expected], abs=0.00501)


@pytest.mark.parametrize("model", ["custom_cnn", "vgg16", "resnet18"])
def test_every_number_of_a_networks_table_is_found_again(model):
    for row in table_with(TEXT, model):
        for column, suffix in COLUMNS.items():
            expected = [-lost for lost in drops(LABELS[row[model]] + suffix, model)]
            assert numbers(row[column]) == pytest.approx(expected, abs=0.00501)


def test_gains_are_over_plain_sparsegpt_of_the_same_column():
    rows = table_with(TEXT, "Against sparsegpt")
    assert len(rows) == len(LABELS) - 1
    for row in rows:
        for column, suffix in COLUMNS.items():
            variant = LABELS[row["Against sparsegpt"]] + suffix
            gain, low, high = numbers(row[column])
            expected = fmean(drops("sparsegpt" + suffix)) - fmean(drops(variant))
            assert gain == pytest.approx(expected, abs=0.00501)
            assert low < gain < high


def test_a_gain_is_paired_by_seed():
    # Every seed's networks lose alike, so nothing but the losses' own spread is in the interval.
    table = ablation_results(CONFIG, (0, 1, 2))
    gain = mean_gain(table, "sparsegpt_refit", "sparsegpt")
    assert (gain.n, gain.basis) == (3, "seeds")
    assert 0 < gain.high - gain.low < 0.1


def test_what_the_study_lacks_is_a_dash():
    config, table = chosen("magnitude", "magnitude_flat", "sparsegpt", "sparsegpt_flat_bn")
    text = ablation_table(table, ingredients(config))
    assert tables_of(text)[0] == [
        {
            "Pruning": "magnitude",
            "channels, as is": "-20.40",
            "flattened, as is": "-35.13",
            "flattened, re-estimated": "\N{EN DASH}",
        },
        {
            "Pruning": "sparsegpt",
            "channels, as is": "-1.47",
            "flattened, as is": "\N{EN DASH}",
            "flattened, re-estimated": "-1.13",
        },
    ]


def test_a_study_of_many_variants_is_reported_as_an_ablation():
    for n, expected in ((FEW, False), (FEW + 1, True)):
        config, table = chosen(*list(CONFIG["variants"])[:n])
        text = report(table, ablation_values(config), config)
        assert is_ablation(table) == expected
        assert ("figures/ablation.svg" in text) == expected
        assert ("Pruning" in tables_of(text)[0][0]) == expected


def test_the_report_of_an_ablation_is_readable():
    assert "\n\n\n" not in TEXT
    assert not re.search(r"[ \t]+$|\bnan\b|\bNone\b|\binf\b", TEXT, re.MULTILINE)
    assert TEXT.count("<details>") == TEXT.count("</details>")
    assert all(len(rows[0]) <= 8 for rows in tables_of(TEXT))
    for rows in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        assert len({len(row) for row in rows.splitlines()}) == 1
    links = re.findall(r"\(figures/(\w+)\.svg\)", TEXT)
    assert links == ["ablation", "accuracy", "drop", "layer_error"]
    opened = re.sub(r"<details>.*?</details>", "", TEXT, flags=re.DOTALL)
    assert max(len(rows) for rows in tables_of(opened)) <= 3 * len(TABLE.cells)


def test_the_references_solver_is_imitated_and_put_right():
    rows = table_with(TEXT, "Solver")
    variants = ["static_obs_flat", "sparsegpt_flat", "static_obs", "static_obs_flat_bn"]
    variants.append("sparsegpt_bn")
    assert [step.variant for step in corrections(TABLE)] == variants
    for row, variant in zip(rows, variants, strict=True):
        for model in TABLE.models:
            expected = [-lost for lost in drops(variant, model)]
            assert numbers(row[model]) == pytest.approx(expected, abs=0.00501)
        assert numbers(row["Mean"]) == pytest.approx([-fmean(drops(variant))], abs=0.00501)
        if row["Gain"]:
            gain = fmean(drops("static_obs_flat")) - fmean(drops(variant))
            assert numbers(row["Gain"]) == pytest.approx([gain], abs=0.00501)
    assert (
        "The reference study's solver, imitated (`static_obs_flat`), changes accuracy by "
        "-15.87 points on average over 3 networks; -1.70 with only the inverse put right" in TEXT
    )


def test_the_imitation_stands_beside_the_references_numbers():
    rows = table_with(TEXT, "Source")
    assert [row["Source"] for row in rows[:3]] == ["reference", "this study", "imitation"]
    last = rows[-1]
    assert (last["magnitude (drop)"], last["sparsegpt (drop)"]) == (
        "26.30 (-58.90)",
        "58.60 (-26.60)",
    )


def test_corrections_that_the_study_lacks_are_left_out():
    _, alone = chosen("static_obs_flat", "magnitude")
    assert corrections(alone) == []
    _, without = chosen("sparsegpt_flat", "sparsegpt_bn")
    assert corrections(without) == []
    _, one = chosen("static_obs_flat", "sparsegpt_flat")
    assert [step.variant for step in corrections(one)] == ["static_obs_flat", "sparsegpt_flat"]


def test_every_drop_is_drawn_in_its_row_with_its_mark():
    rows = ingredients(CONFIG)
    figure = draw_ablation(TABLE, rows)
    for axes, model in zip(figure.axes, TABLE.models, strict=True):
        points = [line for line in axes.lines if len(line.get_xdata()) == 1]
        drawn = {
            (round(p.get_ydata()[0]), p.get_marker(), p.get_markerfacecolor() != "white"): (
                p.get_xdata()[0]
            )
            for p in points
        }
        expected = {
            (i, {"channels": "o", "flattened": "s"}[column.layout], column.bn_recalibrated): (
                drops(variant, model)[0]
            )
            for i, row in enumerate(rows)
            for column, variant in row.variants.items()
        }
        assert len(points) == 36
        assert drawn == pytest.approx(expected)
        low, high = axes.get_xlim()
        assert low < min(drawn.values())
        assert high > max(drawn.values())
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert [re.sub(r"\s", " ", label) for label in labels] == list(LABELS)


def test_whiskers_are_those_of_the_other_figures():
    for seeds in ((0,), (0, 1), (0, 1, 2)):
        table = ablation_results(CONFIG, seeds, {"under_trained": {"vgg16": 5}})
        across = draw_ablation(table, ingredients(CONFIG)).axes[0].collections[0]
        upright = draw_drop(table).axes[0].collections[0]
        np.testing.assert_allclose(across.get_segments()[0][:, 0], upright.get_segments()[0][:, 1])


@pytest.mark.parametrize("many", [False, True])
def test_the_figure_is_drawn_for_every_study_and_its_bytes_are_the_same(tmp_path, many):
    config, table = (CONFIG, TABLE) if many else chosen("magnitude", "sparsegpt")
    for copy in ("a", "b"):
        save_svg(draw_ablation(table, ingredients(config)), tmp_path / f"{copy}.svg")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "<dc:date>" not in text


def test_other_figures_show_the_first_variants():
    assert shown(TABLE) == TABLE.variants[:FEW]
    names = [text.get_text() for text in draw_accuracy(TABLE).legends[0].texts]
    assert names == ["dense", *TABLE.variants[:FEW]]
    assert shown(results()) == results().variants


def test_headline_of_many_variants_has_a_line_for_each():
    lines = headline(TABLE).splitlines()
    assert len(lines) == 2 + 2 + 1 + 36
    assert lines[2].split("  ")[0] == "Variant"
    cell = Cell("fully_trained", "resnet18")
    assert lines[-1].split()[-2:] == [f"{TABLE.top1(cell, 'exact_obs_flat_bn')[0]:.2f}", "(+0.19)"]


def test_the_figure_has_room_for_every_whisker():
    config = ablation_config()
    figure = draw_ablation(ablation_results(config), ingredients(config))
    drawn = [
        x
        for axes in figure.axes
        for lines in axes.collections
        if isinstance(lines, LineCollection)
        for segment in lines.get_segments()
        for x in segment[:, 0]
    ]
    low, high = figure.axes[0].get_xlim()
    assert min(drawn) < 0
    assert low < min(drawn)
    assert max(drawn) < high
