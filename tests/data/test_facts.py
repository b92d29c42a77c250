"""Files of a user's own as facts."""

import json
from pathlib import Path

from chatling.data.facts import Fact, read_source, thing


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_things_becomes_a_fact_a_cell(tmp_path: Path) -> None:
    table = "No,Name,Instrument,Joined_in\n1,Mara Lindt,flute,1999\n2,Kofi Ray,,2004\n"
    source = read_source(written(tmp_path / "members.csv", table))
    assert source is not None
    assert source.kind == "things"
    assert source.facts == (
        thing("Mara Lindt", "Instrument", "flute"),
        thing("Mara Lindt", "Joined_in", "1999"),
        thing("Kofi Ray", "Joined_in", "2004"),
    )


def test_only_numbers_that_count_the_rows_are_no_facts(tmp_path: Path) -> None:
    table = "Number,Name\n17,Mara Lindt\n4,Kofi Ray\n"
    source = read_source(written(tmp_path / "players.csv", table))
    assert source is not None
    assert source.facts == (thing("Mara Lindt", "Number", "17"), thing("Kofi Ray", "Number", "4"))


def test_questions_and_their_answers(tmp_path: Path) -> None:
    source = read_source(
        written(tmp_path / "qa.csv", "Frage;Antwort\nWer kommt?;Anna.\nWann?;Um 3.\n")
    )
    assert source is not None
    assert source.kind == "questions"
    assert source.facts == (Fact("Wer kommt?", "Anna."), Fact("Wann?", "Um 3."))


def test_later_turns_keep_what_was_said_before(tmp_path: Path) -> None:
    turns = ["奶奶住在哪里？", "苏州。", "她喜欢什么？", "评弹。"]
    roles = ("user", "assistant") * 2
    messages = [{"role": r, "content": c} for r, c in zip(roles, turns, strict=True)]
    row = json.dumps({"messages": messages}, ensure_ascii=False)
    source = read_source(written(tmp_path / "talks.jsonl", row + "\n"))
    assert source is not None
    assert source.kind == "conversations"
    assert source.facts == (
        Fact(turns[0], turns[1]),
        Fact(turns[2], turns[3], before=(turns[0], turns[1])),
    )


def test_prose_is_text_and_an_empty_file_nothing(tmp_path: Path) -> None:
    source = read_source(written(tmp_path / "note.md", "# Club\n\nWe meet on Thursdays.\n"))
    assert source is not None
    assert (source.kind, source.facts) == ("notes", ())
    assert source.texts == ("# Club\n\nWe meet on Thursdays.\n",)
    assert read_source(written(tmp_path / "empty.md", "")) is None


def test_names_that_come_twice_are_no_things(tmp_path: Path) -> None:
    """No column says which row is meant."""
    source = read_source(written(tmp_path / "list.csv", "Name,City\nMara,Ghent\nMara,Ghent\n"))
    assert source is not None
    assert (source.kind, source.facts) == ("notes", ())
