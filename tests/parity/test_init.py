"""Fresh weights are distributed as the reference's are."""

from __future__ import annotations

import pytest
import torch

from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT

from .reference import expected


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_initialization(preset: str) -> None:
    """At width 1,280, of fewer layers than depth 20: blocks 0 and 1 are the same there."""
    facts = expected(f"init/{preset}.json")["shapes"]["d20_kv5"]
    shape = facts["config"]
    fields = ("depth", "width", "head_width", "kv_heads")
    recipe = ModelRecipe(preset, **{name: shape[name] for name in fields}, context=64)  # type: ignore[arg-type]
    model = GPT(recipe.resolve(shape["vocabulary"]))
    model.initialize(torch.Generator().manual_seed(0))
    weights = dict(model.named_parameters())
    for name, row in facts["tensors"].items():
        if name.startswith("_"):
            continue
        found = weights[name].detach()
        assert list(found.shape) == row["shape"], name
        if "values" in row:
            torch.testing.assert_close(found, torch.tensor(row["values"]), rtol=0, atol=1e-6)
            continue
        assert (found == 0).double().mean().item() == pytest.approx(row["zeros"], abs=1e-4), name
        if row["kurtosis"] is None:  # all the same
            continue
        enough = found.numel() > 100_000
        deviation = found.double().std().item()
        assert deviation == pytest.approx(row["std"], rel=0.01 if enough else 0.3), name
        centered = (found.double() - found.double().mean()) / deviation
        if enough:
            assert centered.pow(4).mean().item() == pytest.approx(row["kurtosis"], abs=0.1), name
            assert abs(found.double().mean().item() - row["mean"]) < 0.02 * deviation, name
