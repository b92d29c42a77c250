"""Whatever lies in a run's folder, it is one card that cannot be read; nothing else suffers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatling.serve.model_manager import ModelManager
from chatling.serve.runs_api import _all

from .conftest import Running, load_service, save_run, serving

CLIENT = httpx.Client(timeout=30)
DEEP = "[" * 900 + "]" * 900
FILES = (
    "state.json",
    "state.copy.json",
    ".lock",
    "sft/model/config.json",
    "sft/model/manifest.json",
    "sft/metrics.jsonl",
    "evals/sft-chat.json",
    "evals/sft-samples.jsonl",
    "report/report.html",
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=4),
    st.just("\ud800"),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "stages",
                    "execution",
                    "sft",
                    "status",
                    "step",
                    "loss",
                    "seconds",
                    "tokens",
                    "model",
                    "format",
                    "depth",
                    "steps",
                    "resumes",
                    "samples",
                    "results",
                    "files",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("odd") / "runs"
    save_run(folder / "good", "sft")
    with serving(folder) as server:
        yield server


def fresh(running: Running) -> Path:
    """A run to damage, beside the good one."""
    for other in running.models.runs.iterdir():
        if other.name != "good":
            shutil.rmtree(other)
    run = running.models.runs / "odd"
    shutil.copytree(running.models.runs / "good", run)
    for inner in ("evals", "report"):
        (run / inner).mkdir()
    state = {"stages": {"sft": {"status": "done"}}, "execution": {}}
    for name in ("state.json", "state.copy.json"):
        (run / name).write_text(json.dumps(state))
    return run


def check(running: Running) -> dict[str, Any]:
    """Everything is shown; returns the other run's card."""
    listed = CLIENT.get(f"{running.url}/v1/models")
    assert listed.status_code == 200
    assert "good/sft" in [card["id"] for card in listed.json()["data"]]
    answer = CLIENT.get(f"{running.url}/api/runs")
    assert answer.status_code == 200
    cards = {card["name"]: card for card in answer.json()["runs"]}
    assert "error" not in cards.pop("good")
    assert CLIENT.get(f"{running.url}/metrics").status_code == 200
    for path in ("good", "odd"):
        found = CLIENT.get(f"{running.url}/api/runs/{path}")
        assert found.status_code in (200, 404)
        if found.status_code == 200:
            assert {"stages", "curves", "samples", "evals"} <= set(found.json())
        part = CLIENT.get(f"{running.url}/api/runs/{path}/curves?stage=sft")
        assert part.status_code == 404 or "curves" in part.json()
        assert CLIENT.get(f"{running.url}/runs/{path}/report").status_code in (200, 400, 404)
    return next(iter(cards.values()), {})


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(FILES), value=VALUES, lines=st.integers(1, 3))
def test_any_json(running: Running, name: str, value: Any, lines: int) -> None:
    run = fresh(running)
    (run / name).write_text("\n".join([json.dumps(value)] * lines))
    check(running)


@pytest.mark.parametrize("name", FILES)
def test_no_plain_files(running: Running, name: str) -> None:
    def device(path: Path) -> None:
        try:
            os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero
        except PermissionError:
            path.symlink_to("/dev/zero")

    def listening(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as one:
            home = os.open(path.parent, os.O_RDONLY)
            one.bind(f"/proc/self/fd/{home}/{path.name}")
            os.close(home)

    def enormous(path: Path) -> None:
        path.touch()
        os.truncate(path, 1 << 40)

    for make in (
        os.mkfifo,
        device,
        listening,
        enormous,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("/nowhere"),
        lambda path: path.write_bytes(b"\xff\xfe\x00\x00"),
        lambda path: path.write_text(DEEP),
        lambda path: path.write_text(f'{{"step": 1, "loss": {DEEP}}}'),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text('{"stages": {}, "execution": {}, "n": ' + "9" * 5000 + "}"),
    ):
        run = fresh(running)
        (run / name).unlink(missing_ok=True)
        make(run / name)
        if name == "state.json":  # else its copy is as good
            (run / "state.copy.json").unlink()
        card = check(running)
        if name == "state.json" and card:
            assert card["error"]


@pytest.mark.parametrize(
    "name", [b"new\nline", b"\xff\xfe", b"a'\"<b>", "\u202e".encode(), b"x" * 200]
)
def test_odd_names(running: Running, name: bytes) -> None:
    run = fresh(running)
    os.rename(os.fsencode(run), os.path.join(os.fsencode(run.parent), name))
    assert check(running)["name"]


def test_what_may_not_be_read() -> None:
    """Looked at as another user, since root may read all."""
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name)
        for each in ("good", "odd", "closed"):
            save_run(runs / each, "sft")
        for state in ("state.json", "state.copy.json"):
            os.chmod(runs / "odd" / state, 0)
        os.chmod(runs / "closed" / "sft", 0o444)
        os.chmod(runs, 0o755)
        models = ModelManager(runs, load_service, 1)

        def look() -> tuple[list[str], dict[str, bool]]:
            cards = json.loads(bytes(_all(models).body))["runs"]
            return (
                [entry.id for entry in models.entries()],
                {card["name"]: "error" in card for card in cards},
            )

        user = os.geteuid()
        if not user:
            os.seteuid(65_534)
        try:
            ids, errors = look()
        finally:
            os.seteuid(user)
            os.chmod(runs / "closed" / "sft", 0o755)
        assert "good/sft" in ids
        assert "closed/sft" not in ids
        assert errors == {"good": False, "odd": True, "closed": True}
