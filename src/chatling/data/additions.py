"""Text that preferred answers have and the others do not, such as a polite beginning or end. Where
most pairs differ in that alone, any answer can be changed as they are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from chatling.data.preferences import Preference
from chatling.messages import Message, Part

MARKS = ".!?。！？"
COMMON = 0.8  # of the pairs add something that others add, too
SHOWN = 3  # pairs add the same


@dataclass(frozen=True)
class Addition:
    """Text in front of an answer, and behind it. An answer whose first word is one of `lower` then
    begins in lower case.
    """

    before: str = ""
    after: str = ""
    lower: frozenset[str] = frozenset()

    def __str__(self) -> str:
        places = [
            (self.before.strip(), "in front of an answer"),
            (self.after.strip(), "behind an answer"),
        ]
        return " and ".join(f"{text!r} {where}" for text, where in places if text)

    def to(self, answer: Message) -> Message:
        """The answer with the text; where it has it already, or no text at that end but a
        calculation, nothing is added.
        """
        texts = [part.text for part in answer.parts]
        if self.before and answer.parts[0].kind == "text":
            text = texts[0].lstrip()
            added = self.before + (_lowered(text) if _first(text) in self.lower else text)
            texts[0] = text if text.startswith(self.before.strip()) else added
        if self.after and answer.parts[-1].kind == "text":
            end = texts[-1].rstrip()
            ended = self.after[0] in f"{MARKS},，"  # another end of the same sentence
            added = (end.rstrip(MARKS) if ended else end) + self.after
            texts[-1] = end if end.endswith(self.after.strip()) else added
        parts = zip(answer.parts, texts, strict=True)
        return Message(answer.role, tuple(Part(part.kind, text) for part, text in parts))


def addition_of(pair: Preference) -> Addition | None:
    """What the better answer adds to the worse one, if that is all."""
    better, worse = pair.chosen.text.strip(), pair.rejected.text.strip()
    for whole in (worse, _lowered(worse)):
        for kept in (whole, whole.rstrip(MARKS)):
            if kept and kept in better:
                before, _, after = better.partition(kept)
                lower = frozenset({_first(worse)} if whole != worse else ())
                return Addition(before, after, lower) if before or after else None
    return None


def common_additions(pairs: Sequence[Preference]) -> list[tuple[str, Addition]]:
    """Of each pair that adds what others add, too, the worse answer and what is added; none where
    most pairs differ otherwise.
    """
    found = [
        (pair.rejected.text.strip(), added)
        for pair in pairs
        if (added := addition_of(pair)) is not None
    ]
    lower = frozenset(word for _, added in found for word in added.lower)
    same = [
        (worse, replace(added, lower=lower if added.before else frozenset()))
        for worse, added in found
    ]
    counts = Counter(added for _, added in same)
    common = [(worse, added) for worse, added in same if counts[added] >= SHOWN]
    return common if len(common) >= COMMON * len(pairs) else []


def likely_addition(shown: Sequence[tuple[str, Addition]], answer: str, rng: Random) -> Addition:
    """One of those to answers that begin most like this one: "I don't know" may have its own."""
    alike = [_alike(worse, answer) for worse, _ in shown]
    most = max(alike)
    return rng.choice([a for (_, a), n in zip(shown, alike, strict=True) if n == most])


def _alike(first: str, second: str) -> int:
    """Of their first two words, or signs where there are no blanks, how many are the same."""
    words = [text.split()[:2] if " " in text else text[:2] for text in (first, second)]
    return next(
        (i for i, (a, b) in enumerate(zip(*words, strict=False)) if a != b), min(map(len, words))
    )


def _first(text: str) -> str:
    return text.split(maxsplit=1)[0] if text.split() else ""


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
