"""What a sentence may be asked for, in each language."""

from itertools import pairwise

import pytest

from chatling.toy.answers import parts
from chatling.toy.packs import LANGUAGES, load_pack


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        ("en", "The hut seats 35 people.", {"35 people": "how many people"}),
        (
            "en",
            "Doors open at 7:30 pm on Fridays.",
            {"7:30 pm": "what time", "Fridays": "which day"},
        ),
        ("en", "We meet on Tuesday 7 May.", {"Tuesday 7 May": "which day"}),
        ("en", "In August we walk, since 1987.", {"August": "which month", "1987": "what year"}),
        ("en", "A ticket costs £12.50 or 9 euros.", {"£12.50": "how much", "9 euros": "how much"}),
        ("en", "A full load takes 45 minutes.", {"45 minutes": "how long"}),
        (
            "en",
            "It is painted green by Gus Tolliver.",
            {"green": "what color", "Gus Tolliver": "who"},
        ),
        ("en", "Members get 12 per cent off.", {"12 per cent": "how much"}),
        (
            "de",
            "Los geht es um 19.30 Uhr am 3. Mai.",
            {"19.30 Uhr": "um welche Uhrzeit", "3. Mai": "wann"},
        ),
        (
            "de",
            "es dauert 45 Minuten und kostet 5 Euro",
            {"45 Minuten": "wie lange", "5 Euro": "wie viel"},
        ),
        ("de", "es ist blau, seit 1987", {"blau": "welche Farbe", "1987": "in welchem Jahr"}),
        ("zh", "婚礼在十月六号晚上七点", {"十月六号": "哪天", "晚上七点": "几点"}),
        ("en", "It costs 12.50 € at the door.", {"12.50 €": "how much"}),
        ("en", "We have 2000 books.", {"2000 books": "how many books"}),
        ("de", "es kostet 1500 Euro", {"1500 Euro": "wie viel"}),
        ("zh", "它是绿色的，三百元", {"绿色": "什么颜色", "三百元": "多少钱"}),
    ],
)
def test_parts_of_a_sentence_are_told_by_their_kind(
    code: str, text: str, told: dict[str, str]
) -> None:
    found = {text[each.start : each.end]: each.asking for each in parts(text, load_pack(code))}
    for part, asking in told.items():
        assert asking in found[part]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("zh", "大家一起吃饭，多放一点盐，一般都在"),
        ("en", "There are chairs. Every member weighs some."),
    ],
)
def test_other_words_are_no_such_parts(code: str, text: str) -> None:
    assert parts(text, load_pack(code)) == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_parts_do_not_overlap_and_ask_in_whole_words(code: str) -> None:
    pack = load_pack(code)
    text = " ".join(
        ["On Tuesday 7 May 2024 at 7:30 pm Gus paid £12.50 for 35 red chairs in 3 weeks.",
         "Am Dienstag, den 7. Mai 2024 um 19 Uhr zahlte Gus 12 Euro für 3 Wochen.",
         "二零二四年五月七号晚上七点半付了三百元，两个小时，红色"]
    )  # fmt: skip
    found = parts(text, pack)
    assert len(found) >= 4
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert not any("{" in words or "None" in words for each in found for words in each.asking)
