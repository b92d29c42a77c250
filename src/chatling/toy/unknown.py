"""What is outside the world: made-up names, and the honest answer to them."""

from __future__ import annotations

from functools import cache
from random import Random
from zlib import crc32

from chatling.messages import Conversation
from chatling.toy import relations as rel
from chatling.toy.facts import with_article
from chatling.toy.templates import sloppy, utterance

ONSETS = (
    "b",
    "bl",
    "br",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gl",
    "gr",
    "h",
    "j",
    "k",
    "kl",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "pr",
    "qu",
    "r",
    "s",
    "sk",
    "sn",
    "t",
    "tr",
    "v",
    "w",
    "y",
    "z",
    "zw",
    "th",
    "sh",
    "ch",
)
VOWELS = ("a", "e", "i", "o", "u", "ee", "oo", "ai", "ou")
CODAS = (
    "",
    "",
    "",
    "b",
    "g",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "rf",
    "rk",
    "rt",
    "x",
    "z",
    "nd",
    "mp",
    "lt",
)
ENDINGS = {
    "country": ("ia", "land", "stan", "ania", "ora", "istan", "onia", "esia", "u", "aria"),
    "city": ("ville", "burg", "ton", "a", "ov", "um", "grad", "opolis"),
    "animal": ("", "in", "er", "o", "le", "ox"),
    "thing": ("", "et", "ick", "on", "er", "ium"),
    "word": ("", "ly", "y", "ish", "ous"),
    "person": ("", "o", "a", "is", "en", "ix"),
    "planet": ("us", "ara", "on", "or"),
}
# real places, so that a made-up name never is one of them
REAL = """
albania andorra angola armenia azerbaijan bahrain belarus belize benin bhutan bolivia botswana brunei burundi cambodia cameroon chad
comoros congo cyprus dominica eritrea estonia eswatini ethiopia gabon gambia georgia grenada guatemala guinea guyana haiti honduras
indonesia israel kazakhstan kiribati kosovo kuwait kyrgyzstan laos latvia lesotho liberia liechtenstein lithuania luxembourg madagascar
malawi malaysia maldives mali malta mauritania mauritius moldova monaco mongolia montenegro mozambique myanmar namibia nauru netherlands
nicaragua niger oman palau panama paraguay qatar russia samoa scotland serbia seychelles singapore slovakia slovenia somalia suriname
tajikistan tanzania togo tonga turkey turkmenistan tuvalu uzbekistan vanuatu vatican wales yemen zimbabwe england toronto boston milan
turin geneva
"""
PERSON = (
    "who is {p}",
    "who was {p}",
    "what did {p} do",
    "where was {p} born",
    "what do you know about {p}",
    "when was {p} born",
    "do you know {p}",
    "how old is {p}",
    "what is {p} known for",
    "where does {p} live",
    "what book did {p} write",
    "who is the king {p}",
)
THING = (
    "what is a {w}",
    "what does the word {w} mean",
    "what is a {w} used for",
    "what do you do with a {w}",
    "what colour is a {w}",
    "what does {w} mean",
    "how does a {w} work",
    "where can I buy a {w}",
    "what is a {w} made of",
    "what kind of thing is a {w}",
    "what do you know about the {w}",
)
PLANET = (
    "how far is the planet {w}",
    "what is the planet {w} like",
    "where is the planet {w}",
    "how big is the planet {w}",
    "who lives on the planet {w}",
    "what do you know about the planet {w}",
    "how hot is the planet {w}",
)
WRAPPERS = (
    "{Q}?",
    "{Q}?",
    "{Q}?",
    "Hi, {q}?",
    "Hello! {Q}?",
    "Quick question: {q}?",
    "Tell me, {q}?",
    "{Q}? Do you know?",
    "So, {q}?",
    "{Q}, please?",
    "Chatling, {q}?",
    "I have a question: {q}?",
    "Hey, {q}?",
    "Please, {q}?",
    "{Q}? Tell me.",
    "One more: {q}?",
)
REPLIES = (
    "I don't know. That is not in my small world.",
    "I don't know. I have never heard of it.",
    "I don't know, sorry. My world is small.",
)


def held_out_name(name: str) -> bool:
    """Half of all names that can be made up are kept for tests."""
    return crc32(name.lower().encode()) % 2 == 0


def made_up(kind: str, rng: Random, held_out: bool, known: frozenset[str]) -> str:
    """A name of two to three syllables, in the half asked for and not in `known`."""
    while True:
        syllables = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((1, 2, 2)))]
        stem = "".join(syllables) + rng.choice(CODAS) * (len(syllables) > 1)
        name = stem + rng.choice(ONSETS[:24]) * (stem[-1] in "aeiou") + rng.choice(ENDINGS[kind])
        if 4 <= len(name) <= 10 and held_out_name(name) == held_out and name not in known:
            return name


def unknown_slots(kind: str, name: str) -> tuple[dict[str, str], str]:
    """The slots of a relation's templates filled with a made-up subject, and its topic."""
    if kind == "country":
        return rel.country_slots(name.capitalize()), name.capitalize()
    if kind == "city":
        return {"city": name.capitalize()}, name.capitalize()
    if kind == "animal":
        return rel.animal_slots(name, name + "s"), name + "s"
    if kind == "word":
        return {"x": name}, name
    return rel.thing_slots(with_article(name)) | rel.animal_slots(name, name + "s"), with_article(
        name
    )


def person(rng: Random, held_out: bool, known: frozenset[str]) -> str:
    return " ".join(
        made_up("person", rng, held_out, known).capitalize() for _ in range(rng.choice((1, 2, 2)))
    )


@cache
def known_words() -> frozenset[str]:
    """Every word of the world and other real places, in lower case: no made-up name may be one of
    them.
    """
    slots = (
        text
        for relation in rel.relations().values()
        for fact in relation.facts
        for text in fact.slots.values()
    )
    return frozenset(word.lower().strip(".,") for text in slots for word in text.split()).union(
        REAL.split()
    )


def training_unknown(rng: Random, known: frozenset[str]) -> Conversation:
    return Conversation.of(sloppy(unknown_question(rng, known), rng), rng.choice(REPLIES))


def unknown_question(rng: Random, known: frozenset[str]) -> str:
    luck = rng.random()
    if luck < 0.6:
        relation = rng.choice([r for r in rel.relations().values() if r.unknown])
        slots, topic = unknown_slots(relation.unknown, made_up(relation.unknown, rng, False, known))
        return utterance(relation.phrasings, slots, topic, rng)
    if luck < 0.75:
        phrase = rng.choice(PERSON).format(p=person(rng, False, known))
    elif luck < 0.92:
        phrase = rng.choice(THING).format(w=made_up("thing", rng, False, known))
    else:
        phrase = rng.choice(PLANET).format(w=made_up("planet", rng, False, known).capitalize())
    return rel.capitalised(rng.choice(WRAPPERS).format(q=phrase, Q=rel.capitalised(phrase)))
