"""transformers on what was exported: the same logits, tokens, prompts and answers."""

import json
from dataclasses import replace

import pytest
import torch

from chatling.config.extend import ExtendConfig
from chatling.errors import DataError, RecipeError
from chatling.export import hf
from chatling.export.formats import export
from chatling.files import read_json, write_json
from chatling.model.gpt import GPT
from chatling.train.extend import extended

from .conftest import TOKENS, answers, prompts

transformers = pytest.importorskip("transformers")
PRESETS = ("classic", "modern")


@pytest.mark.parametrize("preset", PRESETS)
def test_generate_with_the_calculator_gives_our_engines_answers(learned, folder, preset):
    source = learned(preset)
    export(source, "hf", folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    asked = prompts(source)
    expected = answers(source, asked)
    assert any(source.tokenizer.output_end in ids for ids in expected)
    longest, pad = max(map(len, asked)), source.tokenizer.assistant_end
    rows = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in asked])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in asked])
    out = model.generate(rows, attention_mask=mask, tokenizer=words, max_new_tokens=TOKENS)
    closing = {pad, source.tokenizer.bos}
    for ids, ours in zip(out[:, longest:].tolist(), expected, strict=True):
        theirs = ids[: next((at for at, token in enumerate(ids) if token in closing), len(ids))]
        assert theirs == ours


@pytest.mark.parametrize("preset", PRESETS)
def test_left_padded_batches_and_a_cache_change_no_logits(learned, folder, preset):
    source = learned(preset)
    export(source, "hf", folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    ids = torch.randint(
        0, source.tokenizer.vocab_size, (2, 90), generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        ours = source.model.logits(source.model(ids))
        cache = transformers.DynamicCache()
        parts = [
            model(ids[:, start:end], past_key_values=cache, use_cache=True).logits
            for start, end in ((0, 40), (40, 41), (41, 42), (42, 90))
        ]
        torch.testing.assert_close(torch.cat(parts, 1), ours, atol=5e-5, rtol=0)
        padded = torch.cat((torch.zeros(2, 6, dtype=torch.long), ids[:, :60]), 1)
        mask = (torch.arange(66) >= 6).long().expand(2, -1)
        places = (mask.cumsum(1) - 1).clamp_min(0)
        theirs = model(padded, attention_mask=mask, position_ids=places, use_cache=False).logits
        torch.testing.assert_close(theirs[:, 6:], ours[:, :60], atol=5e-5, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_config_that_is_written_describes_the_same_model(learned, folder, preset):
    source = learned(preset)
    export(source, "hf", folder)
    assert hf.model_config(read_json(folder / "config.json")) == source.model.config
    assert not list(folder.glob("token_bytes*"))  # vLLM reads every safetensors file
    assert (folder / "modeling_chatling.py").exists() == (preset == "modern")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scaling", ["theta", "yarn"])
def test_a_longer_context_travels_along(learned, folder, preset, scaling):
    """The same logits, which the export itself compares, and the same model when it is read."""
    source = learned(preset)
    config = extended(source.model.config, ExtendConfig(context=384, scaling=scaling))
    longer = GPT(config).eval()
    longer.load_state_dict(source.model.state_dict())
    source = replace(source, model=longer)
    export(source, "hf", folder)
    found = read_json(folder / "config.json")
    assert hf.model_config(found) == config
    assert found["max_position_embeddings"] == 384
    native = preset == "classic" and scaling == "theta"
    assert (found["model_type"] == "nanochat") == native
    if native:
        assert found["rope_parameters"]["rope_theta"] == config.rope_theta == 80_000.0
    elif preset == "classic":
        for name in ("gguf", "mlx", "html"):
            with pytest.raises(RecipeError, match="no code for YaRN's attention"):
                export(source, name, folder / name)


CHANGED = {
    "rms_norm_eps": 1e-6,
    "final_logit_softcapping": 30.0,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_001.0},
    "max_position_embeddings": 128,
    "num_hidden_layers": 1,
    "intermediate_size": 128,
    "tie_word_embeddings": True,
    "attention_bias": True,
}


@pytest.mark.parametrize("field", CHANGED)
def test_each_wrong_field_is_refused(learned, folder, field):
    source = learned()
    folder.mkdir()
    hf.write(source, folder, "f32")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {field: CHANGED[field]})
    with pytest.raises(DataError):
        hf.check(source, folder, "f32")


def _without_split(found: dict) -> None:
    found["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+"


def _swapped_merges(found: dict) -> None:
    merges = found["model"]["merges"]
    merges[0], merges[-1] = merges[-1], merges[0]


@pytest.mark.parametrize("change", [_without_split, _swapped_merges])
def test_a_tokenizer_that_splits_otherwise_is_refused(learned, folder, change):
    source = learned()
    folder.mkdir()
    hf.write(source, folder, "f32")
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(DataError):
        hf.check(source, folder, "f32")


def test_a_changed_weight_and_template_are_refused(learned, folder):
    from safetensors.torch import load_file, save_file

    source = learned()
    folder.mkdir()
    hf.write(source, folder, "f32")
    path = folder / "model.safetensors"
    weights = load_file(path)
    changed = {name: tensor.clone() for name, tensor in weights.items()}
    changed["model.layers.1.self_attn.v_proj.weight"][3, 5] += 0.1
    save_file(changed, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match="logits"):
        hf.check(source, folder, "f32")
    save_file({n: t for n, t in weights.items() if "fc2" not in n}, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match="tensors"):
        hf.check(source, folder, "f32")
    save_file(weights, path, metadata={"format": "pt"})
    config = read_json(folder / "tokenizer_config.json")
    config["chat_template"] = config["chat_template"].replace("<|user_end|>", "")
    write_json(folder / "tokenizer_config.json", config)
    with pytest.raises(DataError, match="template"):
        hf.check(source, folder, "f32")


def test_a_failed_check_leaves_nothing_behind(learned, folder, monkeypatch):
    write = hf.write_tokenizer
    other = learned("classic", 3, steps=0).tokenizer
    monkeypatch.setattr(hf, "write_tokenizer", lambda tokenizer, folder: write(other, folder))
    with pytest.raises(DataError, match="tokenizer"):
        export(learned(), "hf", folder)
    assert not list(folder.parent.iterdir())


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_rounded_weights_stay_near_the_model(learned, folder, dtype):
    (line, *_) = export(learned(), "hf", folder, dtype)
    assert "KL" in line
