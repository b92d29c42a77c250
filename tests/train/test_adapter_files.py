"""Adapters as peft writes and reads them, over the hf export of the model below."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from chatling.errors import DataError
from chatling.export import hf
from chatling.export.source import Source
from chatling.files import read_json, write_json
from chatling.model.adapter import AdaptedGPT, AdapterConfig, merged
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from chatling.train import adapter_files
from chatling.train.adapter_files import add_adapter, save_adapter

IDS = torch.randint(0, 272, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return train_tokenizer(iter(["a fox asks"] * 9), TokenizerConfig(vocab_size=272))


def drawn(model: GPT) -> GPT:
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2, generator=draw)
    return model.eval()


@pytest.fixture(params=["classic", "modern"])
def base(request, words) -> GPT:
    window = "SL" if request.param == "modern" else None
    recipe = ModelRecipe(
        preset=request.param, depth=2, width=32, head_width=8, context=48, window_pattern=window
    )
    return drawn(GPT(recipe.resolve(words.vocab_size)))


def adapted(base: GPT, source: str) -> AdaptedGPT:
    """With adapters that have learned something."""
    model = AdaptedGPT(base.config, AdapterConfig(rank=5, alpha=7.5), "0" * 64, source)
    drawn(model)
    model.load_state_dict(base.state_dict())
    return model.eval()


def their_model(base: GPT, words: Tokenizer, folder: Path):
    transformers = pytest.importorskip("transformers")
    folder.mkdir()
    hf.write(Source(base, words, "base", "base"), folder, "f32")
    load = transformers.AutoModelForCausalLM.from_pretrained
    return load(folder, trust_remote_code=True).eval()


@torch.no_grad()
def test_peft_loads_ours(base, words, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    model = adapted(base, str(tmp_path / "base"))
    save_adapter(model, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(
        their_model(base, words, tmp_path / "base"), tmp_path / "adapter"
    )
    ours = model.logits(model(IDS))
    torch.testing.assert_close(theirs(IDS).logits, ours, atol=5e-5, rtol=0)
    assert (ours - base.logits(base(IDS))).abs().max() > 0.1
    whole = theirs.merge_and_unload()
    torch.testing.assert_close(whole(IDS).logits, ours, atol=5e-5, rtol=0)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], list(adapter_files.ADAPTED)])
def test_we_load_pefts(base, words, tmp_path, targets) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=3, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(their_model(base, words, tmp_path / "base"), config).eval()
    draw = torch.Generator().manual_seed(2)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.2, generator=draw)
    theirs.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        before = base.logits(base(IDS))
        add_adapter(base, tmp_path / "adapter")
        ours = base.logits(base(IDS))
        torch.testing.assert_close(theirs(IDS).logits, ours, atol=5e-5, rtol=0)
    assert (ours - before).abs().max() > 0.1
    assert adapter_files.adapter_base(tmp_path / "adapter") == str(tmp_path / "base")


@torch.no_grad()
def test_what_is_saved_is_read_again(base, tmp_path) -> None:
    model = adapted(base, "there")
    save_adapter(model, tmp_path / "adapter")
    add_adapter(base, tmp_path / "adapter")
    for name, tensor in merged(model).state_dict().items():
        assert torch.equal(base.state_dict()[name], tensor)


def config(key: str, value: object):
    def change(folder: Path) -> None:
        path = folder / adapter_files.CONFIG
        write_json(path, read_json(path) | {key: value})

    return change


def weights(make):
    def change(folder: Path) -> None:
        path = folder / adapter_files.WEIGHTS
        save_file(make(load_file(path)), path)

    return change


def renamed(old: str, new: str):
    return weights(lambda found: {name.replace(old, new): t for name, t in found.items()})


WRONG = {
    "another kind": config("use_dora", True),
    "another scale": config("use_rslora", True),
    "other ranks": config("rank_pattern", {"q_proj": 4}),
    "whole modules": config("modules_to_save", ["lm_head"]),
    "no LoRA": config("peft_type", "IA3"),
    "no rank": config("r", None),
    "a rank of zero": config("r", 0),
    "another rank": config("r", 7),
    "text as alpha": config("lora_alpha", "16"),
    "alpha is no number": config("lora_alpha", float("nan")),
    "a huge alpha": config("lora_alpha", 10**400),
    "a negative alpha": config("lora_alpha", -16),
    "no table": lambda folder: write_json(folder / adapter_files.CONFIG, []),
    "no weights": lambda folder: (folder / adapter_files.WEIGHTS).write_bytes(b""),
    "no adapters": weights(lambda found: {}),
    "another matrix": renamed("q_proj", "lm_head"),
    "another layer": renamed("layers.1", "layers.7"),
    "half a pair": weights(lambda found: {n: t for n, t in found.items() if "lora_A" in n}),
    "another width": weights(lambda found: {n: t[:, :-1].clone() for n, t in found.items()}),
    "whole numbers": weights(lambda found: {n: t.int() for n, t in found.items()}),
    "not finite": weights(lambda found: {n: t * float("nan") for n, t in found.items()}),
    "vectors": weights(lambda found: {n: t.flatten() for n, t in found.items()}),
    "something else": weights(lambda found: found | {"more.weight": torch.zeros(2, 2)}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_adapters_are_refused_in_a_sentence(wrong, words, tmp_path) -> None:
    recipe = ModelRecipe(depth=2, width=32, head_width=8, context=48)
    base = drawn(GPT(recipe.resolve(words.vocab_size)))
    folder = tmp_path / "adapter"
    save_adapter(adapted(base, "there"), folder)
    WRONG[wrong](folder)
    with pytest.raises(DataError) as caught:
        add_adapter(base, folder)
    assert "adapter_" in caught.value.what


@pytest.mark.parametrize("name", [None, "", 3])
def test_adapters_of_nobody_are_refused(name, tmp_path) -> None:
    write_json(tmp_path / adapter_files.CONFIG, {adapter_files.BASE: name})
    with pytest.raises(DataError, match="does not say"):
        adapter_files.adapter_base(tmp_path)
