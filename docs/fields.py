"""Writes the tables of recipes.md from the config dataclasses: `python docs/fields.py`.

A test sees that the page is as this writes it.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

from chatling.fields import describe, toml_value
from chatling.config.recipe import Recipe
from chatling.config.stages import MixtureEntry
from chatling.model.adapter import AdapterConfig

PAGE = Path(__file__).with_name("recipes.md")
MARKED = re.compile(r"(<!-- fields of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, Any]:
    """Every config dataclass by the name that the page's marks give it."""
    hints = typing.get_type_hints(Recipe).items()
    kinds = {name: kind for name, hint in hints for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)}
    return {"recipe": Recipe, **kinds, "entry": MixtureEntry, "adapter": AdapterConfig}


def field_table(kind: Any) -> str:
    """A config dataclass as a table of Markdown. Fields that are tables themselves are left out."""
    hints, lines = typing.get_type_hints(kind, include_extras=True), ["| field | value | default | |", "| --- | --- | --- | --- |"]
    for field in dataclasses.fields(kind):
        what = describe(hints[field.name])
        if not what.startswith("a table"):
            cells = (
                f"`{field.name}`",
                what.removesuffix(' or "none"'),
                _default(field),
                kind.__pydantic_fields__[field.name].description,
            )
            escaped = (" ".join(cell.replace("|", r"\|").split()) for cell in cells)
            lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines) + "\n"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "must be given"
    if field.default in (None, ()):
        return "empty"
    number = isinstance(field.default, int | float) and not isinstance(field.default, bool)
    return f"{field.default:,}" if number else f"`{toml_value(field.default)}`"


def filled(page: str) -> str:
    """The page with all its tables written anew."""
    known = tables()
    return MARKED.sub(lambda mark: mark[1] + field_table(known[mark[2]]) + mark[3], page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
