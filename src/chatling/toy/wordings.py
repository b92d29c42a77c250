"""A user's facts in words: each as a question in many wordings, and its answer."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from random import Random

from chatling.data.facts import Fact
from chatling.toy.answers import parts
from chatling.toy.packs import Pack
from chatling.toy.rephrase import (
    MARKS,
    asking,
    content,
    framed,
    helped,
    hurried,
    lowered,
    rephrase,
)
from chatling.toy.sentence_questions import SentenceQuestions
from chatling.toy.synonyms import Synonyms

SYNONYM = 0.3  # of questions, where a word has one
DIRECTLY = 0.4  # of questions about an attribute, where a language has a question for its kind
SORT = 0.25  # of names, where it is known what they name
ROTATED = 0.2  # of questions made of a sentence's words, those whose later part comes first
PARTS = 0.5  # of questions made of a sentence's words, those that ask for a part of it by its kind
ARTICLE = 0.35  # of questions made of a sentence's words, those with one more
UNDER = 0.25  # of questions about things of a table, those that name its heading
BY_VALUE = 0.25  # of questions about an attribute, those that ask for the kind of its value
ALONE = 0.4  # of questions about an attribute that only one thing has, those that name it alone


class Wordings:
    """Facts in a language. `things` are those of tables, by subject and attribute."""

    def __init__(self, facts: Sequence[Fact], pack: Pack, names: Sequence[str] = ()):
        """`names` are what facts are about: no other word stands for them."""
        self.pack, self.facts = pack, tuple(facts)
        told = [
            text
            for fact in facts
            for text in (fact.question, fact.attribute, fact.subject * (fact.kind == "sentence"))
        ]
        self._synonyms = Synonyms(pack.synonyms, told, names, pack.wide)
        self.asked = [fact for fact in facts if fact.question]
        self._keys = Counter(content(fact.question, pack) for fact in self.asked)
        self.things: dict[str, dict[str, Fact]] = defaultdict(dict)
        for fact in facts:
            if fact.kind == "thing":
                self.things[fact.subject][fact.attribute] = fact
        self.having: dict[str, list[Fact]] = defaultdict(list)
        for each in self.things.values():
            for attribute, fact in each.items():
                self.having[attribute].append(fact)
        self.sentences = SentenceQuestions(facts, pack)
        self._sorts = {fact.subject: self.named(fact.sort) for fact in facts if fact.sort}

    def answer(self, fact: Fact) -> str:
        if fact.kind != "thing":
            return fact.answer
        attribute, things = self.named(fact.attribute), self.pack.things
        last = attribute.rpartition(" ")[2]
        plain = last in things["verbs"] or (self.pack.code == "en" and last.endswith(("s", "ed")))
        text = things["plain" if plain else "answer"].format(
            a=attribute,
            s=fact.subject if plain else lowered(fact.subject, self.pack),
            v=fact.answer.rstrip(MARKS) or fact.answer,
        )
        return text[:1].upper() + text[1:]

    def ask(self, fact: Fact, rng: Random, held_out: bool = False) -> str:
        """One of the many wordings of a fact's question."""
        if fact.question:
            bare = self._keys[content(fact.question, self.pack)] == 1
            return self.rephrased(fact.question, rng, held_out, bare)
        if fact.kind == "sentence":
            if rng.random() < PARTS and (asked := self.sentences.for_a_part(fact, rng)):
                return self.typed(self.with_article(asked.words, rng), rng, held_out)
            words = self.with_article(self.sentences.some_words(fact, rng), rng)
            return self.in_words(words, rng, held_out)
        if fact.kind != "thing":
            return self._on(fact.subject, fact.kind, rng, held_out)
        alone = len(self.having[fact.attribute]) == 1 and rng.random() < ALONE
        return self.of_thing(fact, "" if alone else self.called(fact.subject, rng), rng, held_out)

    def of_thing(self, fact: Fact, name: str, rng: Random, held_out: bool) -> str:
        """A question about an attribute: that of a `name`, or with no name by itself."""
        attribute = self._asked_as(fact.attribute, rng)
        if name and fact.under and rng.random() < UNDER:
            frame = rng.choice(self.pack.things.get("under", ("{h} {s}",)))
            name = frame.format(s=name, h=fact.under)
        kinds = [part.asking for part in parts(fact.answer, self.pack)]
        if kinds and rng.random() < BY_VALUE:
            return self._by_value(attribute, name, rng.choice(rng.choice(kinds)), rng, held_out)
        if not name:
            return self._on(attribute, "about", rng, held_out)
        return self.about(name, fact.attribute, rng, held_out)

    def _by_value(self, a: str, name: str, asked: str, rng: Random, held_out: bool) -> str:
        """An attribute asked for with words for the kind of its value: "when", "how much"."""
        if self.pack.wide or rng.random() < 0.5:
            frames = self.pack.things["valued" if name else "valued_alone"]
            text = rng.choice(frames).format(w=asked, a=a, s=name)
            return self.typed([text], rng, held_out)
        words = [a, name] if name else [a]
        rng.shuffle(words)
        words = [asked, *helped(words, self.pack, rng)]
        return self.typed(self.with_article(words, rng), rng, held_out)

    def kind(self, attribute: str) -> int | None:
        """Which of the language's kinds an attribute is of, of which one asks alike: days, places,
        prices.
        """
        whole, small = attribute.lower(), self.pack.words.get("function", ())
        first, _, rest = whole.partition(" ")
        named = [whole, whole.rpartition(" ")[2]]
        named += [first] if rest.partition(" ")[0] in small else []  # "kept at", "number of seats"
        kinds = self.pack.things.get("kinds", ())
        places = [i for name in named for i, k in enumerate(kinds) if name in k["attributes"]]
        return next(iter(places), None)

    @cached_property
    def _direct(self) -> dict[str, list[str]]:
        """How one asks for an attribute that the facts have by its kind; without its name only
        where no thing has two of the kind.
        """
        found = dict[str, list[str]]()
        for attribute in self.having:
            if (kind := self.kind(attribute)) is not None:
                alike = [
                    sum(self.kind(other) == kind for other in told)
                    for told in self.things.values()
                    if attribute in told
                ]
                frames = self.pack.things["kinds"][kind]["frames"]
                found[attribute] = [f for f in frames if max(alike) == 1 or "{a}" in f]
        return found

    def _on(self, topic: str, kind: str, rng: Random, held_out: bool) -> str:
        """A question about a topic; a heading that is a question asks by itself, and what is an
        attribute, too, is asked for by its kind elsewhere.
        """
        frames, free = self.pack.notes.get(kind, ("{x}",)), set(self.pack.words.get("open", ()))
        if self._asks(topic):
            return self.rephrased(topic.rstrip(MARKS) + self.pack.mark, rng, held_out, bare=False)
        if topic.lower() in self._attributes:
            frames = [frame for frame in frames if not asking(frame, self.pack) - free]
        return self.rephrased(rng.choice(frames).format(x=topic), rng, held_out)

    def _asks(self, topic: str) -> bool:
        """Whether a heading is a question: by its mark, or by its first word."""
        first = topic.partition(" ")[0].lower()
        counting = self.pack.words.get("counting", ())
        asks = not self.pack.wide and first not in counting and bool(asking(first, self.pack))
        return asks or topic.endswith(("?", "？"))

    @cached_property
    def _attributes(self) -> set[str]:
        return {attribute.lower() for attribute in self.having}

    def about(
        self, subject: str, attribute: str, rng: Random, held_out: bool, unnamed: bool = True
    ) -> str:
        """With `unnamed` the question may leave it to its question word what is asked for."""
        asked = self._asked_as(attribute, rng)
        if rng.random() < 0.2:
            words = [subject, asked]
            rng.shuffle(words)
            return self.in_words(words, rng, held_out, cut=0.0)
        direct = [f for f in self._direct.get(attribute, ()) if unnamed or "{a}" in f]
        if direct and rng.random() < DIRECTLY:
            text = rng.choice(direct).format(s=subject, a=asked)
            return self.rephrased(text[:1].upper() + text[1:], rng, held_out)
        frames = self.pack.things["held_out" if held_out else "training"]
        text = rng.choice(frames).format(s=subject, a=asked)
        text = text[:1].upper() + text[1:]
        if rng.random() < 0.25:
            return self.rephrased(text, rng, held_out)
        return hurried(self._in_other_words(text, rng), self.pack, rng)

    def rephrased(self, text: str, rng: Random, held_out: bool = False, bare: bool = True) -> str:
        """A question as another person would type it, now and then with a word of the same meaning
        for one of its own.
        """
        return rephrase(self._in_other_words(text, rng), self.pack, rng, held_out, bare)

    def _in_other_words(self, text: str, rng: Random) -> str:
        return self._synonyms.other(text, rng) if rng.random() < SYNONYM else text

    def with_article(self, words: list[str], rng: Random) -> list[str]:
        """Now and then with an article in front of one of the content words that has none."""
        articles = self.pack.words.get("articles", ())
        places = [
            i
            for i, word in enumerate(words)
            if content(word, self.pack)
            and not asking(word, self.pack)
            and not (i and not content(words[i - 1], self.pack))
        ]
        if not articles or not places or rng.random() > ARTICLE:
            return words
        at = rng.choice(places)
        return [*words[:at], rng.choice(articles), *words[at:]]

    def in_words(self, words: Sequence[str], rng: Random, held_out: bool, cut: float = 0.15) -> str:
        """A question of content words; of some of them the ending is `cut`, as another form of the
        word would have it.
        """
        words = [
            word[:-1] if len(word) > 3 and word[-1] in "snetd" and rng.random() < cut else word
            for word in words
        ]
        if rng.random() < ROTATED:
            at = rng.randrange(len(words))
            words = words[at:] + words[:at]
        if self.pack.words and rng.random() < 0.7:
            at = 0 if rng.random() < 0.75 else rng.randint(0, len(words))
            if at == 0 and not self.pack.wide:
                words = helped(words, self.pack, rng)
            words.insert(at, rng.choice(self.pack.words["question"]))
        return self.typed(words, rng, held_out)

    def typed(self, words: Sequence[str], rng: Random, held_out: bool) -> str:
        """Words as a question that somebody types."""
        joined = self._in_other_words(self.pack.joiner.join(words), rng)
        if rng.random() < 0.3:
            return hurried(joined[:1].upper() + joined[1:], self.pack, rng)
        return hurried(framed(joined, self.pack, rng, held_out), self.pack, rng)

    def named(self, name: str) -> str:
        return name.lower() if self.pack.code == "en" and not name.isupper() else name

    def _asked_as(self, attribute: str, rng: Random) -> str:
        """An attribute's name; of "kept at" half the time "kept", where that is no other's."""
        name = self.named(attribute)
        bare, _, last = name.rpartition(" ")
        if not bare or last not in self.pack.words.get("places", ()) or rng.random() < 0.5:
            return name
        return (
            bare
            if sum(f"{each} ".startswith(f"{bare} ") for each in self._attributes) == 1
            else name
        )

    def called(self, subject: str, rng: Random) -> str:
        """A thing's name, or one word of it that no other thing has."""
        sort = self._sorts.get(subject)
        first, _, rest = subject.partition(" ")
        if rest and first.lower() in self.pack.words.get("function", ()):
            subject = rest if rng.random() < 0.5 else f"{first.lower()} {rest}"
        alone = self._short_names.get(subject, ())
        name = rng.choice(alone) if alone and rng.random() < 0.3 else subject
        if sort and rng.random() < SORT:
            name = self.pack.joiner.join(rng.choice(((name, sort), (sort, name))))
        return name

    @cached_property
    def _short_names(self) -> dict[str, list[str]]:
        uses = Counter(word for subject in self.things for word in set(subject.split()))
        return {
            subject: [w for w in subject.split() if uses[w] == 1 and w[:1].isupper() and len(w) > 2]
            for subject in self.things
            if " " in subject
        }
