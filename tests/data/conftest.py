"""A tokenizer small enough to reason about, and corpora whose every token can be told apart."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.data.token_shards import TokenShards


class ByteTokenizer:
    """A token a byte. Remembers what it was asked to encode."""

    vocab_size, bos, fingerprint = 257, 256, "bytes"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        self.texts += texts
        raw = [text.encode() for text in texts]
        return np.frombuffer(b"".join(raw), np.uint8).astype(np.uint32), np.concatenate(
            ([0], np.cumsum([len(r) for r in raw]))
        )


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture
def write_texts(tmp_path: Path) -> Callable[..., Path]:
    """Write a column of values as a parquet file."""

    def write(
        name: str, texts: Sequence, column: str = "text", kind: pa.DataType | None = None
    ) -> Path:
        path = tmp_path / "corpus" / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(
            pa.table({column: texts if isinstance(texts, pa.Array) else pa.array(texts, kind)}),
            path,
            row_group_size=3,
        )
        return path

    return write


@pytest.fixture(scope="session")
def numbered() -> Callable[..., TokenShards]:
    """A corpus in memory whose tokens are 0, 1, 2, … so that each can be counted; cut into shards
    after every third document.
    """

    def make(lengths: Sequence[int]) -> TokenShards:
        offsets = np.concatenate(([0], np.cumsum(np.array(lengths, np.int64))))
        cuts = offsets[3:-1:3]
        return TokenShards(
            np.split(np.arange(offsets[-1], dtype=np.uint32), cuts), offsets, int(offsets[-1]) + 1
        )

    return make
