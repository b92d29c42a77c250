"""Every benchmark by name, run in turn and shown as one table."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chatling.data.parquet import list_parquet

Rows = list[dict[str, str | float]]


def _decode(files: Sequence[Path]) -> Rows:
    from chatling.bench.decode import bench_decode

    return bench_decode()


def _encode(files: Sequence[Path]) -> Rows:
    from chatling.bench.tokenizer import bench_encode

    return bench_encode(files)


def _bpe(files: Sequence[Path]) -> Rows:
    from chatling.bench.tokenizer import bench_bpe_training

    return bench_bpe_training(files)


def _packing(files: Sequence[Path]) -> Rows:
    from chatling.bench.packing import measure_packing

    return measure_packing()


def _train(files: Sequence[Path]) -> Rows:
    from chatling.bench.train import measure_training

    return measure_training()


def _loss(files: Sequence[Path]) -> Rows:
    from chatling.bench.train import measure_loss_memory

    return measure_loss_memory()


def _serve(files: Sequence[Path]) -> Rows:
    from chatling.bench.serve import measure_serving

    return measure_serving()


def _evals(files: Sequence[Path], run: str | None = None, bundle: Path | None = None) -> Rows:
    from chatling.bench.evals import bench_evals

    return bench_evals(files, run, bundle)


BENCHES: dict[str, Callable[[Sequence[Path]], Rows]] = {
    "train": _train,
    "loss": _loss,
    "decode": _decode,
    "serve": _serve,
    "encode": _encode,
    "bpe": _bpe,
    "packing": _packing,
    "evals": _evals,
}


def run_benches(
    names: Sequence[str], folder: Path | None, run: str | None = None, bundle: Path | None = None
) -> Rows:
    """The figures of the named benchmarks: {"measure", "value", "unit"}. `folder` holds parquet
    files of text; None: the built-in world.

    `evals` measures the model of `run` on a CORE bundle. Raises DataError when a folder does not
    hold what it should.
    """
    benches = BENCHES | {"evals": functools.partial(_evals, run=run, bundle=bundle)}
    with _corpus(folder) as files:
        return [row for name in names for row in benches[name](files)]


@contextmanager
def _corpus(folder: Path | None) -> Iterator[list[Path]]:
    if folder is not None:
        train, validation = list_parquet(folder)
        yield [*train, *validation]
        return
    from chatling.toy import write_corpus

    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus"
        write_corpus(corpus, seed=0)
        yield sorted(corpus.glob("*.parquet"))


def show_figures(rows: Rows) -> None:
    """Print figures as a table."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        value = row["value"]
        table.add_row(
            str(row["measure"]),
            f"{value:,.4g}" if isinstance(value, float) else f"{value:,}",
            str(row["unit"]),
        )
    table.columns[1].justify = "right"
    Console().print(table)
