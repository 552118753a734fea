"""A study of networks of a user's own: trained here, or given with their weights."""

import shutil
import subprocess
import sys
import zipfile

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from snakemake_project import REPORTING, SMALL, Project, copy_project
from torch import nn

from sparsecnn.artifacts import read_json, read_manifest

NETS = """
from torch import nn
from parts import block

def build(num_classes, depth=1, norm=False):
    blocks = [block(16 if n else 3, norm) for n in range(depth)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))

def of_five(num_classes):
    return build(5)

def pair(num_classes):
    return Pair()

class Pair(nn.Module):
    def forward(self, images):
        return images, images

def of_28_pixels(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, num_classes))
"""
PARTS = """
from torch import nn

def block(inputs, norm):
    layer = nn.Conv2d(inputs, 16, 3, padding=1)
    if norm:
        layer = nn.utils.parametrizations.weight_norm(layer)
    return nn.Sequential(layer, nn.BatchNorm2d(16), nn.ReLU())
"""
TRAINED = {"builder": "nets.py:build", "arguments": {"depth": 2, "norm": True}}
GIVEN = {"builder": "nets.py:build", "weights": "given.pt"}
OURS = dict.fromkeys(["custom_cnn", "vgg16", "resnet18"])
OWN = SMALL | {
    "models": OURS | {"mine": TRAINED, "theirs": GIVEN},
    "regimes": {"under_trained": {"recipe": "small", "mine": 1}, "fully_trained": None},
    "export": {"variants": ["sparsegpt"]},
}
ALONE = OWN | {
    "export": None,
    "models": OURS | {"theirs": GIVEN},
    "regimes": {"under_trained": None, "fully_trained": None},
}
"""Of the given network alone: nothing is trained."""
ONE = "results/tiny/mine/small/epochs-1/seed-0"
OTHER = "results/tiny/theirs/given/epochs-0/seed-0"


def write_weights(folder, seed=0, classes=10):
    """Of an untrained network, as a checkpoint of a training on several GPUs."""
    torch.manual_seed(seed)
    block = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    network = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 90, "state_dict": state}, folder / "given.pt")


def with_networks(folder):
    project = copy_project(folder, OWN)
    (folder / "nets.py").write_text(NETS)
    (folder / "parts.py").write_text(PARTS)
    write_weights(folder)
    return project


@pytest.fixture(scope="module")
def made(made_once):
    """The finished study; tests leave it as it is."""
    return Project(made_once("own", lambda folder: with_networks(folder).snakemake()), OWN)


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "copy")
    return Project(tmp_path / "copy", OWN)


def test_a_study_of_ones_own_networks_is_made_and_verified(made):
    table = pd.read_csv(made / "results/tiny/metrics.csv")
    networks = table[["model", "regime", "recipe", "epochs"]].drop_duplicates()
    assert networks.to_numpy().tolist() == [
        ["mine", "under_trained", "small", 1],
        ["theirs", "given", "given", 0],
    ]
    assert len(table) == 6
    pruned = table[table["variant"] != "dense"]
    assert (pruned["sparsity_pruned_layers"] >= 0.5).all()
    assert (pruned["macs_effective"] < pruned["macs"]).all()
    assert made.planned() == {}
    output, status = made.script("verify.py", "results/tiny")
    assert status == 0, output
    output, status = made.script("check_config.py", "study.yaml")
    assert "1 trainings, 1 given networks, 4 pruned networks" in output, output
    output, status = made.script("plan.py", "--configfile", "study.yaml")
    assert status == 0, output


def test_a_crate_has_the_code_that_builds_the_networks(made, tmp_path):
    crate = tmp_path / "study.zip"
    output, status = made.script("verify.py", "results/tiny", "--export", crate)
    assert status == 0, output
    with zipfile.ZipFile(crate) as archive:
        assert archive.read("builders/nets.py") == (made / "nets.py").read_bytes()
        assert archive.read("builders/parts.py") == (made / "parts.py").read_bytes()


def test_the_report_says_which_network_was_given_and_by_what_file(made):
    text = (made / "results/tiny/report/report.md").read_text()
    content = read_manifest(made / f"{OTHER}/dense.safetensors", "dense").settings["weights"]
    assert f"`theirs` from `given.pt` (sha256 `{content[:16]}`)" in text
    assert "**Networks.** `mine` (`nets.py:build`), `theirs` (`nets.py:build`)." in text
    assert "**Budgets.** `under_trained`: mine 1 epochs." in text
    assert "theirs was given: its intervals are over calibration sets alone" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| given ")][:1]
    assert [cell.strip() for cell in row.split("|")][1:4] == ["given", "theirs", "given"]
    record, _ = read_json(made / "results/tiny/provenance.json", "provenance")
    assert record["given"] == {"theirs": {"file": "given.pt", "sha256": content}}


