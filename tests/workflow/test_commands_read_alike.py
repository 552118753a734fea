"""What a study's files and `--config` say: to a run, a dry run and check_config alike."""

import os
import subprocess
import sys

import pytest
from snakemake_project import ROOT

NESTED = (
    *(
        "calibration={images: 64}",
        "seeds=[0]",
        "pruning={pattern: 2:4}",
        "diagnostics={images: 32}",
    ),
    *("recipes={small: {learning_rate: 1e-2}}", "variants={wanda: null}", "threads=1"),
    *("training={compile: false}", "dataset={source: null}"),
)


def check_config(project, files, entries):
    """Exit status of the command, and the lines that it says."""
    run = subprocess.run(
        [sys.executable, project / "scripts/check_config.py", *files, "--config", *entries],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, (run.stdout + run.stderr).removeprefix("error: ").strip().splitlines()


REFUSED = [
    ("variants: {on: {method: wanda}}", ["threads=1"]),
    ("seeds: [010]", ["threads=1"]),
    ("recipes: {small: {learning_rate: .nan}}", ["threads=1"]),
    ("recipes: {small: {batch_size: 32.0}}\nseeds: 3\nstudy: 2024", ["threads=1"]),
    ("claims: {c: {statement: 5, more: [a], than: x}}", ["threads=1"]),
    ("variants:", ["threads=1"]),
    ("threads: 1", ["seeds=3", "training={compile: yes}", "threads=1.0"]),
    ("threads: 1", ["calibration={images: 1, images: 2}"]),
]


@pytest.mark.parametrize(("content", "entries"), REFUSED, ids=[c[:30] for c, _ in REFUSED])
def test_a_dry_run_says_what_the_check_says(finished, tmp_path, inputs, content, entries):
    mine = tmp_path / "mine.yaml"
    mine.write_text(content)
    files = [finished / "study.yaml", mine]
    output = finished.snakemake("-n", "--configfile", *files, "--config", *entries, ok=False)
    said = output.partition("wrong configuration\n")[2].partition('\n  File "')[0].splitlines()
    assert check_config(finished, files, entries) == (1, said)
    assert said
    assert "Traceback" not in output
    inputs(f"{content} --config {' '.join(entries)}", "\n".join(said).replace(f"{tmp_path}/", ""))


def test_nested_settings_of_the_command_line_say_what_a_file_says(finished, inputs):
    assert finished.planned("--config", *NESTED) == {}
    inputs(f"--config {' '.join(NESTED)}", "the finished study that says the same: nothing to do")


def test_settings_without_quotes_say_what_they_say_with_them(finished, tmp_path, inputs):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "pruning: {pattern: 2:4}\nrecipes: {small: {learning_rate: 1e-2}}\nthreads: '1'"
    )
    assert finished.planned("--configfile", finished / "study.yaml", mine) == {}
    inputs(mine.read_text(), "the finished study that says the same: nothing to do")


@pytest.mark.slow
def test_jobs_get_the_study_that_the_command_line_gives(small, inputs):
    entries = (
        "report={language: [ko]}",
        "claims={mine: {statement: \"one: 'two'\", more: {drop: magnitude}, than: {drop: dense}}}",
    )
    small.snakemake("--config", *entries)
    assert "one: 'two'" in (small / "results/tiny/claims.json").read_text()
    assert small.planned("--config", *entries) == {}
    inputs(f"--config {' '.join(entries)}", "a run that does so; afterwards nothing to do")


def test_a_profile_may_hold_settings(finished, tmp_path, inputs):
    profile = tmp_path / "config.yaml"
    profile.write_text(
        "config:\n  seeds: [0, 1]\n  calibration: {images: 64}\n  diagnostics: null\n"
    )
    planned = finished.planned("--profile", tmp_path)
    assert planned["train"] == 2
    assert "diagnose" not in planned
    inputs("a profile with `config: {seeds: [0, 1], diagnostics: null}`", "two trainings more")


def test_a_template_and_json_are_read_as_snakemake_reads_them(finished, tmp_path, inputs):
    template, json = tmp_path / "mine.yaml", tmp_path / "mine.json"
    template.write_text("__use_yte__: true\nseeds:\n  - 0\n  - ?1 + 1")
    json.write_text('{"calibration":\t{"images": 64}}')
    files = [finished / "study.yaml", template, json]
    assert finished.planned("--configfile", *files)["train"] == 2
    status, lines = check_config(finished, files, ["threads=1"])
    assert (status, lines) == (0, ["study tiny: valid; 4 trainings, 12 pruned networks"])
    inputs(template.read_text(), "; ".join(lines))
