"""A whole study, from images to report, and what runs again after a change."""

import csv
import json
import os
import re
import zipfile

import pytest
from snakemake_project import TINY

from sparsecnn.artifacts import read_json, read_table, read_tensors, write_json

RUN = "results/tiny/custom_cnn/small/epochs-2/seed-0"
REPORTING = {"collect": 1, "claims": 1, "figures": 1, "report": 1, "page": 1}


def merged(base, **changes):
    return base | {key: base.get(key, {}) | value for key, value in changes.items()}


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.planned() == {}


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
    assert metrics.parents == {"dataset": dataset.content, "network": pruned.content}
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
        by_channel = weight.movedim(1, -1)
        groups = by_channel.reshape(-1, 4)
        assert int((groups != 0).sum(1).max()) == 2
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
    _, manifest = read_tensors(finished / RUN / "dense.safetensors", "dense")
    history = read_table(finished / RUN / "history.csv", manifest)
    assert [row["epoch"] for row in history] == ["1", "2"]


def test_the_report_is_whole(finished):
    report = (finished / "results/tiny/report/report.md").read_text()
    assert not re.search(r"\{\{|\{%|\bNone\b|\binf\b|\bnan\b", report)
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", report)
    # The figures of ablations and of budgets are for studies of many variants and of many budgets.
    assert len(links) == 5
    for link in links:
        svg = (finished / "results/tiny/report" / link).read_text()
        assert svg.lstrip().startswith("<?xml")
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


def test_another_working_directory(finished, tmp_path):
    output = finished.snakemake("-n", "-s", finished / "Snakefile", cwd=tmp_path)
    assert re.search(r"^train +2$", output, re.M)
    assert not (tmp_path / "results").exists()


