"""The data sets that are made here, by the name that recipes give them: text, conversations,
preference pairs, questions and a CORE bundle of one generated world.

Whoever reads data looks a name up here before it looks for a file or a data set of the Hub.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chatling.data.preferences import Preference
from chatling.messages import Conversation
from chatling.tasks.task import Task
from chatling.toy.core_bundle import write_core_bundle
from chatling.toy.corpus import write_corpus
from chatling.toy.heldout import SKILLS_IN, heldout, practice
from chatling.toy.language import CHINESE, ENGLISH, Language
from chatling.toy.preferences import Split, preferences
from chatling.toy.world import conversations


@dataclass(frozen=True)
class BuiltInData:
    """A generated data set. Every generator takes a seed, and a count where it has no end."""

    write_corpus: Callable[[Path, int], None]
    conversations: Callable[[int, int], list[Conversation]]
    preferences: Callable[[Split, int, int], list[Preference]]
    practice: Callable[[int, int], Task]
    """Questions that reinforcement learning trains on."""
    exam: Callable[[int, int], Task]
    """Questions that it is evaluated on."""
    skills: Mapping[str, Callable[[int, int], Task]]
    """The chat evaluation: held-out questions by skill."""
    write_core_bundle: Callable[[Path, int], None]

    # sizes where a recipe gives none, and what the planner reckons with
    corpus_bytes: int
    """Of the text, at most, and of its tokens."""
    conversation_count: int
    preference_count: int
    practice_count: int
    skill_count: int
    tokens_per_conversation: int
    tokens_per_rollout: int
    """Of a question and its answer."""


def _built_in(language: Language, characters: int, tokens: int) -> BuiltInData:
    def skill(name: str) -> Callable[[int, int], Task]:
        return lambda seed, count: heldout(name, seed, count, language)

    return BuiltInData(
        partial(write_corpus, characters=characters, language=language),
        partial(conversations, language=language),
        partial(preferences, language=language),
        partial(practice, language=language),
        skill("hard_arithmetic"),
        {name: skill(name) for name in SKILLS_IN[language]},
        partial(write_core_bundle, language=language),
        corpus_bytes=5_000_000,
        conversation_count=10_000,
        preference_count=1_200,
        practice_count=2_000,
        skill_count=400,
        tokens_per_conversation=tokens,
        # measured: 50 steps of 256
        tokens_per_rollout=55,
    )


BUILT_IN: Mapping[str, BuiltInData] = {
    # measured: 1,230 steps of 4,096 tokens from 134,000 conversations, vocabulary 2,048
    ENGLISH.name: _built_in(ENGLISH, characters=5_000_000, tokens=38),
    # of three bytes each; measured: 725 steps from 122,000 conversations, vocabulary 4,096
    CHINESE.name: _built_in(CHINESE, characters=1_700_000, tokens=25),
}
