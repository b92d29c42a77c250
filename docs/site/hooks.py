"""What mkdocs does for this site beyond its settings: a page for each file that a link names, the
language of each page, figures and diagrams inside the page, and the page that chats.
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diagrams import drawn as drawn_diagram  # beside this file, as mkdocs allows
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
LIVE = ROOT / "build" / "live"  # `make docs` exports the pocket run's page there
LIVE_PAGE = "live/pocket.html"
LIVE_ON = ("path/README.md", "path/11-answers.md")  # pages that end with it, in both languages
WHOLE = re.DOTALL | re.MULTILINE
FENCES = re.compile(r"(^ *```.*?^ *```$)", WHOLE)
# A line break between Chinese characters or signs, which a browser would show as a blank.
WIDE_BREAK = re.compile(r"(?<=[\u2e80-\u9fff\uff00-\uffef])\n(?=[\u2e80-\u9fff\uff00-\uffef])")
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
# What a page or a style sheet loads by itself, as opposed to where a link leads.
LOADS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object|use|image)\b[^>]*?\b(?:src|href|data)="?((?:https?:)?//[^\s">]+)"""
    r"""|<link\b(?=[^>]*\brel="?(?:stylesheet|icon|preload|preconnect|prefetch|modulepreload|manifest))[^>]*?\bhref="?((?:https?:)?//[^\s">]+)"""
    r"""|url\(["']?((?:https?:)?//[^)"']+)|@import\s+["']((?:https?:)?//[^"']+)"""
)
WORDS = {"py": "python", "toml": "toml", "js": "js", "cpp": "cpp"}  # languages of code


def slug(title: str, separator: str) -> str:
    """A heading's anchor, as on GitHub."""
    return re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", separator)


def on_config(config: Any) -> Any:
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to and docs/ does not hold: other pages of the repository, sources."""
    files.append(_added(config, "site/temml.min.js", ROOT / "src/chatling/serve/ui/temml"))
    pages = {file.src_uri: f"docs/{file.src_uri}" for file in files.documentation_pages()}
    waiting = [(ROOT / path, path) for path in pages.values()]
    while waiting:
        file, path = waiting.pop()
        for target in _targets(file.read_text(encoding="utf-8"), path):
            found, page = ROOT / target, _page(target)
            if page in pages or target.startswith("docs/") or not found.exists():
                continue
            pages[page] = target
            if found.suffix == ".md":
                waiting.append((found, target))
                files.append(_added(config, page, ROOT))
            else:
                files.append(File.generated(config, page, content=_source(found, target)))
    config.extra["paths"] = pages
    live = Path(config.extra.get("live", LIVE))
    if (live / "pocket.html").is_file():
        files.append(_added(config, LIVE_PAGE, live))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make links and pictures lead to where the site has what they name."""
    here = config.extra["paths"].get(page.file.src_uri, page.file.src_uri)
    if page.file.src_uri.startswith("code/"):
        return markdown

    def moved(link: re.Match[str]) -> str:
        target = _resolved(link[2], here)
        if target.startswith("docs/"):
            place = target.removeprefix("docs/")
        else:
            place = _page(target)
        if files.get_file_from_path(place) is None and not place.endswith(".md"):
            return link[0]
        start = posixpath.dirname(page.file.src_uri)
        return link[1] + posixpath.relpath(place, start or ".") + (link[3] or "")

    parts = FENCES.split(markdown)
    parts[::2] = [WIDE_BREAK.sub("", LINK.sub(moved, part)) for part in parts[::2]]
    text = re.sub(
        r"^```mermaid\n(.*?)^```$",
        lambda diagram: f'<div class="wide" tabindex="0">{drawn_diagram(diagram[1])}</div>',
        "".join(parts),
        flags=WHOLE,
    )
    # ```math is TeX, as on GitHub
    return re.sub(r"^```math\n(.*?)^```$", r"$$\n\1$$", text, flags=WHOLE)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Put the figures inside of the page, whose colors they take, and the page that chats."""

    def drawn(image: re.Match[str]) -> str:
        svg = (DOCS / "figures" / image["name"]).read_text(encoding="utf-8")
        svg = re.sub(r"<style>:root.*?</style>", "", svg, count=1, flags=re.DOTALL)
        return svg.replace(
            "<svg ", f'<svg class="figure" role="img" aria-label="{image["alt"]}" ', 1
        )

    html = re.sub(r"<th(\b[^>]*)></th>", r"<td\1></td>", html)  # an empty cell heads nothing
    if page.file.src_uri.removeprefix("zh/") in LIVE_ON and files.get_file_from_path(LIVE_PAGE):
        to = get_relative_url(LIVE_PAGE, page.url)
        html += f'<iframe class="live" src="{to}" title="pocket, a model that chats in this page"></iframe>'
    return re.sub(
        r'<img alt="(?P<alt>[^"]*)" src="[^"]*figures/(?P<name>[\w-]+\.svg)" ?/?>', drawn, html
    )


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> Any:
    """The theme's words and the contents at the side in the page's language, and a link to the
    page's twin.
    """
    chinese = page.file.src_uri.startswith("zh/") or "zh-CN" in page.file.src_uri
    config.theme["language"] = "zh" if chinese else "en"
    context["nav"] = copy.copy(nav)
    context["nav"].items = nav.items[chinese].children
    config.extra["homepage"] = "zh/index.html" if chinese else "index.html"
    known = config.extra["paths"]
    english = page.file.src_uri.removeprefix("zh/")
    for other, uri in zip(config.extra["alternate"], (english, f"zh/{english}"), strict=True):
        # from the site's root; the theme makes it relative to the page
        start = "" if other["lang"] == "en" else "zh/"
        other["link"] = (
            File.generated(config, uri, content="").url if uri in known else f"{start}index.html"
        )
    return context


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The theme's search is a dialog without a name."""
    name = "搜索" if config.theme["language"] == "zh" else "Search"
    return output.replace(
        'data-md-component="search" role="dialog"',
        f'data-md-component="search" role="dialog" aria-label="{name}"',
    )


