"""The report as one HTML page: its Markdown, made safe, with figures and charts inside.

Of the HTML that Markdown may hold, ``<details>`` and ``<summary>`` are kept and all else is shown
as text, so that no name or label of a study can add anything to the page. Nothing is loaded from
anywhere; the page itself forbids it.
"""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup
from mdit_py_plugins.anchors import anchors_plugin
from vl_convert import javascript_bundle

from sparsecnn.report.language import gettext

_DETAILS = re.compile(r"\s*(?:(?:</?details>|<summary>[^<]*</summary>)\s*)+")
_Tokens = Sequence[Token]


class Heading(NamedTuple):
    """A line of the table of contents."""

    level: int
    anchor: str
    text: str


def render_page(
    markdown: str,
    template: str,
    *,
    style: str,
    script: str,
    figures: Mapping[str, bytes],
    charts: Mapping[str, Mapping[str, Any] | None],
    language: str = "en",
) -> str:
    """The page of a report; equal arguments give equal bytes.

    Parameters
    ----------
    markdown
        The report: CommonMark with tables.
    template
        The page around it, in Jinja.
    style, script
        CSS and JavaScript, which the page takes in.
    figures
        SVG of each figure, by its link in the report. An image of any other link is left out but
        for its text.
    charts
        Values that the script draws as a chart, by the link of the figure that it replaces; None
        where there is nothing to draw, which the page then says.
    language
        Of the report, as HTML names it; the page's own words are in the present one.
    """
    parser = _parser()
    env = {"figures": figures, "charts": charts}
    tokens = _without_contents(_with_figures(parser.parse(markdown, env)))
    headings = _headings(tokens)
    used = {link: charts[link] for link in sorted(_links(tokens)) if charts.get(link)}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["_"] = gettext
    return environment.from_string(template).render(
        language=language,
        title=next((h.text for h in headings if h.level == 1), ""),
        headings=[h for h in headings if h.level == 2],
        body=Markup(parser.renderer.render(tokens, parser.options, env)),
        style=Markup(style),
        script=Markup(_in_script(script)),
        charts=Markup(_json(used)),
        library=Markup(_library()) if used else "",
    )


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.use(anchors_plugin, min_level=1, max_level=3)
    rules = {
        "html_block": _html,
        "html_inline": _html,
        "table_open": _table_open,
        "table_close": _table_close,
        "image": _alternative,
        "figure": _figure,
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


def _html(_: Any, tokens: _Tokens, index: int, options: OptionsDict, env: Any) -> str:
    """Details and summaries as they are, all else as text."""
    content = tokens[index].content
    if tokens[index].type == "html_block" and _DETAILS.fullmatch(content):
        return content
    return f"<p>{html.escape(content)}</p>" if tokens[index].block else html.escape(content)


def _with_figures(tokens: _Tokens) -> list[Token]:
    """Paragraphs that are one image become figures."""
    found, i = [], 0
    while i < len(tokens):
        inner = tokens[i + 1].children if tokens[i].type == "paragraph_open" else None
        if inner and len(inner) == 1 and inner[0].type == "image":
            found.append(Token("figure", "", 0, children=inner, block=True))
            i += 3
        else:
            found.append(tokens[i])
            i += 1
    return found


def _without_contents(tokens: _Tokens) -> list[Token]:
    """Without paragraphs of links into the report itself: the page has a contents of its own."""
    found, i = [], 0
    while i < len(tokens):
        inner = (tokens[i + 1].children or []) if tokens[i].type == "paragraph_open" else []
        links = [str(child.attrGet("href")) for child in inner if child.type == "link_open"]
        if len(links) > 2 and all(link.startswith("#") for link in links):
            i += 3
        else:
            found.append(tokens[i])
            i += 1
    return found


def _headings(tokens: _Tokens) -> list[Heading]:
    return [
        Heading(int(token.tag[1]), str(token.attrGet("id")), _text(tokens[i + 1]))
        for i, token in enumerate(tokens)
        if token.type == "heading_open"
    ]


def _text(token: Token) -> str:
    children = token.children or []
    return "".join(c.content for c in children if c.type in ("text", "code_inline", "html_inline"))


def _links(tokens: _Tokens) -> set[str]:
    return {
        str((token.children or [])[0].attrGet("src")) for token in tokens if token.type == "figure"
    }


def _table_open(*_: Any) -> str:
    return '<div class="table"><table>\n'


def _table_close(*_: Any) -> str:
    return "</table></div>\n"


def _alternative(_: Any, tokens: _Tokens, index: int, options: OptionsDict, env: Any) -> str:
    return html.escape(tokens[index].content)


def _figure(_: Any, tokens: _Tokens, index: int, options: OptionsDict, env: Any) -> str:
    picture = (tokens[index].children or [])[0]
    link, text = str(picture.attrGet("src")), html.escape(_text(picture))
    charts, caption = env["charts"], f"<figcaption>{text}</figcaption>"
    if link not in env["figures"] or charts.get(link, {}) is None:
        return f'<figure class="empty">{caption}</figure>\n'
    data = base64.b64encode(env["figures"][link]).decode()
    chart = f' data-chart="{html.escape(link)}"' if link in charts else ""
    image = f'<img alt="{text}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure{chart}>{image}{caption}</figure>\n"


def _json(value: Any) -> str:
    """JSON that can stand inside a script element. Raises ValueError on NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@cache
def _library() -> str:
    """Vega-Lite and what it needs, which bring `vegaEmbed`."""
    return _in_script(javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _in_script(script: str) -> str:
    """A script that nothing in it ends early."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", script, flags=re.I)
