"""What the questions of a list are about: "Hobel" in "Was kostet Hobel?", where others have another
name in its place, and "Hobel" stands in other questions, too.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from chatling.toy.packs import Pack
from chatling.toy.rephrase import split

COMPARED = 3_000  # questions
FEWEST = 3  # different topics of a pattern
LONGEST = 4  # words of a topic, or of a language without blanks signs and two more


@dataclass(frozen=True)
class Topic:
    """What a question is about, and what stands around it."""

    name: str
    pattern: tuple[str, str]

    def other(self, name: str) -> str:
        """The question about something else."""
        return name.join(self.pattern)


def find_topics(questions: Sequence[str], pack: Pack) -> dict[str, Topic]:
    """The topic of each question that has one. Of all its parts it is the one that stands in most
    patterns; of several such the shortest whose pattern has as many topics as the others', about.
    A question with none, or one of its own, is about its words that stand in several questions; of
    a language without blanks else about what it begins with, until a word of doing.
    """
    different = islice(dict.fromkeys(questions), COMPARED)
    parts = {question: list(_parts(question, pack)) for question in different}
    topics = defaultdict[tuple[str, str], set[str]](set)
    for each in parts.values():
        for part in each:
            topics[part.pattern].add(part.name.lower())
    places = defaultdict[str, int](int)
    for names in topics.values():
        if len(names) >= FEWEST:
            for name in names:
                places[name] += 1
    found: dict[str, Topic] = {}
    for question, each in parts.items():
        fitting = [part for part in each if len(topics[part.pattern]) >= FEWEST]
        most = max((places[part.name.lower()] for part in fitting), default=0)
        fitting = [part for part in fitting if places[part.name.lower()] == most]
        many = max((len(topics[part.pattern]) for part in fitting), default=0)
        enough = many if pack.wide else many / 2  # signs of a name may be a name, words hardly are
        fitting = [part for part in fitting if len(topics[part.pattern]) >= enough]
        if fitting:
            found[question] = min(fitting, key=lambda part: len(part.name))
    found |= dict(_recurring(found, list(parts), pack))
    if pack.wide:
        found |= dict(_leading(found, list(parts), pack))
    return found


def _recurring(
    found: Mapping[str, Topic], questions: Sequence[str], pack: Pack
) -> Iterator[tuple[str, Topic]]:
    """Of the questions that have no topic, or one that no other has, those with words that stand in
    several: the rarest of these, with those beside it that are as frequent.
    """
    uses = Counter(topic.name for topic in found.values())
    spans = {question: list(_spans(question, pack)) for question in questions}
    counts = Counter(
        part
        for question, each in spans.items()
        for part in {question[a:b].lower() for a, b in each}
    )
    for question in questions:
        own = found.get(question)
        if own is not None and uses[own.name] > 1:
            continue
        first, last = 0, len(question)
        if own is not None:
            first = len(own.pattern[0])
            last = first + len(own.name)
        often = [
            (counts[question[a:b].lower()], a, b)
            for a, b in spans[question]
            if first <= a and b <= last and counts[question[a:b].lower()] >= FEWEST
        ]
        if not often:
            continue
        fewest = min(count for count, _, _ in often)
        rarest = [(a, b) for count, a, b in often if count == fewest]
        start, end = max(rarest, key=lambda span: span[1] - span[0])
        while more := [(a, b) for a, b in rarest if 0 <= a - end <= 1 or 0 <= start - b <= 1]:
            start, end = min(start, *(a for a, _ in more)), max(end, *(b for _, b in more))
        around = question[:start], question[end:]
        if any(piece.kind != "function" for side in around for piece in split(side, pack)):
            yield question, Topic(question[start:end], around)


def _leading(
    found: Mapping[str, Topic], questions: Sequence[str], pack: Pack
) -> Iterator[tuple[str, Topic]]:
    uses = Counter(topic.name for topic in found.values())
    doing = tuple(pack.words.get("doing", ()))
    for question in questions:
        own = found.get(question)
        words = split(question, pack)
        if (own is not None and uses[own.name] > 1) or not words or words[0].kind != "content":
            continue
        name = words[0].text
        at = next((i for i in range(2, len(name)) if name.startswith(doing, i)), len(name))
        name = name[:at]
        around = question[: (start := question.index(name))], question[start + at :]
        if 1 < at <= LONGEST + 2 and split(around[1], pack):
            yield question, Topic(name, around)


def _spans(question: str, pack: Pack) -> Iterator[tuple[int, int]]:
    """Beginning and end of each content word; of a language without blanks of all two to four
    signs of content in a row.
    """
    units = list(_units(question, pack))
    if not pack.wide:
        yield from ((start, end) for start, end, kind in units if kind == "content")
        return
    for i, (start, _, _) in enumerate(units):
        for j in range(i + 2, min(i + LONGEST, len(units)) + 1):
            if all(kind == "content" for _, _, kind in units[i:j]):
                yield start, units[j - 1][1]


def _parts(question: str, pack: Pack) -> Iterator[Topic]:
    """Every part that may be a topic: some content, and something that asks beside it."""
    units = list(_units(question, pack))
    for i, (start, _, _) in enumerate(units):
        for j in range(i + 1, min(i + LONGEST + 2 * pack.wide, len(units)) + 1):
            kinds = {kind for _, _, kind in units[i:j]}
            around = {kind for _, _, kind in units[:i] + units[j:]}
            if "content" in kinds and "question" not in kinds and around - {"function"}:
                end = units[j - 1][1]
                yield Topic(question[start:end], (question[:start], question[end:]))


def _units(question: str, pack: Pack) -> Iterator[tuple[int, int, str]]:
    """Start, end and kind of each word; of a language without blanks, each sign of content."""
    at = 0
    for word in split(question, pack):
        whole = word.kind != "content" or not pack.wide
        for piece in (word.text,) if whole else word.text:
            at = question.index(piece, at)
            yield at, at + len(piece), word.kind
            at += len(piece)
