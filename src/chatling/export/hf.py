"""A folder that `transformers` (and vLLM, and MLX from the same names) loads.

The classic model is transformers' own `nanochat`. The modern one has parts that no class of the
library has: its code travels with it (`hf_code/`), as does a `generate` that runs the calculator.
"""

import json
import logging
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from chatling.errors import RecipeError
from chatling.export import verify
from chatling.export.source import Source
from chatling.files import read_json, write_atomic, write_json
from chatling.model.config import LATER, SMEAR_GATE_INPUTS, VALUE_GATE_INPUTS, ModelConfig
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from chatling.tokenizer.chat_template import render, render_prompt
from chatling.tokenizer.hf_format import read_tokenizer_json, tokenizer_config, tokenizer_json
from chatling.train.checkpoint import save_tensors

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
MODERN_CODE = ("configuration_chatling.py", "modeling_chatling.py")
ROTARY = ("window_theta", "yarn_factor", "yarn_context")  # fields of an extended model
# part of a conversation's text for the model: were they special, decoding would drop them
TOOL_TOKENS = SPECIAL_TOKENS[5:]
EXTRA = "chatling"  # our own table in config.json: what ties weights, tokenizer and run together


def is_classic(config: ModelConfig) -> bool:
    """Whether transformers' `nanochat` computes the model's function."""
    added = (config.value_embeddings, config.layer_scalars, config.smear, config.backout)
    scaled = config.qk_scale != 1.0 or config.yarn_factor > 1  # its queries and keys never are
    return not config.windows and not scaled and not any(added)


def require_classic(config: ModelConfig, where: str) -> None:
    """Raises RecipeError for a model that `where` has no code for."""
    if not is_classic(config):
        modern = is_classic(replace(config, yarn_factor=1.0, yarn_context=0))
        part = "YaRN's attention" if modern else "the modern preset's parts"
        other = 'extend with scaling = "theta"' if modern else "take `--model.preset classic`"
        raise RecipeError(
            f"{where} has no code for {part}.",
            f"Export it with `hf`, which takes its code along, or {other}.",
        )


def hf_config(source: Source, dtype: str) -> dict[str, Any]:
    """`config.json`."""
    c, tokenizer = source.model.config, source.tokenizer
    shared = {
        "vocab_size": c.vocab_size,
        "hidden_size": c.width,
        "intermediate_size": c.mlp_width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "final_logit_softcapping": c.softcap,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": tokenizer.bos,
        "eos_token_id": tokenizer.assistant_end,
        "pad_token_id": tokenizer.assistant_end,
        "dtype": NAMES[dtype],
        EXTRA: {
            "tokenizer": tokenizer.fingerprint,
            "stage": source.stage,
            "modern_init": c.modern_init,
        },
    }
    if is_classic(c):
        return shared | {
            "architectures": ["NanoChatForCausalLM"],
            "model_type": "nanochat",
            "hidden_act": "relu2",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        }
    layers = range(c.depth)
    auto = {
        "AutoConfig": "configuration_chatling.ChatlingConfig",
        "AutoModel": "modeling_chatling.ChatlingModel",
        "AutoModelForCausalLM": "modeling_chatling.ChatlingForCausalLM",
    }
    return shared | {
        "architectures": ["ChatlingForCausalLM"],
        "model_type": "chatling",
        "auto_map": auto,
        "rope_theta": c.rope_theta,
        "qk_scale": c.qk_scale,
        "layer_types": [
            "sliding_attention" if c.window(layer) else "full_attention" for layer in layers
        ],
        "sliding_window": max(c.windows, default=0) or None,
        "value_embedding_layers": [layer for layer in layers if c.has_value_embedding(layer)],
        "value_gate_inputs": VALUE_GATE_INPUTS,
        "layer_scalars": c.layer_scalars,
        "smear": c.smear,
        "smear_gate_inputs": SMEAR_GATE_INPUTS,
        "backout": c.backout,
        "backout_layer": c.middle_layer,
        **{key: value for key, value in c.to_dict().items() if key in ROTARY},
    }


