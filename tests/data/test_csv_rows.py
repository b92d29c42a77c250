"""csv and tsv: what a writer wrote comes back equal; what is damaged is named by its line and costs
no other row.
"""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data import csv_rows as module
from chatling.data.csv_rows import DELIMITERS, csv_rows
from chatling.data.readers import iter_rows
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError


def read(path, text, errors=None, **options):
    path.write_text(text, encoding=options.get("encoding") or "utf-8", newline="")
    return list(iter_rows(path, errors or RowErrors(), **options))


def parse(file, text, errors=None, columns=None):
    """Without a file, which hypothesis would write by the hundred."""
    return list(
        csv_rows(
            file,
            io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline=""),
            errors or RowErrors(),
            columns,
        )
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.csv"


values = st.text(st.sampled_from("ab ,;|\t\n\r\"'é文\x85\u2028\x0b\0"), max_size=5)


@st.composite
def tables(draw):
    """(names, rows, header and rows as Python's writer writes them)"""
    width = draw(st.integers(1, 3))
    names = draw(
        st.lists(
            values.filter(lambda name: name.strip()), min_size=width, max_size=width, unique=True
        )
    )
    rows = draw(st.lists(st.lists(values, min_size=width, max_size=width), max_size=6))
    out = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    ends = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    if quoting == csv.QUOTE_MINIMAL:  # the line end that is not the writer's own it leaves bare
        bare = {
            "\n": lambda value: value.rstrip("\r"),
            "\r": lambda value: value.replace("\n", ""),
            "\r\n": str,
        }[ends]
        rows = [list(map(bare, row)) for row in rows]
    # the header is quoted: of `a;b` without quotes nobody can tell whether that is one name or two
    sign = draw(st.sampled_from(DELIMITERS))
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator=ends, delimiter=sign).writerow(names)
    header = out.getvalue()
    csv.writer(out, quoting=quoting, lineterminator=ends, delimiter=sign).writerows(rows)
    return names, rows, header, out.getvalue()[len(header) :]


@settings(max_examples=120, deadline=None)
@given(tables())
def test_what_a_writer_wrote_comes_back(tmp_path_factory, table):
    names, rows, header, text = table
    errors = RowErrors()
    found = parse(tmp_path_factory.getbasetemp() / "a.csv", header + text, errors)
    assert found == [dict(zip(names, row, strict=True)) for row in rows]
    assert (errors.rows, errors.bad) == (len(rows), 0)


@settings(max_examples=200, deadline=None)
@given(tables(), st.data())
def test_a_stray_quote_costs_the_damaged_row_or_is_named(tmp_path_factory, table, data):
    names, rows, header, text = table
    at = data.draw(st.integers(0, len(text)))
    errors = RowErrors(allow_bad=1)
    file = tmp_path_factory.getbasetemp() / "a.csv"
    found = parse(file, header + text[:at] + '"' + text[at:], errors)
    expected = [dict(zip(names, row, strict=True)) for row in rows]
    damaged = [row for row in expected if row not in found]
    assert len(damaged) <= 1 or errors.bad
    assert all(example.startswith(f"{file} line ") for example in errors.examples)


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("damage", ['"never closed', '"closed" and more', '"a" "b"', '"'])
@pytest.mark.parametrize("at", [0, 4, 48, 49])
@pytest.mark.parametrize("others", ["text {}", '"text {}"', '"{}"', '"two\nlines {}"'])
def test_only_the_damaged_row_is_lost(path, delimiter, damage, at, others):
    rows = [
        f"{i}{delimiter}{damage if i == at else others.format(i)}{delimiter}end" for i in range(50)
    ]
    text = "\n".join([delimiter.join(["id", "text", "z"]), *rows])
    errors = RowErrors()
    found = read(path, text, errors)
    assert [row["id"] for row in found] == [str(i) for i in range(50) if i != at]
    line = 2 + at * (1 + others.count("\n"))
    assert (errors.bad, errors.rows) == (1, 50)
    assert errors.examples[0].startswith(f"{path} line {line}: ")
    assert "quote" in errors.examples[0]


