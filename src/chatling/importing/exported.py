"""Folders of `config.json`, `tokenizer.json` and safetensors: exports of ours, and what
transformers and MLX write for `nanochat`.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chatling.errors import DataError
from chatling.export.hf import model_config
from chatling.files import open_plain, read_json
from chatling.importing.nanochat import our_name
from chatling.model.config import ModelConfig
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.hf_format import read_tokenizer_json

MOST_TOKENIZER = 256 << 20  # bytes of tokenizer.json


def read_model(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The shape, and the tensors by our names. Raises DataError for what is no model of ours."""
    found = read_json(folder / "config.json")
    if not isinstance(found, dict):
        raise DataError(f"{folder / 'config.json'} does not describe a model.")
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with open_plain(path):
                part = load_file(path)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} cannot be read ({error}).") from None
        tensors |= {our_name(name.removeprefix("model.")): t for name, t in part.items()}
    return model_config(found), tensors


def read_tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer(*read_tokenizer_json(read_json(folder / "tokenizer.json", MOST_TOKENIZER)))
