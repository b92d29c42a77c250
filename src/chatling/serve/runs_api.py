"""`/api/runs`: what run folders say of a training that is under way, or over. Folders are read,
never written.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic_core import to_json

from chatling.errors import ChatlingError
from chatling.run_dir import RunFolder, read_json
from chatling.serve.model_manager import ModelManager
from chatling.serve.openai import ERRORS
from chatling.train.metrics import read_metrics, tokens_per_second
from chatling.train.status import read_status

POINTS = 400  # of a curve, at most
MOST_EVAL = 16 << 20  # bytes of an evaluation's file
log = logging.getLogger(__name__)
router = APIRouter(prefix="/api/runs", responses=ERRORS)


@router.get("")
async def runs(request: Request) -> Response:
    """Every run with its stages, the one worked on last first."""
    return await asyncio.to_thread(_all, request.app.state.service.models)


@router.get("/{name}")
async def run(
    name: str, request: Request, points: Annotated[int, Query(ge=10, le=4000)] = POINTS
) -> Response:
    """One run: its stages, the curves of each, its latest samples and its evaluations."""
    return await asyncio.to_thread(_one, request.app.state.service.models, name, points)


def _all(models: ModelManager) -> Response:
    cards = b",".join(_encoded(folder, _status) for folder in models.folders())
    return Response(b'{"runs":[%b]}' % cards, media_type="application/json")


def _one(models: ModelManager, name: str, points: int) -> Response:
    folder = models.folder(name)

    def whole(folder: RunFolder) -> dict[str, Any]:
        status = _status(folder)
        stages = [stage["name"] for stage in status["stages"]]
        curves = {stage: _curves(folder.stage(stage) / "metrics.jsonl", points) for stage in stages}
        return status | {
            "curves": {stage: found for stage, found in curves.items() if found},
            "samples": _samples(folder),
            "evals": _evals(folder),
        }

    nothing: dict[str, Any] = {"curves": {}, "samples": {}, "evals": []}
    return Response(_encoded(folder, whole, nothing), media_type="application/json")


def _encoded(
    folder: RunFolder,
    read: Callable[[RunFolder], dict[str, Any]],
    nothing: dict[str, Any] | None = None,
) -> bytes:
    """JSON of what `read` finds in a run, or of why it cannot be read: a run folder is untrusted
    input, and whatever it holds, the others are shown.
    """
    try:
        return _json(read(folder))
    except Exception as error:
        if not isinstance(error, ChatlingError | OSError):
            log.exception("The run in %r cannot be read.", str(folder.path))
        card = {
            "name": _shown(folder.name),
            "path": _shown(str(folder.path)),
            "alive": False,
            "process": None,
            "stages": [],
            "error": _shown(str(error) or type(error).__name__),
        }
        return _json(card | (nothing or {}))


def _json(value: Any) -> bytes:
    """JSON has no NaN: null stands for it. Raises ValueError for what is too deep, or no text."""
    return to_json(value, inf_nan_mode="null")


def _shown(text: str) -> str:
    """A text that need be none, such as a file's name, for a reader."""
    return text.encode("utf-8", "backslashreplace").decode()


def _status(folder: RunFolder) -> dict[str, Any]:
    folder.check_entries()
    return asdict(read_status(folder))


def _curves(path: Path, points: int) -> dict[str, list[list[float]]]:
    try:
        facts = path.stat()
    except OSError:
        return {}
    return _read_curves(path, points, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_curves(path: Path, points: int, size: int, changed: int) -> dict[str, list[list[float]]]:
    """[step, value] pairs by metric; `size` and `changed` tell one state of the file from
    another.
    """
    found: dict[str, list[list[float]]] = {}
    for line in read_metrics(path):
        if line.get("tokens") and (speed := tokens_per_second([line])):
            line["tokens_per_second"] = speed
        for name, value in line.items():
            if (
                name not in ("step", "tokens", "seconds")
                and isinstance(value, int | float)
                and math.isfinite(value)
            ):
                found.setdefault(name, []).append([line["step"], value])
    return {name: thinned(series, points) for name, series in found.items()}


def thinned(series: list[list[float]], points: int) -> list[list[float]]:
    """At most `points` of them: the means of equal parts, the last point as it is."""
    if len(series) <= points:
        return series
    bounds = [round(i * (len(series) - 1) / (points - 1)) for i in range(points)]
    parts = (series[a:b] for a, b in pairwise(bounds))
    return [
        *([part[-1][0], sum(value for _, value in part) / len(part)] for part in parts),
        series[-1],
    ]


def _samples(folder: RunFolder) -> dict[str, Any]:
    """The latest samples of each stage: {"step", "samples": [{"prompt", "text"}]}."""
    found = {}
    for path in _files(folder.evals, "*-samples.jsonl"):
        with contextlib.suppress(ChatlingError):
            if lines := read_metrics(path):
                found[path.name.removesuffix("-samples.jsonl")] = lines[-1]
    return found


def _evals(folder: RunFolder) -> list[dict[str, Any]]:
    """evals/*.json as they are, with their file's name."""
    found = []
    for path in _files(folder.evals, "*.json"):
        try:
            evaluation = {"file": path.stem, "values": read_json(path, MOST_EVAL)}
            _json(evaluation)
        except (ChatlingError, ValueError):
            continue  # damaged, or gone meanwhile
        found.append(evaluation)
    return found


def _files(folder: Path, pattern: str) -> Iterable[Path]:
    return sorted(folder.glob(pattern)) if folder.is_dir() else ()
