"""JSON as rows: the same rows in whatever shape they are written and however little is read at a
time; what is broken is named.
"""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data import json_rows
from chatling.data.json_rows import json_lines, json_values
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError

FILE = Path("a.jsonl")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
rows = st.lists(st.dictionaries(texts, values, min_size=1, max_size=3), min_size=2, max_size=6)
WAYS = {
    "a line each": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "a line each, no end": lambda rows: "\n".join(
        json.dumps(row, ensure_ascii=False) for row in rows
    ),
    "a list": json.dumps,
    "a list over lines": lambda rows: json.dumps(rows, indent=1),
    "values over lines": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
    "a list with a line each": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]",
}


def read(how, text, errors=None):
    return list(how(FILE, io.StringIO(text, newline=""), errors or RowErrors()))


def wide(rows):
    """Without rows that are a conversation or a wrapping of rows by chance."""
    return not any(
        isinstance(value, list) and any(isinstance(each, dict) for each in value)
        for row in rows
        for value in row.values()
    )


@settings(max_examples=60, deadline=None)
@given(rows.filter(wide), st.sampled_from(sorted(WAYS)))
def test_rows_are_the_same_however_they_are_written(rows, way):
    assert read(json_lines, WAYS[way](rows)) == rows
    assert read(json_values, WAYS[way](rows)) == rows


@settings(max_examples=60, deadline=None)
@given(rows.filter(wide), st.sampled_from(sorted(WAYS)), st.integers(1, 40))
def test_rows_are_the_same_however_little_is_read_at_a_time(rows, way, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "CHUNK_CHARACTERS", size)
        assert read(json_values, WAYS[way](rows)) == rows
        if way.startswith("a line"):
            assert read(json_lines, WAYS[way](rows)) == rows


TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TALK),
        json.dumps([TALK]),
        json.dumps(TALK, indent=1),
        json.dumps([TALK], indent=1),
    ],
)
def test_a_list_of_messages_is_one_row(text, size, monkeypatch):
    monkeypatch.setattr(json_rows, "CHUNK_CHARACTERS", size)
    assert read(json_values, text) == [{"messages": TALK}]


def test_lines_are_named_and_bad_ones_skipped():
    errors = RowErrors()
    text = '{"a": 1}\n\n{oops\n[1, 2]\n"text"\n[{"a": 2}, {"a": 3}]\n' + "[" * 5000 + '\n{"a": 4}'
    found, places = [], []
    for row in json_lines(FILE, io.StringIO(text, newline=""), errors):
        found.append(row)
        places.append(errors.place)
    assert found == [{"a": 1}, "text", {"a": 2}, {"a": 3}, {"a": 4}]
    assert places == ["line 1", "line 5", "line 6", "line 6", "line 8"]
    assert [example.partition(":")[0] for example in errors.examples] == [
        f"{FILE} line {n}" for n in (3, 4, 7)
    ]
    assert errors.bad == 3


def test_a_line_that_is_too_long_is_a_bad_row(monkeypatch):
    monkeypatch.setattr(json_rows, "LINE_CHARACTERS", 100)
    monkeypatch.setattr(json_rows, "CHUNK_CHARACTERS", 10)
    errors = RowErrors()
    text = "".join(json.dumps({"a": "x" * size}) + "\n" for size in (3, 500, 4))
    assert read(json_lines, text, errors) == [{"a": "xxx"}, {"a": "xxxx"}]
    assert errors.examples == [f"{FILE} line 2: longer than 100 characters"]
    with pytest.raises(DataError, match="more than 100 characters"):
        read(json_values, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1},\n{"a": 2', r"line 2: "),
        ('[{"a": 1},\n\n{"a" 2}]', r"line 3: Expecting ':'"),
        ('[{"a": 1}', "ends before its list"),
        ("oops", "line 1: Expecting value"),
        ("[" * 5000, "not a readable json file"),
    ],
)
def test_broken_json_is_named_with_its_line(text, said):
    with pytest.raises(DataError, match=said):
        read(json_values, text)
