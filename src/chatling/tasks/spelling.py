"""Two made tasks over English words: spelling one, and counting a letter in one. What tokens hide,
practice has to show.
"""

from abc import abstractmethod
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from random import Random
from string import ascii_lowercase
from zlib import crc32

from chatling.data.shuffle import seeded_order
from chatling.errors import DataError
from chatling.messages import Conversation, Message, Part
from chatling.tasks.gsm8k import same_number
from chatling.tasks.tables import load_table
from chatling.tasks.task import IndexedTask, TaskEntry, visible_text

WORDS_URL = "https://raw.githubusercontent.com/dwyl/english-words/20f5cc9b3f0ccc8ce45d814c532b7c2031bba31c/words_alpha.txt"
# with the line ends of Windows that it has there
WORDS_SHA256 = "2d8cf2326673fa0c179bdc3a58053872d16bff5352331580955ae62101f6a34d"
# of a hundred hash values: a word is in one split only
SHARES = {"test": range(0, 5), "validation": range(5, 10), "train": range(10, 100)}


class WordTask(IndexedTask):
    """Example i is a function of (task, split, i): its word, its phrasing."""

    def __init__(self, words: Path, split: str, count: int):
        super().__init__(type(self).__name__, range(count))
        self.split, found = split, split_words(words, split)
        self.words = [found[i] for i in seeded_order(len(found), crc32(self.name.encode()))]

    def example(self, index: int) -> Conversation:
        """Each word comes once before any comes again."""
        word = self.words[index % len(self.words)]
        return self.asked(word, Random(f"{self.name} {self.split} {index}"))

    @abstractmethod
    def asked(self, word: str, rng: Random) -> Conversation:
        """A question about a word and its answer; `rng` decides the rest of it."""


class SimpleSpelling(WordTask):
    """A word, and its letters with commas between them."""

    def asked(self, word: str, rng: Random) -> Conversation:
        question = rng.choice(load_table("tasks/spelling.toml")["spell"]).format(w=word)
        return Conversation.of(question, f"{word}:\n{spelled(word)}")

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        said, right = (
            "".join(text.rpartition(":")[2].split())
            for text in (visible_text(completion), conversation.messages[-1].text)
        )
        return said == right


class SpellingBee(WordTask):
    """How many of a letter are in a word: counted by hand, then checked with the calculator."""

    def asked(self, word: str, rng: Random) -> Conversation:
        table = load_table("tasks/spelling.toml")
        # a letter at a random place of the word, so that repeated ones come up more: "1" must be no
        # safe guess, and nor must "0"
        letter = rng.choice(word if rng.random() < 0.9 else ascii_lowercase)
        quoted, letter_quoted = (
            rng.choice(table["quotes"]).format(each) for each in (word, letter)
        )
        question = rng.choice(table["count"]).format(w=quoted, l=letter_quoted)
        if rng.random() < 0.3:
            question = question.lower()
        if rng.random() < 0.3:
            question = question.rstrip("?.？")
        answer = Message("assistant", counted(word, letter))
        return Conversation((Message.of("user", question), answer))

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return same_number(conversation, completion)


def _entry(task: type[WordTask], train: int) -> TaskEntry:
    return TaskEntry(
        task.__name__,
        lambda files, *, split, size, **_: task(files[0], split, size),
        rows={"train": train, "validation": 256, "test": 256},
        license="MIT, its words Unlicense",
        source=(WORDS_URL, WORDS_SHA256),
    )


SIMPLE, BEE = _entry(SimpleSpelling, 200_000), _entry(SpellingBee, 80_000)


def spelled(letters: Iterable[str]) -> str:
    """Letters (in the count with their number) at a line's
    beginning and behind commas, with no space before any.

    What stands before a letter may become one token with it, a space most of all, so it is the same
    wherever letters are listed.
    """
    return ",".join(letters)


def running_count(word: str, letter: str, mark: str) -> list[str]:
    """The letters of a word, with a mark and the count so far behind the one that is counted."""
    counts = accumulate(each == letter for each in word)
    return [
        f"{each}{mark}{count:d}" if each == letter else each
        for each, count in zip(word, counts, strict=True)
    ]


def count_check(word: str, letter: str) -> tuple[Part, Part]:
    """The calculator's count of a letter."""
    return Part("python", f"'{word}'.count('{letter}')"), Part("output", str(word.count(letter)))


def counted(word: str, letter: str) -> tuple[Part, ...]:
    """The worked answer: the word apart, the same letters
    with a running count, the calculator's check, the number.
    """
    count, tally = word.count(letter), spelled(running_count(word, letter, "="))
    text = (
        f"{word}:\n{spelled(word)}\n\nCounting '{letter}':\n{tally}\n\nThat makes {count}. Let me"
        " check: "
    )
    return Part("text", text), *count_check(word, letter), Part("text", f"\n\n#### {count}")


def split_words(path: Path, split: str) -> list[str]:
    """The words of one split, in the file's order. Raises
    DataError for an unknown split and for a file without words.
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
