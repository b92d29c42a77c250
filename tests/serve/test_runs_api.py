"""What run folders say, while another process writes into them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.run_dir import RunFolder
from chatling.serve.runs_api import thinned

from .conftest import save_run, serving


@pytest.fixture
def live(tmp_path: Path) -> RunFolder:
    run = save_run(tmp_path / "runs" / "live", "base")
    run.write_state(
        {
            "stages": {
                "tokenizer": {"status": "done", "seconds": 2.0, "resumes": 0},
                "base": {"status": "running", "seconds": 0.0, "resumes": 1, "steps": 2000},
            },
            "execution": {},
        }
    )
    lines = [
        {"step": i, "loss": 5 - i / 1000, "tokens": 100, "seconds": 0.5, "rate": 0.1}
        for i in range(1000)
    ]
    lines[500]["val_bpb"] = 1.25
    lines[600]["loss"] = float("nan")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.stage("base") / "metrics.jsonl").write_text(
        text + '{"step": 1000, "event": "skipped"}\n{"step": 1001, "lo'
    )
    run.evals.mkdir()
    (run.evals / "base-chat.json").write_text(
        '{"results": [{"name": "facts", "accuracy": 0.5, "correct": 1, "total": 2, "x": NaN}]}'
    )
    (run.evals / "broken.json").write_text("{")
    samples = [
        {"step": step, "samples": [{"prompt": "Hello", "text": f"<b>{step}</b>"}]}
        for step in (10, 20)
    ]
    (run.evals / "base-samples.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in samples) + '{"step": 30, "sam'
    )
    return run


def test_a_live_run(live: RunFolder) -> None:
    with serving(live.path.parent) as server:
        with live.lock():
            (listed,) = httpx.get(server.url + "/api/runs").json()["runs"]
            assert (listed["name"], listed["alive"]) == ("live", True)
            found = httpx.get(server.url + "/api/runs/live").json()
        base = found["stages"][1]
        assert (base["status"], base["step"], base["steps"], base["resumes"]) == (
            "running",
            1000,
            2000,
            1,
        )
        assert base["left"] == pytest.approx(500)
        curves = found["curves"]["base"]
        assert set(curves) == {"loss", "rate", "val_bpb", "tokens_per_second"}
        assert curves["val_bpb"] == [[500, 1.25]]
        assert len(curves["loss"]) == 400
        assert curves["loss"][-1] == [999, pytest.approx(4.001)]
        assert curves["tokens_per_second"][0][1] == pytest.approx(200)
        assert found["samples"] == {
            "base": {"step": 20, "samples": [{"prompt": "Hello", "text": "<b>20</b>"}]}
        }
        assert found["evals"] == [
            {
                "file": "base-chat",
                "values": {
                    "results": [
                        {"name": "facts", "accuracy": 0.5, "correct": 1, "total": 2, "x": None}
                    ]
                },
            }
        ]
        with open(live.stage("base") / "metrics.jsonl", "a") as file:
            file.write('ss": 1}\n{"step": 1002, "loss": 3.5, "tokens": 1, "seconds": 1}\n')
        again = httpx.get(server.url + "/api/runs/live").json()
        assert again["curves"]["base"]["loss"][-1] == [1002, 3.5]
        assert again["stages"][1]["status"] == "cut off"


def test_damaged_and_missing_runs(live: RunFolder) -> None:
    for name in ("state.json", "state.copy.json"):
        (live.path / name).write_text("{")
    with serving(live.path.parent) as server:
        (listed,) = httpx.get(server.url + "/api/runs").json()["runs"]
        assert "not valid JSON" in listed["error"]
        assert httpx.get(server.url + "/api/runs/live").status_code == 200
        for name in ("nothing", "..", "%2e%2e%2fruns"):
            answer = httpx.get(f"{server.url}/api/runs/{name}")
            assert answer.status_code == 404
            assert answer.json()["error"]["message"]


def test_no_runs_at_all(tmp_path: Path) -> None:
    with serving(tmp_path / "nowhere") as server:
        assert httpx.get(server.url + "/api/runs").json() == {"runs": []}
        assert httpx.get(server.url + "/v1/models").json() == {"object": "list", "data": []}
        assert httpx.get(server.url + "/health").status_code == 200


@given(st.integers(1, 300), st.integers(2, 50))
def test_thinning_keeps_the_ends_and_the_mean(count: int, points: int) -> None:
    series = [[step, step * 2.0] for step in range(count)]
    thin = thinned(series, points)
    assert len(thin) == min(count, points)
    assert thin[-1] == series[-1]
    assert [step for step, _ in thin] == sorted({step for step, _ in thin})
    assert all(0 <= value <= 2 * step for step, value in thin)
