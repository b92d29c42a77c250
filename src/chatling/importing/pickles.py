"""Reads what pickles hold without doing what they say: no code of theirs is looked up or called."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from chatling.errors import DataError
from chatling.files import open_plain, read_plain

MOST_TOKENIZER = 64 << 20  # bytes of tokenizer.pkl
MOST_INDEX = 16 << 20  # bytes of the pickle inside of a .pt
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
}
Names = Mapping[tuple[str, str], Any]
FOREIGN = "It was not written by nanochat; do not open it with other programs either."


class _Inert:
    """Keeps the state that an object would have been given."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


# the Python one: its memo takes no more than the file has
class _Reader(pickle._Unpickler):
    def __init__(self, data: bytes, names: Names, load: Callable[[Any], Any] | None):
        super().__init__(io.BytesIO(data))
        self.names, self.lookup = names, load

    # without the one opcode that takes the memory it names before it has the bytes
    dispatch: ClassVar = {
        code: act
        for code, act in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise DataError(f"it asks for {module}.{name}")
        return self.names[module, name]

    def persistent_load(self, mark: Any) -> Any:
        if self.lookup is None:
            raise DataError("it refers to other data")
        return self.lookup(mark)


def _read(path: Path, data: bytes, names: Names, load: Callable[[Any], Any] | None = None) -> Any:
    try:
        return _Reader(data, names, load).load()
    except DataError as error:
        raise DataError(f"{path} is refused: {error.what.removesuffix('.')}.", FOREIGN) from None
    # a pickle can fail in any way
    except Exception as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}).") from None


def read_encoding(path: Path) -> dict[str, Any]:
    """The state of the tiktoken `Encoding` in a `tokenizer.pkl`. Raises DataError for anything
    else.
    """
    data = read_plain(path, MOST_TOKENIZER)
    found = _read(path, data, {("tiktoken.core", "Encoding"): _Inert})
    state = getattr(found, "state", None)
    if not isinstance(found, _Inert) or not isinstance(state, dict):
        raise DataError(f"{path} holds no tokenizer of tiktoken.", FOREIGN)
    return state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` that holds a state dict, by name. Raises DataError for anything
    else.
    """
    with open_plain(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _tensors(path, archive, os.fstat(file.fileno()).st_size)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
            raise DataError(f"{path} is not a checkpoint of torch ({error}).") from None


def _tensors(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, Tensor]:
    entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    for info in entries.values():
        # torch stores; what is packed may be far larger than the file
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise DataError(f"{path} holds {info.filename!r} packed, as torch never does.")
    if sum(info.file_size for info in archive.infolist()) > size:
        raise DataError(f"{path} holds entries that share their bytes, as torch never writes.")
    if "data.pkl" not in entries or entries["data.pkl"].file_size > MOST_INDEX:
        raise DataError(f"{path} has no index of a size that checkpoints have.")
    order = entries.get("byteorder")
    if order is not None and archive.read(order) != b"little":
        raise DataError(f"{path} is of a big-endian machine.")
    storages: dict[str, Tensor] = {}

    def storage(mark: Any) -> Tensor:
        kind, dtype, key, _, count = mark
        entry = entries[f"data/{key}"]
        if kind != "storage" or entry.file_size != count * dtype.itemsize:
            raise DataError(f"its storage {key!r} has not the size that it says")
        if key not in storages:
            storages[key] = torch.frombuffer(bytearray(archive.read(entry)), dtype=dtype)
        return storages[key]

    def rebuild(data: Tensor, offset: int, shape: Any, stride: Any, *_: Any) -> Tensor:
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        whole = all(type(n) is int and n > 0 for n in shape) and min((offset, *stride)) >= 0
        # a stride of 0 would make a large tensor of a small file
        if not whole or 0 in stride or last >= len(data):
            raise DataError("a tensor lies outside of its storage")
        return data.as_strided(tuple(shape), tuple(stride), offset)

    names: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild,
        **{("torch", name): dtype for name, dtype in DTYPES.items()},
    }
    found = _read(path, archive.read(entries["data.pkl"]), names, storage)
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        raise DataError(f"{path} holds no weights by name.", FOREIGN)
    return found