def test_rows_of_the_wrong_width_and_blank_lines(path):
    errors = RowErrors()
    found = read(
        path, 'id,text\n\n1,one\n2\n  \n3,three,and more\n"4\n4",four,x\n5,five\n\n', errors
    )
    assert [row["id"] for row in found] == ["1", "5"]
    widths = [(4, 1), (6, 3), (7, 3), (8, 3)]
    assert errors.examples == [
        f"{path} line {line}: a row of {width} values under a header of 2" for line, width in widths
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_line_ends_of_every_system(tmp_path, name, end):
    sign = "," if name == "a.csv" else "\t"
    text = end.join([f"id{sign}text", f"1{sign}one", f"2{sign}two", ""])
    assert read(tmp_path / name, text) == [{"id": "1", "text": "one"}, {"id": "2", "text": "two"}]


def test_quotes_in_bare_values_and_in_tsv_are_text(tmp_path):
    found = read(tmp_path / "a.csv", 'id,text\n1,5" disk\n2,say "hi" \n3,a\rb\n')
    assert [row["text"] for row in found] == ['5" disk', 'say "hi" ', "a\rb"]
    rows = [
        {"id": str(i), "text": text}
        for i, text in enumerate(['"open', 'a "b" c', '"c"', '""', "d"])
    ]
    assert (
        read(
            tmp_path / "a.tsv",
            "id\ttext\n" + "".join(f"{row['id']}\t{row['text']}\n" for row in rows),
        )
        == rows
    )


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('"name, with, commas";text', ["name, with, commas", "text"]),
        ('id;"a,b,c,d";"x|y|z"', ["id", "a,b,c,d", "x|y|z"]),
        ('"tab\there";b', ["tab\there", "b"]),
        ('"two\nlines";text', ["two\nlines", "text"]),
        ('id,"two\r\n\r\nlines",text', ["id", "two\r\n\r\nlines", "text"]),
        ('"say ""a, b; c""",text', ['say "a, b; c"', "text"]),
        ("id,,text,", ["id", "column 2", "text", "column 4"]),
        ("a|b|c,d", ["a", "b", "c,d"]),
        ("\n\nid,text", ["id", "text"]),
        ("sep=,\r\nid,text", ["id", "text"]),
        ("text", ["text"]),
        ('5" disk,text', ['5" disk', "text"]),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_headers(path, header, names, mark):
    sign = ";" if '";' in header else "|" if "a|b" in header else ","
    assert read(path, f"{mark}{header}\n{sign.join(map(str, range(len(names))))}\n") == [
        dict(zip(names, "0123", strict=False))
    ]


@pytest.mark.parametrize(
    ("header", "says"),
    [("id,text,id", "names a column twice"), ('"id,text\n1,2', "line 1, cannot be read.*closed")],
)
def test_headers_that_cannot_be_used(path, header, says):
    with pytest.raises(DataError, match=says):
        read(path, header + "\n1,2,3\n")
    with pytest.raises(DataError, match="has no column 'c'; it has a, b"):
        read(path, "a,b\n1,2\n", columns=["c"])


def test_a_bare_carriage_return_is_text_and_a_million_of_them_are_no_trouble(path):
    text = "x\r" * 500_000
    assert read(path, f"id,text\n1,{text}y\n2,b\r\n") == [
        {"id": "1", "text": f"{text}y"},
        {"id": "2", "text": "b"},
    ]


def test_thousands_of_columns(path):
    names = [f"column {i}" for i in range(5000)]
    assert read(path, f"{','.join(names)}\n{',' * 4999}\n") == [dict.fromkeys(names, "")]


def test_one_column_needs_no_quotes(path):
    assert [
        row["text"]
        for row in read(path, 'text\nno, this; is | one\tvalue\n"and, ""this"""\n\n""\n')
    ] == ["no, this; is | one\tvalue", 'and, "this"', ""]


def test_files_without_rows(path):
    for text in ("", "\n\r\n", "id,text\n", "id,text", "\ufeff"):
        assert read(path, text) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "gb18030", "cp1252"])
def test_encodings(path, encoding):
    text = 'id,"größe\n, x"\r\n1,"é ""ü""\r\n"\r\n'
    assert read(path, text, encoding=encoding) == [{"id": "1", "größe\n, x": 'é "ü"\r\n'}]


def test_rows_beyond_the_limit_are_named_and_those_after_them_read(path, monkeypatch):
    monkeypatch.setattr(module, "RECORD_CHARACTERS", 1000)
    long, lines = "x" * 5000, "line\n" * 400
    errors = RowErrors(allow_bad=1)
    found = read(
        path,
        f'id,text\n1,{"y" * 990}\n2,{long}\n3,"{"z" * 990}"\n4,"open'
        f' {lines}5,five\n6,"{long}"\n7,seven',
        errors,
    )
    assert [row["id"] for row in found] == ["1", "3", "5", "7"]
    assert [example.partition(": ")[2] for example in errors.examples[:2]] == [
        "longer than 1,000 characters",
        "a quote that is not closed within 1,000 characters",
    ]
    assert errors.bad == 402
