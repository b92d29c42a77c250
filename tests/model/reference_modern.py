"""The modern preset once more, token by token and head by head, in float64 and without our code."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    depth: int
    heads: int
    kv_heads: int
    windows: tuple[int, ...]  # keys that a query sees, its own among them; 0: all before it
    theta: float = 100_000.0
    qk_scale: float = 1.2
    softcap: float = 15.0
    epsilon: float = 1.1920929e-07


def modern_logits(w: Weights, ids: list[int], shape: Shape) -> np.ndarray:
    """Logits (T, V) of one row of tokens."""
    x = [_norm(w["embed_tokens.weight"][token], shape) for token in ids]
    x = _smeared(w, x)
    first, middle = list(x), list(x)
    for layer in range(shape.depth):
        scale, skip = w["residual_scales"][layer], w["input_scales"][layer]
        x = [scale * now + skip * start for now, start in zip(x, first, strict=True)]
        heard = _attention(w, layer, [_norm(v, shape) for v in x], ids, shape)
        x = [v + part for v, part in zip(x, heard, strict=True)]
        up, down = (w[f"layers.{layer}.mlp.{name}.weight"] for name in ("fc1", "fc2"))
        x = [v + down @ np.maximum(up @ _norm(v, shape), 0) ** 2 for v in x]
        if layer == (shape.depth - 1) // 2:
            middle = list(x)
    x = [v - w["backout_scale"] * part for v, part in zip(x, middle, strict=True)]
    raw = np.array([w["lm_head.weight"] @ _norm(v, shape) for v in x])
    return shape.softcap * np.tanh(raw / shape.softcap)


def _smeared(w: Weights, x: list[np.ndarray]) -> list[np.ndarray]:
    """Each token with a share of the one before it; the first has none."""
    out = [x[0]]
    for before, now in itertools.pairwise(x):
        gate = _sigmoid(w["smear_gate.weight"] @ now[:24])
        out.append(now + w["smear_scale"] * gate * before)
    return out


def _attention(
    w: Weights, layer: int, x: list[np.ndarray], ids: list[int], shape: Shape
) -> list[np.ndarray]:
    """What each token takes over from those that it sees."""
    part = {name: w[f"layers.{layer}.self_attn.{name}_proj.weight"] for name in "qkvo"}
    width, group = len(x[0]) // shape.heads, shape.heads // shape.kv_heads
    keys, values = [], []
    for place, (token, v) in enumerate(zip(ids, x, strict=True)):
        own = (part["v"] @ v).reshape(shape.kv_heads, width)
        if layer % 2 == (shape.depth - 1) % 2:  # every other layer, the last among them
            gates = 3 * _sigmoid(w[f"layers.{layer}.self_attn.value_gate.weight"] @ v[:12])
            table = w[f"value_embeds.{layer}.weight"][token].reshape(shape.kv_heads, width)
            own = own + gates[:, None] * table
        values.append(own)
        keys.append([_turned(k, place, shape) for k in (part["k"] @ v).reshape(-1, width)])
    out = []
    for place, v in enumerate(x):
        window = shape.windows[layer] or place + 1
        seen = range(max(0, place - window + 1), place + 1)
        heads = []
        for head, query in enumerate((part["q"] @ v).reshape(-1, width)):
            q = _turned(query, place, shape)
            scores = [q @ keys[at][head // group] / math.sqrt(width) for at in seen]
            shares = np.exp(np.array(scores) - max(scores))
            shares /= shares.sum()
            taken = (values[at][head // group] for at in seen)
            heads.append(sum(s * value for s, value in zip(shares, taken, strict=True)))
        out.append(part["o"] @ np.concatenate(heads))
    return out


def _turned(vector: np.ndarray, place: int, shape: Shape) -> np.ndarray:
    """A query or key rotated by its place (the halves of the head in pairs), normed and scaled."""
    half, turned = len(vector) // 2, np.empty_like(vector)
    for i in range(half):
        angle = place * shape.theta ** (-2 * i / len(vector))
        a, b = vector[i], vector[i + half]
        turned[i] = a * math.cos(angle) + b * math.sin(angle)
        turned[i + half] = b * math.cos(angle) - a * math.sin(angle)
    return _norm(turned, shape) * shape.qk_scale


def _norm(vector: np.ndarray, shape: Shape) -> np.ndarray:
    return vector / math.sqrt(np.mean(vector**2) + shape.epsilon)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
