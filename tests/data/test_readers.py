"""Files of every kind, as they lie on people's disks: the same rows whatever the format, packing
and encoding; damage named.
"""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.readers import DOCUMENT_CHARACTERS, find_files, iter_rows
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError

TEXTS = [
    "Es war einmal …",
    "从前有一座山，\n山里有座庙。",
    'She said "no, never", and left.',
    "x" * 3000,
    " 3,14; 2\t7 | 5 ",
]
ROWS = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]


def write(path, rows=ROWS):
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    sink = pa.BufferOutputStream()
    if name.endswith("jsonl"):
        sink.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    elif name.endswith("json"):
        sink.write(json.dumps(rows, indent=2).encode())
    elif name.endswith("csv"):
        pacsv.write_csv(pa.Table.from_pylist(rows), sink)
    else:
        pq.write_table(pa.Table.from_pylist(rows), sink)
    data = sink.getvalue().to_pybytes()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = pa.Codec("zstd").compress(data).to_pybytes()
    path.write_bytes(data)
    return path


def read(path, errors=None, **options):
    return list(iter_rows(path, errors or RowErrors(), **options))


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_format_gives_the_same_rows(kind, packing, tmp_path):
    path = write(tmp_path / f"rows.{kind}{packing}")
    told = []
    assert read(path, tick=told.append) == ROWS
    assert sum(told) == path.stat().st_size
    if kind in ("csv", "parquet"):
        assert read(path, columns=["text"]) == [{"text": text} for text in TEXTS]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_encodings_are_told_by_their_mark_or_named(kind, encoding, tmp_path):
    text = "静夜思 Ünïcode"
    path = tmp_path / f"a.{kind}"
    body = {
        "txt": text,
        "jsonl": json.dumps({"text": text}, ensure_ascii=False) + "\n",
        "csv": f"text\n{text}\n",
    }[kind]
    path.write_bytes(body.encode(encoding))
    assert read(path, encoding="gb18030" if encoding == "gb18030" else None) == [
        text if kind == "txt" else {"text": text}
    ]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_the_wrong_encoding_is_refused_and_a_few_bad_bytes_are_replaced(kind, tmp_path):
    wrapped = {"txt": "{}", "jsonl": '{{"text": "{}"}}\n', "csv": "text\n{}\n"}[kind]
    path = tmp_path / f"a.{kind}"
    for other in ("gb18030", "big5"):
        path.write_bytes(wrapped.format("床前明月光，疑是地上霜。" * 9).encode(other))
        with pytest.raises(
            DataError, match="--encoding gb18030"
        ):  # as an example: only UTF-16 and UTF-32 are guessed
            read(path)
    path.write_bytes(wrapped.format("これはテストです。" * 9).encode("shift_jis"))
    with pytest.raises(DataError, match="--encoding gb18030"):
        read(path)
    path.write_bytes(wrapped.format("good " * 100 + "?").encode().replace(b"?", b"\xff"))
    text = "good " * 100 + "\ufffd"
    assert read(path) == [text if kind == "txt" else {"text": text}]


@pytest.mark.parametrize("damage", [b"", b"not at all what it says it is"])
@pytest.mark.parametrize("name", ["a.parquet", "a.txt.gz", "a.jsonl.zst", "a.parquet.gz"])
def test_a_file_that_is_not_what_it_says_is_named(name, damage, tmp_path):
    (tmp_path / name).write_bytes(damage)
    if not damage and name != "a.parquet" and not name.startswith("a.parquet"):
        assert read(tmp_path / name) == []  # an empty file is an empty stream
        return
    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a.jsonl.gz", "a.csv.zst", "a.parquet", "a.parquet.zst", "a.json"]
)
def test_half_a_file_is_no_file(name, tmp_path):
    path = write(tmp_path / name, ROWS * 200)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=name):
        read(path)


def test_bad_lines_are_counted_shown_and_skipped(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(row) for row in ROWS * 200]
    lines[3:3] = ["{", "", "[1, 2]", "  "]
    path.write_text("\n".join(lines))
    errors = RowErrors()
    assert read(path, errors) == ROWS * 200
    assert (errors.bad, errors.rows) == (2, 1002)
    assert errors.examples[0].startswith(f"{path} line 4: not JSON")
    assert errors.examples[1].startswith(f"{path} line 6: a list")


@pytest.mark.parametrize(
    ("bad", "allowed", "refused"), [(10, 0.01, False), (25, 0.01, True), (25, 0.03, False)]
)
def test_above_the_limit_bad_lines_are_refused(bad, allowed, refused, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps(row) for row in ROWS * 200] + ["oops"] * bad))
    if refused:
        with pytest.raises(DataError, match=r"first is .*line 1001: not JSON.*--allow-bad"):
            read(path, RowErrors(allowed))
    else:
        assert len(read(path, RowErrors(allowed))) == 1000


