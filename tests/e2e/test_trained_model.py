"""A model that was trained, not a fresh one with its zero head: the same function as
`transformers`' NanoChat.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from chatling.bench.peers import to_transformers
from chatling.train.checkpoint import load_model


def test_trained_logits_equal_transformers(trained: Callable[..., Path]) -> None:
    classic = trained("--model.preset", "classic", aligned=False)
    model = load_model(classic / "sft/model")
    ids = torch.randint(
        0, model.config.vocab_size, (2, 64), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        ours, theirs = model.logits(model(ids)), to_transformers(model)(ids).logits
    assert ours.std() > 0.5  # it has something to say
    assert (ours - theirs).abs().max() <= 1e-5
