"""The shape of the source: small modules, and no import that leads back to where it came from."""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
LONGEST = 400  # lines
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
    if path.parent.name != "hf_code"  # modules of an exported model, not of the package
}


def imports(source: str) -> Iterator[str]:
    """The modules that a module imports, also in functions and for types alone: who reads one has
    to read the other.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def graph() -> dict[str, set[str]]:
    """What each module imports of ours. The package's own interface hands on what `llm` has."""
    found = {
        name: set(imports(path.read_text(encoding="utf-8"))) & MODULES.keys()
        for name, path in MODULES.items()
    }
    return found | {"chatling": set()}


def cycle(found: dict[str, set[str]]) -> list[str] | None:
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def test_no_module_imports_itself_through_others() -> None:
    found = cycle(graph())
    assert found is None, " <- ".join(found)


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None
    source = "from chatling import files\ndef f():\n    from chatling.errors import DataError"
    assert list(imports(source)) == ["chatling.files", "chatling.errors"]


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short(name: str) -> None:
    lines = MODULES[name].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST


def test_every_file_that_is_no_module_is_in_the_wheel() -> None:
    package = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = package["tool"]["setuptools"]["package-data"]["chatling"]
    listed = {path for pattern in patterns for path in (SOURCE / "chatling").glob(pattern)}
    files = {
        path
        for path in (SOURCE / "chatling").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".so")
    }
    assert files <= listed


def test_what_others_wrote_is_unchanged_and_has_its_license() -> None:
    notes = (SOURCE.parent / "THIRD_PARTY.md").read_text(encoding="utf-8")
    paths = re.findall(r"\]\(((?:src|docs)/\S+)\)", notes)
    found = {path: (SOURCE.parent / path).read_bytes() for path in paths}
    scripts = [data for path, data in found.items() if path.endswith(".js")]
    assert scripts
    assert all(hashlib.sha256(data).hexdigest() in notes for data in scripts)
    assert all(b"MIT License" in data for path, data in found.items() if "LICENSE" in path)
