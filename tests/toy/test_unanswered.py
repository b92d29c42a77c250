"""What nobody told: of names that no file has, and of known names what is not said of them."""

from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.facts import Fact, thing
from chatling.data.notes import note_facts
from chatling.toy.own_world import OwnWorld
from chatling.toy.packs import LANGUAGES, UnknownNames, load_pack, own_names
from chatling.toy.rephrase import asking, content
from chatling.toy.unanswered import Unanswered


def unanswered(made: OwnWorld) -> Unanswered:
    assert made.unanswered is not None
    return made.unanswered


def test_what_nobody_said_of_a_known_name_is_unknown() -> None:
    """Asked of another name in words that nothing said of this one has; not where it may be told
    in other words: with a question word that asks for one thing, or a word of the same meaning.
    """
    told = {
        "What does the {} cost?": ("saw", "lathe", "kiln", "drill"),
        "What does the {} weigh?": ("saw", "lathe", "kiln", "drill", "plane"),
        "Which shelf has the {}?": ("saw", "lathe", "kiln", "drill", "plane"),
        "Who oils the {}?": ("lathe",),
        "What is the price of the {} blade?": ("plane",),
        "What holds the {} down?": ("plane",),
        "Where is the {}?": ("saw",),
    }
    facts = [Fact(q.format(name), "Yes.") for q, names in told.items() for name in names]
    made = OwnWorld(facts, load_pack("en"), "Ada")
    untold = {
        name: {name.join(pattern) for pattern in unanswered(made)._not_told(name)}
        for name in ("plane", "saw")
    }
    assert "Who oils the plane?" in untold["plane"]
    assert "Where is the plane?" in untold["plane"]
    assert "What does the plane cost?" not in untold["plane"]  # its price is told
    assert "What holds the saw down?" in untold["saw"]
    assert "What does the saw cost?" not in untold["saw"]


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_another_name_is_asked_about_in_words_that_nothing_says_of_it(seed: int) -> None:
    told = {
        "The big kiln": "The big kiln is fired on Mondays.",
        "The lathe": "The lathe stands behind the green door.",
        "The loom": "The loom stands under the stairs.",
    }
    facts = [Fact("", text, subject=text, kind="sentence") for text in told.values()]
    facts += [Fact("", text, subject=name, kind="about") for name, text in told.items()]
    facts.append(thing("The lathe", "Oil", "once a week"))
    made, rng = OwnWorld(facts, pack := load_pack("en"), "Ada"), Random(seed)
    words = made.words.sentences.some_words(rng.choice(facts[:3]), rng)
    if (other := unanswered(made)._about_another(words, rng)) is None:
        return
    asked = content(" ".join(other), pack)
    named = [name for name in told if content(name, pack) <= asked]
    assert len(named) == 1  # what it was about is not in it any more
    assert not content(" ".join(words), pack) >= content(named[0], pack)
    assert not any(asked <= content(text, pack) for text in told.values())


def test_of_a_name_of_several_words_one_may_stay() -> None:
    facts = [
        thing(f"{kind} {name}", "Price", "9") for kind in ("Cup", "Jug") for name in ["Ab", "Cd"]
    ]
    facts.append(thing("The hut", "Price", "3"))
    made = OwnWorld(facts, load_pack("en"), "Ada")
    names = unanswered(made).names[False]
    found = [unanswered(made)._strange("Cup Ab", names, Random(i)) for i in range(300)]
    assert "Cup Ab" not in found
    assert 60 < sum(name.startswith("Cup ") for name in found) < 240
    assert not any(
        "hut" in unanswered(made)._strange("The hut", names, Random(i)) for i in range(100)
    )


