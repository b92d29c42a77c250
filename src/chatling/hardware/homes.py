"""Several disks under one run: what the first process's disk has, the others get."""

import contextlib
import shutil
import socket
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from chatling.errors import DataError, MachineError, RunError
from chatling.files import building_folder, disk_errors, manifest_fault, read_manifest
from chatling.hardware.distributed import (
    PATIENCE,
    DistContext,
    main_process_first,
    peer_errors,
    together,
)

PIECE = 64 << 20  # bytes sent at once


def find_homes(world: DistContext, folder: Path) -> DistContext:
    """`world` with who looks after the disk that each process sees in `folder`: the first one that
    sees it. A collective.
    """
    if world.size == 1:
        return world
    token = world.broadcast_object(uuid.uuid4().hex)
    marks = [folder / f".home.{token}.{rank}" for rank in range(world.rank + 1)]
    own = marks[-1]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        own.touch()
    world.gather(None)  # all are there
    first = next(rank for rank, mark in enumerate(marks) if mark.exists())
    of_all = world.gather(first)  # and all have looked
    own.unlink()
    leaders = sorted(set(of_all))
    group = None
    if len(leaders) > 1:
        with peer_errors():
            group = dist.new_group(leaders, backend="gloo", timeout=PATIENCE)
    return replace(world, leader=of_all[world.rank], leaders=group)


@contextlib.contextmanager
def each_home_first(world: DistContext) -> Iterator[None]:
    """As `main_process_first`, for work that is done once on each disk."""
    if world.leaders is None:
        with main_process_first(world):
            yield
        return
    with together(lambda told: next(filter(None, world.gather(told)), None)):
        yield


def check_follows(state: Path) -> None:
    """Raises RunError where a disk that is to follow another one has the state of a run."""
    if state.exists():
        raise RunError(
            f"{state.parent} on {socket.gethostname()} holds the state of a run, and another node"
            " leads it now.",
            "Give that node --node-rank 0, where the checkpoints are; or move that folder away.",
        )


def share(world: DistContext, *folders: Path) -> None:
    """Bring folders with a manifest, if they are whole, from the first process's disk to all
    others. What they have already is not sent. A collective.
    """
    if world.leaders is not None:
        for folder in folders:
            _share(world, folder)


def _share(world: DistContext, folder: Path) -> None:
    sent = None
    if world.is_main and manifest_fault(folder) is None:
        sent = read_manifest(folder)
    sent = world.broadcast_object(sent)
    if sent is None:
        return
    lacking = world.leads and (manifest_fault(folder) is not None or read_manifest(folder) != sent)
    if lacking and (free := _free(folder)) < (needed := sum(each.bytes for each in sent.values())):
        told = f"{folder} needs {needed / 1e9:.1f} GB on a disk with {free / 1e9:.1f} GB free."
    else:
        told = None
    answers = world.gather((lacking, told))
    if (short := next((told for _, told in answers if told), None)) is not None:
        raise MachineError(short, "Free some space there, and run again.")
    if not any(lacks for lacks, _ in answers):
        return
    with each_home_first(world):
        if world.leads:
            with building_folder(folder) if lacking else contextlib.nullcontext(folder) as place:
                for name, listed in sent.items():
                    _send(world, place / name, listed.bytes, write=lacking)
            if lacking and read_manifest(folder) != sent:
                raise DataError(f"{folder} did not arrive as it was sent.", "Run again.")


def _free(folder: Path) -> int:
    place = next(path for path in folder.absolute().parents if path.exists())
    return shutil.disk_usage(place).free


def _send(world: DistContext, path: Path, size: int, *, write: bool) -> None:
    """A file from the first process to those that look after the other disks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(path, "wb" if write else "rb")
        if write or world.is_main
        else contextlib.nullcontext() as file
    ):
        for begin in range(0, size, PIECE):
            piece = torch.empty(min(PIECE, size - begin), dtype=torch.uint8)
            if world.is_main:
                assert file is not None
                source: Any = file  # a reader and a writer have no type in common
                source.readinto(piece.numpy())
            with peer_errors():
                dist.broadcast(piece, src=0, group=world.leaders)
            if write:
                assert file is not None
                file.write(piece.numpy().data)


def forget(world: DistContext, folder: Path) -> None:
    """Remove what was shared for a moment from all disks but the first. A collective."""
    if world.leaders is None:
        return
    world.gather(None)  # all have read it
    if world.leads and not world.is_main:
        shutil.rmtree(folder, ignore_errors=True)
