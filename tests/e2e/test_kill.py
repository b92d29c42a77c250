"""kill -9 at ten moments of base, mid, SFT, DPO and RL: the run goes on to the same bits, and to the same samples."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

STAGES = ("base", "mid", "sft", "dpo", "rl")
KILLS = 10


def steps_done(run: Path) -> int:
    """Whole lines in the metrics of all stages."""
    logs = [run / stage / "metrics.jsonl" for stage in STAGES]
    return sum(log.read_bytes().count(b"\n") for log in logs if log.exists())


def test_ten_kills_leave_the_weights_as_they_would_have_been(
    tiny_run: Callable[..., list[str]], finish: Callable[[list[str]], str], environment: dict[str, str], tmp_path: Path
) -> None:
    finish(tiny_run("whole"))
    total = steps_done(tmp_path / "runs/whole")
    assert total > 40
    dice = random.Random(0)
    moments = sorted(dice.sample(range(1, total - 1), KILLS))
    run, killed = tmp_path / "runs/killed", 0
    for moment in moments:
        process = subprocess.Popen(tiny_run("killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and steps_done(run) < moment:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(dice.random() * 0.03)  # anywhere inside a step, a save or an evaluation
        process.kill()
        killed += process.wait() == -9
    assert killed == KILLS
    assert "goes on" in finish(tiny_run("killed"))
    for stage in STAGES:
        whole, resumed = (load_file(tmp_path / "runs" / name / stage / "model/model.safetensors") for name in ("whole", "killed"))
        assert whole.keys() == resumed.keys()
        assert all((whole[name] == resumed[name]).all() for name in whole)
        samples = [(tmp_path / "runs" / name / f"evals/{stage}-samples.jsonl").read_text() for name in ("whole", "killed")]
        assert samples[0] == samples[1]
    assert steps_done(run) == total


def test_done_is_skipped_and_a_change_runs_again_with_what_depends_on_it(
    tiny_run: Callable[..., list[str]], finish: Callable[[list[str]], str], tmp_path: Path
) -> None:
    quick = ("--base.steps", "6", "--mid.mixture.0.count", "60")
    finish(tiny_run("run", *quick))
    base = tmp_path / "runs/run/base/model/model.safetensors"
    written = base.stat().st_mtime_ns
    again = finish(tiny_run("run", *quick))
    assert all(f"{stage}: done before, skipped" in again for stage in ("tokenizer", *STAGES, "eval", "report"))
    files = [tmp_path / "runs/run" / name for name in ("evals/base-core.json", "evals/mid-chat.json", "report/report.html")]
    times = [file.stat().st_mtime_ns for file in files]
    changed = finish(tiny_run("run", *quick, "--mid.learning-rate-fraction", "0.5"))
    assert base.stat().st_mtime_ns == written
    assert "base: done before, skipped" in changed
    assert "mid: changed, runs again" in changed
    assert "sft: changed, runs again" in changed
    assert "report: changed, runs again" in changed
    assert all(file.stat().st_mtime_ns > time for file, time in zip(files, times, strict=True))
