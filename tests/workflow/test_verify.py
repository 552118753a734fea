"""It is told of which settings a study's files are, whatever Snakemake's records say."""

import shutil

import pytest
import yaml
from snakemake_project import SMALL, TINY, load_script, merged

from cifar_archive import members_of, write_archive
from sparsecnn.data import cifar
from sparsecnn.data.cifar import CIFAR10

STUDY = "results/tiny"
RUN = "custom_cnn/small/epochs-1/seed-0"
script = load_script("verify.py")


def found(project, study, tmp_path):
    """What is not whole of a project's study, if it were of other settings."""
    file = tmp_path / "now.yaml"
    file.write_text(yaml.safe_dump(study))
    findings = script.verify(project / STUDY, script.configuration([file]))
    return {
        f.path.relative_to(project / STUDY).as_posix(): f for f in findings if f.state != "whole"
    }


NO_NUMBERS = {
    "threads": TINY | {"threads": 2},
    "device": TINY | {"device": "auto"},
    "report: {language}": TINY | {"report": {"language": ["ko"]}},
    "a recipe that no regime uses": merged(TINY, recipes={"unused": {"learning_rate": 1.0}}),
}


@pytest.mark.parametrize("setting", NO_NUMBERS)
def test_what_no_number_depends_on_may_change(finished, tmp_path, inputs, setting):
    assert found(finished, NO_NUMBERS[setting], tmp_path) == {}
    inputs(f"verify after another {setting}", "33 whole")


CLAIM = {"statement": "It is.", "more": {"drop": "magnitude"}, "than": {"drop": "sparsegpt"}}
CHANGED = {
    "damping": (
        merged(TINY, methods={"sparsegpt": {"damping": 0.02}}),
        {f"{RUN}/sparsegpt/pruned.safetensors", f"{RUN}/sparsegpt_bn/pruned.safetensors"},
        "other settings (config.methods.sparsegpt.damping: 0.01, not 0.02)",
    ),
    "a seed more": (
        TINY | {"seeds": [0, 1]},
        {"calibration/seed-1.safetensors", f"{RUN[:-1]}1/dense.safetensors"},
        "other settings (config.seeds: [0], not [0, 1])",
    ),
    "holdout": (
        merged(TINY, dataset={"holdout": 140}),
        {"data/dataset.safetensors", "data/dataset.json"},
        "other settings (config.dataset.holdout: 0, not 140)",
    ),
    "on_new_versions": (
        TINY | {"on_new_versions": "rerun"},
        {"data/dataset.safetensors", f"{RUN}/dense.safetensors"},
        'other settings (config.on_new_versions: "warn", not "rerun")',
    ),
    "a variant more": (
        merged(TINY, variants={"flat": {"method": "magnitude", "layout": "flattened"}}),
        {f"{RUN}/flat/pruned.safetensors", f"{RUN}/flat/metrics.json"},
        "other settings (config.variants.flat: null, not",
    ),
    "a variant less": (
        merged(TINY, variants={"sparsegpt_bn": None}),
        set(),
        "settings that are no longer there (config.variants.sparsegpt_bn)",
    ),
    "a claim": (
        TINY | {"claims": {"lost": CLAIM}},
        {"claims.json"},
        "other settings (config.claims.lost: null, not",
    ),
}


@pytest.mark.parametrize("setting", CHANGED)
def test_changed_settings_are_told_of_each_file(finished, tmp_path, inputs, setting):
    study, files, reason = CHANGED[setting]
    wrong = found(finished, study, tmp_path)
    assert files <= set(wrong)
    assert wrong["provenance.json"].state == "foreign"
    assert reason in wrong["provenance.json"].reason
    inputs(f"verify after another setting: {setting}", wrong["provenance.json"].reason)


OTHER = merged(SMALL, methods={"sparsegpt": {"damping": 0.02}})


def test_a_setting_changed_and_touched_is_not_taken_for_whole(small, inputs):
    """The rule and `--configfile` compare with the study as it is now; without, as it was made."""
    small.snakemake("--touch", study=OTHER)
    assert small.planned(study=OTHER) == {}
    reason = "it was made with other settings (pruning.damping: 0.01, not 0.02)"
    output = small.snakemake("--", "verify", study=OTHER, ok=False)
    assert f"sparsegpt/pruned.safetensors: {reason}" in output
    assert "2 foreign; compared with the study's configuration" in output
    assert f"error: {STUDY} is not whole: delete the files named here and run snakem" in output
    output, status = small.script("verify.py", STUDY, "--configfile", "study.yaml", study=OTHER)
    assert status == 1
    assert f"sparsegpt/pruned.safetensors: {reason}" in output
    assert "2 foreign; compared with config.yaml and study.yaml" in output
    output, status = small.script("verify.py", STUDY)
    assert status == 0
    whole = f"15 whole; compared with the settings recorded in {STUDY}/provenance.json"
    assert output.strip() == whole
    inputs("damping changed, --touch, snakemake verify", f"...pruned.safetensors: {reason}")
    inputs("damping changed, --touch, scripts/verify.py", whole)


