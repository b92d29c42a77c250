"""The training conversations and the base corpus: deterministic, short, worked correctly, fast."""

import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.errors import RecipeError
from chatling.messages import Conversation
from chatling.toy import WEIGHTS, conversations, write_corpus
from chatling.toy.facts import tables
from chatling.toy.heldout import refuses
from chatling.toy.language import Random
from chatling.toy.relations import relations
from chatling.toy.smalltalk import intents
from chatling.toy.unknown import held_out_name, known_words, made_up
from chatling.toy.words import spelled, tallied, words

from .shared import calculator_calls


@pytest.fixture(scope="module")
def many() -> list[Conversation]:
    return conversations(0, 20_000)


def test_same_seed_same_conversations(many: list[Conversation]) -> None:
    assert conversations(0, 500) == many[:500]
    assert conversations(1, 500) != many[:500]


def test_every_calculator_call_gives_the_stated_output(many: list[Conversation]) -> None:
    assert calculator_calls(many) > 3000


def test_worked_numbers_agree(many: list[Conversation]) -> None:
    """The number behind #### is the last output, or by hand the count of the letter in the spelled
    word.
    """
    for conversation in many:
        answer = conversation.messages[-1]
        if "####" in answer.text:
            outputs = [part.text for part in answer.parts if part.kind == "output"]
            stated = answer.text.rsplit("#### ", 1)[1]
            if outputs:
                assert stated == outputs[-1]
            else:
                run = answer.text.split(",")[0]
                assert int(stated) == max(map(int, re.findall(r"\d", run)), default=0)
            shown = answer.text.split(", so ")
            if len(shown) == 2:
                assert shown[1].startswith(stated)


def test_spelling_is_right_for_every_word() -> None:
    found = [
        re.fullmatch(r"(\w+) is spelled ([\w-]+)\.", c.messages[-1].text)
        for c in conversations(1, 8000, {"spelling": 1.0})
    ]
    spellings = [match.groups() for match in found if match]
    assert len(spellings) > 2000
    assert all(
        letters.replace("-", "") == word and set(letters[1::2]) <= {"-"}
        for word, letters in spellings
    )
    assert {word for word, _ in spellings} == set(words())


@given(st.text("abcdeé", min_size=1, max_size=12), st.sampled_from("abcdeé"))
def test_tally_counts(word: str, letter: str) -> None:
    shown = tallied(word, letter).split("-")
    assert "".join(part[0] for part in shown) == word
    assert max([int(part[1:]) for part in shown if len(part) > 1], default=0) == word.count(letter)
    assert spelled(word) == "-".join(word)


def test_conversations_are_short(many: list[Conversation]) -> None:
    lengths = sorted(
        sum(len(re.findall(r"\w+|[^\w ]", m.text)) + 2 for m in c.messages) for c in many
    )
    assert lengths[len(lengths) // 2] < 35
    assert lengths[-1] < 120


def test_known_questions_are_never_refused_and_strangers_always(many: list[Conversation]) -> None:
    known = known_words()
    unknown = conversations(3, 500, {"unknown": 1.0})
    assert all(refuses(c.messages[-1].text) for c in unknown)
    for c in conversations(3, 500, {"facts": 1.0}):
        assert not refuses(c.messages[-1].text)
    capitals = {country["city"].lower() for country in tables()["countries"]}
    assert capitals - known <= {"new delhi", "mexico city", "buenos aires"}
    assert not any(
        text.endswith(tuple(capitals)) and " or " not in text  # a choice of two
        for text in (c.messages[0].text.lower().strip("?.") for c in unknown)
    )


@given(st.integers(), st.sampled_from(("country", "animal", "word", "person")), st.booleans())
@settings(max_examples=60)
def test_made_up_names_are_of_their_half_and_nothing_real(
    seed: int, kind: str, held_out: bool
) -> None:
    name = made_up(kind, Random(seed), held_out)
    assert held_out_name(name) == held_out
    assert name not in known_words()
    assert name.islower()
    assert name not in {"france", "kenya", "malta", "tom"}


def test_weights_choose_the_skills() -> None:
    replies = {relation.reply(fact) for relation in relations().values() for fact in relation.facts}
    assert all(
        c.messages[-1].text in replies
        for c in conversations(0, 300, {"facts": 2.0, "spelling": 0.0})
    )
    with pytest.raises(RecipeError, match="'geometry'"):
        conversations(0, 1, {"geometry": 1.0})


def test_default_weights_are_kept_in_the_mixture(many: list[Conversation]) -> None:
    share = sum(
        c.messages[-1].text.split(" is spelled ")[0] in words()
        for c in many
        if len(c.messages) == 2 and " is spelled " in c.messages[-1].text
    ) / len(many)
    assert abs(share - WEIGHTS["spelling"] / sum(WEIGHTS.values())) < 0.01
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    turns = Counter(len(c.messages) for c in many)
    assert turns[4] > 400
    assert turns[6] > 30


def test_small_talk_has_one_answer_a_question_and_telling_keys() -> None:
    asked: dict[str, str] = {}
    for intent in intents():
        assert intent.key in intent.answer
        assert not any(intent.key in other.answer for other in intents() if other is not intent)
        assert len(intent.training) >= 12
        assert len(intent.held_out) >= 4
        for text in (*intent.training, *intent.held_out):
            assert asked.setdefault(text.lower().strip("?!."), intent.name) == intent.name, text


def test_corpus_is_parquet_shards_the_last_for_validation(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", 0, characters=400_000)
    write_corpus(tmp_path / "b", 0, characters=400_000)
    write_corpus(tmp_path / "c", 1, characters=400_000)
    shards = sorted((tmp_path / "a").glob("*.parquet"))
    assert [shard.name for shard in shards] == ["shard_00000.parquet", "shard_00001.parquet"]
    texts = [
        [
            pq.read_table(shard)["text"].to_pylist()
            for shard in sorted((tmp_path / name).glob("*.parquet"))
        ]
        for name in "abc"
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert 400_000 <= sum(len(text) for shard in texts[0] for text in shard) < 402_000
    assert 20_000 <= sum(map(len, texts[0][1])) < 21_000
    assert all(
        text.strip() == text and text and len(text) < 1500 for shard in texts[0] for text in shard
    )
    corpus = "\n".join(texts[0][0])
    assert all(word in corpus for word in ("Paris", "b-", "chatling", "Nora"))
    assert "#### " in corpus  # the tokenizer has to meet it
    assert "{" not in corpus


def test_a_big_corpus_has_more_shards(tmp_path: Path) -> None:
    write_corpus(tmp_path, 0, characters=2_400_000)
    assert len(list(tmp_path.glob("shard_*.parquet"))) == 4
