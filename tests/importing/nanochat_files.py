"""Writes what nanochat writes: checkpoints of both versions and their `tokenizer.pkl`."""

import json
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import tiktoken
import torch

from chatling.export.source import Source
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
THEIRS = {
    "embed_tokens": "transformer.wte",
    "self_attn.q_proj": "attn.c_q",
    "self_attn.k_proj": "attn.c_k",
    "self_attn.v_proj": "attn.c_v",
    "self_attn.o_proj": "attn.c_proj",
    "self_attn.value_gate": "attn.ve_gate",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "residual_scales": "resid_lambdas",
    "input_scales": "x0_lambdas",
    "smear_scale": "smear_lambda",
    "backout_scale": "backout_lambda",
}


def modern_2026(vocab_size: int) -> ModelConfig:
    """The shape of July 2026's model with four layers and a context of 256: 129 keys in a window,
    the residual after layer 2 backed out.
    """
    return ModelConfig(
        depth=4, width=64, heads=4, kv_heads=4, vocab_size=vocab_size, context=256, mlp_width=256,
        rope_theta=100_000.0, windows=(129, 129, 129, 0), qk_scale=1.2, value_embeddings=True,
        layer_scalars=True, smear=True, backout=True, backout_layer=2, modern_init=True,
    )  # fmt: skip


def random_model(config: ModelConfig) -> GPT:
    model = GPT(config)
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2, generator=draw)
    return model.eval()


def write_pickle(tokenizer: Tokenizer, path: Path) -> None:
    encoding = tiktoken.Encoding(
        "rustbpe",
        pat_str=PATTERN.replace("DIGITS", str(tokenizer.digits)),
        mergeable_ranks={piece: rank for rank, piece in enumerate(tokenizer.pieces)},
        special_tokens={text: len(tokenizer.pieces) + i for i, text in enumerate(SPECIAL_TOKENS)},
    )
    path.write_bytes(pickle.dumps(encoding))


def write_nanochat(source: Source, folder: Path, *, prefix: str = "", step: int = 700) -> Path:
    """`chatsft_checkpoints/d4` and `tokenizer` below a folder; returns the former."""
    c, place = source.model.config, folder / "chatsft_checkpoints/d4"
    place.mkdir(parents=True)
    (folder / "tokenizer").mkdir()
    write_pickle(source.tokenizer, folder / "tokenizer/tokenizer.pkl")
    tensors = OrderedDict()
    for ours, tensor in source.model.state_dict().items():
        name = re.sub(r"^layers\.", "transformer.h.", ours)
        for old, new in THEIRS.items():
            name = name.replace(old, new)
        if re.search(r"wte|lm_head|value_embeds", name):
            padding = -len(tensor) % 64
            tensor = torch.cat((tensor, torch.full((padding, tensor.shape[1]), 9.0)))
        tensors[prefix + name] = tensor.bfloat16() if "wte" in name and prefix else tensor
    torch.save(tensors, place / f"model_{step:06d}.pt")
    shape = {
        "sequence_len": c.context, "vocab_size": c.vocab_size, "n_layer": c.depth,
        "n_head": c.heads, "n_kv_head": c.kv_heads, "n_embd": c.width,
    }  # fmt: skip
    if c.layer_scalars:
        shape["window_pattern"] = "SSSL"
    meta = {"step": step, "val_bpb": 1.0, "model_config": shape}
    (place / f"meta_{step:06d}.json").write_text(json.dumps(meta))
    return place
