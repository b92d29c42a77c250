"""Files of every kind, as they lie on people's disks: the same rows whatever the format, packing and encoding; damage named."""

import gzip
import json

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.reading import DOCUMENT_CHARACTERS, Ledger, find_files, iter_rows
from chatling.errors import DataError

TEXTS = ["Es war einmal …", "从前有一座山，\n山里有座庙。", 'She said "no, never", and left.', "x" * 3000, " 3,14; 2\t7 | 5 "]
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


def read(path, ledger=None, **options):
    return list(iter_rows(path, ledger or Ledger(), **options))


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
    body = {"txt": text, "jsonl": json.dumps({"text": text}, ensure_ascii=False) + "\n", "csv": f"text\n{text}\n"}[kind]
    path.write_bytes(body.encode(encoding))
    assert read(path, encoding="gb18030" if encoding == "gb18030" else None) == [text if kind == "txt" else {"text": text}]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_the_wrong_encoding_is_refused_and_a_few_bad_bytes_are_replaced(kind, tmp_path):
    wrapped = {"txt": "{}", "jsonl": '{{"text": "{}"}}\n', "csv": "text\n{}\n"}[kind]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(wrapped.format("床前明月光，疑是地上霜。" * 9).encode("gb18030"))
    with pytest.raises(DataError, match="--encoding gb18030"):
        read(path)
    path.write_bytes(wrapped.format("good " * 100 + "?").encode().replace(b"?", b"\xff"))
    text = "good " * 100 + "\ufffd"
    assert read(path) == [text if kind == "txt" else {"text": text}]


def test_an_unknown_encoding_is_named(tmp_path):
    with pytest.raises(DataError, match="no encoding 'utf-9'"):
        read(write(tmp_path / "a.csv"), encoding="utf-9")


@pytest.mark.parametrize("damage", [b"", b"not at all what it says it is"])
@pytest.mark.parametrize("name", ["a.parquet", "a.txt.gz", "a.jsonl.zst", "a.parquet.gz"])
def test_a_file_that_is_not_what_it_says_is_named(name, damage, tmp_path):
    (tmp_path / name).write_bytes(damage)
    if not damage and name != "a.parquet" and not name.startswith("a.parquet"):
        assert read(tmp_path / name) == []  # an empty file is an empty stream
        return
    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.zst", "a.parquet", "a.parquet.zst", "a.json"])
def test_half_a_file_is_no_file(name, tmp_path):
    path = write(tmp_path / name, ROWS * 200)
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(DataError, match=name):
        read(path)


def test_bad_lines_are_counted_shown_and_skipped(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(row) for row in ROWS * 200]
    lines[3:3] = ["{", "", "[1, 2]", "  "]
    path.write_text("\n".join(lines))
    ledger = Ledger()
    assert read(path, ledger) == ROWS * 200
    assert (ledger.bad, ledger.rows) == (2, 1002)
    assert ledger.examples[0].startswith(f"{path} line 4: not JSON")
    assert ledger.examples[1].startswith(f"{path} line 6: a list")


@pytest.mark.parametrize(("bad", "allowed", "refused"), [(10, 0.01, False), (25, 0.01, True), (25, 0.03, False)])
def test_above_the_limit_bad_lines_are_refused(bad, allowed, refused, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps(row) for row in ROWS * 200] + ["oops"] * bad))
    if refused:
        with pytest.raises(DataError, match=r"first is .*line 1001: not JSON.*--allow-bad"):
            read(path, Ledger(allowed))
    else:
        assert len(read(path, Ledger(allowed))) == 1000


def test_a_csv_row_of_too_many_values_is_skipped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,one\n2,two,three\n3,four\n")
    ledger = Ledger()
    assert [row["text"] for row in read(path, ledger)] == ["one", "four"]
    assert ledger.bad == 1
    assert "3 values under a header of 2" in ledger.examples[0]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_found(delimiter, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f'id{delimiter}text\n1{delimiter}"a{delimiter} b\nc"\n')
    assert read(path) == [{"id": "1", "text": f"a{delimiter} b\nc"}]


paragraphs = st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60), max_size=12)


@settings(max_examples=30, deadline=None)
@given(paragraphs, st.integers(1, 400))
def test_a_long_text_is_cut_and_nothing_is_lost(tmp_path_factory, lines, repeats):
    path = tmp_path_factory.mktemp("cut") / "a.txt"
    text = "\n\n".join(lines * repeats).strip("\n")
    path.write_text(text, encoding="utf-8")
    pieces = read(path)
    assert "".join(pieces).replace("\n", "") == text.replace("\n", "")
    assert all(len(piece) <= DOCUMENT_CHARACTERS for piece in pieces)
    if text:
        assert len(pieces) <= 1 + 2 * len(text) // DOCUMENT_CHARACTERS


def test_cuts_are_at_paragraphs(tmp_path):
    (tmp_path / "a.txt").write_text("\r\n\r\n".join(f"Paragraph {i} " + "word " * 50 + "end" for i in range(100)), newline="")
    pieces = read(tmp_path / "a.txt")
    assert len(pieces) == 3
    assert all(piece.startswith("Paragraph") and piece.endswith("end") and "\r" not in piece for piece in pieces)


def test_folders_are_walked_in_order(tmp_path):
    for name in ("b/2.txt", "b/1.md", "a.jsonl.gz", ".git/x.txt", "README.md", "LICENSE.txt", "photo.jpg", "import.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    found = find_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == ["a.jsonl.gz", "b/1.md", "b/2.txt"]
    assert found.passed == {"README.md": 1, "LICENSE.txt": 1, ".jpg": 1, "import.json": 1}


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no text.*\.jsonl"):
        find_files(tmp_path)
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(DataError, match="kind that is not known"):
        find_files(tmp_path / "a.docx")
