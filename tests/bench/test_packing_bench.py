"""The packing measurement runs and gives rows that a table can show."""

import numpy as np

from chatling.bench.packing import measure_packing


def test_packing_is_measured_over_the_lengths_of_a_corpus():
    rows = measure_packing(
        np.random.default_rng(0).integers(1, 300, 2000), row_tokens=256, repeats=1
    )
    assert [row["unit"] for row in rows] == ["M tokens/s"] * 3 + ["%"]
    assert all(row["value"] > 0.5 for row in rows[:3])
    assert 0 <= rows[3]["value"] < 100
