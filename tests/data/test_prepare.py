"""Imports: every document that is text arrives once, in the shards that training reads; what is
dropped is counted; all or nothing.
"""

import errno
import json
import os
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.cli import main
from chatling.data import prepare
from chatling.data.columns import plan_file
from chatling.data.parquet import iter_texts, list_parquet
from chatling.data.prepare import CONVERSATIONS, import_data
from chatling.data.readers import find_files
from chatling.errors import DataError, MachineError
from chatling.messages import Conversation
from chatling.run_dir import manifest_fault
from chatling.tasks.custom import JsonlConversations


def jsonl(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bring(path, target, **options):
    return import_data(find_files(path), target, source=str(path), **options)


def texts_of(folder):
    return tuple(list(iter_texts(files)) for files in list_parquet(folder))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=30),
    st.integers(0, 9),
)
def test_every_document_arrives_once_and_copies_stay_together(tmp_path_factory, texts, repeats):
    folder = tmp_path_factory.mktemp("in")
    texts = [*texts, "one", "two", *texts[:repeats]]
    jsonl(folder / "a.jsonl", [{"text": text} for text in texts])
    counts = bring(folder, folder / "out")
    train, validation = texts_of(folder / "out")
    kept = [text for text in texts if text.strip()]
    assert Counter(train + validation) == Counter(kept)
    assert not set(train) & set(validation)
    assert (counts.documents, counts.validation, counts.empty) == (
        len(kept),
        len(validation),
        len(texts) - len(kept),
    )
    assert counts.characters == sum(map(len, kept))


def test_a_large_corpus_is_spread_over_shards_and_split_by_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SHARD_BYTES", 50_000)
    rows = [{"text": f"document {i} " + "words " * 10} for i in range(5000)]
    first = bring(jsonl(tmp_path / "a.jsonl", rows), tmp_path / "out")
    train, _ = list_parquet(tmp_path / "out")
    assert len(train) == 9  # of 455 KB
    sizes = [pq.read_metadata(file).num_rows for file in train]
    assert min(sizes) > 500
    assert 60 < first.validation < 150  # 2 % of 5,000
    _, held_out = texts_of(tmp_path / "out")
    bring(
        jsonl(tmp_path / "b.jsonl", rows[::-1] + [{"text": f"more {i}"} for i in range(500)]),
        tmp_path / "later",
    )
    _, later = texts_of(tmp_path / "later")
    assert {text for text in later if text.startswith("document")} == set(
        held_out
    )  # order and company do not matter


def test_junk_is_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "LONGEST", 10_000)
    long_chinese = "山" * 5000  # no spaces, and yet text
    rows = [
        "good one",
        "good two",
        long_chinese,
        " ",
        "",
        None,
        "word " * 3000,
        "see " + "iVBORw0KGgo" * 300,
        "bad \ud800 half",
    ]
    counts = bring(jsonl(tmp_path / "a.jsonl", [{"text": text} for text in rows]), tmp_path / "out")
    assert (counts.empty, counts.long, counts.blobs, counts.unreadable, counts.documents) == (
        3,
        1,
        1,
        1,
        4,
    )
    train, validation = texts_of(tmp_path / "out")
    assert set(train + validation) == {"good one", "good two", long_chinese, "bad \ufffd half"}


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"text": "short", "summary": "a much longer text than the other"}, "text"),
        ({"标题": "山", "正文": "从前有座山"}, "正文"),
        (
            {"url": "http://a.b/c", "story": "Once upon a time there was a king.", "likes": 3},
            "story",
        ),
        ({"text": None, "note": "all of it is here"}, "note"),
    ],
)
def test_the_column_of_the_text_is_found(row, column, tmp_path):
    plan = plan_file(jsonl(tmp_path / "a.jsonl", [row] * 3))
    assert (plan.kind, plan.column) == ("text", column)


def test_a_named_column_decides(tmp_path):
    path = jsonl(
        tmp_path / "a.jsonl",
        [
            {
                "text": "some text",
                "messages": Conversation.of("Hi", "Ho").to_dict()["messages"],
                "n": 1,
            }
        ]
        * 3,
    )
    assert plan_file(path).kind == "conversations"
    assert plan_file(path, "text").kind == "text"
    assert plan_file(path, "messages").kind == "conversations"
    with pytest.raises(DataError, match=r"no column 'txt'; it has text, messages, n\."):
        plan_file(path, "txt")
    with pytest.raises(DataError, match="holds a number, not a text"):
        plan_file(path, "n")
    with pytest.raises(
        DataError, match=r"no column that holds text in most of its rows; it has n \(a number\)"
    ):
        plan_file(jsonl(tmp_path / "b.jsonl", [{"n": 1}]))


