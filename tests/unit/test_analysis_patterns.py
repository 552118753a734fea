import re
from statistics import fmean

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from study_example import (
    COSTLY,
    ROOT,
    SWEEP,
    ablation_config,
    ablation_results,
    report,
    results,
    sweep_config,
    sweep_results,
    sweep_values,
    values_of,
)
from test_report_markdown import numbers, tables_of

from sparsecnn.analysis.ablation import ingredients, is_ablation, shown
from sparsecnn.analysis.patterns import (
    by_kept,
    counterparts,
    is_sweep,
    kept,
    kept_by,
    kind_of,
    kinds,
    sparsest_cheap,
)
from sparsecnn.analysis.results import Cell, results_of
from sparsecnn.pruning import prune
from sparsecnn.pruning.patterns import parse_pattern
from sparsecnn.registry import resolve
from sparsecnn.report.labels import series_labels
from sparsecnn.report.text import ABSENT
from sparsecnn.study.config import variant_settings
from sparsecnn.study.config_files import read_study

STUDIES, COVERAGE = ROOT / "studies", "skip_first_last"
PATTERNS = read_study([ROOT / "config.yaml", STUDIES / "patterns.yaml"], (), lambda path: {})
CONFIG = sweep_config()
TABLE = sweep_results(CONFIG)
SERIES = series_labels(ingredients(CONFIG))
TEXT = report(TABLE, sweep_values(CONFIG), CONFIG)


def drops(variant):
    return [values_of(TABLE, Cell("fully_trained", m), variant, "drop")[0] for m in TABLE.models]


def test_a_study_of_three_patterns_with_one_method_is_a_sweep_and_no_ablation():
    for n, expected in ((2, False), (3, True), (6, True)):
        table = sweep_results(sweep_config(tuple(SWEEP)[:n]))
        assert is_sweep(table) == expected
        assert not is_ablation(table)
    ablation = ablation_results(ablation_config())
    assert not is_sweep(ablation)
    assert is_ablation(ablation)


@pytest.mark.parametrize("name", ["config.yaml", *sorted(p.name for p in STUDIES.glob("*.yaml"))])
def test_of_the_studies_here_patterns_alone_is_a_sweep(name):
    files = [ROOT / "config.yaml", *([] if name == "config.yaml" else [STUDIES / name])]
    config = read_study(files, (), lambda path: pytest.fail(f"{path} is a template"))
    rows = [
        {"variant": variant, **variant_settings(config, variant)} for variant in config["variants"]
    ]
    frame = pd.DataFrame(rows).assign(regime="any", model="any")
    assert is_sweep(results_of(frame)) == (name == "patterns.yaml")


def test_every_method_of_the_study_has_every_pattern():
    own = PATTERNS["variants"].values()
    tried = {(variant["method"], variant["pattern"]) for variant in own}
    methods, patterns = ({pair[i] for pair in tried} for i in (0, 1))
    assert len(tried) == len(own) == len(methods) * len(patterns) > 40


@pytest.mark.parametrize("model", PATTERNS["models"])
def test_every_pattern_of_the_study_prunes_the_same_layers(model):
    settings = [variant_settings(PATTERNS, variant) for variant in PATTERNS["variants"]]
    (coverage,), (layout,) = ({own[key] for own in settings} for key in ("coverage", "layout"))
    pruned = set()
    for pattern in ("50%", "1:2", "2:4", "2:8"):  # all that is asked of a shape
        width = PATTERNS["models"][model]["width"]
        network = resolve("model", model)(num_classes=10, width=width)
        found = prune(
            network,
            [torch.rand(1, 3, 32, 32)],
            method="magnitude",
            pattern=pattern,
            coverage=coverage,
            layout=layout,
        )
        pruned.add(tuple(layer.layer for layer in found.layers if layer.status == "pruned"))
    assert len(pruned) == 1
    assert {own["pattern"].partition(":")[2] for own in settings} == {"", "2", "4", "8"}


@given(st.integers(2, 16).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m))))
def test_what_a_pattern_keeps_is_what_the_pruner_keeps(pair):
    kept_of_m, m = pair
    text = f"{kept_of_m}:{m}"
    assert kept_by(text) * m == pytest.approx(parse_pattern(text).most_kept(m))
    assert kind_of(text) == f"N:{m}"


@pytest.mark.parametrize(
    ("pattern", "fraction", "kind"),
    [("50%", 0.5, "%"), ("12.5%", 0.875, "%"), ("90% per row", 0.1, "% per row")],
)
def test_a_percentage_is_what_is_removed(pattern, fraction, kind):
    assert kept_by(pattern) == fraction == pytest.approx(1 - parse_pattern(pattern).rate)
    assert kind_of(pattern) == kind


def test_patterns_are_in_order_of_what_they_keep():
    assert by_kept(TABLE) == ["2:4", "4:8", "50%", "1:4", "75%", "90%"]
    assert kinds(TABLE) == ["%", "N:4", "N:8"]
    share = kept(TABLE)
    for variant in TABLE.variants:
        pattern = CONFIG["variants"][variant]["pattern"]
        assert share["vgg16", variant] == pytest.approx(100 * SWEEP[pattern])


