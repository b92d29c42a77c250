"""A change of structure leaves every bit of a run as it was. On another processor or torch, losses
stay close.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .golden import GOLDEN, RUNS, digest, machine

LONGER = ("modern", "two-processes")


@pytest.mark.parametrize(
    "name", ["classic", *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER)]
)
def test_runs_end_with_the_bits_on_record(trained: Callable[..., Path], name: str) -> None:
    processes, overrides = RUNS[name]
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found, recorded = digest(trained(*overrides, processes=processes)), golden["runs"][name]
    assert found["loss"] == pytest.approx(recorded["loss"], abs=0.05)
    if machine() == golden["machine"]:
        assert found == recorded
