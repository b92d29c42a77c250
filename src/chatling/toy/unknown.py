"""What is outside the world: made-up names, and the honest answer to them."""

from bisect import bisect
from functools import cache
from zlib import crc32

from chatling.messages import Conversation
from chatling.toy.facts import Slots, capitalized, inflected, with_article
from chatling.toy.language import ENGLISH, Language, Random
from chatling.toy.relations import relations
from chatling.toy.templates import CHOICES, choice, fill, of_several, utterance
from chatling.toy.typed import typed

# what is asked about, and how often, added up; of the rest, a planet
KINDS = ("relation", "person", "thing", "planet")
TRAINING_SHARES, HELD_OUT_SHARES = (0.6, 0.75, 0.92), (0.65, 0.8, 0.94)


def replies(language: Language = ENGLISH) -> tuple[str, ...]:
    """The honest answers."""
    return language.table("unknown")["replies"]


def held_out_name(name: str) -> bool:
    """Half of all names that can be made up are kept for tests."""
    return crc32(name.lower().encode()) % 2 == 0


def made_up(kind: str, rng: Random, held_out: bool) -> str:
    """A name of two to three syllables, in the half asked for and not a known word."""
    table, known = rng.language.table("unknown"), known_words(rng.language)
    shortest, longest = rng.language.table("grammar")["name_lengths"]
    onsets = table["onsets"]
    while True:
        syllables = [
            rng.choice(onsets) + rng.choice(table["vowels"]) for _ in range(rng.choice((1, 2, 2)))
        ]
        stem = "".join(syllables) + rng.choice(table["codas"]) * (len(syllables) > 1)
        name = stem + rng.choice(onsets[:24]) * (stem[-1] in "aeiou")
        name += rng.choice(table["endings"][kind])
        if (
            shortest <= len(name) <= longest
            and held_out_name(name) == held_out
            and name not in known
        ):
            return name


def unknown_slots(kind: str, name: str, language: Language = ENGLISH) -> Slots:
    """The slots of a relation's templates filled with a made-up subject."""
    if kind in ("country", "city"):
        return inflected({"c" if kind == "country" else kind: name.capitalize()}, language)
    bare = kind == "word" or not language.table("grammar")["inflects"]
    slots = {"x": name if bare else with_article(name), "s": name, "pl": name + "s"}
    return inflected(slots, language)


@cache
def known_words(language: Language = ENGLISH) -> frozenset[str]:
    """Every word of the world and other real places,
    in lower case: no made-up name may be one of them.
    """
    texts = (
        text
        for relation in relations(language).values()
        for fact in relation.facts
        for text in fact.slots.values()
    )
    words = frozenset(word.lower().strip(".,") for text in texts for word in text.split())
    return words.union(language.table("unknown")["real"])


def training_unknown(rng: Random) -> Conversation:
    return Conversation.of(
        typed(unknown_question(rng, False), rng), rng.choice(replies(rng.language))
    )


def unknown_question(rng: Random, held_out: bool) -> str:
    """What is asked about a made-up thing, in training phrasings or in held-out ones."""
    phrases = rng.language.table("heldout" if held_out else "unknown")
    kind = KINDS[bisect(HELD_OUT_SHARES if held_out else TRAINING_SHARES, rng.random())]
    if kind == "relation":
        relation = rng.choice(
            [found for found in relations(rng.language).values() if found.unknown]
        )
        name = made_up(relation.unknown, rng, held_out)
        slots = unknown_slots(relation.unknown, name, rng.language)
        if not held_out:
            if relation.value and rng.random() < CHOICES:
                return choice(relation, slots, rng)
            return of_several(utterance(relation, slots, rng), slots, rng)
        return capitalized(rng.choice(phrases["facts"][relation.name]).format(**slots))
    phrase = rng.choice(phrases[kind])
    count = rng.choice((1, 2, 2)) if kind == "person" else 1
    names = [made_up(kind, rng, held_out) for _ in range(count)]
    shown = names[0] if kind == "thing" else rng.language.gap.join(map(str.capitalize, names))
    phrase = phrase.format(w=shown)
    return capitalized(phrase) if held_out else fill(rng.choice(phrases["wrappers"]), phrase)
