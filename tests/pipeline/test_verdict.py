"""The last sentence of a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chatling.config.recipe import load_recipe
from chatling.hardware.detect import Machine
from chatling.pipeline.plan import plan, rows_of_a_rank
from chatling.pipeline.verdict import LONGEST, Room

LAPTOP = Machine("cpu", "test", 8, 16 * 10**9, False, True, 0.5, 1.0)
H100 = replace(LAPTOP, device="cuda", memory=80 * 10**9, bf16_tflops=600.0)
TB = 10**12


def test_what_fits_is_said_with_time_memory_and_disk() -> None:
    said = Room(LAPTOP, 2 * 10**9).verdict(plan(load_recipe("pocket")))
    assert said.startswith("Fits: ")
    assert "of 16.0 GB of memory" in said
    assert said.endswith("of 2.0 GB of disk.")


def test_what_takes_years_is_not_for_this_machine() -> None:
    outline = plan(load_recipe("spark"))
    days = sum(outline.work.values()) / (1e12 * LAPTOP.training_tflops) / 86_400
    said = Room(replace(LAPTOP, memory=TB), TB).verdict(outline)
    took = int(said.removeprefix("Not for this machine: it would take ").split()[0])
    assert days < took < 1.05 * days  # with evaluations
    assert said.endswith("; try laptop.")


def test_what_has_no_memory_or_disk_says_so() -> None:
    outline = plan(load_recipe("spark"))
    said = Room(replace(LAPTOP, memory=10**9), TB).verdict(outline)
    assert said.startswith("Does not fit, because training this model needs about ")
    assert said.endswith("a run may take 850 MB of the memory here; try laptop.")
    rows = rows_of_a_rank(load_recipe("spark"), outline.model, H100)
    assert "Fits: " in Room(H100, TB).verdict(plan(load_recipe("spark"), micro_rows=rows))
    disk, text = sum(outline.disk.values()), int(outline.text.download)  # type: ignore[union-attr]
    said = Room(H100, disk + text - 10**9).verdict(outline)
    assert said.startswith("Does not fit, because it writes ")
    assert said.endswith("of disk are free; try speedrun.") or said.endswith("; try laptop.")
    assert Room(H100, disk + 10**9, fetched=text).verdict(outline).startswith("Fits: ")


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (LAPTOP, "laptop"),
        (replace(LAPTOP, bf16_tflops=0.001, fp32_tflops=0.001), "pocket"),
        (H100, "d32"),
        (replace(H100, bf16_tflops=100.0), "spark"),
    ],
)
def test_the_largest_ready_recipe_that_ends_in_time_is_named(machine: Machine, name: str) -> None:
    found = Room(machine, TB).largest()
    work = sum(plan(load_recipe(found)).work.values())
    assert work / (machine.training_tflops * 1e12) <= LONGEST or found == "pocket"
    assert found == name
