"""Text that preferred answers have and the others do not, such as a polite beginning or end. Where
most pairs differ in that alone, other answers can be changed as they are.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from chatling.data.columns import WIDE
from chatling.data.preferences import Preference
from chatling.messages import Message, Part

MARKS = ".!?。！？"
COMMON = 0.8  # of the pairs add something that others add, too
SHOWN = 3  # pairs add the same
BEGINNINGS = 4  # different ones have the answers to which what is added belongs to any answer


@dataclass(frozen=True)
class Addition:
    """Text in front of an answer, and behind it, there in place of the mark `cut`. An answer whose
    first word is one of `lower` then begins in lower case.
    """

    before: str = ""
    after: str = ""
    cut: str = ""
    lower: frozenset[str] = frozenset()

    def __str__(self) -> str:
        places = [
            (self.before.strip(), "in front of an answer"),
            (self.after.strip(), "behind an answer"),
        ]
        return " and ".join(f"{text!r} {where}" for text, where in places if text)

    def to(self, answer: Message) -> Message:
        """The answer with the text; nothing is added at an end that is a calculation, or where the
        answer ends on another mark.
        """
        texts = [part.text for part in answer.parts]
        if self.before and answer.parts[0].kind == "text":
            text = texts[0].lstrip()
            texts[0] = self.before + (_lowered(text) if _words(text, 1) in self.lower else text)
        end = texts[-1].rstrip()
        fits = not self.cut or end[len(end.rstrip(MARKS)) :] in (self.cut, "")
        if self.after and fits and answer.parts[-1].kind == "text":
            texts[-1] = end.removesuffix(self.cut) + self.after
        parts = zip(answer.parts, texts, strict=True)
        return Message(answer.role, tuple(Part(part.kind, text) for part, text in parts))


class CommonAdditions:
    """What most of some pairs add, or nothing."""

    def __init__(self, pairs: Sequence[Preference]):
        found = [
            (pair.rejected.text.strip(), added)
            for pair in pairs
            if (added := addition_of(pair)) is not None
        ]
        lower = defaultdict[str, set[str]](set)
        for _, added in found:
            lower[added.before] |= added.lower
        same = [(text, replace(a, lower=frozenset(lower[a.before]))) for text, a in found]
        counts = Counter(added for _, added in same)
        common = [(text, added) for text, added in same if counts[added] >= SHOWN]
        self._shown = common if len(common) >= COMMON * len(pairs) else []
        beginnings = {
            added: {_words(text, 1) for text, a in common if a == added} for added in counts
        }
        self._any = [a for _, a in self._shown if len(beginnings[a]) >= BEGINNINGS]
        self._alike = defaultdict[str, list[Addition]](list)
        for text, added in self._shown:
            for count in (1, 2) if added in self._any else (2,):  # "I am" is not like "I don't"
                self._alike[_words(text, count)].append(added)

    def __bool__(self) -> bool:
        return bool(self._shown)

    def __str__(self) -> str:
        return " or ".join(dict.fromkeys(str(added) for _, added in self._shown))

    def to(self, answer: Message, rng: Random) -> Message:
        """The answer with what answers that begin like it got ("I don't know" may have its own);
        else with what belongs to any answer, if something does.
        """
        text = answer.text.strip()
        likely = self._alike.get(_words(text, 2)) or self._alike.get(_words(text, 1)) or self._any
        if not likely:
            return answer
        added = rng.choice(likely)
        if any(a.before and text.startswith(a.before.strip()) for _, a in self._shown):
            added = replace(added, before="")  # it has one
        if any(a.after and text.endswith(a.after.strip()) for _, a in self._shown):
            added = replace(added, after="")
        return added.to(answer)


def addition_of(pair: Preference) -> Addition | None:
    """What the better answer adds to the worse one, if that is all."""
    better, worse = pair.chosen.text.strip(), pair.rejected.text.strip()
    for whole in dict.fromkeys((worse, _lowered(worse))):
        for kept in dict.fromkeys((whole, whole.rstrip(MARKS))):
            if not kept or kept not in better:
                continue
            at = better.find(kept)
            if better.endswith(kept):
                at = len(better) - len(kept)
            elif better.startswith(kept):
                at = 0
            lower = frozenset({_words(worse, 1)} if whole != worse else ())
            before, after = better[:at], better[at + len(kept) :]
            cut = whole[len(kept) :] if after else ""
            return Addition(before, after, cut, lower) if before or after else None
    return None


def _words(text: str, count: int) -> str:
    """The first words, of a language without blanks so many signs."""
    return text[:count] if WIDE.match(text) else " ".join(text.split(maxsplit=count)[:count])


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
