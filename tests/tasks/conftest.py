"""The data pack's files where a fetcher would put them, without a network."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from chatling.data.fetch import Fetcher
from chatling.data.texts import iter_texts
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

# path in the data pack -> repository and path in it, as on the Hub
PLACES = {
    "sft/train.parquet": "HuggingFaceTB/smol-smoltalk/data/train-00000-of-00001.parquet",
    "sft/test.parquet": "HuggingFaceTB/smol-smoltalk/data/test-00000-of-00001.parquet",
    "mmlu/auxiliary_train.parquet": "cais/mmlu/all/auxiliary_train-00000-of-00001.parquet",
    "mmlu/validation.parquet": "cais/mmlu/all/validation-00000-of-00001.parquet",
    "mmlu/test.parquet": "cais/mmlu/all/test-00000-of-00001.parquet",
    **{
        f"arc/{name}/{split}.parquet": f"allenai/ai2_arc/{name}/{split}-00000-of-00001.parquet"
        for name in ("ARC-Easy", "ARC-Challenge")
        for split in ("train", "validation", "test")
    },
    "gsm8k/train.jsonl": "openai/gsm8k/main/train.jsonl",
    "gsm8k/test.jsonl": "openai/gsm8k/main/test.jsonl",
    "humaneval/HumanEval.jsonl.gz": "openai/openai_humaneval/openai_humaneval/test.jsonl.gz",
}


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
    return train_tokenizer(itertools.islice(texts, 300), TokenizerConfig(vocabulary=2048))
