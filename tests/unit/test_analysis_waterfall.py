from statistics import fmean

import pytest
from study_example import (
    ROOT,
    WATERFALL,
    ablation_results,
    ablation_values,
    report,
    values_of,
    waterfall_config,
)
from test_report_markdown import numbers, table_with

from sparsecnn.analysis.ablation import is_ablation, mean_drop, mean_gain
from sparsecnn.analysis.reference import PROTOCOL, SOLVER, departures
from sparsecnn.analysis.results import Cell
from sparsecnn.analysis.waterfall import levels, steps
from sparsecnn.errors import UserError
from sparsecnn.report.labels import step_label
from sparsecnn.report.language import speaking
from sparsecnn.study.config import VARIANT_ONLY, complete_config, variant_settings, waterfall
from sparsecnn.study.config_files import gather, read_schema

CONFIG = waterfall_config()
SEEDS = (0, 1, 2)
TABLE = ablation_results(CONFIG, SEEDS)
TEXT = report(TABLE, ablation_values(CONFIG, SEEDS), CONFIG)
LABELS = [
    "static_obs_flat",
    "inverse over the columns still to come",
    "groups along the channels",
    "refit of the kept weights",
    "inputs of the network as pruned so far",
    "target: the dense network's outputs",
    "batch norm re-estimated",
]


def shipped(*names):
    """The completed configuration of files that come with the project."""
    files = [ROOT / "config.yaml", *(ROOT / "studies" / name for name in names)]
    return complete_config(gather(files, [], lambda path: {}), read_schema())


def lost(variant, model, table=TABLE):
    """Of one network, seed by seed."""
    return values_of(table, Cell("fully_trained", model), variant, "drop")


def test_each_step_says_what_it_changes():
    assert [step_label(step) for step in steps(CONFIG)] == LABELS


@pytest.mark.parametrize("seeds", [(0,), (0, 1), SEEDS])
def test_levels_are_means_over_networks_and_steps_are_paired_by_seed(seeds):
    table = ablation_results(CONFIG, seeds)
    found = levels(table, WATERFALL)
    assert list(found.index) == list(WATERFALL)
    before = None
    for variant, row in found.iterrows():
        networks = [lost(variant, model, table) for model in table.models]
        seedwise = [fmean(own) for own in zip(*networks, strict=True)]
        own = mean_drop(table, variant)
        assert row["drop"] == pytest.approx(fmean(seedwise))
        assert tuple(row[["drop", "drop_low", "drop_high"]]) == (own.value, own.low, own.high)
        if before is None:
            assert row[["gain", "gain_low", "gain_high"]].isna().all()
            assert not row["settled"]
        else:
            gain = mean_gain(table, variant, before[0])
            told = tuple(row[["gain", "gain_low", "gain_high"]])
            assert told == (gain.value, gain.low, gain.high)
            differences = [a - b for a, b in zip(before[1], seedwise, strict=True)]
            assert row["gain"] == pytest.approx(fmean(differences))
            ends = (min(differences), max(differences)) if len(seeds) == 2 else told[1:]
            assert tuple(row[["gain_least", "gain_most"]]) == pytest.approx(ends)
        before = variant, seedwise
    # Nothing is lost on the way.
    total = found["drop"].iloc[0] - found["drop"].iloc[-1]
    assert found["gain"].sum() == pytest.approx(total)


def test_the_report_has_a_row_for_each_step():
    rows = table_with(TEXT, "Step")
    assert [row["Variant"] for row in rows] == list(WATERFALL)
    assert [row["Step"] for row in rows] == LABELS
    found = levels(TABLE, WATERFALL)
    for row in rows:
        own = found.loc[row["Variant"]]
        for model in TABLE.models:
            expected = -fmean(lost(row["Variant"], model))
            assert numbers(row[model]) == pytest.approx([expected], abs=0.00501)
        assert numbers(row["Mean"]) == pytest.approx([-own["drop"]], abs=0.00501)
        told = own[["gain", "gain_low", "gain_high"]].dropna()
        assert numbers(row["Gain"]) == pytest.approx(list(told), abs=0.00501)
        assert row["Gain"].startswith("**") == own["settled"]
    assert "![Accuracy lost, in points, from the first variant to the last, step by step" in TEXT
    assert "[Where the accuracy went](#where-the-accuracy-went)" in TEXT
    assert "\n\n\n" not in TEXT


