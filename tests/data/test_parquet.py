"""Text read from parquet files: in order, streamed, and faults named."""

import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.data.parquet import CorpusCounts, iter_texts, list_parquet
from chatling.errors import DataError


def test_documents_come_in_order_and_empty_ones_are_counted(write_texts):
    files = [
        write_texts("a.parquet", ["one", "", None, "two", " \n", "three", "four"]),
        write_texts("b.parquet", ["fünf 五"]),
    ]
    counts = CorpusCounts()
    assert list(iter_texts(files, counts=counts)) == ["one", "two", "three", "four", "fünf 五"]
    assert counts == CorpusCounts(documents=5, characters=3 + 3 + 5 + 4 + 6, empty=3, invalid=0)


@pytest.mark.parametrize("kind", ["binary", "string"])
def test_invalid_utf8_is_replaced_and_counted(write_texts, kind):
    raw = pa.array(
        [b"good", b"bad \xff\xfe here", "五".encode(), b"cut \xe4\xba", None], pa.binary()
    )
    values = (
        raw if kind == "binary" else pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    )  # a string column that lies
    counts = CorpusCounts()
    texts = list(iter_texts([write_texts("a.parquet", values)], counts=counts))
    assert texts == ["good", "bad \ufffd\ufffd here", "五", "cut \ufffd"]
    assert (counts.invalid, counts.empty, counts.documents) == (2, 1, 4)


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.string_view(),
    ],
)
def test_other_kinds_of_text_columns_are_read(write_texts, kind):
    assert list(
        iter_texts([write_texts("a.parquet", pa.array(["a", "b", "a"], pa.string()).cast(kind))])
    ) == ["a", "b", "a"]


def test_a_file_is_streamed_not_loaded(tmp_path):
    """All documents before a damaged row group come, then one sentence that names the file."""
    path, expected = tmp_path / "a.parquet", [f"document {i}" for i in range(4096)]
    pq.write_table(pa.table({"text": expected}), path, row_group_size=1024, use_dictionary=False)
    begin = pq.ParquetFile(path).metadata.row_group(3).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[begin : begin + 1000] = b"\xff" * 1000
    path.write_bytes(data)
    texts = iter_texts([path])
    assert list(itertools.islice(texts, 3072)) == expected[:3072]
    with pytest.raises(DataError, match=r"a\.parquet is not a readable parquet file"):
        next(texts)


def test_bad_files_are_named_in_one_sentence(write_texts, tmp_path):
    text = tmp_path / "notes.parquet"
    text.write_text("this is no parquet file")
    with pytest.raises(DataError, match=r"notes\.parquet is not a readable parquet file"):
        list(iter_texts([text]))
    with pytest.raises(DataError, match=r"gone\.parquet does not exist"):
        list(iter_texts([tmp_path / "gone.parquet"]))
    with pytest.raises(DataError, match=r"no column 'text'; it has body"):
        list(iter_texts([write_texts("a.parquet", ["x"], column="body")]))
    with pytest.raises(DataError, match="holds int64, not text"):
        list(iter_texts([write_texts("b.parquet", [1, 2])]))
    cut = write_texts("cut.parquet", ["some text"] * 50)
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cut\.parquet is not a readable"):
        list(iter_texts([cut]))


def test_the_last_file_is_for_validation(write_texts, tmp_path):
    files = [write_texts(f"shard_{i:05d}.parquet", ["text"]) for i in range(3)]
    assert list_parquet(files[0].parent) == (files[:2], files[2:])
    with pytest.raises(DataError, match="holds 0 parquet files"):
        list_parquet(tmp_path)
    with pytest.raises(DataError, match="holds 0 parquet files"):
        list_parquet(tmp_path / "nowhere")
