"""The whole study on a few hundred real images, where an archive of them is at hand."""

import csv
import tarfile
from collections import Counter

import pytest
from snakemake_project import SMALL

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
