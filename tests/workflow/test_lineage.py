"""A study's files are trusted only as what the present settings, code and parents would make."""

import csv
import json
import re
import shutil
import zipfile
from dataclasses import replace

import pytest
from rocrate.rocrate import ROCrate
from snakemake_project import TINY, Project, load_script

from sparsecnn.artifacts import (
    Origin,
    read_json,
    read_manifest,
    read_tensors,
    write_json,
    write_tensors,
)
from sparsecnn.errors import UserError
from sparsecnn.study.crate import check_crate

STUDY = "results/tiny"
RUN = "custom_cnn/small/epochs-2/seed-0"
SHORT, LONG = (f"{STUDY}/custom_cnn/small/epochs-{n}/seed-0" for n in (1, 2))


verify = load_script("verify.py").verify


def verified(project, *arguments):
    """Output and exit status of the command that checks a study."""
    return project.script("verify.py", STUDY, *arguments)


def test_a_finished_study_is_whole(finished):
    output, status = verified(finished)
    assert status == 0
    # Dataset with its summary, calibration set, 2 trainings with a history, 6 prunings with a
    # table, 8 metrics, 2 diagnostics, 2 tables, what is on record of them, verdicts.
    count = 2 + 1 + 2 * 2 + 6 * 2 + 8 + 2 + 2 + 1 + 1
    compared = f"compared with the settings recorded in {STUDY}/provenance.json"
    assert output.strip() == f"{count} whole; {compared}"


def test_a_study_of_a_version_with_fewer_settings_is_checked_with_their_defaults(copied):
    path = copied / STUDY / "provenance.json"
    document = json.loads(path.read_text())
    del document["manifest"]["settings"]["config"]["dataset"]["holdout"]
    path.write_text(json.dumps(document))
    output, status = verified(copied)
    assert status == 0
    assert output.startswith("33 whole; ")


def test_a_study_travels_as_a_crate(finished, tmp_path):
    crate = tmp_path / "study.zip"
    output, status = verified(finished, "--export", str(crate))
    assert status == 0
    assert f"{crate}: an RO-Crate of" in output

    read = ROCrate(crate)
    names = {entity.id for entity in read.data_entities}
    assert {
        "report/report.md",
        "report/report.html",
        "report/figures/drop.png",
        "metrics.csv",
        "config.yaml",
        "requirements.lock",
    } <= names
    assert f"{RUN}/sparsegpt/layers.csv" in names
    artifacts = json.loads(zipfile.ZipFile(crate).read("artifacts.json"))
    assert len(artifacts) == 1 + 1 + 2 + 6
    _, dense = read_tensors(finished / LONG / "dense.safetensors", "dense")
    assert artifacts[f"tiny/{RUN}/dense.safetensors"]["content"] == dense.content

    assert set(check_crate(crate).values()) == {"whole"}
    doctored = tmp_path / "doctored.zip"
    with zipfile.ZipFile(crate) as source, zipfile.ZipFile(doctored, "w") as target:
        for name in source.namelist():
            if name != "claims.json":
                text = source.read(name)
                target.writestr(name, text + b"x" if name == "metrics.csv" else text)
    states = check_crate(doctored)
    assert {name for name, state in states.items() if state == "missing"} == {"claims.json"}
    assert {name for name, state in states.items() if state == "broken"} == {"metrics.csv"}


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_what_is_no_crate_is_one_line(tmp_path, content):
    path = tmp_path / "study.zip"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ro-crate-metadata.json", "[]")
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="not an RO-Crate of a study"):
        check_crate(path)


def test_a_folder_without_a_study_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no finished study .* run it first"):
        verify(tmp_path)


def cut(folder):
    path = folder / LONG / "sparsegpt/pruned.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return path


def flip(folder):
    path = folder / LONG / "dense.safetensors"
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(data)
    return path


def delete(folder):
    path = folder / STUDY / "calibration/seed-0.safetensors"
    path.unlink()
    return path


def improve(folder):
    path = folder / SHORT / "magnitude/metrics.json"
    document = json.loads(path.read_text())
    document["value"]["top1"] += 1
    path.write_text(json.dumps(document))
    return path


def evaluate_anew(folder):
    """The table is not of these metrics any more, which are whole by themselves."""
    path = folder / SHORT / "magnitude/metrics.json"
    value, manifest = read_json(path, "metrics")
    write_json(path, value | {"top1": value["top1"] + 1}, manifest)
    return folder / STUDY / "provenance.json"


def improve_verdicts(folder):
    path = folder / STUDY / "claims.json"
    path.write_text(path.read_text().replace("not tested", "reproduced"))
    return path


def judge_another_table(folder):
    path = folder / STUDY / "claims.json"
    value, manifest = read_json(path, "claims")
    write_json(path, value, replace(manifest, parents={"metrics": "0" * 64}))
    return path


