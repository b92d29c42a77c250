"""A report's blocks as Markdown and as one HTML page that needs nothing else: no script, no font,
no picture from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from chatling.report.elements import (
    Block,
    Code,
    Figures,
    Folded,
    List,
    Report,
    SampleTable,
    Section,
    Table,
    Text,
    Tiles,
    all_figures,
)
from chatling.report.figures import Figure
from chatling.run_dir import building_folder
from chatling.version import __version__


def write_report(report: Report, folder: Path) -> None:
    """Write `report.md`, `report.html` and `figures/` into a folder that is replaced as a whole."""
    with building_folder(folder) as building:
        (building / "report.md").write_text(to_markdown(report), encoding="utf-8")
        (building / "report.html").write_text(to_html(report), encoding="utf-8")
        (building / "figures").mkdir()
        for figure in all_figures(report.blocks):
            (building / "figures" / f"{figure.name}.svg").write_text(figure.file, encoding="utf-8")


# ---- HTML ----


def to_html(report: Report) -> str:
    style = (files("chatling.report") / "page.css").read_text(encoding="utf-8")
    title, body = escape(report.title), "\n".join(map(_html, report.blocks))
    plural = "s" if " and " in report.title else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · chatling report</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
<footer>Written by chatling {__version__} from the files of the run{plural}.</footer>
</body>
</html>
"""


def _html(block: Block) -> str:
    match block:
        case Section(title, blocks, level):
            inner = "\n".join(map(_html, blocks))
            return f"<section>\n<h{level}>{escape(title)}</h{level}>\n{inner}\n</section>"
        case Text(text, kind):
            return f'<p class="{kind}">{_inline(text)}</p>'
        case Tiles(tiles):
            return f'<dl class="tiles">\n{chr(10).join(_html_tile(*tile) for tile in tiles)}\n</dl>'
        case Table():
            return _html_table(block)
        case Figures(figures):
            return f'<div class="figures">\n{chr(10).join(map(_html_figure, figures))}\n</div>'
        case SampleTable():
            return _html_answers(block)
        case List(items):
            return "<ul>\n" + "\n".join(f"<li>{_inline(item)}</li>" for item in items) + "\n</ul>"
        case Code(text):
            return f'<pre tabindex="0">{escape(text)}</pre>'
        case Folded(summary, blocks):
            inner = "\n".join(map(_html, blocks))
            return f"<details>\n<summary>{escape(summary)}</summary>\n{inner}\n</details>"


def _html_tile(name: str, value: str, remark: str) -> str:
    return (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>"
    )


def _inline(text: str) -> str:
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text, quote=False))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)


def _html_table(table: Table) -> str:
    head = "".join(
        f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in table.columns
    )
    top = f"<thead><tr>{head}</tr></thead>\n" if any(table.columns) else ""
    rows = "\n".join(_html_row(*row) for row in table.rows)
    kind = ' class="numbers"' if table.numbers else ""
    scrolls = '<div class="wide" tabindex="0" role="group" aria-label="table">'
    return f"{scrolls}<table{kind}>\n{top}<tbody>\n{rows}\n</tbody></table></div>"


def _html_row(first: str, *rest: str) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
    return f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'


def _html_figure(figure: Figure) -> str:
    drawing = figure.svg.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.alt)}" ', 1)
    return f"<figure>\n<figcaption>{escape(figure.title)}</figcaption>\n{drawing}\n</figure>"


def _html_answers(answers: SampleTable) -> str:
    cards = "\n".join(_html_card(*each) for each in answers.latest)
    earlier = "".join(
        f"<li><b>{escape(who)}</b> {_said(text)}</li>" for who, _, text in answers.earlier
    )
    folded = (
        f"<details><summary>How it came about</summary><ol>{earlier}</ol></details>"
        if earlier
        else ""
    )
    return (
        f'<section class="answers">\n<h3>{escape(answers.topic)}</h3>\n<div'
        f' class="cards">\n{cards}\n</div>{folded}\n</section>'
    )


def _html_card(who: str, prompt: str, text: str) -> str:
    return (
        f'<div class="card"><b>{escape(who)}</b><p class="asked">{escape(prompt)}</p><p'
        f' class="said">{_said(text)}</p></div>'
    )


def _said(text: str) -> str:
    return escape(text.strip()) or "<i>nothing</i>"


# ---- Markdown ----


def to_markdown(report: Report) -> str:
    body = "\n\n".join(_markdown(block) for block in report.blocks)
    return f"# {_safe(report.title)}\n\n{body}\n"


def _markdown(block: Block) -> str:
    match block:
        case Section(title, blocks, level):
            return "\n\n".join([f"{'#' * level} {_safe(title)}", *map(_markdown, blocks)])
        case Text(text, kind):
            return f"*{text}*" if kind == "note" else text
        case Tiles(tiles):
            return "\n".join(
                f"- {name}: **{value}**{f' ({remark})' if remark else ''}"
                for name, value, remark in tiles
            )
        case Table(columns, rows, numbers):
            return _markdown_table(columns, rows, numbers=numbers)
        case Figures(figures):
            return "\n".join(
                f"![{_safe(figure.alt)}](figures/{figure.name}.svg)" for figure in figures
            )
        case SampleTable(topic, latest, earlier):
            rows = tuple((who, prompt, text.strip()) for who, prompt, text in (*earlier, *latest))
            return f"### {_safe(topic)}\n\n" + _markdown_table(("", "prompt", "text"), rows)
        case List(items):
            return "\n".join(f"- {item}" for item in items)
        case Code(text):
            return f"```toml\n{text.rstrip()}\n```"
        case Folded(summary, blocks):
            return "\n\n".join([f"**{_safe(summary)}**", *map(_markdown, blocks)])


def _markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False
) -> str:
    rule = ["---", *["---:" if numbers else "---"] * (len(columns) - 1)]
    lines = [columns, rule, *([_safe(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _safe(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = re.sub(r"([\\`*_\[\]|#])", r"\\\1", escape(text, quote=False))
    return re.sub(r"\s*\n\s*", "<br>", text)
