"""What must agree between the project's files."""

import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import sparsecnn
from sparsecnn.errors import UserError
from sparsecnn.export.packages import PACKAGES
from sparsecnn.registry import REGISTRY, module_of, resolve
from sparsecnn.study.config import VARIANT_ONLY

ROOT = Path(sparsecnn.__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()


def test_environment_pins_are_the_locks():
    locked = set(re.findall(r"^([a-z0-9-]+==[^ ;\\]+)", LOCK, re.M))
    environment = yaml.safe_load((ROOT / "envs/sparsecnn.yaml").read_text())
    pins = environment["dependencies"][-1]["pip"]
    assert set(pins) <= locked
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["export"]]
    imported = {re.match(r"[a-z0-9-]+", line)[0] for line in declared}
    # Executors and loggers are for the Snakemake that submits jobs.
    imported = {name for name in imported if "-plugin-" not in name}
    assert {pin.partition("==")[0] for pin in pins} == imported


def test_packages_of_the_export_are_asked_for_as_they_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]["export"]
    assert {re.match(r"[a-z0-9-]+", line)[0] for line in declared} == set(PACKAGES)


def test_the_lock_has_hashes_and_no_addresses():
    assert LOCK.count("--hash=sha256:") > LOCK.count("==")
    assert "://" not in LOCK


def test_no_folder_of_the_library_holds_more_than_fifteen_files():
    folders = Counter(path.parent for path in (ROOT / "src/sparsecnn").rglob("*.py"))
    assert {folder.name: files for folder, files in folders.items() if files > 15} == {}


def test_parsing_the_workflow_imports_nothing_slow():
    """Every job parses it anew; what computes and draws is imported where it is used."""
    imports = [
        line
        for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
        for line in path.read_text().splitlines()
        if line.startswith("from sparsecnn")
    ]
    assert len(imports) > 10
    slow = {"altair", "pandas", "scipy", "torch", "vl_convert"}
    code = "\n".join([*imports, "import sys", f"sys.exit(str({slow} & set(sys.modules) or ''))"])
    environment = {"PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert run.stderr.strip() == ""


@pytest.mark.parametrize("name", ["slurm", "cluster-generic"])
def test_profiles_group_every_rule_but_training(name):
    rules = {
        rule
        for path in (ROOT / "rules").glob("*.smk")
        for rule in re.findall(r"^rule (\w+):", path.read_text(), re.M)
    }
    groups = yaml.safe_load((ROOT / f"profiles/{name}/profile.yaml").read_text())["groups"]
    assert set(groups) == rules - {"train", "verify"}


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_says_that_a_folder_with_a_space_will_not_do_before_it_installs(tmp_path):
    folder = tmp_path / "my project"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    run = subprocess.run(["make", "demo"], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert f"has a space in it, and no job could start from a .venv here: {folder}" in run.stdout
    assert not (folder / ".venv").exists()


def test_what_jobs_begin_with_lets_ctrl_c_end_them_and_runs_the_environments_own(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('mine too')\n")
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)"
    path = os.pathsep.join([str(ROOT / "scripts/startup"), str(tmp_path)])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines() == ["mine too", "True"]


@pytest.mark.parametrize("kind", REGISTRY)
def test_every_registered_name_resolves(kind):
    for name in REGISTRY[kind]:
        assert callable(resolve(kind, name))
        assert module_of(kind, name).startswith("sparsecnn.")
    with pytest.raises(UserError, match=f"unknown {kind} 'none': choose one of "):
        resolve(kind, "none")


def test_the_snakefile_parses_without_torch():
    code = (
        "import sys; import sparsecnn, sparsecnn.digest, sparsecnn.registry, "
        "sparsecnn.study.config, sparsecnn.study.sources; "
        "sys.exit(bool({'torch', 'pandas', 'PIL'} & set(sys.modules)))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0


def test_every_setting_of_a_method_is_one_that_prune_takes():
    schema = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())["properties"]
    shared = set(schema["pruning"]["properties"]) - {"bn_recalibration"}
    accepted = set(inspect.signature(sparsecnn.prune).parameters)
    assert shared <= accepted
    sections = schema["methods"]["properties"]
    assert set(sections) == set(REGISTRY["method"])
    for name, section in sections.items():
        own = {field.name for field in fields(resolve("method", name))}
        assert set(section["properties"]) <= accepted | own
    offered = {key for section in sections.values() for key in section["properties"]}
    variant = schema["variants"]["additionalProperties"]["properties"]
    shown = set(schema["pruning"]["properties"]) | set(VARIANT_ONLY)
    assert set(variant) == offered | shown | {"method"}


def test_the_library_exports_what_it_names():
    assert sparsecnn.prune.__module__ == "sparsecnn.pruning.driver"
    with pytest.raises(AttributeError, match="has no attribute 'prunes'"):
        _ = sparsecnn.prunes
