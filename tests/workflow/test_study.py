"""A whole study, from images to report: what it makes, and what it refuses."""

import csv
import json
import os
import re
import zipfile

import pytest
from snakemake_project import REPORTING, TINY, merged

from sparsecnn.artifacts import read_json, read_table, read_tensors

RUN = "results/tiny/custom_cnn/small/epochs-2/seed-0"


def test_every_artifact_names_its_parents(finished):
    _, dataset = read_tensors(finished / "results/tiny/data/dataset.safetensors", "dataset")
    calibration_file = finished / "results/tiny/calibration/seed-0.safetensors"
    calibration, drawn = read_tensors(calibration_file, "calibration")
    _, dense = read_tensors(finished / RUN / "dense.safetensors", "dense")
    _, pruned = read_tensors(finished / RUN / "sparsegpt/pruned.safetensors", "pruned")
    _, metrics = read_json(finished / RUN / "sparsegpt/metrics.json", "metrics")
    assert drawn.parents == {"dataset": dataset.content}
    assert dense.parents == {"dataset": dataset.content}
    assert pruned.parents == {"dense": dense.content, "calibration": drawn.content}
    assert metrics.parents == {
        "dataset": dataset.content,
        "network": pruned.content,
        "dense": dense.content,
    }
    assert dense.settings["training"]["batch_size"] == 32
    assert pruned.settings["pruning"]["damping"] == 0.01
    assert calibration["images"].shape == (64, 3, 32, 32)


@pytest.mark.parametrize("variant", ["magnitude", "sparsegpt", "sparsegpt_bn"])
def test_pruned_layers_are_two_in_four_and_the_rest_is_listed(finished, variant):
    folder = finished / RUN / variant
    tensors, manifest = read_tensors(folder / "pruned.safetensors", "pruned")
    dense, _ = read_tensors(finished / RUN / "dense.safetensors", "dense")
    layers = {row["layer"]: row for row in read_table(folder / "layers.csv", manifest)}
    assert {f"{name}.weight" for name in layers} == {
        name for name, t in tensors.items() if t.ndim in (2, 4)
    }
    stays_dense = [name for name, row in layers.items() if row["status"] == "dense"]
    assert stays_dense == ["features.0"]  # 3 input channels
    assert layers["features.0"]["reason"]
    for name, row in layers.items():
        weight = tensors[f"{name}.weight"]
        if name in stays_dense:
            assert weight.equal(dense[f"{name}.weight"])
            continue
        kept = weight.movedim(1, -1).unflatten(-1, (-1, 4)) != 0
        # Two of each group in every row, or fewer where inputs are dead, as in so small a network.
        live = kept.any(0).sum(-1)
        assert (kept.sum(-1) == live.clamp(max=2)).all()
        assert variant != "magnitude" or bool((live >= 2).all())
        assert float(row["relative_error"]) > 0
    same_statistics = tensors["features.1.running_mean"].equal(dense["features.1.running_mean"])
    assert same_statistics == (variant != "sparsegpt_bn")


def test_sparsegpt_reconstructs_better_than_magnitude_in_every_layer(finished):
    errors = {}
    for variant in ("magnitude", "sparsegpt"):
        with (finished / RUN / variant / "layers.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["status"] == "pruned"]
        errors[variant] = {row["layer"]: float(row["relative_error"]) for row in rows}
    assert errors["sparsegpt"].keys() == errors["magnitude"].keys()
    for layer, error in errors["sparsegpt"].items():
        assert error < errors["magnitude"][layer]


def test_metrics_agree_from_network_to_table(finished):
    with (finished / "results/tiny/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    for row in rows:
        folder = f"results/tiny/custom_cnn/small/epochs-{row['epochs']}/seed-0"
        value, _ = read_json(finished / folder / row["variant"] / "metrics.json", "metrics")
        dense, _ = read_json(finished / folder / "dense/metrics.json", "metrics")
        assert float(row["top1"]) == value["top1"]
        assert float(row["drop"]) == pytest.approx(dense["top1"] - value["top1"], abs=1e-6)
        assert value["n_test"] == int(row["n_test"]) == 360
        near = float(row["kl"]), float(row["agreement"])
        assert near == (value["kl"], value["agreement"])
        assert near == (0, 100) if row["variant"] == "dense" else near[0] > 0
        for whole, left in (("parameters", "parameters_kept"), ("macs", "macs_effective")):
            assert int(row[whole]) == dense[whole] == dense[left]
            kept = int(row[left]) / int(row[whole])
            assert kept == 1 if row["variant"] == "dense" else 0.4 < kept < 0.6
    _, manifest = read_tensors(finished / RUN / "dense.safetensors", "dense")
    history = read_table(finished / RUN / "history.csv", manifest)
    assert [row["epoch"] for row in history] == ["1", "2"]


def test_the_report_is_whole(finished):
    report = (finished / "results/tiny/report/report.md").read_text()
    assert not re.search(r"\{\{|\{%|\bNone\b|\binf\b|\bnan\b", report)
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", report)
    # Figures of ablations, budgets and patterns are for studies that have many of these.
    assert len(links) == 5
    for link in links:
        svg = (finished / "results/tiny/report" / link).read_text()
        assert svg.startswith("<svg ")
    page = (finished / "results/tiny/report/report.html").read_text()
    assert re.findall(r'<figure data-chart="([^"]+)"', page) == links
    claims, _ = read_json(finished / "results/tiny/claims.json", "claims")
    assert [claim["number"] for claim in claims["claims"]] == [1, 2, 3, 4, 5]


def test_logs_show_progress(finished):
    log = (finished / "logs/tiny/custom_cnn/small/epochs-2/seed-0/train.log").read_text()
    assert re.search(r"epoch 2/2: loss \d\.\d+, train accuracy \d+\.\d %, \d+ images/s, 0:0", log)


def test_snakemakes_own_reports_work(finished):
    assert "digraph" in finished.snakemake("--rulegraph")
    finished.snakemake("--report", "report.zip")
    with zipfile.ZipFile(finished / "report.zip") as archive:
        names = archive.namelist()
    assert any(name.endswith("report.html") for name in names)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"trainig": {}}, "trainig: unknown key, did you mean training?"),
        ({"models": {"custom_cnn": {"width": 0}}}, "models.custom_cnn.width: 0 is not allowed"),
        ({"study": "a; touch b"}, 'study: "a; touch b" is not of the form'),
    ],
)
def test_a_wrong_configuration_is_one_line(fresh, study, message):
    output = fresh.snakemake("-n", study=TINY | study, ok=False)
    assert message in output
    assert "Traceback" not in output


