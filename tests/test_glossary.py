"""Code and pages speak the field's words: no module, class, function, first line of a docstring or
page says it otherwise.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/chatling"
# what the field calls by another name
NAMES = set(
    """
    conversation.py workspace.py review.py supplies.py planner.py precision.py groups.py order.py
    batches.py growing.py background.py reading.py shapes.py overlap.py importing.py texts.py
    fetch.py download.py prefixes.py sequence.py service.py native.py quantised.py scoring.py
    sampled.py harness.py hub_models.py gate.py shelf.py exchange.py stream.py schema.py limits.py
    dashboard.py pages.py made_of.py words_of.py curves.py scores.py compose.py blocks.py
    confined.py loop.py live.py sources.py stage.py base.py chat_format.py tokenizer_json.py
    asking.py
    Sampling Alternatives Finish World Execution Position Guard Watch Rates Ledger Patience Shelf
    Exchange Gate Post Spoken Piece Answers Asked Prefixes Talk MADE Several HarnessModel
    resolve_rates from_first sum_numbers preference_gains borrow retire
    """.split()  # noqa: SIM905 - a column of names reads better than a list of strings
)
METAPHORS = re.compile(
    r"\b(house|a room|rooms|front door|three doors|dealt out|turned round|leash|wickedness|dice"
    r"|goes on|learnt from|rightly|dear|told of|no matter|kinder|stranger|strangers|whosever"
    r"|in any company|what a recipe comes to|so manieth)\b"
)


def definitions(path: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of the module, of its classes, functions and constants."""
    yield 1, path.name
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Assign):
            yield from (
                (node.lineno, name.id) for name in node.targets if isinstance(name, ast.Name)
            )


def first_lines(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text.split("\n\n")[0]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DATED = ("LOG.md", "DECISIONS.md")  # entries stay as they were written


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in DATED], ids=lambda page: page.name
)
def test_pages_are_without_metaphors(page: Path) -> None:
    code = re.compile(r"^ *```.*?^ *```|`[^`]*`", re.DOTALL | re.MULTILINE)
    prose = " ".join(code.sub(" ", page.read_text(encoding="utf-8")).split())
    assert not [prose[found.start() - 40 : found.end() + 40] for found in METAPHORS.finditer(prose)]


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_names_and_docstrings_are_the_field_s(path: Path) -> None:
    assert not [f"line {line}: {name}" for line, name in definitions(path) if name in NAMES]
    assert not [
        f"line {line}: {text}" for line, text in first_lines(path) if METAPHORS.search(text)
    ]
