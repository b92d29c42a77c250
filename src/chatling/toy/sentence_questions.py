"""What the sentences of notes may be asked for: some of their words, or one of their parts by its
kind.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from random import Random

from chatling.data.facts import Fact
from chatling.toy.answers import Part, PartQuestion, parts
from chatling.toy.packs import Pack
from chatling.toy.rephrase import Word, content, helped, split

STRETCHES = 0.75  # of questions made of a sentence's words, those that are its beginning or end
BEGINNING = 0.65  # of these, its beginning: what is asked for is told after it
OPENING_NAMES = 0.3  # of sentences whose first word has a capital, those where it is a name
CUT = 0.35  # of questions for a part, those without what "in" or "of" adds after it
RESUMED = 0.15  # of questions for a part, those with a word for what stands in front: "it"
SHORTER = 0.3  # of either side of a question for a part, those that leave another part out
ONE_NAME = 0.25  # of names of two words beside each other, those of which one is said
CLAUSES = re.compile(r"[,;.!?](?=\s|$)|\(|[，；。！？]| (?:and|und) ")
OPENING = 8  # characters by which a text is seen to begin as another


class SentenceQuestions:
    """The sentences among a user's facts. Every method is a pure function of its random choices."""

    def __init__(self, facts: Sequence[Fact], pack: Pack):
        self.pack = pack
        self.facts = [fact for fact in facts if fact.kind == "sentence"]

    @cached_property
    def _words(self) -> dict[str, tuple[Word, ...]]:
        """The words by which each sentence may be asked for."""
        found = {f.subject: split(f.subject, self.pack) for f in self.facts}
        return {
            text: words
            if any(piece.kind == "content" for piece in words)
            else (Word(text, "content"),)
            for text, words in found.items()
        }

    @cached_property
    def _sentence_words(self) -> list[frozenset[str]]:
        return [
            frozenset(piece.text.lower() for piece in words if piece.kind == "content")
            for words in self._words.values()
        ]

    def tells(self, words: frozenset[str]) -> bool:
        """Whether a sentence has all of these content words, in lower case."""
        return any(words <= told for told in self._sentence_words)

    def asked_of(self, name: str) -> set[str]:
        """The content words that ask for a part of some sentence about a name."""
        about = content(name, self.pack)
        return {
            word
            for fact in self.facts
            if about <= content(fact.subject, self.pack)
            for part in parts(fact.subject, self.pack)
            for words in part.asking
            for word in content(words, self.pack)
        }

    def _alone(self, fact: Fact, chosen: Sequence[Word], asking: str = "") -> bool:
        """Whether a sentence alone has these content words together, of those in which the words of
        `asking` may ask for a part.
        """
        key = {piece.text.lower() for piece in chosen if piece.kind == "content"}
        own = {piece.text.lower() for piece in self._words[fact.subject]}
        told = zip(self._sentence_words, self._asking, strict=True)
        having = sum(key <= words and (not asking or asking in parts) for words, parts in told)
        return bool(key) and key <= own and having == 1

    @cached_property
    def _asking(self) -> list[frozenset[str]]:
        """The words that ask for a part of each sentence."""
        return [
            frozenset(words for part in parts(text, self.pack) for words in part.asking)
            for text in self._words
        ]

    def some_words(self, fact: Fact, rng: Random) -> list[str]:
        """What a sentence says without its end or its beginning, some content words of it in order,
        or all words of a part of it, which no other sentence has together where there are such.
        """
        words, chosen = self._words[fact.subject], list[Word]()
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
        asking = rng.choice(part.asking)
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
            head = self._one_name(split(text[:heading], self.pack), rng)
            before = self._leading_to(self._shorter(text, left, part.start, found, rng))
            before = self._one_name(before, rng)
            rest = split(self._shorter(text, part.end, right, found, rng), self.pack)
            after = self._one_name(rest, rng)
            if rng.random() < CUT:
                after = list(self._until_a_place(after))
            if self._alone(fact, [*head, *before, *after], asking):
                asked = self._asked_for(before, after, asking, rng)
                return self._with_heading(asked, head, rng)
        return None

    def _one_name(self, words: Sequence[Word], rng: Random) -> list[Word]:
        """Words without one of two with capitals beside each other now and then: "Tobias" for
        "Tobias Renwick".
        """
        named = [w.kind == "content" and w.text[:1].isupper() for w in words]
        pairs = [i for i in range(1, len(words)) if named[i - 1] and named[i]]
        if not pairs or rng.random() > ONE_NAME:
            return list(words)
        out = rng.choice(pairs) - (rng.random() < 0.3)
        return [word for i, word in enumerate(words) if i != out]

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
        if not first and rng.random() < RESUMED and (resumed := self._resumed(last, asking, rng)):
            return resumed
        if self.pack.wide or rng.random() < (0.25 if first else 0.1):
            return PartQuestion([*first, asking, *last], len(first))
        return PartQuestion(
            [asking, *(helped([*first, *last], self.pack, rng) if first else last)], 0
        )

    def _resumed(self, words: list[str], asking: str, rng: Random) -> PartQuestion | None:
        """ "the boat, who built it": what has an article or a capital stands in front, and a word
        for it in its place; None where there is nothing of the kind.
        """
        resuming, articles = (self.pack.words.get(w, ()) for w in ("resuming", "articles"))
        named = [i for i, word in enumerate(words) if i and word[:1].isupper()]
        named += [i for i, word in enumerate(words[:-1]) if i and word.lower() in articles]
        if not resuming or not named:
            return None
        start = rng.choice(named)
        end = start + 1
        while end < len(words) and content(words[end], self.pack):
            end += 1
        front = words[start:end]
        rest = [*words[:start], rng.choice(resuming), *words[end:]]
        return PartQuestion([*front[:-1], f"{front[-1]},", asking, *rest], len(front))

    def _leading_to(self, text: str) -> list[Word]:
        """The words before a part, without what leads to it ("on", "in the")."""
        words = list(split(text, self.pack))
        for size in (1, 2):
            lead = words[-size:]
            if len(words) > size and lead[0].text.lower() in self.pack.words.get("places", ()):
                return words[:-size] if all(p.kind == "function" for p in lead) else words
        return words


def _own_words(fact: Fact) -> int:
    """Where in the words by which a sentence may be asked for it begins itself, after a heading."""
    if (start := fact.subject.find(fact.answer[:OPENING])) >= 0:
        return start
    own, told = fact.subject[::-1], fact.answer[::-1]
    same = next((i for i, (a, b) in enumerate(zip(own, told, strict=False)) if a != b), len(told))
    return len(own) - same
