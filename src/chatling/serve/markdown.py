"""A model's Markdown as HTML that a page may show: whatever the model writes, nothing in it runs,
loads or styles.
"""

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock, heading
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

MAX_MARKDOWN = 32_768  # characters; some hostile texts take quadratic time
ALIGNMENTS = {"text-align:left": "left", "text-align:center": "center", "text-align:right": "right"}
MATH_LINES = 50  # of a formula, at most
# As pandoc tells a formula from a price: no blank inside its dollars, no digit after them. Each
# pattern reads no further than to the next sign of its kind.
INLINE_MATH = re.compile(
    r"\$\$(?P<dollars>(?:\\.|[^\\$])+)\$\$|\\\[(?P<brackets>(?:(?!\\[\[\]]).)+)\\\]"
    r"|\\\((?P<parens>(?:(?!\\[()]).)+)\\\)"
    r"|\$(?P<dollar>(?=\S)(?:\\.|[^\\$\n])+(?<=\S))\$(?!\d)",
    re.DOTALL,
)
DISPLAYED = ("dollars", "brackets")
MATH_BLOCK = {"$$": "$$", "\\[": "\\]"}  # how one begins and ends
ANSWER = re.compile(r"#+[ \t]+[^\w\s]*\d[\d\s.,:/%]*$")  # GSM8K's mark of a final answer


def render_markdown(text: str) -> str:
    """CommonMark with tables, strikethrough and formulas, which stay TeX for the page to set. Raw
    HTML shows as text, images as links, links only to http, https and mailto.
    """
    return _parser().render(text)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20, "breaks": True})
    parser.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])
    parser.validateLink = _harmless  # type: ignore[method-assign]
    parser.inline.ruler.before("escape", "math", _inline_math)
    ends = ["paragraph", "reference", "blockquote"]
    parser.block.ruler.before("fence", "math", _math_block, {"alt": [*ends, "list"]})
    parser.block.ruler.at("heading", _heading, {"alt": ends})
    rules = {
        "image": _image,
        "link_open": _link,
        "th_open": _cell,
        "td_open": _cell,
        "math": _math,
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


def _harmless(url: str) -> bool:
    return url.strip().lower().startswith(("http://", "https://", "mailto:"))


def _inline_math(state: StateInline, silent: bool) -> bool:
    found = INLINE_MATH.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        _push_math(state, found[found.lastgroup or 0], found.lastgroup in DISPLAYED)
    state.pos = found.end()
    return True


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A formula that begins a line and ends one."""
    closing = MATH_BLOCK.get(_line(state, start)[:2])
    if closing is None or state.is_code_block(start):
        return False
    for last in range(start, min(end, start + MATH_LINES)):
        whole = "\n".join(_line(state, line) for line in range(start, last + 1)).rstrip()
        if whole.endswith(closing) and whole[2:-2].strip():
            break
        if closing in whole[2:]:  # text follows it on its line
            return False
    else:
        return False
    if not silent:
        state.push("paragraph_open", "p", 1)
        _push_math(state, whole[2:-2].strip(), True)
        state.push("paragraph_close", "p", -1)
        state.line = last + 1
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _push_math(state: StateBlock | StateInline, content: str, displayed: bool) -> None:
    token = state.push("math", "span", 0)
    token.content, token.meta = content, {"displayed": displayed}


def _math(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
    kind = "math display" if tokens[idx].meta["displayed"] else "math"
    return f'<span class="{kind}">{escapeHtml(tokens[idx].content)}</span>'


def _heading(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A number alone is no heading."""
    return ANSWER.match(_line(state, start)) is None and heading(state, start, end, silent)


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
