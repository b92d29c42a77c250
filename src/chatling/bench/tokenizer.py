"""Tokenizer speed: encoding against tiktoken in the same run, and BPE training's seconds and memory
in a process of its own.
"""

import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from chatling.bench.measure import Rows, figure, race
from chatling.data.parquet import CorpusCounts, iter_texts
from chatling.errors import DataError
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer


def bench_encode(
    files: Sequence[Path],
    tokenizer: Tokenizer | None = None,
    *,
    megabytes: float = 40,
    repeats: int = 3,
) -> Rows:
    """Rows {"measure", "value", "unit"}: megabytes (10^6) of UTF-8 a second, best of `repeats`,
    ours and tiktoken's taken in turn.

    Encodes the first `megabytes` of the parquet files' texts; by default with the tokenizer that
    they train. Raises DataError when there is no text.
    """
    texts: list[str] = []
    size = 0
    for text in iter_texts(files):
        texts.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    tokenizer = tokenizer or train_tokenizer(iter(texts), TokenizerConfig())
    encoders = {
        "ours": tokenizer.encode_flat,
        "tiktoken": Tokenizer(tokenizer.pieces, tokenizer.digits, "tiktoken").encode_flat,
    }
    ids = {name: encode(texts)[0] for name, encode in encoders.items()}  # builds the encoder, too

    def encode(name: str, turn: int) -> None:
        encoders[name](texts)

    times = race({name: functools.partial(encode, name) for name in encoders}, repeats)
    return [
        figure("encoding", size / 1e6 / times["ours"], "MB/s"),
        figure("encoding, tiktoken", size / 1e6 / times["tiktoken"], "MB/s"),
        figure("encoding, ids unlike tiktoken's", _unlike(*ids.values()), "ids"),
        figure("encoding, compression", size / len(ids["ours"]), "bytes/token"),
    ]


def bench_bpe_training(files: Sequence[Path], config: TokenizerConfig | None = None) -> Rows:
    """Rows {"measure", "value", "unit"} of training on the parquet files in a fresh process, whose
    memory is the training's alone.

    Reading the files is part of the time. Raises DataError with the last line of a failed process.
    """
    arguments = json.dumps([[str(file) for file in files], asdict(config or TokenizerConfig())])
    code = (
        "import sys; from chatling.bench.tokenizer import print_training;"
        " print_training(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"Training the tokenizer failed: {reason}")
    rows: Rows = json.loads(done.stdout)
    return rows


def print_training(arguments: str) -> None:
    """The fresh process's part of `bench_bpe_training`: train, and print the rows as JSON."""
    files, config = json.loads(arguments)
    counts = CorpusCounts()
    texts = iter_texts([Path(file) for file in files], counts=counts)
    start = time.perf_counter()
    tokenizer = train_tokenizer(texts, TokenizerConfig(**config))
    rows = [
        figure("BPE training", time.perf_counter() - start, "s"),
        figure("BPE training, peak memory", _peak_rss() / 1e6, "MB"),
        figure("BPE training, vocabulary", tokenizer.vocab_size, "tokens"),
        figure("BPE training, corpus", counts.characters / 1e6, "M characters"),
    ]
    print(json.dumps(rows))


def _unlike(left: np.ndarray, right: np.ndarray) -> int:
    """Positions at which two id sequences differ, their difference in length included."""
    common = min(len(left), len(right))
    return int((left[:common] != right[:common]).sum()) + abs(len(left) - len(right))


def _peak_rss() -> int:
    """High-water mark of this process's resident memory in bytes."""
    try:
        # Linux hands ru_maxrss down through fork and exec, so a child of a large process would
        # report its parent's.
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
