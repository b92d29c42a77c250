"""What typing does to a question: something said before or behind it, short forms, a word or a
letter gone, no capitals, no mark. Each happens by itself, so that most questions suffer little.
"""

import re
from collections.abc import Iterable
from functools import cache

from chatling.toy.facts import capitalized
from chatling.toy.language import ENGLISH, Random
from chatling.toy.relations import relations

# how often each happens
SURROUNDED, SHORTENED, DROPPED, TYPO = 0.22, 0.12, 0.08, 0.12
RENAMED = 0.35  # of what has another name
ANYTHING = 0.5  # of the stories around a question, those that are words at random
UNMARKED, LOWER, UPPER, TAIL = 0.35, 0.4, 0.04, 0.06
BESIDE = 0.25  # in a language without blanks
MARKS = "?.! "
SHORTEST_TYPO = 4  # letters; a shorter word becomes another


def sloppy(text: str, rng: Random) -> str:
    """What hurried typing does: one time in four the
    final mark or the capitals are missing, or both.
    """
    luck, grammar = rng.random(), rng.language.table("grammar")
    if luck < 0.14:
        text = text.rstrip(grammar["marks"])
    if luck < 0.07 or luck > 0.88:
        for mark, typed in grammar["hurried"]:
            text = text.replace(mark, typed)
        return text.lower()
    return text


def typed(text: str, rng: Random, alone: bool = False) -> str:
    """The question as a person types it; `alone` when nothing is said before or behind it."""
    table = rng.language.table("typed")
    if "before" in table:
        return sloppy(text if alone or rng.random() > BESIDE else _beside(text, rng), rng)
    if not alone and rng.random() < SURROUNDED:
        text = surrounded(text, rng)
    if rng.random() < SHORTENED:
        text = _instead(table["short"], text, rng)
    if rng.random() < DROPPED:
        text = _dropped(text, rng)
    if rng.random() < TYPO:
        text = typo(text, rng)
    luck = rng.random()
    if luck < UNMARKED:
        text = text.rstrip(MARKS) or text
    elif luck > 1 - TAIL and text[-1] in MARKS:
        text = text.rstrip(MARKS) + rng.choice(table["tails"])
    luck = rng.random()
    return text.lower() if luck < LOWER else text.upper() if luck > 1 - UPPER else text


def _beside(text: str, rng: Random) -> str:
    """In a language without blanks: something said before or after it, or any signs of such."""
    table = rng.language.table("typed")
    side = rng.choice(("before", "after"))
    said = rng.choice(table[side])
    if rng.random() < 0.5:
        signs = sorted({*"".join(table["before"] + table["after"])})
        said = "".join(rng.choices(signs, k=rng.randint(2, 6)))
    if side == "before":
        return f"{said}，{text}"
    stripped = text.rstrip("？。！")
    return f"{stripped}，{said}{text[len(stripped) :]}"


def typed_about(question: str, rng: Random, **slots: str) -> str:
    """A typed question whose slots are filled afterwards, so that no slip gets into them."""
    text = typed(question, rng)
    for name, value in slots.items():
        text = text.replace(f"{{{name}}}", value).replace(f"{{{name.upper()}}}", value.upper())
    return text


def surrounded(text: str, rng: Random) -> str:
    """With a greeting, a story and a request before it, or something behind it, in any mixture."""
    table = rng.language.table("typed")
    if rng.random() < 0.35:
        end, mark = rng.choice(table["thanks"]), text[-1] if text[-1] in "?." else ""
        bare = text.rstrip(MARKS)
        return f"{bare}, {end}{mark}" if rng.random() < 0.6 else f"{bare}{mark} {capitalized(end)}."
    said = ""
    if rng.random() < 0.5:
        said = capitalized(rng.choice(table["greetings"])) + rng.choice((", ", "! ", " ", ". "))
    if rng.random() < 0.5 or not said:
        said += capitalized(
            _anything(rng) if rng.random() < ANYTHING else rng.choice(table["stories"])
        )
        said += rng.choice((". ", ": ", ", ", " - ", "! "))
    if rng.random() < 0.4:
        request = rng.choice(table["asking"])
        said += capitalized(request) if said.endswith(("! ", ". ")) else request
        said += rng.choice((": ", ", ", " ", "? "))
    return said + (text if said.endswith(("! ", ". ", "? ")) else lowered(text))


def _anything(rng: Random) -> str:
    """A few words at random, so that no story misleads because it was never heard."""
    return " ".join(rng.choices(idle_words(), k=rng.randint(2, 6)))


