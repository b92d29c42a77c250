"""A chatling model for transformers: the modern preset, which no class of the library has."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_chatling import ChatlingConfig

MASKS = {
    "full_attention": create_causal_mask,
    "sliding_attention": create_sliding_window_causal_mask,
}


def norm(x, eps):
    return F.rms_norm(x, (x.shape[-1],), eps=eps)


def rotate(x, cos, sin):
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos + right * sin, right * cos - left * sin), dim=-1)


def eager_attention_forward(module, query, key, value, attention_mask, scaling, **kwargs):
    groups = module.num_key_value_groups
    key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class ChatlingAttention(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, True
        self.head_dim = config.head_dim
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.num_key_value_groups = heads // kv_heads
        sliding = config.layer_types[layer_idx] == "sliding_attention"
        # of queries and keys; with YaRN, full layers attend more sharply
        scale = config.qk_scale * (0.1 * math.log(1 if sliding else config.yarn_factor) + 1)
        self.scaling = scale**2 * self.head_dim**-0.5
        self.sliding_window = config.sliding_window if sliding else None
        self.q_proj = nn.Linear(config.hidden_size, heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(heads * self.head_dim, config.hidden_size, bias=False)
        if layer_idx in config.value_embedding_layers:
            # kept: vLLM's stand-in for nn.Linear has no in_features
            self.gate_inputs = min(config.value_gate_inputs, config.hidden_size)
            self.value_gate = nn.Linear(self.gate_inputs, kv_heads, bias=False)

    def forward(
        self,
        x,
        position_embeddings,
        value_embedding=None,
        attention_mask=None,
        past_key_values=None,
        **kwargs,
    ):
        shape = (*x.shape[:-1], -1, self.head_dim)
        q, k, v = self.q_proj(x).view(shape), self.k_proj(x).view(shape), self.v_proj(x).view(shape)
        if value_embedding is not None:
            gate = 3 * torch.sigmoid(self.value_gate(x[..., : self.gate_inputs]))
            v = v + gate[..., None] * value_embedding.view(shape)
        cos, sin = position_embeddings
        eps = self.config.rms_norm_eps
        q, k = (norm(rotate(t, cos, sin), eps).to(v.dtype).transpose(1, 2) for t in (q, k))
        v = v.transpose(1, 2)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        y, weights = attend(
            self,
            q,
            k,
            v,
            attention_mask,
            dropout=0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **kwargs,
        )
        return self.o_proj(y.reshape(*x.shape[:-1], -1)), weights


class ChatlingMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)).square())


class ChatlingBlock(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.eps = config.rms_norm_eps
        self.self_attn, self.mlp = ChatlingAttention(config, layer_idx), ChatlingMLP(config)

    def forward(self, x, **kwargs):
        x = x + self.self_attn(norm(x, self.eps), **kwargs)[0]
        return x + self.mlp(norm(x, self.eps))


class ChatlingPreTrainedModel(PreTrainedModel):
    config_class = ChatlingConfig
    base_model_prefix = "model"
    _no_split_modules = ["ChatlingBlock"]  # noqa: RUF012 - as in transformers
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(0, 0.02)


class ChatlingModel(ChatlingPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        c = config
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(ChatlingBlock(c, i) for i in range(c.num_hidden_layers))
        kv_width = c.num_key_value_heads * c.head_dim
        self.value_embeds = nn.ModuleDict(
            {str(i): nn.Embedding(c.vocab_size, kv_width) for i in c.value_embedding_layers}
        )
        if c.layer_scalars:
            self.residual_scales = nn.Parameter(torch.ones(c.num_hidden_layers))
            self.input_scales = nn.Parameter(torch.zeros(c.num_hidden_layers))
        if c.smear:
            self.smear_inputs = min(c.smear_gate_inputs, c.hidden_size)
            self.smear_gate = nn.Linear(self.smear_inputs, 1, bias=False)
            self.smear_scale = nn.Parameter(torch.zeros(1))
        if c.backout:
            self.backout_scale = nn.Parameter(torch.zeros(1))
        self.post_init()

    def rotary(self, position_ids, kind):
        """Cosines and sines in fp32, (B, T, 1, E/2), of a kind of layers."""
        c, width = self.config, self.config.head_dim
        theta = (kind == "sliding_attention" and c.window_theta) or c.rope_theta
        powers = torch.arange(0, width, 2, dtype=torch.float32, device=position_ids.device) / width
        frequencies = theta**-powers
        if kind == "full_attention" and c.yarn_factor > 1:  # by parts, arXiv 2309.00071
            low, high = (
                width * math.log(c.yarn_context / (turns * 2 * math.pi)) / (2 * math.log(theta))
                for turns in (32, 1)
            )
            low, high = max(math.floor(low), 0), min(math.ceil(high), width - 1)
            index = torch.arange(width // 2, dtype=torch.float32, device=position_ids.device)
            stretched = ((index - low) / max(high - low, 0.001)).clamp(0, 1)
            frequencies = frequencies / c.yarn_factor * stretched + frequencies * (1 - stretched)
        angles = position_ids[..., None].float() * frequencies
        return angles.cos()[:, :, None], angles.sin()[:, :, None]

    def predecessors(self, x, attention_mask, past_key_values):
        """Each token's predecessor (B, T, D), zeros before the first. The last token of earlier
        calls lies in a cache layer of its own.
        """
        if past_key_values is None:
            before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        else:
            layers = self.config.num_hidden_layers
            if len(past_key_values.layers) == layers:  # made from the config, for attention alone
                past_key_values.layers.append(DynamicLayer())
            kept, _ = past_key_values.update(x[:, None], x[:, None, :, :1], layers)
            before = F.pad(kept[:, 0], (0, 0, 1, 0))[:, -x.shape[1] - 1 : -1]
        if attention_mask is not None and attention_mask.dim() == 2:  # padding precedes nothing
            seen = F.pad(attention_mask, (1, 0))[:, -x.shape[1] - 1 : -1]
            before = before * seen[..., None].to(before.dtype)
        return before

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        use_cache=None,
        inputs_embeds=None,
        **kwargs,
    ):
        c = self.config
        use_cache = c.use_cache if use_cache is None else use_cache
        x = self.embed_tokens(input_ids)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        if position_ids is None:
            position_ids = (torch.arange(x.shape[1], device=x.device) + past)[None]
        shared = {
            "config": c,
            "inputs_embeds": x,
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            "position_ids": position_ids,
        }
        masks = {kind: MASKS[kind](**shared) for kind in set(c.layer_types)}
        rotary = {kind: self.rotary(position_ids, kind) for kind in masks}
        x = norm(x, c.rms_norm_eps)
        if c.smear:
            if c._attn_implementation == "vllm":
                raise NotImplementedError(
                    "This model looks at each token's predecessor, which vLLM's paged cache does"
                    " not keep. Use transformers, or chatling's own server."
                )
            before = self.predecessors(x, attention_mask, past_key_values)
            gate = torch.sigmoid(self.smear_gate(x[..., : self.smear_inputs]))
            x = x + (self.smear_scale * gate) * before
        first = middle = x
        for i, block in enumerate(self.layers):
            if c.layer_scalars:
                x = self.residual_scales[i] * x + self.input_scales[i] * first
            has_values = i in c.value_embedding_layers
            x = block(
                x,
                position_embeddings=rotary[c.layer_types[i]],
                value_embedding=self.value_embeds[str(i)](input_ids) if has_values else None,
                attention_mask=masks[c.layer_types[i]],
                past_key_values=past_key_values,
                **kwargs,
            )
            if i == c.backout_layer:
                middle = x
        if c.backout:
            x = x - self.backout_scale * middle
        return BaseModelOutputWithPast(norm(x, c.rms_norm_eps), past_key_values)


class ChatlingForCausalLM(ChatlingPreTrainedModel, GenerationMixin):
    _tied_weights_keys = None

    def __init__(self, config):
        super().__init__(config)
        self.model = ChatlingModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        **kwargs,
    ):
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, use_cache, **kwargs
        )
        keep = logits_to_keep
        if isinstance(keep, int):
            keep = slice(-keep, None)
        cap = self.config.final_logit_softcapping
        logits = cap * torch.tanh(self.lm_head(out.last_hidden_state[:, keep]).float() / cap)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss, logits, out.past_key_values)
