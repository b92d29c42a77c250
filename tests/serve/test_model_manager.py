"""Models on demand: found, loaded once, unloaded in turn, replaced when trained anew."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from chatling.errors import DataError
from chatling.inference.async_engine import AsyncEngine
from chatling.run_dir import RunFolder
from chatling.serve.errors import ApiError
from chatling.serve.model_manager import ModelManager

from .conftest import load_service, save_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_run(tmp_path / "one", "base", "mid", "sft")
    save_run(tmp_path / "two", "base", seed=5)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "state.json").write_text("{}")
    return tmp_path


class Counting:
    def __init__(self) -> None:
        self.loads: list[str] = []

    def __call__(self, run: RunFolder, stage: str) -> AsyncEngine:
        self.loads.append(f"{run.name}/{stage}")
        return load_service(run, stage)


def play(models: ModelManager, work: Coroutine[Any, Any, None]) -> None:
    async def all_of_it() -> None:
        try:
            await work
        finally:
            await models.close()

    asyncio.run(all_of_it())


def test_what_there_is(folder: Path) -> None:
    models = ModelManager(folder, load_service, 2, first=(RunFolder(folder / "two"), "base"))
    ids = [entry.id for entry in models.entries()]
    assert ids[0] == "two/base"
    assert [name for name in ids if name.startswith("one")] == ["one/sft", "one/mid", "one/base"]
    assert models.find("one").id == "one/sft"
    assert models.model_card(models.find("two/base"))["context_length"] == 192
    for name in ("three", "one/rl", "begun", "../one/sft", "", "one/sft/model"):
        with pytest.raises(ApiError) as caught:
            models.find(name)
        assert caught.value.status == 404


def test_a_run_elsewhere_is_served_too(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = save_run(tmp_path_factory.mktemp("away") / "far", "sft")
    assert ModelManager(folder, load_service, 2, first=(run, "sft")).entries()[0].id == "far/sft"


def test_loaded_once_and_unloaded_in_turn(folder: Path) -> None:
    load = Counting()
    models = ModelManager(folder, load, 2)

    async def use(name: str) -> None:
        async with models.acquire(name):
            await asyncio.sleep(0.01)

    async def work() -> None:
        await asyncio.gather(*(use("one/sft") for _ in range(5)))
        await use("one/mid")
        await use("one/sft")  # now mid was used longest ago
        await use("two/base")
        assert load.loads == ["one/sft", "one/mid", "two/base"]
        assert list(models.loaded) == ["one/sft", "two/base"]
        async with models.acquire("one/sft"), models.acquire("two/base"):
            with pytest.raises(ApiError) as caught:
                await use("one/mid")
        assert caught.value.status == 429
        await use("one/mid")

    play(models, work())


def test_trained_anew_it_is_loaded_anew(folder: Path) -> None:
    load = Counting()
    models = ModelManager(folder, load, 2)

    async def work() -> None:
        async with models.acquire("two/base") as old:
            save_run(folder / "two", "base", seed=9)
            async with models.acquire("two/base") as new:
                assert new.service is not old.service
                assert new.fingerprint != old.fingerprint
        assert load.loads == ["two/base"] * 2

    play(models, work())


def test_what_cannot_be_loaded_is_said_and_may_work_later(folder: Path) -> None:
    def load(run: RunFolder, stage: str) -> AsyncEngine:
        if broken:
            raise DataError("The weights are damaged.")
        return load_service(run, stage)

    broken = True
    models = ModelManager(folder, load, 1)

    async def work() -> None:
        nonlocal broken
        with pytest.raises(ApiError, match="damaged") as caught:
            async with models.acquire("one/sft"):
                pass
        assert caught.value.status == 503
        broken = False
        async with models.acquire("one/sft"):
            pass

    play(models, work())