def test_the_first_paragraph_names_the_largest_steps():
    assert not is_ablation(TABLE)
    sentence = (
        "Step by step from `static_obs_flat` to `sparsegpt_dense_target_bn`, the change of "
        "accuracy goes from -16.03 to -0.23 points, mean of 3 networks; the largest steps: inverse "
        "over the columns still to come (+14.31 points [+13.96, +14.66]), refit of the kept "
        "weights (+0.69 points [+0.67, +0.70])."
    )
    assert sentence in TEXT.partition("## Setup")[0]


def test_without_such_steps_there_is_no_such_section():
    config = CONFIG | {"report": {"waterfall": None}}
    text = report(TABLE, ablation_values(config, SEEDS), config)
    assert "Where the accuracy went" not in text
    assert "waterfall.svg" not in text
    assert steps(config) == steps({"report": {}}) == []


@pytest.mark.parametrize("files", [("ablation.yaml",), ("small.yaml", "waterfall.yaml")])
def test_every_step_of_the_shipped_studies_is_said_in_words(files):
    for step in steps(shipped(*files))[1:]:
        assert ":" not in step_label(step).removeprefix("target: the")
        with speaking(ROOT / "report" / "locale" / "ko.po"):
            assert not step_label(step).isascii()


def test_the_shipped_waterfall_goes_from_the_whole_protocol_to_the_best_there_is():
    config = shipped("small.yaml", "waterfall.yaml")
    first, *_, last_but_one, last = waterfall(config)
    own = VARIANT_ONLY | variant_settings(config, first)
    assert own["method"] == SOLVER
    assert {key: own[key] for key in PROTOCOL} == PROTOCOL
    assert departures(config, first) == {}
    best = variant_settings(shipped(), "admm")
    assert variant_settings(config, last_but_one) == best
    assert variant_settings(config, last) == best | {"bn_recalibration": True}
    assert variant_settings(config, first) == variant_settings(shipped(), "imitation")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["a", "b"], "report.waterfall: unknown variant b"),
        (["a"], r'report.waterfall: \["a"\] has too few entries'),
        (["a", "a"], "names something twice"),
        (["a", "same"], "from a to same one setting has to change, and what changes is: nothing"),
        (["a", "c"], "from a to c one setting has to change, and what changes is: layout, refit"),
    ],
)
def test_a_step_is_one_setting(steps, message):
    variants = {
        "a": {"method": "sparsegpt"},
        "same": {"method": "sparsegpt", "augmented_calibration": False},
        "c": {"method": "sparsegpt", "layout": "flattened", "refit": False},
    }
    config = {"models": {"vgg16": {}}, "regimes": {"r": {"vgg16": 1}}, "variants": variants}
    with pytest.raises(UserError, match=message):
        complete_config(config | {"report": {"waterfall": steps}}, read_schema())


def test_a_setting_that_most_variants_lack_is_on_the_record_of_none_of_these():
    variants = {
        "plain": {"method": "sparsegpt"},
        "said": {"method": "sparsegpt", "augmented_calibration": False},
        "other": {"method": "sparsegpt", "augmented_calibration": True},
    }
    config = {"models": {"vgg16": {}}, "regimes": {"r": {"vgg16": 1}}, "variants": variants}
    complete = complete_config(
        config | {"report": {"waterfall": ["plain", "other"]}}, read_schema()
    )
    plain, said, other = (variant_settings(complete, variant) for variant in variants)
    assert plain == said
    assert "augmented_calibration" not in plain
    assert other == plain | {"augmented_calibration": True}
    assert step_label(steps(complete)[1]) == "augmented calibration: True"
