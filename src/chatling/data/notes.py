"""Notes as facts, by rules that cannot invent: every answer stands in the notes word for word.

Headings, lists, tables, "key: value" lines and sentences of the form "X is Y".
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from chatling.data.facts import Fact, subject_column, thing
from chatling.data.note_sentences import Grammar, Said

HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*$")
BOLD = re.compile(r"(?:\*\*|__)([^*_]+?):?(?:\*\*|__):?\s*$")
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
SHORTEST_TELLING = 3  # words of a value or a title, by which it may be asked for
ITEMS = range(2, 13)  # of a list that is told as a whole
LONGEST_TITLE = 10  # words, or of Chinese twice as many signs
TITLE = re.compile(r"[^,;:(–—，；：（]*?(?= [-–—] |[,;:(–—，；：（]|$)")


def note_facts(text: str, title: str, grammar: Grammar) -> list[Fact]:
    """The facts of a note. What stands before its first heading belongs to its title, which is the
    name of its file; in a note without headings short lines may be some.
    """
    found: list[Fact] = []
    named = " ".join(title.replace("_", " ").replace("-", " ").split())
    said = Said(named, grammar)
    blocks = list(_blocks(text, grammar))
    if not any(heading for heading, _ in blocks):
        blocks = list(_under_short_lines([block for _, block in blocks], grammar))
    for heading, block in blocks:
        if (heading or named) != said.heading:
            said = Said(heading or named, grammar)
        found += _block_facts(block, said)
    return _joined(found)


def _blocks(text: str, grammar: Grammar) -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) of everything between blank lines and rules."""
    heading, block = "", list[str]()
    lines = [*text.splitlines(), ""]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        rule = UNDERLINE.match(line) is not None
        if rule and len(block) == 1 and _is_title(block[0], grammar):
            heading, block = _plain(block[0]), []
            continue
        title = _heading(line, after, grammar) if not block or HEADING.match(line) else ""
        if block and (title or rule or not line.strip()):
            yield heading, block
            block = []
        if title:
            heading = title
        elif line.strip() and not rule:
            block.append(line)


def _heading(line: str, after: str, grammar: Grammar) -> str:
    """The text of a line with `#`, or of a short one in bold that is not above another."""
    if match := HEADING.match(line):
        return _plain(match[1])
    bold = BOLD.match(line) if not BOLD.match(after) else None
    return _plain(bold[1]) if bold and _is_title(bold[1], grammar) else ""


def _is_title(line: str, grammar: Grammar) -> bool:
    """Whether a line is short and neither an item, a pair nor a sentence."""
    text = _plain(line)
    odd = re.search(r"://|!\[|<|\||[.!,:。！，：]$", text) or not re.search(r"\w", text)
    item = ITEM.match(line) or PAIR.fullmatch(text)
    return not odd and not item and _size(text, grammar) <= LONGEST_TITLE


def _under_short_lines(
    blocks: Sequence[list[str]], grammar: Grammar
) -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) of a note without headings: its first line is one where it stands alone and
    is a title, and so is a line with a colon for the list after it.
    """
    title, intro = _first_line(blocks, grammar), ""
    for i, (block, after) in enumerate(zip(blocks, [*blocks[1:], []], strict=False)):
        if i == 0 and title == _plain(block[0]) and _size(title, grammar) <= SHORTEST_TELLING:
            continue
        if intro:
            yield intro, block
            intro = ""
        elif not (intro := _introduced(block, after, grammar)):
            yield title, block


def _first_line(blocks: Sequence[list[str]], grammar: Grammar) -> str:
    """The title that the first of several blocks is, up to a mark; or nothing."""
    if len(blocks) < 2 or len(blocks[0]) > 1 or not _is_title(blocks[0][0], grammar):
        return ""
    line = _plain(blocks[0][0])
    found = TITLE.match(line) if not grammar.subject(line) else None
    return found[0].strip() if found else ""


def _introduced(block: Sequence[str], after: Sequence[str], grammar: Grammar) -> str:
    """The title that is one line with a colon in front of a list; or nothing."""
    line = _plain(block[0])
    title = line.rstrip(":： ")
    whole = TITLE.fullmatch(title) and _is_title(title, grammar)
    alone = len(block) == 1 and title != line and whole
    listed = bool(after) and all(ITEM.match(each) for each in after)
    return title if alone and listed else ""


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
