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
