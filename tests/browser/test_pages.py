"""The report's page and Snakemake's own report, as a reader meets them."""

import csv
import re

import pytest

from conftest import ARTIFACTS, LABEL
from sparsecnn.report.chart_parts import on_page, picture
from sparsecnn.report.charts import budgets_chart
from sparsecnn.report.html import render_page
from unit.study_example import ROOT, results

pytestmark = pytest.mark.browser

CHARTS = "figure[data-chart] .chart svg.marks"
POINTS = "path[aria-roledescription='point']"


@pytest.fixture
def report(project):
    return project / "results/tiny/report/report.html"


def drawn(page):
    """The page with all its charts drawn."""
    expected = page.locator("figure[data-chart]").count()
    page.wait_for_function(f'document.querySelectorAll("{CHARTS}").length === {expected}')
    assert page.locator("figure.drawn").count() == expected > 0
    return page


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_are_drawn_and_nothing_is_wider_than_the_page(visit, report, width, theme):
    page = drawn(visit(report, width, theme))
    assert page.locator(CHARTS).count() >= 3
    for chart in page.locator(CHARTS).all():
        assert chart.locator(POINTS).count() > 0
        box = chart.bounding_box()
        assert 0 < box["x"] < box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"report-{width}-{theme}.png", full_page=True)


def places(figure):
    """Where the titles of a figure's panels are."""
    boxes = [title.bounding_box() for title in figure.locator(".role-title-text").all()]
    return [(round(box["x"]), round(box["y"])) for box in boxes]


@pytest.mark.parametrize("wide_first", [True, False])
def test_panels_stand_side_by_side_or_one_below_the_other(visit, tmp_path, wide_first):
    """In a chart of two panels; when the window's width changes, they move."""
    chart = budgets_chart(results(regimes={"fully_trained": {"vgg16": 5, "resnet18": 5}}))
    parts = {n: (ROOT / "report" / f"report.{n}").read_text() for n in ("html.j2", "css", "js")}
    text = render_page(
        "![Curve](a.svg)",
        parts["html.j2"],
        style=parts["css"],
        script=parts["js"],
        figures={"a.svg": picture(chart)[0].encode()},
        charts={"a.svg": on_page(chart)},
    )
    (tmp_path / "page.html").write_text(text)
    widths = [1280, 390] if wide_first else [390, 1280]
    page = drawn(visit(tmp_path / "page.html", widths[0]))
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(1000)
        (left, top), (right, beside), *others = places(page.locator("figure"))
        assert len(others) == 2
        assert (left < right, top == beside) if width > 390 else (left == right, top < beside)
        assert page.locator(CHARTS).bounding_box()["width"] > 0.8 * min(width - 40, 900)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_barrier(visit, report, theme):
    from axe_playwright_python.sync_playwright import Axe

    page = drawn(visit(report, theme=theme))
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    found = Axe().run(page).response["violations"]
    grave = [v for v in found if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"]) for v in grave] == []


def test_pointing_at_a_mark_shows_exact_numbers_seeds_and_folder(visit, project, report):
    page = drawn(visit(report))
    with (project / "results/tiny/metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "magnitude"]
    figure = page.locator("figure[data-chart$='accuracy.svg']")
    marks = figure.locator(f"{POINTS}[aria-label*='magnitude'][aria-label*='mean']")
    marks.last.hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    text = tooltip.inner_text()
    for row in rows:
        # As many digits as tell it from its neighbours, which is what JavaScript writes too.
        exact = re.escape(repr(float(row["top1"])).removesuffix(".0"))
        assert re.search(rf"seed {row['seed']}\s+{exact}\s", text), text
    assert "results/tiny/custom_cnn/small/epochs-1/seed-{0,1}/magnitude" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("quadratic_model", r"measured\s+-?[\d.e-]+\s+quadratic model\s+-?[\d.e-]+"),
        ("accumulation", r"layer\s+\w+\.\d+\s+mean\s+[\d.e-]+ %"),
    ],
)
def test_pointing_at_a_diagnosis_shows_what_was_measured(visit, report, name, said):
    page = drawn(visit(report))
    figure = page.locator(f"figure[data-chart$='{name}.svg']")
    figure.locator(POINTS).last.hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    assert re.search(said, tooltip.inner_text()), tooltip.inner_text()
    assert "results/tiny/custom_cnn/small/epochs-1/seed-" in tooltip.inner_text()


