import re

import pandas as pd
import pytest
from study_example import BUDGETS, ROOT, VARIANTS, metric, results

from sparsecnn.analysis.results import ADDED, COLUMNS, Cell, collect, read_results, results_of
from sparsecnn.analysis.tables import write_csv
from sparsecnn.artifacts import Manifest
from sparsecnn.errors import UserError
from sparsecnn.study.record import provenance

SHORT = {"only": {"vgg16": 2}}


def collected(values, regimes=SHORT, seeds=(0,), variants=("magnitude",)):
    return collect(
        values,
        study="s",
        dataset="d",
        regimes={name: {"recipe": "reference", **own} for name, own in regimes.items()},
        seeds=seeds,
        variants=variants,
    )


def columns(table, *names):
    return list(table.frame[list(names)].itertuples(index=False, name=None))


def pair(**other):
    return [metric("vgg16", 2, 0, "dense", 80.0), metric("vgg16", 2, 0, "magnitude", 70.5, **other)]


def test_one_row_for_every_regime_network_seed_and_variant():
    table = results()
    assert len(table.frame) == 2 * 3 * 3 * (1 + len(VARIANTS))
    assert table.regimes == list(BUDGETS)
    assert table.variants == list(VARIANTS)
    assert table.cells[0] == Cell("under_trained", "custom_cnn")
    assert list(table.frame["variant"][:4]) == ["dense", *VARIANTS]


def test_drop_is_dense_minus_pruned_of_the_same_network():
    frame = collected(pair()).frame
    assert frame[["dense_top1", "drop"]].to_numpy().tolist() == [[80.0, 0.0], [80.0, 9.5]]


def test_regimes_with_equal_epochs_share_a_network():
    table = collected(pair(), {"a": {"vgg16": 2}, "b": {"vgg16": 2}})
    assert columns(table, "regime", "top1") == [
        ("a", 80.0),
        ("a", 70.5),
        ("b", 80.0),
        ("b", 70.5),
    ]


def test_recipes_tell_networks_of_equal_epochs_apart():
    other = [value | {"recipe": "strong", "top1": value["top1"] + 5} for value in pair()]
    table = collected([*pair(), *other], {"a": {"vgg16": 2}, "b": {"recipe": "strong", "vgg16": 2}})
    assert columns(table, "regime", "recipe", "top1", "drop") == [
        ("a", "reference", 80.0, 0.0),
        ("a", "reference", 70.5, 9.5),
        ("b", "strong", 85.0, 0.0),
        ("b", "strong", 75.5, 9.5),
    ]
    assert table.training(Cell("b", "vgg16")) == ("strong", 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pair()[:1], "vgg16/reference/epochs-2/seed-0/magnitude are missing"),
        (pair()[1:], "vgg16/reference/epochs-2/seed-0/dense are missing"),
        (
            [*pair(), metric("vgg16", 3, 0, "dense", 1.0)],
            "vgg16/reference/epochs-3/seed-0/dense are not part",
        ),
        ([*pair(), pair()[0]], "vgg16/reference/epochs-2/seed-0/dense are given twice"),
        (pair(n_test=9), r"different numbers of images \(9 and 10000\)"),
    ],
)
def test_refuses_a_wrong_set_of_networks(values, message):
    with pytest.raises(UserError, match=message):
        collected(values)


def test_table_survives_the_file(tmp_path):
    path = tmp_path / "metrics.csv"
    table = results(seeds=(0, 1))
    write_csv(path, table.frame)
    pd.testing.assert_frame_equal(read_results(path).frame, table.frame)
    text = path.read_text()
    write_csv(path, read_results(path).frame)
    assert path.read_text() == text


def test_a_table_of_an_earlier_version_lacks_what_was_added_later(tmp_path):
    path = tmp_path / "metrics.csv"
    write_csv(path, collected(pair()).frame.drop(columns=list(ADDED)))
    found = read_results(path).frame
    assert list(found) == list(COLUMNS)
    assert found[list(ADDED)].isna().all(axis=None)
    write_csv(path, found)
    pd.testing.assert_frame_equal(read_results(path).frame, found)


EARLIER = sorted((ROOT / "docs/results").glob("*/metrics*.csv"))


@pytest.mark.parametrize("path", EARLIER, ids=[f"{p.parent.name}/{p.name}" for p in EARLIER])
def test_tables_of_earlier_versions_can_still_be_read(path):
    assert not read_results(path).against_dense["loss_increase"].isna()["mean"].any()


