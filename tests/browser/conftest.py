"""Pages of a tiny study, opened from disk in Debian's chromium with the network off."""

import shutil
import zipfile
from pathlib import Path

import pytest
from snakemake_project import ROOT, TINY, copy_project

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARTIFACTS = ROOT / "artifacts" / "browser"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
LABEL = '<b>digits</b> | "quoted" & `more`'
STUDY = TINY | {
    "dataset": TINY["dataset"] | {"label": LABEL},
    "regimes": {"under_trained": {"recipe": "small", "custom_cnn": 1}, "fully_trained": None},
    "seeds": [0, 1],
}


@pytest.fixture(scope="session")
def browser():
    """Chromium; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def project(browser, tmp_path_factory):
    """A project with a finished study of two seeds, and its Snakemake report unpacked in `site`."""
    project = copy_project(tmp_path_factory.mktemp("browser") / "project")
    project.snakemake(study=STUDY)
    project.snakemake("--report", "report.zip", study=STUDY)
    with zipfile.ZipFile(project / "report.zip") as archive:
        archive.extractall(project / "site")
    return project


@pytest.fixture
def visit(browser):
    """Open a page as (path, width, theme); afterwards nothing may be loaded or complained of."""
    contexts, faults = [], []

    def open_page(path: Path, width: int = 1280, theme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: _complaint(message, faults))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("request", lambda r: None if _local(r.url) else faults.append(f"loads {r.url}"))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


_SNAKEMAKES = ("cdn.tailwindcss.com should not be used", "spec uses Vega-Lite v")
"""Warnings of Snakemake's own report, which loads nothing for all that."""


def _complaint(message, faults):
    if not any(known in message.text for known in _SNAKEMAKES):
        faults.append(f"{message.type}: {message.text}")


def _local(url):
    return url.startswith(("file:", "data:", "blob:"))