def test_a_legend_shows_series_alone_by_mouse_and_keyboard(visit, report):
    page = drawn(visit(report))
    figure = page.locator("figure[data-chart$='accuracy.svg']")

    def shown():
        labels = [mark.get_attribute("aria-label") for mark in figure.locator(POINTS).all()]
        return {re.search(r"variant: (\w+)", label)[1] for label in labels}

    def until(*names):
        for _ in range(100):
            if shown() == {*names}:
                return
            page.wait_for_timeout(50)
        assert shown() == {*names}

    every = shown()
    assert {"dense", "magnitude"} < every
    magnitude = figure.get_by_role("button", name="magnitude")
    magnitude.click()
    until("magnitude")
    assert magnitude.get_attribute("aria-pressed") == "true"
    dense = figure.get_by_role("button", name="dense")
    assert dense.get_attribute("aria-pressed") == "false"
    dense.focus()
    page.keyboard.press("Enter")
    until("magnitude", "dense")
    assert dense.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    until("magnitude")
    magnitude.click()
    until(*every)
    assert magnitude.get_attribute("aria-pressed") == "false"


def test_tables_are_sorted_by_mouse_and_keyboard(visit, report):
    page = drawn(visit(report))
    table = page.locator("table").filter(has_text="Drop (points)").first
    header = table.locator("th").filter(has_text="Top-1 (%)")
    column = header.evaluate("th => th.cellIndex")

    def values():
        cells = table.locator(f"tbody tr td:nth-child({column + 1})").all_inner_texts()
        return [float(re.match(r"[\d.]+", cell)[0]) for cell in cells]

    original = values()
    assert len(set(original)) > 1, "nothing to sort"
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(original)
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert values() == sorted(original, reverse=True)
    page.keyboard.press("Space")
    assert header.get_attribute("aria-sort") is None
    assert values() == original


def test_contents_lead_to_every_section(visit, report):
    page = drawn(visit(report, width=390))
    links = page.locator("nav a")
    assert links.count() >= 8
    page.locator("nav summary").click()
    links.last.click()
    assert page.locator("nav details").get_attribute("open") is None
    page.wait_for_function("window.scrollY > 1000")


def test_details_open_and_a_label_is_text(visit, report):
    page = drawn(visit(report))
    details = page.locator("main details").first
    details.locator("summary").click()
    assert details.get_attribute("open") is not None
    assert LABEL in page.locator("main").inner_text()
    assert page.locator("main b").count() == 0


def test_it_prints_whole_on_paper(visit, report):
    page = drawn(visit(report, theme="dark"))
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    pdf = page.pdf(path=ARTIFACTS / "report.pdf", format="A4")
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert all(image.is_visible() for image in page.locator("figure[data-chart] > img").all())


def test_without_scripts_figures_stand_in(browser, report):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    assert all(image.is_visible() for image in page.locator("figure > img").all())
    context.close()


def test_snakemakes_report_is_a_finished_site(visit, project):
    home = project / "site/report/report.html"
    page = visit(home)
    assert "Study tiny" in page.locator("body").inner_text()
    for part in ("Workflow", "Statistics"):
        page = visit(home)
        page.locator("a").filter(has_text=part).click()
        page.locator("canvas, svg.marks").first.wait_for()
    for category, entries in (
        ("Figures", ("accuracy", "drop", "layer error", "ablation")),
        ("Tables", ("every network", "claims")),
        ("Report", ("Markdown", "page")),
    ):
        page = visit(home)
        page.locator("a").filter(has_text=category).last.click()
        for entry in entries:
            page.locator("tr").filter(has_text=entry).wait_for()
    page.locator("tr").filter(has_text="page").locator("a").first.click()
    shown = page.frame_locator("iframe")
    shown.locator(CHARTS).first.wait_for()
    assert "Pruning after training" in shown.locator("h1").inner_text()
