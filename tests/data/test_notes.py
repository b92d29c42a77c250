"""Notes as facts: what the rules find, and that they add nothing."""

from inspect import cleandoc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.facts import Fact, thing
from chatling.data.note_sentences import Grammar
from chatling.data.notes import note_facts
from chatling.toy.packs import load_pack

ENGLISH = Grammar(("is", "are"), ("it", "they"))
NOTE = """# The rowing club

Founded in 1921 by six dockers. The boathouse is at Pier 4. It is open daily.

## Training
- Bring two towels
- Wear light shoes

## Contact
**Phone**: 555-1234
Mail: club@pier.org

| Boat | Seats |
|---|---|
| Swan | 4 |
| Heron | 8 |
"""


def test_headings_lists_tables_pairs_and_sentences() -> None:
    found = note_facts(NOTE, "about_us", ENGLISH)
    for fact in (
        Fact("", "The boathouse is at Pier 4.", subject="The boathouse", kind="about"),
        Fact("", "Bring two towels and Wear light shoes.", subject="Training", kind="list"),
        thing("Contact", "Phone", "555-1234"),
        thing("Contact", "Mail", "club@pier.org"),
        thing("Heron", "Seats", "8"),
    ):
        assert fact in found
    assert not any(fact.subject == "It" for fact in found)
    first = next(fact for fact in found if fact.subject == "The rowing club")
    assert first.answer.startswith("Founded in 1921")


def test_a_sentence_is_asked_for_with_what_it_is_about() -> None:
    """The heading where it stands nowhere else; before "it" the beginning of the sentence on which
    that leans, where this one speaks of something else than the heading.
    """
    note = """# Big extractor
    Tomas Wray looks after the big extractor. It is kept in the old dairy. The deposit is 15 pounds.

    # Smokers
    The copper smoker burns old sacking. It hangs behind the hut door.

    - blue one: pine cones, never paper
    - rope: 4 m
    """
    found = note_facts(cleandoc(note), "note", ENGLISH)
    asked = {f.answer: f.subject for f in found if f.kind == "sentence"}
    assert asked == {
        (looks := "Tomas Wray looks after the big extractor."): looks,
        "It is kept in the old dairy.": "Big extractor is kept in the old dairy.",
        (costs := "The deposit is 15 pounds."): f"Big extractor: {costs}",
        (burns := "The copper smoker burns old sacking."): f"Smokers: {burns}",
        (hangs := "It hangs behind the hut door."): f"Smokers: The copper smoker {hangs[3:]}",
        (cones := "blue one: pine cones, never paper"): f"Smokers: {cones}",
    }


def test_chinese_sentences_have_no_blanks() -> None:
    grammar = Grammar(("是",), ("她", "他"), True, "和")
    found = note_facts("奶奶是退休的老师。她是苏州人。", "家", grammar)
    assert Fact("", "奶奶是退休的老师。", subject="奶奶", kind="about") in found
    assert [f.subject for f in found if f.answer == "她是苏州人。"] == ["家: 奶奶是苏州人。"]


def test_what_comes_before_a_heading_is_of_the_file() -> None:
    assert (
        note_facts("Bring a towel and a friend.", "pool_rules", ENGLISH)[0].subject == "pool rules"
    )


