"""Shared fixtures: the real data pack, which a user without it does not need."""

from pathlib import Path

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
        "--soak-seconds", type=float, default=60.0, help="how long the server's soak test loads it"
    )
    parser.addoption(
        "--fuzz-requests", type=int, default=500, help="requests that the server's fuzz test makes"
    )


@pytest.fixture(scope="session")
def data_pack(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.getoption("--data-pack")
    if not (folder / "MANIFEST.tsv").exists():
        pytest.skip(f"no data pack at {folder} (choose one with --data-pack)")
    return folder
