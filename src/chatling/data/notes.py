"""Notes as facts, by rules that cannot invent: every answer stands in the notes word for word.

Headings, lists, tables, "key: value" lines and sentences of the form "X is Y".
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from chatling.data.facts import Fact, subject_column, thing
from chatling.data.note_sentences import Grammar, Said

HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*$|(?:\*\*|__)([^*_]+?):?(?:\*\*|__):?\s*$")
UNDERLINE = re.compile(r"=+\s*$|-{3,}\s*$")  # of the line before, which is a heading then
ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+(?:\[.\]\s+)?(.+)")
PAIR = re.compile(
    r"(?:\*\*|__)?([^\s:：|*_][^:：|*_]{0,38}?)(?:\*\*|__)?\s*(?:(?<!\d)[:：]|[:：](?!\d))(?!//)\s*(?:\*\*|__)?\s*(\S.*)"
)
RULE = re.compile(r"[\s|:+-]*-[\s|:+-]*")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^\W_a-z])|(?<=[。！？])")
MARKS = (".", "!", "?", "。", "！", "？")
MARKUP = re.compile(r"\*\*|__|`|(?<!!)\[([^\]]+)\]\([^)]*\)")
LONGEST_ANSWER = 400  # characters
SHORTEST_SENTENCE = 12
SHORTEST_TELLING = 3  # words of a value, by which it may be asked for
ITEMS = range(2, 13)  # of a list that is told as a whole
LONGEST_TITLE = 10  # words of a first line without a mark, or of Chinese twice as many signs
TITLE = re.compile(r"[^,;:(–—，；：（]*?(?= [-–—] |[,;:(–—，；：（]|$)")


def note_facts(text: str, title: str, grammar: Grammar) -> list[Fact]:
    """The facts of a note. What stands before its first heading belongs to its title, which is the
    name of its file.
    """
    found: list[Fact] = []
    named = " ".join(title.replace("_", " ").replace("-", " ").split())
    said, blocks = Said(named, grammar), list(_blocks(text, named))
    title = _title(blocks, grammar)
    for i, (heading, block) in enumerate(blocks):
        if title and heading == named:
            heading = title
        if heading != said.heading:
            said = Said(heading, grammar)
        if i == 0 and title and not any(map(str.isdigit, block[0])):
            continue  # it says no more
        if i + 1 < len(blocks) and _introduces(block, blocks[i + 1]):
            continue
        if i and _introduces(blocks[i - 1][1], blocks[i]):
            found += _block_facts(block, Said(_up_to_a_mark(blocks[i - 1][1][0]), grammar))
        else:
            found += _block_facts(block, said)
    return _joined(found)


def _blocks(text: str, heading: str) -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) of everything between blank lines."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        title = HEADING.match(line)
        if UNDERLINE.match(line) and len(block) == 1 and "|" not in block[0]:
            heading, block = _plain(block[0]), []
            continue
        if block and (title or not line.strip()):
            yield heading, block
            block = []
        if title:
            heading = _plain(title[1] or title[2])
        elif line.strip():
            block.append(line)


def _title(blocks: Sequence[tuple[str, list[str]]], grammar: Grammar) -> str:
    """The first line of a note without headings, where it stands alone, is short and no sentence:
    up to a mark.
    """
    if len(blocks) < 2 or len(blocks[0][1]) > 1 or blocks[0][0] != blocks[-1][0]:
        return ""
    line = _plain(blocks[0][1][0])
    if line.endswith((*MARKS, ":", "：")) or ITEM.match(line) or "|" in line:
        return ""
    fits = _size(line, grammar) <= LONGEST_TITLE and not grammar.subject(line)
    return _up_to_a_mark(line) if fits and not PAIR.fullmatch(line) else ""


def _up_to_a_mark(line: str) -> str:
    found = TITLE.match(_plain(line))
    return found[0].strip() if found else ""


def _introduces(block: Sequence[str], after: tuple[str, list[str]]) -> bool:
    """Whether a block is one line with a colon in front of a list."""
    alone = len(block) == 1 and block[0].rstrip().endswith((":", "：")) and not ITEM.match(block[0])
    return alone and all(ITEM.match(line) for line in after[1])


def _plain(text: str) -> str:
    return " ".join(MARKUP.sub(lambda match: match[1] or "", text).split())


def _block_facts(block: list[str], said: Said) -> Iterator[Fact]:
    heading = said.heading
    if all("|" in line for line in block) and len(block) > 2 and RULE.fullmatch(block[1]):
        yield from _table(block, heading)
        return
    items = [match for line in block if (match := ITEM.match(line))]
    if len(items) == len(block):
        yield from _list([_plain(match[1]) for match in items], said)
        return
    pairs = [match for line in block if (match := PAIR.fullmatch(_plain(line)))]
    if len(pairs) == len(block) > 1:
        yield from (thing(heading, pair[1], pair[2]) for pair in pairs)
        return
    prose = _plain(" ".join(line for line in block if not ITEM.match(line)))
    if prose and len(prose) <= LONGEST_ANSWER:
        yield Fact("", prose, subject=heading, kind="about")
    yield from _sentences(map(str.strip, SENTENCE.split(prose)), said)
    if items:
        yield from _list([_plain(match[1]) for match in items], said)


def _table(block: list[str], heading: str) -> Iterator[Fact]:
    cells = [[_plain(cell) for cell in line.strip().strip("|").split("|")] for line in block]
    head, rows = cells[0], [dict(zip(cells[0], row, strict=False)) for row in cells[2:]]
    subject = subject_column(rows)
    if subject is not None:
        for row in rows:
            for name in head:
                if name != subject and row.get(name):
                    yield thing(row[subject], name, row[name], subject, heading)


def _list(items: list[str], said: Said) -> Iterator[Fact]:
    """Items with a colon are facts of their own; short ones are told together."""
    heading, grammar = said.heading, said.grammar
    pairs = [pair for item in items if (pair := PAIR.fullmatch(item))]
    yield from (thing(heading, pair[1], pair[2]) for pair in pairs)
    short = {pair[0] for pair in pairs if _size(pair[2], grammar) < SHORTEST_TELLING}
    yield from _sentences((item for item in items if item not in short), said)
    if len(pairs) == len(items):
        return
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


def _sentences(sentences: Iterable[str], said: Said) -> Iterator[Fact]:
    """Each sentence by itself, and as what it says about its subject, where it tells that."""
    grammar = said.grammar
    for sentence in sentences:
        asked, leans = said.asked(sentence), said.leans(sentence)
        said.hear(sentence)
        if not SHORTEST_SENTENCE <= len(sentence) * (3 if grammar.wide else 1) <= LONGEST_ANSWER:
            continue
        yield Fact("", sentence, subject=asked, kind="sentence")
        if not leans and (subject := grammar.subject(sentence)) and subject != said.heading:
            yield Fact("", sentence, subject=subject, kind="about")


def _size(text: str, grammar: Grammar) -> int:
    """Words, or of Chinese half the signs."""
    return len(text) // 2 if grammar.wide else len(text.split())


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