@pytest.mark.slow
def test_to_delete_what_verify_names_and_run_again_is_enough(small):
    small.snakemake("--touch", study=OTHER)
    for path in ("provenance.json", f"{RUN}/sparsegpt/pruned.safetensors"):
        (small / STUDY / path).unlink()
    small.snakemake(study=OTHER)
    output = small.snakemake("--", "verify", study=OTHER | {"threads": 2})
    assert "15 whole; compared with the study's configuration" in output


def test_a_table_of_a_variant_that_was_removed_never_reaches_the_report(small):
    one = merged(small.study, variants={"magnitude": None})
    small.snakemake("--touch", study=one)
    refusal = "provenance.json: it was made with settings that are no longer there"
    assert refusal in small.snakemake("--forcerun", "report", study=one, ok=False)


def test_a_deleted_record_or_figure_is_made_again(finished):
    """Which is what those who verify are advised to do."""
    for name in ("provenance.json", "diagnostics.csv", "report/figures/drop.svg"):
        path = finished / STUDY / name
        aside = path.rename(path.with_name("aside"))
        assert finished.planned()["page"] == 1
        aside.rename(path)


def wrong_yaml(folder):
    (folder / "wrong.yaml").write_text("study: [tiny\n")
    return [STUDY, "--configfile", "wrong.yaml"]


def a_crate(folder):
    (folder / "study.zip").write_bytes(b"")
    return ["study.zip", "--configfile", "study.yaml"]


def a_crate_to_export(folder):
    (folder / "study.zip").write_bytes(b"")
    return ["study.zip", "--export", "other.zip"]


def another_name(folder):
    shutil.copytree(folder / STUDY, folder / "results/mine")
    return ["results/mine", "--configfile", "study.yaml"]


def no_file(folder):
    return [STUDY, "--configfile", "absent.yaml"]


def no_study(folder):
    return ["results/typo", "--configfile", "study.yaml"]


def a_wrong_key(folder):
    (folder / "wrong.yaml").write_text("seed: 1\n")
    return [STUDY, "--configfile", "wrong.yaml"]


MISTAKES = [
    (wrong_yaml, "wrong.yaml, line 2, column 1: not valid YAML ("),
    (no_file, "absent.yaml: cannot be read (No such file or directory)"),
    (a_wrong_key, "seed: unknown key, did you mean seeds?"),
    (a_crate, "study.zip: the files of a crate are compared with their hashes alone; leave out"),
    (a_crate_to_export, "study.zip: the files of a crate are compared with their hashes alone; "),
    (
        another_name,
        "results/mine: config.yaml and study.yaml describe the study tiny; name its folder, or a "
        "file with `study: mine`",
    ),
    (no_study, "results/typo: config.yaml and study.yaml describe the study tiny; name its folder"),
]


@pytest.mark.parametrize(("mistake", "line"), MISTAKES, ids=[m[0].__name__ for m in MISTAKES])
def test_a_mistake_is_one_line(copied, inputs, mistake, line):
    arguments = mistake(copied.folder)
    output, status = copied.script("verify.py", *arguments)
    assert status == 1
    assert output.startswith(f"error: {line}")
    assert output.count("\n") == 1
    inputs(
        f"verify.py {' '.join(arguments)} ({mistake.__name__.replace('_', ' ')})", output.strip()
    )


def test_the_downloaded_archive_is_looked_at_too(tmp_path, monkeypatch, inputs):
    layout = write_archive(tmp_path / CIFAR10.filename, CIFAR10, members_of(CIFAR10))
    monkeypatch.setattr(cifar, "CIFAR10", layout)
    path = tmp_path / CIFAR10.filename
    [found] = script._download(tmp_path, "cifar10")
    assert (found.path, found.state) == (path, "whole")
    path.write_bytes(path.read_bytes()[:-1])
    [found] = script._download(tmp_path, "cifar10")
    assert found.state == "broken"
    assert "md5 is" in found.reason
    inputs("verify, the downloaded archive altered", found.reason.replace(f"{tmp_path}/", ""))
    path.unlink()
    [found] = script._download(tmp_path, "cifar10")
    assert found.state == "unseen"
    assert script._download(tmp_path, "digits") == []