def model_config(found: dict[str, Any]) -> ModelConfig:
    """The model that a `config.json` describes: the inverse of `hf_config`, for any `nanochat`.

    Raises DataError for one that is neither, or has what no model of ours has.
    """
    kind = found.get("model_type")
    rope = found.get("rope_parameters") or {}
    depth = found.get("num_hidden_layers", 0)
    verify.same("model_type", True, kind in ("nanochat", "chatling") or kind)
    if kind == "nanochat":
        verify.same("hidden_act", "relu2", found.get("hidden_act", "relu2"))
        verify.same("attention_bias", False, bool(found.get("attention_bias")))
        verify.same("rope_type", "default", rope.get("rope_type", "default"))
    verify.same("tie_word_embeddings", False, bool(found.get("tie_word_embeddings")))
    data = {
        "depth": depth,
        "width": found.get("hidden_size"),
        "heads": found.get("num_attention_heads"),
        "kv_heads": found.get("num_key_value_heads") or found.get("num_attention_heads"),
        "vocab_size": found.get("vocab_size"),
        "context": found.get("max_position_embeddings"),
        "mlp_width": found.get("intermediate_size"),
        "rope_theta": rope.get("rope_theta", found.get("rope_theta", 10_000.0)),
        "norm_eps": found.get("rms_norm_eps"),
        "softcap": found.get("final_logit_softcapping"),
        "modern_init": bool((found.get(EXTRA) or {}).get("modern_init", False)),
    }
    if kind == "chatling":
        window = found.get("sliding_window")
        kinds, usual = found.get("layer_types") or (), (depth - 1) // 2
        found = {"backout_layer": usual} | found  # of earlier exports
        windows = tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
        data |= {
            "windows": windows if window else (),
            "qk_scale": found.get("qk_scale"),
            "value_embeddings": bool(found.get("value_embedding_layers")),
            "layer_scalars": found.get("layer_scalars"),
            "smear": found.get("smear"),
            "backout": found.get("backout"),
            "backout_layer": -1 if found.get("backout_layer") == usual else found["backout_layer"],
        }
        data |= {key: found[key] for key in ROTARY if found.get(key, LATER[key]) != LATER[key]}
    return ModelConfig.from_dict(data)


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """`tokenizer.json` and `tokenizer_config.json`. No other file: vLLM takes every safetensors
    file of a folder for weights.
    """
    found = json.loads(tokenizer_json(tokenizer.pieces, tokenizer.digits, SPECIAL_TOKENS))
    for token in found["added_tokens"]:
        token["special"] = token["content"] not in TOOL_TOKENS
    write_atomic(folder / "tokenizer.json", json.dumps(found, ensure_ascii=False))
    write_json(folder / "tokenizer_config.json", tokenizer_config("<|bos|>", "<|assistant_end|>"))


def write(source: Source, folder: Path, dtype: str) -> None:
    """The folder's files."""
    config, tokenizer = source.model.config, source.tokenizer
    write_tokenizer(tokenizer, folder)
    weights = {
        name if name.startswith("lm_head") else f"model.{name}": tensor.to(
            DTYPES[dtype]
        ).contiguous()
        for name, tensor in source.model.state_dict().items()
    }
    save_tensors(weights, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", hf_config(source, dtype))
    generation = {
        "bos_token_id": tokenizer.bos,
        "eos_token_id": [tokenizer.assistant_end, tokenizer.bos],
        "pad_token_id": tokenizer.assistant_end,
        "do_sample": False,
    }
    write_json(folder / "generation_config.json", generation)
    code = resources.files("chatling.export") / "hf_code"
    for name in () if is_classic(config) else MODERN_CODE:
        write_atomic(folder / name, (code / name).read_text(encoding="utf-8"))
    (folder / "custom_generate").mkdir()
    calculator = resources.files("chatling.tools") / "calculator.py"
    for name, file in (("generate.py", code / "generate.py"), ("calculator.py", calculator)):
        write_atomic(folder / "custom_generate" / name, file.read_text(encoding="utf-8"))


def check(source: Source, folder: Path, dtype: str) -> list[str]:
    """Load the folder with transformers and compare weights, fields, logits, tokens and template.

    Raises MachineError without transformers, DataError for what differs.
    """
    verify.needs("transformers", "Checking an export for transformers")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # of torchao, not of us
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model, tokenizer = source.model, source.tokenizer
    verify.same("model", model.config, model_config(read_json(folder / "config.json")))
    written = Tokenizer(*read_tokenizer_json(read_json(folder / "tokenizer.json")))
    verify.same("tokenizer", tokenizer.fingerprint, written.fingerprint)
    own_code = {} if is_classic(model.config) else {"trust_remote_code": True}
    loading: Any = AutoModelForCausalLM.from_pretrained(
        str(folder), output_loading_info=True, dtype=DTYPES[dtype], **own_code
    )
    theirs, info = loading
    verify.same("tensors", [], sorted(str(name) for names in info.values() for name in names))
    theirs.eval()
    found = [verify.compare_logits(model, lambda ids: theirs(ids).logits, dtype)]
    loaded = AutoTokenizer.from_pretrained(str(folder), **own_code)
    found.append(
        verify.compare_tokenizers(
            tokenizer, lambda text: loaded(text, add_special_tokens=False)["input_ids"]
        )
    )
    for conversation in verify.sample_conversations():
        for asked, ours in (
            (conversation, render(tokenizer, conversation).ids),
            (conversation.prompt, render_prompt(tokenizer, conversation.prompt)),
        ):
            ids = loaded.apply_chat_template(
                asked.to_dict()["messages"],
                add_generation_prompt=asked is not conversation,
                return_dict=False,
            )
            verify.same("chat template", ours, ids)
    return found