def test_an_nm_pattern_has_its_equal_among_the_unstructured_ones_of_its_method():
    assert counterparts(TABLE, SERIES) == {
        f"{method}_{one}": f"{method}_{other}"
        for method in COSTLY
        for one, other in (("2_4", "50"), ("1_4", "75"), ("4_8", "50"))
    }
    config = sweep_config(("2:4", "1:4", "90%"))
    series = series_labels(ingredients(config))
    table = sweep_results(config)
    assert counterparts(table, series) == {}
    assert "What a pattern costs" not in report(table, sweep_values(config), config)


def test_a_series_is_what_is_alike_but_for_the_pattern():
    assert {variant: variant.split("_")[0] for variant in TABLE.variants} == SERIES
    variants = {
        f"{name}_{pattern[0]}": own | {"method": "sparsegpt", "pattern": pattern}
        for name, own in (("plain", {}), ("joint", {"selection": "joint"}))
        for pattern in ("2:4", "1:4", "3:4")
    }
    again = {"again": {"method": "sparsegpt", "bn_recalibration": True}}
    rows = ingredients(CONFIG | {"variants": variants})
    assert list(dict.fromkeys(series_labels(rows).values())) == [
        "sparsegpt",
        "sparsegpt + joint selection",
    ]
    rows = ingredients(CONFIG | {"variants": variants | again})
    assert series_labels(rows)["again"] == "sparsegpt (channels, re-estimated)"
    assert series_labels(rows)["plain_1"] == "sparsegpt (channels, as is)"


def test_the_sparsest_cheap_patterns_cost_at_most_a_point():
    assert sparsest_cheap(TABLE, SERIES) == {"magnitude": [], "sparsegpt": ["2:4", "4:8", "50%"]}
    assert fmean(drops("sparsegpt_4_8")) <= 1 < fmean(drops("sparsegpt_75"))
    assert (
        "point of accuracy without fine-tuning (mean over 3 networks) keep of the weights in the "
        "pruned layers: 50 % with `sparsegpt` (2:4, 4:8, 50%). With `magnitude` every pattern "
        "costs more" in TEXT
    )


def test_every_number_of_the_tables_of_a_sweep_is_found_again():
    first, *others = (rows for rows in tables_of(TEXT) if "Kept (%)" in rows[0])
    names = {pattern: pattern.replace(":", "_").replace("%", "") for pattern in SWEEP}
    for row in first:
        assert numbers(row["Kept (%)"]) == [100 * SWEEP[row["Pattern"]]]
        for method in COSTLY:
            expected = -fmean(drops(f"{method}_{names[row['Pattern']]}"))
            assert numbers(row[method]) == pytest.approx([expected], abs=0.00501)
    for model, rows in zip(TABLE.models, others, strict=False):
        cell = Cell("fully_trained", model)
        assert [row[model] for row in rows] == by_kept(TABLE)
        for row in rows:
            for method in COSTLY:
                variant = f"{method}_{names[row[model]]}"
                (top1,), (lost,) = (values_of(TABLE, cell, variant, c) for c in ("top1", "drop"))
                assert numbers(row[method]) == pytest.approx([top1, -lost], abs=0.00501)
                assert ("**" in row[method]) == (method == "sparsegpt")
    costs, divergence = others[len(TABLE.models) :]
    assert [row["Pattern"] for row in costs] == ["2:4", "4:8", "1:4"]
    lost = [a - b for a, b in zip(drops("magnitude_1_4"), drops("magnitude_75"), strict=True)]
    assert numbers(costs[-1]["magnitude"])[0] == pytest.approx(-fmean(lost), abs=0.00501)
    kl = [
        values_of(TABLE, Cell("fully_trained", m), "magnitude_2_4", "kl")[0] for m in TABLE.models
    ]
    assert numbers(divergence[0]["magnitude"]) == pytest.approx([fmean(kl)], abs=0.000005)


def test_a_sweep_is_told_by_pattern_and_its_long_tables_are_folded():
    assert re.findall(r"\(figures/(\w+)\.svg\)", TEXT) == [
        "patterns",
        "accuracy",
        "drop",
        "layer_error",
    ]
    assert shown(TABLE) == ["magnitude_2_4", "sparsegpt_2_4"]
    assert "Of the 12 variants, the figures below show those with the pattern 2:4." in TEXT
    assert "ingredient" not in TEXT
    assert "\n\n\n" not in TEXT
    assert not re.search(r"[ \t]+$|\bnan\b|\bNone\b|\binf\b", TEXT, re.MULTILINE)
    opened = re.sub(r"<details>.*?</details>", "", TEXT, flags=re.DOTALL)
    assert "| magnitude_1_4" in TEXT
    assert "| magnitude_1_4" not in opened


def test_a_small_sweep_shows_all_variants_in_all_figures():
    config = sweep_config(("2:4", "1:4", "75%"))
    table = sweep_results(config)
    text = report(table, sweep_values(config), config)
    assert shown(table) == table.variants
    assert re.findall(r"\(figures/(\w+)\.svg\)", text)[0] == "patterns"
    assert "the figures below show" not in text


def test_what_a_sweep_lacks_is_a_dash():
    config = sweep_config()
    kept_variants = {n: v for n, v in config["variants"].items() if n != "magnitude_90"}
    config = config | {"variants": kept_variants}
    values = [value for value in sweep_values(config) if value["variant"] != "magnitude_90"]
    table = results((0,), variants=tuple(kept_variants), values=values)
    last = tables_of(report(table, values, config))[0][-1]
    assert (last["Pattern"], last["magnitude"]) == ("90%", ABSENT)
