"""What run folders say, while another process writes into them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.config.recipe import Recipe, builtin_recipes, from_toml
from chatling.pipeline.plan import plan
from chatling.pipeline.stages import STAGES
from chatling.run_dir import RunFolder
from chatling.serve.runs_api import thinned
from chatling.train.charts import MACHINE

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
        {"step": step, "samples": [{"topic": "a", "prompt": "Hello", "text": f"<b>{step}</b>"}]}
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
            "base": {
                "step": 20,
                "samples": [{"topic": "a", "prompt": "Hello", "text": "<b>20</b>"}],
            }
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


def test_charts_and_curves_are_those_of_the_stages(live: RunFolder) -> None:
    with serving(live.path.parent, stages=STAGES) as server:
        found = httpx.get(server.url + "/api/runs/live").json()
        assert found["charts"]["tokenizer"] == []
        labels = {
            metric: label
            for chart in found["charts"]["base"]
            for metric, label in chart["metrics"].items()
        }
        assert labels["rate"] == "share of the peak rate"
        assert labels["memory_gb"] == "memory of the process"
        german = httpx.get(server.url + "/api/runs/live?language=de").json()["charts"]["base"]
        assert german[0]["title"] == "Loss, Nats je Token"
        assert httpx.get(server.url + "/api/runs/live?language=fr").status_code == 400
        assert set(found["curves"]["base"]) <= set(labels)

        def curves(**query: object) -> httpx.Response:
            return httpx.get(server.url + "/api/runs/live/curves", params=query)  # type: ignore[arg-type]

        part = curves(stage="base", first=100, last=199).json()["curves"]
        assert part["loss"] == [[step, 5 - step / 1000] for step in range(100, 200)]
        assert "val_bpb" not in part
        assert curves(stage="base", first=2000).json() == {"curves": {}}
        for stage in ("sft", "..", "base/../base", ""):
            assert curves(stage=stage).status_code == 404
        assert curves().status_code == curves(stage="base", first=-1).status_code == 400
        assert httpx.get(server.url + "/api/runs/no/curves?stage=base").status_code == 404


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES if stage.charts])
def test_no_metric_is_shown_by_its_raw_name(stage: str) -> None:
    (charts,) = [each.charts for each in STAGES if each.name == stage]
    for chart in (*charts, *MACHINE):
        assert not chart.metrics.keys() & set(chart.metrics.values()) - {"reward", "core"}


def test_the_time_left_of_a_whole_run(live: RunFolder) -> None:
    (live.path / "recipe.toml").write_text(builtin_recipes()["pocket"].read_text())
    recipe = from_toml(Recipe, (live.path / "recipe.toml").read_text(), "recipe")
    work = plan(recipe).work
    with serving(live.path.parent, stages=STAGES) as server:
        url = server.url + "/api/runs/live"
        assert httpx.get(url).json()["left"] is None  # it does not run
        with live.lock():
            left = httpx.get(url).json()["left"]
            # half of base took 500 seconds, and what comes later goes as fast
            expected = 500 + 1000 * (sum(work.values()) / work["base"] - 1)
            assert left == pytest.approx(expected)
            for text in ("[", "[model]\ndepth = 'deep'", "\0"):
                (live.path / "recipe.toml").write_text(text)
                found = httpx.get(url).json()
                assert "error" not in found
                assert found["left"] is None


def test_samples_come_in_the_order_of_the_stages(live: RunFolder) -> None:
    line = (live.evals / "base-samples.jsonl").read_text()
    for stage in ("sft", "dpo", "mid", "zz", "rl"):
        (live.evals / f"{stage}-samples.jsonl").write_text(line)
        (live.evals / f"{stage}-chat.json").write_text("{}")
    order = ["base", "mid", "sft", "dpo", "rl", "zz"]
    with serving(live.path.parent, stages=STAGES) as server:
        found = httpx.get(server.url + "/api/runs/live").json()
        assert list(found["samples"]) == order
        assert [each["file"] for each in found["evals"]] == [f"{name}-chat" for name in order]


def test_skills_are_named_in_the_language(live: RunFolder) -> None:
    topics = ("second turn", "held-out text", "a topic {of} its own")
    samples = [{"topic": topic, "prompt": "?", "text": "!"} for topic in topics]
    line = json.dumps({"step": 3, "samples": samples})
    (live.evals / "sft-samples.jsonl").write_text(line + "\n")
    results = [{"name": "hard_arithmetic"}, {"name": "free: facts"}, {"name": 3}, "x", {}]
    (live.evals / "sft-chat.json").write_text(json.dumps({"results": results}))
    (live.evals / "sft-core.json").write_text("[1]")
    with serving(live.path.parent, stages=STAGES) as server:
        found = httpx.get(f"{server.url}/api/runs/live?language=de").json()
    said = [each["topic"] for each in found["samples"]["sft"]["samples"]]
    assert said == ["Als zweite Frage", "Zurückgehaltener Text", "a topic {of} its own"]
    values = {each["file"]: each["values"] for each in found["evals"]}
    names = [{"name": "Rechnen in zwei Schritten"}, {"name": "Frei gefragt: Fakten"}]
    assert values["sft-chat"]["results"] == [*names, {"name": 3}, "x", {}]


def test_the_report_is_served_and_nothing_else(live: RunFolder, tmp_path: Path) -> None:
    with serving(live.path.parent) as server:
        url = server.url + "/runs/live/report"
        missing = httpx.get(url)
        assert missing.status_code == 404
        assert "`chatling report`" in missing.json()["error"]["message"]
        assert httpx.get(server.url + "/api/runs/live").json()["report"] is False
        live.report.mkdir()
        (live.report / "report.html").write_text("<title>ü</title>", encoding="utf-8")
        (live.report / "report.md").write_text("secret")
        found = httpx.get(url)
        assert (found.status_code, found.text) == (200, "<title>ü</title>")
        assert found.headers["content-type"] == "text/html; charset=utf-8"
        assert found.headers["x-content-type-options"] == "nosniff"
        policy = found.headers["content-security-policy"]
        assert {"default-src 'none'", "sandbox"} <= set(policy.split("; "))
        assert "script-src" not in policy
        assert httpx.get(server.url + "/api/runs/live").json()["report"] is True
        for path in ("/runs/live/report.md", "/runs/live/report/report.md", "/runs/nothing/report"):
            assert httpx.get(server.url + path).status_code == 404
        for path in ("/runs/live%2freport/report", "/runs/..%2fruns%2flive/report"):
            assert httpx.get(server.url + path).status_code == 404
        (tmp_path / "outside.html").write_text("secret")
        (live.report / "report.html").unlink()
        (live.report / "report.html").symlink_to(tmp_path / "outside.html")
        refused = httpx.get(url)
        assert refused.status_code == 400
        assert "secret" not in refused.text
    with serving(live.path.parent, key="k") as server:
        assert httpx.get(server.url + "/runs/live/report").status_code == 401
