"""A user's facts in words: each as a question in many wordings, and its answer."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from random import Random

from chatling.data.facts import Fact
from chatling.toy.answers import Part, PartQuestion, parts
from chatling.toy.packs import Pack
from chatling.toy.rephrase import (
    MARKS,
    Word,
    asking,
    content,
    framed,
    hurried,
    lowered,
    rephrase,
    split,
)
from chatling.toy.synonyms import Synonyms

SYNONYM = 0.3  # of questions, where a word has one
DIRECTLY = 0.4  # of questions about an attribute, where a language has a question for its kind
SORT = 0.25  # of names, where it is known what they name
ROTATED = 0.2  # of questions made of a sentence's words, those whose later part comes first
STRETCHES = 0.75  # of questions made of a sentence's words, those that are its beginning or end
BEGINNING = 0.65  # of these, its beginning: what is asked for is told after it
PARTS = 0.5  # of questions made of a sentence's words, those that ask for a part of it by its kind
ARTICLE = 0.35  # of questions made of a sentence's words, those with one more
OPENING_NAMES = 0.3  # of sentences whose first word has a capital, those where it is a name
UNDER = 0.25  # of questions about things of a table, those that name its heading
BY_VALUE = 0.15  # of questions about an attribute, those that ask for the kind of its value
CUT = 0.35  # of questions for a part, those without what "in" or "of" adds after it
SHORTER = 0.3  # of either side of a question for a part, those that leave another part out
CLAUSES = re.compile(r"[,;.!?](?=\s|$)|\(|[，；。！？]| (?:and|und) ")
OPENING = 8  # characters by which a text is seen to begin as another
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
            if rng.random() < PARTS and (asked := self.for_a_part(fact, rng)):
                return self.typed(self.with_article(asked.words, rng), rng, held_out)
            words = self.with_article(self.some_words(fact, rng), rng)
            return self.in_words(words, rng, held_out)
        if fact.kind != "thing":
            return self._on(fact.subject, fact.kind, rng, held_out)
        alone = len(self.having[fact.attribute]) == 1 and rng.random() < ALONE
        return self.of_thing(fact, "" if alone else self.called(fact.subject, rng), rng, held_out)

    def of_thing(self, fact: Fact, name: str, rng: Random, held_out: bool) -> str:
        """A question about an attribute: that of a `name`, or with no name by itself."""
        attribute = self.named(fact.attribute)
        if name and fact.under and rng.random() < UNDER:
            frame = rng.choice(self.pack.things.get("under", ("{h} {s}",)))
            name = frame.format(s=name, h=fact.under)
        kinds = [part.asking for part in parts(fact.answer, self.pack)]
        if kinds and rng.random() < BY_VALUE:
            words = [attribute, name] if name else [attribute]
            rng.shuffle(words)
            words = self._helped(words, rng) if not self.pack.wide else words
            words = [rng.choice(rng.choice(kinds)), *words]
            return self.typed(self.with_article(words, rng), rng, held_out)
        if not name:
            return self._on(attribute, "about", rng, held_out)
        return self.about(name, fact.attribute, rng, held_out)

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
        frame = rng.choice(self.pack.notes.get(kind, ("{x}",)))
        return self.rephrased(frame.format(x=topic), rng, held_out)

    def about(
        self, subject: str, attribute: str, rng: Random, held_out: bool, unnamed: bool = True
    ) -> str:
        """With `unnamed` the question may leave it to its question word what is asked for."""
        if rng.random() < 0.2:
            words = [subject, self.named(attribute)]
            rng.shuffle(words)
            return self.in_words(words, rng, held_out, cut=0.0)
        direct = [f for f in self._direct.get(attribute, ()) if unnamed or "{a}" in f]
        if direct and rng.random() < DIRECTLY:
            text = rng.choice(direct).format(s=subject, a=self.named(attribute))
            return self.rephrased(text[:1].upper() + text[1:], rng, held_out)
        frames = self.pack.things["held_out" if held_out else "training"]
        text = rng.choice(frames).format(s=subject, a=self.named(attribute))
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

    def some_words(self, fact: Fact, rng: Random) -> list[str]:
        """What a sentence says without its end or its beginning, some content words of it in order,
        or all words of a part of it, which no other sentence has together where there are such.
        """
        words, chosen = self.sentences[fact.subject], list[Word]()
        inside = [i for i, piece in enumerate(words) if piece.kind == "content"]
        own = split(fact.subject[_own_words(fact) :], self.pack)
        for _ in range(6):
            if rng.random() < STRETCHES:
                told = own if len(own) > 3 and rng.random() < 0.5 else words
                size = rng.randint(min(2, len(told)), max(2, len(told) - 1))
                chosen = list(told[:size] if rng.random() < BEGINNING else told[-size:])
                if self._alone(fact, chosen):
                    break
                continue
            count = rng.choice((2, 2, 3, 3, 4, 5, 6))
            places = sorted(rng.sample(inside, min(len(inside), count)))
            whole = rng.random() < 0.5
            chosen = (
                list(words[places[0] : places[-1] + 1]) if whole else [words[i] for i in places]
            )
            if self._alone(fact, chosen):
                break
        return [piece.text for piece in chosen]

    def for_a_part(self, fact: Fact, rng: Random) -> PartQuestion | None:
        """A sentence without one of its parts, and the words that ask for this in front, or now and
        then in its place; of the sentence the clause around it, without its heading or with it.
        None where no such words tell it from others.
        """
        text, start = fact.subject, _own_words(fact)
        found = [part for part in parts(text, self.pack) if part.start >= start]
        if not found:
            return None
        part = rng.choice(found)
        if (
            part.start == start
            and " " not in text[start : part.end]
            and rng.random() > OPENING_NAMES
        ):
            return None
        breaks = list(CLAUSES.finditer(text))
        first = max((each.end() for each in breaks if each.end() <= part.start), default=start)
        last = min((each.start() for each in breaks if each.start() >= part.end), default=len(text))
        spans = [(max(first, start), last, 0), (max(first, start), last, start)]
        spans += [(start, len(text), 0), (start, len(text), start)]
        for left, right, heading in spans[rng.choice((0, 1, 1, 2, 3)) :]:
            head = split(text[:heading], self.pack)
            before = self._leading_to(self._shorter(text, left, part.start, found, rng))
            after = split(self._shorter(text, part.end, right, found, rng), self.pack)
            if rng.random() < CUT:
                after = self._until_a_place(after)
            if self._alone(fact, [*head, *before, *after]):
                asked = self._asked_for(before, after, rng.choice(part.asking), rng)
                return self._with_heading(asked, head, rng)
        return None

    def _with_heading(self, asked: PartQuestion, head: Sequence[Word], rng: Random) -> PartQuestion:
        """A question, and in front or after it what it is about: "for the fair"."""
        words = [piece.text for piece in head]
        if not words or rng.random() < 0.4:
            return PartQuestion([*words, *asked.words], len(words) + asked.asking)
        if head[0].kind == "function" and rng.random() < 0.5:
            del words[0]
        joining = self.pack.words.get("joining", ())
        between = rng.choice(joining).split() if joining and rng.random() < 0.8 else []
        return PartQuestion([*asked.words, *between, *words], asked.asking)

    def _until_a_place(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """Without what comes after "in", "of" and the like."""
        places = self.pack.words.get("places", ())
        ends = [i for i, piece in enumerate(words) if i and piece.text.lower() in places]
        return tuple(words[: ends[0]] if ends else words)

    def _shorter(self, text: str, start: int, end: int, found: Sequence[Part], rng: Random) -> str:
        """From `start` to `end`, now and then without another part."""
        inside = [part for part in found if start <= part.start and part.end <= end]
        if not inside or rng.random() > SHORTER:
            return text[start:end]
        part = rng.choice(inside)
        return text[start : part.start] + text[part.end : end]

    def _asked_for(
        self, before: Sequence[Word], after: Sequence[Word], asking: str, rng: Random
    ) -> PartQuestion:
        first, last = ([piece.text for piece in side] for side in (before, after))
        if before and before[0].kind == "function":
            first[0] = first[0].lower()
        if self.pack.wide or rng.random() < (0.25 if first else 0.1):
            return PartQuestion([*first, asking, *last], len(first))
        return PartQuestion([asking, *(self._helped([*first, *last], rng) if first else last)], 0)

    def _leading_to(self, text: str) -> list[Word]:
        """The words before a part, without what leads to it ("on", "in the")."""
        words = list(split(text, self.pack))
        for size in (1, 2):
            lead = words[-size:]
            if len(words) > size and lead[0].text.lower() in self.pack.words.get("places", ()):
                return words[:-size] if all(p.kind == "function" for p in lead) else words
        return words

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

    def _alone(self, fact: Fact, chosen: Sequence[Word]) -> bool:
        """Whether a sentence alone has these content words together."""
        key = {piece.text.lower() for piece in chosen if piece.kind == "content"}
        own = {piece.text.lower() for piece in self.sentences[fact.subject]}
        return bool(key) and key <= own and sum(key <= told for told in self._sentence_words) == 1

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
                words = self._helped(words, rng)
            words.insert(at, rng.choice(self.pack.words["question"]))
        return self.typed(words, rng, held_out)

    def typed(self, words: Sequence[str], rng: Random, held_out: bool) -> str:
        """Words as a question that somebody types."""
        joined = self._in_other_words(self.pack.joiner.join(words), rng)
        if rng.random() < 0.3:
            return hurried(joined[:1].upper() + joined[1:], self.pack, rng)
        return hurried(framed(joined, self.pack, rng, held_out), self.pack, rng)

    def _helped(self, words: list[str], rng: Random) -> list[str]:
        """With a helping verb in front: one of theirs, or now and then another one."""
        adding, helping = self.pack.words["dropped"], self.pack.words["copulas"]
        own = [i for i, word in enumerate(words) if word.lower() in (*adding, *helping)]
        luck = rng.random()
        if own and luck < 0.6:
            at = rng.choice(own)
            return [words[at], *words[:at], *words[at + 1 :]]
        helpers = (*adding, *helping)
        return [rng.choice(helpers), *words] if adding and luck > 0.75 else words

    @cached_property
    def sentences(self) -> dict[str, tuple[Word, ...]]:
        """The words by which each sentence may be asked for."""
        found = {f.subject: split(f.subject, self.pack) for f in self.facts if f.kind == "sentence"}
        return {
            text: words
            if any(piece.kind == "content" for piece in words)
            else (Word(text, "content"),)
            for text, words in found.items()
        }

    def asked_of(self, name: str) -> set[str]:
        """The content words that ask for a part of some sentence about a name."""
        about = content(name, self.pack)
        return {
            word
            for fact in self.facts
            if fact.kind == "sentence" and about <= content(fact.subject, self.pack)
            for part in parts(fact.subject, self.pack)
            for words in part.asking
            for word in content(words, self.pack)
        }

    def tells(self, words: frozenset[str]) -> bool:
        """Whether a sentence has all of these content words, in lower case."""
        return any(words <= told for told in self._sentence_words)

    @cached_property
    def _sentence_words(self) -> list[frozenset[str]]:
        return [
            frozenset(piece.text.lower() for piece in words if piece.kind == "content")
            for words in self.sentences.values()
        ]

    def named(self, name: str) -> str:
        return name.lower() if self.pack.code == "en" and not name.isupper() else name

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


def _own_words(fact: Fact) -> int:
    """Where in the words by which a sentence may be asked for it begins itself, after a heading."""
    if (start := fact.subject.find(fact.answer[:OPENING])) >= 0:
        return start
    own, told = fact.subject[::-1], fact.answer[::-1]
    same = next((i for i, (a, b) in enumerate(zip(own, told, strict=False)) if a != b), len(told))
    return len(own) - same
