"""Damages files of a run, and reads all that a run's commands read."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from chatling.config.recipe import Recipe
from chatling.data.token_shards import TokenShards
from chatling.errors import ChatlingError
from chatling.pipeline import runner, stages
from chatling.report.collect import collect
from chatling.run_dir import RunFolder, manifest_fault
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.checkpoint import load_model
from chatling.train.dpo import _cached
from chatling.train.status import read_status

SHARDS = (
    "base-train",
    "base-validation",
    "sft-train",
    "sft-validation",
    "dpo-train",
    "dpo-validation",
)
TRAINED = ("base", "sft", "dpo")
STAGES = [stage for stage in stages.STAGES if stage.name != "report"]


def flip(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, dice: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: dice.randrange(path.stat().st_size)])


def empty(path: Path, dice: random.Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, dice: random.Random) -> None:
    path.unlink()


def swap(path: Path, dice: random.Random) -> Path:
    """With a file of another folder, of the same name where there is one."""
    others = [
        other
        for other in sorted(path.parents[2].rglob("*"))
        if other.is_file() and other.read_bytes() != path.read_bytes()
    ]
    other = dice.choice([other for other in others if other.name == path.name] or others)
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)
    return other


def folder_instead(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.mkdir()


CORRUPTIONS = (flip, truncate, empty, delete, swap, folder_instead)


def products(run: Path) -> list[Path]:
    folders = [
        run / "tokenizer",
        *(run / stage / "model" for stage in TRAINED),
        *(run / "data").iterdir(),
    ]
    folders += [path for stage in TRAINED for path in (run / stage / "checkpoints").iterdir()]
    return sorted(
        {
            file
            for folder in folders
            for file in ([folder] if folder.is_file() else folder.rglob("*"))
            if file.is_file()
        }
    )


def looked_at(run: Path, recipe: Recipe) -> tuple[list[str], dict[str, bytes]]:
    """What the commands that read a run say of what is damaged, and what they got of the rest."""
    told: list[str] = []
    folder, got = RunFolder(run), {}

    def attempt(name: str, read: Callable[[], bytes]) -> None:
        try:
            got[name] = read()
        except ChatlingError as error:
            told.append(str(error))

    for stage in TRAINED:
        attempt(
            stage,
            lambda stage=stage: b"".join(
                p.detach().numpy().tobytes() for p in load_model(folder.model(stage)).parameters()
            ),
        )
    for name in SHARDS:
        attempt(name, lambda name=name: _content(TokenShards.open(folder.data / name)))
    for name in ("dpo-train", "dpo-validation"):
        path = folder.data / f"{name}-reference.safetensors"
        attempt(
            path.name,
            lambda path=path: (
                b""
                if (found := _cached(path, _key(path), told.append)) is None
                else found.tobytes()
            ),
        )
    attempt("tokenizer", lambda: Tokenizer.load(folder.tokenizer).fingerprint.encode())
    for checkpoint in (
        path for stage in TRAINED for path in (run / stage / "checkpoints").iterdir()
    ):
        told += [fault] if (fault := manifest_fault(checkpoint)) else []
    attempt("status", lambda: repr(read_status(folder)).encode()[:0])
    attempt("report", lambda: repr(collect(folder, stages.STAGES)).encode()[:0])
    attempt("schedule", lambda: _schedule(recipe, folder, told))
    return told, got


def _content(shards: TokenShards) -> bytes:
    parts = [shards.document(i) for i in range(shards.documents)] + [
        shards.mask(i) for i in range(shards.documents) if shards.has_mask
    ]
    return b"".join(part.tobytes() for part in parts if part is not None)


def _key(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return (file.metadata() or {}).get("of", "")
    except (OSError, SafetensorError):
        return ""


def _schedule(recipe: Recipe, folder: RunFolder, told: list[str]) -> bytes:
    steps = runner.schedule(recipe, folder, folder.read_state(), STAGES, checksums=True)
    told += [step.fault for step in steps if step.fault]
    return b""
