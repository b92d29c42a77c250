"""The made tasks over words: determinism, splits without a word in common, answers that add up."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.errors import DataError
from chatling.messages import Conversation, Part
from chatling.tasks.registry import load_task
from chatling.tasks.spelling import (
    SHARES,
    WORDS_SHA256,
    SimpleSpelling,
    SpellingBee,
    counted,
    split_words,
)
from chatling.tokenizer.bpe import Tokenizer
from chatling.tools.calculator import calculate


@pytest.fixture(scope="module")
def words(data_pack: Path) -> Path:
    return data_pack / "words/words_alpha.txt"


def spelled_word(example: Conversation) -> str:
    """The word of an example, which its answer begins with."""
    return example.messages[-1].text.split(":")[0]


def test_the_pinned_checksum_is_the_file_s(words: Path) -> None:
    """The list's own has the line ends of Windows; the data pack took them off."""
    assert hashlib.sha256(words.read_bytes().replace(b"\n", b"\r\n")).hexdigest() == WORDS_SHA256


def test_no_word_is_in_two_splits_and_none_is_lost(words: Path) -> None:
    splits = {split: split_words(words, split) for split in SHARES}
    met = Counter(word for found in splits.values() for word in found)
    assert set(met.values()) == {1}
    assert set(met) == set(words.read_text().split())
    assert len(splits["train"]) > 300_000
    assert all(len(splits[split]) > 18_000 for split in ("validation", "test"))


@pytest.mark.parametrize("kind", [SimpleSpelling, SpellingBee])
def test_examples_depend_on_the_index_alone(words: Path, kind: Any) -> None:
    task, again = kind(words, "test", 500), kind(words, "test", 1000)
    assert [task[i] for i in range(500)] == [again[i] for i in reversed(range(500))][::-1]
    assert len(set(task)) == 500
    assert not {spelled_word(task[i]) for i in range(500)} & set(split_words(words, "train"))


def test_two_hundred_thousand_words_are_spelled_once_each(words: Path) -> None:
    task = SimpleSpelling(words, "train", 200_000)
    assert len({spelled_word(task[i]) for i in range(0, 200_000, 10)}) == 20_000
    word, letters = task[7].messages[1].text.split(":\n")
    assert letters.split(",") == list(word)
    assert word in task[7].messages[0].text
    assert task.score(task[7], (Part("text", f"{word}: {', '.join(word)}"),))
    assert not task.score(task[7], (Part("text", f"{word}: {','.join(word[1:])}"),))


def test_a_bee_counts_checks_and_answers(words: Path) -> None:
    task = SpellingBee(words, "train", 2_000)
    numbers: Counter[str] = Counter()
    for example in task:
        word = spelled_word(example)
        head, check, output, answer = example.messages[1].parts
        assert word in example.messages[0].text.lower()
        assert calculate(check.text) == output.text
        assert answer.text == f"\n\n#### {output.text}"
        counts = re.findall(r"=(\d+)", head.text)
        assert counts == [str(n) for n in range(1, int(output.text) + 1)]
        numbers[output.text] += 1
        assert task.score(example, example.messages[1].parts)
        assert not task.score(example, (Part("text", f"#### {int(output.text) + 1}"),))
    assert max(numbers.values()) < 0.65 * len(task)
    assert numbers["0"] > 0.04 * len(task)
    assert len({example.messages[0].text for example in task}) > 1_900


def test_a_whole_answer_reads_well() -> None:
    text = "".join(part.text for part in counted("berry", "r"))
    assert (
        text == "berry:\nb,e,r,r,y\n\nCounting 'r':\nb,e,r=1,r=2,y\n\n"
        "That makes 2. Let me check: 'berry'.count('r')2\n\n#### 2"
    )


@given(st.text("abc", min_size=1, max_size=30), st.sampled_from("abcd"))
def test_any_word_and_letter_add_up(word: str, letter: str) -> None:
    parts = counted(word, letter)
    assert parts[2].text == str(word.count(letter)) == calculate(parts[1].text)


MERGED = [
    *(
        lead + bytes([letter])
        for lead in (b" ", b",", b":", b"\n", b"=", b"'")
        for letter in b"abcdefghijklmnopqrstuvwxyz"
    )
]


@pytest.mark.parametrize(
    "merges", [[], MERGED], ids=["bytes", "every lead merged with every letter"]
)
@settings(deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12), st.sampled_from("abcz"))
def test_letters_are_the_same_tokens_in_the_list_and_in_the_count(
    merges: list[bytes], word: str, letter: str
) -> None:
    """Whatever the vocabulary merges with a letter: the list's tokens are the count's, but for the
    numbers.
    """
    tokenizer = Tokenizer([bytes([byte]) for byte in range(256)] + merges, digits=2)
    text = counted(word, letter)[0].text
    head, listed, _, _, tally, *_ = text.split("\n")
    assert (head, re.sub(r"=\d+", "", tally)) == (f"{word}:", listed)
    at, ids = text.index(listed), tokenizer.encode(text)
    ends = list(accumulate(len(tokenizer.decode_bytes([i])) for i in ids))
    span = {
        name: [i for i, end in zip(ids, ends, strict=True) if start < end <= start + len(line)]
        for name, start, line in (
            ("list", at, listed),
            ("count", text.index(tally, at + len(listed)), tally),
        )
    }
    numbers = {
        i
        for i in span["count"]
        if tokenizer.decode([i]).strip("=").isdigit() or tokenizer.decode([i]) == "="
    }
    assert [i for i in span["count"] if i not in numbers] == span["list"]
    assert not re.search(" [a-z]([^a-z]|$)", text)


def test_windows_line_ends_are_the_same_words(words: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(words.read_bytes().replace(b"\n", b"\r\n"))
    assert split_words(tmp_path / "words.txt", "test") == split_words(words, "test")


def test_a_list_without_words_is_named(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    with pytest.raises(DataError, match=r"Cannot read the word list .*words\.txt"):
        split_words(path, "test")
    path.write_text("123 ABC don't\n")
    with pytest.raises(DataError, match=r"words\.txt holds no words"):
        split_words(path, "test")
    with pytest.raises(DataError, match="no split 'dev' of words"):
        split_words(path, "dev")


def test_the_size_is_chosen_by_whoever_asks(fetcher: Any) -> None:
    assert len(load_task("SpellingBee", "train", fetcher)) == 80_000
    assert len(load_task("SimpleSpelling", "train", fetcher, size=300)) == 300
