"""Held-out questions: never in training, enough of them, fair, and judged correctly."""

import re
from collections import Counter

import pytest

from chatling.errors import RecipeError
from chatling.messages import Conversation, Part
from chatling.tasks.tables import load_table
from chatling.toy import SKILLS, conversations, heldout, practice
from chatling.toy.arithmetic import problems
from chatling.toy.corpus import documents
from chatling.toy.facts import capitalized
from chatling.toy.heldout import final_number, phrasings, refuses, says, spells
from chatling.toy.relations import Relation, relations
from chatling.toy.smalltalk import intents

from .shared import open_questions


def normal(text: str) -> str:
    """Nothing but lower-case words: what remains when casing and punctuation differ."""
    return " ".join(re.sub(r"[^\w ]", "", text.lower()).split())


@pytest.fixture(scope="module")
def trained() -> set[str]:
    """Every prompt of a lot of training conversations, its turns joined."""
    return {
        normal(" / ".join(m.text for m in c.prompt.messages))
        for seed in range(3)
        for c in conversations(seed, 25_000)
    }


@pytest.mark.parametrize("skill", SKILLS)
def test_no_held_out_question_is_in_training(skill: str, trained: set[str]) -> None:
    for seed in range(3):
        for conversation in heldout(skill, seed, 400):
            assert normal(" / ".join(m.text for m in conversation.prompt.messages)) not in trained


def training_templates(relation: Relation) -> set[str]:
    """Every training question of a relation with its slots left open."""
    wrappers = dict(load_table("toy/templates.toml"))
    wrappers["nouns"] += wrappers.pop("tell")
    return open_questions(relation, wrappers, normal, {"pl": "slotpl", "topic": "slottopic"})


@pytest.mark.parametrize("name", relations())
def test_no_held_out_template_is_a_training_template(name: str) -> None:
    relation = relations()[name]
    marks = {key: f"slot{key}" for key in relation.facts[0].slots} | {"topic": "slottopic"}
    held_out = {normal(capitalized(t).format(**marks)) for t in phrasings("facts")[name]}
    assert not held_out & training_templates(relation)
    assert len(held_out) >= 5


def test_small_talk_held_out_differs_whatever_surrounds_it() -> None:
    def forms(text: str) -> set[str]:
        plain = normal(text)
        return {
            plain,
            f"{plain} chatling",
            *(f"{word} {plain}" for word in ("hey", "ok", "so", "well", "please", "chatling")),
        }

    trained = {form for intent in intents() for text in intent.training for form in forms(text)}
    for intent in intents():
        for text in intent.held_out:
            assert not forms(text) & trained, text


def test_other_held_out_templates_differ() -> None:
    for name in ("spell", "count"):
        trained = {normal(text) for text in load_table("toy/words.toml")[name]}
        assert not {normal(text) for text in phrasings(name)} & trained
    kinds = ("one_step", "two_steps", "hard_train", "hard_test")
    stories = [problem.story for kind in kinds for problem in problems(kind)]
    assert len(stories) == len(set(stories)) > 130


@pytest.mark.parametrize("skill", SKILLS)
def test_enough_different_questions_that_accept_their_own_answers(skill: str) -> None:
    task = heldout(skill, 0, 400)
    assert len(task) == 400 == len({c.prompt for c in task})
    assert task.name == skill
    assert all(task.score(c, c.messages[-1].parts) for c in task)
    assert list(task) == list(heldout(skill, 0, 400))
    assert list(task)[:50] != list(heldout(skill, 1, 50))


@pytest.mark.parametrize("skill", [skill for skill in SKILLS if skill != "unknown"])
def test_a_refusal_is_wrong(skill: str) -> None:
    task = heldout(skill, 0, 50)
    answer = (Part("text", "I don't know. That is not in my small world."),)
    assert not any(task.score(c, answer) for c in task)