def count_other_images(folder):
    path = folder / STUDY / "data/dataset.json"
    value, manifest = read_json(path, "dataset_summary")
    write_json(path, value, replace(manifest, parents={"dataset": "0" * 64}))
    return path


def lose_table(folder):
    path = folder / STUDY / "metrics.csv"
    path.unlink()
    return path


def improve_table(folder):
    path = folder / STUDY / "metrics.csv"
    path.write_text(path.read_text().replace(",custom_cnn,", ",custom_CNN,", 1))
    return path


def improve_diagnostics(folder):
    path = folder / SHORT / "diagnostics.json"
    document = json.loads(path.read_text())
    document["value"]["network"]["loss"] /= 2
    path.write_text(json.dumps(document))
    return path


def improve_table_of_diagnostics(folder):
    path = folder / STUDY / "diagnostics.csv"
    path.write_text(path.read_text().replace(",magnitude,", ",sparsegpt,", 1))
    return path


def misplace_diagnostics(folder):
    path = folder / LONG / "diagnostics.json"
    shutil.copy(folder / SHORT / "diagnostics.json", path)
    return path


def compare_with_another(folder):
    """Whole by itself, and of the pruned network that is here."""
    path = folder / LONG / "sparsegpt/metrics.json"
    value, manifest = read_json(path, "metrics")
    write_json(path, value, replace(manifest, parents=manifest.parents | {"dense": "0" * 64}))
    return path


def alter_layers(folder):
    path = folder / SHORT / "magnitude/layers.csv"
    path.write_text(path.read_text() + "\n")
    return path


def alter_history(folder):
    path = folder / LONG / "history.csv"
    path.write_text(path.read_text().replace("1,", "7,", 1))
    return path


def misplace(folder):
    path = folder / LONG / "dense.safetensors"
    shutil.copy(folder / SHORT / "dense.safetensors", path)
    return path


def exchange_variants(folder):
    path = folder / LONG / "sparsegpt/pruned.safetensors"
    shutil.copy(folder / LONG / "sparsegpt_bn/pruned.safetensors", path)
    return path


def replace_by_text(folder):
    path = folder / LONG / "dense/metrics.json"
    path.write_text("top1: 100\n")
    return path


DOCTORED = [
    (cut, "broken", "cannot be read"),
    (flip, "broken", "altered or damaged"),
    (delete, "missing", "it is not there"),
    (improve, "broken", "altered or damaged"),
    (evaluate_anew, "stale", "made from another custom_cnn/small/epochs-1/seed-0/magnitude"),
    (improve_verdicts, "broken", "altered or damaged"),
    (judge_another_table, "stale", "made from another metrics"),
    (count_other_images, "stale", "made from another dataset"),
    (lose_table, "missing", "it is not there"),
    (improve_table, "foreign", "not the table"),
    (improve_diagnostics, "broken", "altered or damaged"),
    (improve_table_of_diagnostics, "foreign", "not the table"),
    (misplace_diagnostics, "stale", "made from another dense"),
    (compare_with_another, "stale", "made from another dense than is here now"),
    (alter_layers, "foreign", "not the table"),
    (alter_history, "foreign", "not the table"),
    (misplace, "foreign", "made with other settings (epochs: 1, not 2)"),
    (exchange_variants, "foreign", "(pruning.bn_recalibration: true, not false)"),
    (replace_by_text, "broken", "cannot be read"),
]


@pytest.mark.parametrize(
    ("doctor", "state", "reason"), DOCTORED, ids=[case[0].__name__ for case in DOCTORED]
)
def test_a_doctored_file_is_named_with_what_is_wrong(finished, tmp_path, doctor, state, reason):
    shutil.copytree(finished / "results", tmp_path / "results")
    path = doctor(tmp_path)
    findings = [f for f in verify(tmp_path / STUDY) if f.state != "whole"]
    assert (findings[0].path, findings[0].state) == (path, state)
    assert reason in findings[0].reason
    # What was made from it may be called stale; nothing else is wrong.
    assert {f.state for f in findings[1:]} <= {"stale", "foreign"}


def test_a_network_trained_anew_makes_its_descendants_stale(copied):
    other = TINY | {"recipes": {"small": TINY["recipes"]["small"] | {"learning_rate": 0.02}}}
    copied.snakemake("--until", "train", study=other)
    findings = {f.path.name: f for f in verify(copied / STUDY) if f.state != "whole"}
    assert findings["dense.safetensors"].state == "foreign"
    assert "training.learning_rate: 0.02, not 0.01" in findings["dense.safetensors"].reason
    assert "another dense than is here now" in findings["pruned.safetensors"].reason
    assert "another dense than is here now" in findings["diagnostics.json"].reason


def test_a_metric_of_another_dense_network_never_enters_the_table(copied):
    path = compare_with_another(copied.folder)
    output = copied.snakemake("--forcerun", "collect", ok=False)
    name = path.relative_to(copied.folder)
    assert f"{name}: it was made from another dense than is here now" in output


