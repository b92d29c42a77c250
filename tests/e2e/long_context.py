"""The pocket model learns a longer context: `python tests/e2e/long_context.py FOLDER [OVERRIDE…]`
writes text that tells numbers and tells them again further on, trains base in 128 tokens and
`extend` in 512 on it, and prints the gates, that of CORE in the report. Called again with other
overrides of `[extend]`, it keeps base. A base of a minute needs a larger share, at a higher rate,
than the stage's own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from chatling.cli import main
from chatling.evals.long_context import NAMES
from chatling.toy.corpus import write_corpus

SEED, DOCUMENTS = 7, 9_000
SENTENCES = (2, 60)  # of the world's text between two tellings, at most
RECIPE = """
extends = "pocket"
name = "long"
mid = "none"
sft = "none"
dpo = "none"
rl = "none"
[model]
preset = "classic"
depth = 4
head_width = 32
[optim]
head_lr = 0.004
[data]
source = "{source}"
[base]
steps = 1500
[extend]
context = 512
share = 0.4
learning_rate_fraction = 0.5
[eval]
core = "pocket"
chat = []
"""


def documents(world: list[str], rng: Random) -> Iterator[str]:
    """Text of the built-in world, and between its sentences numbers, each told more than once."""
    sentences = [text for document in world for text in document.split(". ") if len(text) > 20]
    for _ in range(DOCUMENTS):
        if rng.random() < 0.4:
            yield rng.choice(world)
            continue
        told = {name: str(rng.randint(1000, 9999)) for name in rng.sample(NAMES, rng.randint(1, 4))}
        parts = []
        for _ in range(rng.randint(2, 5)):
            for name, number in rng.sample(sorted(told.items()), len(told)):
                parts.append(f"The secret number of {name} is {number}.")
                hay = rng.sample(sentences, rng.randint(0, rng.choice(SENTENCES)) // len(told))
                parts += [f"{text.strip().rstrip('.')}." for text in hay]
        yield " ".join(parts)


def write_text(folder: Path) -> None:
    write_corpus(made := folder / "world", SEED)
    rng = Random(SEED)
    world = [
        text
        for file in sorted(made.glob("*.parquet"))
        for text in pq.read_table(file)[0].to_pylist()
    ]
    texts = list(documents(world, rng))
    (folder / "text").mkdir(exist_ok=True)
    for i, part in enumerate((texts[500:], texts[:500])):
        pq.write_table(pa.table({"text": part}), folder / "text" / f"shard_{i:05d}.parquet")


def measure(folder: Path, overrides: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "text").exists():
        write_text(folder)
    recipe = folder / "long.toml"
    recipe.write_text(RECIPE.format(source=folder / "text"))
    assert main(["run", str(recipe), *overrides]) == 0


if __name__ == "__main__":
    measure(Path(sys.argv[1]).absolute(), sys.argv[2:])
