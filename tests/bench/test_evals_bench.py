"""The bench of CORE: every way of saving work leaves the outcomes as they are, and saves what it
says.
"""

from __future__ import annotations

from pathlib import Path

from chatling.bench.evals import measure_evals
from chatling.bench.measure import SMALL, random_model
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from chatling.toy import conversations
from chatling.toy.core_bundle import write_core_bundle


def test_ways_agree_and_save(tmp_path: Path) -> None:
    texts = [
        message.text for conversation in conversations(0, 500) for message in conversation.messages
    ]
    tokenizer = train_tokenizer(iter(texts), TokenizerConfig(vocab_size=400))
    write_core_bundle(tmp_path / "bundle", seed=0)
    rows = measure_evals(
        random_model(SMALL, tokenizer.vocab_size), tokenizer, tmp_path / "bundle", examples=3
    )
    found = {str(row["measure"]).removeprefix("evals, "): float(row["value"]) for row in rows}
    ways = [
        "one at a time",
        "+ logits where wanted",
        "+ beginnings read once",
        "+ batches of like lengths",
    ]
    assert [found[f"{way}, other outcomes"] for way in ways] == [0] * 4
    passes, tokens = (
        [found[f"{way}, {what}"] for way in ways] for what in ("passes", "tokens read")
    )
    assert passes[0] == 1
    assert passes[3] <= 0.7
    assert tokens[0] >= tokens[1] > 1.5 * tokens[2]
    assert tokens[3] < 1.3 * tokens[2]  # padding
    assert found["one at a time, times the first"] == 1
    assert all(found[way] > 0 for way in ways)
