import pytest
from study_example import BUDGETS, VARIANTS, metric, results

from sparsecnn.analysis.results import Cell, collect, read_results, table_rows
from sparsecnn.artifacts import Manifest, write_table
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


def pair(**other):
    return [metric("vgg16", 2, 0, "dense", 80.0), metric("vgg16", 2, 0, "magnitude", 70.5, **other)]


def test_one_row_for_every_regime_network_seed_and_variant():
    table = results()
    assert len(table.rows) == 2 * 3 * 3 * (1 + len(VARIANTS))
    assert table.regimes == list(BUDGETS)
    assert table.variants == list(VARIANTS)
    assert table.cells[0] == Cell("under_trained", "custom_cnn")
    assert [row.variant for row in table.rows[:4]] == ["dense", *VARIANTS]


def test_drop_is_dense_minus_pruned_of_the_same_network():
    dense, pruned = collected(pair()).rows
    assert (dense.dense_top1, dense.drop) == (80.0, 0.0)
    assert (pruned.dense_top1, pruned.drop) == (80.0, 9.5)


def test_regimes_with_equal_epochs_share_a_network():
    table = collected(pair(), {"a": {"vgg16": 2}, "b": {"vgg16": 2}})
    assert [(row.regime, row.top1) for row in table.rows] == [
        ("a", 80.0),
        ("a", 70.5),
        ("b", 80.0),
        ("b", 70.5),
    ]


def test_recipes_tell_networks_of_equal_epochs_apart():
    other = [value | {"recipe": "strong", "top1": value["top1"] + 5} for value in pair()]
    table = collected([*pair(), *other], {"a": {"vgg16": 2}, "b": {"recipe": "strong", "vgg16": 2}})
    assert [(row.regime, row.recipe, row.top1, row.drop) for row in table.rows] == [
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
    write_table(path, table_rows(table))
    assert read_results(path) == table


@pytest.mark.parametrize("text", [None, "", "a,b\n1,2\n", "header only"])
def test_refuses_what_is_no_table(tmp_path, text):
    path = tmp_path / "metrics.csv"
    if text == "header only":
        text = ",".join(table_rows(results())[0]) + "\n"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"metrics\.csv: .*again"):
        read_results(path)


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
