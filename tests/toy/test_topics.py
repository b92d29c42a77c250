"""What questions are about, found by comparing them."""

import pytest

from chatling.toy.packs import load_pack
from chatling.toy.topics import find_topics

TABLES = {
    "en": (
        ("What does the {} cost?", "Who repairs the {}?", "Where is the {}?"),
        ("saw", "drill press", "lathe", "kiln"),
        ("When do you close?", "Is there parking?"),
    ),
    "de": (
        ("Was kostet {}?", "Wo liegt {} im Laden?"),
        ("Säge", "Hobel", "Schlagbohrer", "Leim"),
        ("Wann schließen Sie?", "Gibt es Parkplätze?"),
    ),
    "zh": (
        ("{}放在哪里？", "{}是谁买的？"),
        ("钥匙", "手套", "手表", "手电筒", "会员卡"),
        ("几点关门？", "有停车场吗？"),
    ),
}


@pytest.mark.parametrize("code", TABLES)
def test_names_of_a_table_are_the_topics(code: str) -> None:
    patterns, names, others = TABLES[code]
    asked = {pattern.format(name): name for pattern in patterns for name in names}
    found = find_topics([*asked, *others], load_pack(code))
    assert {question: topic.name for question, topic in found.items()} == asked
    for question, topic in found.items():
        assert topic.other(topic.name) == question


def test_one_pattern_is_enough_and_two_names_are_not() -> None:
    asked = [f"What is the capital of {name}?" for name in ("France", "Spain", "Peru")]
    found = find_topics(asked, load_pack("en"))
    assert [topic.name for topic in found.values()] == ["France", "Spain", "Peru"]
    assert find_topics(asked[:2], load_pack("en")) == {}


def test_a_question_of_its_own_pattern_is_about_a_topic_that_it_names() -> None:
    names = ("saw", "drill press", "kiln")
    alone = "Who sharpens the drill press in May?"
    asked = [f"{what} the {name}?" for what in ("Where is", "Who has") for name in names]
    found = find_topics([*asked, alone, "Is the sawdust free?"], load_pack("en"))
    assert found[alone].name == "drill press"
    assert found[alone].other("lathe") == "Who sharpens the lathe in May?"
    assert "Is the sawdust free?" not in found


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("洗衣机保修到哪一年？", "洗衣机"),
        ("按摩椅放在哪个房间？", "按摩椅"),
        ("相机是谁送的？", "相机"),
        ("放大镜借给谁了？", "放大镜"),
        ("谁订报纸？", None),
    ],
)
def test_without_blanks_a_question_of_its_own_is_about_what_it_begins_with(
    question: str, name: str | None
) -> None:
    topic = find_topics([question, "几点关门？"], load_pack("zh")).get(question)
    assert (topic and topic.name) == name
    assert topic is None or topic.other(topic.name) == question