def test_a_csv_row_of_too_many_values_is_skipped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,one\n2,two,three\n3,four\n")
    errors = RowErrors()
    assert [row["text"] for row in read(path, errors)] == ["one", "four"]
    assert errors.bad == 1
    assert "3 values under a header of 2" in errors.examples[0]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_found(delimiter, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f'id{delimiter}text\n1{delimiter}"a{delimiter} b\nc"\n')
    assert read(path) == [{"id": "1", "text": f"a{delimiter} b\nc"}]


# lines of any length with and without spaces, in scripts with and without them, and line ends of
# every system
UNITS = [
    "word ",
    "Ein Satz. ",
    "从前有座山。",
    "山里有座庙",
    "x",
    "é",
    "e\u0301",
    "👩\u200d👧",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
]
lines = st.lists(st.sampled_from(UNITS), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(lines, st.integers(1, 3000)), max_size=6),
    st.sampled_from(["", ".gz", ".zst"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
    st.integers(1, 40_000),
)
def test_the_pieces_of_a_text_joined_are_the_text(
    tmp_path_factory, parts, packing, encoding, chunk
):
    path = tmp_path_factory.mktemp("cut") / f"a.txt{packing}"
    text = "".join("".join(units) * times for units, times in parts)
    data = text.encode(encoding)
    path.write_bytes(
        {
            "": bytes,
            ".gz": gzip.compress,
            ".zst": lambda data: pa.Codec("zstd").compress(data).to_pybytes(),
        }[packing](data)
    )
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # borders between the blocks that are read fall anywhere
        patch.setattr("chatling.data.readers.CHUNK_CHARACTERS", chunk)
        patch.setattr("chatling.data.decoding.CHUNK_CHARACTERS", chunk + 7)
        pieces = read(path, encoding="gb18030" if encoding == "gb18030" else None)
    assert "".join(pieces) == text.replace("\r\n", "\n").replace("\r", "\n")
    assert all(len(piece) <= DOCUMENT_CHARACTERS for piece in pieces)
    assert len(pieces) < 2 or min(map(len, pieces)) >= DOCUMENT_CHARACTERS // 2
    assert not any(piece[0] in "\u0301\u200d" or piece[-1] == "\u200d" for piece in pieces)


@pytest.mark.parametrize(
    "unit", ["x", "字", "line\n", "word ", "Satz. ", "a\r\n\r\n", " ", "\n", "\U0001f600"]
)
def test_pieces_of_more_than_a_megabyte(unit, tmp_path):
    text = unit * (2_300_000 // len(unit)) + "end"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    pieces = read(tmp_path / "a.txt")
    assert "".join(pieces) == text.replace("\r\n", "\n")
    assert {len(piece) // (DOCUMENT_CHARACTERS // 2) for piece in pieces} <= {1, 2}


def test_cuts_are_at_paragraphs(tmp_path):
    (tmp_path / "a.txt").write_text(
        "\r\n\r\n".join(f"Paragraph {i} " + "word " * 50 + "end" for i in range(100)), newline=""
    )
    pieces = read(tmp_path / "a.txt")
    assert len(pieces) == 3
    assert all(
        piece.startswith("Paragraph") and piece.rstrip("\n").endswith("end") and "\r" not in piece
        for piece in pieces
    )


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "tsv", "json"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "sentence",
    ["Half of these bytes are zero. ", "只有空格 是零 的字节。", "没有零的字节也认得出来"],
)
def test_utf16_and_utf32_without_a_mark_are_named_and_guessed(kind, encoding, sentence, tmp_path):
    text = sentence * 40
    path = tmp_path / f"a.{kind}"
    row = json.dumps({"text": text}, ensure_ascii=False)
    body = {
        "txt": text,
        "jsonl": row + "\n",
        "json": f"[{row}]",
        "csv": f"text\n{text}\n",
        "tsv": f"text\n{text}\n",
    }[kind]
    path.write_bytes(body.encode(encoding))
    with pytest.raises(
        DataError, match=f"not in the encoding it was read in.*--encoding {encoding}"
    ):
        read(path, RowErrors(allow_bad=float("inf")))
    expected = [text if kind == "txt" else {"text": text}]
    assert read(path, encoding=encoding) == expected
    path.write_bytes(("\ufeff" + body).encode(encoding))  # its mark tells, whatever is named
    assert read(path) == read(path, encoding=encoding) == read(path, encoding="utf-8") == expected


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_nul_is_unreadable(kind, tmp_path):
    wrapped = {"txt": "{}", "jsonl": '{{"text": "a"}}\n{}\n', "csv": "text\n{}\n"}[kind]
    (tmp_path / f"a.{kind}").write_text(wrapped.format("N\0U\0L\0" * 100))
    with pytest.raises(DataError, match="characters are unreadable"):
        read(tmp_path / f"a.{kind}", RowErrors(allow_bad=float("inf")))


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "csv", "tsv"])
@pytest.mark.parametrize("named", [None, "utf-8", "utf-8-sig", "gb18030"])
def test_a_byte_order_mark_is_no_text(kind, named, tmp_path):
    text = "Naïve 文 text"
    row = json.dumps({"text": text}, ensure_ascii=False)
    body = {
        "txt": text,
        "jsonl": row,
        "json": row,
        "csv": f"text\n{text}\n",
        "tsv": f"text\n{text}\n",
    }[kind]
    (tmp_path / f"a.{kind}.gz").write_bytes(gzip.compress(body.encode("utf-8-sig")))
    assert read(tmp_path / f"a.{kind}.gz", encoding=named) == [
        text if kind == "txt" else {"text": text}
    ]


