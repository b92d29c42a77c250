"""Conversations for an improvement whose pairs differ by an addition alone: those that the run was
trained on, with the same text added to their answers.

A small model does not learn from a few dozen pairs to say what it never said; from as many
conversations as these it does, and keeps what it knew, for that is in them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from chatling.config.recipe import Recipe
from chatling.config.stages import FinetuneConfig, MixtureEntry
from chatling.data.additions import Addition, likely_addition
from chatling.data.preferences import Preference
from chatling.messages import Conversation
from chatling.toy.dataset import BUILT_IN
from chatling.train.datasets import open_sources

TAUGHT = 40_000  # conversations, about
OWN_TIMES = 4  # the preferred answers are among them
RATE = 0.5  # of mid's
ROWS = 32  # of the context in a step, at most


def entries(recipe: Recipe) -> list[MixtureEntry]:
    """What a run's conversations are made of."""
    return [e for table in (recipe.mid, recipe.sft) if table for e in table.mixture]


def changed_talks(
    recipe: Recipe,
    additions: Sequence[tuple[str, Addition]],
    learned: Sequence[Preference],
    held_out: Sequence[Preference],
    note: Callable[[str], None],
) -> list[Conversation]:
    """Conversations of a run's mixtures that need no download, changed, and those that the pairs
    prefer. None where there are no such mixtures. Each of the `additions` has an answer with it.
    """
    here = list(_here(recipe))
    if not here or not additions:
        return []
    found = open_sources(recipe, note).mixture(here, 0, "train", TAUGHT // len(here))
    rng, apart = Random(recipe.seed), {pair.prompt.messages[-1] for pair in held_out}
    talks = [
        _changed(talk, additions, rng)
        for talk in (found[i] for i in range(len(found)))
        if not apart & set(talk.messages)
    ]
    texts = " or ".join(dict.fromkeys(str(added) for _, added in additions))
    note(
        f"Your pairs add {texts}, and that alone: {len(talks):,} conversations that it was trained"
        " on are changed in the same way."
    )
    talks += [Conversation((*pair.prompt.messages, pair.chosen)) for pair in learned] * OWN_TIMES
    rng.shuffle(talks)
    return talks


def _here(recipe: Recipe) -> Iterator[MixtureEntry]:
    for entry in {e.task: e for e in entries(recipe)}.values():
        if entry.task in BUILT_IN:  # which has any number of them
            yield replace(entry, epochs=1, count=TAUGHT)
        elif entry.is_file and Path(entry.task).is_file():
            yield entry


def _changed(
    talk: Conversation, additions: Sequence[tuple[str, Addition]], rng: Random
) -> Conversation:
    messages = (
        likely_addition(additions, message.text.strip(), rng).to(message)
        if message.role == "assistant"
        else message
        for message in talk.messages
    )
    return Conversation(tuple(messages))


def sft_on(file: Path, source: Recipe) -> FinetuneConfig:
    """SFT on a file of such conversations, for a run with the recipe `source`."""
    table = source.mid or source.sft
    assert table is not None  # they are of one of its mixtures
    rate = table.learning_rate_fraction
    return replace(
        table,
        mixture=(MixtureEntry(str(file)),),
        validation=(),
        packed=True,
        answers_only=True,
        batch_tokens=min(table.batch_tokens, ROWS * source.model.context),
        epochs=1,
        warmup=2,
        warmdown=1.0,
        learning_rate_fraction=RATE * rate if source.mid else rate,
    )
