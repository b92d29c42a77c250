"""nanochat's checkpoints of December 2025 and of July 2026: `model_*.pt`, `meta_*.json` and
`tokenizer.pkl`.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from chatling.errors import DataError
from chatling.files import read_json
from chatling.importing.pickles import read_encoding, read_tensors
from chatling.model.config import ModelConfig
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from chatling.tokenizer.hf_format import pattern_digits

NAMES = (
    (r"^_orig_mod\.", ""),
    (r"^transformer\.wte\.", "embed_tokens."),
    (r"^transformer\.h\.", "layers."),
    (r"\.attn\.c_([qkv])\.", r".self_attn.\1_proj."),
    (r"\.attn\.c_proj\.", ".self_attn.o_proj."),
    (r"\.attn\.ve_gate\.", ".self_attn.value_gate."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^resid_lambdas$", "residual_scales"),
    (r"^x0_lambdas$", "input_scales"),
    (r"^smear_lambda$", "smear_scale"),
    (r"^backout_lambda$", "backout_scale"),
)
PADDED = r"embed_tokens\.|lm_head\.|value_embeds\."  # tables with a row for each token
MODERN = ("residual_scales", "input_scales", "smear_scale", "backout_scale")
SHORT_UNIT = 128  # what short windows are a multiple of


def our_name(name: str) -> str:
    """What chatling calls a tensor of nanochat's, or of MLX's class for it."""
    for pattern, text in NAMES:
        name = re.sub(pattern, text, name)
    return name


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.pkl`. Raises DataError for one that is not nanochat's."""
    state = read_encoding(path)
    ranks: Any
    ranks, specials = state.get("mergeable_ranks", {}), state.get("special_tokens")
    digits = pattern_digits(state.get("pat_str"))
    usual = isinstance(ranks, dict) and isinstance(specials, dict) and digits is not None
    if usual:
        usual = all(isinstance(piece, bytes) for piece in ranks)
        usual = usual and list(range(len(ranks))) == sorted(ranks.values())
        own = {text: len(ranks) + i for i, text in enumerate(SPECIAL_TOKENS)}
        usual = usual and specials == own
    if not usual or digits is None or not isinstance(ranks, dict):
        raise DataError(f"{path} splits text or names special tokens in another way than nanochat.")
    return Tokenizer(sorted(ranks, key=ranks.__getitem__), digits)


def read_model(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The newest checkpoint of a folder: its shape, and its tensors by our names. Raises DataError
    for what is neither of the two versions.
    """
    steps = [
        int(match[1])
        for path in folder.glob("model_*.pt")
        if (match := re.fullmatch(r"model_(\d{1,12})\.pt", path.name))
    ]
    if not steps:
        raise DataError(f"{folder} has no model_<step>.pt.")
    name = f"{max(steps):06d}"
    meta = read_json(folder / f"meta_{name}.json")
    found = meta.get("model_config") if isinstance(meta, dict) else None
    if not isinstance(found, dict):
        raise DataError(f"{folder / f'meta_{name}.json'} does not describe a model.")
    tensors = {our_name(key): t for key, t in read_tensors(folder / f"model_{name}.pt").items()}
    if not tensors.keys().isdisjoint(MODERN) and not tensors.keys() >= set(MODERN):
        raise DataError(
            f"The checkpoint in {folder} is of a nanochat between December 2025 and July 2026.",
            "chatling knows the models of these two versions alone.",
        )
    config = model_config(found, modern=MODERN[0] in tensors)
    # tables are padded to whole multiples of 64 tokens
    return config, {
        key: tensor[: config.vocab_size] if re.match(PADDED, key) else tensor
        for key, tensor in tensors.items()
    }


def model_config(found: dict[str, Any], *, modern: bool) -> ModelConfig:
    """The shape that nanochat's `model_config` describes."""
    names = {
        "depth": "n_layer",
        "width": "n_embd",
        "heads": "n_head",
        "kv_heads": "n_kv_head",
        "vocab_size": "vocab_size",
        "context": "sequence_len",
    }
    data = {ours: found.get(theirs) for ours, theirs in names.items()}
    width = data["width"]
    data["mlp_width"] = 4 * width if isinstance(width, int) else width
    if modern:
        data |= dict.fromkeys(("value_embeddings", "layer_scalars", "smear", "backout"), True)
        data |= {"rope_theta": 100_000.0, "qk_scale": 1.2, "modern_init": True}
    config = ModelConfig.from_dict(data)
    if not modern:
        return config
    pattern = str(found.get("window_pattern", "L")).upper()
    if not re.fullmatch("[SL]{1,1024}", pattern):
        raise DataError(f"The checkpoint's window pattern is {pattern[:40]!r}.")
    # a quarter of the context rounded up, and the token itself
    short = -(-config.context // (4 * SHORT_UNIT)) * SHORT_UNIT + 1
    letters = [pattern[i % len(pattern)] for i in range(config.depth - 1)]
    windows = [short if each == "S" and short < config.context else 0 for each in letters]
    more = {"backout_layer": config.depth // 2}
    if any(windows):
        more["windows"] = [*windows, 0]  # type: ignore[assignment]
    return ModelConfig.from_dict({**data, **more})
