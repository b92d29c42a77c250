"""`transformers` computes the same function from the same weights: an independent reference for the
classic model.
"""

import pytest
import torch

from chatling.bench.decode import bench_decode
from chatling.bench.peers import to_transformers
from chatling.errors import ChatlingError
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT


def random_model(recipe: ModelRecipe) -> GPT:
    model = GPT(recipe.resolve(300))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, parameter.shape[-1] ** -0.5, generator=generator)
    return model.eval()


@pytest.mark.parametrize("kv_heads", [None, 2])
def test_logits_agree_with_transformers(kv_heads: int | None) -> None:
    model = random_model(
        ModelRecipe(depth=3, width=64, head_width=16, kv_heads=kv_heads, context=64)
    )
    ids = torch.randint(300, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = model.logits(model(ids)), to_transformers(model)(ids).logits
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_modern_is_refused() -> None:
    with pytest.raises(ChatlingError, match="classic"):
        to_transformers(
            random_model(ModelRecipe(preset="modern", depth=2, width=32, head_width=16, context=32))
        )


@pytest.mark.slow  # it compiles four steps
def test_decode_bench_reports_every_figure() -> None:
    rows = bench_decode(
        ModelRecipe(depth=1, width=32, head_width=16, context=64),
        vocab_size=300,
        tokens=8,
        max_batch_size=2,
        repeats=1,
    )
    measures = {str(row["measure"]): row["value"] for row in rows}
    assert [value for name, value in measures.items() if "unlike" in name] == [0, 0]
    assert all(float(value) > 0 for name, value in measures.items() if "unlike" not in name)
    for name in ("bf16, times transformers", "best, times transformers fp32"):
        assert {f"decode, batch 1, {name}", f"decode, batch 2, {name}"} <= measures.keys()
    assert any("memory bandwidth" in name for name in measures)
