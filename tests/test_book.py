"""The path for students (docs/path): its two languages are in step, its links name what stands in
the code, its exercises have solutions, and its pictures are those that docs/figures.py draws.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ENGLISH = sorted((DOCS / "path").glob("*.md"))
PATH = [page for page in ENGLISH if page.name[0].isdigit()]
CODE_LINK = re.compile(r"\[`([\w.]+)`\]\(((?:\.\./)+src/[\w/.]+\.py)\)")


def twin(page: Path) -> Path:
    return DOCS / "zh" / page.relative_to(DOCS)


def commands(text: str) -> list[str]:
    """Command lines, in fences and between backticks, without the remarks behind them."""
    return sorted(
        {
            re.split(r" {3,}", " ".join(line.split("#")[0].rstrip().splitlines()))[0]
            for line in re.findall(r"(?:^|`)((?:chatling|make|git|cd|source) [^`\n]+)", text, re.M)
        }
    )


def figures(text: str) -> list[str]:
    return re.findall(r"figures/([\w-]+\.svg)", text)


def test_both_languages_have_the_same_pages() -> None:
    names = {page.name for page in (DOCS / "path").glob("*.md")}
    assert {page.name for page in (DOCS / "zh/path").glob("*.md")} == names
    assert len(PATH) == 12


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.name)
def test_a_page_and_its_twin_are_in_step(page: Path) -> None:
    """The same commands, pictures, links into the code, formulas and headings in number."""
    english, chinese = (each.read_text("utf-8") for each in (page, twin(page)))
    assert commands(chinese) == commands(english)
    assert figures(chinese) == figures(english)
    assert [name for name, _ in CODE_LINK.findall(chinese)] == [
        name for name, _ in CODE_LINK.findall(english)
    ]
    for mark in (r"^```math", r"^#+ ", r"^<details", r"^\| ---"):
        assert len(re.findall(mark, chinese, re.M)) == len(re.findall(mark, english, re.M)), mark


@pytest.mark.parametrize("page", [*PATH, *map(twin, PATH)], ids=lambda page: str(page)[-30:])
def test_links_into_the_code_name_what_is_defined_there(page: Path) -> None:
    links = CODE_LINK.findall(page.read_text("utf-8"))
    assert links or page.name.startswith("12")
    for name, path in links:
        source = (page.parent / path).resolve()
        defined = rf"^\s*(?:def|class) {name}\b" if "." not in name else ""
        assert source.is_file(), path
        assert re.search(defined, source.read_text("utf-8"), re.M), f"{name} is not in {path}"
        assert defined or source.name == name


@pytest.mark.parametrize("page", PATH, ids=lambda page: page.name)
def test_an_exercise_has_its_solution(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.count("## Exercise") == text.count("<summary>Solution</summary>") == 1
    assert len(text.split()) < 1200  # a quarter of an hour


def test_every_picture_is_drawn_by_the_script_and_is_on_a_page() -> None:
    script = (DOCS / "figures.py").read_text("utf-8")
    listed = re.search(r"^FIGURES.*?= \((.*?)\)", script, re.S | re.M)
    assert listed
    drawn = set(re.findall(r"\w+", listed[1]))
    files = {path.stem for path in (DOCS / "figures").glob("*.svg")}
    shown = {
        name.removesuffix(".svg")
        for page in DOCS.rglob("*.md")
        for name in figures(page.read_text("utf-8"))
    }
    assert files == drawn
    assert drawn <= shown


@pytest.mark.parametrize("path", sorted((DOCS / "figures").glob("*.svg")), ids=lambda p: p.stem)
def test_a_picture_has_words_and_both_modes(path: Path) -> None:
    text = path.read_text("utf-8")
    assert re.search(r'<svg [^>]*role="img" [^>]*aria-label="[^"]{30,}"', text)
    assert "prefers-color-scheme:dark" in text
    colors = re.sub(r"<style.*?</style>", "", text, flags=re.S)
    assert set(re.findall(r"#[0-9a-f]{6}\b", colors)) <= {"#ffffff", "#000000"}


def test_the_glossaries_explain_the_same_words_in_the_same_order() -> None:
    terms = re.findall(r"^### (.+)", (DOCS / "glossary.md").read_text("utf-8"), re.M)
    rows = re.findall(
        r"^\| ([^|]+?) \| [^|]*[^|\s-][^|]* \|", (DOCS / "zh/glossary.md").read_text("utf-8"), re.M
    )
    assert [row for row in rows if row != "英文"] == terms
