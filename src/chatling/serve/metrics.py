"""Counts and times for Prometheus."""

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chatling.inference.async_engine import COUNTERS
from chatling.serve.model_manager import ModelManager

# bounds of the buckets, in seconds
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics(Collector):
    """What the server has done since its start. Labels hold only values that the server itself
    chose: their number is bounded.
    """

    def __init__(self, models: ModelManager):
        disable_created_metrics()  # a second series a label, which nobody reads
        self.models, self.registry = models, CollectorRegistry()
        start = Gauge(
            "chatling_start_time_seconds", "When the server started", registry=self.registry
        )
        start.set_to_current_time()
        self.requests = Counter(
            "chatling_requests", "Requests answered", ["path", "status"], registry=self.registry
        )
        self.duration, self.first_token = (
            Histogram(name, about, buckets=SECONDS, registry=self.registry)
            for name, about in (
                ("chatling_request_seconds", "From a request's head to its answer's end"),
                ("chatling_first_token_seconds", "From a request to its answer's first text"),
            )
        )
        self.registry.register(self)

    def request(self, path: str, status: int, seconds: float) -> None:
        self.requests.labels(path, str(status)).inc()
        self.duration.observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """The engines' own figures (`AsyncEngine.stats`), by model."""
        stats = {name: model.service.stats() for name, model in self.models.loaded.items()}
        for figure in sorted({figure for figures in stats.values() for figure in figures}):
            kind = CounterMetricFamily if figure in COUNTERS else GaugeMetricFamily
            family = kind(f"chatling_engine_{figure}", f"{figure} of a model", labels=["model"])
            for name, figures in stats.items():
                family.add_metric([name], figures[figure])
            yield family

    def render(self) -> bytes:
        """In the text format, version 0.0.4."""
        return generate_latest(self.registry)
