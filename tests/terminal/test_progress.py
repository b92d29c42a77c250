"""What a run shows, on a terminal and in a file."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from chatling.terminal.progress import Progress, duration


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock, *, terminal: bool = False, **options: Any) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200, color_system=None)
    return Progress(console=console, clock=clock, **options), text


def train(
    progress: Progress, clock: Clock, steps: int, *, begin: int = 0, seconds: float = 1.0
) -> None:
    for step in range(begin, begin + steps):
        clock.now += seconds
        line = {"step": step, "loss": 4.0 - step / 100, "tokens": 1000, "seconds": seconds}
        progress.step(line)


DURATIONS = [
    (0.4, "0 s"),
    (59.4, "59 s"),
    (59.6, "1 min 00 s"),
    (3599.7, "1 h 00 min"),
    (90_000, "1 d 1 h"),
    (None, "–"),
]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    clock = Clock()
    progress, text = made(clock)
    progress.start("base", 22, 0)
    train(progress, clock, 22)
    lines = text.getvalue().splitlines()
    assert lines[0] == "base: 22 steps"
    assert [line.split(" ")[1] for line in lines[1:]] == [
        "1/22",
        "6/22",
        "11/22",
        "16/22",
        "21/22",
        "22/22",
    ]
    assert "\x1b" not in text.getvalue()


def test_speed_share_of_the_gemm_rate_and_time_left() -> None:
    clock = Clock()
    progress, text = made(clock, work={"base": 100.0, "mid": 300.0})
    progress.machine(flops_per_token=1e6, flops_per_second=4e9)
    progress.start("base", 100, 0)
    train(progress, clock, 40, seconds=0.5)
    assert "2,000 tokens/s" in text.getvalue()
    assert "50% of GEMM rate" in text.getvalue()
    assert progress.time_left() == (pytest.approx(30.0), pytest.approx(30.0 + 3 * 50.0))


def test_later_stages_are_judged_by_the_fastest_so_far() -> None:
    clock = Clock()
    progress, _ = made(clock, work={"base": 100.0, "sft": 10.0, "rl": 200.0})
    progress.start("base", 100, 0)
    train(progress, clock, 100, seconds=0.5)
    progress.stage_done("base", 50)
    progress.start("sft", 10, 0)
    clock.now += 40  # compiling
    train(progress, clock, 5, seconds=4.0)  # ten times slower for its work
    assert progress.time_left() == (pytest.approx(20.0), pytest.approx(20.0 + 100.0))


def test_a_resumed_stage_counts_from_where_it_goes_on() -> None:
    clock = Clock()
    progress, text = made(clock)
    progress.start("base", 100, 60)
    train(progress, clock, 20, begin=60)
    assert "resumes after step 60 of 100" in text.getvalue()
    assert progress.time_left() == (pytest.approx(20.0), None)


def test_a_validation_result_stays_in_view() -> None:
    clock = Clock()
    progress, text = made(clock)
    progress.start("base", 100, 0)
    progress.step({"step": 0, "loss": 4.0, "tokens": 10, "val_bpb": 1.2345})
    train(progress, clock, 10, begin=1)
    assert "bpb 1.2345" in text.getvalue().splitlines()[-1]
    progress.stage_done("base", 12)
    assert text.getvalue().splitlines()[-1].startswith("base: done in 12 s")


def test_later_ranks_are_silent() -> None:
    clock = Clock()
    progress, text = made(clock, silent=True, terminal=True)
    with progress:
        progress.start("base", 10, 0)
        train(progress, clock, 10)
        progress.message("hello")
        progress.stage_done("base", 1)
    assert text.getvalue() == ""


def test_a_terminal_shows_a_bar() -> None:
    clock = Clock()
    progress, text = made(clock, terminal=True)
    with progress:
        progress.start("base", 10, 0)
        train(progress, clock, 5)
    assert "━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌ base 5/10" in text.getvalue()
    assert "left" in text.getvalue()
