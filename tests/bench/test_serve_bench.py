"""The serving benchmark's arithmetic; the benchmark itself is run by tests/serve/test_soak.py,
which takes minutes.
"""

from chatling.bench.serve import quantile


def test_quantiles() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [quantile(values, share) for share in (0.0, 0.2, 0.5, 0.95, 1.0)] == [
        1.0,
        1.0,
        3.0,
        5.0,
        5.0,
    ]
    assert quantile(list(range(1, 101)), 0.95) == 95