def on_post_build(config: Any) -> None:
    found = [
        f"{path.name} loads {load}"
        for path in sorted(Path(config.site_dir).rglob("*"))
        if path.suffix in (".html", ".css")
        for load in foreign_loads(path.read_text(encoding="utf-8"))
    ]
    if found:
        raise PluginError("The site must load nothing from other hosts: " + "; ".join(found))


def foreign_loads(text: str) -> list[str]:
    """The addresses on other hosts that a page's HTML, or a style sheet, loads."""
    text = re.sub(r"<pre\b.*?</pre>", "", text, flags=re.DOTALL)
    return [next(filter(None, load.groups())) for load in LOADS.finditer(text)]


def _added(config: Any, uri: str, folder: Path) -> File:
    return File.generated(config, uri, abs_src_path=str(folder / uri.rpartition("/")[2]))


def _targets(text: str, path: str) -> Iterator[str]:
    for part in FENCES.split(text)[::2]:
        yield from (_resolved(link[2], path) for link in LINK.finditer(part))


def _resolved(link: str, path: str) -> str:
    """A link of the repository's file `path`, from the repository's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _page(target: str) -> str:
    """The page of the site that shows a file of the repository which lies outside of docs/."""
    return f"repository/{target}" if target.endswith(".md") else f"code/{target}.md"


def _source(file: Path, target: str) -> str:
    language = WORDS.get(file.suffix[1:], "text")
    head = f"---\nsearch: {{exclude: true}}\n---\n# {target}\n\n"
    if file.is_dir():
        return head + "\n".join(f"- `{inside.name}`" for inside in sorted(file.iterdir()))
    return f'{head}````{language} linenums="1"\n{file.read_text(encoding="utf-8")}\n````\n'
