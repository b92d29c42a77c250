"""Sums and letter counts have their values, also where the reference refuses or errs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from chatling.tools.calculator import calculate

from .reference import expected

ROWS = expected("calculator/expressions.json")["expressions"]


@pytest.mark.parametrize("row", ROWS, ids=[row["expression"][:40] for row in ROWS])
def test_expression(row: dict[str, Any]) -> None:
    found = calculate(row["expression"])
    assert found == row["value"]
    if found is not None and row["fraction"] is not None:
        assert float(Fraction(found)) == pytest.approx(float(Fraction(row["fraction"])), rel=1e-11)
    if row["reference_right"] and found is not None:
        assert float(found) == pytest.approx(float(row["reference_gives"]), rel=1e-11)
