"""Two made tasks over English words: spelling one, and counting a letter in one. What tokens hide,
practice has to show.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from random import Random
from zlib import crc32

from chatling.data.shuffle import seeded_order
from chatling.errors import DataError
from chatling.messages import Conversation, Message, Part
from chatling.tasks.gsm8k import same_number
from chatling.tasks.task import Task, visible_text

WORDS_URL = "https://raw.githubusercontent.com/dwyl/english-words/20f5cc9b3f0ccc8ce45d814c532b7c2031bba31c/words_alpha.txt"
WORDS_SHA256 = (  # with the line ends of Windows that it has there
    "2d8cf2326673fa0c179bdc3a58053872d16bff5352331580955ae62101f6a34d"
)
SHARES = {
    "test": range(0, 5),
    "validation": range(5, 10),
    "train": range(10, 100),
}  # of a hundred hash values: a word is in one split only

SPELL = (
    "Spell the word: {w}",
    "Spell {w}",
    "How do you spell {w}?",
    "Spell {w}, letter by letter.",
    "What are the letters of {w}?",
    "Please spell the word {w}.",
    "Letters of {w}?",
    "Break {w} into its letters.",
)
COUNT = (
    "How many {l} are in {w}?",
    "How many {l}'s are in {w}?",
    "How many {l}'s are there in {w}?",
    "How many times does {l} appear in {w}?",
    "How often does {l} occur in {w}?",
    "Count the {l} in {w}.",
    "Count the letter {l} in {w}.",
    "Count how many {l}'s {w} has.",
    "How many of the letter {l} does {w} have?",
    "How many letters {l} are in {w}?",
    "What is the number of {l} in {w}?",
    "In {w}, how many times do you see {l}?",
    "In the word {w}, how many {l} are there?",
    "How many {l} does the word {w} contain?",
    "Tell me how many {l} there are in {w}.",
    "Can you count the {l} in {w}?",
    "Could you tell me how many {l} are in {w}?",
    "Do you know how many {l} are in {w}?",
    "Find the number of {l} in {w}.",
    "Number of {l} in {w}?",
    "{w}: how many {l}?",
    "Please count the occurrences of {l} in {w}.",
    "I need to know how many {l} are in {w}.",
    "How frequently is {l} used in {w}?",
    "What's the count of {l} in {w}?",
    "Look at {w}. How many {l} do you find?",
    "If you spell {w}, how many {l} do you write?",
    "Quantas vezes a letra {l} aparece em {w}?",
    "¿Cuántas {l} hay en {w}?",
    "¿Cuántas veces aparece {l} en {w}?",
    "Combien de {l} y a-t-il dans {w} ?",
    "Combien de fois la lettre {l} apparaît-elle dans {w} ?",
    "Wie viele {l} sind in {w}?",
    "Wie oft kommt {l} in {w} vor?",
    "Quante {l} ci sono in {w}?",
    "{w} 里有几个 {l}？",
    "{w} 中有多少个字母 {l}？",
    "{w} の中に {l} はいくつありますか？",
    "{w}에 {l}이 몇 개 있나요?",
    "Сколько букв {l} в слове {w}?",
)
QUOTES = ("{}", "{}", "'{}'", '"{}"', "`{}`")


class _Words(Task):
    """Example i is a function of (task, split, i): its word, its phrasing."""

    def __init__(self, name: str, words: Path, split: str, count: int):
        self.name, self.split, self.count = name, split, count
        found = split_words(words, split)
        self.words = [found[i] for i in seeded_order(len(found), crc32(name.encode()))]

    def __len__(self) -> int:
        return self.count

    def draw(self, index: int) -> tuple[str, Random]:
        """The word of an example, and what decides the rest of it. Each word comes once before any
        comes again.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"{self.name} has {self.count} examples, asked for number {index}")
        return self.words[index % len(self.words)], Random(f"{self.name} {self.split} {index}")


class SimpleSpelling(_Words):
    """A word, and its letters with commas between them."""

    def __init__(self, words: Path, split: str, count: int):
        super().__init__("SimpleSpelling", words, split, count)

    def __getitem__(self, index: int) -> Conversation:
        word, rng = self.draw(index)
        return Conversation.of(rng.choice(SPELL).format(w=word), f"{word}:\n{spelled(word)}")

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        said, right = (
            "".join(text.rpartition(":")[2].split())
            for text in (visible_text(completion), conversation.messages[-1].text)
        )
        return said == right


class SpellingBee(_Words):
    """How many of a letter are in a word: counted by hand, then checked with the calculator."""

    def __init__(self, words: Path, split: str, count: int):
        super().__init__("SpellingBee", words, split, count)

    def __getitem__(self, index: int) -> Conversation:
        word, rng = self.draw(index)
        # a letter at a random place of the word, so that repeated ones come up more: "1" must be no
        # safe guess, and nor must "0"
        letter = (
            rng.choice(word) if rng.random() < 0.9 else rng.choice("abcdefghijklmnopqrstuvwxyz")
        )
        quote_word, quote_letter = rng.choice(QUOTES), rng.choice(QUOTES)
        question = rng.choice(COUNT).format(
            w=quote_word.format(word), l=quote_letter.format(letter)
        )
        if rng.random() < 0.3:
            question = question.lower()
        if rng.random() < 0.3:
            question = question.rstrip("?.？")
        return Conversation(
            (Message.of("user", question), Message("assistant", counted(word, letter)))
        )

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return same_number(conversation, completion)


def spelled(letters: Iterable[str]) -> str:
    """Letters (in the count with their number) at a line's beginning and behind commas, with no
    space before any.

    What stands before a letter may become one token with it, a space most of all, so it is the same
    wherever letters are listed.
    """
    return ",".join(letters)


def counted(word: str, letter: str) -> tuple[Part, ...]:
    """The worked answer: the word apart, the same letters with a running count, the calculator's
    check, the number.
    """
    counts = accumulate(int(each == letter) for each in word)
    tally = spelled(
        f"{each}={count}" if each == letter else each
        for each, count in zip(word, counts, strict=True)
    )
    count = word.count(letter)
    text = (
        f"{word}:\n{spelled(word)}\n\nCounting '{letter}':\n{tally}\n\nThat makes {count}. Let me"
        " check: "
    )
    check = Part("python", f"'{word}'.count('{letter}')"), Part("output", str(count))
    return Part("text", text), *check, Part("text", f"\n\n#### {count}")


def split_words(path: Path, split: str) -> list[str]:
    """The words of one split, in the file's order. Raises DataError for an unknown split and for a
    file without words.
    """
    if split not in SHARES:
        raise DataError(f"There is no split {split!r} of words.", f"Known: {', '.join(SHARES)}.")
    try:
        found = dict.fromkeys(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the word list {path}: {error}.") from None
    words = [
        word
        for word in found
        if word.isalpha() and word.islower() and crc32(word.encode()) % 100 in SHARES[split]
    ]
    if not words:
        raise DataError(f"{path} holds no words.", "It should have one small-letter word a line.")
    return words
