"""What the reference computed (`tests/expected`), and the formula of its weights and gradients."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from chatling.model.config import ModelConfig, ModelRecipe
from chatling.model.gpt import GPT

EXPECTED = Path(__file__).parent.parent / "expected"


def expected(name: str) -> Any:
    """A JSON file below `tests/expected`."""
    return json.loads((EXPECTED / name).read_text(encoding="utf-8"))


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(EXPECTED / name) as found:
        return dict(found)


def tensors(name: str) -> dict[str, torch.Tensor]:
    """Those of a file in float32."""
    found = load_file(EXPECTED / name)
    return {key: torch.from_numpy(array.astype(np.float32)) for key, array in found.items()}


def _uniform(label: str, shape: tuple[int, ...]) -> np.ndarray:
    """Doubles in [0, 1); RandomState's stream is frozen by NumPy's compatibility policy."""
    state = np.random.RandomState(zlib.crc32(label.encode()))
    return state.random_sample(int(np.prod(shape))).reshape(shape)


def weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Tables of deviation 1, matrices of 1 / sqrt(columns), scalars in [0.3, 1.2), all exact in
    float16.
    """
    u = _uniform(f"weight {seed} {name}", shape)
    if len(shape) == 1:
        w = 0.3 + 0.9 * u
    else:
        w = (2 * u - 1) * 3**0.5 / (1.0 if "embed" in name else shape[1] ** 0.5)
    return w.astype(np.float16).astype(np.float32)


def gradient(name: str, shape: tuple[int, ...], step: int, scale: float) -> np.ndarray:
    """Gradient of parameter `name` at the `step`-th (from 0) update."""
    u = _uniform(f"gradient {step} {name}", shape)
    return ((2 * u - 1) * 3**0.5 * scale / shape[-1] ** 0.5).astype(np.float32)


def model_like(facts: dict[str, Any], **changes: Any) -> ModelConfig:
    """The shape that a file of the reference describes."""
    names = {"vocabulary": "vocab_size"}
    wanted = {names.get(name, name): value for name, value in facts.items()}
    preset, vocab_size = wanted.pop("preset"), wanted.pop("vocab_size")
    fields = ("depth", "width", "head_width", "kv_heads", "context")
    recipe = ModelRecipe(preset, **{name: wanted[name] for name in fields})
    config = recipe.resolve(vocab_size)
    assert (config.heads, config.mlp_width) == (wanted["heads"], wanted["mlp_width"])
    return ModelConfig.from_dict(config.to_dict() | changes)


def filled(config: ModelConfig, facts: dict[str, Any], seed: int) -> GPT:
    """A model with the formula's weights, which must be those of the reference."""
    shapes = {name: tuple(shape) for name, shape in facts["parameters"].items()}
    weights = {name: weight(name, shape, seed) for name, shape in shapes.items()}
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].astype("<f4").tobytes())
    assert digest.hexdigest() == facts["weights_sha256"]
    model = GPT(config)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return model
