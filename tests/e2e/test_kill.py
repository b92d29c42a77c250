"""kill -9 anywhere, steps and half-written folders of all stages: the run goes on to the same bits,
in the space that is left.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file

from .conftest import short_recipe

STAGES = ("base", "mid", "sft", "dpo", "rl")
HALF_WRITTEN = [
    ".corpus.*.tmp",
    ".tokenizer.*.tmp",
    "data/base-train/.shard_*.tmp",
    "base/checkpoints/.step_*.tmp",
    "mid/.model.*.tmp",
    "data/sft-train/.shard_*.tmp",
    "sft/checkpoints/.step_*.tmp",
    "data/dpo-train/.shard_*.tmp",
    "rl/.model.*.tmp",
    ".report.*.tmp",
]
SPARE = 200_000  # bytes of state, recipe and logs, which no plan counts
# the real command, on a disk that has room for exactly what the plan says a whole run needs
ON_A_SMALL_DISK = """
import sys
from chatling.pipeline import plan as planner, runner
real = planner.plan
def remembered(*args, **more):
    global needed
    made = real(*args, **more)
    needed = sum(made.disk.values())
    return made
planner.plan = remembered
def free_bytes(path):
    there = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
    return needed + SPARE - there
runner.free_bytes = free_bytes
from chatling.cli import main
sys.exit(main(sys.argv[1:]))
"""


def steps_done(run: Path, stages: Sequence[str] = STAGES) -> int:
    """Whole lines in the metrics of these stages."""
    logs = [run / stage / "metrics.jsonl" for stage in stages]
    return sum(log.read_bytes().count(b"\n") for log in logs if log.exists())


def on_a_small_disk(command: list[str]) -> list[str]:
    words = command[command.index("chatling") + 1 :]
    return [sys.executable, "-c", ON_A_SMALL_DISK.replace("SPARE", str(SPARE)), *words]


@pytest.mark.parametrize(
    ("stages", "steps", "patterns"),
    [
        (STAGES[:3], 1, HALF_WRITTEN[2:3]),
        pytest.param(STAGES, 10, HALF_WRITTEN, marks=pytest.mark.slow),
    ],
)
def test_kills_leave_the_weights_as_they_would_have_been(
    trained: Callable[..., Path],
    tiny_run: Callable[..., list[str]],
    finish: Callable[[list[str]], str],
    environment: dict[str, str],
    tmp_path: Path,
    stages: tuple[str, ...],
    steps: int,
    patterns: list[str],
) -> None:
    """A run without the stages after SFT has the same first stages as the whole one."""
    whole = trained()
    total = steps_done(whole, stages)
    assert total > 40
    recipe = "pocket" if stages == STAGES else short_recipe(tmp_path)
    command = on_a_small_disk(tiny_run("killed", recipe=recipe, aligned=stages == STAGES))
    dice = random.Random(0)
    run, killed = tmp_path / "runs/killed", 0
    moments: list[int | str] = [
        *patterns[:3],
        *sorted(dice.sample(range(1, total - 1), steps)),
        *patterns[3:],
    ]
    for moment in moments:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and not (
            steps_done(run) >= moment if isinstance(moment, int) else any(run.glob(moment))
        ):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(
            dice.random() * (0.03 if isinstance(moment, int) else 0)
        )  # anywhere inside a step, a save or an evaluation
        process.kill()
        killed += process.wait() == -9
        if process.returncode == 0:  # a later stage's folder may have been there and gone
            break
    assert killed >= steps
    finish(command)
    for stage in stages:
        expected, resumed = (
            load_file(folder / stage / "model/model.safetensors") for folder in (whole, run)
        )
        assert expected.keys() == resumed.keys()
        assert all((expected[name] == resumed[name]).all() for name in expected)
        samples = [(folder / f"evals/{stage}-samples.jsonl").read_text() for folder in (whole, run)]
        assert samples[0] == samples[1]
    assert steps_done(run) == total
    assert [*run.rglob(".*.tmp")] == []


def test_done_is_skipped_and_a_change_runs_again_with_what_depends_on_it(
    trained: Callable[..., Path],
    tiny_run: Callable[..., list[str]],
    finish: Callable[[list[str]], str],
    tmp_path: Path,
) -> None:
    run = tmp_path / "runs/run"
    shutil.copytree(trained(), run)
    base = run / "base/model/model.safetensors"
    written = base.stat().st_mtime_ns
    again = finish(tiny_run("run"))
    assert all(
        f"{stage}: done before, skipped" in again
        for stage in ("tokenizer", *STAGES, "eval", "report")
    )
    files = [
        run / name for name in ("evals/base-core.json", "evals/rl-chat.json", "report/report.html")
    ]
    times = [file.stat().st_mtime_ns for file in files]
    changed = finish(tiny_run("run", "--dpo.learning-rate-fraction", "0.5"))
    assert base.stat().st_mtime_ns == written
    for stage in ("base", "mid", "sft"):
        assert f"{stage}: done before, skipped" in changed
    for stage in ("dpo", "rl", "report"):
        assert f"{stage}: changed, runs again" in changed
    assert all(file.stat().st_mtime_ns > time for file, time in zip(files, times, strict=True))