@pytest.mark.parametrize("skill", [skill for skill in SKILLS if skill != "refusal"])
def test_the_answer_to_another_question_is_wrong(skill: str) -> None:
    task = heldout(skill, 1, 200)
    pairs = [(c, d.messages[-1]) for c, d in zip(task, list(task)[1:], strict=False)]
    if skill == "unknown":
        pairs = [(c, d.messages[-1]) for c, d in zip(task, heldout("facts", 0, 200), strict=True)]
    # neighbours share an answer now and then ("four legs", a count of 1)
    right = sum(task.score(c, m.parts) for c, m in pairs if m.text != c.messages[-1].text)
    assert right <= (100 if skill == "counting" else 12)


def test_unknown_wants_a_refusal() -> None:
    task = heldout("unknown", 0, 10)
    assert task.score(task[0], (Part("text", "I don’t know that."),))
    assert not task.score(task[0], (Part("text", "The capital of Zob is Paris."),))


def test_judges() -> None:
    paris = says(("Paris",), frozenset({"Rome"}))
    assert paris("It is paris!")
    assert not paris("It is Parisian.")
    assert not paris("Paris or Rome.")
    assert not paris("I don't know Paris.")
    berry = spells("berry")
    assert all(
        berry(text) for text in ("b-e-r-r-y", "It is b, e, r, r, y.", "berry is spelled B-E-R-R-Y.")
    )
    assert not any(
        berry(text) for text in ("berry", "b-e-r-y", "b-e-r-r-y-s", "b-e-r-r-y or b-e-r-y")
    )
    assert final_number("12 and 7.\n#### 19") == "19"
    assert final_number("It is 1,234.") == "1234"
    assert final_number("none") is None
    assert refuses("I do not know.")
    assert not refuses("You know it.")


def test_the_words_of_held_out_questions_occur_in_training() -> None:
    """Fair: a question may be new, its words are not. Those of unsafe requests come with the
    preferences.
    """
    texts = [m.text for c in conversations(0, 40_000) for m in c.messages]
    stream = documents(0)
    texts += [next(stream) for _ in range(8_000)]
    seen = Counter(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))
    questions = [
        c.prompt.messages[-1].text
        for skill in SKILLS
        if skill not in ("unknown", "unsafe")
        for c in heldout(skill, 0, 400)
    ]
    asked = Counter(
        word for question in questions for word in re.findall(r"[a-z]+", question.lower())
    )
    rare = sum(count for word, count in asked.items() if seen[word] < 5)
    assert rare / asked.total() < 0.003


def test_practice_and_its_test_share_neither_numbers_nor_templates() -> None:
    train, test = practice(0, 1500), heldout("hard_arithmetic", 0, 1500)
    assert len(train) == len(test) == 1500
    asked = [{c.messages[-2].text for c in task} for task in (train, test)]
    assert not asked[0] & asked[1]
    numbers = [{tuple(re.findall(r"\d+", text)) for text in texts} for texts in asked]
    assert not {tuple(sorted(n)) for n in numbers[0] if len(set(n)) == 1} & {
        tuple(sorted(n)) for n in numbers[1]
    }
    assert all(task.score(c, c.messages[-1].parts) for task in (train, test) for c in task)
    assert list(practice(0, 1500)) == list(train) != list(practice(1, 1500))


def test_practice_is_mostly_hard_and_pays_for_nothing_but_the_taught_answer() -> None:
    task = practice(3, 1000)
    hard = [
        c
        for c in task
        if len([part for part in c.messages[-1].parts if part.kind == "python"]) == 2
    ]
    assert 0.6 < len(hard) / 1000 < 0.8
    assert not any(task.score(c, (Part("text", "Fish."),)) for c in task)


def test_unknown_skill_is_named() -> None:
    with pytest.raises(RecipeError, match="'geometry'"):
        heldout("geometry", 0, 1)


def test_index_out_of_range() -> None:
    task = heldout("facts", 0, 3)
    with pytest.raises(IndexError):
        task[3]
    with pytest.raises(IndexError):
        task[-1]
    assert isinstance(task[2], Conversation)