@given(st.sampled_from(LANGUAGES), st.integers(0, 10**6), st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_unknown_is_answered_honestly(code: str, seed: int, side: bool) -> None:
    question = {
        "en": "When does the orchestra rehearse in the school hall?",
        "de": "Wann öffnet die Werkstatt am Samstag?",
        "zh": "奶奶的生日蛋糕放在哪里？",
    }[code]
    facts = [Fact(question, "Yes."), Fact("Why?", "So.", before=(question, "Yes."))]
    facts += [thing(name, "Instrument", name[::-1]) for name in ("Mara Lindt", "Kofi Ray")]
    made = OwnWorld(facts, load_pack(code), "Ada")
    question, reply = unanswered(made).one(Random(seed), side)
    assert len(question.strip("？?。.! ")) > 1  # more than a name's sign
    assert made.pack.is_unknown(reply)
    told = [fact.question for fact in made.facts] + [fact.subject for fact in made.facts]
    if not own_names([question]) - own_names(told):  # a known name, and another question word
        words = [content(text, made.pack) | asking(text, made.pack) for text in (question, *told)]
        assert words[0] not in words[1:]


def test_a_known_name_alone_is_not_asked_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatling.toy.rephrase.TYPO", 0)  # of "width", too, "with" may be left
    facts = [thing(name, "Instrument", name[::-1]) for name in ("Mara Lindt", "Kofi Ray")]
    facts += [Fact(f"Who is {name}?", f"{name} is here.") for name in ("Ada", "Ben")]
    facts += [Fact("When is Ada up?", "At six."), Fact("Is Ada in?", "She is.")]
    made = OwnWorld(facts, pack := load_pack("en"), "Emil")
    asked = [unanswered(made)._untold(Random(seed), False) for seed in range(6000)]
    names = content("Mara Lindt Kofi Ray Ada Ben", pack)
    assert any(names >= content(text, pack) for text in asked)  # "When is Ben up?"
    assert not [text for text in asked if names >= content(text, pack) | asking(text, pack)]


def test_names_for_tests_are_not_trained_on() -> None:
    pack, rng = load_pack("en"), Random(3)
    sides = [UnknownNames(pack, {"anna", "keller"}, side) for side in (False, True)]
    train, test = ({names.person(rng) for _ in range(400)} for names in sides)
    words = [{word for name in found for word in name.split()} for found in (train, test)]
    titles = {word for title in pack.unknown["titles"] for word in title.split()}
    assert words[0] & titles
    assert not words[0] & words[1] - titles
    assert not {"Anna", "Keller"} & (words[0] | words[1])


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_strange_name_is_more_than_words_that_may_be_left_out(code: str) -> None:
    pack, rng = load_pack(code), Random(1)
    names = UnknownNames(pack, (), near=("Will", "For", "Der", "Lange", "的"))
    makers = [names.person, names.thing, names.attribute, names.any]
    assert all(content(maker(rng), pack) for maker in makers for _ in range(20000))


@pytest.mark.parametrize(
    "note",
    [
        "# Club\nWe are in the old school.",
        "# Shop\nWe are now closed.\n\nWe are now closed on Mondays.",
        "# Shop\nThe price is (roughly) 12 pounds.",
        "# X\n\n# Y\n\nOn!\n\nIt is.",
        "# 店\n\n大家一起吃饭。多放一点盐。",
    ],
)
def test_short_notes_make_conversations(note: str) -> None:
    """Whatever a note says, there are questions that it answers, and others that it does not."""
    pack = load_pack("zh" if "。" in note else "en")
    facts = note_facts(note, "note", pack.grammar)
    made = OwnWorld(facts, pack, "Ada")
    talks = list(islice(made.conversations(1, 256), 400))
    answers = {message.text for talk in talks for message in talk.messages[1::2]}
    assert {fact.answer for fact in facts} <= answers
    assert any(pack.is_unknown(answer) for answer in answers)


def test_what_a_sentence_says_of_a_name_is_not_asked_as_unknown() -> None:
    note = "# Winter fair\nThe winter fair is on 2 December in the hall."
    facts = [*note_facts(note, "note", load_pack("en").grammar), thing("Gala", "Date", "3 May")]
    made = OwnWorld(facts, load_pack("en"), "Ada")
    assert "Date" not in unanswered(made)._not_told("The winter fair")
    assert "Date" not in unanswered(made)._not_told("Winter fair")
