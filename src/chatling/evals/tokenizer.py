"""How a run's tokenizer compresses text of several kinds, beside GPT-2's and GPT-4's."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING, Any

from chatling.data.shard_files import CORPUS
from chatling.data.token_shards import TokenShards
from chatling.run_dir import RunFolder, write_atomic, write_json
from chatling.tokenizer.bpe import Tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from tiktoken import Encoding

KINDS = ("news", "korean", "code", "maths", "science")  # texts of our own, a few KB each
RUN_CHARACTERS = 1_000_000  # of a run's training and validation text each
OURS = "this run"
PEERS = {"GPT-2": "gpt2", "GPT-4": "cl100k_base"}  # label -> tiktoken's name
PEERS_HOST = "https://openaipublic.blob.core.windows.net"  # where tiktoken fetches its ranks
QUICK_SECONDS, PATIENT_SECONDS = 3.0, 60.0


@dataclass(frozen=True)
class Row:
    """What one tokenizer made of one text."""

    text: str
    tokenizer: str
    vocab_size: int  # V, special tokens included
    bytes: int  # of UTF-8
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens if self.tokens else math.nan

    @property
    def bound(self) -> float:
        """Bits per byte of a model that finds all V tokens equally likely: log2(V) · tokens /
        bytes. Where training starts.
        """
        return math.log2(self.vocab_size) * self.tokens / self.bytes if self.bytes else math.nan


@dataclass(frozen=True)
class TokenizerReport:
    """Rows by text and tokenizer, this run's first; `note` says why others are missing."""

    rows: tuple[Row, ...]
    note: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.text for row in self.rows))

    @property
    def tokenizers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.tokenizer for row in self.rows))

    def row(self, text: str, tokenizer: str = OURS) -> Row:
        return next(row for row in self.rows if (row.text, row.tokenizer) == (text, tokenizer))

    def difference(self, text: str, other: str) -> float:
        """How many more tokens this run's tokenizer needs than another's, as a share of the
        other's: -0.1 is a tenth fewer.
        """
        return self.row(text).tokens / self.row(text, other).tokens - 1

    def to_dict(self) -> dict[str, Any]:
        """What `evals/tokenizer.json` holds."""
        rows = [
            asdict(row) | {"bytes_per_token": row.bytes_per_token, "bound": row.bound}
            for row in self.rows
        ]
        differences = {
            other: {text: self.difference(text, other) for text in self.texts}
            for other in self.tokenizers[1:]
        }
        return {"eval": "tokenizer", "results": rows, "differences": differences, "note": self.note}


def evaluate_tokenizer(
    tokenizer: Tokenizer,
    texts: Mapping[str, Sequence[str]],
    peers: Mapping[str, Encoding] | None = None,
    note: str | None = None,
) -> TokenizerReport:
    """Encode every text, a list of documents, with the run's tokenizer and its peers. Texts without
    a byte are left out.
    """
    rows = []
    for name, documents in texts.items():
        size = sum(len(document.encode()) for document in documents)
        if not size:
            continue
        rows.append(
            Row(name, OURS, tokenizer.vocab_size, size, len(tokenizer.encode_flat(documents)[0]))
        )
        for label, peer in (peers or {}).items():
            tokens = sum(map(len, peer.encode_ordinary_batch(list(documents))))
            rows.append(Row(name, label, peer.n_vocab, size, tokens))
    return TokenizerReport(tuple(rows), note)


def evaluate_run(run: RunFolder) -> TokenizerReport:
    """The evaluation of a run's tokenizer, which is also written to `evals/tokenizer.json` and, as
    a picture, `evals/tokenizer.png`.
    """
    tokenizer = Tokenizer.load(run.tokenizer)
    peers, note = load_peers()
    report = evaluate_tokenizer(tokenizer, evaluation_texts(run, tokenizer), peers, note)
    write_json(run.evals / "tokenizer.json", report.to_dict())
    picture = BytesIO()
    draw_tokenizer(report).savefig(picture, format="png", dpi=120)
    write_atomic(run.evals / "tokenizer.png", picture.getvalue())
    return report


def evaluation_texts(run: RunFolder, tokenizer: Tokenizer) -> dict[str, list[str]]:
    """The texts of our own, and the beginnings of the run's training and validation text where its
    token shards are there.
    """
    folder = files("chatling.evals") / "texts"
    texts = {kind: [(folder / f"{kind}.txt").read_text(encoding="utf-8")] for kind in KINDS}
    for split in ("train", "validation"):
        if (run.data / f"base-{split}" / CORPUS).exists():
            texts[split] = _beginning(TokenShards.open(run.data / f"base-{split}"), tokenizer)
    return texts


def _beginning(shards: TokenShards, tokenizer: Tokenizer) -> list[str]:
    documents: list[str] = []
    held = 0
    for i in range(shards.documents):
        documents.append(tokenizer.decode(shards.document(i)))
        held += len(documents[-1])
        if held >= RUN_CHARACTERS:
            break
    return documents


def load_peers(
    quick: float = QUICK_SECONDS, patient: float = PATIENT_SECONDS
) -> tuple[dict[str, Encoding], str | None]:
    """GPT-2's and GPT-4's encodings, and why some are missing, if so.

    tiktoken keeps what it fetched. It knows no time limit, so it works in a thread, which is given
    up after some `patient` seconds, or, when its host does not answer, after three times `quick`:
    time enough for what was fetched before.
    """
    import tiktoken

    found: dict[str, Encoding] = {}
    failures: list[Exception] = []

    def load() -> None:
        try:
            for label, name in PEERS.items():
                found[label] = tiktoken.get_encoding(name)
        # requests' and tiktoken's own, among them every kind of no connection
        except Exception as error:
            failures.append(error)

    thread = Thread(target=load, daemon=True)
    thread.start()
    thread.join(quick)
    if thread.is_alive():
        thread.join(patient if _answers(quick) else quick)
    there = dict(found)  # the thread may still be at it
    missing = [label for label in PEERS if label not in there]
    if not missing:
        return there, None
    why = type(failures[0]).__name__ if failures else "no answer"
    return there, (
        f"Left out {' and '.join(missing)}: their tokenizers could not be fetched ({why}); with"
        " a network, they come along."
    )


def _answers(seconds: float) -> bool:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(PEERS_HOST, method="HEAD"), timeout=seconds
        ):
            return True
    except urllib.request.HTTPError:  # it answered
        return True
    except OSError:
        return False


def draw_tokenizer(report: TokenizerReport) -> Figure:
    """Bars of bytes per token (longer: fewer tokens) and of the uniform bound, a group a text."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    width = 0.8 / len(report.tokenizers)
    for i, name in enumerate(report.tokenizers):
        rows = [report.row(text, name) for text in report.texts]
        places = [k + (i - (len(report.tokenizers) - 1) / 2) * width for k in range(len(rows))]
        bars = above.bar(
            places,
            [row.bytes_per_token for row in rows],
            width * 0.92,
            label=f"{name} ({rows[0].vocab_size:,} tokens)",
        )
        above.bar_label(bars, fmt="%.1f", fontsize=7)
        below.bar(places, [row.bound for row in rows], width * 0.92)
    above.set_ylabel("bytes per token")
    below.set_ylabel("bits per byte if all\ntokens were equally likely")
    below.set_xticks(range(len(report.texts)), report.texts)
    figure.legend(loc="outside upper center", ncols=len(report.tokenizers), frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
