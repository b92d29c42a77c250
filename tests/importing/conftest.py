import pytest

from chatling.export.source import Source
from chatling.model.config import ModelConfig
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

from .nanochat_files import modern_2026, random_model


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    texts = ["The quick brown fox asks 12 of 345 foxes; who are they?"] * 5
    return train_tokenizer(iter(texts), TokenizerConfig(vocab_size=298, digits=2))


@pytest.fixture(scope="session", params=["2025-12", "2026-07"])
def trained(request, words) -> Source:
    """A model of one version of nanochat."""
    if request.param == "2026-07":
        config = modern_2026(words.vocab_size)
    else:
        config = ModelConfig(4, 64, 4, 2, words.vocab_size, 128, 256)
    return Source(random_model(config), words, "d4", "sft")


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
