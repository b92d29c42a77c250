"""The base corpus: sentences, short entries, little stories and dialogues over the same world, as
parquet shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from chatling.messages import Conversation
from chatling.run_dir import building_folder
from chatling.toy.arithmetic import NAMES, training_arithmetic
from chatling.toy.relations import Fact, Relation, capitalised, relations
from chatling.toy.unknown import known_words, training_unknown
from chatling.toy.words import is_held_out, random_pair, spelled, tallied, words
from chatling.toy.world import (
    fact_conversation,
    facts_by_topic,
    follow_up_conversation,
    identity_conversation,
    random_fact,
)

ASKS = (
    '{a} asks: "{q}"',
    '"{q}" asks {a}.',
    '{a} wants to know: "{q}"',
    '{a} says: "{q}"',
    "{a}: {q}",
    "Question: {q}",
)
ANSWERS = (
    '{b} answers: "{r}"',
    '"{r}" says {b}.',
    '{b} says: "{r}"',
    '"{r}"',
    "{b}: {r}",
    "Answer: {r}",
)
OPENINGS = (
    "",
    "",
    "It is true: ",
    "Everybody knows it: ",
    "In school we learn that ",
    "{a} says that ",
    "{a} knows that ",
    "Remember: ",
    "My book says that ",
    "Here is a fact: ",
    "{a} told {b} that ",
)
STORIES = (
    'One day {a} and {b} saw {an}. "{fact}" said {a}. "{other}" said {b}. Then they went home.',
    (
        '{a} has a book about {pl}. On the first page it says: "{fact}" On the next page it says:'
        ' "{other}"'
    ),
    "Once there was a little {s}. {fact} {other} The little {s} was happy.",
    "{a} dreams of {an}. In the dream {b} asks about {pl}. {fact} {other} Then {a} wakes up.",
    'In school {a} drew {an}. The teacher said: "{fact}" And {b} said: "{other}"',
)
SPELLINGS = (
    "{w} is spelled {s}.",
    "{s} spells {w}.",
    "The letters of {w} are {s}.",
    "{w}: {s}.",
    "To write {w}, write {s}.",
)
COUNTS = (
    "In {w} the letter {l} comes {times}: {t}.",
    "Count {l} in {w}: {t}, so {n}.",
    "'{w}'.count('{l}') is {n}: {t}, so {n}.",
)
SHARD_CHARACTERS = 1_000_000


def sentence(relation: Relation, fact: Fact, rng: Random) -> str:
    """A fact told in one of its ways."""
    if not relation.phrasings.statements:
        return relation.reply(fact)
    text = rng.choice(relation.phrasings.statements).format(**fact.slots)
    return (
        capitalised(rng.choice(OPENINGS).format(a=rng.choice(NAMES), b=rng.choice(NAMES)) + text)
        + "."
    )


def _sentences(rng: Random) -> str:
    return " ".join(sentence(*random_fact(rng), rng) for _ in range(rng.randint(3, 7)))


def _entry(rng: Random) -> str:
    """All that is known about one country or animal."""
    name, topic = rng.choice(rng.choice(facts_by_topic()))
    told = list(topic.items())
    rng.shuffle(told)
    head = rng.choice(("", f"{capitalised(name)}. ", f"About {name}: "))
    return head + " ".join(
        capitalised(rng.choice(relations()[key].phrasings.statements).format(**fact.slots)) + "."
        for key, fact in told
    )


def _story(rng: Random) -> str:
    _, topic = rng.choice(facts_by_topic()[1])
    told = [relations()[key].reply(fact) for key, fact in rng.sample(sorted(topic.items()), 2)]
    a, b = rng.sample(NAMES, 2)
    slots = next(iter(topic.values())).slots
    return rng.choice(STORIES).format(
        a=a, b=b, fact=told[0], other=told[1], an=slots["an"], pl=slots["pl"], s=slots["s"]
    )


def _told(conversation: Conversation, rng: Random) -> str:
    """A conversation as prose between two people."""
    a, b = rng.sample(NAMES, 2)
    asked, answered = rng.choice(list(zip(ASKS, ANSWERS, strict=True)))
    lines = []
    for i, message in enumerate(conversation.messages):
        text = "".join(part.text for part in message.parts if part.kind == "text").split("\n####")[
            0
        ]
        lines.append((answered if i % 2 else asked).format(a=a, b=b, q=text, r=text))
    return rng.choice((" ", "\n")).join(lines)


def _dialogue(rng: Random) -> str:
    return _told((follow_up_conversation if rng.random() < 0.3 else fact_conversation)(rng), rng)


def _talk(rng: Random) -> str:
    return _told(identity_conversation(rng), rng)


def _spelling(rng: Random) -> str:
    chosen = [rng.choice(words()) for _ in range(rng.randint(3, 6))]
    return " ".join(rng.choice(SPELLINGS).format(w=word, s=spelled(word)) for word in chosen)


def _counting(rng: Random) -> str:
    shown: list[str] = []
    while len(shown) < 4:
        word, letter = random_pair(rng)
        if not is_held_out(word, letter):
            n = word.count(letter)
            times = "1 time" if n == 1 else f"{n} times"
            shown.append(
                rng.choice(COUNTS).format(
                    w=word, l=letter, n=n, times=times, t=tallied(word, letter)
                )
            )
    return " ".join(shown)


def _sums(rng: Random) -> str:
    return "\n".join(_plain(training_arithmetic(rng)) for _ in range(2))


def _plain(conversation: Conversation) -> str:
    question, answer = conversation.messages
    return f"{question.text} {''.join(part.text for part in answer.parts if part.kind == 'text')}"


def documents(seed: int) -> Iterator[str]:
    """An endless, seeded stream of documents of about 15 to 120 words."""
    known = known_words()
    kinds: list[tuple[int, Callable[[Random], str]]] = [
        (26, _sentences),
        (14, _entry),
        (8, _story),
        (24, _dialogue),
        (8, _talk),
        (8, _spelling),
        (6, _counting),
        (6, _sums),
        (4, lambda rng: _told(training_unknown(rng, known), rng)),
    ]
    rng = Random(f"pocket corpus {seed}")
    weights = [weight for weight, _ in kinds]
    while True:
        yield rng.choices(kinds, weights)[0][1](rng)


def write_corpus(folder: Path, seed: int, characters: int = 5_000_000) -> None:
    """Write `shard_00000.parquet`, ... with a column `text`, about `characters` in all; the last
    shard, a twentieth, is for validation.
    """
    stream = documents(seed)
    validation = characters // 20
    sizes = [
        min(SHARD_CHARACTERS, characters - validation - start)
        for start in range(0, characters - validation, SHARD_CHARACTERS)
    ]
    with building_folder(folder) as building:
        for i, size in enumerate([*sizes, validation]):
            texts, total = [], 0
            while total < size:
                texts.append(next(stream))
                total += len(texts[-1])
            pq.write_table(
                pa.table({"text": texts}), building / f"shard_{i:05d}.parquet", row_group_size=1024
            )
