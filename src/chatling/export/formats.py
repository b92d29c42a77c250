"""The formats, and the export itself: write, check, and only then keep."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chatling.errors import RecipeError
from chatling.export import card, gguf, hf, html, mlx
from chatling.export.source import Source
from chatling.files import building_folder


@dataclass(frozen=True)
class Format:
    """`write(source, folder, dtype)` fills the folder; `check` reads it back and returns what it
    found, a sentence each. `types` are those of the weights, the usual one first.
    """

    about: str
    types: tuple[str, ...]
    write: Callable[[Source, Path, str], None]
    check: Callable[[Source, Path, str], list[str]]


FORMATS = {
    "hf": Format("transformers and vLLM", ("f32", "bf16", "f16"), hf.write, hf.check),
    "gguf": Format("llama.cpp and Ollama", ("f16", "f32", "q8_0", "q4_0"), gguf.write, gguf.check),
    "mlx": Format("mlx_lm on a Mac", ("f32", "bf16", "f16"), mlx.write, mlx.check),
    "html": Format("a page that chats offline", ("int8", "f32"), html.write, html.check),
}


def export(source: Source, name: str, target: Path, dtype: str | None = None) -> list[str]:
    """Write a model in a format into `target`, whole or not at all; returns what the check found.

    Raises RecipeError for a type that the format lacks or a model that it cannot hold, DataError
    when what was written is not the model.
    """
    dtype = dtype or FORMATS[name].types[0]
    with building_folder(target) as folder:
        found = write_checked(source, name, folder, dtype)
        card.write(source, folder, name, dtype, found)
    return found


def write_checked(source: Source, name: str, folder: Path, dtype: str | None = None) -> list[str]:
    """Fill a folder with a model in a format. Returns and raises as `export`."""
    format = FORMATS[name]
    dtype = dtype or format.types[0]
    if dtype not in format.types:
        raise RecipeError(f"{name} has no type {dtype!r}.", f"It has: {', '.join(format.types)}.")
    format.write(source, folder, dtype)
    return format.check(source, folder, dtype)
