"""How many conversations and tokens a mixture comes to, before it is rendered."""

from dataclasses import replace

from chatling.config.stages import FinetuneConfig, MixtureEntry
from chatling.toy.dataset import BUILT_IN
from chatling.train.scaling import own_tokens
from chatling.train.survey import Held, Survey

# Measured at vocabulary 65,536.
TOKENS_PER_CONVERSATION = {
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
# of a question and its answer: where the conversation and each turn begin and end
SPECIAL_TOKENS = 5


def expected_tokens(task: str) -> int:
    """Tokens of a conversation of a task, or of a file that was not looked into."""
    if made := BUILT_IN.get(task):
        return made.tokens_per_conversation
    return TOKENS_PER_CONVERSATION.get(task, OTHER_TOKENS_PER_CONVERSATION)


def conversation_tokens(held: Held, vocab_size: int) -> float:
    """About how many tokens the conversations of a file are."""
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
        each: float = expected_tokens(entry.task)
        if held:
            each = conversation_tokens(held, vocab_size) / max(1, held.items)
        conversations += count
        tokens += count * each
    return conversations, tokens
