"""How often a run goes through a person's own data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from chatling.config.recipe import Recipe
from chatling.data.config import POCKET
from chatling.pipeline.survey import Held, Survey
from chatling.train.datasets import MixtureEntry
from chatling.train.finetune import FinetuneConfig

# English web text at vocabulary 65,536: the reference run's 54 B characters for 11.2 B tokens
CHARACTERS_PER_TOKEN = 4.8
# Measured at vocabulary 65,536, where no other source is named.
TOKENS_PER_CONVERSATION = {
    POCKET: 32,  # 1,026 steps of 4,096 tokens from 130,000 conversations, vocabulary 2,048
    # what is left for it of the reference's mid-training: 9 h on one DGX Spark, 0.42 B tokens
    "SmolTalk": 800,
    "MMLU": 350,  # auxiliary_train: 161 MB for 99,842 questions
    "ARC-Easy": 75,
    "ARC-Challenge": 84,
    "GSM8K": 175,
    "SimpleSpelling": 33,
    "SpellingBee": 93,
    "identity": 72,
}
OTHER_TOKENS_PER_CONVERSATION = 500  # of files of your own
OWN_CONVERSATIONS = 10_000  # of a file of one's own that was not looked into
SPECIAL_TOKENS = (
    5  # of a question and its answer: where the conversation and each turn begin and end
)
MANY_EPOCHS = 10  # above, a model learns its text by heart rather than from it


@dataclass(frozen=True)
class Use:
    """How often a stage goes through some data of one's own."""

    stage: str
    name: str
    unit: str
    held: Held
    tokens: float  # that the data come to, an estimate
    epochs: float


def own_tokens(size: float, vocab_size: int) -> float:
    """About how many tokens so many bytes of text are: 4.5 bytes each at 32,768 tokens and above,
    0.4 fewer at each half of that. Within 4 % of what docs/LOG.md measures on web text.
    """
    return size / max(1.0, 4.5 + min(0.0, 0.4 * math.log2(vocab_size / 32_768)))


def _talk_tokens(held: Held, vocab_size: int) -> float:
    return own_tokens(held.bytes, vocab_size) + SPECIAL_TOKENS * held.items


def available(entry: MixtureEntry, survey: Survey) -> int | None:
    """Conversations that there are of an entry's data; None where that is not known."""
    held = survey.talks.get(entry.task)
    if held is None:
        return replace(entry, count=None, epochs=1).expected
    return held.items if entry.split in (None, "train") else held.held_out


def taken(entry: MixtureEntry, survey: Survey) -> int:
    """Conversations that a mixture takes of an entry."""
    if entry.count is not None:
        return entry.count * entry.epochs
    found = available(entry, survey)
    return (OWN_CONVERSATIONS if found is None else found) * entry.epochs


def mixture_size(config: FinetuneConfig, survey: Survey, vocab_size: int) -> tuple[int, float]:
    """(conversations, tokens) that a fine-tuning stage goes through in all, as its mixture says."""
    conversations, tokens = 0, 0.0
    for entry in config.mixture:
        count, held = taken(entry, survey) * config.epochs, survey.talks.get(entry.task)
        each = TOKENS_PER_CONVERSATION.get(entry.task, OTHER_TOKENS_PER_CONVERSATION)
        conversations += count
        tokens += count * (_talk_tokens(held, vocab_size) / max(1, held.items) if held else each)
    return conversations, tokens


def uses_of(recipe: Recipe, survey: Survey, base_tokens: int) -> Iterator[Use]:
    """How often each stage goes through the data that were looked into."""
    vocab_size = recipe.tokenizer.vocab_size
    if survey.text is not None:
        tokens = own_tokens(survey.text.bytes, vocab_size)
        yield Use(
            "base",
            recipe.data.source,
            "documents",
            survey.text,
            tokens,
            base_tokens / max(1.0, tokens),
        )
    for name, config in (("mid", recipe.mid), ("sft", recipe.sft)):
        if config is None:
            continue
        conversations, tokens = mixture_size(config, survey, vocab_size)
        share = (
            config.batch_tokens / max(1.0, tokens)
            if config.packed
            else config.batch_conversations / max(1, conversations)
        )
        for entry in config.mixture:
            if (held := survey.talks.get(entry.task)) is not None:
                times = taken(entry, survey) * config.epochs / max(1, available(entry, survey) or 0)
                yield Use(
                    name,
                    entry.task,
                    "conversations",
                    held,
                    _talk_tokens(held, vocab_size),
                    times * max(1.0, share),
                )
    if recipe.dpo is not None and survey.pairs is not None:
        tokens = own_tokens(survey.pairs.bytes, vocab_size)
        yield Use("dpo", recipe.dpo.data, "pairs", survey.pairs, tokens, recipe.dpo.epochs)


def epoch_warnings(uses: Sequence[Use], base_steps: int) -> list[str]:
    """What to know of data that are gone through too often."""
    hint = {"base": "fewer steps (--base.steps {})", "dpo": "fewer dpo.epochs"}
    found = []
    for use in uses:
        if use.epochs > MANY_EPOCHS:
            fewer = hint.get(use.stage, "a smaller count or fewer epochs in the mixture")
            fewer = fewer.format(max(1, int(base_steps * MANY_EPOCHS / use.epochs)))
            found.append(
                f"{use.stage} goes about {use.epochs:,.0f} times through {use.name}: above"
                f" {MANY_EPOCHS} times a model learns it by heart rather than from it. Take"
                f" {fewer}, bring more data, or choose a smaller model."
            )
    return found
