"""Every benchmark by name, run in turn and shown as one table."""

import importlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chatling.bench.measure import Rows
from chatling.data.parquet import list_parquet
from chatling.toy import write_corpus

# name: module and function of this package, and which of run_benches' arguments it takes
BENCHES = {
    "train": ("train", "measure_training", ()),
    "busy": ("busy", "measure_busy", ()),
    "loss": ("train", "measure_loss_memory", ()),
    "decode": ("decode", "bench_decode", ()),
    "serve": ("serve", "measure_serving", ("url", "run")),
    "encode": ("tokenizer", "bench_encode", ("files",)),
    "bpe": ("tokenizer", "bench_bpe_training", ("files",)),
    "packing": ("packing", "measure_packing", ()),
    "evals": ("evals", "bench_evals", ("files", "run", "bundle")),
}


def run_benches(
    names: Sequence[str],
    folder: Path | None,
    run: str | None = None,
    bundle: Path | None = None,
    url: str | None = None,
) -> Rows:
    """The figures of the named benchmarks: {"measure", "value", "unit"}. `folder` holds parquet
    files of text; None: the built-in world.

    `evals` measures the model of `run` on a CORE bundle, `serve` the server at `url`. Raises
    DataError when a folder does not hold what it should.
    """
    rows: Rows = []
    with _corpus(folder) as files:
        given: dict[str, Any] = {"files": files, "run": run, "bundle": bundle, "url": url}
        for name in names:
            module, function, arguments = BENCHES[name]
            bench = getattr(importlib.import_module(f"chatling.bench.{module}"), function)
            rows += bench(**{argument: given[argument] for argument in arguments})
    return rows


@contextmanager
def _corpus(folder: Path | None) -> Iterator[list[Path]]:
    if folder is not None:
        train, validation = list_parquet(folder)
        yield [*train, *validation]
        return
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus"
        write_corpus(corpus, seed=0)
        yield sorted(corpus.glob("*.parquet"))


def show_figures(rows: Rows) -> None:
    """Print figures as a table."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        value = row["value"]
        shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
        table.add_row(str(row["measure"]), shown, str(row["unit"]))
    table.columns[1].justify = "right"
    Console().print(table)
