"""`chatling data import` and `inspect` as people call them."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.cli import main
from chatling.commands.data import hub_files
from chatling.data.parquet import iter_texts, list_parquet
from chatling.data.shard_writer import write_token_shards
from chatling.errors import DataError
from chatling.run_dir import RunFolder, home
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from mirror import Mirror

TEXTS = [
    f"The story of the number {i}: once it was {i - 1}, and then one came along." for i in range(60)
]


@pytest.fixture(autouse=True)
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "tales.v2.jsonl"
    path.write_text(
        "".join(json.dumps({"title": "t", "story": text}) + "\n" for text in TEXTS) + "oops\n"
    )
    return path


def test_import_then_inspect(corpus: Path, house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "import", str(corpus)]) == 0
    shown = capsys.readouterr().out
    folder = house / "data" / "tales"
    assert (
        f"60 documents, {sum(map(len, TEXTS)):,} characters, from 1 file, column 'story': 58 to"
        " train on, 2 for validation." in shown
    )
    assert f"Skipped: 1 rows that could not be used.\n  {corpus} line 61: not JSON" in shown
    assert f"chatling run folder --data.source {folder} --run tales" in shown
    train, validation = list_parquet(folder)
    assert sorted(iter_texts([*train, *validation])) == sorted(TEXTS)
    assert main(["data", "inspect", "tales"]) == 0
    shown = capsys.readouterr().out
    assert "documents        60" in shown
    assert "Nothing looks wrong." in shown
    assert main(["data", "inspect", str(corpus), "--column", "title"]) == 0
    shown = capsys.readouterr().out
    assert "Most documents are single words" in shown
    assert "1 of 61 rows cannot be used" in shown


def test_what_of_a_folder_is_not_read_is_said(
    corpus: Path, house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus.parent
    for name in (".notes.txt", "picture.jpg", *(f"{i}.{i}" for i in range(12))):
        (folder / name).write_text("x")
    (folder / os.fsdecode(b"\xff.txt")).symlink_to("nowhere")
    for words in (["import", str(folder), "--to", str(folder / "mine")], ["inspect", str(folder)]):
        assert main(["data", *words]) == 0
        said = capsys.readouterr().out
        assert "1 link to nothing (" in said
        assert "1 hidden" in said
        assert " others." in said
    assert main(["data", "import", str(folder), "--to", str(folder / "again")]) == 0
    assert "folder of an earlier import (mine)" in capsys.readouterr().out


def test_tokens_are_those_of_a_run(
    corpus: Path, house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = train_tokenizer(iter(TEXTS), TokenizerConfig(vocab_size=300))
    run = RunFolder(house / "runs" / "mine")
    run.write_state({"stages": {}, "execution": {}})
    tokenizer.save(run.tokenizer)
    tokens = sum(len(tokenizer.encode(text)) for text in TEXTS)
    assert main(["data", "inspect", str(corpus), "--run", "mine"]) == 0
    assert f"tokens           {tokens:,}" in capsys.readouterr().out
    main(["data", "import", str(corpus), "--to", str(house / "shards")])
    write_token_shards(run.data / "base-train", list_parquet(house / "shards")[0], tokenizer)
    capsys.readouterr()
    assert main(["data", "inspect", str(run.data / "base-train")]) == 0
    assert "documents        58" in capsys.readouterr().out


def test_test_questions_of_the_cache_are_looked_for(
    corpus: Path, house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = house / "cache" / "openai" / "gsm8k" / "main"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"question": [TEXTS[7]]}), folder / "test-00000-of-00001.parquet")
    assert main(["data", "inspect", str(corpus)]) == 0
    assert (
        "1 of 1 of gsm8k share 13 words in a row with 1 documents"
        in capsys.readouterr().out.replace("\n", " ")
    )


def test_a_data_set_of_the_hub(
    house: Path, mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", mirror.url)
    for split, texts in (("train", TEXTS), ("test", ["never"])):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": texts}), sink)
        mirror.add(
            "someone/tales", f"data/{split}-00000-of-00001.parquet", sink.getvalue().to_pybytes()
        )
    mirror.add("someone/tales", "README.md", b"# Tales")
    assert main(["data", "import", "someone/tales"]) == 0
    assert "60 documents" in capsys.readouterr().out
    train, validation = list_parquet(house / "data" / "tales")
    assert sorted(iter_texts([*train, *validation])) == sorted(TEXTS)
    assert main(["data", "import", "someone/nothing"]) == 1
    assert "someone/nothing" in capsys.readouterr().err


def test_which_files_of_the_hub() -> None:
    names = [
        "README.md",
        "data/test.parquet",
        "data/train-0.parquet",
        "data/train-1.parquet",
        "raw/all.jsonl.zst",
    ]
    assert hub_files("a/b", names, None) == ["data/train-0.parquet", "data/train-1.parquet"]
    assert hub_files("a/b", names, "raw/*") == ["raw/all.jsonl.zst"]
    assert hub_files("a/b", ["x.csv", "y.txt", "README.md"], None) == ["x.csv", "y.txt"]
    with pytest.raises(DataError, match="no files to import that match"):
        hub_files("a/b", names, "*.csv")


BAD = [
    (["data", "inpsect"], 2, "Did you mean 'inspect'?"),
    (["data", "import"], 2, "required"),
    (["data", "import", "/nowhere"], 1, "no file or folder /nowhere"),
    (["data", "import", "/nowhere", "--allow-bad", "1.5"], 2, "--allow-bad"),
    (["data", "inspect", "{corpus}", "--run", "none"], 1, "There is no run"),
    (["data", "inspect", "{corpus}", "--column", "txt"], 1, "it has title, story"),
    (["data", "inspect", "{corpus}", "--against", "{folder}"], 1, "no test sets"),
    (["data", "import", "{corpus}", "--encoding", "utf-77"], 1, "no encoding"),
    (["data", "import", "{corpus}", "--to", "{folder}"], 1, "not written by an import"),
]


@pytest.mark.parametrize(("words", "code", "said"), BAD)
def test_bad_input_is_one_sentence(
    words: list[str], code: int, said: str, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(corpus=corpus, folder=corpus.parent) for word in words]
    assert main(words) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.startswith("chatling: ")
    assert shown.count("\n") == 1


def test_help_of_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["data"],
        ["data", "--help"],
        ["data", "import", "--help"],
        ["data", "inspect", "--help"],
    ):
        assert main(words) == 0
        assert "usage: chatling data" in capsys.readouterr().out


def test_fetch_brings_files_of_a_data_set(
    mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("data/train-0.parquet", "data/test-0.parquet", "README.md"):
        mirror.add("some/data", name, name.encode())
    assert main(["data", "fetch", "some/data", "--files", "data/*"]) == 0
    folder = home() / "cache/some/data"
    assert capsys.readouterr().out.endswith(f"2 files of some/data are in {folder}.\n")
    assert (folder / "data/train-0.parquet").read_bytes() == b"data/train-0.parquet"
    assert main(["data", "fetch", "some/data", "--files", "*.csv"]) == 1
    assert (
        "some/data has no files that match *.csv; it has README.md, data/test-0.parquet"
        in capsys.readouterr().err
    )
    assert main(["data", "fetch", "some/data", "--model.depth", "4"]) == 2
    assert main(["data", "fetch", "no/such"]) == 1
    assert "There is no data set no/such, or it is private" in capsys.readouterr().err


def test_fetch_brings_all_that_a_recipe_needs(
    mirror: Mirror, data_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.add_pack(data_pack)
    local = tmp_path / "own"
    local.mkdir()
    (local / "words_alpha.txt").symlink_to(data_pack / "words/words_alpha.txt")
    words = [
        "data",
        "fetch",
        "spark",
        "--data.shards",
        "3",
        "--data.local",
        str(local),
        "--eval.core",
        "none",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.endswith(
        "All that spark needs is here; `chatling run spark` asks the network for nothing more.\n"
    )
    shards = [f"shard_{i:05d}.parquet" for i in (0, 1, 2, 5)]  # the last one is for validation
    assert (
        sorted(path.name for path in (home() / "cache/karpathy/fineweb-edu-100b-shuffle").iterdir())
        == shards
    )
    assert set(mirror.downloads()) >= {
        "all/auxiliary_train-00000-of-00001.parquet",
        "main/test.jsonl",
        "data/test-00000-of-00001.parquet",
    }
    assert {"openai_humaneval/test.jsonl.gz", "ARC-Easy/test-00000-of-00001.parquet"} < set(
        mirror.downloads()
    )  # to evaluate on
    mirror.close()
    assert main(["data", "fetch", "folder"]) == 0  # nothing to fetch
    assert main(words) == 0  # a dead network with a full cache is no error
    assert main(["data", "fetch", "sparc"]) == 2
    assert "Did you mean 'spark'?" in capsys.readouterr().err