@pytest.mark.parametrize(
    "name",
    [
        "rot13",
        "base64",
        "hex",
        "zlib",
        "bz2",
        "uu",
        "quopri",
        "undefined",
        "idna",
        "utf-9",
        "",
        "ü",
        "a\0b",
    ],
)
def test_codecs_that_are_no_text_encodings_are_named(name, tmp_path):
    (tmp_path / "a.txt").write_text("text")
    if not name:
        assert read(tmp_path / "a.txt", encoding=name) == ["text"]
        return
    with pytest.raises(DataError, match="There is no encoding"):
        read(tmp_path / "a.txt", encoding=name)


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_folders_are_walked_in_order(tmp_path):
    make(
        tmp_path,
        "b/2.TXT",
        "b/1.md",
        "a.Jsonl.GZ",
        ".git/x.txt",
        ".hidden.txt",
        "README.md",
        "LICENSE.txt",
        "photo.jpg",
        "import.json",
    )
    found = find_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == [
        "a.Jsonl.GZ",
        "b/1.md",
        "b/2.TXT",
    ]
    assert found.passed == {
        "README.md": 1,
        "LICENSE.txt": 1,
        ".jpg": 1,
        "import.json": 1,
        "hidden": 2,
    }


def test_links_are_followed_once_and_what_is_no_file_is_never_opened(tmp_path):
    make(tmp_path, "source/real/1.txt", "source/2.txt", "elsewhere/3.txt", "elsewhere/deep/4.txt")
    source = tmp_path / "source"
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "real" / "up").symlink_to(source)
    (tmp_path / "elsewhere" / "back").symlink_to(source / "real")
    (source / "file.txt").symlink_to(source / "2.txt")
    (source / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (source / "self.txt").symlink_to(source / "self.txt")
    os.mkfifo(source / "pipe.txt")
    found = find_files(source)
    assert [path.relative_to(source).as_posix() for path in found.files] == [
        "2.txt",
        "file.txt",
        "linked/3.txt",
        "linked/back/1.txt",
        "linked/deep/4.txt",
    ]
    assert found.passed == {
        "link to nothing (gone.txt)": 1,
        "link to nothing (self.txt)": 1,
        "pipe, socket or device (pipe.txt)": 1,
        "folder read already (up)": 1,
        "folder read already (real)": 1,
    }
    for reading in (find_files, read):
        with pytest.raises(DataError, match="pipe, socket or device"):
            reading(source / "pipe.txt")


def test_what_an_import_wrote_is_not_read_again_but_for_itself(tmp_path):
    make(tmp_path, "a.txt", "out/shard_00000.parquet", "theirs/b.txt", "theirs/import.json")
    (tmp_path / "out" / "import.json").write_text(
        json.dumps({"source": "a.txt", "kind": "text", "documents": 2})
    )
    found = find_files(tmp_path)
    assert [path.name for path in found.files] == ["a.txt", "b.txt"]
    assert found.passed == {"folder of an earlier import (out)": 1, "import.json": 1}
    assert [path.name for path in find_files(tmp_path / "out").files] == ["shard_00000.parquet"]


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    make(tmp_path, "a.txt", "locked/b.txt")

    def fail(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", fail)  # permissions do not bind root
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        find_files(tmp_path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no text.*\.jsonl"):
        find_files(tmp_path)
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(DataError, match="kind that is not known"):
        find_files(tmp_path / "a.docx")


@pytest.mark.parametrize("kind", ["txt", "csv"])
@pytest.mark.parametrize(
    ("sentence", "written", "named"),
    [
        ("Größe und Äpfel für alle Mädchen. ", "cp1252", "cp1252"),
        ("Où est l'été, garçon? ", "latin-1", "cp1252"),
        ("Dzień dobry, proszę o kawę z mlekiem. ", "cp1250", "cp1252"),
        ("从前有一个人住在山里。", "gb18030", "gb18030"),
    ],
)
def test_an_encoding_is_proposed_that_fits_the_letters(kind, sentence, written, named, tmp_path):
    """Two Latin letters would be one ideograph of UTF-16."""
    path = tmp_path / f"a.{kind}"
    path.write_bytes((f"text\n{sentence * 40}\n").encode(written))
    with pytest.raises(
        DataError, match=f"encoding it was read in.*for example --encoding {named};"
    ):
        read(path, RowErrors(allow_bad=float("inf")))
