"""Questions that a user's facts do not answer: names that nobody told, and of known names what is
not said of them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, cached_property
from random import Random

from chatling.data.facts import Fact
from chatling.toy.packs import UnknownNames, held_out_name, near_misses, own_names
from chatling.toy.rephrase import asking, content, split
from chatling.toy.topics import Topic
from chatling.toy.wordings import PARTS, Wordings

LONGEST_NAME = 3  # words of what notes speak of, or of a language without blanks twice as many


class Unanswered:
    """What nobody told, beside the facts of `words`. Every method is a pure function of its random
    choices.
    """

    def __init__(
        self,
        words: Wordings,
        topics: Mapping[str, Topic],
        names: Sequence[str],
        known: Collection[str],
    ):
        """`topics` are those of the questions, `names` theirs and the tables', `known` all words of
        the files.
        """
        self.words, self.pack, self.facts = words, words.pack, words.facts
        self._topics, self._told_names = topics, tuple(names)
        self._having = tuple(words.having)
        alone = {content(f.question, self.pack) for f in words.asked if not f.before}
        self._rare = Counter(word for key in alone for word in key)
        noted = [fact.subject for fact in self.facts if fact.kind in ("about", "list")]
        longest = LONGEST_NAME * (2 if self.pack.wide else 1)
        short = [name for name in noted if len(split(name, self.pack)) <= longest]
        self._spoken_of = tuple(dict.fromkeys((*names, *short)))
        self._missing = cache(self._not_told)
        near = near_misses(self._told_names, self.pack)
        self.names = {side: UnknownNames(self.pack, known, side, near) for side in (False, True)}

    def one(self, rng: Random, held_out: bool = False) -> tuple[str, str]:
        """A question, and the honest answer."""
        makers: list[tuple[Callable[[Random, bool], str], int]] = [(self._generic, 2)]
        if self.words.things:
            makers.append((self._unknown_thing, 8))
        if self._spoken_of:
            makers.append((self._untold, 7))
        if self.words.asked:
            makers.append((self._swapped, 12))
        if self.words.sentences.facts:
            makers.append((self._swapped_word, 7))
        make = rng.choices([m for m, _ in makers], [w for _, w in makers])[0]
        return make(rng, held_out), self._reply(rng)

    def _reply(self, rng: Random) -> str:
        return str(rng.choice(self.pack.unknown["replies"]))

    def _generic(self, rng: Random, held_out: bool) -> str:
        names = self.names[held_out]
        frame = rng.choice(self.pack.unknown["held_out" if held_out else "training"])
        slots = {"n": names.person(rng), "t": names.thing(rng), "a": names.attribute(rng)}
        return self.words.rephrased(frame.format(**slots), rng, held_out)

    def _unknown_thing(self, rng: Random, held_out: bool) -> str:
        subject = rng.choice(tuple(self.words.things))
        attribute = rng.choice(tuple(self.words.having))
        name = self._strange(subject, self.names[held_out], rng)
        first, _, rest = subject.partition(" ")
        article = rest and first.lower() in self.pack.words["function"]
        if article and not name.startswith(f"{first} ") and rng.random() < 0.6:
            name = f"{first.lower()} {name}"
        like = rng.choice(self.words.having[attribute])
        return self.words.of_thing(like, name, rng, held_out)

    def _strange(self, name: str, names: UnknownNames, rng: Random) -> str:
        """A name that nobody told. Of a name of several words now and then one stays: another cup's
        for a cup's.
        """
        strange = names.any(rng)
        words = [piece.text for piece in split(name, self.pack) if piece.kind == "content"]
        if self.pack.wide or len(words) < 2 or rng.random() < 0.4:
            return strange
        own = [w for w in words if self._shared[w.lower()] == 1]
        return name.replace(
            rng.choice(own) if own and rng.random() < 0.4 else words[-1], strange, 1
        )

    @cached_property
    def _shared(self) -> Counter[str]:
        """How many names have a word."""
        return Counter(word for name in self._told_names for word in content(name, self.pack))

    def _untold(self, rng: Random, held_out: bool) -> str:
        """What the facts do not say about a known name, but may about others."""
        name, luck = rng.choice(self._spoken_of), rng.random()
        called, frames = self.words.called(name, rng), self._never_told[held_out]
        if luck < 0.35 and frames:
            return self._asked(rng.choice(frames).format(n=called), called, rng, held_out)
        if luck < 0.5 and self._topics:
            return self._asked_otherwise(rng, held_out)
        if luck < 0.85 and (missing := self._missing(name)):
            part = rng.choice(missing)
            if isinstance(part, tuple):
                return self._asked(name.join(part), name, rng, held_out)
            thing = name in self.words.things
            return self.words.about(called, part, rng, held_out, unnamed=thing)
        return self.words.about(called, self.names[held_out].attribute(rng), rng, held_out)

    def _asked(self, text: str, name: str, rng: Random, held_out: bool) -> str:
        """A question about a known name: with no content word beside it, it does not go without its
        question word, for the name alone asks for what is told.
        """
        beside = content(text, self.pack) - content(name, self.pack)
        return self.words.rephrased(text, rng, held_out, bare=bool(beside))

    def _asked_otherwise(self, rng: Random, held_out: bool) -> str:
        """A known question in which another word stands beside the topic."""
        question = rng.choice(tuple(self._topics))
        topic, names = self._topics[question], self.names[held_out]
        around = [p.text for text in topic.pattern for p in split(text, self.pack)]
        told = [word for word in around if word.lower() not in asking(question, self.pack)]
        text = question.replace(rng.choice(told or around), names.attribute(rng), 1)
        return self.words.rephrased(text, rng, held_out)

    def _not_told(self, name: str) -> list[str | tuple[str, str]]:
        """The attributes that other things have, of no kind of which this one has another, and the
        patterns in which other names are asked about, but only with words that ask for something
        else.
        """
        told = self.words.things.get(name)
        if told is not None:
            kinds = {self.words.kind(attribute) for attribute in told} - {None}
            asked = self.words.sentences.asked_of(name)
            return [
                attribute
                for attribute in self._having
                if attribute not in told
                and self.words.kind(attribute) not in kinds
                and not content(attribute, self.pack) & asked
            ]
        if name not in self._told_names:  # of which notes speak
            about, asked = content(name, self.pack), self.words.sentences.asked_of(name)
            return [
                a
                for a in self._having
                if not content(a, self.pack) & asked
                and not self.words.sentences.tells(about | content(a, self.pack))
            ]
        return [pattern for pattern in self._patterns if self._is_untold(pattern, name)]

    def _is_untold(self, pattern: tuple[str, str], name: str) -> bool:
        """Whether what a pattern asks is asked of a name in no other words: the question word is a
        new one; or it is one that may ask for anything, beside words that no fact about the name
        has, nor others of their meaning.
        """
        words, asked = self._patterns[pattern], self._asking[name]
        if words and not words & asked:
            return True
        about = content(" ".join(pattern), self.pack)
        if not about or words & asked - set(self.pack.words["open"]):
            return False
        return not own_names(self._alike(about)) & self._told_of[name]

    def _alike(self, words: frozenset[str]) -> set[str]:
        """The words, and others of their meaning."""
        return {w for group in self._meanings if words & group for w in group} | words

    @cached_property
    def _meanings(self) -> list[frozenset[str]]:
        return [frozenset(word.lower() for word in group) for group in self.pack.synonyms]

    @cached_property
    def _told_of(self) -> dict[str, set[str]]:
        """The words of all facts about each topic."""
        found = defaultdict[str, set[str]](set)
        for fact in self.words.asked:
            if topic := self._topics.get((*fact.before, fact.question)[0]):
                found[topic.name] |= own_names((fact.question, fact.answer))
        return found

    @cached_property
    def _patterns(self) -> dict[tuple[str, str], frozenset[str]]:
        """The question words of each pattern."""
        return {
            topic.pattern: asking(question, self.pack) for question, topic in self._topics.items()
        }

    @cached_property
    def _asking(self) -> dict[str, set[str]]:
        """The words with which each name is asked about."""
        found = defaultdict[str, set[str]](set)
        for fact in self.words.asked:
            if topic := self._topics.get((*fact.before, fact.question)[0]):
                found[topic.name] |= asking(fact.question, self.pack)
        return found

    @cached_property
    def _never_told(self) -> dict[bool, list[str]]:
        """Frames that ask what none of the facts speaks of."""
        texts = [text for fact in self.facts for text in texts_of(fact)]
        told = " ".join(texts).lower() if self.pack.wide else own_names(texts)
        fresh = [
            frame
            for frame in self.pack.unknown["untold"]
            if not any(word in told for word in self._alike(content(frame.format(n=""), self.pack)))
        ]
        return {side: [f for f in fresh if held_out_name(f) == side] for side in (False, True)}

    def _swapped(self, rng: Random, held_out: bool) -> str:
        """A known question about another topic; or with its rarest word, a name if there is one,
        exchanged.
        """
        fact, names = rng.choice(self.words.asked), self.names[held_out]
        topic = self._topics.get(fact.question)
        if topic is not None and rng.random() < 0.8:
            return self.words.rephrased(
                topic.other(self._strange(topic.name, names, rng)), rng, held_out
            )
        words = split(fact.question, self.pack)
        inside = [i for i, piece in enumerate(words) if piece.kind == "content"]
        if not inside or len(words) < 2:  # nothing of the question would be left
            return self._generic(rng, held_out)
        weights = [self._weight(words[i].text, i) for i in inside]
        old = words[rng.choices(inside, weights)[0]].text
        if self.pack.wide and len(old) > 2:  # several words, of which the first is often the name
            size = rng.randint(2, min(4, len(old)))
            at = 0 if rng.random() < 0.7 else rng.randint(0, len(old) - size)
            old = old[at : at + size]
        return self.words.rephrased(fact.question.replace(old, names.any(rng), 1), rng, held_out)

    def _swapped_word(self, rng: Random, held_out: bool) -> str:
        """A sentence asked for as one that is told, with a content word exchanged, or with
        another name in them of which the facts speak, but do not say that.
        """
        fact = rng.choice(self.words.sentences.facts)
        asked = self.words.sentences.for_a_part(fact, rng) if rng.random() < PARTS else None
        words = asked.words if asked else self.words.sentences.some_words(fact, rng)
        if not asked and (other := self._about_another(words, rng)):
            return self.words.in_words(other, rng, held_out)
        inside = [
            i
            for i, word in enumerate(words)
            if content(word, self.pack) and not (asked and i == asked.asking)
        ]
        if not inside:
            return self._generic(rng, held_out)
        weights = [self._weight(words[i], 1) for i in inside]
        words[rng.choices(inside, weights)[0]] = self.names[held_out].any(rng)
        words = self.words.with_article(words, rng)
        if asked:
            return self.words.typed(words, rng, held_out)
        return self.words.in_words(words, rng, held_out)

    def _about_another(self, words: Sequence[str], rng: Random) -> list[str] | None:
        here = {word.lower() for word in words}
        named = [each for each in self._contents.values() if each <= here]
        if not named or rng.random() < 0.6:
            return None
        old, name = max(named, key=len), rng.choice(self._spoken_of)
        rest = [word for word in words if word.lower() not in old]
        asked = content(" ".join(rest), self.pack)
        about = self._contents.get(name, frozenset())
        told = {part for a in self.words.things.get(name, ()) for part in content(a, self.pack)}
        if (
            not asked
            or not about
            or asked & (about | told)
            or self.words.sentences.tells(asked | about)
        ):
            return None
        rest.insert(rng.randint(0, len(rest)), self.words.called(name, rng))
        return rest

    @cached_property
    def _contents(self) -> dict[str, frozenset[str]]:
        """The content words of the names that have some."""
        found = {name: content(name, self.pack) for name in self._spoken_of}
        return {name: words for name, words in found.items() if words}

    def _weight(self, word: str, place: int) -> float:
        """How likely a word is what a question is about: rare, long, and with a capital."""
        named = word[:1].isupper() and place > 0
        return (8.0 if named else 1.0) * min(len(word), 8) / max(1, self._rare[word.lower()]) ** 0.5


def texts_of(fact: Fact) -> tuple[str, ...]:
    """All that a fact says."""
    return fact.question, fact.answer, fact.subject, fact.attribute, *fact.before
