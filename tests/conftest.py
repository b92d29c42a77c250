"""Shared fixtures: the real data pack, which a user without it does not need."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["mirror"]
REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data-pack",
        type=Path,
        default=REPOSITORY.parent / "shared" / "data",
        help="folder of the real data pack",
    )
    parser.addoption(
        "--soak-seconds", type=float, default=30.0, help="how long the server's soak test loads it"
    )
    parser.addoption(
        "--fuzz-requests", type=int, default=500, help="requests that the server's fuzz test makes"
    )


@pytest.fixture(autouse=True)
def few_widths_probed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new engine looks for the widths of a batch that agree to the last bit: on a tiny model
    as long as an evaluation, and tested with the engine.
    """
    if "inference" not in request.path.parts:
        monkeypatch.setattr("chatling.inference.model_runner.PROBED_ROUNDINGS", 1)


@pytest.fixture(scope="session")
def data_pack(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.getoption("--data-pack")
    if not (folder / "MANIFEST.tsv").exists():
        pytest.skip(f"no data pack at {folder} (choose one with --data-pack)")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
