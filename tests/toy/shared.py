"""What the tests of the worlds of both languages check alike."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from chatling.messages import Conversation
from chatling.tools.calculator import calculate
from chatling.toy.relations import Relation
from chatling.toy.templates import fill


def calculator_calls(conversations: Iterable[Conversation]) -> int:
    """How many there are; the output that follows each is the calculator's."""
    calls = 0
    for conversation in conversations:
        for message in conversation.messages:
            for part, after in zip(message.parts, message.parts[1:], strict=False):
                if part.kind == "python":
                    calls += 1
                    assert after.kind == "output"
                    assert calculate(part.text) == after.text
    return calls


def open_questions(
    relation: Relation,
    wrappers: Mapping[str, Sequence[str]],
    normal: Callable[[str], str],
    also: Mapping[str, str],
) -> set[str]:
    """Every training question of a relation with its slots, and those of `also`, left open."""
    marks = {key: f"slot{key}" for key in relation.facts[0].slots} | also
    return {
        normal(fill(wrapper, phrase.format(**marks), topic))
        for way in wrappers
        for wrapper in wrappers[way]
        for phrase in relation.phrasings.get(way, ())
        for topic in (marks.values() if way == "pronoun" else ("",))
    }
