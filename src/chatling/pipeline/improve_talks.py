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
from chatling.data.additions import CommonAdditions
from chatling.data.preferences import Preference
from chatling.hardware.distributed import launched_size
from chatling.messages import Conversation
from chatling.toy.dataset import BUILT_IN
from chatling.train.datasets import open_sources

TAUGHT = 40_000  # conversations, about
ENOUGH = 1_000
OWN_TIMES = 4  # the preferred answers are among them
RATE = 0.5  # of mid's
ROWS = 32  # of the context in a step, about, on all devices


def entries(recipe: Recipe) -> list[MixtureEntry]:
    """What a run's conversations are made of."""
    return [e for table in (recipe.mid, recipe.sft) if table for e in table.mixture]


def changed_talks(
    recipe: Recipe,
    learned: Sequence[Preference],
    held_out: Sequence[Preference],
    note: Callable[[str], None],
) -> list[Conversation]:
    """Conversations like those that a run was trained on, with what the pairs add, and the pairs'
    own. None where the pairs differ otherwise, or what it was trained on would have to be
    downloaded, or is too little to keep what it can do.
    """
    if not (additions := CommonAdditions(learned)):
        return []
    rng, apart = Random(recipe.seed), {pair.prompt.messages[-1] for pair in held_out}
    before = [talk for talk in _talks(recipe, note) if not apart & set(talk.messages)]
    if len(before) < ENOUGH:
        note(
            f"Most of your pairs add {additions}. Of what the run was trained on too little is here"
            " to add it there as well; DPO may not learn words that the model never says."
        )
        return []
    talks = [_changed(talk, additions, rng) for talk in before]
    count = sum(one != other for one, other in zip(talks, before, strict=True))
    note(
        f"Most of your pairs add {additions}, and nothing else: so do now {count:,} of"
        f" {len(talks):,} conversations like those that it was trained on."
    )
    talks += [Conversation((*pair.prompt.messages, pair.chosen)) for pair in learned] * OWN_TIMES
    rng.shuffle(talks)
    return talks


def _talks(recipe: Recipe, note: Callable[[str], None]) -> list[Conversation]:
    """Those of a run's mixtures, if all of them are here."""
    every = entries(recipe)
    here = list(_here(every))
    if not here or len(here) < len({entry.task for entry in every}):
        return []
    found = open_sources(recipe, note).mixture(here, 0, "train", TAUGHT // len(here))
    return [found[i] for i in range(len(found))]


def _here(found: Sequence[MixtureEntry]) -> Iterator[MixtureEntry]:
    for entry in {e.task: e for e in found}.values():
        if entry.task in BUILT_IN:  # which has any number of them
            yield replace(entry, epochs=1, count=TAUGHT)
        elif entry.is_file and Path(entry.task).is_file():
            yield entry


def _changed(talk: Conversation, additions: CommonAdditions, rng: Random) -> Conversation:
    messages = (
        additions.to(message, rng) if message.role == "assistant" else message
        for message in talk.messages
    )
    return Conversation(tuple(messages))


def sft_on(file: Path, source: Recipe) -> FinetuneConfig:
    """SFT on a file of such conversations, for a run with the recipe `source`."""
    table = source.mid or source.sft
    assert table is not None  # they are of one of its mixtures
    rate, size = table.learning_rate_fraction, launched_size()
    rows = -(-ROWS // size) * size
    return replace(
        table,
        mixture=(MixtureEntry(str(file)),),
        validation=(),
        packed=True,
        answers_only=True,
        batch_tokens=min(table.batch_tokens, rows * source.model.context),
        epochs=1,
        warmup=2,
        warmdown=1.0,
        learning_rate_fraction=RATE * rate if source.mid else rate,
    )
