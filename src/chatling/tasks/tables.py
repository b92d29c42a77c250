"""Words and templates kept as TOML, beside the code that fills them."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load_table(path: str) -> dict[str, Any]:
    """The table at a path inside the package, such as "toy/words.toml", its lists as tuples."""
    return _frozen(tomllib.loads(files("chatling").joinpath(path).read_text("utf-8")))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
