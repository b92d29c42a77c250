"""The tokenizer's bench measures what it says, and reports a failing training process."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.bench.tokenizer import bench_bpe_training, bench_encode
from chatling.errors import DataError
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

TEXTS = [f"Document {i} tells of {i * 7} stars, and of the sea.\n" * 20 for i in range(200)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "shard.parquet")
    return tmp_path / "shard.parquet"


def test_encode_rows(shard: Path) -> None:
    tokenizer = train_tokenizer(iter(TEXTS), TokenizerConfig(vocab_size=300))
    rows = {row["measure"]: row["value"] for row in bench_encode([shard], tokenizer, repeats=1)}
    assert rows["encoding, ids unlike tiktoken's"] == 0
    assert float(rows["encoding"]) > 0
    size = sum(len(text.encode()) for text in TEXTS)
    assert rows["encoding, compression"] == pytest.approx(
        size / sum(len(tokenizer.encode(text)) for text in TEXTS)
    )


def test_training_rows_come_from_a_fresh_process(shard: Path) -> None:
    ballast = b"x" * 500_000_000
    rows = {
        row["measure"]: row["value"]
        for row in bench_bpe_training([shard], TokenizerConfig(vocab_size=300))
    }
    assert rows["BPE training, vocabulary"] == 300
    assert rows["BPE training, corpus"] == pytest.approx(sum(map(len, TEXTS)) / 1e6)
    assert 20 < float(rows["BPE training, peak memory"]) < len(ballast) / 1e6


def test_training_failure_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        bench_bpe_training([tmp_path / "absent.parquet"])


@pytest.mark.slow
def test_the_data_pack_is_encoded_as_tiktoken_does_in_little_memory(data_pack: Path) -> None:
    files = sorted((data_pack / "pretrain_en").glob("*.parquet"))
    rows = {
        row["measure"]: float(row["value"])
        for row in bench_bpe_training(files) + bench_encode(files)
    }
    assert rows["BPE training, vocabulary"] == 65_536
    assert rows["BPE training, peak memory"] <= 1000
    assert rows["encoding, ids unlike tiktoken's"] == 0
