"""Whatever a model writes, the page gets nothing that runs, loads or styles."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.serve.markdown import MAX_MARKDOWN, render_markdown

ATTRIBUTES = {"href", "title", "rel", "target", "class", "start"}
TAGS = {
    "p",
    "a",
    "em",
    "strong",
    "s",
    "code",
    "pre",
    "br",
    "hr",
    "ul",
    "ol",
    "li",
    "blockquote",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "span",
}

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![x](http://evil.test/track.png)",
    "![x](javascript:alert(1))",
    "<a href='javascript:alert(1)'>x</a>",
    "[x](vbscript:x)",
    "<svg/onload=alert(1)>",
    '```"><script>alert(1)</script>\n```',
    '```x" onmouseover="alert(1)\ncode\n```',
    '[x](http://a.test/"onmouseover="alert(1))',
    "[x]: javascript:alert(1)\n\n[x]",
    "| a |\n|:-:|\n| <b onclick=x>y</b> |",
    "<style>body{display:none}</style>",
    "<iframe src=//evil.test>",
    "&lt;script&gt;",
    "<!-- x -->",
    "[x](file:///etc/passwd)",
    "<http://ok.test>",
    "<javascript:alert(1)>",
    "[x](  javascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "$<img src=x onerror=alert(1)>$ \\(</span><script>\\)",
    "$$\n</span><script>alert(1)</script>\n$$",
]


class Inspector(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            if name == "href":
                assert (value or "").lower().startswith(("http://", "https://", "mailto:")), value

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def inspect(html: str) -> str:
    Inspector().feed(html)
    return html


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown_is_inert(text: str) -> None:
    inspect(render_markdown(text))


@given(
    st.text(max_size=300),
    st.lists(
        st.sampled_from([*HOSTILE, "<", "[", "](", "`", "*", "|", "\n", "\n\n", "- "]), max_size=12
    ),
)
def test_any_text_is_inert(text: str, pieces: list[str]) -> None:
    inspect(render_markdown("".join(pieces) + text))
    inspect(render_markdown(text + "".join(reversed(pieces))))


def test_what_is_rendered() -> None:
    html = inspect(
        render_markdown(
            "# T\n\n**b** *i* ~~s~~ `c`\n\n- 1\n\n| l | r |\n|:--|--:|\n| 1 | 2 |\n\n```py\nx <"
            " 1\n```\n[a](https://b.test)"
        )
    )
    for part in (
        "<h1>T</h1>",
        "<strong>b</strong>",
        "<s>s</s>",
        "<code>c</code>",
        '<td class="right">2</td>',
        "x &lt; 1",
        'href="https://b.test" rel="noopener noreferrer nofollow" target="_blank"',
    ):
        assert part in html
    image = inspect(render_markdown("![a cat](https://b.test/cat.png)"))
    assert "a cat</a>" in image
    assert "a<br" in render_markdown("a\nb")


@pytest.mark.parametrize(
    ("text", "tex", "kind"),
    [
        ("so $x_1*y*z$.", "x_1*y*z", "math"),
        (r"so \(a_b_c\)", "a_b_c", "math"),
        (r"so \[ \frac{1}{2} \]", r" \frac{1}{2} ", "math display"),
        ("$$a < b$$", "a &lt; b", "math display"),
        ("text\n$$\n- a\n= b \\\\\n\n# c\n$$\nafter", "- a\n= b \\\\\n\n# c", "math display"),
        ("- item\n  \\[\n  x\n  \\]", "x", "math display"),
        ("> $$\n> x\n> $$", "x", "math display"),
    ],
)
def test_formulas_stay_tex(text: str, tex: str, kind: str) -> None:
    assert f'<span class="{kind}">{tex}</span>' in inspect(render_markdown(text))


@pytest.mark.parametrize(
    "text",
    [
        "It costs $18, and $5 more.",
        "from $5 to $10",
        "$5-$3",
        r"\$a\$",
        "`$x$`",
        "```\n$$\nx\n$$\n```",
        "    $$\n    x\n    $$",
        "$$ no end\n\n",
    ],
)
def test_prices_and_code_are_no_formulas(text: str) -> None:
    assert "math" not in render_markdown(text)


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        ("so 9*3\n#### 27", False),
        ("#### $1,234.50", False),
        ("#### 27 pens", True),
        ("# 1. A", True),
    ],
)
def test_a_final_answer_is_no_heading(text: str, heading: bool) -> None:
    html = render_markdown(text)
    assert ("<h" in html) == heading
    assert ("#" not in html) == heading


@pytest.mark.parametrize(
    "piece",
    [*"[*`<\\$", "![](", "> ", "- ", "**a", "[a](", "||", "&#", "~~", "_a_ ", "$$\n", "\\[", "$x "],
)
def test_hostile_lengths_take_no_age(piece: str) -> None:
    start = time.perf_counter()
    render_markdown((piece * MAX_MARKDOWN)[:MAX_MARKDOWN])
    assert time.perf_counter() - start < 10