def test_held_out_train_images_take_the_place_of_the_test_split(fresh):
    fresh.snakemake("--until", "dataset", study=merged(TINY, dataset={"holdout": 140}))
    summary, _ = read_json(fresh / "results/tiny/data/dataset.json", "dataset_summary")
    assert (summary["n_train"], summary["n_test"]) == (1437 - 140, 140)
    assert set(summary["class_counts"]["test"].values()) == {14}


def test_a_failed_job_says_why_in_one_line_and_its_log(copied):
    study = merged(TINY, pruning={"exclude": ["head"]})
    output = copied.snakemake("--until", "check", study=study, ok=False)
    line = "exclude='head' matches no module: the layers are features.0, features.3"
    assert line in output
    assert "Traceback" not in output
    log = (copied / "logs/tiny/check.log").read_text()
    assert f"error: variants.sparsegpt: custom_cnn: {line}" in log


def test_an_altered_artifact_is_refused_by_name(copied):
    path = copied / RUN / "magnitude/metrics.json"
    document = json.loads(path.read_text())
    document["value"]["top1"] += 1
    path.write_text(json.dumps(document))
    output = copied.snakemake("--forcerun", "collect", ok=False)
    assert f"{RUN}/magnitude/metrics.json: its content differs from its manifest" in output


@pytest.mark.parametrize(("visible", "gpus"), [(None, "7"), ("", None)])
def test_as_many_jobs_as_fit_on_the_gpus_of_the_machine(
    copied, tmp_path, monkeypatch, visible, gpus
):
    listing = tmp_path / "bin" / "nvidia-smi"
    listing.parent.mkdir()
    listing.write_text("#!/bin/sh\necho '80000, Disabled, Default'\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{listing.parent}{os.pathsep}{os.environ['PATH']}")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    only = ("--forcerun", "claims", "--until", "claims")
    output = copied.snakemake(*only, study=TINY | {"device": "auto"})
    provided = re.search(r"^Provided resources: gpu=\D*(\d+)", output, re.M)
    assert (provided and provided[1]) == gpus


def test_diagnostics_can_be_switched_off(copied):
    without = TINY | {"diagnostics": None}
    assert copied.planned(study=without) == {"check": 1} | REPORTING
    copied.snakemake(study=without)
    report = (copied / "results/tiny/report/report.md").read_text()
    assert "This study measures accuracy alone" in report
    assert "diagnostics.csv" not in report
    assert copied.planned(study=without) == {}


def test_diagnostics_name_their_parents_and_agree_with_the_table(finished):
    value, manifest = read_json(finished / RUN / "diagnostics.json", "diagnostics")
    _, dense = read_tensors(finished / RUN / "dense.safetensors", "dense")
    _, pruned = read_tensors(finished / RUN / "sparsegpt/pruned.safetensors", "pruned")
    assert manifest.parents["dense"] == dense.content
    assert manifest.parents["pruned/sparsegpt"] == pruned.content
    assert list(value["variants"]) == ["magnitude", "sparsegpt"]
    assert value["network"]["converged"]
    with (finished / "results/tiny/diagnostics.csv").open() as file:
        rows = {
            (r["variant"], r["layer"], r["quantity"]): float(r["value"])
            for r in csv.DictReader(file)
            if r["epochs"] == "2"
        }
    for variant, own in value["variants"].items():
        change = own["loss_change"]
        predicted = change["first_order"] + change["second_order"]
        assert rows[variant, "", "predicted"] == pytest.approx(predicted)
        assert own["layers"][0]["layer"] == "features.0"
        for layer in own["layers"]:
            assert rows[variant, layer["layer"], "own_error"] == layer["own"]
            assert rows[variant, layer["layer"], "accumulated_error"] == layer["accumulated"]
    assert rows["dense", "features.0", "columns"] == 27
