"""One file that chats in any browser, offline: tokenizer, weights in int8, calculator and a small
page.
"""

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chatling.errors import RecipeError
from chatling.export import verify
from chatling.export.hf import is_classic
from chatling.export.source import Source
from chatling.files import write_atomic
from chatling.model.config import ModelConfig, parameter_counts
from chatling.model.gpt import GPT
from chatling.run_dir import size
from chatling.tokenizer.bpe import Tokenizer

PAGE = Path(__file__).with_name("page")
MOST_BYTES = 60_000_000  # of a page; what a browser still opens at once
FIELDS = (
    "depth", "width", "heads", "kv_heads", "vocab_size", "context", "mlp_width", "rope_theta",
    "norm_eps", "softcap", "windows", "qk_scale", "middle_layer",
)  # fmt: skip


def file_name(source: Source) -> str:
    return f"{source.run}.html"


def write(source: Source, folder: Path, dtype: str) -> None:
    """`<run>.html`. Raises RecipeError for an extended model, or one too large for a page."""
    config = source.model.config
    if config.yarn_factor > 1 or config.two_rotations:
        part = "YaRN's attention" if config.yarn_factor > 1 else "layers that rotate otherwise"
        raise RecipeError(
            f"The page has no code for {part}.",
            "Export it with `hf`, which takes its code along, or from a stage before `extend`.",
        )
    count = parameter_counts(config)["total"]
    expected = count * (4 if dtype == "f32" else 1) * 4 / 3
    if expected > MOST_BYTES:
        raise RecipeError(
            f"The page would have {size(expected)}; browsers take about {size(MOST_BYTES)}.",
            "Export with `gguf`, which llama.cpp and Ollama run."
            if is_classic(config)
            else "Export with `hf`, which takes its code along.",
        )
    meta, weights = _packed(source, dtype)
    texts = {
        "CALCULATOR": (PAGE / "calculator.js").read_text(encoding="utf-8"),
        "ENGINE": (PAGE / "engine.js").read_text(encoding="utf-8"),
        "NAME": source.run,  # run names hold letters, digits, ".", "_" and "-"
        "PARAMETERS": f"{count:,}",
        "META": json.dumps(meta).replace("<", "\\u003c"),
        "WEIGHTS": base64.b64encode(weights).decode(),
    }
    page = (PAGE / "page.html").read_text(encoding="utf-8")
    page = re.sub(rf"\$({'|'.join(texts)})\b", lambda match: texts[match[1]], page)
    write_atomic(folder / file_name(source), page)


def _packed(source: Source, dtype: str) -> tuple[dict[str, Any], bytes]:
    """The page's description of model and tokenizer, and the tensors end to end."""
    weights, tensors = bytearray(), {}

    def place(values: np.ndarray) -> int:
        weights.extend(b"\0" * (-len(weights) % 4))
        weights.extend(np.ascontiguousarray(values).tobytes())
        return len(weights) - values.nbytes

    for name, tensor in source.model.state_dict().items():
        values = tensor.numpy()
        entry: dict[str, Any] = {"shape": list(values.shape)}
        if dtype == "f32" or values.ndim == 1:  # a few scalars gain nothing in eight bits
            entry["offset"] = place(values)
        else:
            scale = np.maximum(np.abs(values).max(1) / 127, 1e-12).astype(np.float32)
            entry["offset"] = place(np.round(values / scale[:, None]).astype(np.int8))
            entry["scale"] = place(scale)
        tensors[name] = entry
    tokenizer = source.tokenizer
    meta = {
        "config": _fields(source.model.config),
        "tensors": tensors,
        "digits": tokenizer.digits,
        "pieces": [base64.b64encode(piece).decode() for piece in tokenizer.pieces],
    }
    return meta, bytes(weights)


def _fields(config: ModelConfig) -> dict[str, Any]:
    """What the page has to know beside the tensors, which tell the parts of the model."""
    return {name: getattr(config, name) for name in FIELDS} | {"windows": list(config.windows)}


def _between(page: str, opening: str) -> str:
    return page.partition(opening)[2].partition("</script>")[0].strip()


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A page's description, and its weights as the page computes with them."""
    page = path.read_text(encoding="utf-8")
    meta = json.loads(_between(page, '<script type="application/json" id="meta">'))
    data = base64.b64decode(_between(page, '<script type="text/plain" id="weights">'))
    weights = {}
    for name, entry in meta["tensors"].items():
        shape = entry["shape"]
        kind = np.int8 if "scale" in entry else np.float32
        values: Any = np.frombuffer(data, kind, math.prod(shape), entry["offset"]).reshape(shape)
        if "scale" in entry:
            scale = np.frombuffer(data, np.float32, shape[0], entry["scale"])
            values = values * scale[:, None]
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return meta, weights


def check(source: Source, folder: Path, dtype: str) -> list[str]:
    """Read the page back: fields, tokenizer, and the logits of its weights."""
    path = folder / file_name(source)
    meta, weights = read(path)
    for name, value in _fields(source.model.config).items():
        verify.same(name, value, meta["config"][name])
    pieces = [base64.b64decode(piece) for piece in meta["pieces"]]
    written = Tokenizer(pieces, meta["digits"])
    verify.same("tokenizer", source.tokenizer.fingerprint, written.fingerprint)
    theirs = GPT(source.model.config)
    theirs.load_state_dict(weights)
    kind = "f32" if dtype == "f32" else "q8_0"
    line = verify.compare_logits(source.model, lambda ids: theirs.logits(theirs(ids)), kind)
    return [line, f"{path.name} has {size(path.stat().st_size)}"]
