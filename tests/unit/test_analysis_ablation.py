import math
import re
from statistics import fmean

import pytest
from study_example import (
    INGREDIENTS,
    ablation_config,
    ablation_results,
    ablation_values,
    report,
    results,
    values_of,
)
from test_report_markdown import numbers, table_with, tables_of

from sparsecnn.analysis.ablation import (
    FEW,
    ingredients,
    is_ablation,
    mean_gain,
    shown,
)
from sparsecnn.analysis.results import Cell, results_of
from sparsecnn.report.labels import column_label, ingredient_label
from sparsecnn.report.tables import headline
from sparsecnn.report.variant_tables import ablation_table
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
    models = TABLE.models if model is None else [model]
    cells = [Cell("fully_trained", name) for name in models]
    return [lost for cell in cells for lost in values_of(TABLE, cell, variant, "drop")]


def test_variants_that_differ_in_groups_and_batch_norm_alone_form_a_row():
    rows = ingredients(CONFIG)
    assert [ingredient_label(row) for row in rows] == list(LABELS)
    for row in rows:
        suffixes = dict(zip(row.variants, COLUMNS.values(), strict=True))
        assert list(map(column_label, row.variants)) == list(COLUMNS)
        for column, variant in row.variants.items():
            assert variant == LABELS[ingredient_label(row)] + suffixes[column]
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
    assert [ingredient_label(row) for row in ingredients(config)] == [label]


def test_a_label_says_what_the_defaults_have_and_the_variant_lacks():
    methods = CONFIG["methods"]
    methods = methods | {"sparsegpt": methods["sparsegpt"] | {"refit": True}}
    config = CONFIG | {"methods": methods, "variants": {"one": INGREDIENTS["sparsegpt"]}}
    assert ingredient_label(ingredients(config)[0]) == "sparsegpt"
    config["variants"] = {"one": {"method": "sparsegpt", "refit": False}}
    assert ingredient_label(ingredients(config)[0]) == "sparsegpt without refit"


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


def means(variant, column):
    """Of a variant and of the dense networks, over the networks at the largest budget."""
    cells = [Cell("fully_trained", name) for name in TABLE.models]
    return [
        fmean(x for c in cells for x in values_of(TABLE, c, v, column)) for v in (variant, "dense")
    ]


def test_every_divergence_is_the_mean_over_the_networks():
    rows = table_with(TEXT, "KL (nats)")
    assert [row["KL (nats)"] for row in rows] == list(LABELS)
    for row in rows:
        for column, suffix in COLUMNS.items():
            expected = means(LABELS[row["KL (nats)"]] + suffix, "kl")[0]
            assert numbers(row[column]) == pytest.approx([expected], abs=5.01e-6)


def test_all_measures_of_each_variant_stand_together_in_the_order_of_the_first_table():
    rows = table_with(TEXT, "Loss increase (nats)")
    variants = [row["Variant"] for row in rows]
    assert variants == [name + suffix for name in LABELS.values() for suffix in COLUMNS.values()]
    for row in rows:
        loss, dense = means(row["Variant"], "loss")
        expected = [-fmean(drops(row["Variant"])), loss - dense]
        expected += [means(row["Variant"], name)[0] for name in ("kl", "agreement")]
        told = [numbers(text)[0] for text in list(row.values())[1:]]
        assert told == pytest.approx(expected, abs=0.00501)


def test_an_ablation_of_an_earlier_version_has_no_table_of_divergences():
    earlier = results_of(TABLE.frame.assign(kl=math.nan, agreement=math.nan))
    text = report(earlier, ablation_values(CONFIG), CONFIG)
    assert "KL" not in text
    assert "\n\n\n" not in text
    assert list(table_with(text, "Loss increase (nats)")[0])[-1] == "Loss increase (nats)"


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
    longest = max(tables_of(opened), key=len)  # the reference, its second report, this, imitated
    assert len(longest) <= 4 * len(TABLE.cells)
    assert "Source" in longest[0]


def test_the_imitation_stands_beside_the_references_numbers():
    rows = table_with(TEXT, "Source")
    sources = [row["Source"] for row in rows[:3]]
    assert sources == ["reference, report 1", "this study", "imitation"]
    last = rows[-1]
    assert (last["magnitude (drop)"], last["sparsegpt (drop)"]) == (
        "26.30 (-58.90)",
        "58.60 (-26.60)",
    )
    assert (
        "Other than there: `augmented_calibration: false`, `ridge: 0`, `calibration: indep" in TEXT
    )


def test_other_figures_show_the_first_variants():
    assert shown(TABLE) == TABLE.variants[:FEW]
    assert shown(results()) == results().variants


def test_headline_of_many_variants_has_a_line_for_each():
    lines = headline(TABLE).splitlines()
    assert len(lines) == 2 + 2 + 1 + 36
    assert lines[2].split("  ")[0] == "Variant"
    cell = Cell("fully_trained", "resnet18")
    assert lines[-1].split()[-2:] == [
        f"{values_of(TABLE, cell, 'exact_obs_flat_bn')[0]:.2f}",
        "(+0.19)",
    ]


def test_what_pruning_buys_is_folded():
    section = TEXT.partition("## What pruning buys")[2].partition("\n## ")[0]
    before, _, folded = section.partition("<details>")
    assert "|" not in before
    assert len(tables_of(folded)[0]) == 2 * len(TABLE.models)
