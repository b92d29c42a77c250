"""The data pack's files where a fetcher would put them, without a network."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from chatling.data.hub import Fetcher
from chatling.data.parquet import iter_texts
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from mirror import PLACES


@pytest.fixture(scope="session")
def fetcher(data_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Fetcher:
    folder = tmp_path_factory.mktemp("hub")
    for source, place in PLACES.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).symlink_to(data_pack / source)
    (folder / "words_alpha.txt").symlink_to(data_pack / "words/words_alpha.txt")
    return Fetcher(local=folder)


@pytest.fixture(scope="session")
def letter_tokenizer(data_pack: Path) -> Tokenizer:
    """Trained on some real text."""
    texts = iter_texts([data_pack / "pretrain_en/shard_00005.parquet"])
    return train_tokenizer(itertools.islice(texts, 300), TokenizerConfig(vocab_size=2048))
