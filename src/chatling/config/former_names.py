"""Recipe fields that earlier versions called otherwise, so that older recipes and runs are read."""

import warnings
from typing import Any

PADDING = {"bucket": "pad_to_multiple_of"}
# table: former name, present name
FORMER_NAMES = {
    "tokenizer": {"vocabulary": "vocab_size"},
    "mid": PADDING,
    "sft": PADDING,
    "dpo": PADDING | {"imitation": "sft_loss_weight", "per_token": "length_normalize"},
    "rl": PADDING | {"rows": "max_batch_size", "normalise_advantage": "normalize_advantage"},
}


def present_name(table: str, field: str, where: str) -> str:
    """The name that a field has now, with a warning that begins with `where` for a former one."""
    present = FORMER_NAMES.get(table, {}).get(field, field)
    if present != field:
        warnings.warn(f"{where}{table}.{field} is called {table}.{present} now.", stacklevel=2)
    return present


def rename_former(tables: dict[str, Any], file: str) -> dict[str, Any]:
    """The tables of a recipe under the fields' present names. A field that stands under both names
    keeps both, for the strict reading to refuse.
    """
    return {
        name: _renamed(name, fields, file) if isinstance(fields, dict) else fields
        for name, fields in tables.items()
    }


def _renamed(table: str, fields: dict[str, Any], file: str) -> dict[str, Any]:
    former = FORMER_NAMES.get(table, {})
    both = {field for field in fields if former.get(field) in fields}
    return {
        field if field in both else present_name(table, field, f"{file}: "): value
        for field, value in fields.items()
    }
