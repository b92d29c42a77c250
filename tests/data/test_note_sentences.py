"""What the sentences of notes are about."""

import pytest

from chatling.data.note_sentences import Grammar
from chatling.data.notes import note_facts

ENGLISH = Grammar(
    copulas=("is", "are", "was", "has been"),
    leaning=("it", "they", "he", "she", "there", "this", "that"),
    pronouns=("it", "them", "he", "she", "his", "there"),
    persons=("he", "she", "his"),
    pointing=("this", "that"),
    existing=("there",),
    places=("in",),
    small=("the", "our", "is", "of", "in", "we", "at", "by", "if", "a"),
    determiners=("a", "the", "our"),
)


@pytest.mark.parametrize(
    ("note", "asked"),
    [
        # the heading, for a word inside or in front
        ("# The fair\n\nNell leads it.", "Nell leads The fair."),
        ("# The fair\n\nNell drives all of us there.", "Nell drives all of us The fair."),
        ("# The fair\n\nBring a chair to sit on.", "The fair: Bring a chair to sit on."),
        ("# The fair\n\nNell says the fair is hers and it will do.", None),
        # no word that stands for anything
        ("# The fair\n\nThere is no paid staff.", "The fair: There is no paid staff."),
        ("# The fair\n\nThis year the rain won.", "The fair: This year the rain won."),
        ("# The fair\n\nThis is our finest hour.", "The fair is our finest hour."),
        # what a sentence before was about, and what that is
        ("# The upright\n\nThe piano is old. Nell tunes it.", "The upright: Nell tunes The piano."),
        ("# News\n\nThe Wag is our paper. Nell edits it.", "News: paper: Nell edits The Wag."),
        ("# Our CD\n\nWe made one CD. It was recorded in 2016.", "Our CD was recorded in 2016."),
        ("# Stools\n\nNell built them. They are kept in a shed.", "Stools are kept in a shed."),
        ("# Bus\n\nThe pump is old. This washing machine is new.",
         "Bus: This washing machine is new."),
        ("# Bus\n\nThe Green Hall is old. It has 80 seats.", "Bus: The Green Hall has 80 seats."),
        ("# Bus\n\nThe pump is (very) old. It drips a lot.", "Bus: The pump drips a lot."),
        # persons, in another sentence, another paragraph, the same sentence
        ("# Choir\n\nMara Lindt is new. She plays the tuba.", "Choir: Mara Lindt plays the tuba."),
        ("# Choir\n\nWe like Mara Lindt.\n\nBy day she repairs organs.",
         "Choir: By day Mara Lindt repairs organs."),
        ("# Choir\n\nMara Lindt sings. Nell says she is loud.", "Choir: Nell says she is loud."),
        ("# Choir\n\nAsk for Mara Lindt, she knows all.",
         "Choir: Ask for Mara Lindt, Mara Lindt knows all."),
        # what a sentence ends with, where it begins with "we" or names several
        ("# Ways\n\nMusic and stools go in Ivo's van. It is painted blue.",
         "Ways: Ivo's van is painted blue."),
        ("# Ways\n\nWe hire a minibus. It is painted.", "Ways: minibus is painted."),
        # in another clause, or for nothing
        ("# Ghent\n\nWe stay at the Zilverhof; it is by the canal.",
         "Ghent: We stay at the Zilverhof; it is by the canal."),
        ("# Rooms\n\nThe hall is big. In summer, it is closed.",
         "Rooms: In summer, The hall is closed."),
        ("# Rooms\n\nThe oven is new. If it smokes, call Ivo.",
         "Rooms: If The oven smokes, call Ivo."),
        ("# Practice\n\nWe rehearse every Tuesday. It costs five pounds.",
         "Practice costs five pounds."),
    ],
)  # fmt: skip
def test_a_sentence_is_asked_for_with_what_it_is_about(note: str, asked: str | None) -> None:
    facts = [fact for fact in note_facts(note, "x", ENGLISH) if fact.kind == "sentence"]
    last = facts[-1]
    assert last.subject == (asked or last.answer)
    assert last.answer in note
