"""A user's own facts as conversations: each asked in many wordings, in one turn or several, among
greetings and questions that nothing of theirs answers.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from random import Random

from chatling.data.facts import Fact
from chatling.messages import Conversation
from chatling.toy.packs import Pack, UnknownNames, held_out_name, near_misses, own_names
from chatling.toy.rephrase import (
    MARKS,
    asking,
    clause,
    content,
    framed,
    hurried,
    one_of,
    split,
)
from chatling.toy.topics import find_topics
from chatling.toy.wordings import Wordings

TURNS = (0.5, 0.8, 0.93, 1.0)  # of a conversation, added up
# of turns: about a fact, about something unknown; the rest is small talk
FACTS, UNKNOWN = 0.64, 0.24
OFTEN = {"sentence": 2}  # in so many more ways than others it may be asked for
BY_ITSELF = 0.4  # of questions that followed others, those that say themselves what they are about
FOLLOWING = 0.35  # of turns after one about a thing: its other attribute, or another thing
LONGEST_NAME = 3  # words of what notes speak of, or of a language without blanks twice as many
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
        self.pack, self.name, self.facts = pack, name, tuple(facts)
        self._having: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            if fact.kind == "thing":
                self._having[fact.attribute].append(fact)
        alone = [fact.question for fact in facts if fact.question and not fact.before]
        self._rare = Counter(word for key in {content(q, pack) for q in alone} for word in key)
        self._topics = find_topics(alone, pack) if pack.unknown else {}
        subjects = [fact.subject for fact in facts if fact.kind == "thing"]
        subjects += [topic.name for topic in self._topics.values()]
        self._names = tuple(dict.fromkeys(subjects))
        noted = [fact.subject for fact in facts if fact.kind in ("about", "list")]
        longest = LONGEST_NAME * (2 if pack.wide else 1)
        short = [name for name in noted if len(split(name, pack)) <= longest]
        self._spoken_of = tuple(dict.fromkeys((*subjects, *short)))
        self._missing = cache(self._not_told)
        self.words = Wordings(facts, pack, self._names)
        known = own_names([*(text for fact in facts for text in _texts(fact)), *also, name])
        near = near_misses(self._names, pack) if pack.unknown else ()
        self._unknown = {
            side: UnknownNames(pack, known, side, near) for side in (False, True) if pack.unknown
        }

    # ---- what nobody told ----

    def unknown(self, rng: Random, held_out: bool = False) -> tuple[str, str]:
        """A question that the facts do not answer, and the honest answer."""
        makers: list[tuple[Callable[[Random, bool], str], int]] = [(self._generic, 3)]
        if self.words.things:
            makers.append((self._unknown_thing, 7))
        if self._spoken_of:
            makers.append((self._untold, 5))
        if self.words.asked:
            makers.append((self._swapped, 8))
        if self.words.sentences:
            makers.append((self._swapped_word, 4))
        make = rng.choices([m for m, _ in makers], [w for _, w in makers])[0]
        return make(rng, held_out), self._reply(rng)

    def _reply(self, rng: Random) -> str:
        return str(rng.choice(self.pack.unknown["replies"]))

    def _generic(self, rng: Random, held_out: bool) -> str:
        names = self._unknown[held_out]
        frame = rng.choice(self.pack.unknown["held_out" if held_out else "training"])
        slots = {"n": names.person(rng), "t": names.thing(rng), "a": names.attribute(rng)}
        return self.words.rephrased(frame.format(**slots), rng, held_out)

    def _unknown_thing(self, rng: Random, held_out: bool) -> str:
        subject = rng.choice(tuple(self.words.things))
        attribute = rng.choice(tuple(self._having))
        name = self._strange(subject, self._unknown[held_out], rng)
        first, _, rest = subject.partition(" ")
        article = rest and first.lower() in self.pack.words["function"]
        if article and not name.startswith(f"{first} ") and rng.random() < 0.6:
            name = f"{first.lower()} {name}"
        return self.words.about(name, attribute, rng, held_out)

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
        return Counter(word for name in self._names for word in content(name, self.pack))

    def _untold(self, rng: Random, held_out: bool) -> str:
        """What the facts do not say about a known name, but may about others."""
        name, luck = rng.choice(self._spoken_of), rng.random()
        called, frames = self.words.called(name, rng), self._never_told[held_out]
        if luck < 0.35 and frames:
            text = rng.choice(frames).format(n=called)
            return self.words.rephrased(text, rng, held_out)
        if luck < 0.5 and self._topics:
            return self._asked_otherwise(rng, held_out)
        if luck < 0.85 and (missing := self._missing(name)):
            part = rng.choice(missing)
            if isinstance(part, tuple):
                return self.words.rephrased(name.join(part), rng, held_out)
            thing = name in self.words.things
            return self.words.about(called, part, rng, held_out, unnamed=thing)
        return self.words.about(called, self._unknown[held_out].attribute(rng), rng, held_out)

    def _asked_otherwise(self, rng: Random, held_out: bool) -> str:
        """A known question in which another word stands beside the topic."""
        question = rng.choice(tuple(self._topics))
        topic, names = self._topics[question], self._unknown[held_out]
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
            return [
                attribute
                for attribute in self._having
                if attribute not in told and self.words.kind(attribute) not in kinds
            ]
        if name not in self._names:  # of which notes speak
            about = content(name, self.pack)
            return [a for a in self._having if not self.words.tells(about | content(a, self.pack))]
        return [pattern for pattern in self._patterns if self._is_untold(pattern, name)]

    def _is_untold(self, pattern: tuple[str, str], name: str) -> bool:
        """Whether what a pattern asks is asked of a name in no other words: the question word is a
        new one; or it is one that may ask for anything, beside words that no fact about the name
        has, nor others of their meaning.
        """
        words, asked = self._patterns[pattern], self._asking[name]
        if not words & asked:
            return True
        about = content(" ".join(pattern), self.pack)
        if not about or words & asked - set(self.pack.words["open"]):
            return False
        alike = {w for group in self._meanings if about & group for w in group} | about
        return not own_names(alike) & self._told_of[name]

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
        texts = [text for fact in self.facts for text in _texts(fact)]
        told = " ".join(texts).lower() if self.pack.wide else own_names(texts)
        fresh = [
            frame
            for frame in self.pack.unknown["untold"]
            if not any(word in told for word in content(frame.format(n=""), self.pack))
        ]
        return {side: [f for f in fresh if held_out_name(f) == side] for side in (False, True)}

    def _swapped(self, rng: Random, held_out: bool) -> str:
        """A known question about another topic; or with its rarest word, a name if there is one,
        exchanged.
        """
        fact, names = rng.choice(self.words.asked), self._unknown[held_out]
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
        """Words of a sentence with one of them exchanged, or with another name in them of which the
        facts speak, but do not say that.
        """
        fact = rng.choice([fact for fact in self.facts if fact.kind == "sentence"])
        words = self.words.some_words(fact, rng)
        if other := self._about_another(words, rng):
            return self.words.in_words(other, rng, held_out)
        weights = [self._weight(word, 1) for word in words]
        words[rng.choices(range(len(words)), weights)[0]] = self._unknown[held_out].any(rng)
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
        if not asked or not about or asked & (about | told) or self.words.tells(asked | about):
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

    # ---- conversations ----

    def small_talk(self, rng: Random, held_out: bool = False) -> tuple[str, str]:
        """A greeting, a question about who it is, or the like; questions of training in frames."""
        intents = tuple(self.pack.smalltalk.values())
        intent = rng.choices(intents, [len(each["training"]) for each in intents])[0]
        text = one_of(intent["held_out" if held_out else "training"], rng)
        thing = self._unknown[held_out].thing(rng) if "{t}" in text else ""
        text = text.format(name=self.name, t=thing)
        if text.endswith(self.pack.mark) and not held_out and rng.random() < 0.35:
            words = split(text, self.pack)
            bare = clause(words, self.pack) if rng.random() < 0.5 else text.rstrip(MARKS)
            text = framed(bare, self.pack, rng)
        return hurried(text, self.pack, rng), intent["answer"].format(name=self.name)

    def conversations(self, seed: int, context: int) -> Iterator[Conversation]:
        """An endless stream, in which every fact of a kind comes up equally often."""
        rng, most = Random(f"own world {seed}"), MOST * context
        waiting: list[Fact] = []
        while True:
            count = next(i for i, share in enumerate(TURNS, 1) if rng.random() <= share)
            turns: list[Turn] = []
            while len(turns) < count and sum(len(q) + len(a) for q, a, _ in turns) < most:
                if not waiting:
                    waiting = [f for f in self.facts for _ in range(OFTEN.get(f.kind, 1))]
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
                return [(self.words.ask(fact, rng), self.words.answer(fact), fact)]
            if rng.random() < BY_ITSELF:
                return [(self.by_itself(fact, rng), fact.answer, fact)]
            return self.led_up_to(fact, rng)
        pair = self.unknown(rng) if luck < FACTS + UNKNOWN else self.small_talk(rng)
        return [(*pair, None)]

    def led_up_to(self, fact: Fact, rng: Random, held_out: bool = False) -> list[Turn]:
        """A fact after its own earlier turns, all of them asked in other words."""
        turns = [*fact.before, fact.question, fact.answer]
        asked = [self.words.rephrased(text, rng, held_out) for text in turns[::2]]
        return [(q, a, None) for q, a in zip(asked, turns[1::2], strict=True)]

    def by_itself(self, fact: Fact, rng: Random, held_out: bool = False) -> str:
        """A question that followed another, with what that was about for the word that stood for
        it, or beside it.
        """
        first, join = fact.before[0], self.pack.joiner.join
        about = [piece.text for piece in split(first, self.pack) if piece.kind == "content"]
        topic = self._topics.get(first)
        name = topic.name if topic and (rng.random() < 0.6 or not about) else join(about)
        question = fact.question.strip().rstrip(MARKS)
        text = self._pronoun.sub(lambda _: name, question, count=1)
        if text == question:
            text = join((name, question) if rng.random() < 0.6 else (question, name))
        return self.words.rephrased(text + self.pack.mark, rng, held_out, bare=False)

    @cached_property
    def _pronoun(self) -> re.Pattern[str]:
        words = sorted(self.pack.words.get("pronouns", ()), key=len, reverse=True)
        found = "|".join(words) or "(?!)"
        return re.compile(found if self.pack.wide else rf"\b(?:{found})\b")

    def follow_up(self, last: Fact, rng: Random) -> Turn:
        """The same attribute of another thing, or another attribute of the same."""
        others = [f for f in self.words.things[last.subject].values() if f is not last]
        same = [f for f in self._having[last.attribute] if f is not last]
        if others and (not same or rng.random() < 0.5):
            fact, key = rng.choice(others), "other"
        elif same:
            fact, key = rng.choice(same), "same"
        else:
            return (self.words.ask(last, rng), self.words.answer(last), last)
        frame = rng.choice(self.pack.things[key])
        text = frame.format(s=fact.subject, a=self.words.named(fact.attribute))
        return hurried(text[:1].upper() + text[1:], self.pack, rng), self.words.answer(fact), fact

    # ---- held out ----

    def held_out(self, seed: int, most: int = 200) -> list[Held]:
        """Questions in wordings, and about unknown names, that no training conversation has."""
        rng, found = Random(f"own world held out {seed}"), list[Held]()
        alone = [fact for fact in self.facts if not fact.before]
        chosen = rng.sample(alone, min(most, len(alone)))
        later: list[Held] = []
        for fact in chosen:
            question, answer = self.words.ask(fact, rng, True), self.words.answer(fact)
            key = fact.answer.rstrip(MARKS) or answer
            found.append(Held("rephrased", Conversation.of(question, answer), key))
            other = rng.choice(alone)
            first = (self.words.ask(other, rng), self.words.answer(other))
            later.append(Held("second turn", Conversation.of(*first, question, answer), key))
        found += reversed(later)  # the first ones of both are shown, and should differ
        for fact in [fact for fact in self.facts if fact.before][:most]:
            turns = self.led_up_to(fact, rng, True)
            talk = Conversation.of(*(text for q, a, _ in turns for text in (q, a)))
            found.append(Held("follow-up", talk, fact.answer))
        if self.pack.unknown:
            for _ in chosen:
                question, reply = self.unknown(rng, True)
                key = self.pack.unknown["key"]
                found.append(Held("unknown", Conversation.of(question, reply), key))
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
