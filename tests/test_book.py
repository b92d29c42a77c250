"""The documentation as a book: its two languages are in step, the path for students (docs/path)
links to what stands in the code and has solutions to its exercises, and pictures are those that
docs/figures.py draws.
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


# Pages that are not the English ones in Chinese: the list of pages, the words, the Chinese world.
OF_THEIR_OWN = ("README.md", "glossary.md", "pocket.md")
CHINESE = sorted((DOCS / "zh").rglob("*.md"))
TWINS = [page for page in CHINESE if page.parent.name == "path" or page.name not in OF_THEIR_OWN]
# the way from an empty disk to a chat, and each stage
TOLD_IN_CHINESE = {
    *("tokenizer", "data", "your-data", "model", "optimizer", "training", "finetuning"),
    *("preferences", "reinforcement", "evaluation", "inference", "serving", "report", "python"),
    *("share", "spark", "pocket", "glossary", "README"),
}
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.S | re.M)


def twin(page: Path) -> Path:
    return DOCS / "zh" / page.relative_to(DOCS)


def english(page: Path) -> Path:
    return DOCS / page.relative_to(DOCS / "zh")


def commands(text: str) -> list[str]:
    """Command lines, in fences and between backticks, without the remarks behind them."""
    prose = FENCE.sub("", text)
    lines = [line.strip() for _, block in FENCE.findall(text) for line in block.splitlines()]
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    programs = ("chatling ", "make ", "git ", "cd ", "source .", "pip ", "python ", "torchrun ")
    return sorted({re.split(r" {2,}| *#", line)[0] for line in lines if line.startswith(programs)})


def code(text: str) -> list[tuple[str, str]]:
    """Programs, tables of recipes, formulas and diagrams, without the remarks in them."""
    return [(kind, re.sub(r" *#.*", "", block)) for kind, block in FENCE.findall(text) if kind]


def links_to_files(text: str) -> list[str]:
    return sorted(re.findall(r"\]\((?:\.\./)*((?:src|examples)/[^)]+)\)", text))


def figures(text: str) -> list[str]:
    return re.findall(r"figures/([\w-]+\.svg)", text)


def pictures(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\((?:\.\./)*([^)]+)\)", text)


def test_both_languages_have_the_same_pages() -> None:
    names = {page.name for page in (DOCS / "path").glob("*.md")}
    assert {page.name for page in (DOCS / "zh/path").glob("*.md")} == names
    assert len(PATH) == 12
    assert {page.stem for page in (DOCS / "zh").glob("*.md")} == TOLD_IN_CHINESE
    for page in (DOCS / "zh/README.md", ROOT / "mkdocs.yml"):
        listed = re.findall(r"[\w/-]+\.md", page.read_text("utf-8"))
        names = {name.removeprefix("zh/") for name in listed}
        assert {f"{name}.md" for name in TOLD_IN_CHINESE} - names <= {"README.md"}, page.name


@pytest.mark.parametrize(
    ("page", "original_page"),
    [*((page, english(page)) for page in TWINS), (ROOT / "README.zh-CN.md", ROOT / "README.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_a_page_and_its_twin_are_in_step(page: Path, original_page: Path) -> None:
    """The same commands, code, formulas, pictures, headings, tables and links to files."""
    chinese, original = (each.read_text("utf-8") for each in (page, original_page))
    for same in (commands, code, pictures, links_to_files):
        assert same(chinese) == same(original), f"{page.name} and its twin: {same.__name__}"
    chinese, original = (FENCE.sub("", text) for text in (chinese, original))
    for mark in (r"^(#+) ", r"^<details", r"^\| ---"):
        assert re.findall(mark, chinese, re.M) == re.findall(mark, original, re.M), mark


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


@pytest.mark.parametrize("folder", ["docs", "docs/zh"])
def test_every_example_has_its_section(folder: str) -> None:
    """A file of examples/ is linked below a heading, with the command that runs it."""
    sections = [
        section
        for page in (ROOT / folder).glob("*.md")
        for section in re.split(r"^(?=#+ )", page.read_text("utf-8"), flags=re.M)
    ]
    for example in (ROOT / "examples").glob("*.*"):
        told = [each for each in sections if f"examples/{example.name})" in each]
        assert any(re.search(rf"examples/{re.escape(example.name)}(?!\))", each) for each in told)