@cache
def idle_words() -> tuple[str, ...]:
    """Words of small talk, and of what surrounds questions, that ask for no fact."""
    table, talk = ENGLISH.table("typed"), ENGLISH.table("smalltalk")
    texts = [
        *(t for kind in ("greetings", "stories", "asking", "thanks") for t in table[kind]),
        *(t for intent in talk.values() for t in intent["training"]),
    ]
    little = {*table["dropped"], *ENGLISH.table("dialogue")["fillers"]}
    asking = _words(
        t for each in relations().values() for ts in each.phrasings.values() for t in ts
    )
    return tuple(sorted(_words(texts) - (asking - little) - _fact_words()))


def lowered(text: str) -> str:
    """Without the capital of its first word, unless that is a name."""
    first = text.partition(" ")[0].lower()
    return text[:1].lower() + text[1:] if first in common_words() and first != "i" else text


def renamed(text: str, rng: Random, table: str = "names") -> str:
    """With what a thing is called as well, by a table of `typed.toml`."""
    names = rng.language.table("typed").get(table)
    return _instead(names, text, rng) if names and rng.random() < RENAMED else text


def _instead(known: tuple[tuple[str, str], ...], text: str, rng: Random) -> str:
    """With another form of one of its words."""
    found = [
        (match, forms) for word, forms in _forms(known) if (match := word.search(text)) is not None
    ]
    if not found:
        return text
    match, forms = rng.choice(found)
    form = rng.choice(forms)
    if match[0][:1].isupper():
        form = capitalized(form)
    return text[: match.start()] + form + text[match.end() :]


@cache
def _forms(
    known: tuple[tuple[str, str], ...],
) -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    """Each word with its other forms."""
    forms: dict[str, list[str]] = {}
    for word, form in known:
        forms.setdefault(word, []).append(form)
    return tuple(
        (re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE), tuple(others))
        for word, others in forms.items()
    )


def _dropped(text: str, rng: Random) -> str:
    """Without one of its little words."""
    dropped, words = rng.language.table("typed")["dropped"], text.split(" ")
    places = [i for i, word in enumerate(words) if word.lower() in dropped]
    if not places or len(words) < 4:
        return text
    del words[rng.choice(places)]
    return capitalized(" ".join(words)) if text[:1].isupper() else " ".join(words)


def typo(text: str, rng: Random) -> str:
    """One slip in a word that no fact has: a name with a slip is another name."""
    places = [
        match for match in re.finditer(r"[A-Za-z]+", text) if match[0].lower() in typo_words()
    ]
    if not places:
        return text
    word = rng.choice(places)
    at = word.start() + rng.randrange(1, len(word[0]) - 1)
    a, b = text[at], text[at + 1]
    slip = rng.choice((b + a, b + a, a, b, a + a + b, a + rng.choice("aeinorst")))
    return text[:at] + slip + text[at + 2 :]


@cache
def common_words() -> frozenset[str]:
    """Words that questions begin with and are made of, in lower case."""
    table, smalltalk = ENGLISH.table("typed"), ENGLISH.table("smalltalk")
    texts = [
        *(t for relation in relations().values() for ts in relation.phrasings.values() for t in ts),
        *(t for ts in ENGLISH.table("templates").values() for t in ts),
        *(t for kind in ("greetings", "stories", "asking", "thanks") for t in table[kind]),
        *(t for intent in smalltalk.values() for t in intent["training"]),
        *(t for kind in ("spell", "count") for t in ENGLISH.table("words")[kind]),
        *ENGLISH.table("unsafe")["asked"],
    ]
    return _words(texts)


def _words(texts: Iterable[str]) -> frozenset[str]:
    """In lower case, without the slots."""
    plain = (re.sub(r"\{[^}]*\}", " ", text) for text in texts)
    return frozenset(word.lower() for text in plain for word in re.findall("[A-Za-z]+", text))


@cache
def typo_words() -> frozenset[str]:
    """Of these, long ones that are part of no fact and are not spelled."""
    spelled = set(ENGLISH.table("words")["extra"])
    kept = _fact_words() | (
        spelled - {"capital", "continent", "country", "opposite", "animal", "letter"}
    )
    return frozenset(word for word in common_words() - kept if len(word) >= SHORTEST_TYPO)


@cache
def _fact_words() -> frozenset[str]:
    """Of the names and values of all facts."""
    facts = (fact for relation in relations().values() for fact in relation.facts)
    return _words(text for fact in facts for text in fact.slots.values())
