"""Who the model is: conversations made from a name, a maker and a persona, varied enough that it
learns the answer and not the question.
"""

from dataclasses import asdict
from random import Random

from chatling.errors import RecipeError
from chatling.fields import config
from chatling.messages import Conversation
from chatling.tasks.custom import ConversationTask
from chatling.tasks.tables import load_table
from chatling.tasks.task import TaskEntry


@config
class IdentityConfig:
    """The `[identity]` table: who the conversations
    of the task "identity" say that the model is.
    """

    name: str = "chatling"
    """What it is called."""
    maker: str = "the person who runs this machine"
    """Ends the sentence "I was trained by …"."""
    persona: str = (
        "a friendly little assistant who likes plain words and says so when it does not know"
        " something"
    )
    """Ends the sentence "I am …"."""

    def __post_init__(self) -> None:
        """Raises RecipeError for an empty field."""
        for field, value in asdict(self).items():
            if not value.strip():
                raise RecipeError(
                    f"identity.{field} is empty.",
                    'Say who the model is, or take the task "identity" out of the mixtures.',
                )


TRIES = 50  # for a conversation that was not there yet


class Identity(ConversationTask):
    """`count` conversations of one to four exchanges,
    all different as long as there are that many.
    """

    def __init__(self, config: IdentityConfig, split: str, count: int):
        rng = Random(f"identity {split}")
        slots = asdict(config) | {"Maker": config.maker[:1].upper() + config.maker[1:]}
        conversations, seen = [], set()
        for _ in range(count):
            for _ in range(TRIES):
                turns = tuple(turn.format_map(slots) for turn in _turns(rng))
                if turns not in seen:
                    break
            seen.add(turns)
            conversations.append(Conversation.of(*turns))
        super().__init__("identity", conversations)


ENTRY = TaskEntry(
    "identity",
    lambda _, *, split, identity, size, **__: Identity(identity, split, size),
    rows={"train": 1_000, "validation": 256, "test": 256},
    judged=False,
)


def _turns(rng: Random) -> list[str]:
    """Templates of what is said in turn: perhaps a
    greeting, one to three topics, perhaps a word of thanks.
    """
    table, turns = load_table("tasks/identity.toml"), []
    if rng.random() < 0.3:
        turns += [rng.choice(table["openings"]), rng.choice(table["greetings"])]
    for topic in rng.sample(table["topics"], rng.choices((1, 2, 3), (5, 3, 2))[0]):
        prefixes = () if turns else table["prefixes"]
        turns.append(_asked(rng.choice(topic["questions"]), prefixes, rng))
        turns.append(rng.choice(topic["answers"]) + rng.choice(table["offers"]))
    if rng.random() < 0.2:
        turns += rng.choice(table["closings"])
    return turns


def _asked(question: str, prefixes: tuple[str, ...], rng: Random) -> str:
    """A question as people type it: with a greeting
    before it, without capitals, without its mark.
    """
    luck = rng.random()
    if prefixes and luck < 0.35:
        prefix = rng.choice(prefixes)
        inside = prefix.endswith((", ", ": ")) and not question.startswith(("I ", "{name}"))
        return prefix + (question[:1].lower() + question[1:] if inside else question)
    if luck < 0.6:
        question = question.rstrip("?.")
    return question.lower() if luck < 0.5 else question
