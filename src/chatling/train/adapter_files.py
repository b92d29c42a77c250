"""Adapters in the format of peft: `adapter_config.json` and `adapter_model.safetensors`."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chatling.errors import DataError
from chatling.model.adapter import ADAPTED, MOST_ALPHA, AdaptedGPT
from chatling.model.gpt import GPT
from chatling.run_dir import building_folder, open_plain, read_json, write_json
from chatling.train.checkpoint import save_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model.model."  # before the names that our hf export has
BASE = "base_model_name_or_path"
# what other values would mean, chatling does not compute
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "use_dora": False,
    "use_rslora": False,
    "lora_bias": False,
    "modules_to_save": None,
    "layer_replication": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def save_adapter(model: AdaptedGPT, folder: Path) -> None:
    """Write a model's adapters, whole or not at all."""
    weights = {f"{PREFIX}{name}": t.cpu().contiguous() for name, t in model.state_dict().items()}
    found = {
        **PLAIN,
        "task_type": "CAUSAL_LM",
        BASE: model.source,
        "r": model.adapter.rank,
        "lora_alpha": model.adapter.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(ADAPTED),
        "inference_mode": True,
    }
    with building_folder(folder) as temporary:
        save_tensors(weights, temporary / WEIGHTS, {"format": "pt"})
        write_json(temporary / CONFIG, found)


def adapter_base(folder: Path) -> str:
    """The model that a folder's adapters belong to, as peft names it. Raises DataError."""
    found = _read_config(folder).get(BASE)
    if not isinstance(found, str) or not found:
        raise DataError(
            f"{folder / CONFIG} does not say which model it belongs to.",
            f"Write its folder, or OWNER/NAME, as {BASE}.",
        )
    return found


@torch.no_grad()
def add_adapter(model: GPT, folder: Path) -> None:
    """Merge a folder's adapters into a model in fp32. Raises DataError for any that are not of this
    model, or of a kind that chatling does not compute.
    """
    (rank, alpha), path = _rank_and_alpha(folder), folder / WEIGHTS
    try:
        with open_plain(path):
            tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from None
    if not tensors:
        raise DataError(f"{path} holds no adapters.")
    matrices = model.state_dict()
    while tensors:
        name = next(iter(tensors))
        place = name.removeprefix(PREFIX).rpartition(".lora_")[0]
        low, high = (tensors.pop(f"{PREFIX}{place}.lora_{half}.weight", None) for half in "AB")
        matrix = matrices.get(f"{place}.weight") if place.endswith(ADAPTED) else None
        if low is None or high is None or matrix is None or not _fit(low, high, matrix, rank):
            raise DataError(
                f"{path} holds {name[:200]}, which does not fit the model that it names.",
                f"Adapters of {', '.join(ADAPTED)} are read.",
            )
        matrix += alpha / rank * (high.float() @ low.float())


def _fit(low: Tensor, high: Tensor, matrix: Tensor, rank: int) -> bool:
    """Whether two factors are finite, of this rank, and have a product of the matrix's shape."""
    if low.dim() != 2 or high.dim() != 2:
        return False
    shapes = (*high.shape, *low.shape) == (len(matrix), rank, rank, matrix.shape[1])
    floats = low.is_floating_point() and high.is_floating_point()
    return shapes and floats and bool(low.isfinite().all() and high.isfinite().all())


def _read_config(folder: Path) -> dict[str, Any]:
    found = read_json(folder / CONFIG)
    if not isinstance(found, dict):
        raise DataError(f"{folder / CONFIG} does not describe adapters.")
    return found


def _rank_and_alpha(folder: Path) -> tuple[int, float]:
    found = _read_config(folder)
    for key, plain in PLAIN.items():
        if (value := found.get(key) or plain) != plain:
            raise DataError(
                f"{folder / CONFIG} asks for {key} = {str(value)[:40]!r}, which chatling does not"
                " compute.",
                "Train adapters of plain LoRA, or merge them with peft and import the result.",
            )
    rank, alpha = found.get("r"), found.get("lora_alpha")
    if type(rank) is not int or rank < 1 or not isinstance(alpha, int | float):
        raise DataError(f"{folder / CONFIG} has no rank r and lora_alpha.")
    if not 0 < alpha <= MOST_ALPHA:  # nan neither
        raise DataError(f"{folder / CONFIG} has a lora_alpha that is not in (0, {MOST_ALPHA:,}].")
    return rank, float(alpha)
