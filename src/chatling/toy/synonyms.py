"""Words of one meaning: what a user's files say in one of them is asked in the others, too."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from random import Random

from chatling.toy.facts import capitalized


class Synonyms:
    """Groups of words of one meaning, for some texts. A word that the texts use is exchanged for
    those of its group that they do not use, unless they use two of a group, which then may mean
    different things to them.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[str]],
        texts: Iterable[str],
        names: Collection[str] = (),
        wide: bool = False,
    ):
        """`names` stay as they are, whole; `wide` is a language without blanks."""
        members = {word for group in groups for word in group}
        known = _either(members, wide)
        names = {name for name in names if known.search(name)}
        used = {
            m[0].lower() for text in texts for m in _either(members | names, wide).finditer(text)
        }
        fixed = {name.lower() for name in names}
        self._others: dict[str, list[str]] = defaultdict(list)
        for group in groups:
            here = [word.lower() for word in group if word.lower() in used]
            if len(here) == 1 and here[0] not in fixed:
                self._others[here[0]] += [w for w in group if w.lower() not in used | fixed]
        self._words = _either(used | fixed, wide)

    def other(self, text: str, rng: Random) -> str:
        """The text with one word exchanged, where one can be."""
        found = [m for m in self._words.finditer(text) if self._others.get(m[0].lower())]
        if not found:
            return text
        match = rng.choice(found)
        word = rng.choice(self._others[match[0].lower()])
        if match[0].isupper() and len(match[0]) > 1:
            word = word.upper()
        elif match.start() == 0:
            word = capitalized(word)
        return text[: match.start()] + word + text[match.end() :]


def _either(words: Collection[str], wide: bool) -> re.Pattern[str]:
    """Any of the words, the longest first."""
    found = "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"
    return re.compile(found if wide else rf"(?<!\w)(?:{found})(?!\w)", re.IGNORECASE)
