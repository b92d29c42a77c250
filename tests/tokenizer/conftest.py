"""Tokenizers that the room's tests share: one trained on a small text of many kinds, and its
folder.
"""

from pathlib import Path

import pytest

from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

CORPUS = [
    (
        "The capital of France is Paris. It's what we'd call a city, and they'll say you're"
        " right.\n\nNext paragraph."
    ),
    "def add(a, b):\n    return a + b  # 1234567890 + 42\n\n\nprint(add(2, 40))\n",
    "北京是中国的首都。 日本の首都は東京です。 Größe, naïve, Ångström, ½ cup, ١٢٣ 😀😀👩‍👩‍👧",
    "<|bos|> is written <|user_start|> and <|assistant_end|> in this text, spelled out. " * 3,
    "aaaa aaaaaaaa ababababab abcabcabc   \t\t  \r\n \r\n x" * 5,
]


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    return CORPUS


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter(CORPUS * 3), TokenizerConfig(vocab_size=500))


@pytest.fixture(scope="session")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "tokenizer"
    tokenizer.save(path)
    return path
