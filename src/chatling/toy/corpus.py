"""The base corpus: sentences, short entries, little stories
and dialogues over the same world, as parquet shards.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from chatling.messages import Conversation
from chatling.run_dir import building_folder
from chatling.tasks.task import visible_text
from chatling.toy.arithmetic import training_arithmetic
from chatling.toy.characters import CHARACTER_KINDS, training_characters
from chatling.toy.decontamination import kept_away
from chatling.toy.facts import capitalized
from chatling.toy.follow_ups import facts_by_topic, random_fact
from chatling.toy.language import CHINESE, ENGLISH, Language, Random
from chatling.toy.relations import Fact, Relation, relations
from chatling.toy.smalltalk import training_identity
from chatling.toy.unknown import training_unknown
from chatling.toy.words import spelled, tallied, training_pair, words
from chatling.toy.world import training_fact, training_follow_up

SHARD_CHARACTERS = 1_000_000


def _filled(templates: str, rng: Random, **slots: object) -> str:
    """One of a list of templates of `corpus.toml`."""
    return rng.choice(rng.language.table("corpus")[templates]).format(**slots)


def _name(rng: Random) -> str:
    return rng.choice(_names(rng))


def _names(rng: Random) -> tuple[str, ...]:
    names: tuple[str, ...] = rng.language.table("arithmetic")["names"]
    return names


def _statement(relation: Relation, fact: Fact, rng: Random) -> str:
    return rng.choice(relation.phrasings["statements"]).format(**fact.slots)


def _sentence(rng: Random) -> str:
    """A fact told in one of its ways."""
    relation, fact = random_fact(rng)
    if "statements" not in relation.phrasings:
        return relation.reply(fact)
    text = _statement(relation, fact, rng)
    opening = rng.choice(rng.language.table("corpus")["openings"])
    return f"{capitalized(opening.format(a=_name(rng), b=_name(rng)) + text)}{rng.language.stop}"


def _sentences(rng: Random) -> str:
    return rng.language.gap.join(_sentence(rng) for _ in range(rng.randint(3, 7)))


def _entry(rng: Random) -> str:
    """All that is known about one country or animal."""
    name, topic = rng.choice(rng.choice(facts_by_topic(rng.language)))
    told = list(topic.items())
    rng.shuffle(told)
    head = rng.choice(rng.language.table("grammar")["heads"])
    known = relations(rng.language)
    return head.format(x=name, X=capitalized(name)) + rng.language.gap.join(
        f"{capitalized(_statement(known[key], fact, rng))}{rng.language.stop}" for key, fact in told
    )


def _story(rng: Random) -> str:
    """Two facts about an animal in a scene with two people."""
    _, topic = rng.choice(facts_by_topic(rng.language)[1])
    first, second = rng.sample(sorted(topic.items()), 2)
    a, b = rng.sample(_names(rng), 2)
    known = relations(rng.language)
    told, other = (known[name].reply(fact) for name, fact in (first, second))
    slots = {key: first[1].slots[key] for key in ("an", "pl", "s") if key in first[1].slots}
    return _filled("stories", rng, a=a, b=b, fact=told, other=other, **slots)


def _dialogue(make: Callable[[Random], Conversation], rng: Random) -> str:
    """A conversation as prose between two people."""
    conversation = kept_away(make, rng)
    a, b = rng.sample(_names(rng), 2)
    ways = rng.choice(rng.language.table("corpus")["told"])
    lines = []
    for message, way in zip(conversation.messages, cycle(ways), strict=False):
        text = visible_text(message.parts).split("\n####")[0]
        lines.append(way.format(a=a, b=b, q=text, r=text))
    return rng.choice((rng.language.gap, "\n")).join(lines)


def _question(rng: Random) -> Conversation:
    return (training_follow_up if rng.random() < 0.3 else training_fact)(rng)


def _spelling(rng: Random) -> str:
    chosen = [rng.choice(words()) for _ in range(rng.randint(3, 6))]
    return " ".join(_filled("spellings", rng, w=word, s=spelled(word)) for word in chosen)


def _counting(rng: Random) -> str:
    shown = []
    for _ in range(4):
        word, letter = training_pair(rng)
        n, tally = word.count(letter), tallied(word, letter)
        times = "1 time" if n == 1 else f"{n} times"
        shown.append(_filled("counts", rng, w=word, l=letter, n=n, times=times, t=tally))
    return " ".join(shown)


def _characters(rng: Random) -> str:
    kinds = rng.choices(CHARACTER_KINDS, k=3)
    return "".join(
        training_characters(rng, kind).messages[-1].text.split("\n")[0] for kind in kinds
    )


def _sums(rng: Random) -> str:
    problems = (training_arithmetic(rng).messages for _ in range(2))
    return "\n".join(
        f"{question.text}{rng.language.gap}{visible_text(answer.parts)}"
        for question, answer in problems
    )


# kinds of documents, and their weights
KINDS: Mapping[Callable[[Random], str], int] = {
    _sentences: 26,
    _entry: 14,
    _story: 8,
    partial(_dialogue, _question): 24,
    partial(_dialogue, training_identity): 8,
    _spelling: 8,
    _counting: 6,
    _sums: 6,
    partial(_dialogue, training_unknown): 4,
}
CHINESE_KINDS = {kind: KINDS[kind] for kind in KINDS if kind not in (_spelling, _counting)}
MIXTURES = {ENGLISH: KINDS, CHINESE: {**CHINESE_KINDS, _characters: 14}}


def documents(seed: int, language: Language = ENGLISH) -> Iterator[str]:
    """An endless, seeded stream of documents of about 15 to 120 words."""
    rng = Random(f"{language.name} corpus {seed}", language)
    kinds = MIXTURES[language]
    while True:
        yield rng.choices(list(kinds), list(kinds.values()))[0](rng)


def write_corpus(
    folder: Path, seed: int, characters: int = 5_000_000, language: Language = ENGLISH
) -> None:
    """Write `shard_00000.parquet`, ... with a column `text`, about `characters` in all; the last
    shard, a twentieth, is for validation.
    """
    stream, validation = documents(seed, language), characters // 20
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