def shapes(i):
    """The same talk in the three shapes."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"question {i}"},
                {"role": "assistant", "content": f"answer {i}"},
            ]
        },
        {
            "conversations": [
                {"from": "human", "value": f"question {i}"},
                {"from": "gpt", "value": f"answer {i}"},
            ]
        },
        {"instruction": f"question {i}", "input": "", "output": f"answer {i}"},
    ]


@pytest.mark.parametrize("shape", [0, 1, 2])
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_conversations_become_what_a_mixture_reads(kind, shape, tmp_path):
    rows, path = [shapes(i)[shape] for i in range(150)], tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    else:
        jsonl(path, rows)
    counts = bring(path, tmp_path / "out")
    assert (counts.kind, counts.documents, counts.validation) == ("conversations", 150, 3)
    train, validation = (
        JsonlConversations(tmp_path / "out" / CONVERSATIONS, split)
        for split in ("train", "validation")
    )
    assert (len(train), len(validation)) == (147, 3)
    assert sorted(talk.messages[0].text for talk in (*train, *validation)) == sorted(
        f"question {i}" for i in range(150)
    )
    assert all(
        talk.messages[1].text == talk.messages[0].text.replace("question", "answer")
        for talk in train
    )
    backwards = tmp_path / "b.jsonl"
    bring(jsonl(backwards, [shapes(i)[shape] for i in reversed(range(150))]), tmp_path / "other")
    again = JsonlConversations(tmp_path / "other" / CONVERSATIONS, "validation")
    assert set(again) == set(validation)  # by hash, not by place


def test_the_real_conversations_come_through(data_pack, tmp_path):
    counts = bring(data_pack / "sft" / "test.parquet", tmp_path / "out")
    assert (counts.kind, counts.documents, counts.bad) == ("conversations", 1000, 0)
    rows = (
        pq.read_table(data_pack / "sft" / "test.parquet", columns=["messages"])
        .column(0)
        .to_pylist()
    )
    expected = {Conversation.from_dict({"messages": messages}) for messages in rows}
    train, validation = (
        JsonlConversations(tmp_path / "out" / CONVERSATIONS, split)
        for split in ("train", "validation")
    )
    assert {*train, *validation} == expected


def test_the_real_texts_come_through(data_pack, tmp_path):
    counts = bring(data_pack / "pretrain_zh", tmp_path / "zh")
    train, validation = list_parquet(data_pack / "pretrain_zh")
    ours = texts_of(tmp_path / "zh")
    assert sorted(ours[0] + ours[1]) == sorted(iter_texts([*train, *validation]))
    assert (counts.documents, counts.validation) == (860, 18)
    counts = bring(data_pack / "small_text", tmp_path / "en")
    assert counts.files == 3  # plain and gzipped
    assert counts.characters > 3_400_000
    assert manifest_fault(tmp_path / "en") is None


def test_bad_conversations_are_counted_and_above_the_limit_refused(tmp_path):
    bad = [{"messages": [{"role": "user", "content": "a"}, {"role": "wizard", "content": "b"}]}]
    path = jsonl(tmp_path / "a.jsonl", [shapes(i)[0] for i in range(300)] + bad * 12)
    counts = bring(path, tmp_path / "out")
    assert (counts.documents, counts.bad) == (300, 12)
    assert counts.examples[0].endswith(
        "line 301: a turn is from 'wizard'; known are user, assistant, system and their usual other"
        " names"
    )
    jsonl(path, [shapes(i)[0] for i in range(30)] + bad * 12)
    with pytest.raises(DataError, match="11 of the first 41 rows"):
        bring(path, tmp_path / "out")
    assert bring(path, tmp_path / "out", allow_bad=0.5).documents == 30


@pytest.mark.parametrize("trouble", ["broken", "single", "mixed", "empty"])
def test_nothing_is_half_written_and_what_was_there_stays(trouble, tmp_path):
    folder = tmp_path / "in"
    jsonl(folder / "a.jsonl", [{"text": f"text {i}"} for i in range(3000)])
    bring(folder, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    if trouble == "broken":
        (folder / "b.parquet").write_bytes(b"PAR1 but not really")
    elif trouble == "single":
        jsonl(folder / "a.jsonl", [{"text": "the same"}] * 10)
    elif trouble == "mixed":
        jsonl(folder / "b.jsonl", [shapes(1)[0]])
    else:
        (folder / "a.jsonl").write_text("\n")
    said = {
        "broken": "b.parquet",
        "single": "at least two",
        "mixed": "one by one",
        "empty": "holds nothing",
    }[trouble]
    with pytest.raises(DataError, match=said):
        bring(folder, tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_failure_midway_leaves_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(3000)) + "{\n" * 100
    )
    left = (
        tmp_path / ".out.999999999.tmp"
    )  # of an import that was killed; no process has this number
    left.mkdir()
    with pytest.raises(DataError, match="--allow-bad"):
        bring(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


def test_folders_of_others_and_full_disks_are_left_alone(tmp_path, monkeypatch):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b"}])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="not written by an import"):
        bring(path, tmp_path / "out")
    monkeypatch.setattr(prepare, "free_bytes", lambda path: 3)
    with pytest.raises(MachineError, match="GB are free"):
        bring(path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_source_of_the_same_name_is_refused_and_the_same_one_replaces_its_import(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    one = jsonl(tmp_path / "one" / "talks.jsonl", [{"text": f"text {i}"} for i in range(9)])
    two = jsonl(tmp_path / "two" / "talks.jsonl", [shapes(i)[0] for i in range(9)])
    folder = tmp_path / "home" / "data" / "talks"
    assert main(["data", "import", str(one)]) == 0
    before = sorted(path.name for path in folder.iterdir())
    assert main(["data", "import", str(two)]) == 1
    shown = capsys.readouterr().err
    assert (
        f"{folder} holds the import of {one}, which {two} would replace. Choose another folder with"
        " --to" in shown
    )
    assert sorted(path.name for path in folder.iterdir()) == before
    monkeypatch.chdir(one.parent)
    assert main(["data", "import", "talks.jsonl"]) == 0  # the same file by another name
    assert "replaced the earlier import of the same source" in capsys.readouterr().out
    monkeypatch.chdir(two.parent)
    assert main(["data", "import", "talks.jsonl"]) == 1  # another file by the same name
    assert main(["data", "import", "talks.jsonl", "--to", str(tmp_path / "other")]) == 0
    assert "replaced" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "place",
    [
        "file",
        "file/below",
        "file/below/that",
        "n" * 300,
        "loop",
        "loop/below",
        "/proc/1/nowhere/below",
    ],
)
def test_where_nothing_can_be_written_is_one_sentence(place, tmp_path, monkeypatch, capsys):
    source = jsonl(tmp_path / "a.jsonl", [{"text": f"text {i}"} for i in range(9)])
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    for words, home in ((["--to", str(tmp_path / place)], "home"), ([], place)):
        monkeypatch.setenv("CHATLING_HOME", str(tmp_path / home))
        assert main(["data", "import", str(source), *words]) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("chatling: ")
        assert shown.count("\n") == 1
        assert "--to" in shown


@pytest.mark.parametrize(
    "code",
    [
        errno.EACCES,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ENAMETOOLONG,
        errno.EPERM,
    ],
)
def test_a_refusal_in_the_midst_of_writing_is_one_sentence(code, tmp_path, monkeypatch, capsys):
    source = jsonl(tmp_path / "a.jsonl", [{"text": f"text {i}"} for i in range(9)])

    def fail(*args):
        raise OSError(code, os.strerror(code), "somewhere")

    monkeypatch.setattr(prepare, "_write_texts", fail)
    assert main(["data", "import", str(source), "--to", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert str(tmp_path / "out") in shown
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_name_that_is_no_unicode_is_imported_and_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    source = jsonl(
        tmp_path / os.fsdecode(b"na\xffme.jsonl"), [{"text": f"text {i}"} for i in range(9)]
    )
    for _ in range(2):
        assert main(["data", "import", str(source)]) == 0
    assert "replaced the earlier import" in capsys.readouterr().out
    assert (tmp_path / "home" / "data" / "na_me" / "import.json").exists()


def test_a_name_too_long_to_look_up_is_one_sentence(capsys):
    for words in (
        ["data", "import", "n" * 300],
        ["data", "inspect", "n" * 300],
        ["status", "n" * 300],
        ["report", "n" * 300],
    ):
        assert main(words) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("chatling: ")
        assert shown.count("\n") == 1
