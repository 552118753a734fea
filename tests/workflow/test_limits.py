"""Settings that images, networks or memory do not allow are refused before any training."""

import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image
from snakemake_project import SMALL, TINY, merged

from sparsecnn.artifacts import read_json, read_manifest

STUDY = "results/tiny"
DATASET = f"{STUDY}/data/dataset.safetensors"
DENSE = f"{STUDY}/custom_cnn/small/epochs-1/seed-0/dense.safetensors"
CHECKED = f"{STUDY}/checked.json"


@pytest.fixture
def folder(tmp_path):
    """Call with a side in pixels and a number: a folder of so many images of two classes each."""

    def make(side, count):
        path = tmp_path / f"{side}x{side}-{count}"
        generator = torch.Generator().manual_seed(side)
        for split in ("train", "test"):
            for name in ("cat", "dog"):
                (path / split / name).mkdir(parents=True)
                for i in range(count):
                    size = (side, side, 3)
                    pixels = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
                    Image.fromarray(pixels.numpy()).save(path / split / name / f"{i}.png")
        return path

    return make


def local(source, **changes):
    """The small study with the images of a folder."""
    dataset = {"name": "image_folder", "source": str(source)}
    return merged(SMALL, dataset=dataset, calibration={"images": 8}) | changes


def said(output, job="tiny/check"):
    """What a job refused, a line each."""
    start = f"[{job}] error: "
    return [line.removeprefix(start) for line in output.splitlines() if line.startswith(start)]


def logs(project):
    return {path.stem for path in (project / "logs").rglob("*.log")}


def test_what_the_images_do_not_allow_is_refused_before_training_and_then_mended(
    fresh, folder, inputs
):
    study = local(folder(16, 10), diagnostics={"images": 512}, calibration={"images": 24})
    output = fresh.snakemake(study=study, ok=False)
    calibration, diagnostics = found = said(output)
    start = "calibration.images: 24 is not possible; the train split has 20 images, choose 1 to 20"
    assert calibration == start
    assert diagnostics.startswith(
        "diagnostics.images: 512 is not possible; the train split has 20 "
    )
    assert output.rstrip().endswith(
        f"tiny/check failed: {calibration}\n  {diagnostics}\n  its log: logs/tiny/check.log"
    )
    assert "Traceback" not in output
    assert logs(fresh) == {"dataset", "check"}
    assert not (fresh / CHECKED).exists()
    made = read_manifest(fresh / DATASET, "dataset")
    inputs("20 train images, with diagnostics of 512 and calibration on 24", " / ".join(found))

    study |= {"diagnostics": {"images": 20}, "calibration": {"images": 20}}
    planned = fresh.planned(study=study)
    assert "dataset" not in planned
    assert planned["train"] == 1
    fresh.snakemake("--until", "train", study=study)
    assert {"dataset", "check", "train"} == logs(fresh)
    assert read_manifest(fresh / DATASET, "dataset") == made
    inputs("the same with 20 each", "trains on the dataset that was made")

    # Other images in their place, of which there are too few: what was trained stays.
    trained = read_manifest(fresh / DENSE, "dense")
    fewer = local(folder(16, 4), diagnostics={"images": 20})
    assert said(fresh.snakemake(study=fewer, ok=False)) == [
        "diagnostics.images: 20 is not possible; the train split has 8 images, choose 1 to 8"
    ]
    assert read_manifest(fresh / DENSE, "dense") == trained


def test_a_network_that_cannot_take_the_images_is_refused_before_training(fresh, folder):
    models = {"custom_cnn": {"width": 0.125}, "vgg16": {"width": 0.125}}
    regimes = {"under_trained": {"recipe": "small", "custom_cnn": 1, "vgg16": 1}}
    study = merged(local(folder(18, 4)), models=models, regimes=regimes)
    found = said(fresh.snakemake(study=study, ok=False))
    assert [line.partition(";")[0] for line in found] == [
        "models.custom_cnn: custom_cnn needs an image side divisible by 4, not 18",
        "models.vgg16: vgg16 halves images five times: side 32 or more, not 18",
    ]
    assert logs(fresh) == {"dataset", "check"}
    assert (fresh / DATASET).exists()


@pytest.mark.slow
def test_a_hessian_larger_than_the_memory_is_refused_before_training(fresh, folder, inputs):
    study = merged(local(folder(224, 4)), models={"custom_cnn": {"width": 1.0}})
    (line,) = said(fresh.snakemake(study=study, ok=False))
    assert line.startswith(
        "models.custom_cnn: layer classifier.1 has 401,408 inputs, so its Hessian takes 644.5 GB"
    )
    assert logs(fresh) == {"dataset", "check"}
    inputs("224x224 pixels, custom_cnn at full width", line)
    without = merged(study, pruning={"exclude": ["classifier.1"]})
    fresh.snakemake("--until", "check", study=without)
    value, _ = read_json(fresh / CHECKED, "checked")
    assert {need["layer"] for need in value["hessians"]} == {"features.11"}
    inputs("the same with exclude: [classifier.1]", "trains")


@pytest.mark.slow
def test_a_finished_study_loses_nothing_to_a_setting_that_is_refused_and_taken_back(small, reruns):
    wrong = merged(SMALL, pruning={"exclude": ["head"]})
    output = small.snakemake("--until", "check", study=wrong, ok=False)
    assert "exclude='head' matches no module" in output
    assert not (small / CHECKED).exists()
    assert small.planned() == {"check": 1}
    small.snakemake()
    assert small.planned() == {}
    reruns("a setting refused by the check, and taken back", {"check": 1})


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"calibration": {"images": 5000}},
            "calibration.images: 5000 is not possible; the train split has 1437 images, choose 1 "
            "to 1437",
        ),
        (
            {"diagnostics": {"images": 1438}},
            "diagnostics.images: 1438 is not possible; the train split has 1437 images, choose 1 "
            "to 1437",
        ),
        (
            {"dataset": {**TINY["dataset"], "holdout": 7}},
            "dataset.holdout: 7 is not possible; with 10 classes, the smallest of 139 train "
            "images, choose a multiple of 10 up to 1380",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_of_images_that_are_always_the_same_the_dry_run_knows(fresh, changed, line):
    output = fresh.snakemake("-n", study=TINY | changed, ok=False)
    assert f"\n{line}\n" in output
    (fresh / "study.yaml").write_text(yaml.safe_dump(TINY | changed))
    command = [sys.executable, "scripts/check_config.py", "study.yaml"]
    run = subprocess.run(
        command,
        cwd=fresh.folder,
        env={"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (1, f"error: {line}\n")
