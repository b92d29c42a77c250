"""The tokenizer's evaluation: counts that can be checked by hand, peers that may be missing,
quickly and quietly.
"""

import json
import math
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from chatling.data.shard_writer import write_token_shards
from chatling.evals import tokenizer as evaluation
from chatling.evals.tokenizer import (
    KINDS,
    OURS,
    Row,
    draw_tokenizer,
    evaluate_tokenizer,
    evaluation_texts,
    load_peers,
)
from chatling.run_dir import RunFolder
from chatling.terminal.tokenizer import show_tokenizer
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

TEXT = ["the cat sat on the mat and the other cat sat on the other mat " * 5, "Äpfel, 山"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter(TEXT * 3), TokenizerConfig(vocab_size=280))


class Words:
    """A tokenizer of white space, with a vocabulary of 1,024."""

    n_vocab = 1024

    def encode_ordinary_batch(self, texts: list[str]) -> list[list[int]]:
        return [[0] * len(text.split()) for text in texts]


def test_counts_can_be_checked_by_hand(tokenizer: Tokenizer) -> None:
    report = evaluate_tokenizer(
        tokenizer, {"a": ["to be or not", "to be"], "nothing": [""]}, {"words": Words()}, "a note"
    )
    assert report.texts == ("a",)
    assert report.tokenizers == (OURS, "words")
    row = report.row("a", "words")
    assert (row.bytes, row.tokens, row.vocab_size) == (17, 6, 1024)
    assert row.bytes_per_token == pytest.approx(17 / 6)
    assert row.bound == pytest.approx(10 * 6 / 17)
    ours = report.row("a")
    assert ours.tokens == sum(len(tokenizer.encode(text)) for text in ("to be or not", "to be"))
    assert ours.bound == pytest.approx(math.log2(280) * ours.tokens / 17)
    assert report.difference("a", "words") == pytest.approx(ours.tokens / 6 - 1)


def test_the_bound_is_the_loss_of_a_model_that_knows_nothing(tokenizer: Tokenizer) -> None:
    row = evaluate_tokenizer(tokenizer, {"a": TEXT}).row("a")
    nats = math.log(tokenizer.vocab_size) * row.tokens  # each token as likely as any other
    assert row.bound == pytest.approx(nats / math.log(2) / row.bytes)


def test_texts_of_our_own_and_of_the_run(tokenizer: Tokenizer, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = RunFolder(tmp_path / "run")
    texts = evaluation_texts(run, tokenizer)
    assert tuple(texts) == KINDS
    assert all(1500 < len(text[0].encode()) < 10_000 for text in texts.values())
    assert sum("가" <= c <= "힣" for c in texts["korean"][0]) > 500
    for split, rows in (("train", TEXT), ("validation", TEXT[:1])):
        pq.write_table(pa.table({"text": rows}), tmp_path / f"{split}.parquet")
        write_token_shards(run.data / f"base-{split}", [tmp_path / f"{split}.parquet"], tokenizer)
    texts = evaluation_texts(run, tokenizer)
    assert tuple(texts) == (*KINDS, "train", "validation")
    assert (texts["train"], texts["validation"]) == (TEXT, TEXT[:1])


def test_no_more_of_a_run_than_is_needed(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(evaluation, "RUN_CHARACTERS", 100)
    pq.write_table(pa.table({"text": ["x" * 60] * 10}), tmp_path / "a.parquet")
    run = RunFolder(tmp_path / "run")
    write_token_shards(run.data / "base-train", [tmp_path / "a.parquet"], tokenizer)
    assert evaluation_texts(run, tokenizer)["train"] == ["x" * 60] * 2


def test_peers_come_from_tiktoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: SimpleNamespace(name=name))
    peers, note = load_peers()
    assert {label: peer.name for label, peer in peers.items()} == {
        "GPT-2": "gpt2",
        "GPT-4": "cl100k_base",
    }
    assert note is None


def test_without_a_network_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("tiktoken.get_encoding", fail)
    peers, note = load_peers()
    assert peers == {}
    assert (
        note
        == "Left out GPT-2 and GPT-4: their tokenizers could not be fetched (ConnectionError); with"
        " a network, they come along."
    )
    assert capsys.readouterr() == ("", "")


def test_a_silent_network_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(name: str) -> SimpleNamespace:
        if name == "cl100k_base":
            time.sleep(30)
        return SimpleNamespace(name=name)

    monkeypatch.setattr("tiktoken.get_encoding", half)
    monkeypatch.setattr(evaluation, "PEERS_HOST", "http://127.0.0.1:9")  # nothing listens there
    began = time.monotonic()
    peers, note = load_peers(quick=0.2)
    assert time.monotonic() - began < 5
    assert list(peers) == ["GPT-2"]
    assert note is not None
    assert note.startswith("Left out GPT-4")


def test_a_slow_network_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(name: str) -> SimpleNamespace:
        time.sleep(0.3)
        return SimpleNamespace(name=name)

    monkeypatch.setattr("tiktoken.get_encoding", slow)
    monkeypatch.setattr(evaluation, "_answers", lambda seconds: True)
    peers, note = load_peers(quick=0.05, patient=20)
    assert len(peers) == 2
    assert note is None


def test_a_run_gets_its_files(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "load_peers", lambda: ({"words": Words()}, "a note"))
    run = RunFolder(tmp_path / "run")
    tokenizer.save(run.tokenizer)
    report = evaluation.evaluate_run(run)
    assert report.texts == KINDS
    assert json.loads((run.evals / "tokenizer.json").read_text()) == json.loads(
        json.dumps(report.to_dict())
    )
    assert (run.evals / "tokenizer.png").read_bytes().startswith(b"\x89PNG")


def test_table_json_and_picture(tokenizer: Tokenizer, tmp_path: Path) -> None:
    report = evaluate_tokenizer(
        tokenizer, {"cats": TEXT[:1], "other": TEXT[1:]}, {"GPT-0": Words()}, "Left out the rest."
    )
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    show_tokenizer(report, console)
    shown = console.export_text()
    assert f"{report.difference('cats', 'GPT-0'):+.1%}" in shown
    assert f"{report.row('other').bytes_per_token:.2f}" in shown
    assert "Left out the rest." in shown
    read = json.loads(json.dumps(report.to_dict()))
    fields = ("text", "tokenizer", "vocab_size", "bytes", "tokens")
    assert [Row(**{key: row[key] for key in fields}) for row in read["results"]] == [*report.rows]
    assert read["differences"]["GPT-0"]["cats"] == report.difference("cats", "GPT-0")
    figure = draw_tokenizer(report)
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["cats", "other"]
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [
        report.row(text, name).bytes_per_token
        for name in report.tokenizers
        for text in report.texts
    ]
    figure.savefig(tmp_path / "tokenizer.png")
    assert (tmp_path / "tokenizer.png").stat().st_size > 5000
