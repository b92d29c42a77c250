"""Notes as facts, by rules that cannot invent: every answer stands in the notes word for word.

Headings, lists, tables, "key: value" lines and sentences of the form "X is Y".
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from chatling.data.facts import Fact, subject_column, thing

HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*$")
ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+(?:\[.\]\s+)?(.+)")
PAIR = re.compile(
    r"(?:\*\*|__)?([^\s:：|*_][^:：|*_]{0,38}?)(?:\*\*|__)?\s*[:：]\s*(?:\*\*|__)?\s*(\S.*)"
)
RULE = re.compile(r"[\s|:+-]*-[\s|:+-]*")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^\W_a-z])|(?<=[。！？])")
MARKS = (".", "!", "?", "。", "！", "？")
MARKUP = re.compile(r"\*\*|__|`|(?<!!)\[([^\]]+)\]\([^)]*\)")
LONGEST_ANSWER = 400  # characters
SHORTEST_SENTENCE = 16
LONGEST_SUBJECT = 5  # words, or of Chinese four times as many signs
OPENING = 3  # words of a sentence on which the next one leans; of Chinese a sign more
SHORTEST_TELLING = 3  # words of a value, by which it may be asked for
ITEMS = range(2, 13)  # of a list that is told as a whole


@dataclass(frozen=True)
class Grammar:
    """The little words by which sentences are read: those of "X is Y", and those that lean on what
    was said before.
    """

    copulas: Sequence[str] = ()
    leaning: Sequence[str] = ()
    wide: bool = False  # without blanks between words
    joined: str = "and"
    pronouns: Sequence[str] = ()  # stand for what the heading names
    places: Sequence[str] = ()  # begin what is no subject: "in" of "In the hall is …"


def note_facts(text: str, title: str, grammar: Grammar) -> list[Fact]:
    """The facts of a note. What stands before its first heading belongs to its title, which is the
    name of its file.
    """
    found: list[Fact] = []
    named = " ".join(title.replace("_", " ").replace("-", " ").split())
    for heading, block in _blocks(text, named):
        found += _block_facts(heading, block, grammar)
    return _joined(found)


def _blocks(text: str, heading: str) -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) of everything between blank lines."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        title = HEADING.match(line)
        if block and (title or not line.strip()):
            yield heading, block
            block = []
        if title:
            heading = _plain(title[1])
        elif line.strip():
            block.append(line)


def _plain(text: str) -> str:
    return " ".join(MARKUP.sub(lambda match: match[1] or "", text).split())


def _block_facts(heading: str, block: list[str], grammar: Grammar) -> Iterator[Fact]:
    if all("|" in line for line in block) and len(block) > 2 and RULE.fullmatch(block[1]):
        yield from _table(block)
        return
    items = [match for line in block if (match := ITEM.match(line))]
    if len(items) == len(block):
        yield from _list(heading, [_plain(match[1]) for match in items], grammar)
        return
    pairs = [match for line in block if (match := PAIR.fullmatch(_plain(line)))]
    if len(pairs) == len(block) > 1:
        yield from (thing(heading, pair[1], pair[2]) for pair in pairs)
        return
    prose = _plain(" ".join(line for line in block if not ITEM.match(line)))
    if prose and len(prose) <= LONGEST_ANSWER:
        yield Fact("", prose, subject=heading, kind="about")
    yield from _sentences(map(str.strip, SENTENCE.split(prose)), heading, grammar)
    if items:
        yield from _list(heading, [_plain(match[1]) for match in items], grammar)


def _table(block: list[str]) -> Iterator[Fact]:
    cells = [[_plain(cell) for cell in line.strip().strip("|").split("|")] for line in block]
    head, rows = cells[0], [dict(zip(cells[0], row, strict=False)) for row in cells[2:]]
    subject = subject_column(rows)
    if subject is not None:
        for row in rows:
            for name in head:
                if name != subject and row.get(name):
                    yield thing(row[subject], name, row[name], subject)


def _list(heading: str, items: list[str], grammar: Grammar) -> Iterator[Fact]:
    """Items with a colon are facts of their own; short ones are told together."""
    pairs = [PAIR.fullmatch(item) for item in items]
    if all(pairs):
        yield from (thing(heading, pair[1], pair[2]) for pair in pairs if pair)
        telling = [
            pair[0] for pair in pairs if pair and _size(pair[2], grammar) >= SHORTEST_TELLING
        ]
        yield from _sentences(telling, heading, grammar)
        return
    yield from _sentences(items, heading, grammar)
    told = _enumerated(items, grammar)
    if len(items) in ITEMS and len(told) <= LONGEST_ANSWER:
        yield Fact("", told, subject=heading, kind="list")


def _enumerated(items: Sequence[str], grammar: Grammar) -> str:
    """Items as one text: sentences one after the other, else with commas between them."""
    end = "。" if grammar.wide else "."
    if any(item.endswith(MARKS) for item in items):
        gap = "" if grammar.wide else " "
        return gap.join(item if item.endswith(MARKS) else item + end for item in items)
    comma, last = ("、", grammar.joined) if grammar.wide else (", ", f" {grammar.joined} ")
    return comma.join(items[:-1]) + last + items[-1] + end


def _sentences(sentences: Iterable[str], heading: str, grammar: Grammar) -> Iterator[Fact]:
    """Each sentence by itself, with what it is about beside it where it does not say so; and as
    what it says about its subject, where it tells that.
    """
    before = ""
    for sentence in sentences:
        leans = _begins(sentence, grammar.leaning, grammar.wide)
        topic = _topic(before, heading, grammar) if leans else heading
        before = before if leans else sentence
        if not SHORTEST_SENTENCE <= len(sentence) * (3 if grammar.wide else 1) <= LONGEST_ANSWER:
            continue
        asked = sentence
        if leans:
            asked = _in_place_of_the_first(topic, sentence, grammar)
        elif topic.lower() not in sentence.lower():
            asked = _named(topic, sentence, grammar)
        yield Fact("", sentence, subject=asked, kind="sentence")
        if leans:
            continue
        if (subject := _subject(sentence, grammar)) and subject != heading:
            yield Fact("", sentence, subject=subject, kind="about")


def _named(topic: str, sentence: str, grammar: Grammar) -> str:
    """The sentence with its topic for the first word that stands for it, or in front."""
    words = "|".join(sorted(grammar.pronouns, key=len, reverse=True)) or "(?!)"
    found = re.search(words if grammar.wide else rf"(?<=\s)(?:{words})\b", sentence)
    if found is None:
        return f"{topic}: {sentence}"
    return sentence[: found.start()] + topic + sentence[found.end() :]


def _topic(before: str, heading: str, grammar: Grammar) -> str:
    """What a sentence that leans on the one before is about: the heading, but where that sentence
    does not speak of it, what that begins with.
    """
    words = [heading] if grammar.wide else heading.lower().split()
    said = before.lower()
    named = any(word in said for word in words if len(word) > 3 or grammar.wide)
    if not said or named or heading.lower() in said:
        return heading
    return before[: OPENING + 1] if grammar.wide else " ".join(before.split()[:OPENING])


def _in_place_of_the_first(topic: str, sentence: str, grammar: Grammar) -> str:
    """The sentence with its topic for the word that leans."""
    if not grammar.wide:
        return f"{topic} {sentence.partition(' ')[2]}"
    longest = max((word for word in grammar.leaning if sentence.startswith(word)), key=len)
    return topic + sentence.removeprefix(longest)


def _size(text: str, grammar: Grammar) -> int:
    """Words, or of Chinese half the signs."""
    return len(text) // 2 if grammar.wide else len(text.split())


def _subject(sentence: str, grammar: Grammar) -> str | None:
    """X of "X is Y", where X is short and leans on nothing before."""
    if not grammar.copulas:
        return None
    gap = "" if grammar.wide else r"\s+"
    words = "|".join(map(re.escape, grammar.copulas))
    match = re.match(rf"([^,;:()，；：、?？]+?){gap}(?:{words}){gap}\S", sentence)
    if match is None:
        return None
    subject = match[1].strip()
    size = len(subject) / 4 if grammar.wide else len(subject.split())
    return (
        subject
        if 0 < size <= LONGEST_SUBJECT and not _begins(subject, grammar.places, grammar.wide)
        else None
    )


def _begins(text: str, words: Sequence[str], wide: bool) -> bool:
    if wide:
        return text.startswith(tuple(words))
    return any(word.lower().strip(",") in words for word in text.split(maxsplit=1)[:1])


def _joined(facts: list[Fact]) -> list[Fact]:
    """What is said of one subject in several places, one after the other."""
    said: dict[tuple[str, str, str], list[Fact]] = {}
    for fact in facts:
        found = said.setdefault((fact.kind, fact.subject.lower(), fact.attribute), [])
        if fact.answer not in (other.answer for other in found):
            found.append(fact)
    return [
        replace(found[0], answer=answer)
        for found in said.values()
        if len(answer := " ".join(fact.answer for fact in found)) <= LONGEST_ANSWER
    ]
