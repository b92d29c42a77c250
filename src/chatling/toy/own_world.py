"""A user's own facts as conversations: each asked in many wordings, in one turn or several, among
greetings and questions that nothing of theirs answers.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from chatling.data.facts import Fact
from chatling.messages import Conversation
from chatling.toy.packs import Pack, UnknownNames, own_words
from chatling.toy.rephrase import MARKS, Word, content, framed, hurried, lowered, rephrase, split

TURNS = (0.5, 0.8, 0.93, 1.0)  # of a conversation, added up
# of turns: about a fact, about something unknown; the rest is small talk
FACTS, UNKNOWN = 0.62, 0.27
FOLLOWING = 0.35  # of turns after one about a thing: its other attribute, or another thing
MOST = 3  # characters of a conversation for each token of the context
Turn = tuple[str, str, Fact | None]


@dataclass(frozen=True)
class Held:
    """A held-out question: what it tests, and what its answer must hold."""

    skill: str
    conversation: Conversation
    key: str

    def to_dict(self) -> dict[str, object]:
        return {"skill": self.skill, "key": self.key, **self.conversation.to_dict()}


class OwnWorld:
    """Facts in a language, and an assistant's name. Every method is a pure function of its random
    choices.
    """

    def __init__(self, facts: Sequence[Fact], pack: Pack, name: str, also: Sequence[str] = ()):
        """`also` are other texts that the assistant learns from: what they name is known."""
        self.pack, self.name = pack, name
        self.facts = tuple(facts)
        known = own_words([text for fact in facts for text in _texts(fact)] + list(also) + [name])
        self._unknown = (
            {side: UnknownNames(pack, known, side) for side in (False, True)}
            if pack.unknown
            else {}
        )
        self._asked = [fact for fact in facts if fact.question]
        self._keys = Counter(content(fact.question, pack) for fact in self._asked)
        self._rare = Counter(word for key in self._keys for word in key)
        self._told: dict[str, dict[str, Fact]] = defaultdict(dict)
        self._having: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            if fact.kind == "thing":
                self._told[fact.subject][fact.attribute] = fact
                self._having[fact.attribute].append(fact)

    # ---- a fact ----

    def answer(self, fact: Fact) -> str:
        if fact.kind != "thing":
            return fact.answer
        text = self.pack.things["answer"].format(
            a=self._attribute(fact.attribute),
            s=lowered(fact.subject, self.pack),
            v=fact.answer.rstrip(MARKS) or fact.answer,
        )
        return text[:1].upper() + text[1:]

    def ask(self, fact: Fact, rng: Random, held_out: bool = False) -> str:
        """One of the many wordings of a fact's question."""
        if fact.question:
            bare = self._keys[content(fact.question, self.pack)] == 1
            return rephrase(fact.question, self.pack, rng, held_out, bare)
        if fact.kind == "sentence":
            return self._in_words(self._some_words(fact, rng), rng, held_out)
        if fact.kind != "thing":
            frame = rng.choice(self.pack.notes.get(fact.kind, ("{x}",)))
            return rephrase(frame.format(x=fact.subject), self.pack, rng, held_out)
        return self._about(self._called(fact.subject, rng), fact.attribute, rng, held_out)

    def _about(self, subject: str, attribute: str, rng: Random, held_out: bool) -> str:
        if rng.random() < 0.2:
            words = [subject, self._attribute(attribute)]
            rng.shuffle(words)
            return self._in_words(words, rng, held_out, cut=0.0)
        frames = self.pack.things["held_out" if held_out else "training"]
        text = rng.choice(frames).format(s=subject, a=self._attribute(attribute))
        text = text[:1].upper() + text[1:]
        if rng.random() < 0.25:
            return rephrase(text, self.pack, rng, held_out)
        return hurried(text, self.pack, rng)

    def _some_words(self, fact: Fact, rng: Random) -> list[str]:
        """Some content words of a sentence in order, or all words of a part of it, which no other
        sentence has together where there are such.
        """
        words, chosen = self._sentences[fact.answer], list[Word]()
        inside = [i for i, piece in enumerate(words) if piece.kind == "content"]
        for _ in range(6):
            places = sorted(rng.sample(inside, min(len(inside), rng.choice((2, 2, 3, 3, 4)))))
            whole = rng.random() < 0.35
            chosen = (
                list(words[places[0] : places[-1] + 1]) if whole else [words[i] for i in places]
            )
            key = {piece.text.lower() for piece in chosen if piece.kind == "content"}
            if sum(key <= found for found in self._sentence_words) == 1:
                break
        return [piece.text for piece in chosen]

    def _in_words(
        self, words: Sequence[str], rng: Random, held_out: bool, cut: float = 0.35
    ) -> str:
        """A question of content words; of some of them the ending is `cut`, as another form of the
        word would have it.
        """
        words = [
            word[:-1] if len(word) > 3 and word[-1] in "snetd" and rng.random() < cut else word
            for word in words
        ]
        if self.pack.words and rng.random() < 0.7:
            words.insert(0, rng.choice(self.pack.words["question"]))
        joined = self.pack.joiner.join(words)
        if rng.random() < 0.3:
            return hurried(joined[:1].upper() + joined[1:], self.pack, rng)
        return hurried(framed(joined, self.pack, rng, held_out), self.pack, rng)

    @cached_property
    def _sentences(self) -> dict[str, tuple[Word, ...]]:
        """The words of each sentence."""
        found = {f.answer: split(f.answer, self.pack) for f in self.facts if f.kind == "sentence"}
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
            for words in self._sentences.values()
        ]

    def _attribute(self, name: str) -> str:
        return name.lower() if self.pack.code == "en" and not name.isupper() else name

    def _called(self, subject: str, rng: Random) -> str:
        """A thing's name, or one word of it that no other thing has."""
        first, _, rest = subject.partition(" ")
        if rest and first.lower() in self.pack.words.get("function", ()):
            subject = rest if rng.random() < 0.5 else f"{first.lower()} {rest}"
        alone = self._short_names.get(subject, ())
        return rng.choice(alone) if alone and rng.random() < 0.3 else subject

    @cached_property
    def _short_names(self) -> dict[str, list[str]]:
        uses = Counter(word for subject in self._told for word in set(subject.split()))
        return {
            subject: [w for w in subject.split() if uses[w] == 1 and w[:1].isupper() and len(w) > 2]
            for subject in self._told
            if " " in subject
        }

    # ---- what nobody told ----

    def unknown(self, rng: Random, held_out: bool = False) -> tuple[str, str]:
        """A question that the facts do not answer, and the honest answer."""
        makers: list[tuple[Callable[[Random, bool], str], int]] = [(self._generic, 3)]
        if self._told:
            makers += [(self._unknown_thing, 5), (self._untold, 2)]
        if self._asked:
            makers.append((self._swapped, 6))
        if self._sentences:
            makers.append((self._swapped_word, 4))
        make = rng.choices([m for m, _ in makers], [w for _, w in makers])[0]
        return make(rng, held_out), rng.choice(self.pack.unknown["replies"])

    def _generic(self, rng: Random, held_out: bool) -> str:
        names = self._unknown[held_out]
        frame = rng.choice(self.pack.unknown["held_out" if held_out else "training"])
        slots = {"n": names.person(rng), "t": names.thing(rng), "a": names.attribute(rng)}
        return rephrase(frame.format(**slots), self.pack, rng, held_out)

    def _unknown_thing(self, rng: Random, held_out: bool) -> str:
        subject = rng.choice(tuple(self._told))
        attribute = rng.choice(tuple(self._having))
        return self._about(self._other_name(subject, rng, held_out), attribute, rng, held_out)

    def _other_name(self, subject: str, rng: Random, held_out: bool) -> str:
        """A name that no fact has: a person's for one of several capitals, else a thing's."""
        names = self._unknown[held_out]
        named = (self.pack.wide and len(subject) <= 4) or subject.istitle()
        name = names.person(rng) if named and rng.random() < 0.8 else names.thing(rng)
        first, _, rest = subject.partition(" ")
        article = rest and first.lower() in self.pack.words.get("function", ())
        return f"{first.lower()} {name}" if article and rng.random() < 0.6 else name

    def _untold(self, rng: Random, held_out: bool) -> str:
        """An attribute of a known thing of which nothing is told."""
        subject = rng.choice(tuple(self._told))
        missing = [name for name in self._having if name not in self._told[subject]]
        attribute = self._unknown[held_out].attribute(rng)
        if missing and rng.random() < 0.3:
            attribute = rng.choice(missing)
        return self._about(self._called(subject, rng), attribute, rng, held_out)

    def _swapped(self, rng: Random, held_out: bool) -> str:
        """A known question with its rarest word, a name if there is one, exchanged."""
        fact = rng.choice(self._asked)
        words = split(fact.question, self.pack)
        inside = [i for i, piece in enumerate(words) if piece.kind == "content"]
        if not inside:
            return self._generic(rng, held_out)
        weights = [self._weight(words[i].text, i) for i in inside]
        at = rng.choices(inside, weights)[0]
        names, old = self._unknown[held_out], words[at].text
        new = names.person(rng) if rng.random() < 0.5 else names.thing(rng)
        return rephrase(fact.question.replace(old, new, 1), self.pack, rng, held_out)

    def _swapped_word(self, rng: Random, held_out: bool) -> str:
        """Words of a sentence with one of them exchanged."""
        fact = rng.choice([fact for fact in self.facts if fact.kind == "sentence"])
        words, names = self._some_words(fact, rng), self._unknown[held_out]
        new = names.person(rng) if rng.random() < 0.5 else names.thing(rng)
        weights = [self._weight(word, 1) for word in words]
        words[rng.choices(range(len(words)), weights)[0]] = new
        return self._in_words(words, rng, held_out)

    def _weight(self, word: str, place: int) -> float:
        """How likely a word is what a question is about: rare, long, and with a capital."""
        named = word[:1].isupper() and place > 0
        return (8.0 if named else 1.0) * min(len(word), 8) / max(1, self._rare[word.lower()]) ** 0.5

    # ---- conversations ----

    def small_talk(self, rng: Random, held_out: bool = False) -> tuple[str, str]:
        intent = rng.choice(tuple(self.pack.smalltalk.values()))
        asked = rng.choice(intent["held_out" if held_out else "training"])
        return (
            hurried(asked.format(name=self.name), self.pack, rng),
            intent["answer"].format(name=self.name),
        )

    def conversations(self, seed: int, context: int) -> Iterator[Conversation]:
        """An endless stream, in which every fact comes up equally often."""
        rng, most = Random(f"own world {seed}"), MOST * context
        waiting: list[Fact] = []
        while True:
            count = next(i for i, share in enumerate(TURNS, 1) if rng.random() <= share)
            turns: list[Turn] = []
            while len(turns) < count and sum(len(q) + len(a) for q, a, _ in turns) < most:
                if not waiting:
                    waiting = list(self.facts)
                    rng.shuffle(waiting)
                if turns and waiting[-1].before:  # which leans on turns of its own
                    break
                turns += self._turns(waiting, turns, rng)
            yield Conversation.of(*(text for q, a, _ in turns for text in (q, a)))

    def _turns(self, waiting: list[Fact], before: Sequence[Turn], rng: Random) -> list[Turn]:
        luck, last = rng.random(), before[-1][2] if before else None
        if last is not None and last.kind == "thing" and rng.random() < FOLLOWING:
            return [self.follow_up(last, rng)]
        if luck < FACTS or not self.pack.unknown:
            fact = waiting.pop()
            if not fact.before:
                return [(self.ask(fact, rng), self.answer(fact), fact)]
            return self.led_up_to(fact, rng)
        pair = self.unknown(rng) if luck < FACTS + UNKNOWN else self.small_talk(rng)
        return [(*pair, None)]

    def led_up_to(self, fact: Fact, rng: Random, held_out: bool = False) -> list[Turn]:
        """A fact after its own earlier turns, all of them asked in other words."""
        turns = [*fact.before, fact.question, fact.answer]
        asked = [rephrase(text, self.pack, rng, held_out) for text in turns[::2]]
        return [(q, a, None) for q, a in zip(asked, turns[1::2], strict=True)]

    def follow_up(self, last: Fact, rng: Random) -> Turn:
        """The same attribute of another thing, or another attribute of the same."""
        others = [f for f in self._told[last.subject].values() if f is not last]
        same = [f for f in self._having[last.attribute] if f is not last]
        if others and (not same or rng.random() < 0.5):
            fact, key = rng.choice(others), "other"
        elif same:
            fact, key = rng.choice(same), "same"
        else:
            return (self.ask(last, rng), self.answer(last), last)
        frame = rng.choice(self.pack.things[key])
        text = frame.format(s=fact.subject, a=self._attribute(fact.attribute))
        return hurried(text[:1].upper() + text[1:], self.pack, rng), self.answer(fact), fact

    # ---- held out ----

    def held_out(self, seed: int, most: int = 200) -> list[Held]:
        """Questions in wordings, and about unknown names, that no training conversation has."""
        rng, found = Random(f"own world held out {seed}"), list[Held]()
        alone = [fact for fact in self.facts if not fact.before]
        chosen = rng.sample(alone, min(most, len(alone)))
        for fact in chosen:
            question, answer = self.ask(fact, rng, True), self.answer(fact)
            key = fact.answer.rstrip(MARKS) or answer
            found.append(Held("rephrased", Conversation.of(question, answer), key))
            other = rng.choice(alone)
            talk = Conversation.of(self.ask(other, rng), self.answer(other), question, answer)
            found.append(Held("second turn", talk, key))
        for fact in [fact for fact in self.facts if fact.before][:most]:
            turns = self.led_up_to(fact, rng, True)
            talk = Conversation.of(*(text for q, a, _ in turns for text in (q, a)))
            found.append(Held("follow-up", talk, fact.answer))
        if self.pack.unknown:
            for _ in chosen:
                question, reply = self.unknown(rng, True)
                found.append(
                    Held("unknown", Conversation.of(question, reply), self.pack.unknown["key"])
                )
        for intent in self.pack.smalltalk.values():
            key, answer = (intent[each].format(name=self.name) for each in ("key", "answer"))
            for text in intent["held_out"]:
                talk = Conversation.of(text.format(name=self.name), answer)
                found.append(Held("small talk", talk, key))
        return _different(found)


def _texts(fact: Fact) -> tuple[str, ...]:
    return fact.question, fact.answer, fact.subject, fact.attribute, *fact.before


def plain(text: str) -> str:
    """Lower case, single blanks, no marks at the ends."""
    return " ".join(text.lower().split()).strip(MARKS)


def _different(found: Sequence[Held]) -> list[Held]:
    seen = {(each.skill, each.conversation.prompt): each for each in found}
    return list(seen.values())
