"""`/api/runs`: what run folders say of a training that is under way, or over. Folders are read,
never written.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterable
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
from chatling.serve.errors import ApiError
from chatling.serve.model_manager import ModelManager
from chatling.serve.openai import ERRORS
from chatling.train.metrics import read_metrics, tokens_per_second
from chatling.train.status import read_status

POINTS = 400  # of a curve, at most
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


def _json(value: dict[str, Any]) -> Response:
    """JSON has no NaN: null stands for it."""
    return Response(to_json(value, inf_nan_mode="null"), media_type="application/json")


def _all(models: ModelManager) -> Response:
    return _json({"runs": [_status(folder) for folder in models.folders()]})


def _one(models: ModelManager, name: str, points: int) -> Response:
    folder = next((folder for folder in models.folders() if folder.name == name), None)
    if folder is None:
        raise ApiError(404, f"There is no run {name!r}.", param="name", code="run_not_found")
    status = _status(folder)
    if "error" in status:
        return _json(status | {"curves": {}, "samples": {}, "evals": []})
    stages = [stage["name"] for stage in status["stages"]]
    curves = {stage: _curves(folder.stage(stage) / "metrics.jsonl", points) for stage in stages}
    parts = {
        "curves": {stage: found for stage, found in curves.items() if found},
        "samples": _samples(folder),
        "evals": _evals(folder),
    }
    return _json(status | parts)


def _status(folder: RunFolder) -> dict[str, Any]:
    """JSON of `read_status`, or why there is none."""
    try:
        folder.check_entries()
        return asdict(read_status(folder))
    except (ChatlingError, OSError, KeyError, TypeError) as error:
        return {
            "name": folder.name,
            "path": str(folder.path),
            "alive": False,
            "process": None,
            "stages": [],
            "error": str(error),
        }


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
            found.append({"file": path.stem, "values": read_json(path)})
        except ChatlingError:
            continue  # damaged, or gone meanwhile
    return found


def _files(folder: Path, pattern: str) -> Iterable[Path]:
    return sorted(folder.glob(pattern)) if folder.is_dir() else ()