EVERYTHING = {"calibrate": 1, "train": 2, "prune": 6, "evaluate": 8, "diagnose": 2, **REPORTING}
TRAINED = {"train": 2, "prune": 6, "evaluate": 8, "diagnose": 2}
"""What a change of every training makes again."""
EDITS = [
    ("src/sparsecnn/pruning/magnitude.py", {"prune": 2, "evaluate": 2, "diagnose": 2, **REPORTING}),
    ("src/sparsecnn/evaluation/accuracy.py", {"evaluate": 8, **REPORTING}),
    ("src/sparsecnn/evaluation/curvature.py", {"diagnose": 2, **REPORTING}),
    ("src/sparsecnn/evaluation/propagation.py", {"diagnose": 2, **REPORTING}),
    ("scripts/diagnose.py", {"diagnose": 2, **REPORTING}),
    ("src/sparsecnn/study/diagnostics.py", REPORTING),
    ("src/sparsecnn/study/diagnostic_figures.py", {"figures": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/study/diagnostic_tables.py", {"report": 1, "page": 1}),
    ("src/sparsecnn/study/claims.py", {"claims": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/study/judging.py", {"claims": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/pruning/sparsegpt.py", {"prune": 4, "evaluate": 4, "diagnose": 2, **REPORTING}),
    ("src/sparsecnn/pruning/moments.py", {"prune": 6, "evaluate": 6, "diagnose": 2, **REPORTING}),
    ("src/sparsecnn/pruning/wanda.py", {}),
    ("src/sparsecnn/data/augmentation.py", EVERYTHING),
    ("src/sparsecnn/training/sgd.py", TRAINED | REPORTING),
    ("src/sparsecnn/models/custom_cnn.py", TRAINED | REPORTING),
    ("src/sparsecnn/models/resnet.py", {}),
    ("src/sparsecnn/study/figures.py", {"figures": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/study/layer_errors.py", {"figures": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/study/tables.py", {"report": 1, "page": 1}),
    ("src/sparsecnn/study/charts.py", {"page": 1}),
    ("src/sparsecnn/study/chart_parts.py", {"page": 1}),
    ("src/sparsecnn/study/curve_charts.py", {"page": 1}),
    ("src/sparsecnn/study/diagnostic_charts.py", {"page": 1}),
    ("src/sparsecnn/study/html.py", {"page": 1}),
    ("src/sparsecnn/registry.py", {}),
]


@pytest.mark.parametrize(("path", "jobs"), EDITS, ids=[path for path, _ in EDITS])
def test_an_edit_reruns_what_runs_it(edited, reruns, path, jobs):
    project = edited(path, lambda text: f"{text}\nEDITED = 1\n")
    assert project.planned() == jobs
    reruns(f"edit of {path}", jobs)


def test_comments_rerun_nothing(edited, reruns):
    project = edited("src/sparsecnn/artifacts.py", lambda text: f"# a comment\n{text}")
    edited("scripts/train.py", lambda text: f"{text}\n# another\n")
    assert project.planned() == {}
    reruns("comments", {})


def test_the_template_reruns_the_report_and_its_page_alone(edited, reruns):
    project = edited("report/report.md.j2", lambda text: f"{text}\nMore.\n")
    assert project.planned() == {"report": 1, "page": 1}
    reruns("edit of report/report.md.j2", {"report": 1, "page": 1})


@pytest.mark.parametrize("name", ["report.html.j2", "report.css", "report.js"])
def test_the_pages_parts_rerun_the_page_alone(edited, reruns, name):
    project = edited(f"report/{name}", lambda text: f"{text}\n")
    assert project.planned() == {"page": 1}
    reruns(f"edit of report/{name}", {"page": 1})


def test_an_edit_of_a_catalogue_reruns_report_and_page(edited, reruns):
    path = "report/locale/ko.po"
    project = edited(path, lambda text: text.replace('msgstr "목차"', 'msgstr "차례"'))
    assert project.planned() == {"report": 1, "page": 1}
    reruns(f"edit of {path}", {"report": 1, "page": 1})
    assert set(project.planned(study=TINY | {"report": {"language": ["en"]}})) == {"report", "page"}


NEW_SETTINGS = [
    ("a seed", TINY | {"seeds": [0, 1]}, TRAINED | {"calibrate": 1}),
    (
        "a variant",
        merged(TINY, variants={"flat": {"method": "magnitude", "layout": "flattened"}}),
        {"prune": 2, "evaluate": 2, "diagnose": 2},
    ),
    (
        "a variant with batch norm re-estimated",
        merged(TINY, variants={"magnitude_bn": {"method": "magnitude", "bn_recalibration": True}}),
        {"prune": 2, "evaluate": 2},
    ),
    (
        "images of the diagnostics",
        TINY | {"diagnostics": {"images": 33}},
        {"diagnose": 2},
    ),
    (
        "a budget",
        merged(TINY, regimes={"more": {"recipe": "small", "custom_cnn": 3}}),
        {"train": 1, "prune": 3, "evaluate": 4, "diagnose": 1},
    ),
    (
        "damping",
        merged(TINY, methods={"sparsegpt": {"damping": 0.02}}),
        {"prune": 4, "evaluate": 4, "diagnose": 2},
    ),
    (
        "a model",
        merged(
            TINY,
            models={"resnet18": {"width": 0.125}},
            regimes={name: own | {"resnet18": 1} for name, own in TINY["regimes"].items()},
        ),
        {"train": 1, "prune": 3, "evaluate": 4, "diagnose": 1},
    ),
    (
        "a calibration size",
        merged(TINY, calibration={"images": 65}),
        {"calibrate": 1, "prune": 6, "evaluate": 6, "diagnose": 2},
    ),
    (
        "a data source",
        merged(TINY, dataset={"normalization": {"mean": [0.5] * 3, "std": [0.5] * 3}}),
        {"dataset": 1, **{k: v for k, v in EVERYTHING.items() if k not in REPORTING}},
    ),
    (
        "momentum and weight decay swapped",
        merged(
            TINY,
            recipes={"small": TINY["recipes"]["small"] | {"momentum": 0.0005, "weight_decay": 0.9}},
        ),
        TRAINED,
    ),
]


@pytest.mark.parametrize(
    ("study", "jobs"), [case[1:] for case in NEW_SETTINGS], ids=[case[0] for case in NEW_SETTINGS]
)
def test_a_setting_reruns_what_depends_on_it(finished, reruns, request, study, jobs):
    assert finished.planned(study=study) == jobs | REPORTING
    reruns(f"setting: {request.node.callspec.id}", jobs | REPORTING)


def test_a_claim_of_ones_own_reruns_claims_and_report(finished, reruns):
    sides = {"more": {"accuracy": "sparsegpt"}, "than": {"accuracy": "magnitude"}}
    study = TINY | {"claims": {"better": {"statement": "It is better.", **sides}}}
    planned = finished.planned(study=study)
    assert planned == REPORTING
    reruns("a claim of one's own", planned)


def test_a_study_on_anothers_baselines_trains_nothing(finished):
    study = merged(TINY | {"study": "other", "baselines": "tiny"}, variants={"magnitude": None})
    assert finished.planned(study=study) == {
        "prune": 4,
        "evaluate": 6,
        "diagnose": 2,
        **REPORTING,
    }


@pytest.mark.parametrize(
    "study",
    [
        merged(TINY, methods={"sparsegpt": {"damping": 0.01}}, training={"compile": False}),
        TINY | {"threads": 2},
        TINY | {"device": "auto"},
        merged(TINY, recipes={"unused": {"learning_rate": 1.0}}),
    ],
    ids=["what is the default anyway", "threads", "device", "a recipe that no regime uses"],
)
def test_what_changes_no_number_reruns_at_most_the_report(finished, reruns, request, study):
    jobs = finished.planned(study=study)
    assert set(jobs) <= {"report", "page"}
    reruns(f"setting: {request.node.callspec.id}", jobs)


def test_formatting_and_docstrings_rerun_nothing(edited, reruns):
    project = edited(
        "src/sparsecnn/pruning/magnitude.py", lambda text: f'"""Another docstring."""\n\n\n{text}'
    )
    edited("src/sparsecnn/artifacts.py", lambda text: text.replace("    ", "        "))
    assert project.planned() == {}
    reruns("docstrings and formatting", {})


UNUSED_METHOD = '''"""A method that no study uses."""'''


def new_method(project):
    (project / "src/sparsecnn/pruning/unused.py").write_text(f"{UNUSED_METHOD}\n")
    registry = project / "src/sparsecnn/registry.py"
    entry = '"unused": "sparsecnn.pruning.unused:Unused",'
    text = registry.read_text()
    registry.write_text(text.replace('"method": {', f'"method": {{\n        {entry}'))
    assert entry in registry.read_text()


def touch_everything(project):
    for path in project.folder.rglob("*"):
        path.touch()


def switch_branch_and_back(project):
    """Another branch's edit, taken back: as git, with new dates."""
    for path in project.folder.glob("src/sparsecnn/**/*.py"):
        text = path.read_text()
        path.write_text(f"{text}\nEDITED = 1\n")
        path.write_text(text)


def edit_what_no_job_runs(project):
    for name in ("README.md", "tests/unit/test_config.py", "benchmarks/pruning.py", "Makefile"):
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("changed\n")


@pytest.mark.parametrize(
    "change", [new_method, touch_everything, switch_branch_and_back, edit_what_no_job_runs]
)
def test_what_is_no_change_reruns_nothing(copied, reruns, change):
    change(copied)
    assert copied.planned() == {}
    reruns(change.__name__.replace("_", " "), {})


@pytest.mark.parametrize(
    "arguments",
    [("--cores", "1"), ("--profile", "profiles/default"), ("--resources", "gpu=4")],
    ids=" ".join,
)
def test_the_way_of_running_reruns_nothing(finished, reruns, arguments):
    assert finished.planned(*arguments) == {}
    reruns(" ".join(arguments), {})


def test_a_study_is_found_from_another_folder(finished, reruns, tmp_path):
    """With `-d` the results are those of that folder, whatever the present one is."""
    arguments = ("-s", finished / "Snakefile", "-d", finished.folder)
    assert finished.planned(*arguments, cwd=tmp_path) == {}
    reruns("-s and -d from another folder", {})


def test_other_versions_are_told_and_by_setting_rerun_everything(copied, reruns):
    path = copied / "results/tiny/provenance.json"
    value, manifest = read_json(path, "provenance")
    value["versions"][0]["torch"] = "1.13.1"
    write_json(path, value, manifest)
    output = copied.snakemake("-n")
    assert re.search(r"results/tiny: made with torch 1\.13 \(now \d+\.\d+\); kept as it is", output)
    assert "train" not in copied.planned()
    anew = copied.planned(study=TINY | {"on_new_versions": "rerun"})
    assert anew == {"dataset": 1, **EVERYTHING}
    reruns("setting: on_new_versions: rerun", anew)


def test_a_renamed_variant_is_made_anew_but_not_trained(finished, reruns):
    variants = {"magnitude": None, "by_size": {"method": "magnitude"}}
    planned = finished.planned(study=merged(TINY, variants=variants))
    assert planned == {"prune": 2, "evaluate": 2, "diagnose": 2} | REPORTING
    reruns("a variant renamed", planned)


def test_the_order_of_keys_reruns_nothing(finished, reruns):
    assert finished.planned(study=dict(reversed(TINY.items()))) == {}
    reruns("keys in another order", {})


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


def test_a_failed_job_says_why_in_one_line_and_its_log(fresh):
    study = merged(TINY, calibration={"images": 5000})
    output = fresh.snakemake("--until", "calibrate", study=study, ok=False)
    line = "calibration.images: 5000 is not possible; the train split has 1437 images"
    assert line in output
    assert "Traceback" not in output
    assert f"error: {line}" in (fresh / "logs/tiny/calibration/seed-0.log").read_text()


def test_an_altered_artifact_is_refused_by_name(finished):
    path = finished / RUN / "magnitude/metrics.json"
    whole = path.read_text()
    document = json.loads(whole)
    document["value"]["top1"] += 1
    path.write_text(json.dumps(document))
    try:
        output = finished.snakemake("--forcerun", "collect", ok=False)
        assert f"{RUN}/magnitude/metrics.json: its content differs from its manifest" in output
    finally:
        path.write_text(whole)
        finished.snakemake()


@pytest.mark.parametrize(("visible", "gpus"), [(None, "7"), ("", None)])
def test_as_many_jobs_as_fit_on_the_gpus_of_the_machine(
    fresh, tmp_path, monkeypatch, visible, gpus
):
    listing = tmp_path / "bin" / "nvidia-smi"
    listing.parent.mkdir()
    listing.write_text("#!/bin/sh\necho '80000, Disabled'\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{listing.parent}{os.pathsep}{os.environ['PATH']}")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    output = fresh.snakemake("--until", "dataset", study=TINY | {"device": "auto"})
    provided = re.search(r"^Provided resources: gpu=\D*(\d+)", output, re.M)
    assert (provided and provided[1]) == gpus


def test_a_removed_seed_or_variant_reruns_the_report_alone(copied, reruns):
    more = TINY | {"seeds": [0, 1]}
    copied.snakemake(study=more)
    assert copied.planned(study=more) == {}
    assert copied.planned() == REPORTING
    reruns("a seed removed", REPORTING)
    without = merged(TINY, variants={"sparsegpt_bn": None})
    assert copied.planned(study=without) == REPORTING
    reruns("a variant removed", REPORTING)


def test_diagnostics_can_be_switched_off(copied):
    without = TINY | {"diagnostics": None}
    assert copied.planned(study=without) == REPORTING
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
