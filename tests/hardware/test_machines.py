"""Machines by name: published runs are the expected values, and the vendors' figures the data."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from chatling.errors import MachineError
from chatling.hardware.machines import (
    chips,
    errors_left_out,
    has_runs,
    named_machine,
    published_runs,
    share,
    uncertainty,
)


def test_every_figure_has_a_source_with_its_year() -> None:
    for fact in (*chips().values(), *published_runs()):
        assert "20" in fact.source or "lzwjava" in fact.source
    for chip in chips().values():
        assert min(chip.peak, chip.memory, chip.bandwidth) > 0


@pytest.mark.parametrize("run", published_runs(), ids=lambda run: f"{run.model} {run.chip}")
def test_published_runs_are_told_within_15_percent(run) -> None:  # type: ignore[no-untyped-def]
    found = share(run.chip, windows=run.windows, fp8=run.fp8)
    assert found == pytest.approx(run.share, rel=0.15)


def test_a_run_left_out_is_told_by_the_others() -> None:
    errors = errors_left_out()
    assert len(errors) == len(published_runs()) == 14
    several = [
        error
        for run, error in zip(published_runs(), errors, strict=True)
        if run.chip in ("spark", "h100")
    ]
    assert max(map(abs, several)) < 0.15
    # without its runs, a chip's own share cannot be known
    alone = [abs(e) for r, e in zip(published_runs(), errors, strict=True) if r.chip == "rtx4090"]
    assert alone[0] > 0.2
    assert uncertainty("h100") < uncertainty("rtx4090") == uncertainty("mi300x")
    assert uncertainty("h200") == uncertainty("h100")


def test_the_fit_finds_effects_that_were_put_in() -> None:
    """Made-up runs whose shares are products of effects give these back."""
    runs = []
    for run in published_runs():
        own = {"h100": 0.5, "a100": 0.6, "spark": 0.4}.get(run.chip, 0.5)
        wanted = own * 1.2**run.windows * 1.1**run.fp8
        speed = run.tokens_per_second * wanted / run.share
        runs.append(replace(run, tokens_per_second=speed))
    assert share("spark", windows=True, fp8=True, runs=runs) == pytest.approx(
        0.4 * 1.2 * 1.1, rel=0.03
    )
    assert share("a100", windows=False, fp8=False, runs=runs) == pytest.approx(0.6, rel=0.03)
    assert 0.4 < share("mi300x", windows=False, fp8=False, runs=runs) < 0.6


def test_names_of_machines() -> None:
    pair, eight = named_machine("spark-pair"), named_machine("8xH100")
    assert (pair.nodes, pair.ranks, eight.gpus, eight.nodes) == (2, 2, 8, 1)
    assert (named_machine("8xh100", 4).ranks, named_machine("spark", 3).ranks) == (32, 3)
    assert named_machine("8xh100", 2).title == "2 nodes of 8 x H100 SXM"
    for chip in chips():
        machine = named_machine(chip).machine()
        assert machine.bf16_is_fast
        assert machine.tflops == chips()[chip].peak
    assert named_machine("spark").machine().memory == 96 * 10**9  # a quarter stays free
    assert (has_runs("h200"), has_runs("mi300x")) == (True, False)


@pytest.mark.parametrize("name", ["", "h1000", "0xh100", "x", "8x", "-pair", "9999xh100", "../a"])
def test_a_name_that_is_none_is_a_sentence(name: str) -> None:
    with pytest.raises(MachineError, match="No machine"):
        named_machine(name)


def test_shares_are_shares() -> None:
    for chip in chips():
        for windows in (False, True):
            assert 0.2 < share(chip, windows=windows, fp8=False) < 1
            assert math.isfinite(uncertainty(chip))


def test_the_page_shows_every_run_with_its_errors() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/machines.md").read_text(encoding="utf-8")
    for run, error in zip(published_runs(), errors_left_out(), strict=True):
        found = share(run.chip, windows=run.windows, fp8=run.fp8)
        on = f"{run.gpus} x {run.chip}" + ", FP8" * run.fp8
        errors = f"{found / run.share - 1:+.1%} | {error:+.1%}"
        assert f"| {run.model} | {on} | {run.share:.1%} | {errors} | {run.source} |" in page
