"""The first minutes on a GPU, as far as a processor can go: each part runs, and what is wrong
shows.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chatling.cli import main
from chatling.hardware.detect import detect
from chatling.pipeline import bench_gpu as bench
from chatling.pipeline.bench_gpu import Row, Trial, bench_gpu, show_rows

TINY = """
extends = "pocket"
name = "tiny"
[model]
depth = 2
width = 64
head_width = 32
context = 64
"""

# what makes the base of pocket take seconds
SHORT = """
[model]
depth = 2
width = 64
[tokenizer]
vocab_size = 400
[base]
validation_tokens = 4096
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe, on a machine that has no compiler and is measured at once."""
    found = replace(detect(lambda device, dtype: 1.0), compiler=False)
    monkeypatch.setattr(bench, "detect", lambda device: found)
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def rows_of(parts: tuple[str, ...], recipe: str, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    monkeypatch.setattr(bench, "PARTS", {name: bench.PARTS[name] for name in parts})
    return list(bench_gpu("cpu", recipe))


def test_kernels_agree_with_plain_ones(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(("machine", "attention", "loss"), tiny, monkeypatch)
    assert [row.part for row in rows] == [
        "machine",
        *(f"sdpa, {width} wide" for width in (64, 128, 256)),
        "loss",
    ]
    assert all(row.right for row in rows[1:])


def test_a_wrong_kernel_shows(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench.attend

    def wrong(q, k, v, window, kernel):
        return real(q, k, v, 255 if window and kernel != "plain" else window, kernel)

    monkeypatch.setattr(bench, "attend", wrong)
    rows = rows_of(("attention",), tiny, monkeypatch)
    assert [row.right for row in rows] == [False] * 3


def test_a_part_that_fails_does_not_stop_the_others(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(trial: Trial) -> Iterator[Row]:
        yield Row("first", "fine", "fine", True)
        raise RuntimeError("CUDA error: an illegal access\nat some line")

    monkeypatch.setattr(bench, "PARTS", {"broken": fails, "machine": bench._machine})
    show_rows(bench_gpu("cpu", tiny))
    said = capsys.readouterr().out
    assert "ok first: fine" in said
    assert "NO broken: RuntimeError: CUDA error: an illegal access" in said
    assert "machine: " in said
    assert said.endswith("Not as expected: broken.\n")


def test_steps_and_answers(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(("step", "SFT's shapes", "decode", "memory"), tiny, monkeypatch)
    assert [row.part for row in rows] == [
        "step of tiny",
        "decode, eager, batch 1",
        "decode, eager, batch 32",
    ]
    assert all("tokens/s" in row.seen for row in rows)


@pytest.mark.slow
def test_pocket_is_stopped_twice_and_ends_the_same(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "POCKET_STEPS", 24)
    monkeypatch.setattr(bench, "BASE_ONLY", bench.BASE_ONLY + SHORT)
    rows = {row.part: row for row in rows_of(("pocket",), tiny, monkeypatch)}
    assert rows["resume"] == Row(
        "resume", "the same bits after 2 stops", "the same bits after 2 stops", True
    )
    assert rows["compiled against eager"].right


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("NVIDIA GB10", "spark"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("AMD EPYC", None),
    ],
)
def test_a_chip_is_known_by_its_device_name(name: str, chip: str | None) -> None:
    assert bench._chip(name) == chip


def test_the_command(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PARTS", {"loss": bench._loss})
    assert main(["bench", "gpu", "--device", "cpu", "--recipe", tiny, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["part"], row["right"]) == ("loss", True)
