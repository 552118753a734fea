"""README.md and the pages in docs: what they say can be run is there, their settings are valid."""

import re
from pathlib import Path

import pytest
import yaml

import sparsecnn
from sparsecnn.study.config import complete_config
from sparsecnn.study.config_files import gather, read_schema

ROOT = Path(sparsecnn.__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL = [*PAGES, *sorted((ROOT / "docs/results").rglob("README.md"))]
NAMED = [str(page.relative_to(ROOT)) for page in PAGES]
FIRST = ROOT / "README.md"


def blocks(page, language=""):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page):
    lines = [line for block in blocks(page) for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if not line.startswith((" ", "#"))]


def anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_first_page_is_short_and_shows_one_figure_and_one_table():
    lines = FIRST.read_text().splitlines()
    assert len(lines) <= 120
    prose = [line for line in lines if not line.startswith(("|", "!["))]
    assert max(map(len, prose)) <= 120
    assert sum(line.startswith("![") for line in lines) == 1
    assert sum(bool(re.match(r"\| -", line)) for line in lines) == 1


def test_the_examples_of_the_library_run_as_printed(capsys):
    prune, batch_norm = blocks(ROOT / "docs/library.md", "python")
    scope = {}
    exec(compile(prune, "library.md", "exec"), scope)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(scope["result"].layers) > 40
    assert "features.0.0 dense 3 input channels per group are not a multiple of 4" in printed[0]
    pruned = [layer for layer in scope["result"].layers if layer.status == "pruned"]
    assert min(layer.sparsity for layer in pruned) == 0.5
    before = scope["model"].features[0][1].running_mean.clone()
    exec(compile(batch_norm, "library.md", "exec"), scope)
    assert not before.equal(scope["model"].features[0][1].running_mean)


def test_the_examples_of_settings_are_valid(tmp_path):
    examples = blocks(ROOT / "docs/configuration.md", "yaml")
    assert len(examples) >= 6
    for example in examples:
        mine = tmp_path / "mine.yaml"
        mine.write_text(example)
        regimes = ["regimes={under_trained: {theirs: 5}, fully_trained: {theirs: 15}}"]
        files = [ROOT / "config.yaml", mine]
        entries = regimes if "theirs" in example else []
        complete_config(gather(files, entries, yaml.safe_load), read_schema())


def test_every_study_is_listed():
    page = (ROOT / "docs/configuration.md").read_text()
    for study in (ROOT / "studies").glob("*.yaml"):
        assert f"`studies/{study.name}`" in page


@pytest.mark.parametrize("page", PAGES, ids=NAMED)
def test_what_commands_name_is_there(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    for command in commands(page):
        for made in re.findall(r"^make ([\w-]+)", command):
            assert made in targets, command
        for path in re.findall(r"(?:studies|scripts|profiles|tests|benchmarks)/[\w./-]+", command):
            assert (ROOT / path).exists(), command
        if target := re.match(r"\S*snakemake(?: --cores \w+)? (?!-)(\w+)", command):
            assert f"rule {target[1]}:" in rules, command


@pytest.mark.parametrize("page", ALL, ids=[str(page.relative_to(ROOT)) for page in ALL])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=NAMED)
def test_paths_in_the_text_exist(page):
    start = r"(?:src|studies|schemas|docs|scripts|rules|profiles|tests|benchmarks)"
    for path in re.findall(rf"`({start}/[\w./-]+)`", page.read_text()):
        assert (ROOT / path).exists(), path
