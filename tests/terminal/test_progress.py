"""What a run shows, on a terminal and in a file."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from chatling.evals.samples import Sample
from chatling.terminal.progress import Progress, duration, fitted, sample_line


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


def test_time_left_is_known_from_the_plan_before_any_step_was_timed() -> None:
    progress, text = made(Clock(), work={"base": 100.0, "mid": 300.0})
    progress.machine(flops_per_token=1.0, peak=10.0, expected=5.0)
    progress.start("base", 10, 0)
    progress.step({"step": 0, "loss": 4.0, "tokens": 10})
    assert text.getvalue().splitlines()[-1] == (
        "18 s left · base 1/10 · 1 min 18 s of the whole run · loss 4.000"
    )


FIELDS = st.lists(st.text("abc 世界", min_size=1, max_size=30), min_size=1, max_size=8)


@given(FIELDS, st.integers(1, 100))
def test_fields_that_do_not_fit_are_left_out_whole(fields: list[str], width: int) -> None:
    line = fitted(fields, width)
    assert line.startswith(fields[0])
    assert cell_len(line) <= max(width, cell_len(fields[0]))
    kept = iter(fields)
    assert all(part in kept for part in line.split(" · "))  # some of them, in their order
    if cell_len(" · ".join(fields)) <= width:
        assert line == " · ".join(fields)


def test_work_without_reports_is_told_of_now_and_then() -> None:
    clock = Clock()
    progress, text = made(clock)
    progress.message("base: tokens")
    progress.activity("base")
    for _ in range(60):
        clock.now += 1
        progress.heartbeat()
    assert text.getvalue().splitlines()[1:] == [
        f"– left · base · {duration(seconds)} so far" for seconds in (15, 30, 45, 60)
    ]


def test_a_step_that_takes_long_is_told_of() -> None:
    clock = Clock()
    progress, text = made(clock)
    progress.start("base", 10, 0)
    clock.now += 20
    progress.heartbeat()
    assert text.getvalue().splitlines()[-1] == (
        "– left · base 0/10 · first step, with compilation: 20 s so far"
    )
    train(progress, clock, 2, seconds=30)
    clock.now += 16
    progress.heartbeat()
    line = text.getvalue().splitlines()[-1]
    assert line.startswith("4 min 00 s left · base 2/10 · this step: 16 s so far · loss")


def test_work_that_says_nothing_of_its_end_shows_the_whole_runs() -> None:
    progress, text = made(Clock(), work={"sft": 1e12, "dpo": 3e12})
    progress.machine(flops_per_token=1.0, peak=2e10, expected=1e10)
    progress.activity("dpo, log-probabilities of the reference model", 0, 1000)
    assert text.getvalue() == (
        "6 min 40 s of the whole run · dpo, log-probabilities of the reference model 0/1,000"
        " · 0 s so far\n"
    )


def test_an_activity_is_counted_with_its_time_left() -> None:
    clock = Clock()
    progress, text = made(clock)
    for done in range(0, 1001, 10):
        progress.activity("facts of sft", done, 1000)
        clock.now += 0.5
    progress.stage_done("eval", 50)
    progress.heartbeat()
    lines = text.getvalue().splitlines()
    assert lines[0] == "– left · facts of sft 0/1,000 · 0 s so far"
    assert lines[1] == "45 s left · facts of sft 100/1,000 · 5 s so far"
    assert len(lines) == 12
    assert lines[-1] == "eval: done in 50 s"


SHOWN = """
import time
from chatling.terminal.progress import Progress
with Progress(work={"base": 1.0, "mid": 5.0}) as progress:
    progress.machine(1e6, 1e9, 1e9)
    progress.activity("dpo, log-probabilities of the reference model", 50, 1000)
    progress.start("base", 20_000, 0)
    for step in range(3):
        time.sleep(0.12)
        line = {"step": step, "loss": 2.0, "val_bpb": 1.0, "tokens": 9, "seconds": 0.1, "core": 0.1}
        progress.step(line)
"""


WHOLE = (
    r"loss 2\.000|bpb 1\.0000|CORE 0\.100|[\d,]+ tokens/s|\d+% of GEMM rate|╌{20}"
    r"|\d+ \w+ \d+ \w+ of the whole run"
)


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_the_time_left_is_on_every_line_of_a_terminal(columns: int) -> None:
    screen = on_terminal([sys.executable, "-c", SHOWN], columns)
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    lines = [line.strip() for line in re.split(r"[\r\n]+", screen) if "/" in line]
    assert len(lines) >= 4
    assert max(map(cell_len, lines)) <= columns
    for line in lines[-3:]:
        assert re.match(r"\d+ (s|min|h|d)( \d+ (s|min|h))? left · base [123]/20,000", line)
        assert re.search(rf"20,000( · ({WHOLE}))*$", line)


def on_terminal(command: list[str], columns: int) -> str:
    """What a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    environment |= {"TERM": "xterm"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # that of a terminal whose last user has ended
        while block := os.read(ours, 65536):
            written += block
    os.close(ours)
    assert process.wait(timeout=60) == 0, written
    return written.decode()


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
    assert [line.split(" · ")[1].removeprefix("base ") for line in lines[1:]] == [
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
    progress.machine(flops_per_token=1e6, peak=4e9, expected=1e9)
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


SAID = [
    Sample("facts", "What is the capital of France?", "Par\nis", True),
    Sample("sums", "What is 1 + 1?", "", False),
    Sample("li bai", "李白是谁？" * 30, "李白" * 90),
]


def test_answers_of_the_moment_are_kept_in_a_file_in_lines_that_fit() -> None:
    progress, text = made(Clock())
    progress.start("sft", 10, 0)
    progress.samples(SAID)
    progress.stage_done("sft", 3)
    lines = text.getvalue().splitlines()
    assert lines[1] == "  ✓ What is the capital of France? → Par is"
    assert lines[2] == "  ✗ What is 1 + 1? → (nothing)"
    assert lines[3].startswith("    李白是谁？李白")
    assert "… → 李白" in lines[3]
    assert cell_len(lines[3]) <= 100
    assert lines[4:] == ["sft: done in 3 s"]


def test_a_terminal_shows_the_answers_of_the_moment_below_the_line_and_keeps_the_last() -> None:
    clock = Clock()
    progress, text = made(clock, terminal=True)
    progress.start("sft", 10, 0)
    progress.samples(SAID[1:2])
    clock.now += 1
    progress.samples(SAID[:1])
    clock.now += 1
    progress.heartbeat()
    assert text.getvalue().count("capital of France") == 1
    progress.stage_done("sft", 3)
    progress.start("dpo", 10, 0)
    progress.stage_done("dpo", 3)
    assert "France? → Par is\nsft: done in 3 s\ndpo: 10 steps\n" in text.getvalue()
    assert "France" not in text.getvalue().partition("dpo: 10 steps")[2]
    assert "What is 1 + 1?" not in text.getvalue()


@given(st.text(max_size=300), st.text(max_size=300), st.integers(20, 120))
def test_a_sample_s_line_never_breaks(prompt: str, said: str, width: int) -> None:
    line = sample_line(Sample("any", prompt, said, True), width)
    assert cell_len(line) <= width
    assert len(line.splitlines()) == 1


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
    assert "5 s left · base 5/10 · " in text.getvalue()
    assert "━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌" in text.getvalue()
