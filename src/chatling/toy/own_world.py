"""A user's own facts as conversations: each asked in many wordings, in one turn or several, among
greetings and questions that nothing of theirs answers.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from chatling.data.facts import Fact
from chatling.messages import Conversation
from chatling.toy.packs import Pack, own_names
from chatling.toy.rephrase import (
    MARKS,
    clause,
    framed,
    hurried,
    one_of,
    split,
)
from chatling.toy.topics import find_topics
from chatling.toy.unanswered import Unanswered, texts_of
from chatling.toy.wordings import Wordings

TURNS = (0.5, 0.8, 0.93, 1.0)  # of a conversation, added up
# of turns: about a fact, about something unknown; the rest is small talk
FACTS, UNKNOWN = 0.64, 0.24
OFTEN = {"sentence": 2}  # in so many more ways than others it may be asked for
BY_ITSELF = 0.4  # of questions that followed others, those that say themselves what they are about
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
        self.pack, self.name, self.facts = pack, name, tuple(facts)
        self._having: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            if fact.kind == "thing":
                self._having[fact.attribute].append(fact)
        alone = [fact.question for fact in facts if fact.question and not fact.before]
        self._topics = find_topics(alone, pack) if pack.unknown else {}
        subjects = [fact.subject for fact in facts if fact.kind == "thing"]
        subjects += [topic.name for topic in self._topics.values()]
        names = tuple(dict.fromkeys(subjects))
        self.words = Wordings(facts, pack, names)
        known = own_names([*(text for fact in facts for text in texts_of(fact)), *also, name])
        self.unanswered = (
            Unanswered(self.words, self._topics, names, known) if pack.unknown else None
        )

    # ---- conversations ----

    def small_talk(self, rng: Random, held_out: bool = False) -> tuple[str, str]:
        """A greeting, a question about who it is, or the like; questions of training in frames."""
        intents = tuple(self.pack.smalltalk.values())
        intent = rng.choices(intents, [len(each["training"]) for each in intents])[0]
        text = one_of(intent["held_out" if held_out else "training"], rng)
        asked = self.unanswered
        thing = asked.names[held_out].thing(rng) if asked and "{t}" in text else ""
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
        if luck < FACTS or not self.unanswered:
            fact = waiting.pop()
            if not fact.before:
                return [(self.words.ask(fact, rng), self.words.answer(fact), fact)]
            if len(fact.before) == 2 and rng.random() < BY_ITSELF:
                return [(self.by_itself(fact, rng), fact.answer, fact)]
            return self.led_up_to(fact, rng)
        pair = self.unanswered.one(rng) if luck < FACTS + UNKNOWN else self.small_talk(rng)
        return [(*pair, None)]

    def led_up_to(self, fact: Fact, rng: Random, held_out: bool = False) -> list[Turn]:
        """A fact after its own earlier turns, all of them asked in other words."""
        turns = [*fact.before, fact.question, fact.answer]
        asked = [self.words.rephrased(text, rng, held_out) for text in turns[::2]]
        return [(q, a, None) for q, a in zip(asked, turns[1::2], strict=True)]

    def by_itself(self, fact: Fact, rng: Random) -> str:
        """A second question, with what the first was about for the word that stood for it, or
        beside it; as it is where it names something else.
        """
        first, join = fact.before[0], self.pack.joiner.join
        about = [piece.text for piece in split(first, self.pack) if piece.kind == "content"]
        topic = self._topics.get(first)
        name = topic.name if topic and (rng.random() < 0.6 or not about) else join(about)
        question = fact.question.strip().rstrip(MARKS)
        grammar, low = self.pack.grammar, question.lower()
        others = {each.name.lower() for each in self._topics.values()} - {name.lower()}
        if any(other in low for other in others):
            text = question
        elif match := grammar.leaning_word(question, grammar.pronouns):
            text = question[: match.start()] + name + question[match.end() :]
        else:
            text = join((name, question) if rng.random() < 0.6 else (question, name))
        return self.words.rephrased(text + self.pack.mark, rng, bare=False)

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
        if self.unanswered:
            for _ in chosen:
                question, reply = self.unanswered.one(rng, True)
                key = self.pack.unknown["key"]
                found.append(Held("unknown", Conversation.of(question, reply), key))
        for intent in self.pack.smalltalk.values():
            key, answer = (intent[each].format(name=self.name) for each in ("key", "answer"))
            for text in intent["held_out"]:
                talk = Conversation.of(text.format(name=self.name), answer)
                found.append(Held("small talk", talk, key))
        return _different(found)


def plain(text: str) -> str:
    """Lower case, single blanks, no marks at the ends."""
    return " ".join(text.lower().split()).strip(MARKS)


def _different(found: Sequence[Held]) -> list[Held]:
    seen = {(each.skill, each.conversation.prompt): each for each in found}
    return list(seen.values())