def test_a_network_of_ones_own_is_exported_with_the_file_that_builds_it(made, tmp_path):
    for folder in (ONE, OTHER):
        value, _ = read_json(made / f"{folder}/sparsegpt/model.json", "exported")
        assert value["pytorch"]["builder"] == "nets.py:build"
        assert value["onnx"]["pruned_layers"] == (2 if folder == ONE else 1)
    for name in ("network.py", "model.safetensors"):
        shutil.copy(made / f"{OTHER}/sparsegpt/{name}", tmp_path)
    shutil.copy(made / "parts.py", tmp_path)  # which it imports
    program = f"{value['pytorch']['load']}print(sum(t.numel() for t in model.parameters()))"
    run = [sys.executable, "-c", program]
    output = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert int(output) == 3 * 16 * 9 + 16 + 2 * 16 + 17 * 10


def test_a_network_that_answers_like_chance_is_warned_of(made):
    log = (made / "logs/tiny/theirs/given/epochs-0/seed-0/dense/evaluate.log").read_text()
    # Of the 360 test images 37 are of the largest class.
    assert "warning: this is hardly better than guessing (10.28 %); is dataset.normalization" in log
    log = (made / "logs/tiny/theirs/given/epochs-0/seed-0/magnitude/evaluate.log").read_text()
    assert "warning" not in log


def test_seeds_of_a_given_network_vary_its_calibration_alone(copied):
    study = ALONE | {"study": "alone", "seeds": [0, 1]}
    jobs = {"dataset": 1, "check": 1, "calibrate": 2, "adopt": 2, "prune": 4, "evaluate": 6}
    assert copied.planned(study=study) == jobs | REPORTING
    targets = [f"results/alone/theirs/given/epochs-0/seed-{n}/dense.safetensors" for n in (0, 1)]
    copied.snakemake("--", *targets, study=study)
    one, other = (read_manifest(copied / path, "dense") for path in targets)
    assert one.content == other.content


@pytest.fixture
def elsewhere(made, tmp_path):
    """A folder outside of the project, with a configuration and all that it names."""
    elsewhere = tmp_path / "mine"
    for n, label in enumerate(["a", "b"]):
        for split in ("train", "test"):
            folder = elsewhere / "images" / split / label
            folder.mkdir(parents=True)
            for k in range(4):
                Image.new("RGB", (8, 8), (60 * n, 10 * k, 5 * k)).save(folder / f"{k}.png")
    for name in ("nets.py", "parts.py"):
        shutil.copy(made / name, elsewhere)
    write_weights(elsewhere, classes=2)
    study = ALONE | {
        "study": "beside",
        "dataset": {"name": "image_folder", "source": "images"},
        "calibration": {"images": 4},
    }
    (elsewhere / "own.yaml").write_text(yaml.safe_dump(study))
    return elsewhere


def test_all_files_of_ones_own_are_found_beside_the_configuration(made, elsewhere):
    jobs = {"dataset": 1, "check": 1, "calibrate": 1, "adopt": 1, "prune": 2, "evaluate": 3}
    run = ("--configfile", elsewhere / "own.yaml")
    assert made.planned(*run) == jobs | REPORTING
    assert f"input: {elsewhere}/images" in made.snakemake("-n", *run)


@pytest.mark.slow
def test_a_study_whose_files_lie_elsewhere_is_verified_as_it_is_recorded(copied, elsewhere):
    (copied / "nets.py").unlink()
    copied.snakemake("--configfile", elsewhere / "own.yaml")
    output, status = copied.script("verify.py", "results/beside")
    assert status == 0, output
    (elsewhere / "nets.py").unlink()
    output, status = copied.script("verify.py", "results/beside")
    assert status != 0
    assert f"there is no file nets.py (looked for in {elsewhere}" in output


OF_ONE = {"prune": 2, "evaluate": 3, "export": 1}
CHANGES = {
    "a comment in the builder's file": (
        lambda folder: append(folder / "nets.py", "\n# why\n"),
        {},
    ),
    "code in the builder's file": (
        lambda folder: append(folder / "nets.py", "\nEDITED = 1\n"),
        {"check": 1, "train": 1, "adopt": 1, "prune": 4, "evaluate": 6, "export": 2, **REPORTING},
    ),
    "code in what it imports beside it": (
        lambda folder: append(folder / "parts.py", "\nEDITED = 1\n"),
        {"check": 1, "train": 1, "adopt": 1, "prune": 4, "evaluate": 6, "export": 2, **REPORTING},
    ),
    "code beside it that it does not import": (
        lambda folder: append(folder / "other.py", "EDITED = 1\n"),
        {},
    ),
    "other weights under the same name": (
        lambda folder: write_weights(folder, seed=1),
        {"adopt": 1, **OF_ONE, **REPORTING},
    ),
    "the same weights written anew": (write_weights, {}),
    "the weights are gone": (lambda folder: (folder / "given.pt").unlink(), {}),
}


