"""A folder that MLX's `mlx_lm` loads: nanochat's own names of the tensors."""

import re
from pathlib import Path

from safetensors.torch import load_file

from chatling.export import verify
from chatling.export.hf import DTYPES, hf_config, require_classic, write_tokenizer
from chatling.export.source import Source
from chatling.files import read_json, write_json
from chatling.train.checkpoint import save_tensors

NAMES = (
    (r"^embed_tokens", "transformer.wte"),
    (r"^layers\.", "transformer.h."),
    (r"\.self_attn\.([qkv])_proj", r".attn.c_\1"),
    (r"\.self_attn\.o_proj", ".attn.c_proj"),
    (r"\.mlp\.fc1", ".mlp.c_fc"),
    (r"\.mlp\.fc2", ".mlp.c_proj"),
)


def original_name(name: str) -> str:
    """What nanochat calls a tensor of the classic model."""
    for pattern, text in NAMES:
        name = re.sub(pattern, text, name)
    return name


def write(source: Source, folder: Path, dtype: str) -> None:
    """The folder's files. Raises RecipeError for a modern model, which mlx_lm has no class for."""
    require_classic(source.model.config, "MLX")
    write_tokenizer(source.tokenizer, folder)
    weights = {
        original_name(name): tensor.to(DTYPES[dtype]).contiguous()
        for name, tensor in source.model.state_dict().items()
    }
    save_tensors(weights, folder / "model.safetensors", {"format": "mlx"})
    config = hf_config(source, dtype)
    del config["architectures"]
    write_json(folder / "config.json", config | {"rope_theta": source.model.config.rope_theta})


def check(source: Source, folder: Path, dtype: str) -> list[str]:
    """Hold each tensor that was written to the model's, and the fields that mlx_lm reads."""
    found = load_file(folder / "model.safetensors")
    expected = {original_name(name): t for name, t in source.model.state_dict().items()}
    verify.same("tensors", sorted(expected), sorted(found))
    for name, tensor in expected.items():
        verify.same(f"tensor {name}", True, bool((found[name] == tensor.to(DTYPES[dtype])).all()))
    config, c = read_json(folder / "config.json"), source.model.config
    for name, value in (
        ("hidden_size", c.width),
        ("num_hidden_layers", c.depth),
        ("num_attention_heads", c.heads),
        ("num_key_value_heads", c.kv_heads),
        ("vocab_size", c.vocab_size),
        ("max_position_embeddings", c.context),
        ("intermediate_size", c.mlp_width),
        ("rope_theta", c.rope_theta),
    ):
        verify.same(name, value, config[name])
    return [f"{len(found)} tensors and the fields equal the model's"]
