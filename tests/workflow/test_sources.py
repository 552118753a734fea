"""What the source of images holds is part of what a study comes from."""

import io
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from snakemake_project import REPORTING, SMALL, Project, copy_project, load_script

from sparsecnn.artifacts import read_json
from sparsecnn.errors import UserError
from sparsecnn.study.sources import source_content

DATASET = {"name": "image_folder", "source": "images", "label": "made up"}
STUDY = SMALL | {"dataset": DATASET, "calibration": {"images": 16}}
EVERYTHING = {
    "dataset": 1,
    "check": 1,
    "calibrate": 1,
    "train": 1,
    "prune": 2,
    "evaluate": 3,
    **REPORTING,
}


def pixels(seed):
    generator = torch.Generator().manual_seed(seed)
    array = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8).numpy()
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def images(classes=("cat", "dog"), count=12):
    return {
        f"{split}/{name}/{i}.png": pixels(zlib.crc32(f"{split}/{name}/{i}".encode()))
        for split in ("train", "test")
        for name in classes
        for i in range(count)
    }


def write_folder(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def read_folder(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def studied(made_once, tmp_path_factory):
    """A project with a finished study of a folder of images."""

    def make(folder):
        project = copy_project(folder, STUDY)
        write_folder(folder / "images", images())
        project.snakemake()

    original = made_once("studied", make)
    folder = tmp_path_factory.mktemp("studied") / "project"
    shutil.copytree(original, folder)
    return Project(folder, STUDY)


@pytest.fixture
def project(studied, tmp_path):
    shutil.copytree(studied.folder, tmp_path / "copy")
    return Project(tmp_path / "copy", STUDY)


def other_byte(folder):
    (folder / "train/cat/0.png").write_bytes(pixels(7))


def file_more(folder):
    (folder / "test/dog/more.png").write_bytes(pixels(7))


def file_less(folder):
    (folder / "train/dog/3.png").unlink()


def renamed_class(folder):
    for split in ("train", "test"):
        (folder / split / "cat").rename(folder / split / "lion")


def other_archive(folder):
    shutil.rmtree(folder)
    pack_zip(folder, images(("cow", "hen", "pig")))


def without_a_date(folder):
    """Of the same size and dates, as far as dates can be set."""
    path = folder / "train/cat/0.png"
    state, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [other_byte, file_more, file_less, renamed_class, other_archive, without_a_date]
)
def test_other_images_under_the_name_rerun_all(project, reruns, inputs, change):
    change(project / "images")
    assert project.planned() == EVERYTHING
    reruns(f"images under the same name: {change.__name__.replace('_', ' ')}", EVERYTHING)
    inputs(f"images replaced: {change.__name__.replace('_', ' ')}", "everything runs again")


def touched(folder):
    for path in folder.rglob("*"):
        path.touch()


def copied_anew(folder):
    shutil.copytree(folder, f"{folder}-new", copy_function=shutil.copy)
    shutil.rmtree(folder)
    Path(f"{folder}-new").rename(folder)


def pack_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def pack_tar(path, files, mode):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def as_tar_xz_in_other_order(folder):
    files = read_folder(folder)
    shutil.rmtree(folder)
    pack_tar(folder, dict(reversed(files.items())), "w:xz")


def as_stored_zip_below_a_folder(folder):
    files = read_folder(folder)
    shutil.rmtree(folder)
    pack_zip(folder, {f"top/{k}": v for k, v in files.items()}, zipfile.ZIP_STORED)


def with_a_readme(folder):
    (folder / "README.md").write_text("about")
    (folder / "train/cat/Thumbs.db").write_text("x")


@pytest.mark.parametrize(
    "change",
    [touched, copied_anew, as_tar_xz_in_other_order, as_stored_zip_below_a_folder, with_a_readme],
)
def test_the_same_images_rerun_nothing(project, reruns, change):
    change(project / "images")
    assert project.planned() == {}
    reruns(f"the same images: {change.__name__.replace('_', ' ')}", {})


def test_the_same_images_under_another_name_rerun_nothing(project, reruns):
    pack_tar(project / "images.tar.gz", read_folder(project / "images"), "w:gz")
    study = STUDY | {"dataset": DATASET | {"source": "images.tar.gz"}}
    assert project.planned(study=study) == {}
    reruns("the same images under another name", {})


def test_a_look_is_said_and_not_taken_again(project):
    other_byte(project / "images")
    # The file is too fresh for its date to be trusted: as if it had been there for long.
    long_ago = 1_700_000_000
    os.utime(project / "images/train/cat/0.png", (long_ago, long_ago))
    assert "images: new or changed, looking at what it holds" in project.snakemake("-n")


@pytest.mark.slow
def test_changed_images_make_another_study(project):
    other_archive(project / "images")
    project.snakemake()
    assert project.planned() == {}
    classes = read_json(project / "results/tiny/data/dataset.json", "dataset_summary")[0]["classes"]
    assert classes == ["cow", "hen", "pig"]


def test_a_missing_source_is_said_before_any_job(fresh, inputs):
    for extra in ([], ["-n"]):
        output = fresh.snakemake(*extra, study=STUDY, ok=False)
        assert "dataset.source: images does not exist" in output
        assert "Traceback" not in output
    assert not (fresh / "logs").exists()
    inputs("a source that does not exist", "dataset.source: images does not exist")


def test_a_source_of_another_name_that_is_missing_is_said_though_a_dataset_lies_there(
    project, inputs
):
    study = STUDY | {"dataset": DATASET | {"source": "imagse"}}
    output = project.snakemake("-n", study=study, ok=False)
    line = re.search("dataset.source: .*", output)[0]
    assert line == (
        "dataset.source: imagse does not exist; results/tiny/data/dataset.safetensors was read "
        "from images"
    )
    inputs("a source misspelt, with an older dataset", line)


@pytest.mark.slow
def test_a_study_goes_on_without_its_source_and_says_so(project, inputs):
    shutil.rmtree(project / "images")
    output = project.snakemake("-n")
    line = re.search("dataset.source: .*", output)[0]
    assert "images does not exist any more; going on with results/tiny/data/data" in line
    assert project.planned() == {}
    (project / "results/tiny/custom_cnn/small/epochs-1/seed-0/sparsegpt/metrics.json").unlink()
    project.snakemake()
    assert project.planned() == {}
    inputs("a source deleted after the dataset was made", line)


def test_a_damaged_source_is_said_before_any_job(fresh, inputs):
    pack_tar(fresh / "images", images(), "w")
    data = (fresh / "images").read_bytes()
    (fresh / "images").write_bytes(data[: len(data) // 2])
    output = fresh.snakemake("-n", study=STUDY, ok=False)
    line = re.search("images: cannot be read .*", output)[0]
    assert "Traceback" not in output
    inputs("an archive cut short", line)


def test_transparent_images_get_the_background_that_the_study_names(fresh):
    """Another background is another dataset; an unknown colour is refused."""
    write_folder(fresh / "images", images(count=4))
    study = STUDY | {"dataset": DATASET | {"background": "blue"}, "calibration": {"images": 4}}
    output = fresh.snakemake("-n", study=study, ok=False)
    assert 'dataset.background: "blue" is not of the form' in output
    fresh.snakemake("--until", "dataset", study=study | {"dataset": DATASET})
    dark = study | {"dataset": DATASET | {"background": "black"}}
    assert "dataset" in fresh.planned(study=dark)


def test_verify_says_that_the_source_holds_what_was_read(project, inputs):
    touched(project / "images")
    output, status = project.script("verify.py", "results/tiny")
    assert status == 0
    assert "whole    images: it still holds what the dataset was read from" in output
    inputs("verify, images as they were read", output.splitlines()[0])


def test_verify_says_that_the_source_changed(project, inputs):
    other_byte(project / "images")
    output, status = project.script("verify.py", "results/tiny")
    assert status == 1
    line, count, advice = output.splitlines()
    assert line == "changed  images: it no longer holds what the dataset was read from"
    assert re.match("15 whole, 1 changed; compared with the settings recorded in ", count)
    assert advice == (
        "To mend: put back what images held, or run snakemake to make the study anew."
    )
    inputs("verify, an image changed", line)


def test_verify_with_the_present_settings_says_what_is_of_other_images(project):
    """As when somebody made Snakemake believe that all is well."""
    other_byte(project / "images")
    project.snakemake("--touch")
    assert project.planned() == {}
    output = project.snakemake("--", "verify", ok=False)
    assert "changed  images: it no longer holds what the dataset was read from" in output
    assert re.search(r"foreign  tiny/data/dataset.safetensors: .*content: ", output)


def test_verify_says_of_a_source_that_is_gone_that_it_was_not_looked_at(project, inputs):
    shutil.rmtree(project / "images")
    output, status = project.script("verify.py", "results/tiny")
    assert status == 0
    line = "unseen   images: it is not there, so it could not be looked at"
    assert output.splitlines()[0] == line
    assert "1 unseen" in output
    inputs("verify, images deleted", line)


def test_verify_says_of_a_source_that_was_cut_short(project):
    pack_tar(project / "cut", read_folder(project / "images"), "w")
    shutil.rmtree(project / "images")
    (project / "images").write_bytes((project / "cut").read_bytes()[:5000])
    output, status = project.script("verify.py", "results/tiny")
    assert status == 1
    assert re.match("changed  images: images: cannot be read ", output)


def test_a_source_that_changes_while_it_is_read_makes_no_dataset(tmp_path, monkeypatch, inputs):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "images", images(count=2))
    settings = DATASET | {"background": "white", "names": None, "normalization": None, "holdout": 0}
    made = tmp_path / "dataset.safetensors", tmp_path / "dataset.json"
    before = source_content(settings)
    other_byte(tmp_path / "images")
    with pytest.raises(UserError, match="images: it was changed while it was read; run") as caught:
        load_script("dataset.py").main(
            Path("images"), "cache", *made, settings | {"content": before}, "c0de"
        )
    assert not any(path.exists() for path in made)
    inputs("images that change while they are read", caught.value)
