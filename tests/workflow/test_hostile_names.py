"""Names that a shell, a path, a table or a template could take for something else."""

import csv
import subprocess
import sys

import pytest
import torch
from PIL import Image
from snakemake_project import TINY

CLASSES = ("$(touch pwned)", "`touch pwned`; touch pwned", "a 'b' \"c\"", "名前 é", "{wildcard} %s")
STUDY = TINY | {
    "study": "hostile",
    "regimes": {
        "under_trained": None,
        "fully_trained": None,
        "only": {"recipe": "small", "custom_cnn": 1},
    },
    "calibration": {"images": 40},
    "variants": TINY["variants"] | {"sparsegpt_bn": None},
}


@pytest.fixture
def images(tmp_path):
    """A folder of images whose every name is hostile."""
    folder = tmp_path / "my $(touch pwned) 'images'"
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 12), ("test", 8)):
        for name in CLASSES:
            where = folder / split / name
            where.mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(where / f"{i}; touch pwned.png")
    return folder


def pwned(project):
    return list(project.folder.rglob("pwned*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="such files cannot be made")
def test_images_and_classes_of_any_name_work(fresh, images):
    label = "all | of ** it: $(touch pwned) `x` {y} {{ z }} \n second 'line'"
    dataset = {"name": "image_folder", "source": str(images), "label": label}
    fresh.snakemake(study=STUDY | {"dataset": dataset})
    assert not pwned(fresh)
    with (fresh / "results/hostile/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["dataset"] for row in rows} == {label}
    assert {row["n_test"] for row in rows} == {"40"}
    assert fresh.planned(study=STUDY | {"dataset": dataset}) == {}


def test_an_environment_below_a_space_is_refused_before_any_job_fails(fresh, tmp_path):
    (tmp_path / "a b").symlink_to(sys.prefix)
    run = subprocess.run(
        [tmp_path / "a b/bin/python", "-m", "snakemake", "--cores", "1", "--until", "dataset"],
        cwd=fresh.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert f"the path of Python, {tmp_path}/a b/bin/python, has a space in it" in run.stderr
    assert not (fresh / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a b", "$(touch pwned)", "a/b", "../up", "a\nb", "'", '"', "é", "-rf", ".", "x" * 65]
)
def test_a_study_of_such_a_name_is_refused_in_one_line(fresh, name):
    output = fresh.snakemake("-n", study=STUDY | {"study": name}, ok=False)
    assert "study: " in output
    assert "is not of the form" in output
    assert "Traceback" not in output
    assert not pwned(fresh)
    assert not (fresh / "results").exists()