def append(path, text):
    with path.open("a") as file:
        file.write(text)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_ones_own_files_reruns_what_is_made_of_them(copied, reruns, change):
    make, jobs = CHANGES[change]
    make(copied.folder)
    assert copied.planned() == jobs
    reruns(f"own networks: {change}", jobs)


SETTINGS = {
    "other arguments of the builder": (
        {"mine": TRAINED | {"arguments": {"depth": 3, "norm": True}}},
        {"check": 1, "train": 1, **OF_ONE, **REPORTING},
    ),
    "the weights' file has another name": (
        {"theirs": GIVEN | {"weights": "moved/given.pt"}},
        REPORTING,
    ),
    "arguments that are what they were": (
        {"mine": TRAINED | {"arguments": {"depth": "2", "norm": "true"}}},
        {},
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_ones_own_networks_reruns_what_depends_on_it(copied, reruns, setting):
    models, jobs = SETTINGS[setting]
    (copied / "moved").mkdir()
    shutil.copy(copied / "given.pt", copied / "moved/given.pt")
    study = OWN | {"models": OWN["models"] | models}
    assert copied.planned(study=study) == jobs
    reruns(f"own networks: {setting}", jobs)


def test_weights_that_are_gone_are_missed_where_they_are_needed(copied):
    (copied / "given.pt").unlink()
    assert "given.pt is not there any more; going on with" in copied.snakemake("-n")
    (copied / f"{OTHER}/dense.safetensors").unlink()
    output = copied.snakemake(ok=False)
    assert "models.theirs.weights: there is no file given.pt (looked for in" in output


WRONG = {
    "a file that is not there": (
        {"mine": {"builder": "absent.py:build"}},
        "models.mine.builder: there is no file absent.py (looked for in",
    ),
    "weights that are not there": (
        {"mine": TRAINED | {"weights": "absent.pt"}},
        "models.mine.weights: there is no file absent.pt (looked for in",
    ),
    "a file that is no Python": (
        {"mine": {"builder": "broken.py:build"}},
        "broken.py, line 1: '(' was never closed",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_file_that_will_not_do_is_refused_before_anything_runs(copied, inputs, mistake):
    models, line = WRONG[mistake]
    (copied / "broken.py").write_text("def build(\n")
    study = OWN | {"models": OURS | models}
    for output in (
        copied.snakemake("-n", study=study, ok=False),
        copied.script("check_config.py", "study.yaml", study=study)[0],
    ):
        assert line in output
        assert "Traceback" not in output
    inputs(f"own networks: {mistake}", line)


UNFIT = {
    "nets.py:none": "nets.py has no function none (functions there: block, build, of_five, pair,",
    "nets.py:of_five": "gives (2, 5) for images (2, 3, 32, 32); it has to give logits, (2, 10)",
    "nets.py:pair": "gives tuple for images (2, 3, 32, 32); it has to give logits, (2, 10)",
    "nets.py:of_28_pixels": "its network cannot take images (2, 3, 32, 32): RuntimeError: ",
    "torchvision.models:resnet18": None,
    "torchvision.models:inception_v3": "its network cannot take images (2, 3, 32, 32): ",
    "torchvision.models:googlenet": "gives GoogLeNetOutputs for images (2, 3, 32, 32) while it tr",
}


def test_a_builder_that_will_not_do_is_refused_before_anything_trains(copied, inputs):
    names = {builder: f"m{n}" for n, builder in enumerate(UNFIT)}
    models = {name: {"builder": builder} for builder, name in names.items()}
    budgets = {"under_trained": {"recipe": "small"} | dict.fromkeys(models, 1)}
    study = OWN | {"models": OURS | models, "regimes": {**OWN["regimes"], **budgets}}
    output = copied.snakemake("--", "results/tiny/checked.json", study=study, ok=False)
    assert "Traceback" not in output
    for builder, words in UNFIT.items():
        name = names[builder]
        lines = [line for line in output.splitlines() if f"error: models.{name}: " in line]
        assert bool(lines) == bool(words), output
        for line in lines:
            assert words in line
            assert f"leave the network out (models: {{{name}: null}})" in line
            inputs(f"check of the builder {builder}", line.partition("error: ")[2])