def test_a_pruned_network_is_compared_with_the_dense_one_it_came_from_alone(finished, tmp_path):
    """Not with one of the same settings and code, such as another machine would train."""
    dense, pruned, layers = (
        finished / LONG / name
        for name in ("dense.safetensors", "magnitude/pruned.safetensors", "magnitude/layers.csv")
    )
    tensors, manifest = read_tensors(dense, "dense")
    other = tmp_path / dense.name
    write_tensors(other, {name: 2 * tensor for name, tensor in tensors.items()}, manifest)
    dataset = finished / STUDY / "data/dataset.safetensors"
    read = {"dataset": dataset, "dense": dense, "weights": pruned}
    origins = {}
    for role, path in read.items():
        made = read_manifest(path, read_kind(path))
        origins[role] = Origin(made.settings, made.code)
    reason = re.escape(f"{pruned}: it was made from another dense than is here now")
    with pytest.raises(UserError, match=reason):
        load_script("evaluate.py").main(
            *(dataset, pruned, tmp_path / "metrics.json", {"variant": "magnitude"}, "c0de"),
            *(origins, "cpu", layers, other),
        )
    assert not (tmp_path / "metrics.json").exists()


def test_changes_laundered_by_touch_are_refused(small):
    """`--touch` makes Snakemake take the outputs of old code for those of the new."""
    source = small / "src/sparsecnn/pruning/methods/magnitude.py"
    source.write_text(f"{source.read_text()}\nEDITED = 1\n")
    small.snakemake("--touch")
    assert small.planned() == {}
    output, status = verified(small)
    assert status == 1
    stale = [line for line in output.splitlines() if line.startswith("stale")]
    assert len(stale) == 1
    assert "magnitude/pruned.safetensors: it was made by other code" in stale[0]
    name = f"{SHORT}/magnitude/pruned.safetensors"
    refusal = f"{name}: it was made by other code than is here now; delete the file and run"
    assert refusal in small.snakemake("--forcerun", "collect", ok=False)
    assert refusal in small.snakemake("--forcerun", "evaluate", ok=False)
    (small / name).unlink()
    small.snakemake()
    assert verified(small)[1] == 0


def test_verdicts_by_other_rules_and_altered_tables_never_reach_the_report(small):
    source = small / "src/sparsecnn/analysis/judging.py"
    source.write_text(f"{source.read_text()}\nEDITED = 1\n")
    small.snakemake("--touch")
    output, status = verified(small)
    assert status == 1
    assert "stale    tiny/claims.json: it was made by other code than is here now" in output
    refusal = "claims.json: it was made by other code than is here now; delete the file and run"
    assert refusal in small.snakemake("--forcerun", "report", ok=False)
    (small / STUDY / "claims.json").unlink()
    small.snakemake()

    layers = alter_layers(small)
    small.snakemake("--touch")
    for rule in ("collect", "figures", "page"):
        output = small.snakemake("--forcerun", rule, ok=False)
        assert f"{layers.relative_to(small.folder)}: it is not the table" in output, rule


@pytest.mark.parametrize("records", [True, False])
def test_copied_results_are_not_made_again(finished, tmp_path, records):
    """Newly dated where Snakemake's own records come along, else with their dates."""
    copy = shutil.copyfile if records else shutil.copy2
    shutil.copytree(finished.folder, tmp_path / "clone", copy_function=copy)
    if not records:
        shutil.rmtree(tmp_path / "clone/.snakemake")
    assert Project(tmp_path / "clone").planned() == {}


@pytest.mark.slow
def test_two_people_get_the_same_study(fresh, finished):
    """In another clone and with another number of cores; times alone differ."""
    fresh.snakemake("--cores", "1")
    names = sorted(
        p.relative_to(finished.folder) for p in (finished / STUDY).rglob("*.safetensors")
    )
    assert len(names) == 1 + 1 + 2 + 6
    for name in names:
        assert content(fresh / name) == content(finished / name), name
    tables = []
    for project in (fresh, finished):
        with (project / STUDY / "metrics.csv").open(newline="") as file:
            tables.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    assert tables[0] == tables[1]
    measured = [p / STUDY / "diagnostics.csv" for p in (fresh, finished)]
    assert measured[0].read_bytes() == measured[1].read_bytes()
    for figure in (
        *("accuracy", "drop", "layer_error", "ablation"),
        *("budgets", "patterns", "waterfall", "quadratic_model", "accumulation"),
    ):
        name = f"{STUDY}/report/figures/{figure}.svg"
        assert (fresh / name).read_bytes() == (finished / name).read_bytes()


def content(path):
    """Hash of a file of tensors, read whole."""
    return read_tensors(path, read_kind(path))[1].content


def read_kind(path):
    folder = {"data": "dataset", "calibration": "calibration"}
    return folder.get(path.parent.name, path.stem)
