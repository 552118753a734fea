import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from study_example import ROOT, ablation_config, ablation_results, ablation_values, report, results

from sparsecnn.report.chart_parts import on_page
from sparsecnn.report.charts import accuracy_chart
from sparsecnn.report.html import render_page
from sparsecnn.report.text import escaped, table

PARTS = {
    name: (ROOT / "report" / f"report.{suffix}").read_text(encoding="utf-8")
    for name, suffix in (("template", "html.j2"), ("style", "css"), ("script", "js"))
}
HOSTILE = "a | <script>alert(1)</script> & **b** `c` [d](http://e) 'f' \"g\" \n<details open>\\"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
LINK = "figures/accuracy.svg"


class Page(HTMLParser):
    """Elements with their attributes, and the text outside scripts."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page(markdown, figures=None, charts=None, **other):
    return render_page(markdown, **PARTS, figures=figures or {}, charts=charts or {}, **other)


def body(markdown, **other):
    return re.search(r"<main.*?>(.*)</main>", page(markdown, **other), re.S)[1]


@pytest.mark.parametrize(
    "table",
    [
        results(),
        results(seeds=(0,), regimes={"under_trained": {"vgg16": 5}}, variants=("sparsegpt",)),
    ],
    ids=["whole", "one of each"],
)
def test_every_cell_and_anchor_of_the_markdown_is_in_the_page(table):
    markdown = report(table)
    found = Page(page(markdown))
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    rules = [line for line in markdown.splitlines() if re.fullmatch(r"\|[ :|-]+\|", line)]
    assert len(found.all("tr")) == len(rows) - len(rules)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"] for a in found.all("a")}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {link for link in links if not link.startswith("#")} == {"report.ko.md"}
    for title in re.findall(r"^## (.*)$", markdown, re.M):
        assert found.text.count(title) >= 2  # its heading, and its line in the contents
    assert markdown.count("<details>") == len(found.all("details")) - 1
    assert not re.search(r"\bnan\b|\bNone\b|\bundefined\b", found.text, re.I)


def test_an_ablations_page_is_whole():
    config = ablation_config()
    settings = {key: config[key] for key in ("pruning", "methods", "variants")}
    markdown = report(ablation_results(config), ablation_values(config), settings)
    found = Page(page(markdown))
    assert markdown.count("<summary>") == len(found.all("summary")) - 1
    assert "<details>" not in found.text


def test_a_label_is_shown_as_it_is_written():
    label = " ".join(HOSTILE.split())
    found = Page(page(report(results(dataset=HOSTILE))))
    assert found.text.count(label) >= 3
    assert len(found.all("script")) == 3
    assert not [a for a in found.all("a") if "://" in a["href"]]
    plain = Page(page(report(results())))
    assert len(found.all("details")) == len(plain.all("details"))


def test_an_escaped_text_stays_in_its_cell_of_a_table():
    found = Page(body(table(pd.DataFrame({"a": [escaped(HOSTILE)], "b": ["2"]}))))
    assert [name for name, _ in found.elements].count("td") == 2
    assert " ".join(HOSTILE.split()) in found.text


@pytest.mark.parametrize(
    "raw",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "text <b onclick=x>b</b>",
        "<details ontoggle=alert(1)>",
        "<summary>a</summary><script>alert(1)</script><summary></summary>",
        "<style>* { display: none }</style>",
        "[a](javascript:alert(1))",
        "![a](data:text/html,x)",
        "![a](https://example.org/a.svg)",
    ],
)
def test_html_that_is_not_the_templates_is_text(raw):
    found = Page(body(f"before\n\n{raw}\n\nafter"))
    assert {tag for tag, _ in found.elements} <= {"p", "figure", "figcaption"}
    assert all(set(attributes) <= {"class"} for _, attributes in found.elements)


def test_details_of_the_template_work():
    found = body("<details>\n<summary>A &amp; b</summary>\n\n**c**\n\n</details>\n")
    assert re.sub(r"\s+", "", found) == (
        "<details><summary>A&amp;b</summary><p><strong>c</strong></p></details>"
    )


def test_a_figure_is_its_chart_or_its_picture_or_says_that_it_is_empty():
    markdown = f"![A & b]({LINK})"
    chart = on_page(accuracy_chart(results()))
    drawn = Page(page(markdown, {LINK: SVG}, {LINK: chart}))
    assert drawn.all("figure") == [{"data-chart": LINK}]
    assert drawn.all("img")[0]["alt"] == "A & b"
    assert drawn.all("img")[0]["src"].startswith("data:image/svg+xml;base64,")
    still = Page(page(markdown, {LINK: SVG}))
    assert (still.all("figure"), len(still.all("img"))) == ([{}], 1)
    empty = Page(page(markdown, {LINK: SVG}, {LINK: None}))
    assert (empty.all("figure"), empty.all("img")) == ([{"class": "empty"}], [])


def test_nothing_is_loaded_and_the_same_report_has_the_same_bytes():
    charts = {LINK: on_page(accuracy_chart(results()))}
    source = page(report(results()), {LINK: SVG}, charts)
    assert source == page(report(results()), {LINK: SVG}, charts)
    found = Page(source)
    policy = next(m["content"] for m in found.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not found.all("link")
    assert not [a for _, a in found.elements if not a.get("src", "data:").startswith("data:")]
    assert not re.search(r"@import|url\(", PARTS["style"])
    assert "vegaEmbed=" in source.replace(" ", "")


def test_a_script_cannot_end_early():
    hostile = {"legend": ["</script><script>alert(1)</script><!--"]}
    found = Page(page(f"![a]({LINK})", {LINK: SVG}, {LINK: hostile}))
    assert len(found.all("script")) == 3


def test_language_and_title():
    source = page("# Study `a` & <b>\n", language="ko")
    assert '<html lang="ko">' in source
    assert "<title>Study a &amp; &lt;b&gt;</title>" in source
