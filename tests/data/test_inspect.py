"""Inspection: exact counts, and each warning for its own trouble only."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data import inspect as inspection
from chatling.data.columns import iter_planned, plan_files
from chatling.data.contamination import TestGrams, find_test_sets
from chatling.data.inspect import garbled, inspect_data
from chatling.data.parquet import iter_texts
from chatling.data.readers import find_files
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError
from chatling.messages import Conversation
from chatling.tokenizer.chat_template import render
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

GOOD = [
    f"A whole sentence about the number {i}, which is {'even' if i % 2 == 0 else 'odd'}."
    for i in range(50)
]


def inspect(items, **options):
    return inspect_data(iter(items), RowErrors(), **options)


def test_counts_of_texts():
    seen = inspect(["a", "déjà vu?", "x" * 100])
    assert (seen.documents, seen.characters, seen.bytes, seen.shortest, seen.longest) == (
        3,
        109,
        111,
        1,
        100,
    )
    assert seen.histogram == {0: 1, 3: 1, 6: 1}
    assert (seen.tokens, seen.counted) == (28, False)  # 111 bytes at 4 a token
    assert sorted(seen.samples) == sorted(["a", "déjà vu?", "x" * 100])


def test_tokens_are_counted_with_a_tokenizer():
    tokenizer = train_tokenizer(iter(GOOD), TokenizerConfig(vocab_size=300))
    seen = inspect(GOOD, tokenizer=tokenizer)
    assert (seen.tokens, seen.counted) == (sum(len(tokenizer.encode(text)) for text in GOOD), True)
    talk = Conversation.of("One and one?", "Two.", system="Count.")
    seen = inspect([talk, talk], tokenizer=tokenizer)
    assert seen.tokens == 2 * len(render(tokenizer, talk).ids)
    assert (seen.conversations, seen.turns, seen.what) == (True, 2, "conversations")
    assert seen.samples == ["system: Count.\nuser: One and one?\nassistant: Two."]


def test_good_text_gives_no_warning(data_pack):
    assert inspect(GOOD).warnings == []
    assert (
        inspect(list(iter_texts([data_pack / "pretrain_zh" / "shard_00000.parquet"]))).warnings
        == []
    )


@pytest.mark.parametrize(
    ("items", "warning"),
    [
        (
            [*GOOD, GOOD[3].upper(), f" {GOOD[3]} ", GOOD[4]],
            "Copies: 3 of 53 documents repeat another; one comes 3 times.",
        ),
        (
            [f"https://example.org/{i}" for i in range(50)],
            "Most documents are single words, addresses or numbers",
        ),
        ([f"Title {i}" for i in range(50)], "Most documents are shorter than 30 characters"),
        (
            [f"{i}, {i + 1}, {i + 2}, {i + 3}, {i + 4}, {i + 5}, {i + 6}" * 3 for i in range(50)],
            "Most documents are mostly signs and digits",
        ),
        ([*GOOD, "  "], "1 of 51 documents are empty"),
        (
            [*GOOD, "an odd \ufffd thing"],
            "Unreadable characters (U+FFFD or NUL) in 1 of 51 documents",
        ),
        ([*GOOD, "Voilà l'été, déjà passé".encode().decode("cp1252")], "Garbled text"),
        (
            [
                *GOOD,
                "床前明月光，疑是地上霜。举头望明月，低头思故乡。".encode().decode(
                    "gb18030", "ignore"
                ),
            ],
            "Garbled text",
        ),
    ],
)
def test_each_trouble_has_its_warning(items, warning):
    found = inspect(items).warnings
    assert len(found) == 1
    assert found[0].startswith(warning)


@pytest.mark.parametrize("encoding", ["cp1251", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "text", ["Größe, Übermut, Äpfel, Straße", "Привет, как у тебя дела?", "春眠不覺曉，處處聞啼鳥"]
)
def test_mojibake_is_told_and_undone(encoding, text):
    wrong = text.encode().decode(encoding, "ignore")
    found = garbled(wrong)
    assert found is not None
    assert set(found[1]) - {"\ufffd", "?"} <= set(text)  # some bytes were lost
    assert garbled(text) is None


def test_a_large_corpus_is_sampled_for_copies(monkeypatch):
    monkeypatch.setattr(inspection, "REMEMBERED", 500)
    texts = [f"text number {i % 6000}" for i in range(8000)]
    random.Random(1).shuffle(texts)
    warning = next(found for found in inspect(texts).warnings if found.startswith("Copies"))
    about = int(warning.split()[2].replace(",", ""))
    assert warning.startswith("Copies: about ")
    assert 1400 < about < 2600  # 2,000


QUESTION = (
    "A train leaves the old station at nine in the morning and travels at sixty kilometres an hour;"
    " when does it arrive?"
)


def test_test_questions_are_found_in_text(tmp_path):
    (tmp_path / "gsm" / "main").mkdir(parents=True)
    questions = [
        QUESTION,
        "Too short to tell?",
        QUESTION.replace("train", "bus").replace("old", "new").replace("sixty", "ninety"),
    ]
    pq.write_table(
        pa.table({"question": questions, "answer": ["a", "b", "c"]}),
        tmp_path / "gsm" / "main" / "test-00000-of-00001.parquet",
    )
    sets = find_test_sets(tmp_path)
    assert list(sets) == ["gsm"]
    grams = TestGrams(sets)
    quoting = "they asked: " + QUESTION.upper().replace(",", " -") + " And nobody knew."
    near = QUESTION.replace("morning", "evening").replace("travels", "goes")  # no 13 words in a row
    seen = inspect([*GOOD, quoting, quoting + " Nobody!", near], against=grams)
    found = seen.overlap["gsm"]
    assert (found.items, found.of, found.documents) == (1, 2, 2)
    assert found.example == "a train leaves the old station at nine in the morning and travels"
    assert [
        w
        for w in seen.warnings
        if w.startswith("Test questions: 1 of 2 of gsm share 13 words in a row with 2 documents")
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from("abcd"), max_size=60),
    st.lists(st.sampled_from("abcd"), min_size=13, max_size=30),
)
def test_reduction_is_exact(tmp_path_factory, words, question):
    path = tmp_path_factory.mktemp("sets") / "test.jsonl"
    path.write_text(f'{{"question": "{" ".join(question)}"}}\n')
    runs = {tuple(question[i : i + 13]) for i in range(len(question) - 12)}
    assert TestGrams({"x": [path]}).look(" ".join(words)) == any(
        tuple(words[i : i + 13]) in runs for i in range(len(words) - 12)
    )


def test_the_real_test_sets_are_found(data_pack):
    sets = find_test_sets(data_pack)
    assert {"ARC-Easy", "ARC-Challenge", "mmlu", "gsm8k", "CORE boolq", "CORE squad"} <= set(sets)
    grams = TestGrams({name: sets[name] for name in ("ARC-Easy", "gsm8k", "CORE squad")})
    rows = (
        pq.read_table(data_pack / "arc" / "ARC-Easy" / "test.parquet", columns=["question"])
        .column(0)
        .to_pylist()
    )
    long = [row for row in rows if len(row.split()) > 20][:5]
    seen = inspect([f"Quiz: {row} Think." for row in long], against=grams)
    assert seen.overlap["ARC-Easy"].items >= 5
    assert seen.overlap["gsm8k"].items == 0


def test_nothing_to_look_for_is_said(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"question": "short"}\n')
    with pytest.raises(DataError, match="None of the test questions has 13 words"):
        TestGrams(find_test_sets(tmp_path))


def test_rows_that_cannot_be_used_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "one whole sentence of some length"}\n' * 1 + "{\n" * 20
    )
    errors = RowErrors(allow_bad=float("inf"))
    plans = plan_files(find_files(tmp_path).files)
    seen = inspect_data(iter_planned(plans, errors), errors)
    assert (seen.documents, seen.bad) == (1, 20)
    assert "20 of 21 rows cannot be used" in seen.warnings[0]
