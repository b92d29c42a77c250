"""The same weights in another library, to measure and to test ourselves against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from chatling.errors import ChatlingError
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT

if TYPE_CHECKING:
    from transformers import NanoChatForCausalLM


def to_transformers(model: GPT, dtype: torch.dtype = torch.float32) -> NanoChatForCausalLM:
    """A classic model as `transformers`' NanoChat, in evaluation mode; an independent
    implementation of the same function.

    Raises ChatlingError when the model is not classic, which NanoChat cannot express, or when
    `transformers` is not installed.
    """
    try:
        from transformers import NanoChatConfig, NanoChatForCausalLM
    except ImportError as error:
        raise ChatlingError(
            "transformers is not installed, so there is nothing to compare with.",
            "pip install transformers",
        ) from error
    c = model.config
    classic = ModelConfig(
        c.depth,
        c.width,
        c.heads,
        c.kv_heads,
        c.vocab_size,
        c.context,
        c.mlp_width,
        c.rope_theta,
        c.norm_eps,
        c.softcap,
    )
    if c != classic:
        raise ChatlingError(
            "Only the classic architecture is what transformers calls nanochat; this model has"
            " features beyond it."
        )
    config = NanoChatConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.width,
        intermediate_size=c.mlp_width,
        num_hidden_layers=c.depth,
        num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads,
        max_position_embeddings=c.context,
        rms_norm_eps=c.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
        final_logit_softcapping=c.softcap,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    weights = {
        name if name.startswith("lm_head") else f"model.{name}": value
        for name, value in model.state_dict().items()
    }
    peer = NanoChatForCausalLM(config)
    peer.load_state_dict(weights)
    # Not the buffers: rotary frequencies stay in fp32, as when transformers loads a model.
    for parameter in peer.parameters():
        parameter.data = parameter.data.to(model.lm_head.weight.device, dtype)
    peer.model.rotary_emb.to(model.lm_head.weight.device)
    return peer.eval()