@pytest.mark.parametrize(
    ("note", "headings"),
    [
        ("Carols at Fernlea\n\nWe sing.\n\nThey clap.", {"Carols at Fernlea"}),
        ("Fete - 22 June, on the lawn\n\nWe sing.", {"Fete"}),
        ("The fair is on Sunday.\n\nWe sing.", {"file"}),
        ("- tea\n\nWe sing.", {"file"}),
        ("Rules\n=====\nNo dogs here.\n\nCosts\n---\nTea is free.", {"Rules", "Costs"}),
        ("**Rules**\n\nNo dogs here.\n\n__Costs:__\nTea is free.", {"Rules", "Costs"}),
        ("Keys:\n\n- Ivo\n- Nell\n\nThe code is 4.", {"Keys", "file"}),
        ("Black folders with a dot:\n\n- alto: red\n- bass: blue", {"Black folders with a dot"}),
        ("Black folders, with a dot:\n\n- alto: red\n- bass: blue", {"file"}),
        ("# Choir\n\nNell leads us\n\nWe sing.", {"Choir"}),
        (
            "# Monday\n\nBring:\n\n- cake\n- tea\n\n# Tuesday\n\nBring:\n\n- soup\n- salt",
            {"Monday", "Tuesday"},
        ),
        ("https://choir.org\n\nWe sing.", {"file"}),
        ("Dear members,\n\nWe sing.", {"file"}),
        ("# Choir\n\n**Price: 12 euros**\n\n**Nell leads the choir.**\n\nWe sing.", {"Choir"}),
        ("# Choir\n\n**Nell**\n**Ivo**\n\nWe sing.", {"Choir"}),
        ("We meet on Monday.\n---\nNell leads.", {"file"}),
        ("- tea\n---\n- cake", set()),
        ("---\n\nWe sing.", {"file"}),
    ],
)
def test_lines_that_stand_alone_are_headings(note: str, headings: set[str]) -> None:
    """Underlined, bold, with a colon before a list, or the first one of a note without others."""
    facts = note_facts(note, "file", ENGLISH)
    assert {f.subject for f in facts if f.kind in ("about", "list", "thing")} - {
        "The fair", "The code", "Tea",
    } == headings  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ["Fete - 22 June, on the lawn", "Nell leads the choir", "Minutes, Nell was away",
     "On Mondays, Nell brings these for us:"],
)  # fmt: skip
def test_a_first_line_that_tells_something_is_a_fact_too(line: str) -> None:
    facts = note_facts(f"{line}\n\n- tea\n- cake", "file", ENGLISH)
    assert any(line in fact.answer for fact in facts)


def test_what_leans_names_nothing() -> None:
    note = (
        "# Choir\n\nWhen she is away, we rest. Once he was late. There are six. Will is new here."
    )
    found = {f.subject for f in note_facts(note, "x", load_pack("en").grammar) if f.kind == "about"}
    assert found == {"Choir", "Will"}


@given(st.text("ab. is-|:#\n*1?", max_size=120))
@settings(deadline=None)
def test_every_answer_stands_in_the_note(text: str) -> None:
    """Every word does, but for the mark-up, and for what joins the items of a list."""
    letters = "".join(filter(str.isalnum, text))
    for fact in note_facts(text, "note", ENGLISH):
        assert fact.answer.strip()
        for word in fact.answer.split():
            bare = "".join(filter(str.isalnum, word))
            assert bare in letters or (bare == "and" and fact.kind == "list")


def test_steps_that_are_sentences_stay_sentences() -> None:
    text = "# Opening\n\n1. Switch off the alarm.\n2. Turn on the heating\n"
    assert told(text, "list") == [("Opening", "Switch off the alarm. Turn on the heating.")]
    text = "# Opening\n\n- alarm\n- heating\n- tea\n"
    assert told(text, "list") == [("Opening", "alarm, heating and tea.")]


def test_a_place_is_no_subject() -> None:
    grammar = Grammar(("is",), places=("in",))
    facts = note_facts("In the hall is a piano. The piano is out of tune.", "hall", grammar)
    assert {fact.subject for fact in facts if fact.kind == "about"} == {"hall", "The piano"}


def told(text: str, kind: str) -> list[tuple[str, str]]:
    found = note_facts(text, "notes", ENGLISH)
    return [(fact.subject, fact.answer) for fact in found if fact.kind == kind]


def test_times_and_addresses_are_no_keys() -> None:
    note = "# Choir\n\n- rehearsal at 19:30 in the hall\n- see https://a.org/a\n- fee: 9 pounds\n"
    keys = [fact.attribute for fact in note_facts(note, "x", ENGLISH) if fact.kind == "thing"]
    assert keys == ["fee"]
