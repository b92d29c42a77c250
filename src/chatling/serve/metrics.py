"""Counts and times for Prometheus, in its text format (version 0.0.4)."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

SECONDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)  # bucket bounds
Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Times in buckets."""

    def __init__(self) -> None:
        self.counts, self.sum = [0] * (len(SECONDS) + 1), 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    def lines(self, name: str) -> Iterable[str]:
        total = 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum}"
        yield f"{name}_count {total}"


class Metrics:
    """What the server has done since its start. Labels hold only values that the server itself
    chose: their number is bounded.
    """

    def __init__(self) -> None:
        self.started = time.time()
        self.requests: Counter[Labels] = Counter()
        self.duration, self.first_token = Histogram(), Histogram()

    def request(self, path: str, status: int, seconds: float) -> None:
        self.requests[("path", path), ("status", str(status))] += 1
        self.duration.add(seconds)

    def render(self, models: Mapping[str, Mapping[str, int]]) -> str:
        """`models` are the engines' own figures by model id (`EngineService.stats`)."""
        lines = [
            "# TYPE chatling_start_time_seconds gauge",
            f"chatling_start_time_seconds {self.started}",
            "# TYPE chatling_requests_total counter",
            *(
                f"chatling_requests_total{_written(labels)} {count}"
                for labels, count in sorted(self.requests.items())
            ),
            "# TYPE chatling_request_seconds histogram",
            *self.duration.lines("chatling_request_seconds"),
            "# TYPE chatling_first_token_seconds histogram",
            *self.first_token.lines("chatling_first_token_seconds"),
        ]
        for name, kind in sorted(
            {(name, _kind(name)) for figures in models.values() for name in figures}
        ):
            full = f"chatling_engine_{name}" + "_total" * (kind == "counter")
            lines.append(f"# TYPE {full} {kind}")
            rows = (
                (model, figures[name])
                for model, figures in sorted(models.items())
                if name in figures
            )
            lines += [f"{full}{_written((('model', model),))} {figure}" for model, figure in rows]
        return "\n".join(lines) + "\n"


def _kind(name: str) -> str:
    return "gauge" if name in ("running", "waiting", "rows", "queue_limit") else "counter"


def _written(labels: Labels) -> str:
    escaped = (
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in labels
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