def test_pruned_networks_are_told_beside_their_dense_ones_of_the_same_seed():
    values = [
        metric("vgg16", 2, seed, variant, top1, loss=loss, **({"kl": kl} if kl else {}))
        for seed, dense, pruned, kl in ((0, 0.5, 0.75, 0.5), (3, 1.0, 2.0, 0.25))
        for variant, top1, loss, kl in (("dense", 80.0, dense, 0), ("magnitude", 70.0, pruned, kl))
    ]
    found = collected(values[::-1], seeds=(0, 3)).against_dense
    assert list(found.index) == [("only", "vgg16", "magnitude")]
    told = found.xs("mean", level=1, axis="columns").iloc[0]
    assert (told["drop"], told["loss_increase"], told["kl"]) == (10.0, 0.625, 0.375)
    assert found["loss_increase", "std"].iloc[0] == pytest.approx(0.75 / 2**0.5)


def test_costs_are_means_over_seeds_with_those_of_the_dense_network():
    values = [
        metric("vgg16", 2, seed, variant, 70.0, macs_effective=macs)
        for seed, pruned in ((0, 100), (1, 300))
        for variant, macs in (("dense", 800), ("magnitude", pruned))
    ]
    found = collected(values, seeds=(0, 1)).costs()
    assert list(found.index) == [("vgg16", "dense"), ("vgg16", "magnitude")]
    assert list(found["macs_effective"]) == [800, 200]
    assert list(found["macs_sparse_cores"]) == [0, 0.75]


@pytest.mark.parametrize("text", [None, "", "a,b\n1,2\n", "header only"])
def test_refuses_what_is_no_table(tmp_path, text):
    path = tmp_path / "metrics.csv"
    if text == "header only":
        text = ",".join(COLUMNS) + "\n"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"metrics\.csv: .*again"):
        read_results(path)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("top1", "many", "column top1, line 3: 'many' is no float"),
        ("seed", "0.5", "column seed, line 3: '0.5' is no int"),
        ("bn_recalibrated", "yes", "column bn_recalibrated, line 3: 'yes' is no bool"),
        ("loss", "", "column loss, line 3: '' is no float"),
    ],
)
def test_a_wrong_field_is_named_with_its_place(tmp_path, column, value, told):
    path = tmp_path / "metrics.csv"
    frame = collected(pair()).frame.astype(object)
    frame.loc[1, column] = value
    write_csv(path, frame)
    with pytest.raises(UserError, match=re.escape(f"metrics.csv: not a table of metrics ({told})")):
        read_results(path)
    write_csv(path, frame.drop(columns=column))
    with pytest.raises(UserError, match=f"it lacks the column {column}"):
        read_results(path)


def test_a_line_that_is_cut_short_is_named(tmp_path):
    path = tmp_path / "metrics.csv"
    write_csv(path, collected(pair()).frame)
    path.write_text(path.read_text().rpartition(",")[0] + "\n")
    with pytest.raises(UserError, match="column n_classes, line 3: '' is no int"):
        read_results(path)


def test_estimates_are_in_the_studys_order_and_pair_seeds_by_name():
    table = results()
    for column, variants in (("top1", ["dense", *VARIANTS]), ("drop", list(VARIANTS))):
        found = table.estimates(column)
        names = found[["regime", "model", "variant"]].itertuples(index=False, name=None)
        assert list(names) == [(*cell, variant) for cell in table.cells for variant in variants]
        for row in found.itertuples():
            own = table.frame[
                (table.frame["regime"] == row.regime)
                & (table.frame["model"] == row.model)
                & (table.frame["variant"] == row.variant)
            ]
            assert (row.value, row.sd) == pytest.approx((own[column].mean(), own[column].std()))
    shuffled = results_of(table.frame.sample(frac=1, random_state=0).sort_values("regime"))
    again = shuffled.estimates("drop").sort_values(["regime", "model", "variant"])
    assert sorted(again["sd"]) == pytest.approx(sorted(table.estimates("drop")["sd"]))


def test_provenance_names_what_made_the_metrics():
    def manifest(device, created):
        return Manifest(
            "metrics",
            {},
            "c0de",
            device=device,
            versions={"torch": "2"},
            created=created,
            content=device,
        )

    def trained(number_format):
        return Manifest("dense", {"precision": number_format}, "", versions={"torch": "2"})

    found = provenance(
        [(pair()[0], manifest("cpu", "2025-02")), (pair()[1], manifest("gpu", "2025-01"))],
        [trained("float32"), trained("bfloat16"), trained("float32")],
    )
    assert found["precisions"] == ["bfloat16", "float32"]
    assert found["devices"] == ["cpu", "gpu"]
    assert found["versions"] == [{"torch": "2"}]
    assert found["created"] == {"first": "2025-01", "last": "2025-02"}
    assert [n["dense_layers"] for n in found["networks"]] == [[], ["conv1"]]
    assert [n["network"] for n in found["networks"]] == [
        "vgg16/reference/epochs-2/seed-0/dense",
        "vgg16/reference/epochs-2/seed-0/magnitude",
    ]


def test_variant_of_a_method_is_the_plain_one():
    table = results(variants=("sparsegpt_bn", "sparsegpt"))
    assert table.variant_of("sparsegpt") == "sparsegpt"
    assert table.variant_of("magnitude") is None
