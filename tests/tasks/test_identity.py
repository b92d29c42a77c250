"""Identity conversations: who it is comes from the config, and no two are the same."""

from __future__ import annotations

from collections import Counter

import pytest

from chatling.errors import DataError, RecipeError
from chatling.tasks.identity import Identity, IdentityConfig
from chatling.tasks.registry import load_task
from chatling.tasks.tables import load_table

ADA = IdentityConfig(
    name="Ada Zett", maker="the Miller family of Ulm", persona="a dry but patient robot"
)


def test_a_thousand_are_all_different() -> None:
    task = load_task("identity", "train", None, identity=ADA)  # type: ignore[arg-type]
    talks = list(task)
    assert len(talks) == len(set(talks)) == 1_000
    assert len({talk.messages[0].text for talk in talks}) > 400
    answers = Counter(message.text for talk in talks for message in talk.messages[1::2])
    assert len(answers) > 300
    assert max(answers.values()) < 80
    lengths = Counter(len(talk.messages) // 2 for talk in talks)
    assert set(lengths) >= {1, 2, 3, 4}
    assert list(Identity(ADA, "train", 1_000)) == talks
    assert len(set(Identity(ADA, "validation", 256)) & set(talks)) < 10


def test_the_name_the_maker_and_the_persona_are_told() -> None:
    texts = [
        message.text for talk in Identity(ADA, "train", 1_000) for message in talk.messages[1::2]
    ]
    for fact in (ADA.name, ADA.maker.removeprefix("the "), ADA.persona):
        assert sum(fact in text for text in texts) > 200
    assert (
        sum("The Miller family" in text for text in texts) > 30
    )  # where a sentence begins with it
    assert not any("{" in text or "chatling here" in text for text in texts)


def test_every_question_and_answer_of_the_tables_comes_up() -> None:
    said = "\n".join(
        message.text for talk in Identity(ADA, "train", 10_000) for message in talk.messages
    )
    for topic in load_table("tasks/identity.toml")["topics"]:
        questions, answers = topic["questions"], topic["answers"]
        assert len(set(questions)) == len(questions) >= 6
        assert len(set(answers)) == len(answers) >= 3
        for template in (*questions, *answers):
            maker = ADA.maker[:1].upper() + ADA.maker[1:]
            assert (
                template.format(name=ADA.name, maker=ADA.maker, Maker=maker, persona=ADA.persona)
                in said
            )


def test_braces_in_a_persona_are_only_text() -> None:
    odd = IdentityConfig(name="{x}", maker="{0}", persona="{}")
    assert any(
        "{x}" in message.text for talk in Identity(odd, "train", 50) for message in talk.messages
    )


@pytest.mark.parametrize("field", ["name", "maker", "persona"])
def test_an_empty_field_is_refused(field: str) -> None:
    with pytest.raises(RecipeError, match=f"identity.{field} is empty"):
        IdentityConfig(**{field: " "})


def test_talk_is_not_judged() -> None:
    task = Identity(ADA, "test", 3)
    with pytest.raises(DataError, match="not questions that can be judged"):
        task.score(task[0], ())
    for index in (-1, 3):
        with pytest.raises(IndexError):
            task[index]
