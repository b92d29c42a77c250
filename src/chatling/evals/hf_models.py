"""Causal models of `transformers` as scorers, so that GPT-2 takes the same evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from chatling.errors import DataError, MachineError
from chatling.evals.loglikelihood import OnProgress, Question, Scores, SpanScore, length_sorted
from chatling.model.config import LOGITS_CHUNK

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class HFScorer:
    """Scores with a causal model of `transformers`: every sequence a row of its own, length-sorted
    and padded at the end.
    """

    model: PreTrainedModel
    batch_tokens: int = 8192

    @property
    def context(self) -> int | None:
        """What the model's config says, under one of its names; None where it does not."""
        config = self.model.config
        found = (
            getattr(config, name, None)
            for name in ("max_position_embeddings", "n_positions", "max_seq_len")
        )
        return next((length for length in found if isinstance(length, int)), None)

    @torch.inference_mode()
    def score(self, questions: Sequence[Question], progress: OnProgress | None = None) -> Scores:
        pairs = [(i, j) for i, each in enumerate(questions) for j in range(len(each.sequences))]
        scores = [[SpanScore(0.0, 0, True)] * len(question.sequences) for question in questions]
        # A model gives all its logits.
        most = max(1, min(self.batch_tokens, LOGITS_CHUNK // self.model.config.vocab_size))
        done = 0
        for batch in length_sorted([len(questions[i].sequences[j]) for i, j in pairs], most):
            owners = [pairs[k] for k in batch]
            rows = [questions[i].sequences[j] for i, j in owners]
            ids = [torch.from_numpy(row).long() for row in rows]
            inputs = pad_sequence(ids, batch_first=True).to(self.model.device)
            lengths = torch.tensor([len(row) for row in rows], device=inputs.device)
            read = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
            logits = self.model(
                inputs[:, :-1], attention_mask=read[:, :-1].long(), use_cache=False
            ).logits  # (B, T - 1, V)
            for b, (i, j) in enumerate(owners):
                span = slice(questions[i].starts[j] - 1, len(rows[b]) - 1)
                goals, own = inputs[b, 1:][span], logits[b, span].float()
                nats = F.cross_entropy(own, goals, reduction="none").double().sum()
                scores[i][j] = SpanScore(
                    float(nats), len(goals), bool((own.argmax(dim=-1) == goals).all())
                )
            done += len(batch)
            if progress is not None:
                progress(done, len(pairs))
        return [tuple(each) for each in scores]


class HFTokenizer:
    """What CORE needs of a tokenizer, from one of `transformers`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        """Raises DataError when it has no token that begins a text."""
        self._tokenizer = tokenizer
        first = next(
            (i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None
        )
        if first is None:
            raise DataError(
                f"The tokenizer {tokenizer.name_or_path!r} has no token that begins a text.",
                "Choose another model.",
            )
        self.bos = int(first)

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids end to end, and offsets (texts + 1,) into them."""
        rows: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return np.concatenate([np.array(row, np.int64) for row in rows]), np.cumsum(
            [0, *map(len, rows)]
        )


def load_hub_model(
    name: str, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[HFScorer, HFTokenizer]:
    """A model of the Hub, or in a folder, with its tokenizer.

    Raises MachineError without `transformers`, DataError when it cannot be had.
    """
    try:
        import transformers
    except ImportError as error:
        raise MachineError(
            "transformers is not installed.", "pip install 'chatling[harness]'"
        ) from error
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"Cannot load the model {name!r}: {reason}",
            "Check its name, or name a folder that holds it.",
        ) from error
    return HFScorer(model.to(device).eval()), HFTokenizer(tokenizer)
