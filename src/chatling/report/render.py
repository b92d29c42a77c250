"""Write a report as Markdown and as one HTML page, rendered from it, that needs nothing else: no
script, no font, no picture from elsewhere.
"""

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from chatling.files import building_folder
from chatling.report.document import Report
from chatling.report.figures import Figure, page_colors
from chatling.version import __version__

# All the raw HTML that the document holds; any other shows as text.
OWN_HTML = re.compile(r"<br>|<details>\n<summary>[^<>]*</summary>\n*|</details>\n*")
PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · {kind}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}</main>
<footer>{footer}</footer>
</body>
</html>
"""


def write_report(report: Report, folder: Path) -> None:
    """Write `report.md`, `report.html` and `figures/` into a folder that is replaced as a whole."""
    with building_folder(folder) as building:
        (building / "report.md").write_text(report.markdown, encoding="utf-8")
        (building / "report.html").write_text(to_html(report), encoding="utf-8")
        (building / "figures").mkdir()
        for path, figure in report.figures.items():
            (building / path).write_text(figure.file, encoding="utf-8")


def to_html(report: Report) -> str:
    """The page of a report."""
    parser = MarkdownIt("commonmark", renderer_cls=_Renderer).enable("table")
    tokens = parser.parse(report.markdown)
    for i, token in enumerate(tokens):
        figures = token.type == "paragraph_open" and tokens[i + 1].content.startswith("![")
        first_cell = token.type == "td_open" and tokens[i - 1].type == "tr_open"
        if figures or first_cell:
            token.tag = tokens[i + 2].tag = "div" if figures else "th"
            token.attrs = {"class": "figures"} if figures else {"scope": "row"}
    words = report.words
    return PAGE.format(
        language=words.code,
        title=escape(report.title),
        kind=words("chatling report"),
        style=page_colors() + (files("chatling.report") / "page.css").read_text(encoding="utf-8"),
        body=parser.renderer.render(
            tokens, parser.options, {"figures": report.figures, "words": words}
        ),
        footer=words(
            "Written by chatling {version} from the files of the run.", version=__version__
        ),
    )


class _Renderer(RendererHTML):
    """HTML of the document; whatever a model wrote, nothing in it runs, loads or styles."""

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A figure of the report as SVG; any other image only as its text."""
        figure: Figure | None = env["figures"].get(tokens[idx].attrGet("src"))
        if figure is None:
            return escape(tokens[idx].content)
        alt = escape(figure.alt)
        drawing = figure.svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
        return f"<figure>\n<figcaption>{escape(figure.title)}</figcaption>\n{drawing}\n</figure>"

    def html_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        text = tokens[idx].content
        return text if OWN_HTML.fullmatch(text) else escape(text)

    html_inline = html_block

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f'<pre tabindex="0">{escape(tokens[idx].content)}</pre>\n'

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A table scrolls by itself, also by keyboard, where the page is narrow."""
        label = env["words"]("table")
        return f'<div class="wide" tabindex="0" role="group" aria-label="{label}">\n<table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</table>\n</div>\n"
