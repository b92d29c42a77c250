"""A model's Markdown as HTML that a page may show: whatever the model writes, nothing in it runs,
loads or styles.
"""

from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

MAX_MARKDOWN = 32_768  # characters; some hostile texts take quadratic time
ALIGNMENTS = {"text-align:left": "left", "text-align:center": "center", "text-align:right": "right"}


def render_markdown(text: str) -> str:
    """CommonMark with tables and strikethrough. Raw HTML shows as text, images as links, links only
    to http, https and mailto.
    """
    return _parser().render(text)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20, "breaks": True})
    parser.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])
    parser.validateLink = _harmless  # type: ignore[method-assign]
    rules = {"image": _image, "link_open": _link, "th_open": _cell, "td_open": _cell}
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


def _harmless(url: str) -> bool:
    return url.strip().lower().startswith(("http://", "https://", "mailto:"))


# The page's policy forbids inline styles and foreign images, so alignment is a class and an image
# its link. Each rule is called as a method of the renderer.


def _image(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
    source = str(tokens[idx].attrGet("src") or "")
    link = _outward(Token("link_open", "a", 1, attrs={"href": source}))
    text = self.renderInlineAsText(tokens[idx].children or [], options, env) or source
    return self.renderToken([link], 0, options, env) + escapeHtml(text) + "</a>"


def _link(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
    return self.renderToken([_outward(tokens[idx])], 0, options, env)


def _cell(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
    style = tokens[idx].attrs.pop("style", None)
    if style in ALIGNMENTS:
        tokens[idx].attrSet("class", ALIGNMENTS[str(style)])
    return self.renderToken(tokens, idx, options, env)


def _outward(link: Token) -> Token:
    """Opens beside the page and tells the other side nothing of it."""
    link.attrSet("rel", "noopener noreferrer nofollow")
    link.attrSet("target", "_blank")
    return link
