"""The whole study on a few hundred real images, where an archive of them is at hand."""

import csv
import tarfile
from collections import Counter

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from snakemake_project import SMALL

from sparsecnn.artifacts import read_manifest

PER_CLASS = {"train": 24, "test": 12}


@pytest.fixture
def few_images(real_images, tmp_path):
    """An archive of the first images of each class, in the form of the whole one."""
    taken = Counter()
    subset = tmp_path / "few.tar"
    with tarfile.open(real_images) as source, tarfile.open(subset, "w") as target:
        for member in source:
            parts = tuple(p for p in member.name.split("/") if p not in ("", "."))
            split = next((p for p in parts if p in PER_CLASS), None)
            if not member.isfile() or split is None:
                continue
            taken[parts[:-1]] += 1
            if taken[parts[:-1]] <= PER_CLASS[split]:
                target.addfile(member, source.extractfile(member))
    return subset


def test_the_whole_study_on_real_images(fresh, few_images):
    study = SMALL | {
        "study": "few",
        "dataset": {"name": "image_folder", "source": str(few_images), "label": "a few images"},
        "models": {"custom_cnn": None, "vgg16": None, "resnet18": {"width": 0.125}},
        "regimes": {
            "under_trained": {"resnet18": 1, "custom_cnn": 1, "vgg16": 1},
            "fully_trained": None,
        },
        "calibration": {"images": 60},
    }
    fresh.snakemake(study=study)
    with (fresh / "results/few/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert {row["variant"] for row in rows} == {"dense", "magnitude", "sparsegpt"}
    assert {row["n_test"] for row in rows} == {"120"}
    assert all(0 <= float(row["top1"]) <= 100 for row in rows)
    assert "a few images" in (fresh / "results/few/report/report.md").read_text()
    assert fresh.planned(study=study) == {}


@pytest.mark.slow
def test_networks_of_torchvision_are_trained_given_pruned_and_exported(fresh, few_images):
    builders = {
        "resnet50": {"builder": "torchvision.models:resnet50"},
        "mobilenet": {"builder": "torchvision.models:mobilenet_v3_small"},
    }
    theirs = dict.fromkeys(["custom_cnn", "vgg16", "resnet18"]) | builders
    trained = SMALL | {
        "study": "trained",
        "dataset": {"name": "image_folder", "source": str(few_images), "label": "a few images"},
        "models": theirs,
        "regimes": {"under_trained": dict.fromkeys(builders, 1), "fully_trained": None},
        "recipes": {"reference": {"batch_size": 48}},
        "calibration": {"images": 60},
    }
    folder = "results/trained/{}/reference/epochs-1/seed-0/dense.safetensors"
    dense = {name: fresh / folder.format(name) for name in builders}
    fresh.snakemake(
        "--", *(path.relative_to(fresh.folder) for path in dense.values()), study=trained
    )
    for name, path in dense.items():
        state = {f"module.{key}": tensor for key, tensor in load_file(path).items()}
        torch.save({"epoch": 1, "model": state}, fresh / f"{name}.pth")
    given = trained | {
        "study": "given",
        "models": {**theirs, **{k: own | {"weights": f"{k}.pth"} for k, own in builders.items()}},
        "export": {"variants": ["sparsegpt"]},
    }
    fresh.snakemake(study=given)
    with (fresh / "results/given/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {(row["regime"], row["epochs"], row["n_test"]) for row in rows} == {
        ("given", "0", "120")
    }
    for name, path in dense.items():
        made = fresh / f"results/given/{name}/given/epochs-0/seed-0"
        assert read_manifest(made / "dense.safetensors", "dense").content == (
            read_manifest(path, "dense").content
        )
        session = onnxruntime.InferenceSession(made / "sparsegpt/model.onnx")
        (logits,) = session.run(None, {"images": np.zeros((3, 3, 32, 32), np.float32)})
        assert logits.shape == (3, 10)
    assert fresh.planned(study=given) == {}
