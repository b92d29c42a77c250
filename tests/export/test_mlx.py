"""MLX on what was exported, where MLX is installed; the names it expects, everywhere."""

import pytest
from safetensors.torch import load_file

from chatling.errors import DataError, RecipeError
from chatling.export import mlx
from chatling.export.formats import export
from chatling.files import read_json, write_json

from .conftest import answers, prompts


def test_tensors_have_nanochats_names(learned, folder):
    export(learned(), "mlx", folder)
    assert {
        "transformer.wte.weight",
        "transformer.h.1.attn.c_q.weight",
        "transformer.h.0.attn.c_proj.weight",
        "transformer.h.1.mlp.c_fc.weight",
        "lm_head.weight",
    } <= set(load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("field", ["rope_theta", "num_key_value_heads", "hidden_size"])
def test_a_wrong_field_is_refused(learned, folder, field):
    folder.mkdir()
    mlx.write(learned(), folder, "f32")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {field: 3})
    with pytest.raises(DataError):
        mlx.check(learned(), folder, "f32")


def test_the_modern_preset_is_refused(learned, folder):
    with pytest.raises(RecipeError):
        export(learned("modern", steps=0), "mlx", folder)


def test_mlx_gives_our_logits(learned, folder):
    mx = pytest.importorskip("mlx.core", reason="needs mlx")
    lm = pytest.importorskip("mlx_lm", reason="needs mlx_lm")
    import numpy as np
    import torch

    source = learned()
    export(source, "mlx", folder)
    model, words = lm.load(str(folder))
    for prompt, answer in list(zip(prompts(source), answers(source, prompts(source)), strict=True))[
        :20
    ]:
        ids = [*prompt, *answer][:90]
        theirs = np.array(model(mx.array([ids]))[0].astype(mx.float32))
        with torch.no_grad():
            ours = source.model.logits(source.model(torch.tensor([ids])))[0].numpy()
        np.testing.assert_allclose(theirs, ours, atol=5e-4)
    assert words.encode("12 apples", add_special_tokens=False) == source.tokenizer.encode(
        "12 apples"
    )
