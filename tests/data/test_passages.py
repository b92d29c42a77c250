"""Documents as passages: what is found, what is kept, and what follows the files."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.passages import LONGEST, PassageIndex, passages
from chatling.errors import DataError

NOTES = {
    "boats.md": "# Swan\n\nMara looks after the Swan.\n\n# Heron\n\nTobias paints the Heron.",
    "rules/keys.txt": "The key of the shed hangs behind the door.\n\nNobody smokes in the hall.",
    "家.md": "爷爷住在苏州。\n\n钥匙放在门后面。",
    "phones.csv": "Name,Phone\nWanda,555-1234\nNiels,555-9876\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in NOTES.items():
        path = tmp_path / "notes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "notes"


def test_a_question_finds_the_passage_that_answers_it(folder: Path, tmp_path: Path) -> None:
    index = PassageIndex(folder, tmp_path / "index/notes.sqlite")
    assert index.refresh()[0] == 4
    for question, file, said in (
        ("Who looks after the swan?", "boats.md", "Mara"),
        ("who is painting herons", "boats.md", "Tobias"),
        ("Where does the key to the shed hang?", "rules/keys.txt", "behind the door"),
        ("钥匙在哪里？", "家.md", "门后面"),
        ("Wanda's phone?", "phones.csv", "555-1234"),
    ):
        first = index.search(question)[0]
        assert first.file == file
        assert said in first.text
    assert index.search("xylophone") == []
    assert index.search('"*?:(') == []
    assert len(index.search("the " * 500 + " ".join(map(str, range(500))))) <= 5


def test_the_index_follows_the_files(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "notes.sqlite"
    PassageIndex(folder, place).refresh()
    (folder / "boats.md").write_text("Greta paints the Heron.", encoding="utf-8")
    (folder / "phones.csv").unlink()
    (folder / "new.txt").write_text("The kiln is in the cellar.", encoding="utf-8")
    index = PassageIndex(folder, place)
    assert index.refresh()[0] == 4
    assert index.search("Who paints the Heron?")[0].text == "Greta paints the Heron."
    assert index.search("Wanda") == []
    assert index.search("kiln")[0].file == "new.txt"
    assert index.refresh() == index.refresh()


def test_a_damaged_index_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "notes.sqlite"
    place.write_text("no data base at all, but long enough to be looked at" * 40, encoding="utf-8")
    with pytest.raises(DataError, match="Delete it"):
        PassageIndex(folder, place).refresh()


WORDS = st.sampled_from(("oak", "A sentence.", "苏州。", "x" * 90, "\n", "\n\n", "# Rules\n", "7"))


@given(st.lists(WORDS, max_size=300).map(" ".join))
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_no_passage_is_long(text: str) -> None:
    found = list(passages(text))
    kept = "".join("".join(found).split())
    for word in ("oak", "7", "苏州", "xxx"):
        assert kept.count(word) >= "".join(text.split()).count(word)
    assert all(len(passage) <= 2 * LONGEST for passage in found)
