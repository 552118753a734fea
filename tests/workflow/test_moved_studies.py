"""Folders of studies, and of the project, that were renamed, moved or copied."""

import json
import os
import re
import shutil
import zipfile
from html.parser import HTMLParser

import pytest
from snakemake_project import REPORTING, SMALL, Project, merged

STUDY, MINE = "results/tiny", "results/mine"
NEW = SMALL | {"study": "mine"}
OTHER = merged(SMALL | {"study": "other", "baselines": "tiny"}, variants={"magnitude": None})


def newly_dated(folder):
    """As `cp -r` might leave it: what is made last dated first."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    made = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for age, path in enumerate(made):
        os.utime(path, (1e9 + age, 1e9 + age))


def test_a_folder_of_any_name_is_verified_and_exported(finished, tmp_path, inputs):
    shutil.copytree(finished / STUDY, tmp_path / "mine")
    crates = {}
    for folder in (finished / STUDY, tmp_path / "mine"):
        crate = tmp_path / f"{folder.name}.zip"
        output, status = finished.script("verify.py", folder, "--export", crate)
        assert status == 0
        assert f"33 whole; compared with the settings recorded in {folder}/prov" in output
        crates[folder.name] = json.loads(zipfile.ZipFile(crate).read("artifacts.json"))
    assert crates["mine"] == crates["tiny"]  # by the study's own name
    inputs("verify.py of a study's folder moved and renamed", "33 whole")


@pytest.mark.slow
def test_one_on_anothers_baselines_needs_these_beside_it(small, tmp_path, inputs):
    small.snakemake(study=OTHER)
    output = small.snakemake("--", "verify", study=OTHER)
    assert "compared with the study's configuration" in output
    alone = tmp_path / "elsewhere/mine"
    shutil.copytree(small / "results/other", alone)
    output, status = small.script("verify.py", alone)
    line = (
        f"error: {alone}: its dataset and dense networks are those of the study tiny, which is not "
        f"there; put the folder tiny beside it ({alone.parent / 'tiny'})"
    )
    assert (output.strip(), status) == (line, 1)
    shutil.copytree(small / STUDY, alone.parent / "tiny")
    output, status = small.script("verify.py", alone, "--export", tmp_path / "other.zip")
    assert status == 0, output
    names = json.loads(zipfile.ZipFile(tmp_path / "other.zip").read("artifacts.json"))
    assert {name.split("/")[0] for name in names} == {"tiny", "other"}
    inputs(
        "verify.py of a study whose baselines are not beside it", line.replace(str(tmp_path), "")
    )


def renamed(project):
    (project / STUDY).rename(project / MINE)


def copied_with_dates(project):
    shutil.copytree(project / STUDY, project / MINE)


def copied_anew(project):
    shutil.copytree(project / STUDY, project / MINE)
    newly_dated(project / MINE)


@pytest.mark.parametrize("how", [renamed, copied_with_dates, copied_anew])
def test_a_study_goes_on_under_another_name(small, inputs, how):
    """Nothing is trained or pruned again."""
    how(small)
    line = (
        f"{MINE} was made as the study tiny, and its tables say so. To make them and the report "
        f"anew, and train nothing again: delete {MINE}/provenance.json, run snakemake with "
        "--touch, and once more without"
    )
    assert line in small.snakemake(study=NEW, ok=False)
    (small / MINE / "provenance.json").unlink()
    small.snakemake("--touch", study=NEW)
    assert small.planned(study=NEW) == REPORTING
    inputs(f"results/tiny {how.__name__.replace('_', ' ')} as results/mine, study: mine", line)


@pytest.mark.slow
def test_tables_and_report_say_the_new_name(small):
    copied_anew(small)
    (small / MINE / "provenance.json").unlink()
    small.snakemake("--touch", study=NEW)
    small.snakemake(study=NEW)
    for name in ("metrics.csv", "provenance.json", "report/report.md", "report/report.html"):
        text = (small / MINE / name).read_text()
        assert "tiny" not in text, name
        assert "mine" in text, name
    output = small.snakemake("--", "verify", study=NEW)
    assert "15 whole; compared with the study's configuration" in output
    assert small.planned("--", "verify", study=NEW) == {"verify": 1}  # whenever it is asked for


def test_a_copy_that_dates_alone_would_train_again_is_kept(small, inputs):
    """Without Snakemake's records content is not known to be the same."""
    shutil.rmtree(small / ".snakemake")
    newly_dated(small / STUDY)
    assert "train" in small.planned()
    dense = f"{STUDY}/custom_cnn/small/epochs-1/seed-0/dense.safetensors"
    line = (
        f"{dense} (1 in all) would be trained again although it is what this study makes, because "
        "the copy of its dataset is newer. To keep what is there, run snakemake with --touch, and "
        "once more without; to train again, delete it"
    )
    assert line in small.snakemake(ok=False)
    inputs("results copied with new dates, without .snakemake", line)
    small.snakemake("--touch")
    assert small.planned() == {}


@pytest.mark.slow
def test_what_is_to_be_trained_anew_is_trained(small):
    shutil.rmtree(small / ".snakemake")
    newly_dated(small / STUDY)
    other = SMALL | {"recipes": {"small": SMALL["recipes"]["small"] | {"learning_rate": 0.02}}}
    assert "finished in" in small.snakemake("--until", "train", study=other)
    newly_dated(small / STUDY)
    assert "finished in" in small.snakemake("--forcerun", "train", "--until", "train", study=other)


@pytest.mark.parametrize("records", [True, False])
def test_a_project_that_was_moved_is_whole(finished, tmp_path, inputs, records):
    moved = Project(tmp_path / "elsewhere/of another name")
    shutil.copytree(finished.folder, moved.folder)
    if not records:
        shutil.rmtree(moved / ".snakemake")
    assert moved.planned() == {}
    assert moved.script("verify.py", STUDY)[1] == 0
    inputs(
        f"the project moved, {'with' if records else 'without'} .snakemake", "Nothing to be done"
    )


def links_of(page):
    """Where the elements of a page lead."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda _, attributes: found.extend(
        value for key, value in attributes if key in ("href", "src")
    )
    parser.feed(page)
    return found


def test_links_of_a_report_hold_wherever_its_folder_lies(finished, tmp_path):
    shutil.copytree(finished / STUDY, tmp_path / "mine")
    report = tmp_path / "mine/report"
    for path in (*report.glob("*.md"), *report.glob("*.html")):
        if path.suffix == ".md":
            found = re.findall(r"\]\(([^)]+)\)", path.read_text())
        else:
            found = links_of(path.read_text())
        inside = [link for link in found if not re.match("https?:|data:|#", link)]
        assert inside, path.name
        for link in inside:
            assert (report / link).is_file(), f"{path.name}: {link}"
